# Copyright (c) 2026 Cyborg Reconciler contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
"""Which net device has which address, where do routes lead, and over which does this connection come?

`protection` and `holders` call this. Does I/O: /proc/net of a tree, netlink on a live system, and the environment of
the processes above this one.
"""

import os
import socket

from ansible_collections.openstack.cyborg.plugins.module_utils import netlink
from ansible_collections.openstack.cyborg.plugins.module_utils.tree import Unreadable

#: Source: Linux, include/uapi/linux/route.h and include/uapi/linux/ipv6_route.h.
RTF_UP, RTF_REJECT = 0x1, 0x200
IPV4_BYTES = 4
LINK_LOCAL = b"\xfe\x80"


class Route:
    """One route: a network of *family* with a *prefix* of bits, over the net device *name*."""

    def __init__(self, network, prefix, name):
        self.network, self.prefix, self.name = network, prefix, name

    def covers(self, packed):
        """Say whether the address *packed* (4 or 16 bytes) is in the network."""
        bits = 8 * len(packed)
        if len(self.network) != len(packed):
            return False
        shift = bits - self.prefix
        return int.from_bytes(packed, "big") >> shift == int.from_bytes(self.network, "big") >> shift


def pack_address(text):
    """Return an IP address as 4 or 16 bytes, and the net device of its scope (``fe80::1%eth0``) or None.

    Raises: ValueError.
    """
    text, _percent, scope = text.partition("%")
    try:
        packed = socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)
    except OSError:
        raise ValueError(f"{text} is no IP address") from None
    if packed.startswith(b"\0" * 10 + b"\xff\xff"):
        packed = packed[12:]  # IPv4, as a listener for both families sees it
    return packed, scope or None


def parse_routes(text):
    """Return the routes of /proc/net/route. Raises: ValueError. Source: proc(5)."""
    routes = []
    for line in text.splitlines()[1:]:
        words = line.split()
        flags, mask = int(words[3], 16), int(words[7], 16)
        if flags & RTF_UP and not flags & RTF_REJECT:
            routes.append(Route(int(words[1], 16).to_bytes(4, "little"), bin(mask).count("1"), words[0]))
    return routes


def parse_routes_v6(text):
    """Return the routes of /proc/net/ipv6_route. Raises: ValueError. Source: Linux, net/ipv6/route.c."""
    routes = []
    for line in text.splitlines():
        words = line.split()
        flags = int(words[8], 16)
        if flags & RTF_UP and not flags & RTF_REJECT and words[9] != "lo":
            routes.append(Route(bytes.fromhex(words[0]), int(words[1], 16), words[9]))
    return routes


def read_routes(tree):
    """Return all routes, each way of those with several; of a tree those of the main table. Raises: Unreadable."""
    if tree.is_live:
        return [Route(*route) for route in netlink.read_routes()]
    ipv4 = tree.read_text("/proc/net/route")
    if ipv4 is None:
        raise Unreadable("/proc/net/route: no such file, so nothing is known of the routes")
    try:
        return parse_routes(ipv4) + parse_routes_v6(tree.read_text("/proc/net/ipv6_route") or "")
    except (ValueError, IndexError, OverflowError) as exc:
        raise Unreadable(f"/proc/net/route: {exc}") from exc


def read_addresses(tree):
    """Return ``{net device: [ip]}``, loopback and link-local addresses left out. Raises: Unreadable.

    On a tree, where nobody can be asked: IPv6 of /proc/net/if_inet6, and for IPv4 the networks that a device routes to.
    """
    if tree.is_live:
        found = netlink.read_addresses()
    else:
        ipv4 = (route for route in read_routes(tree) if len(route.network) == IPV4_BYTES)
        found = [(route.name, route.network) for route in ipv4 if any(route.network)]
        for line in (tree.read_text("/proc/net/if_inet6") or "").splitlines():
            words = line.split()
            found.append((words[5], bytes.fromhex(words[0])))
    addresses = {}
    for name, packed in found:
        if packed[:2] != LINK_LOCAL and name != "lo":
            text = socket.inet_ntop(socket.AF_INET if len(packed) == IPV4_BYTES else socket.AF_INET6, packed)
            addresses.setdefault(name, []).append(text)
    return addresses


# -------------------------------------------------------------------------------------------------- this connection
def read_ssh_connection(tree):
    """Return the peer's and our own address of the SSH session that this process runs in, None where there is none.

    sudo drops SSH_CONNECTION from its environment; the user's shell above it still has it. Raises: Unreadable, when a
    process above may have it and does not let us look.
    """
    found = os.environ.get("SSH_CONNECTION")
    if found:
        return _ends(found)
    pid, hidden = os.getppid(), None
    while pid > 1:
        status = _read_process(tree, pid, "status")
        try:
            environment = _read_process(tree, pid, "environ")
        except Unreadable as exc:
            environment, hidden = "", exc
        for entry in environment.split("\0"):
            if entry.startswith("SSH_CONNECTION="):
                return _ends(entry[15:])
        parents = [line.split()[1] for line in status.splitlines() if line.startswith("PPid:")]
        pid = int(parents[0]) if parents else 0
    if hidden:
        raise hidden
    return None


def _read_process(tree, pid, what):
    data = tree.read_bytes(f"/proc/{pid}/{what}")
    return (data or b"").decode("utf-8", "backslashreplace")


def _ends(connection):
    words = connection.split()
    return (words[0], words[2]) if len(words) == 4 else None  # noqa: PLR2004 -- ssh(1): two addresses, two ports


def ways_to(routes, packed):
    """Return the net devices of the longest routes to the address *packed*; several where a route has several ways."""
    leading = [route for route in routes if route.covers(packed)]
    longest = max((route.prefix for route in leading), default=0)
    return sorted({route.name for route in leading if route.prefix == longest})
