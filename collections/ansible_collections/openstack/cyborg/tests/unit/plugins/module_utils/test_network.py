# Copyright (c) 2026 Cyborg Reconciler contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

import os
import shutil
import subprocess
import sys

import pytest

from ansible_collections.openstack.cyborg.plugins.module_utils import netlink, network
from ansible_collections.openstack.cyborg.plugins.module_utils.tree import Tree, Unreadable
from ansible_collections.openstack.cyborg.tests.unit.host_tree import HostTree

ASK = """
from ansible_collections.openstack.cyborg.plugins.module_utils.network import read_ssh_connection
from ansible_collections.openstack.cyborg.plugins.module_utils.tree import Tree
print(read_ssh_connection(Tree("/")))
"""


def ask_below_a_shell(**shells_environment):
    """Ask in a process whose own environment has lost the variable, as sudo loses it; the shell above it has not."""
    environment = {name: value for name, value in os.environ.items() if name != "SSH_CONNECTION"}
    environment.update(shells_environment, PYTHONPATH=os.pathsep.join(sys.path))
    command = ["/bin/sh", "-c", 'env -u SSH_CONNECTION "$0" -c "$1"; exit $?', sys.executable, ASK]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.strip()


def test_the_connection_is_found_in_the_shell_above_sudo():
    found = ask_below_a_shell(SSH_CONNECTION="203.0.113.7 50000 192.0.2.1 22")
    assert found == "('203.0.113.7', '192.0.2.1')"


def test_a_variable_that_makes_no_sense_is_no_connection():
    assert ask_below_a_shell(SSH_CONNECTION="rubbish") == "None"


@pytest.mark.parametrize(
    ("text", "packed", "scope"),
    [
        ("10.0.2.2", b"\x0a\0\x02\x02", None),
        ("::ffff:10.0.2.2", b"\x0a\0\x02\x02", None),
        ("fe80::1%eth0", b"\xfe\x80" + bytes(13) + b"\1", "eth0"),
    ],
)
def test_addresses_are_packed_with_their_scope(text, packed, scope):
    assert network.pack_address(text) == (packed, scope)


def test_the_longest_route_wins():
    head = "head\n"
    lines = [
        "eth0 00000000 0102000A 0003 0 0 0 00000000 0 0 0",
        "eth1 0000000A 00000000 0001 0 0 0 000000FF 0 0 0",
        "eth2 0002000A 00000000 0001 0 0 0 00FFFFFF 0 0 0",
        "eth3 0002000A 00000000 0000 0 0 0 FFFFFFFF 0 0 0",  # not up
        "eth4 0002000A 00000000 0201 0 0 0 FFFFFFFF 0 0 0",  # rejects
    ]
    routes = network.parse_routes(head + "\n".join(lines))
    ways = [network.ways_to(routes, network.pack_address(to)[0]) for to in ("10.0.2.9", "10.1.1.1", "192.0.2.1")]
    assert ways == [["eth2"], ["eth1"], ["eth0"]]
    assert network.ways_to(routes, network.pack_address("fd00::1")[0]) == []


IN_A_NETWORK_OF_ITS_OWN = """
for name in d0 d1 d2 d3; do
    ip link add $name type veth peer name p$name
    ip link set $name up
    ip link set p$name up
done
ip address add 10.1.0.1/24 dev d0
ip address add 10.2.0.1/24 dev d1
ip address add 10.3.0.1/24 dev d2
ip -6 address add fd01::1/64 dev d3 nodad
ip route add default nexthop via 10.1.0.2 dev d0 nexthop via 10.2.0.2 dev d1
ip route add default via 10.3.0.2 dev d2 table 77
ip route add blackhole 10.9.0.0/16
ip -6 route add default via fd01::2 dev d3
exec "$@"
"""
WAYS = """
from ansible_collections.openstack.cyborg.plugins.module_utils.network import pack_address, read_routes, ways_to
from ansible_collections.openstack.cyborg.plugins.module_utils.tree import Tree
routes = read_routes(Tree("/"))
print(*sorted({route.name for route in routes if route.prefix == 0}))
print(*ways_to(routes, pack_address("192.0.2.9")[0]), *ways_to(routes, pack_address("10.2.0.9")[0]))
"""


def may_have_a_network_of_its_own():
    tools = [shutil.which("unshare"), "-rn", shutil.which("ip"), "link"]
    return all(tools) and subprocess.run(tools, capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not may_have_a_network_of_its_own(), reason="needs ip (iproute2) and leave to unshare a network")
def test_every_way_of_every_default_route_is_seen():
    shell = ["unshare", "-rn", "sh", "-eu", "-c", IN_A_NETWORK_OF_ITS_OWN, "sh"]
    asked = [*shell, sys.executable, "-c", WAYS]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(asked, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["d0 d1 d2 d3", "d0 d1 d2 d1"]


def test_the_kernel_of_the_live_system_lists_its_addresses():
    assert ("lo", b"\x7f\0\0\1") in netlink.read_addresses()
    assert "lo" not in network.read_addresses(Tree("/"))


def test_routes_that_are_not_there_are_unknown_and_not_none(tmp_path):
    host = HostTree(tmp_path)
    os.unlink(host.real("/proc/net/route"))
    with pytest.raises(Unreadable, match="nothing is known of the routes"):
        network.read_routes(host.tree)
