# Copyright (c) 2026 Cyborg Reconciler contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
"""Which addresses and routes does the running kernel have, in all its tables and with all their ways?

`network` asks on a live system: /proc/net/route shows the main table alone, and of a route with several ways the first.
Does I/O. Source: Linux, include/uapi/linux/rtnetlink.h, netlink.h and if_addr.h; rtnetlink(7).
"""

import socket
import struct

from ansible_collections.openstack.cyborg.plugins.module_utils.tree import Unreadable

TIMEOUT_S = 5
RTM_GETADDR, RTM_GETROUTE = 22, 26
REQUEST_DUMP, ERROR, DONE = 0x301, 2, 3
HEADER = struct.Struct("=IHHII")
#: The heads of what an answer holds: struct ifaddrmsg, struct rtmsg, struct rtnexthop, struct rtattr.
ADDRESS_MESSAGE, ROUTE_MESSAGE = struct.Struct("=BBBBI"), struct.Struct("=BBBBBBBBI")
WAY, ATTRIBUTE = struct.Struct("=HBBi"), struct.Struct("=HH")
IFA_ADDRESS, IFA_LOCAL = 1, 2
RTA_DST, RTA_OIF, RTA_MULTIPATH, RTA_NH_ID = 1, 4, 9, 30
UNICAST, CLONED = 1, 0x200
ADDRESS_BYTES = {socket.AF_INET: 4, socket.AF_INET6: 16}


def read_addresses():
    """Return ``[(net device, address in bytes)]``. Raises: Unreadable."""
    names, found = dict(socket.if_nameindex()), []
    for data in _ask(RTM_GETADDR, ADDRESS_MESSAGE.size):
        _family, _prefix, _flags, _scope, index = ADDRESS_MESSAGE.unpack_from(data)
        attributes = _attributes(data[ADDRESS_MESSAGE.size :])
        packed = attributes.get(IFA_LOCAL, attributes.get(IFA_ADDRESS))
        if packed and index in names:
            found.append((names[index], packed))
    return found


def read_routes():
    """Return ``[(network in bytes, prefix in bits, net device)]``, one for each way. Raises: Unreadable."""
    names, found = dict(socket.if_nameindex()), []
    for data in _ask(RTM_GETROUTE, ROUTE_MESSAGE.size):
        family, prefix, _source, _tos, _table, _protocol, _scope, kind, flags = ROUTE_MESSAGE.unpack_from(data)
        if kind != UNICAST or flags & CLONED or family not in ADDRESS_BYTES:
            continue
        attributes = _attributes(data[ROUTE_MESSAGE.size :])
        network = attributes.get(RTA_DST, bytes(ADDRESS_BYTES[family]))
        indexes = _ways(attributes)
        if not indexes:
            raise Unreadable("netlink: the kernel does not say over which net devices its routes lead")
        found.extend((network, prefix, names[index]) for index in indexes if names.get(index, "lo") != "lo")
    return found


def _ways(attributes):
    """Return the indexes of the net devices of a route."""
    if RTA_OIF in attributes:
        return [struct.unpack("=i", attributes[RTA_OIF])[0]]
    data, found = attributes.get(RTA_MULTIPATH, b""), []
    while len(data) >= WAY.size:
        size, _flags, _hops, index = WAY.unpack_from(data)
        if size < WAY.size:
            break
        found.append(index)
        data = data[(size + 3) & ~3 :]
    return found


def _ask(kind, head_bytes):
    """Yield what the kernel answers to a request for all there is of a *kind*. Raises: Unreadable."""
    request = HEADER.pack(HEADER.size + head_bytes, kind, REQUEST_DUMP, 1, 0) + bytes(head_bytes)
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0) as kernel:
            kernel.settimeout(TIMEOUT_S)
            kernel.send(request)
            while True:
                data = kernel.recv(65536)
                while data:
                    size, answer, _flags, _sequence, _port = HEADER.unpack_from(data)
                    if answer == DONE:
                        return
                    if answer == ERROR or size < HEADER.size:
                        raise Unreadable("netlink: the kernel did not answer the request %d" % kind)
                    yield data[HEADER.size : size]
                    data = data[(size + 3) & ~3 :]
    except (OSError, struct.error) as exc:
        raise Unreadable("netlink: %s" % exc) from exc


def _attributes(data):
    found = {}
    while len(data) >= ATTRIBUTE.size:
        size, kind = ATTRIBUTE.unpack_from(data)
        if size < ATTRIBUTE.size:
            break
        found[kind & 0x3FFF] = data[ATTRIBUTE.size : size]  # without the flags for nesting and byte order
        data = data[(size + 3) & ~3 :]
    return found
