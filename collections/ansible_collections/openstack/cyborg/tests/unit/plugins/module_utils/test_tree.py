# Copyright (c) 2026 Cyborg Reconciler contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

import errno
import json
import os
import socket
import threading

import pytest

from ansible_collections.openstack.cyborg.plugins.module_utils.tree import (
    ToolMissing,
    Tree,
    Unreadable,
    clean,
    spelled,
)
from ansible_collections.openstack.cyborg.tests.unit.host_tree import HostTree, simulate


@pytest.fixture
def host(tmp_path):
    return HostTree(tmp_path / "host")


def test_a_file_that_is_not_there_is_absent(host):
    assert host.tree.read_text("/etc/nothing") is None
    assert host.tree.fact("/etc/nothing") is None
    assert host.tree.listdir("/etc/nothing") is None
    assert host.tree.link_name("/etc/nothing") is None


def test_what_cannot_be_read_is_unknown_and_never_absent(host):
    host.folder("/etc/folder")
    with pytest.raises(Unreadable, match="/etc/folder: Is a directory"):
        host.tree.read_text("/etc/folder")
    assert host.tree.fact("/etc/folder") == {"unknown": "/etc/folder: Is a directory"}


def test_a_path_below_a_file_is_unknown(host):
    host.file("/etc/file", "text")
    assert "unknown" in host.tree.fact("/etc/file/below")


def test_a_value_that_does_not_parse_is_unknown(host):
    host.file("/sys/number", "many\n")
    assert "'many'" in host.tree.fact("/sys/number", int)["unknown"]


def test_each_attribute_of_a_folder_is_read_absent_or_unreadable_for_itself(host):
    host.file("/sys/devices/one/vendor", "0x8086\n")
    host.folder("/sys/devices/one/config")
    host.link("/sys/bus/pci/devices/one", "/sys/devices/one")
    with host.tree.open_folder("/sys/bus/pci/devices/one") as folder:
        found = folder.read_attributes(["vendor", "config", "rom"])
        assert folder.names == {"vendor", "config"}
    assert (found["vendor"], found["rom"]) == ("0x8086", None)
    assert found["config"].reason == "/sys/bus/pci/devices/one/config: Is a directory"


def test_a_folder_that_is_not_there_is_absent_and_a_file_in_its_place_unreadable(host):
    host.file("/sys/file", "text")
    assert host.tree.open_folder("/sys/nothing") is None
    with pytest.raises(Unreadable, match="/sys/file: Not a directory"):
        host.tree.open_folder("/sys/file")


@pytest.mark.parametrize("target", ["/etc/secret", "../../../../../../etc/secret"])
def test_links_do_not_lead_out_of_the_root(tmp_path, target):
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/secret").write_text("of the live system")
    host = HostTree(tmp_path / "host")
    host.folder("/etc")
    os.symlink(target, host.real("/etc/link"))
    assert host.tree.read_text("/etc/link") is None
    host.file("/etc/secret", "of the host")
    assert host.tree.read_text("/etc/link") == "of the host"


def test_a_folder_that_is_a_link_is_followed_inside_the_root(host):
    host.file("/usr/sbin/folder/file", "here")
    os.symlink("/usr/sbin", host.real("/sbin"))
    assert host.tree.read_text("/sbin/folder/file") == "here"
    assert host.tree.path("/sbin/folder/file") == host.real("/usr/sbin/folder/file")
    assert host.tree.resolve("/sbin/folder") == "/usr/sbin/folder"


def test_links_in_circles_are_unknown(host):
    host.folder("/etc")
    os.symlink("b", host.real("/etc/a"))
    os.symlink("a", host.real("/etc/b"))
    assert "Too many levels" in host.tree.fact("/etc/a")["unknown"]


def test_a_pipe_in_the_place_of_a_file_does_not_hang(host):
    host.folder("/etc")
    os.mkfifo(host.real("/etc/pipe"))
    assert host.tree.read_text("/etc/pipe") == ""


def test_a_text_that_is_too_long_is_unknown_and_not_cut(host):
    host.file("/etc/long", "x" * 100)
    with pytest.raises(Unreadable, match="longer than 99 bytes"):
        host.tree.read_text("/etc/long", limit=99)


def test_a_long_file_is_read_to_its_end(host):
    host.file("/sys/long", "x" * 300_000)
    assert len(host.tree.read_text("/sys/long")) == 300_000


def test_strings_of_devices_lose_their_control_characters():
    assert clean("a\x1b[31mb\nc\u202ed") == "a\\x1b[31mb\\nc\\u202ed"
    assert len(clean("x" * 5000)) == 1024


def test_names_and_texts_that_are_no_utf_8_stay_what_they_are_and_are_spelled_where_they_go_out(host):
    host.folder("/sys/folder")
    with open(os.fsencode(host.real("/sys/folder")) + b"/caf\xe9", "wb") as file:
        file.write(b"\xff\xc3\xa9\n")
    (name,) = host.tree.listdir("/sys/folder")
    text = host.tree.read_text(f"/sys/folder/{name}")
    assert os.fsencode(text) == b"\xff\xc3\xa9"
    assert (clean(name), clean(text)) == ("caf\\xe9", "\\xff\u00e9")
    facts = {name: [text, {"a": (1, None, True, "\U0001f480", "\ud800")}]}
    assert spelled({"a": "\U0001f480 \\udcff"}) == {"a": "\U0001f480 \\udcff"}
    assert spelled(dict(facts)) == {"caf\\xe9": ["\\xff\u00e9", {"a": [1, None, True, "\U0001f480", "\\ud800"]}]}


def test_bytes_that_are_no_text_become_escapes(host):
    host.file("/sys/serial", b"A\xff\x00")
    assert host.tree.fact("/sys/serial") == "A\\xff"


def test_a_root_that_does_not_exist_is_no_host(tmp_path):
    with pytest.raises(Unreadable, match="there is no such folder"):
        Tree(str(tmp_path / "nowhere"))


def test_an_attribute_of_a_tree_without_a_kernel_is_a_file(host):
    host.file("/sys/attribute", "previous value\n")
    host.tree.write_attribute("/sys/attribute", "4")
    assert host.tree.read_text("/sys/attribute") == "4"


def test_an_attribute_that_is_not_offered_is_not_made(host):
    with pytest.raises(FileNotFoundError):
        host.tree.write_attribute("/sys/attribute", "4")


def answer_once(path, answer, received):
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    server.bind(path)
    server.listen(1)

    def serve():
        connection, _address = server.accept()
        with server, connection, connection.makefile("rwb") as stream:
            received.append(json.loads(stream.readline()))
            stream.write(json.dumps(answer).encode() + b"\n")

    thread = threading.Thread(target=serve)
    thread.start()
    return thread


@pytest.mark.parametrize(("answer", "raised"), [({"errno": 0}, None), ({"errno": 16, "text": "busy"}, errno.EBUSY)])
def test_a_simulated_kernel_is_asked_and_its_error_raised(host, monkeypatch, answer, raised):
    host.folder("/run")
    monkeypatch.chdir(host.real("/run"))  # the path of a socket is short, that of a test's folder is not
    received = []
    thread = answer_once("kernel.sock", answer, received)
    try:
        if raised is None:
            host.tree.write_attribute("/sys/attribute", "4")
        else:
            with pytest.raises(OSError, match="busy") as caught:
                host.tree.write_attribute("/sys/attribute", "4")
            assert (caught.value.errno, caught.value.filename) == (raised, "/sys/attribute")
    finally:
        thread.join()
    assert received == [{"write": "/sys/attribute", "value": "4"}]


def test_tools_are_those_of_the_tree(host):
    simulate(host.root)
    host.file("/usr/sbin/modprobe", "#!/bin/sh\necho $CYBORG_ROOT $0 $1; echo oops >&2; exit 3\n")
    os.chmod(host.real("/usr/sbin/modprobe"), 0o700)
    status, output, errors = host.tree.run("modprobe", ["igb"])
    assert (status, output.split(), errors) == (3, [host.root, host.real("/usr/sbin/modprobe"), "igb"], "oops\n")


def test_no_tool_is_run_on_another_root_that_is_no_simulated_host(host):
    host.file("/usr/sbin/modprobe", "#!/bin/sh\ntouch $CYBORG_ROOT/was-run\n")
    os.chmod(host.real("/usr/sbin/modprobe"), 0o700)
    with pytest.raises(ToolMissing, match="modprobe is not run below"):
        host.tree.run("modprobe", ["igb"])
    assert not host.tree.exists("/was-run")


def test_a_tool_of_the_live_system_is_never_taken_for_one_of_the_tree(host):
    simulate(host.root)
    host.folder("/usr/bin")
    os.symlink("/bin/true", host.real("/usr/bin/true"))
    with pytest.raises(ToolMissing, match=r"true is not installed: looked in /usr/sbin, .* below"):
        host.tree.run("true", [])
