# SPDX-License-Identifier: Apache-2.0
"""The simulated host loads and unloads modules as kmod and the kernel do."""

from dataclasses import replace

import pytest

from cyborg_reconciler.simulation import gpu_1, guest_1, qat_1, write_tree
from cyborg_reconciler.simulation.catalogue import NVIDIA
from cyborg_reconciler.simulation.kernel import Kernel
from cyborg_reconciler.simulation.module_file import decode_module_file, encode_module, parse_module_info, section
from cyborg_reconciler.simulation.tools import run
from cyborg_reconciler.simulation.tree import Tree

GPU = "0000:3b:00.0"


def boot(machine, folder):
    write_tree(machine, folder)
    return Kernel(Tree(folder))


@pytest.fixture
def gpu(tmp_path):
    return boot(gpu_1(), tmp_path)


@pytest.fixture
def qat(tmp_path):
    return boot(qat_1(), tmp_path)


def refcount(kernel, name):
    return kernel.tree.text(f"/sys/module/{name}/refcnt")


def test_devices_have_loaded_their_modules_at_boot(qat):
    loaded = qat.modules.loaded()
    assert {"qat_4xxx", "intel_qat", "igb", "nvme", "nvme_core"} <= set(loaded)
    assert "nouveau" not in loaded
    assert loaded.index("qat_4xxx") < loaded.index("intel_qat")  # the newest first
    assert qat.tree.target_name("/sys/module/qat_4xxx/drivers/pci:4xxx") == "4xxx"
    assert "intel_qat 65536 1 qat_4xxx, Live" in qat.tree.text("/proc/modules")


def test_a_module_that_others_need_is_not_unloaded(qat):
    result = run(qat, ["rmmod", "intel_qat"])
    assert (result.rc, result.stderr) == (1, "rmmod: ERROR: Module intel_qat is in use by: qat_4xxx\n")
    assert run(qat, ["modprobe", "-r", "intel_qat"]).stderr == "modprobe: FATAL: Module intel_qat is in use.\n"


def test_unloading_unbinds_and_takes_along_what_nobody_needs_any_more(qat):
    assert run(qat, ["modprobe", "-r", "qat_4xxx"]).rc == 0
    assert qat.pci.driver("0000:6b:00.0") is None
    assert not {"qat_4xxx", "intel_qat", "crc8"} & set(qat.modules.loaded())

    assert run(qat, ["modprobe", "qat-4xxx"]).rc == 0
    assert qat.pci.driver("0000:6b:00.0") == "4xxx"


def test_a_module_is_in_use_while_a_program_has_its_device_or_itself_open(gpu):
    for what, module in ((GPU, "nouveau"), ("snd_hda_intel", "snd_hda_intel")):
        pid = gpu.hold(what, "Xorg")
        assert refcount(gpu, module) == "1"
        assert run(gpu, ["modprobe", "-r", module]).rc == 1
        assert gpu.modules.is_loaded(module)

        gpu.release(pid)
        assert refcount(gpu, module) == "0"
        assert run(gpu, ["modprobe", "-r", module]).rc == 0
        assert not gpu.modules.is_loaded(module)


def test_the_root_disk_keeps_its_driver(qat):
    assert refcount(qat, "nvme") == "2"
    assert run(qat, ["rmmod", "nvme"]).stderr == "rmmod: ERROR: Module nvme is in use\n"


def test_options_come_from_modprobe_d_and_the_command_line_wins(gpu):
    run(gpu, ["modprobe", "-r", "nouveau"])
    gpu.tree.write("/etc/modprobe.d/cyborg-nouveau.conf", "options nouveau modeset=0 \\\n  config=NvClk\n")
    run(gpu, ["modprobe", "nouveau", "modeset=2"])
    assert gpu.tree.text("/sys/module/nouveau/parameters/modeset") == "2"
    assert gpu.tree.text("/sys/module/nouveau/parameters/config") == "NvClk"


def test_ids_given_to_vfio_bind_devices_that_nobody_has(gpu):
    run(gpu, ["modprobe", "-r", "nouveau"])
    run(gpu, ["modprobe", "-r", "nvidia"])
    gpu.tree.write("/etc/modprobe.d/vfio.conf", "options vfio-pci ids=10de:20b0,10de:1aef\n")
    run(gpu, ["modprobe", "vfio-pci"])
    assert gpu.pci.driver(GPU) == "vfio-pci"
    assert gpu.pci.driver("0000:3b:00.1") == "snd_hda_intel"


def test_a_blacklist_counts_for_devices_and_for_b_but_not_for_a_name(gpu):
    run(gpu, ["modprobe", "-r", "nouveau"])
    gpu.tree.write("/etc/modprobe.d/blacklist.conf", "# the vendor's driver instead\nblacklist nouveau\n")
    assert run(gpu, ["modprobe", "-b", "nouveau"]).rc == 0
    assert not gpu.modules.is_loaded("nouveau")

    gpu.write("/sys/bus/pci/devices/0000:3b:00.0/remove", "1")
    gpu.write("/sys/bus/pci/rescan", "1")
    assert not gpu.modules.is_loaded("nouveau")

    assert run(gpu, ["modprobe", "nouveau"]).rc == 0
    assert gpu.modules.is_loaded("nouveau")


def test_a_module_that_modprobe_d_forbids_is_not_loaded(gpu):
    run(gpu, ["modprobe", "-r", "nouveau"])
    gpu.tree.write("/etc/modprobe.d/never.conf", "install nouveau /bin/false\n")
    assert run(gpu, ["modprobe", "nouveau"]).rc == 1
    assert not gpu.modules.is_loaded("nouveau")


def test_loading_one_module_does_not_bring_back_another_that_was_unloaded(gpu):
    run(gpu, ["modprobe", "-r", "nouveau"])
    run(gpu, ["modprobe", "vfio-pci"])
    assert not gpu.modules.is_loaded("nouveau")


def test_modalias_stands_for_a_module(qat):
    run(qat, ["modprobe", "-r", "qat_4xxx"])
    run(qat, ["modprobe", qat.tree.text("/sys/bus/pci/devices/0000:6b:00.0/modalias")])
    assert qat.modules.is_loaded("qat_4xxx")


@pytest.mark.parametrize(
    ("words", "rc", "message"),
    [
        (["modprobe", "no-such"], 1, "FATAL: Module no-such not found in directory /lib/modules/6.1.0-28-amd64"),
        (["modprobe", "-r", "no-such"], 1, "FATAL: Module no-such not found."),
        (["modprobe", "-r", "vfio-pci"], 0, ""),
        (["modprobe", "ext4"], 0, ""),
        (["modprobe", "-r", "ext4"], 1, "FATAL: Module ext4 is builtin."),
        (["modprobe", "-n", "vfio-pci"], 0, ""),
        (["modprobe", "-a", "vfio", "no-such"], 1, "Module no-such not found"),
        (["modprobe"], 1, "missing parameters"),
        (["rmmod", "vfio"], 1, "Module vfio is not currently loaded"),
        (["rmmod", "ext4"], 1, "Module ext4 is builtin."),
        (["insmod", "/opt/no-such.ko"], 1, "could not insert module /opt/no-such.ko"),
        (["modinfo", "no-such"], 1, "Module no-such not found."),
        (["depmod", "5.10.0"], 1, "could not open directory /lib/modules/5.10.0"),
        (["fsck"], 127, "command not found"),
    ],
)
def test_tools_say_what_they_do_not_find(qat, words, rc, message):
    result = run(qat, words)
    assert result.rc == rc
    assert message in result.stderr
    assert not qat.modules.is_loaded("vfio_pci")


def test_secure_boot_refuses_an_unsigned_module(tmp_path):
    kernel = boot(replace(gpu_1(), secure_boot=True), tmp_path)
    assert not kernel.modules.is_loaded("nvidia")
    result = run(kernel, ["modprobe", "nvidia"])
    assert result.rc == 1
    assert result.stderr == "modprobe: ERROR: could not insert 'nvidia': Key was rejected by service\n"
    assert run(kernel, ["mokutil", "--sb-state"]).stdout == "SecureBoot enabled\n"
    assert kernel.modules.is_loaded("nouveau")


def test_an_unsigned_module_taints(gpu):
    assert gpu.tree.text("/sys/module/nvidia/taint") == "OE"
    assert "(OE)" in gpu.tree.text("/proc/modules")


def test_modinfo_reads_the_modules_file(gpu):
    output = run(gpu, ["modinfo", "nvidia", "nouveau"]).stdout
    assert "filename:       /lib/modules/6.1.0-28-amd64/updates/dkms/nvidia.ko\n" in output
    assert "version:        535.183.06\n" in output
    assert "signer:         Debian Secure Boot CA\n" in output.partition("nouveau.ko")[2]
    assert run(gpu, ["modinfo", "-F", "version", "nvidia"]).stdout == "535.183.06\n"
    assert "(builtin)" in run(gpu, ["modinfo", "ext4"]).stdout


def test_lsmod_shows_users(qat):
    assert "intel_qat               65536  1 qat_4xxx\n" in run(qat, ["lsmod"]).stdout


def test_virtio_modules_load_through_the_bus_behind(tmp_path):
    kernel = boot(guest_1(), tmp_path)
    assert {"virtio_pci", "virtio_blk", "virtio_net", "virtio_crypto", "igb"} <= set(kernel.modules.loaded())
    assert run(kernel, ["rmmod", "virtio_crypto"]).rc == 0
    assert kernel.tree.names("/sys/bus/virtio/drivers") == ["virtio_blk", "virtio_net"]


# ------------------------------------------------------------------------------------------------------ the file itself
def test_a_modules_file_gives_back_the_module_and_its_signer():
    signed = replace(NVIDIA, signer="Build key")
    data = encode_module(signed, "6.1.0")
    assert decode_module_file(data) == signed
    assert ("signer", "Build key") in parse_module_info(data)
    assert ("vermagic", "6.1.0 SMP preempt mod_unload modversions ") in parse_module_info(data)


def test_another_source_has_another_checksum():
    first, second = (dict(parse_module_info(encode_module(replace(NVIDIA, version=v), "6.1.0"))) for v in ("1", "2"))
    assert first["srcversion"] != second["srcversion"]
    assert len(first["srcversion"]) == 23


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "not an ELF file"),
        (b"#!/bin/sh\n" + bytes(200), "not an ELF file"),
        (encode_module(NVIDIA, "6.1.0")[:64], "cut off"),
    ],
)
def test_what_is_no_module_is_told_apart(data, why):
    with pytest.raises(ValueError, match=why):
        decode_module_file(data)


def test_a_section_that_is_not_there_is_named():
    with pytest.raises(ValueError, match=r"no section \.text"):
        section(encode_module(NVIDIA, "6.1.0"), ".text")


def test_a_foreign_file_among_the_modules_is_passed_over(qat):
    qat.tree.write("/lib/modules/6.1.0-28-amd64/updates/foreign.ko", "not a module")
    assert run(qat, ["depmod"]).rc == 0
    assert "foreign" not in qat.tree.text("/lib/modules/6.1.0-28-amd64/modules.dep")
    assert run(qat, ["modinfo", "foreign"]).rc == 1
