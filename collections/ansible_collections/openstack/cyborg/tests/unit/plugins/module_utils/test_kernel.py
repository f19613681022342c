# Copyright (c) 2026 Cyborg Reconciler contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

import os

import pytest

from ansible_collections.openstack.cyborg.plugins.module_utils.facts import gather_kernel
from ansible_collections.openstack.cyborg.plugins.module_utils.grub import (
    parse_default,
    parse_defaults,
    parse_menu,
    parse_words,
    render_words,
    version_key,
)
from ansible_collections.openstack.cyborg.plugins.module_utils.grub_dropin import DROPIN, render_dropin
from ansible_collections.openstack.cyborg.plugins.module_utils.kernel import release_of
from ansible_collections.openstack.cyborg.tests.unit.host_tree import HostTree

GRUB_CFG = """
if [ -s $prefix/grubenv ]; then
  load_env
fi
if [ "${next_entry}" ] ; then
   set default="${next_entry}"
   set next_entry=
   save_env next_entry
   set boot_once=true
else
   set default="DEFAULT"
fi
function gfxmode {
  set gfxpayload="${1}"
}
menuentry 'Debian GNU/Linux' --class debian $menuentry_id_option 'gnulinux-simple-1' {
  load_video
  if [ x$grub_platform = xxen ]; then insmod xzio; fi
  linux\t/boot/vmlinuz-6.1.0-29-amd64 root=UUID=1 ro quiet intel_iommu=on
  initrd\t/boot/initrd.img-6.1.0-29-amd64
}
submenu 'Advanced options' $menuentry_id_option 'gnulinux-advanced-1' {
  menuentry 'Debian, with Linux 6.1.0-29' --class debian $menuentry_id_option 'gnulinux-29-advanced' {
    linux\t/boot/vmlinuz-6.1.0-29-amd64 root=UUID=1 ro quiet intel_iommu=on
  }
  menuentry 'Debian, with Linux 6.1.0-28' --class debian $menuentry_id_option 'gnulinux-28-advanced' {
    linux\t/boot/vmlinuz-6.1.0-28-amd64 root=UUID=1 ro single
  }
}
menuentry 'UEFI Firmware Settings' $menuentry_id_option 'uefi-firmware' {
  fwsetup
}
"""
BLS_CFG = 'set default="${saved_entry}"\ninsmod blscfg\nblscfg\n'
ENTRY = "title RHEL ({0})\nversion {0}\nlinux /vmlinuz-{0}\ninitrd /initramfs-{0}.img\noptions root=/dev/sda1 {1}\n"


@pytest.fixture
def host(tmp_path):
    host = HostTree(tmp_path)
    host.file("/etc/os-release", 'ID=debian\nVERSION_ID="12"\n')
    return host


def next_boot(host, default, environment=""):
    host.file("/boot/grub/grub.cfg", GRUB_CFG.replace("DEFAULT", default))
    host.file("/boot/grub/grubenv", f"# GRUB Environment Block\n{environment}\n####\n")
    return gather_kernel(host.tree)["args_next_boot"]


# ------------------------------------------------------------------------------------------------------- command lines
def test_quotes_keep_the_spaces_of_a_word_together():
    words = ["quiet", "dyndbg=file a.c +p", "two words"]
    assert parse_words('quiet  dyndbg="file a.c +p" "two words"') == words
    assert parse_words(render_words(words)) == words


def test_arguments_of_the_running_kernel_keep_their_order(host):
    host.file("/proc/cmdline", "BOOT_IMAGE=/vmlinuz console=tty0 console=ttyS0 ro\n")
    found = gather_kernel(host.tree)["args_running"]
    assert found == ["BOOT_IMAGE=/vmlinuz", "console=tty0", "console=ttyS0", "ro"]


# ---------------------------------------------------------------------------------------------------------- configured
@pytest.mark.parametrize(
    ("line", "value"),
    [
        ('GRUB_X="a b"', "a b"),
        ("GRUB_X='a $b'", "a $b"),
        ("GRUB_X=a  # comment", "a"),
        ("export GRUB_X=a'b'\"c\"", "abc"),
        ('GRUB_X="$GRUB_A ${GRUB_A} $GRUB_NONE"', "old old "),
        ('GRUB_X="say \\"hi\\""', 'say "hi"'),
        ("GRUB_A=1\nGRUB_X=$GRUB_A", "1"),
        ('GRUB_X="a \\\nb"', "a b"),
        ('GRUB_X="a"\nGRUB_X+=" b"', "a b"),
        ("GRUB_X=", ""),
    ],
)
def test_settings_are_read_as_a_shell_reads_them(line, value):
    assert parse_defaults(line, {"GRUB_A": "old"})["GRUB_X"] == value


@pytest.mark.parametrize(
    "text",
    [
        'GRUB_CMDLINE_LINUX="$(uname)"',
        'GRUB_CMDLINE_LINUX="`uname`"',
        'GRUB_CMDLINE_LINUX="never closed',
        "GRUB_CMDLINE_LINUX='never closed",
        'CONSOLE=$(tty)\nGRUB_CMDLINE_LINUX="quiet $CONSOLE"',
        'GRUB_CMDLINE_LINUX=quiet\nif [ -e /etc/x ]; then\n  GRUB_CMDLINE_LINUX="splash"\nfi',
        'test -e /etc/x && GRUB_CMDLINE_LINUX="splash"',
    ],
)
def test_what_only_a_shell_can_find_out_is_unknown(host, text):
    host.file("/etc/default/grub", text + "\n")
    assert "/etc/default/grub" in gather_kernel(host.tree)["args_configured"]["unknown"]


def test_other_settings_may_be_a_shells_to_find_out(host):
    distributor = "GRUB_DISTRIBUTOR=`lsb_release -i -s 2> /dev/null || echo Debian`"
    console = "CONSOLE='console=ttyS0'\nGRUB_CMDLINE_LINUX=\"$CONSOLE\"\n# GRUB_CMDLINE_LINUX=commented"
    host.file("/etc/default/grub", f"{distributor}\n{console}\nif true; then\n  GRUB_TIMEOUT=1\nfi\n")
    assert gather_kernel(host.tree)["args_configured"] == ["console=ttyS0"]


def test_the_drop_in_of_this_collection_replaces_words_of_the_same_names(host):
    host.file(
        "/etc/default/grub", 'GRUB_CMDLINE_LINUX_DEFAULT="quiet intel-iommu=off"\nGRUB_CMDLINE_LINUX="intel_iommu=x"\n'
    )
    host.file(DROPIN, render_dropin({"intel_iommu": "on"}))
    assert gather_kernel(host.tree)["args_configured"] == ["intel_iommu=on", "quiet"]
    host.file(DROPIN, "# cyborg: {broken\n")
    assert DROPIN in gather_kernel(host.tree)["args_configured"]["unknown"]


def test_drop_ins_are_read_on_the_debian_family_alone(host):
    host.file("/etc/default/grub", 'GRUB_CMDLINE_LINUX_DEFAULT="quiet"\nGRUB_CMDLINE_LINUX=""\n')
    host.file("/etc/default/grub.d/a.cfg", 'GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX iommu=pt"\n')
    assert gather_kernel(host.tree)["args_configured"] == ["iommu=pt", "quiet"]
    host.file("/etc/os-release", 'ID="rocky"\nID_LIKE="rhel centos fedora"\n')
    assert gather_kernel(host.tree)["args_configured"] == ["quiet"]


def test_without_grub_what_is_configured_is_unknown_and_not_empty(host):
    found = gather_kernel(host.tree)
    assert found["boot_loader"] is None
    assert "unknown" in found["args_configured"]
    assert "unknown" in found["args_next_boot"]


# ----------------------------------------------------------------------------------------------------------- next boot
@pytest.mark.parametrize("default", ["0", "gnulinux-simple-1", "Debian GNU/Linux", "nonsense", "7"])
def test_the_default_entry_boots_next_and_the_first_where_there_is_no_such(host, default):
    assert next_boot(host, default) == ["root=UUID=1", "ro", "quiet", "intel_iommu=on"]


@pytest.mark.parametrize("default", ["1>1", "gnulinux-advanced-1>gnulinux-28-advanced", "Advanced options>1"])
def test_an_entry_of_a_submenu_can_be_the_default(host, default):
    assert next_boot(host, default) == ["root=UUID=1", "ro", "single"]


def test_a_saved_entry_is_the_default(host):
    assert next_boot(host, "${saved_entry}", "saved_entry=gnulinux-advanced-1>1") == ["root=UUID=1", "ro", "single"]
    assert next_boot(host, "${saved_entry}")[2] == "quiet"


def test_an_entry_for_one_boot_comes_before_the_default(host):
    assert next_boot(host, "0", "next_entry=1>1") == ["root=UUID=1", "ro", "single"]


def test_an_entry_that_starts_no_kernel_leaves_the_next_boot_unknown(host):
    assert "uefi-firmware" in next_boot(host, "uefi-firmware")["unknown"]


def test_a_grub_without_any_entry_leaves_the_next_boot_unknown(host):
    host.file("/boot/grub/grub.cfg", "set default=0\n")
    found = gather_kernel(host.tree)
    assert "unknown" in found["args_next_boot"]
    assert "unknown" in found["boot_loader"]


def test_entries_of_the_boot_loader_specification_are_read(host):
    host.file("/boot/grub2/grub.cfg", BLS_CFG)
    host.file("/boot/grub2/grubenv", "saved_entry=id-5.14.0-70\nkernelopts=ro crashkernel=auto\n")
    for release in ("5.14.0-70", "5.14.0-427"):
        host.file(f"/boot/loader/entries/id-{release}.conf", ENTRY.format(release, "$kernelopts $tuned_params rhgb"))
    found = gather_kernel(host.tree)
    assert (found["boot_loader"], found["args_next_boot"]) == (
        "grub-bls",
        ["root=/dev/sda1", "ro", "crashkernel=auto", "rhgb"],
    )
    host.file("/boot/vmlinuz-5.14.0-70")
    host.file("/boot/vmlinuz-5.14.0-427")
    assert [entry["next_boot"] for entry in gather_kernel(host.tree)["kernels"]] == [True, False]


def test_with_uefi_rhel_8_has_its_boot_loader_on_the_efi_partition(host):
    host.file("/boot/efi/EFI/BOOT/grub.cfg", "configfile $prefix/grub.cfg\n")
    host.file("/boot/efi/EFI/redhat/grub.cfg", BLS_CFG)
    host.file("/boot/efi/EFI/redhat/grubenv", "kernelopts=ro crashkernel=auto\n")
    host.file("/boot/loader/entries/id-4.18.0-553.conf", ENTRY.format("4.18.0-553", "$kernelopts"))
    found = gather_kernel(host.tree)
    assert (found["boot_loader"], found["args_next_boot"]) == ("grub-bls", ["root=/dev/sda1", "ro", "crashkernel=auto"])


def test_an_image_for_repairs_is_no_kernel(host):
    host.file("/boot/vmlinuz-0-rescue-0123456789abcdef")
    host.file("/boot/vmlinuz-5.14.0-70")
    assert [kernel["release"] for kernel in gather_kernel(host.tree)["kernels"]] == ["5.14.0-70"]


def test_without_a_saved_entry_the_newest_kernel_boots(host):
    host.file("/boot/grub2/grub.cfg", BLS_CFG)
    for release in ("5.14.0-70", "5.14.0-427"):
        host.file(f"/boot/loader/entries/id-{release}.conf", ENTRY.format(release, f"from={release}"))
    assert gather_kernel(host.tree)["args_next_boot"] == ["root=/dev/sda1", "from=5.14.0-427"]


def test_kernels_sort_by_number():
    assert sorted(["6.1.0-9", "6.1.0-28", "6.1.0~rc1"], key=version_key) == ["6.1.0~rc1", "6.1.0-9", "6.1.0-28"]


def test_braces_inside_of_entries_do_not_end_them():
    menu = parse_menu("menuentry 'a' {\n if true; then {\n }\n fi\n linux /vmlinuz-1 x\n}\nmenuentry 'b' {\n}\n")
    assert [(entry.title, entry.words) for entry in menu] == [("a", ["x"]), ("b", [])]


def test_a_grub_cfg_without_a_default_boots_the_first_entry():
    assert parse_default("set timeout=5\n", {}) == "0"


# ---------------------------------------------------------------------------------------------- kernels and firmware
def test_installed_kernels_tell_their_headers_and_initramfs(host):
    host.file("/boot/grub/grub.cfg", GRUB_CFG.replace("DEFAULT", "0"))
    for release in ("6.1.0-28-amd64", "6.1.0-29-amd64", "6.1.0-9-amd64"):
        host.file(f"/boot/vmlinuz-{release}")
    host.file("/boot/initrd.img-6.1.0-29-amd64")
    host.folder("/lib/modules/6.1.0-28-amd64/build")
    assert gather_kernel(host.tree)["kernels"] == [
        {"release": "6.1.0-9-amd64", "headers": False, "initramfs": False, "next_boot": False},
        {"release": "6.1.0-28-amd64", "headers": True, "initramfs": False, "next_boot": False},
        {"release": "6.1.0-29-amd64", "headers": False, "initramfs": True, "next_boot": True},
    ]


@pytest.mark.parametrize(
    ("path", "release"),
    [("/boot/vmlinuz-6.1.0", "6.1.0"), ("(hd0)/vmlinuz", None), (None, None), ("/vmlinuz-0-rescue-4f", None)],
)
def test_the_file_name_of_a_kernel_tells_its_release(path, release):
    assert release_of(path) == release


def test_an_iommu_is_on_when_there_are_groups(host):
    assert gather_kernel(host.tree)["iommu_enabled"] is False
    host.folder("/sys/kernel/iommu_groups/0")
    assert gather_kernel(host.tree)["iommu_enabled"] is True


def test_secure_boot_is_none_without_uefi_and_unknown_without_variables(host):
    assert gather_kernel(host.tree)["secure_boot"] is None
    variables = host.folder("/sys/firmware/efi/efivars")
    assert "efivarfs" in gather_kernel(host.tree)["secure_boot"]["unknown"]
    host.file(f"{variables}/BootCurrent-8be4df61-93ca-11d2-aa0d-00e098032b8c", b"\6\0\0\0\0\0")
    assert gather_kernel(host.tree)["secure_boot"] is False
    for value in (0, 1):
        content = b"\6\0\0\0" + bytes([value])
        host.file(f"{variables}/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c", content)
        assert gather_kernel(host.tree)["secure_boot"] is bool(value)


def test_lockdown_is_the_word_in_brackets(host):
    assert gather_kernel(host.tree)["lockdown"] is None
    host.file("/sys/kernel/security/lockdown", "none [integrity] confidentiality\n")
    assert gather_kernel(host.tree)["lockdown"] == "integrity"


def test_lockdown_is_unknown_where_securityfs_is_not_mounted_and_none_without_it(host):
    security = host.folder("/sys/kernel/security")
    assert "securityfs" in gather_kernel(host.tree)["lockdown"]["unknown"]
    host.file(f"{security}/lsm", "capability\n")
    assert gather_kernel(host.tree)["lockdown"] is None


@pytest.mark.parametrize(
    ("folder", "facts"),
    [("/sys/kernel", ["lockdown", "iommu_enabled"]), ("/sys/firmware", ["secure_boot"]), ("/boot", ["kernels"])],
)
def test_what_would_be_in_a_folder_that_each_host_has_is_unknown_without_it(host, folder, facts):
    os.rmdir(host.real(folder))
    found = gather_kernel(host.tree)
    assert [found[fact] for fact in facts] == [{"unknown": f"{folder}: no such folder"}] * len(facts)


@pytest.mark.parametrize(
    ("name", "fact"), [("osrelease", "release"), ("arch", "architecture"), ("random/boot_id", "boot_id")]
)
def test_what_the_kernel_does_not_say_of_itself_is_unknown(host, name, fact):
    host.file(f"/proc/sys/kernel/{name}", "said\n")
    assert gather_kernel(host.tree)[fact] == "said"
    os.unlink(host.real(f"/proc/sys/kernel/{name}"))
    assert gather_kernel(host.tree)[fact] == {"unknown": f"/proc/sys/kernel/{name}: it is not said there"}


def test_without_os_release_the_system_is_unknown_and_with_it_which_files_configure_it(host):
    os.unlink(host.real("/etc/os-release"))
    host.file("/etc/default/grub", 'GRUB_CMDLINE_LINUX="quiet"\n')
    why = {"unknown": "/etc/os-release: no such file"}
    found = gather_kernel(host.tree)
    assert [found[fact] for fact in ("os_family", "os_id", "os_version", "args_configured")] == [why] * 4
    host.file("/usr/lib/os-release", "ID=debian\n")
    assert gather_kernel(host.tree)["os_family"] == "debian"
    host.folder("/etc/os-release")  # it is there, and only where it is not the other counts
    assert "Is a directory" in gather_kernel(host.tree)["os_family"]["unknown"]


@pytest.mark.parametrize(
    ("text", "family"),
    [("ID=ubuntu\n", "debian"), ('ID="almalinux"\nID_LIKE="rhel centos fedora"\n', "redhat"),
     ("ID=opensuse-leap\nID_LIKE='suse opensuse'\n", "suse"), ("ID=nixos\n", "nixos"), ("", "")],
)  # fmt: skip
def test_the_family_of_the_system_is_told(host, text, family):
    host.file("/etc/os-release", text)
    assert gather_kernel(host.tree)["os_family"] == family
