# SPDX-License-Identifier: Apache-2.0
"""What does the kernel show of network ports and routes? Called by `interfaces` when a driver binds, and at boot.

Does I/O on the tree. Source: Linux, Documentation/ABI/testing/sysfs-class-net; net/ipv4/fib_trie.c for /proc/net.
"""

import ipaddress
import struct
from typing import Final

from cyborg_reconciler.simulation.machine import Machine, Port
from cyborg_reconciler.simulation.tree import READ_WRITE, Tree

CLASS: Final = "/sys/class/net"
LOOPBACK_INDEX: Final = 1
ETHERNET, LOOPBACK = 1, 772
ROUTE_UP, ROUTE_GATEWAY = 1, 2
ROUTE_HEAD: Final = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT"
#: Up, broadcast, multicast. Source: Linux, include/uapi/linux/if.h.
FLAGS_UP, FLAGS_DOWN = "0x1003", "0x1002"


def add_loopback(tree: Tree) -> None:
    """Write the loopback device, which needs no hardware."""
    folder = "/sys/devices/virtual/net/lo"
    values = {"address": "00:00:00:00:00:00", "ifindex": str(LOOPBACK_INDEX), "type": str(LOOPBACK)}
    tree.attributes(folder, values | {"operstate": "unknown", "uevent": "INTERFACE=lo\nIFINDEX=1"})
    tree.link(f"{folder}/subsystem", CLASS)
    tree.link(f"{CLASS}/lo", folder)
    tree.keep("ifindex", LOOPBACK_INDEX)


def add_port(tree: Tree, port: Port, parent: str) -> None:
    """Write the net device of *port* below the device folder *parent*."""
    index = (tree.state("ifindex") or LOOPBACK_INDEX) + 1
    tree.keep("ifindex", index)
    folder = f"{parent}/net/{port.name}"
    used = port.address is not None
    values = {
        "address": port.mac,
        "ifindex": str(index),
        "type": str(ETHERNET),
        "operstate": "up" if used else "down",
        "speed": "25000" if used else "-1",
        "dev_id": "0x0",
        "dev_port": "0",
        "uevent": f"INTERFACE={port.name}\nIFINDEX={index}",
    }
    tree.attributes(folder, values)
    tree.attributes(folder, {"flags": FLAGS_UP if used else FLAGS_DOWN, "mtu": "1500"}, READ_WRITE)
    tree.link(f"{folder}/device", parent)
    tree.link(f"{folder}/subsystem", CLASS)
    tree.link(f"{CLASS}/{port.name}", folder)


def remove_ports(tree: Tree, parent: str) -> None:
    """Take away the net devices below *parent*."""
    for name in tree.names(f"{parent}/net"):
        tree.remove(f"{CLASS}/{name}")
    tree.remove(f"{parent}/net")


def refresh(tree: Tree, machine: Machine) -> None:
    """Write the addresses and routes of the ports that are there: a route goes with its port."""
    present = set(tree.names(CLASS))
    ports = [port for each in machine.functions for port in each.ports if port.name in present and port.address]
    routes = [line for port in ports for line in route_lines(port)]
    tree.replace("/proc/1/net/route", "\n".join([ROUTE_HEAD, *routes]) + "\n")
    tree.replace("/proc/1/net/ipv6_route", "")
    tree.replace("/proc/1/net/if_inet6", "".join(f"{line}\n" for line in inet6_lines(tree, ports)))
    tree.replace("/proc/1/net/fib_trie", fib_trie(ports))
    tree.replace(
        "/proc/1/net/dev", "".join(f"{name:>6}: 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n" for name in sorted(present))
    )


def route_lines(port: Port) -> list[str]:
    """Return the lines of /proc/net/route for *port*: the default route, and that of its own network."""
    network = ipaddress.IPv4Interface(port.address or "0.0.0.0/0").network
    lines = []
    if port.gateway:
        lines.append(_route(port.name, ipaddress.IPv4Network("0.0.0.0/0"), port.gateway))
    return [*lines, _route(port.name, network, None)]


def _route(name: str, network: ipaddress.IPv4Network, gateway: str | None) -> str:
    flags = ROUTE_UP | (ROUTE_GATEWAY if gateway else 0)
    numbers = (network.network_address, ipaddress.IPv4Address(gateway or 0), network.netmask)
    target, via, mask = (f"{struct.unpack('=I', address.packed)[0]:08X}" for address in numbers)
    return f"{name}\t{target}\t{via}\t{flags:04X}\t0\t0\t0\t{mask}\t0\t0\t0"


def inet6_lines(tree: Tree, ports: list[Port]) -> list[str]:
    """Return the lines of /proc/net/if_inet6: a link-local address for each port."""
    lines = []
    for port in ports:
        index = int(tree.text(f"{CLASS}/{port.name}/ifindex", "0"))
        octets = bytes.fromhex(port.mac.replace(":", ""))
        identifier = bytes([octets[0] ^ 2, *octets[1:3], 0xFF, 0xFE, *octets[3:]]).hex()
        lines.append(f"fe80000000000000{identifier} {index:02x} 40 20 80 {port.name:>8}")
    return lines


def fib_trie(ports: list[Port]) -> str:
    """Return /proc/net/fib_trie with the host's own addresses as local leaves."""
    lines = ["Local:", "  +-- 0.0.0.0/0 2 0 2"]
    addresses = [str(ipaddress.IPv4Interface(port.address).ip) for port in ports if port.address]
    for address in ["127.0.0.1", *addresses]:
        lines += [f"     |-- {address}", "        /32 host LOCAL"]
    return "\n".join(lines) + "\n"
