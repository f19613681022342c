# SPDX-License-Identifier: Apache-2.0
"""How does the kernel come to tell of a change to a device that this machine does not have? It is asked to.

Used by stories and the bench, as root of a network namespace.
"""

import socket
import struct
from typing import Final

#: Source: Linux, include/uapi/linux/netlink.h.
NETLINK_KOBJECT_UEVENT: Final = 15
NLM_F_REQUEST: Final = 1
NLMSG_MIN_TYPE: Final = 16
HEADER: Final = struct.Struct("=IHHII")


def send_uevent(action: str, path: str, subsystem: str = "pci") -> None:
    """Have the kernel send a uevent of the device at *path* (``/devices/...``) to all who listen in this namespace.

    It takes the message from root, puts a number of its own on it, and sends it on as its own.
    Source: Linux, lib/kobject_uevent.c, uevent_net_rcv_skb.
    """
    address = path.rpartition("/")[2]
    fields = (f"{action}@{path}", f"ACTION={action}", f"DEVPATH={path}", f"SUBSYSTEM={subsystem}")
    text = b"".join(field.encode() + b"\0" for field in (*fields, f"PCI_SLOT_NAME={address}"))
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_KOBJECT_UEVENT) as kernel:
        kernel.sendto(HEADER.pack(HEADER.size + len(text), NLMSG_MIN_TYPE, NLM_F_REQUEST, 0, 0) + text, (0, 0))
