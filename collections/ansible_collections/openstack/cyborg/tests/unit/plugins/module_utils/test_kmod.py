# Copyright (c) 2026 Cyborg Reconciler contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

import os
import struct

import pytest

from ansible_collections.openstack.cyborg.plugins.module_utils import kernel_modules
from ansible_collections.openstack.cyborg.plugins.module_utils.facts import gather_devices, gather_drivers
from ansible_collections.openstack.cyborg.plugins.module_utils.host import Failure, Host
from ansible_collections.openstack.cyborg.plugins.module_utils.kmod import match_aliases, parse_loaded
from ansible_collections.openstack.cyborg.plugins.module_utils.modinfo import parse_modinfo, parse_signer
from ansible_collections.openstack.cyborg.plugins.module_utils.modules import is_loaded, read_on_disk
from ansible_collections.openstack.cyborg.plugins.module_utils.tree import Unreadable
from ansible_collections.openstack.cyborg.tests.unit.host_tree import NIC, RELEASE, HostTree, simulate

MODULES = f"/lib/modules/{RELEASE}"
IGB = "pci:v00008086d00001521sv00008086sd00005001bc02sc00i00"
ALIASES = b"""# Aliases extracted from modules themselves.
alias pci:v00008086d*sv*sd*bc02sc00i* generic_intel
alias pci:v00008086d00001521sv*sd*bc*sc*i* igb
alias pci:v00008086d00001522sv*sd*bc*sc*i* igb
alias pci:v*d*sv*sd*bc02sc*i* any-net
alias pci:v00008086d00001521sv00001028sd*bc*sc*i* dell_only
alias virtio:d00000014v* virtio_crypto
alias virtio:d00000014v0000[1-2]AF4 virtio_ranges
"""


def elf(fields, signature=b""):
    """Return a small module file: an ELF-64 header, `.modinfo`, and the names of its sections."""
    info = b"".join(f"{name}={value}".encode() + b"\0" for name, value in fields)
    names = b"\0.modinfo\0.shstrtab\0"
    head = b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HHIQQQIHHHHHH", 1, 62, 1, 0, 0, 0, 0, 64, 0, 0, 64, 3, 2)
    table = 64 + len(info) + len(names)
    head = head[:0x28] + struct.pack("<Q", table) + head[0x30:]
    sections = bytes(64)
    for name, offset, size in ((1, 64, len(info)), (10, 64 + len(info), len(names))):
        sections += struct.pack("<IIQQQQIIQQ", name, 1, 0, 0, offset, size, 0, 0, 1, 0)
    return head + info + names + sections + signature


def pkcs7(common_name, *, known=True):
    name = b"\x30\x20\x31\x1e" + (b"\x06\x03\x55\x04\x03" if known else b"\x06\x03\x55\x04\x0a")
    name += b"\x0c" + bytes([len(common_name)]) + common_name
    return name + struct.pack(">BBBBB3xI", 0, 0, 2, 0, 0, len(name)) + b"~Module signature appended~\n"


@pytest.fixture
def host(tmp_path):
    host = HostTree(tmp_path)
    host.function("0000:3b:00.0", NIC, driver="igb")
    host.link("/sys/bus/pci/drivers/igb/module", host.folder("/sys/module/igb"))
    host.file("/proc/modules", "igb 253952 0 - Live 0x0\ndca 16384 2 igb,ioatdma, Live 0x0\n")
    host.file("/sys/module/igb/srcversion", "AAAA\n")
    host.file(f"{MODULES}/modules.alias", ALIASES)
    host.file(f"{MODULES}/modules.dep", "kernel/drivers/igb.ko: kernel/dca.ko\nkernel/dca.ko:\n")
    fields = [("license", "GPL"), ("version", "5.6"), ("srcversion", "BBBB"), ("version", "ignored")]
    host.file(f"{MODULES}/kernel/drivers/igb.ko", elf(fields, pkcs7(b"Debian Secure Boot CA")))
    host.file(f"{MODULES}/kernel/dca.ko", elf([("license", "GPL")]))
    return host


def module(host, name, *modules):
    found = {entry["name"]: entry for entry in gather_drivers(host.tree, modules=modules)["modules"]}
    return found.get(name)


def use(host, refcount, node, pid=None, *, name="sleep"):
    """Have the module igb used *refcount* times, and, with a *pid*, a process that has *node* open."""
    host.file("/proc/modules", f"igb 253952 {refcount} - Live 0x0\n")
    if pid:
        host.file(f"/proc/{pid}/comm", f"{name}\n")
        host.folder(f"/proc/{pid}/fd")
        os.symlink(node, host.real(f"/proc/{pid}/fd/0"))


def test_who_has_a_node_open_that_is_called_like_the_module_holds_it(host):
    use(host, 1, "/dev/igb", 4711)
    assert module(host, "igb")["holders"] == [{"kind": "process", "name": "sleep", "pid": 4711, "detail": "/dev/igb"}]


def test_who_has_a_node_open_that_a_device_of_the_driver_made_holds_the_module(host):
    # A node without a PCI function behind it: its number leads to a device whose driver the module holds.
    host.file("/dev/widget0")
    host.file("/sys/devices/platform/widget/class/widget0/dev", "0:0\n")
    host.link("/sys/devices/platform/widget/driver", host.folder("/sys/bus/platform/drivers/widget"))
    host.link("/sys/bus/platform/drivers/widget/module", "/sys/module/igb")
    host.link("/sys/dev/char/0:0", "/sys/devices/platform/widget/class/widget0")
    use(host, 1, "/dev/widget0", 4711)
    assert [held["pid"] for held in module(host, "igb")["holders"]] == [4711]


def test_who_has_something_else_open_holds_no_module(host):
    use(host, 1, "/dev/null", 4711)
    assert module(host, "igb")["holders"] == []


def test_nobody_is_looked_for_where_nothing_uses_the_module(host):
    use(host, 0, "/dev/igb", 4711)
    assert module(host, "igb")["holders"] == []


def test_the_alias_that_says_most_comes_first():
    assert match_aliases(ALIASES, IGB) == ["igb", "generic_intel", "any_net"]


def test_ranges_in_an_alias_are_understood():
    assert match_aliases(ALIASES, "virtio:d00000014v00001AF4") == ["virtio_ranges", "virtio_crypto"]
    assert match_aliases(ALIASES, "virtio:d00000014v00003AF4") == ["virtio_crypto"]


@pytest.mark.parametrize("modalias", ["", "pci:", "usb:v0", "pci:v00008086"])
def test_a_strange_modalias_matches_nothing(modalias):
    assert match_aliases(ALIASES, modalias) == []


def test_a_bound_module_is_told_as_loaded_and_as_on_disk(host):
    found = module(host, "igb")
    assert (found["loaded"], found["loaded_srcversion"], found["loaded_version"]) == (True, "AAAA", None)
    assert (found["disk_srcversion"], found["disk_version"]) == ("BBBB", "5.6")
    assert (found["path"], found["signer"]) == (f"{MODULES}/kernel/drivers/igb.ko", "Debian Secure Boot CA")
    assert found["devices"] == ["0000:3b:00.0"]


def test_other_modules_are_told_when_they_are_asked_for(host):
    assert module(host, "dca") is None
    found = module(host, "dca", "dca")
    assert (found["refcount"], [entry["name"] for entry in found["holders"]]) == (2, ["igb", "ioatdma"])
    assert found["signer"] is None


def test_modules_that_we_configured_are_told(host):
    host.file("/etc/modprobe.d/cyborg-nouveau.conf", "blacklist nouveau\n")
    host.file("/etc/modules-load.d/cyborg-vfio-pci.conf", "vfio-pci\n")
    assert module(host, "nouveau")["loaded"] is False
    assert module(host, "vfio_pci")["path"] is None


def test_a_module_that_is_nowhere_is_told_as_such(host):
    found = module(host, "nvidia", "nvidia")
    assert (found["loaded"], found["builtin"], found["path"], found["disk_version"]) == (False, False, None, None)


def test_a_module_in_the_kernel_itself_is_built_in(host):
    host.file(f"{MODULES}/modules.builtin", "kernel/drivers/nvme/host/nvme.ko\n")
    host.folder("/sys/module/loop")
    assert module(host, "nvme", "nvme")["builtin"]
    assert module(host, "loop", "loop")["builtin"]
    assert not module(host, "igb")["builtin"]


def test_who_uses_the_devices_holds_the_module(host):
    host.net("ens1", "/sys/devices/pci0000:00/0000:3b:00.0")
    host.route("ens1")
    host.route("ens1", "0002000A", "00FFFFFF")
    found = module(host, "igb")
    assert [(entry["kind"], entry["name"]) for entry in found["holders"]] == [("net", "ens1")]
    assert {entry["reason"] for entry in found["protected"]} == {"default_route"}


def test_parameters_are_told_and_unreadable_ones_are_unknown(host):
    host.file("/sys/module/igb/parameters/max_vfs", "0\n")
    host.folder("/sys/module/igb/parameters/strange")
    parameters = module(host, "igb")["parameters"]
    assert parameters["max_vfs"] == "0"
    assert "unknown" in parameters["strange"]


def test_a_module_file_that_is_none_is_unknown(host):
    host.file(f"{MODULES}/kernel/drivers/igb.ko", "not a module")
    found = module(host, "igb")
    assert "no ELF-64 file" in found["disk_version"]["unknown"]
    assert "unknown" in found["signer"]


@pytest.mark.parametrize("size", [5, 40, 64, 100, 200])
def test_a_module_file_cut_short_is_unknown_or_says_nothing(host, size):
    with open(host.real(f"{MODULES}/kernel/drivers/igb.ko"), "rb+") as file:
        file.truncate(size)
    assert module(host, "igb")["disk_srcversion"] != "BBBB"


def test_compressed_modules_are_modinfos_to_read(host):
    simulate(host.root)
    host.file(f"{MODULES}/modules.dep", "kernel/drivers/igb.ko.xz:\n")
    host.file(
        "/sbin/modinfo",
        "#!/bin/sh\nprintf 'filename: /x/%s.ko.xz\\nversion: 7\\nsig_id: PKCS#7\\nsigner: Us\\nparm: a: b\\n' $1\n",
    )
    os.chmod(host.real("/sbin/modinfo"), 0o700)
    found = module(host, "igb")
    assert (found["disk_version"], found["disk_srcversion"], found["signer"]) == ("7", None, "Us")


def test_without_modinfo_what_is_in_compressed_modules_is_unknown(host):
    simulate(host.root)
    host.file(f"{MODULES}/modules.dep", "kernel/drivers/igb.ko.zst:\n")
    assert "modinfo is not installed" in module(host, "igb")["disk_version"]["unknown"]


def test_modinfo_tells_several_modules_at_once():
    said = parse_modinfo(
        "filename: /lib/a-b.ko\nversion: 1\nsig_id: PKCS#7\nsigner:\n\nfilename: /lib/c.ko.xz\nversion: 2\n"
    )
    assert (said["a_b"]["disk_version"], said["c"]["disk_version"]) == ("1", "2")
    assert "unknown" in said["a_b"]["signer"]
    assert said["c"]["signer"] is None


def test_a_signature_without_a_name_is_not_taken_for_none():
    assert parse_signer(pkcs7(b"Somebody")) == "Somebody"
    assert "unknown" in parse_signer(pkcs7(b"Somebody", known=False))
    assert parse_signer(b"no signature at all") is None


def test_loaded_modules_without_unloading_have_no_refcount():
    assert parse_loaded("a 1 - - Live 0x0\nb 1 2 [permanent],c, Live 0x0 (OE)\n") == {"a": (None, []), "b": (2, ["c"])}


@pytest.mark.parametrize("text", ["rubbish\n", None])
def test_without_a_list_of_modules_that_makes_sense_it_is_unknown_what_is_loaded(host, text):
    if text:
        host.file("/proc/modules", text)
    else:
        os.unlink(host.real("/proc/modules"))
    found = module(host, "igb")
    for fact in ("loaded", "refcount", "holders", "builtin"):
        assert found[fact]["unknown"].startswith("/proc/modules: ")
    assert (found["disk_version"], found["devices"]) == ("5.6", ["0000:3b:00.0"])
    with pytest.raises(Unreadable, match="/proc/modules"):
        is_loaded(host.tree, "igb")


def test_without_modules_dep_it_is_unknown_what_lies_on_disk(host):
    os.unlink(host.real(f"{MODULES}/modules.dep"))
    found = module(host, "igb")
    for fact in ("path", "disk_version", "disk_srcversion", "signer"):
        assert found[fact] == {"unknown": f"{MODULES}/modules.dep: no such file"}
    assert found["loaded"] is True
    with pytest.raises(Unreadable, match=r"modules\.dep"):
        read_on_disk(host.tree, "igb")


def test_without_modules_builtin_only_what_the_running_kernel_shows_is_known(host):
    os.unlink(host.real(f"{MODULES}/modules.builtin"))
    host.folder("/sys/module/loop")
    assert module(host, "igb")["builtin"] is False
    assert module(host, "loop", "loop")["builtin"] is True
    assert module(host, "nvme", "nvme")["builtin"] == {"unknown": f"{MODULES}/modules.builtin: no such file"}


def test_without_modules_alias_it_is_unknown_which_modules_are_for_a_device(host):
    os.unlink(host.real(f"{MODULES}/modules.alias"))
    assert gather_devices(host.tree)[0]["modules"] == {"unknown": f"{MODULES}/modules.alias: no such file"}


def test_without_the_kernels_release_nothing_is_known_of_its_modules(host):
    os.unlink(host.real("/proc/sys/kernel/osrelease"))
    why = {"unknown": "/proc/sys/kernel/osrelease: it is not said there"}
    assert gather_devices(host.tree)[0]["modules"] == why
    assert module(host, "igb")["path"] == why


def test_without_a_command_line_it_is_unknown_what_is_kept_out(host):
    os.unlink(host.real("/proc/cmdline"))
    assert gather_drivers(host.tree)["blacklisted"] == {"unknown": "/proc/cmdline: no such file"}


def test_parameters_that_cannot_be_listed_are_told_as_such(host):
    assert module(host, "igb")["parameters_unknown"] is None
    host.file("/sys/module/igb/parameters", "no folder")
    assert "Not a directory" in module(host, "igb")["parameters_unknown"]


def test_the_configuration_comes_with_the_modules(host):
    host.file("/etc/modprobe.d/a.conf", "blacklist nouveau\noptions vfio-pci disable_vga=1\n")
    host.file("/etc/modules-load.d/b.conf", "vfio-pci\n")
    found = gather_drivers(host.tree)
    assert (found["blacklisted"], found["load"]) == (["nouveau"], ["vfio_pci"])
    assert found["options"] == {"vfio_pci": {"disable_vga": "1"}}


def test_what_install_lines_and_the_command_line_keep_out_counts_as_blacklisted(host):
    lines = (
        "install usb-storage /bin/false",
        "install nova_core /bin/true # no",
        "install vfio modprobe -i vfio; true",
    )
    host.file("/etc/modprobe.d/no.conf", "\n".join(lines))
    host.file(
        "/proc/cmdline", "quiet rd.driver.blacklist=early modprobe.blacklist=nouveau,nvidia-fb module_blacklist=ast"
    )
    assert gather_drivers(host.tree)["blacklisted"] == ["ast", "nouveau", "nova_core", "nvidia_fb", "usb_storage"]


def test_an_argument_that_keeps_a_module_out_is_named_to_who_wants_it(host):
    host.file("/proc/cmdline", "modprobe.blacklist=nouveau")
    args = {name: option.get("default") for name, option in kernel_modules.ARGUMENTS.items()}
    with pytest.raises(
        Failure, match=r"nouveau: modprobe\.blacklist=nouveau on the kernel's command line keeps it out"
    ):
        kernel_modules.ensure(Host(host.tree, check=True), dict(args, name="nouveau", blacklisted=False))


@pytest.mark.parametrize(
    ("wanted", "running", "waits"), [("0x1f", "31", False), ("0x1f", "30", True), ("a", "a", False), ("on", "Y", False)]
)
def test_an_option_waits_for_a_boot_only_where_the_running_value_means_another(host, wanted, running, waits):
    host.file("/etc/modprobe.d/mine.conf", f"options igb debug={wanted}\n")
    host.file("/sys/module/igb/parameters/debug", running + "\n")
    args = {name: option.get("default") for name, option in kernel_modules.ARGUMENTS.items()}
    found = kernel_modules.ensure(Host(host.tree, check=True), dict(args, name="igb", options={"debug": wanted}))
    assert (found.changed, found.reboot_required) == (False, waits)


def test_configuration_that_cannot_be_read_is_unknown(host):
    host.folder("/etc/modprobe.d/a.conf")
    host.folder("/etc/modules-load.d/b.conf")
    found = gather_drivers(host.tree)
    assert "a.conf" in found["blacklisted"]["unknown"]
    assert "a.conf" in found["options_unknown"]
    assert "b.conf" in found["load"]["unknown"]
