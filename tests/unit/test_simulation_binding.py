# SPDX-License-Identifier: Apache-2.0
"""The simulated kernel binds and unbinds devices as a real one does."""

import errno
from dataclasses import replace

import pytest

from cyborg_reconciler.simulation import gpu_1, guest_1, nic_1, qat_1, write_tree
from cyborg_reconciler.simulation.kernel import Kernel
from cyborg_reconciler.simulation.tools import run
from cyborg_reconciler.simulation.tree import Tree

BUS = "/sys/bus/pci"
GPU, AUDIO = "0000:3b:00.0", "0000:3b:00.1"
CRYPTO = "0000:00:05.0"


def boot(machine, folder):
    write_tree(machine, folder)
    return Kernel(Tree(folder))


@pytest.fixture
def gpu(tmp_path):
    kernel = boot(gpu_1(), tmp_path)
    run(kernel, ["modprobe", "vfio-pci"])
    return kernel


def refused(number):
    return pytest.raises(OSError, check=lambda exc: exc.errno == number)


def give_to_vfio(kernel, address):
    kernel.write(f"{BUS}/devices/{address}/driver_override", "vfio-pci\n")
    driver = kernel.pci.driver(address)
    if driver:
        kernel.write(f"{BUS}/drivers/{driver}/unbind", address)
    kernel.write(f"{BUS}/drivers_probe", address)


def test_an_override_and_a_probe_give_a_device_to_vfio_and_back(gpu):
    give_to_vfio(gpu, GPU)

    assert gpu.pci.driver(GPU) == "vfio-pci"
    assert GPU in gpu.tree.names(f"{BUS}/drivers/vfio-pci")
    assert "DRIVER=vfio-pci" in gpu.tree.text(f"{BUS}/devices/{GPU}/uevent")
    assert not gpu.tree.exists("/sys/class/drm/card0")

    gpu.write(f"{BUS}/devices/{GPU}/driver_override", "\n")
    assert gpu.tree.text(f"{BUS}/devices/{GPU}/driver_override") == "(null)"
    gpu.write(f"{BUS}/drivers/vfio-pci/unbind", GPU)
    gpu.write(f"{BUS}/drivers_probe", GPU)
    assert gpu.pci.driver(GPU) in {"nouveau", "nvidia"}
    assert not gpu.tree.exists("/dev/vfio/5")


def test_gpu_and_its_audio_function_share_a_group_and_its_node(gpu):
    group = gpu.tree.target_name(f"{BUS}/devices/{GPU}/iommu_group")
    assert gpu.tree.names(f"/sys/kernel/iommu_groups/{group}/devices") == [GPU, AUDIO]

    give_to_vfio(gpu, GPU)
    give_to_vfio(gpu, AUDIO)
    gpu.write(f"{BUS}/drivers/vfio-pci/unbind", AUDIO)
    assert gpu.tree.exists(f"/dev/vfio/{group}")
    gpu.write(f"{BUS}/drivers/vfio-pci/unbind", GPU)
    assert not gpu.tree.exists(f"/dev/vfio/{group}")


def test_a_driver_does_not_get_what_another_has_or_what_it_does_not_match(gpu):
    with refused(errno.EBUSY):
        gpu.write(f"{BUS}/drivers/nouveau/bind", GPU)
    with refused(errno.ENODEV):
        gpu.write(f"{BUS}/drivers/vfio-pci/bind", AUDIO)
    with refused(errno.ENODEV):
        gpu.write(f"{BUS}/drivers/nouveau/unbind", AUDIO)
    with refused(errno.ENODEV):
        gpu.write(f"{BUS}/drivers/nouveau/bind", "0000:ff:00.0")
    with refused(errno.ENODEV):
        gpu.write(f"{BUS}/drivers_probe", "../../etc")


def test_an_override_keeps_every_other_driver_away(gpu):
    gpu.write(f"{BUS}/devices/{GPU}/driver_override", "none")
    gpu.write(f"{BUS}/drivers/nouveau/unbind", GPU)
    gpu.write(f"{BUS}/drivers_probe", GPU)
    assert gpu.pci.driver(GPU) is None
    with refused(errno.ENODEV):
        gpu.write(f"{BUS}/drivers/nouveau/bind", GPU)


def test_new_ids_bind_and_are_not_given_twice(gpu):
    gpu.write(f"{BUS}/drivers/nouveau/unbind", GPU)
    gpu.write(f"{BUS}/drivers/vfio-pci/new_id", "10de 20b0")
    assert gpu.pci.driver(GPU) == "vfio-pci"

    with refused(errno.EEXIST):
        gpu.write(f"{BUS}/drivers/vfio-pci/new_id", "10DE 20B0")
    with refused(errno.EINVAL):
        gpu.write(f"{BUS}/drivers/vfio-pci/new_id", "GPU")
    gpu.write(f"{BUS}/drivers/vfio-pci/remove_id", "10de 20b0")
    with refused(errno.ENODEV):
        gpu.write(f"{BUS}/drivers/vfio-pci/remove_id", "10de 20b0")


def test_vfio_takes_neither_a_bridge_nor_a_device_without_an_iommu(tmp_path):
    kernel = boot(replace(qat_1(), iommu="absent"), tmp_path)
    run(kernel, ["modprobe", "vfio-pci"])
    for address, driver in (("0000:6b:00.0", "4xxx"), ("0000:6a:01.0", "pcieport")):
        kernel.write(f"{BUS}/devices/{address}/driver_override", "vfio-pci")
        kernel.write(f"{BUS}/drivers/{driver}/unbind", address)
        with refused(errno.EINVAL):
            kernel.write(f"{BUS}/drivers/vfio-pci/bind", address)
        kernel.write(f"{BUS}/drivers_probe", address)
        assert kernel.pci.driver(address) is None


def test_a_device_that_a_program_holds_is_not_let_go(gpu):
    give_to_vfio(gpu, GPU)
    pid = gpu.hold(GPU, "qemu-system-x86")
    assert gpu.tree.text(f"/proc/{pid}/comm") == "qemu-system-x86"
    assert gpu.tree.link_target(f"/proc/{pid}/fd/23") == "/dev/vfio/5"

    with refused(errno.EBUSY):
        gpu.write(f"{BUS}/drivers/vfio-pci/unbind", GPU)
    assert gpu.pci.driver(GPU) == "vfio-pci"


def test_nobody_holds_what_has_no_node(gpu):
    with refused(errno.ENXIO):
        gpu.hold(AUDIO, "pulseaudio")


def test_writes_that_the_files_do_not_take_are_refused(gpu):
    with refused(errno.EACCES):
        gpu.write(f"{BUS}/devices/{GPU}/vendor", "0x8086")
    with refused(errno.ENOENT):
        gpu.write(f"{BUS}/devices/{GPU}/sriov_numvf", "1")
    with refused(errno.EISDIR):
        gpu.write(f"{BUS}/devices", "1")
    with refused(errno.EINVAL):
        gpu.write(f"{BUS}/drivers/nouveau/uevent", "add")


def test_other_attributes_take_what_is_written(gpu):
    gpu.write("/sys/class/net/eno1/mtu", "9000")
    assert gpu.tree.text("/sys/class/net/eno1/mtu") == "9000"


def test_a_removed_device_comes_back_with_a_rescan(gpu):
    gpu.write(f"{BUS}/devices/0000:3a:00.0/remove", "1")
    assert not {GPU, AUDIO, "0000:3a:00.0"} & set(gpu.tree.names(f"{BUS}/devices"))

    gpu.write(f"{BUS}/rescan", "1")
    assert gpu.pci.driver(AUDIO) == "snd_hda_intel"
    assert gpu.tree.resolve(f"{BUS}/devices/{GPU}").endswith(f"/0000:3a:00.0/{GPU}")


def test_the_default_route_goes_with_its_port_and_returns(tmp_path):
    kernel = boot(nic_1(), tmp_path)
    assert "ens7f0\t00000000\t010200C0" in kernel.tree.text("/proc/net/route")
    kernel.write(f"{BUS}/drivers/ice/unbind", "0000:ca:00.0")
    assert "ens7f0" not in kernel.tree.text("/proc/net/route")
    kernel.write(f"{BUS}/drivers/ice/bind", "0000:ca:00.0")
    assert "ens7f0" in kernel.tree.text("/proc/net/route")


def test_mediated_device_types_come_with_the_driver_that_makes_them(gpu):
    assert not gpu.tree.exists(f"{BUS}/devices/{GPU}/mdev_supported_types")
    gpu.write(f"{BUS}/drivers/nouveau/unbind", GPU)
    gpu.write(f"{BUS}/drivers/nvidia/bind", GPU)
    assert gpu.tree.text(f"{BUS}/devices/{GPU}/mdev_supported_types/nvidia-470/available_instances") == "4"
    gpu.write(f"{BUS}/drivers/nvidia/unbind", GPU)
    assert not gpu.tree.exists("/sys/class/mdev_bus/0000:3b:00.0")


def test_behind_virtio_pci_sits_a_device_with_a_driver_of_its_own(tmp_path):
    kernel = boot(guest_1(), tmp_path)
    name = next(each for each in kernel.tree.names(f"{BUS}/devices/{CRYPTO}") if each.startswith("virtio"))
    assert kernel.tree.target_name(f"/sys/bus/virtio/devices/{name}/driver") == "virtio_crypto"

    kernel.write("/sys/bus/virtio/drivers/virtio_crypto/unbind", name)
    assert not kernel.tree.exists(f"/sys/bus/virtio/devices/{name}/driver")
    with refused(errno.ENODEV):
        kernel.write("/sys/bus/virtio/drivers/virtio_blk/bind", name)
    kernel.write("/sys/bus/virtio/drivers/virtio_crypto/bind", name)
    with refused(errno.EBUSY):
        kernel.write("/sys/bus/virtio/drivers/virtio_crypto/bind", name)

    kernel.write(f"{BUS}/drivers/virtio-pci/unbind", CRYPTO)
    assert not kernel.tree.exists(f"/sys/bus/virtio/devices/{name}")
    assert kernel.tree.names("/sys/bus/virtio/drivers/virtio_crypto") == sorted(
        ["bind", "module", "new_id", "remove_id", "uevent", "unbind"]
    )
    kernel.write(f"{BUS}/drivers_probe", CRYPTO)
    assert kernel.tree.target_name(f"/sys/bus/virtio/devices/{name}/driver") == "virtio_crypto"


def test_a_guest_boots_from_its_virtio_disk_and_speaks_through_its_virtio_port(tmp_path):
    kernel = boot(guest_1(), tmp_path)
    assert " / / rw" in kernel.tree.text("/proc/self/mountinfo")
    assert kernel.tree.resolve("/sys/class/block/vda1").startswith("/sys/devices/pci0000:00/0000:00:03.0/virtio")
    assert kernel.tree.resolve("/sys/class/net/enp0s2").startswith("/sys/devices/pci0000:00/0000:00:02.0/virtio")
