# SPDX-License-Identifier: Apache-2.0
"""The simulated kernel makes and removes VFs as a real one does."""

import errno

import pytest

from cyborg_reconciler.simulation import nic_1, qat_1, write_tree
from cyborg_reconciler.simulation.kernel import Kernel
from cyborg_reconciler.simulation.machine import virtual_function
from cyborg_reconciler.simulation.tools import run
from cyborg_reconciler.simulation.tree import Tree

PF = "/sys/bus/pci/devices/0000:6b:00.0"
NUM_VFS = f"{PF}/sriov_numvfs"


def boot(machine, folder):
    write_tree(machine, folder)
    return Kernel(Tree(folder))


@pytest.fixture
def qat(tmp_path):
    return boot(qat_1(), tmp_path)


def virtual_functions(kernel):
    return [name for name in kernel.tree.names(PF) if name.startswith("virtfn")]


def test_vfs_appear_with_links_both_ways_and_an_iommu_group_each(qat):
    qat.write(NUM_VFS, "4\n")

    assert qat.tree.text(NUM_VFS) == "4"
    assert len(virtual_functions(qat)) == 4
    assert qat.tree.target_name(f"{PF}/virtfn3") == "0000:6b:00.4"
    assert qat.tree.target_name("/sys/bus/pci/devices/0000:6b:00.4/physfn") == "0000:6b:00.0"
    assert qat.tree.text("/sys/bus/pci/devices/0000:6b:00.4/device") == "0x4941"
    groups = {qat.tree.target_name(f"/sys/bus/pci/devices/0000:6b:00.{n}/iommu_group") for n in range(5)}
    assert len(groups) == 5


def test_vfs_go_without_a_trace(qat):
    before = sorted(qat.tree.names("/sys/bus/pci/devices") + qat.tree.names("/sys/kernel/iommu_groups"))

    qat.write(NUM_VFS, "16")
    qat.write(NUM_VFS, "0")

    after = sorted(qat.tree.names("/sys/bus/pci/devices") + qat.tree.names("/sys/kernel/iommu_groups"))
    assert after == before
    assert virtual_functions(qat) == []


@pytest.mark.parametrize(
    ("value", "number"),
    [("8", errno.EBUSY), ("17", errno.ERANGE), ("-1", errno.EINVAL), ("four", errno.EINVAL), ("70000", errno.EINVAL)],
)
def test_a_count_that_cannot_be_is_refused_and_changes_nothing(qat, value, number):
    qat.write(NUM_VFS, "4")

    with pytest.raises(OSError, check=lambda exc: exc.errno == number):
        qat.write(NUM_VFS, value)

    assert qat.tree.text(NUM_VFS) == "4"
    assert len(virtual_functions(qat)) == 4


def test_writing_the_count_that_is_there_is_no_error(qat):
    qat.write(NUM_VFS, "4")
    qat.write(NUM_VFS, "4")
    assert qat.tree.text(NUM_VFS) == "4"


def test_without_a_driver_no_vfs_are_made(qat):
    qat.write("/sys/bus/pci/drivers/4xxx/unbind", "0000:6b:00.0")

    with pytest.raises(OSError, check=lambda exc: exc.errno == errno.ENOENT):
        qat.write(NUM_VFS, "4")


def test_vfs_go_when_the_driver_lets_the_pf_go(qat):
    qat.write(NUM_VFS, "4")
    qat.write("/sys/bus/pci/drivers/4xxx/unbind", "0000:6b:00.0")
    assert qat.tree.text(NUM_VFS) == "0"
    assert virtual_functions(qat) == []


def test_a_vf_that_a_program_holds_keeps_the_count(qat):
    run(qat, ["modprobe", "vfio-pci"])
    qat.write(NUM_VFS, "2")
    qat.write("/sys/bus/pci/devices/0000:6b:00.2/driver_override", "vfio-pci")
    qat.write("/sys/bus/pci/drivers_probe", "0000:6b:00.2")
    pid = qat.hold("0000:6b:00.2", "qemu-system-x86")

    with pytest.raises(OSError, check=lambda exc: exc.errno == errno.EBUSY):
        qat.write(NUM_VFS, "0")
    assert qat.tree.text("/sys/module/vfio_pci/refcnt") == "1"

    qat.release(pid)
    qat.write(NUM_VFS, "0")
    assert qat.tree.text("/sys/module/vfio_pci/refcnt") == "0"


def test_a_vf_gets_its_native_driver_and_a_net_device(tmp_path):
    nic = boot(nic_1(), tmp_path)
    nic.write("/sys/bus/pci/devices/0000:ca:00.1/sriov_numvfs", "2")

    first = nic.tree.target_name("/sys/bus/pci/devices/0000:ca:00.1/virtfn0")
    assert nic.tree.target_name(f"/sys/bus/pci/devices/{first}/driver") == "iavf"
    assert "ens7f1v0" in nic.tree.names("/sys/class/net")
    assert nic.modules.is_loaded("iavf")


def test_with_autoprobe_off_vfs_stay_unbound_until_an_override_says_who(tmp_path):
    nic = boot(nic_1(), tmp_path)
    run(nic, ["modprobe", "vfio-pci"])
    nic.write("/sys/bus/pci/devices/0000:ca:00.1/sriov_drivers_autoprobe", "0")
    nic.write("/sys/bus/pci/devices/0000:ca:00.1/sriov_numvfs", "1")
    vf = nic.tree.target_name("/sys/bus/pci/devices/0000:ca:00.1/virtfn0")
    assert nic.pci.driver(vf) is None

    nic.write("/sys/bus/pci/drivers_probe", vf)
    assert nic.pci.driver(vf) is None

    nic.write(f"/sys/bus/pci/devices/{vf}/driver_override", "vfio-pci")
    nic.write("/sys/bus/pci/drivers_probe", vf)
    assert nic.pci.driver(vf) == "vfio-pci"
    assert nic.tree.exists(f"/dev/vfio/{nic.tree.target_name(f'/sys/bus/pci/devices/{vf}/iommu_group')}")


def test_no_two_functions_of_a_machine_share_an_address():
    machine = nic_1()
    physical = [function for function in machine.functions if function.sriov]
    virtual = [virtual_function(each, i).address for each in physical for i in range(each.sriov.total_vfs)]
    addresses = [function.address for function in machine.functions] + virtual
    assert len(set(addresses)) == len(addresses) == 7 + 128


def test_another_process_on_the_same_tree_goes_on(qat):
    qat.write(NUM_VFS, "4")
    successor = Kernel(Tree(qat.tree.root))
    with pytest.raises(OSError, check=lambda exc: exc.errno == errno.EBUSY):
        successor.write(NUM_VFS, "8")
    successor.write(NUM_VFS, "0")
    assert virtual_functions(successor) == []
