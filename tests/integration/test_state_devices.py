# SPDX-License-Identifier: Apache-2.0
"""Do the state modules make VFs and bindings so, keep them over a reboot, and leave alone what must be left alone?

On simulated hosts, whose kernel answers as hardware does.
"""

import errno
from dataclasses import replace

import pytest

from ansible_collections.openstack.cyborg.plugins.module_utils import binding, sriov, unfinished
from ansible_collections.openstack.cyborg.plugins.module_utils.apply import Request, apply
from ansible_collections.openstack.cyborg.plugins.module_utils.host import Failure, Host
from ansible_collections.openstack.cyborg.plugins.module_utils.pci import read_function
from ansible_collections.openstack.cyborg.plugins.module_utils.tree import Tree
from cyborg_reconciler.simulation import Function, Module, SimulatedHosts, gpu_1, nic_1, qat_1
from tests.integration.state_support import Subject

QAT, NIC, DISK, VIRTIO = "0000:6b:00.0", "0000:01:00.0", "0000:02:00.0", "0000:05:00.0"
NIC_PF = "0000:ca:00.1"
AUTOPROBE = f"/sys/bus/pci/devices/{QAT}/sriov_drivers_autoprobe"
GPU, GPU_AUDIO = "0000:3b:00.0", "0000:3b:00.1"
VFIO_4 = [{"vfs": "0-3", "driver": "vfio-pci"}]

#: A driver of VFIO for one device. Source: Linux, drivers/vfio/pci/nvgrace-gpu.
VARIANT = Module(
    name="nvgrace_gpu_vfio_pci",
    path="kernel/drivers/vfio/pci/nvgrace-gpu/nvgrace-gpu-vfio-pci.ko",
    aliases=("vfio_pci:v000010DEd000020B0sv*sd*bc*sc*i*",),
    depends=("vfio_pci_core", "vfio", "irqbypass"),
    driver="nvgrace-gpu-vfio-pci",
    makes=("vfio",),
)


@pytest.fixture
def qat(tmp_path):
    with SimulatedHosts(tmp_path, [qat_1()]) as hosts:
        yield Subject(hosts["qat-1"])


@pytest.fixture
def gpu(tmp_path):
    with SimulatedHosts(tmp_path, [gpu_1()]) as hosts:
        yield Subject(hosts["gpu-1"])


@pytest.fixture
def nic(tmp_path):
    with SimulatedHosts(tmp_path, [nic_1()]) as hosts:
        yield Subject(hosts["nic-1"])


@pytest.fixture
def virtio(tmp_path):
    """A host with a virtio crypto device."""
    crypto = Function(address=VIRTIO, vendor_id="1af4", product_id="1054", class_id="108000", virtio=20)
    machine = qat_1("rhel-1")
    machine = replace(
        machine,
        functions=(*machine.functions, crypto),
        early_modules=(*machine.early_modules, "virtio_pci"),
    )
    with SimulatedHosts(tmp_path, [machine]) as hosts:
        yield Subject(hosts["rhel-1"])


def quicker(subject, driver):
    """Return a host with a udev that binds *driver* at the last moment it can, and a list of what came of each try."""
    tries = []

    class Quicker(Tree):
        def write_attribute(self, name, value):
            if name.endswith("driver_override") and value == "vfio-pci":
                try:
                    super().write_attribute(f"/sys/bus/pci/drivers/{driver}/bind", name.split("/")[-2])
                except OSError as exc:
                    tries.append(exc.strerror)
                else:
                    tries.append("bound")
            super().write_attribute(name, value)

    return Host(Quicker(str(subject.host.root)), link=("local", None)), tries


class TestVfs:
    def test_four_vfs_appear_survive_a_reboot_and_go_without_a_trace(self, qat):
        before = qat.traces()
        made = qat.make(sriov, address=QAT, num_vfs=4, vf_driver="vfio-pci")
        assert made.before == {"num_vfs": 0, "vf_drivers": [], "boot_num_vfs": None, "boot_vf_drivers": []}
        assert made.after == {"num_vfs": 4, "vf_drivers": VFIO_4, "boot_num_vfs": 4, "boot_vf_drivers": VFIO_4}
        assert qat.host.read(f"/sys/bus/pci/devices/{QAT}/sriov_drivers_autoprobe") == "1"
        qat.host.reboot()
        assert qat.read(sriov, address=QAT) == made.after
        assert not qat.make(sriov, address=QAT, num_vfs=4, vf_driver="vfio-pci").changed
        gone = qat.make(sriov, address=QAT, state="absent")
        assert gone.after == made.before
        assert qat.traces() == before
        assert not qat.make(sriov, address=QAT, state="absent").changed
        qat.host.reboot()
        assert qat.read(sriov, address=QAT) == made.before

    def test_check_mode_foretells_what_then_happens(self, qat):
        args = {"address": QAT, "num_vfs": 3, "groups": [{"vfs": "1", "driver": "vfio-pci"}]}
        foretold = qat.make(sriov, check=True, **args)
        assert qat.read(sriov, address=QAT) == foretold.before
        assert qat.make(sriov, **args).after == foretold.after

    def test_another_count_takes_the_word_replace_and_goes_through_none(self, qat):
        qat.make(sriov, address=QAT, num_vfs=4)
        refused = qat.refusal(sriov, address=QAT, num_vfs=6)
        assert refused.reason == "ManualActionRequired"
        assert "set replace to allow that" in refused.message
        assert qat.make(sriov, address=QAT, num_vfs=6, replace=True).after["num_vfs"] == 6

    def test_vfs_in_use_are_refused_with_who_uses_them(self, qat):
        qat.make(sriov, address=QAT, num_vfs=4, vf_driver="vfio-pci")
        pid = qat.host.hold("0000:6b:00.3")
        for args in ({"num_vfs": 2, "replace": True}, {"state": "absent"}, {"num_vfs": 4, "vf_driver": "none"}):
            refused = qat.refusal(sriov, address=QAT, **args)
            assert refused.reason == "DeviceInUse"
            assert refused.message.startswith(f"VF 2 of {QAT} is held by qemu-system-x86 (pid {pid}) on /dev/vfio/")
            assert refused.holders[0]["pid"] == pid
        assert qat.read(sriov, address=QAT)["num_vfs"] == 4
        qat.host.release(pid)
        assert qat.make(sriov, address=QAT, num_vfs=2, replace=True).after["num_vfs"] == 2

    def test_more_than_the_device_has_is_refused_in_the_words_of_the_house(self, qat):
        refused = qat.refusal(sriov, address=QAT, num_vfs=99)
        assert (refused.reason, refused.message) == (
            "Unsupported",
            f"{QAT}: sriov_numvfs: 99 exceeds the 16 that the device supports",
        )

    def test_a_device_without_sriov_is_refused(self, qat):
        assert qat.refusal(sriov, address=DISK, num_vfs=1).reason == "Unsupported"

    def test_without_its_driver_a_pf_makes_no_vfs(self, qat):
        qat.make(binding, address=QAT, driver="none")
        assert "it is the PF's driver that makes VFs" in qat.refusal(sriov, address=QAT, num_vfs=1).message

    def test_a_driver_that_is_not_there_leaves_its_name_and_no_held_off_probing(self, qat):
        with pytest.raises(Failure, match="there is no driver nosuch"):
            qat.make(sriov, address=QAT, num_vfs=2, vf_driver="nosuch")
        assert qat.host.read(f"/sys/bus/pci/devices/{QAT}/sriov_drivers_autoprobe") == "1"

    def test_ranges_of_vfs_get_their_own_drivers(self, qat):
        groups = [{"vfs": "0-1", "driver": "vfio-pci"}, {"vfs": "2", "driver": "none"}]
        made = qat.make(sriov, address=QAT, num_vfs=4, groups=groups)
        assert made.after["vf_drivers"] == [{"vfs": "0-1", "driver": "vfio-pci"}]
        qat.host.reboot()
        assert qat.read(sriov, address=QAT) == made.after

    def test_a_group_beyond_the_count_is_refused(self, qat):
        with pytest.raises(ValueError, match="groups name VF 4, and there are 4"):
            qat.make(sriov, address=QAT, num_vfs=4, groups=[{"vfs": "3-4", "driver": "vfio-pci"}])

    @pytest.mark.parametrize(("vfs", "why"), [("0..3", "0..3 is no range of VFs"), ("1-2", "VF 2 is given twice")])
    def test_a_group_that_cannot_be_is_told_of_with_device_and_field(self, qat, vfs, why):
        groups = [{"vfs": "2", "driver": "none"}, {"vfs": vfs, "driver": "vfio-pci"}]
        with pytest.raises(ValueError, match=rf"{QAT}: groups: vfs: {why}"):
            qat.make(sriov, address=QAT, num_vfs=4, groups=groups)

    def test_what_is_not_to_persist_does_not(self, qat):
        qat.make(sriov, address=QAT, num_vfs=2)
        assert qat.make(sriov, address=QAT, num_vfs=2, persist=False).after["boot_num_vfs"] is None
        qat.host.reboot()
        assert qat.read(sriov, address=QAT)["num_vfs"] == 0

    def test_where_there_is_no_room_for_more_vfs_those_that_were_there_come_back_as_they_were(self, nic):
        class Full(Tree):
            def write_attribute(self, name, value):
                if name.endswith("sriov_numvfs") and value == "8":
                    raise OSError(errno.ENOMEM, "Cannot allocate memory", name)
                super().write_attribute(name, value)

        nic.host.run("modprobe", "iavf")
        groups = [{"vfs": "0-1", "driver": "vfio-pci"}, {"vfs": "3", "driver": "none"}]
        before = nic.make(sriov, address=NIC_PF, num_vfs=4, groups=groups).after
        assert before["vf_drivers"] == [{"vfs": "0-1", "driver": "vfio-pci"}, {"vfs": "2", "driver": "iavf"}]
        given = {name: option.get("default") for name, option in sriov.ARGUMENTS.items()}
        given |= {"address": NIC_PF, "num_vfs": 8, "vf_driver": "vfio-pci", "replace": True}
        with pytest.raises(Failure, match=r"ENOMEM\): no room for the VFs"):
            sriov.ensure(Host(Full(str(nic.host.root)), link=("local", None)), given)
        assert nic.read(sriov, address=NIC_PF) == before
        assert nic.host.read(f"/sys/bus/pci/devices/{NIC_PF}/sriov_drivers_autoprobe") == "1"

    def test_a_native_driver_that_udev_loads_meanwhile_gets_no_vf(self, nic):
        nic.host.run("modprobe", "iavf")
        host, tries = quicker(nic, "iavf")
        given = {name: option.get("default") for name, option in sriov.ARGUMENTS.items()}
        given |= {"address": NIC_PF, "num_vfs": 4, "vf_driver": "vfio-pci"}
        assert sriov.ensure(host, given).after["vf_drivers"] == VFIO_4
        assert tries == ["No such device"] * 4

    def test_a_kill_while_probing_is_held_off_is_made_good_by_the_next_change(self, qat):
        class KilledError(Exception):
            pass

        class KilledWhileWriting(Tree):
            def write_attribute(self, name, value):
                if name.endswith("sriov_numvfs"):
                    # What a kill leaves behind: nothing after this write happens.
                    raise KilledError
                if name.endswith("autoprobe") and value == "1":
                    raise KilledError
                super().write_attribute(name, value)

        given = {name: option.get("default") for name, option in sriov.ARGUMENTS.items()}
        given |= {"address": QAT, "num_vfs": 2, "vf_driver": "vfio-pci"}
        with pytest.raises(KilledError):
            sriov.ensure(Host(KilledWhileWriting(str(qat.host.root)), link=("local", None)), given)
        assert qat.host.read(AUTOPROBE) == "0"
        assert read_function(Tree(str(qat.host.root)), QAT)["vf_autoprobe"] is False
        qat.make(sriov, address=QAT, num_vfs=2, vf_driver="vfio-pci")
        assert qat.host.read(AUTOPROBE) == "1"
        assert read_function(Tree(str(qat.host.root)), QAT)["vf_autoprobe"] is True

    def test_a_kill_while_probing_is_held_off_is_made_good_by_a_change_of_something_else(self, qat):
        qat.host.write(AUTOPROBE, "0")
        unfinished.restore_all(Host(Tree(str(qat.host.root))))
        assert qat.host.read(AUTOPROBE) == "0", "it is not ours"
        qat.host.write(AUTOPROBE, "1")
        held_off = unfinished.Attribute(Host(Tree(str(qat.host.root))), AUTOPROBE, "0", QAT)
        held_off.__enter__()  # it is killed before it leaves the block
        assert qat.host.read(AUTOPROBE) == "0"
        nothing = {"steps": [], "own": [], "release": [], "controller_id": "c", "fencing_token": 1}
        assert apply(Tree(str(qat.host.root)), Request(nothing, {}, None), check=False)[0]["status"] == "applied"
        assert qat.host.read(AUTOPROBE) == "1"
        assert unfinished.read_unfinished(Tree(str(qat.host.root)))["attributes"] == {}


class TestBinding:
    def test_vfio_takes_the_whole_group_and_gives_it_back(self, gpu):
        made = gpu.make(binding, address=GPU, driver="vfio-pci")
        assert made.after == {"driver": "vfio-pci", "driver_override": "vfio-pci", "boot_driver": "vfio-pci"}
        assert gpu.read(binding, address=GPU_AUDIO)["driver"] == "vfio-pci"
        gpu.host.reboot()
        assert gpu.read(binding, address=GPU) == made.after
        assert gpu.read(binding, address=GPU_AUDIO)["driver"] == "vfio-pci"
        assert not gpu.make(binding, address=GPU, driver="vfio-pci").changed
        assert gpu.make(binding, address=GPU, state="absent").after == made.before
        assert gpu.read(binding, address=GPU_AUDIO)["driver"] == "snd_hda_intel"
        gpu.host.reboot()
        assert gpu.read(binding, address=GPU) == made.before
        assert gpu.traces() == set()

    def test_a_member_of_the_group_from_which_somebody_keeps_drivers_is_left_alone(self, gpu):
        gpu.make(binding, address=GPU_AUDIO, driver="none", persist=False)
        before = gpu.read(binding, address=GPU_AUDIO)
        assert (before["driver"], before["driver_override"]) == (None, "none")
        gpu.make(binding, address=GPU, driver="vfio-pci")
        assert gpu.read(binding, address=GPU_AUDIO) == before
        assert not gpu.make(binding, address=GPU, driver="vfio-pci").changed
        gpu.make(binding, address=GPU, state="absent")
        assert gpu.read(binding, address=GPU_AUDIO) == before

    def test_a_native_driver_that_udev_binds_meanwhile_is_unbound_again(self, nic):
        nic.host.write("/sys/bus/pci/drivers/ice/unbind", NIC_PF)
        host, tries = quicker(nic, "ice")
        given = {name: option.get("default") for name, option in binding.ARGUMENTS.items()}
        given |= {"address": NIC_PF, "driver": "vfio-pci", "persist": False}
        made = binding.ensure(host, given)
        assert (made.before["driver"], made.after["driver"]) == (None, "vfio-pci")
        assert tries == ["bound"]

    def test_vfio_takes_one_function_alone_where_it_is_told_to(self, gpu):
        made = gpu.make(binding, address=GPU, driver="vfio-pci", persist=False, alone=True)
        assert made.after == {"driver": "vfio-pci", "driver_override": "vfio-pci", "boot_driver": None}
        assert gpu.read(binding, address=GPU_AUDIO)["driver"] == "snd_hda_intel"
        assert not gpu.make(binding, address=GPU, driver="vfio-pci", persist=False, alone=True).changed

    def test_a_member_of_the_group_that_is_in_use_is_refused(self, gpu):
        pid = gpu.host.hold(GPU, "Xorg")
        refused = gpu.refusal(binding, address=GPU_AUDIO, driver="vfio-pci")
        assert (refused.reason, refused.holders[0]["pid"]) == ("DeviceInUse", pid)
        assert gpu.read(binding, address=GPU_AUDIO)["driver"] == "snd_hda_intel"

    @pytest.mark.parametrize(("address", "carried"), [(NIC, "default route"), (DISK, "root disk")])
    def test_what_the_system_hangs_on_is_refused(self, qat, address, carried):
        refused = qat.refusal(binding, address=address, driver="vfio-pci")
        assert refused.reason == "ProtectedDevice"
        assert f"it carries the {carried}" in refused.message

    def test_a_pf_with_vfs_keeps_its_driver(self, qat):
        qat.make(sriov, address=QAT, num_vfs=2)
        assert qat.refusal(binding, address=QAT, driver="vfio-pci").reason == "DeviceInUse"

    def test_no_driver_at_all_survives_a_reboot(self, qat):
        made = qat.make(binding, address=QAT, driver="none")
        assert made.after == {"driver": None, "driver_override": "none", "boot_driver": "none"}
        qat.host.reboot()
        assert qat.read(binding, address=QAT) == made.after
        assert qat.make(binding, address=QAT, state="absent").after["driver"] == "4xxx"

    def test_a_device_that_has_no_driver_yet_is_kept_from_the_next_one(self, qat):
        qat.host.write("/sys/bus/pci/drivers/4xxx/unbind", QAT)
        foretold = qat.make(binding, check=True, address=QAT, driver="none")
        made = qat.make(binding, address=QAT, driver="none")
        assert made.after == foretold.after == {"driver": None, "driver_override": "none", "boot_driver": "none"}
        qat.host.write("/sys/bus/pci/drivers_probe", QAT)
        assert qat.read(binding, address=QAT) == made.after
        assert not qat.make(binding, address=QAT, driver="none").changed

    def test_a_driver_of_vfio_that_knows_one_device_takes_the_whole_group_too(self, tmp_path):
        machine = gpu_1()
        with SimulatedHosts(tmp_path, [replace(machine, modules=(*machine.modules, VARIANT))]) as hosts:
            gpu = Subject(hosts["gpu-1"])
            made = gpu.make(binding, address=GPU, driver=VARIANT.driver)
            assert made.after["driver"] == VARIANT.driver
            assert gpu.read(binding, address=GPU_AUDIO)["driver"] == "vfio-pci"
            assert gpu.make(binding, address=GPU_AUDIO, driver="vfio-pci").after["boot_driver"] == "vfio-pci"
            assert gpu.read(binding, address=GPU) == made.after
            gpu.make(binding, address=GPU_AUDIO, driver="vfio-pci", persist=False)
            gpu.host.reboot()
            assert gpu.read(binding, address=GPU) == made.after
            assert gpu.read(binding, address=GPU_AUDIO)["driver"] == "vfio-pci"
            gpu.make(binding, address=GPU, state="absent")
            assert gpu.read(binding, address=GPU) == made.before
            assert gpu.read(binding, address=GPU_AUDIO)["driver"] == "snd_hda_intel"

    @pytest.mark.parametrize("driver", ["vfio-pci", "nvgrace-gpu-vfio-pci", "mlx5_vfio_pci"])
    def test_without_an_iommu_no_driver_of_vfio_is_bound(self, tmp_path, driver):
        with SimulatedHosts(tmp_path, [replace(qat_1(), iommu="absent")]) as hosts:
            qat = Subject(hosts["qat-1"])
            assert qat.refusal(binding, address=QAT, driver=driver).reason == "KernelUnsupported"
            assert qat.refusal(sriov, address=QAT, num_vfs=1, vf_driver=driver).reason == "KernelUnsupported"

    @pytest.mark.parametrize("written", ["driver_override", "vfio-pci/unbind", "drivers_probe"])
    def test_a_kill_while_it_goes_back_is_made_good_by_the_next_call(self, gpu, written):
        before = gpu.make(binding, address=GPU, driver="vfio-pci").before

        class KilledError(Exception):
            pass

        class KilledAfterWriting(Tree):
            def write_attribute(self, name, value):
                super().write_attribute(name, value)
                if name.endswith(written):
                    raise KilledError

        given = {"address": GPU, "state": "absent", "driver": None, "persist": True}
        with pytest.raises(KilledError):
            binding.ensure(Host(KilledAfterWriting(str(gpu.host.root)), link=("local", None)), given)
        assert gpu.make(binding, check=True, address=GPU, state="absent").changed
        assert gpu.make(binding, address=GPU, state="absent").after == before
        assert gpu.read(binding, address=GPU_AUDIO)["driver"] == "snd_hda_intel"
        assert not gpu.make(binding, address=GPU, state="absent").changed
        assert not gpu.host.exists(unfinished.RECORD)

    def test_a_driver_that_does_not_take_the_device_leaves_it_with_its_own(self, qat):
        (qat.host.root / "sys/bus/pci/drivers/picky").mkdir()
        with pytest.raises(Failure, match=r"picky did not take the device, which is with 4xxx again"):
            qat.make(binding, address=QAT, driver="picky")
        assert qat.read(binding, address=QAT) == {"driver": "4xxx", "driver_override": None, "boot_driver": None}

    def test_a_driver_is_found_by_the_name_of_its_module_also_before_that_is_loaded(self, qat):
        assert not qat.make(binding, address=QAT, driver="qat_4xxx", persist=False).changed, "it is with it"
        own = qat.make(binding, address=QAT, driver="vfio-pci").before
        qat.host.run("rmmod", "qat_4xxx")
        made = qat.make(binding, address=QAT, driver="qat_4xxx")
        assert made.after == {"driver": "4xxx", "driver_override": "4xxx", "boot_driver": "qat_4xxx"}
        assert not qat.make(binding, address=QAT, driver="qat_4xxx").changed
        qat.host.reboot()
        assert qat.read(binding, address=QAT) == made.after
        assert qat.make(binding, address=QAT, state="absent").after == own

    def test_a_module_with_several_drivers_is_not_guessed_about(self, qat):
        (qat.host.root / "sys/module/qat_4xxx/drivers/pci:401xx").mkdir()
        with pytest.raises(Failure, match="qat_4xxx has the drivers 401xx and 4xxx: say which of them"):
            qat.make(binding, address=QAT, driver="qat_4xxx")

    @pytest.mark.parametrize("address", ["6b:00.0", "0000:6B:00.0", "0000:6b:00.0\n", "../../0000:6b:00.0"])
    def test_an_address_is_written_in_one_way(self, qat, address):
        with pytest.raises(ValueError, match="no PCI address"):
            qat.make(binding, address=address, driver="vfio-pci")

    def test_a_device_that_is_not_there_is_named(self, qat):
        with pytest.raises(Failure, match=r"0000:7f:00\.0: there is no such device"):
            qat.make(binding, address="0000:7f:00.0", driver="vfio-pci")


class TestVirtio:
    def test_it_is_unbound_and_bound_back_with_the_driver_behind_it(self, virtio):
        made = virtio.make(binding, address=VIRTIO, driver="none")
        assert (made.before["driver"], made.before["function_driver"]) == ("virtio-pci", "virtio_crypto")
        assert (made.after["driver"], made.after["function_driver"]) == (None, None)
        assert virtio.make(binding, address=VIRTIO, state="absent").after == made.before

    def test_its_real_driver_can_be_named_and_is_bound_at_boot(self, virtio):
        virtio.make(binding, address=VIRTIO, driver="vfio-pci")
        made = virtio.make(binding, address=VIRTIO, driver="virtio_crypto")
        assert (made.after["driver"], made.after["function_driver"]) == ("virtio-pci", "virtio_crypto")
        virtio.host.reboot()
        assert virtio.read(binding, address=VIRTIO) == made.after
        assert not virtio.make(binding, address=VIRTIO, driver="virtio_crypto").changed
