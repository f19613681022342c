# SPDX-License-Identifier: Apache-2.0
"""Does a device become at boot what was made of it, is nothing else touched, and does that go without a trace?

On simulated hosts, whose kernel answers as hardware does.
"""

import threading

import pytest

from ansible_collections.openstack.cyborg.plugins.module_utils import binding, boot, persistence, sriov
from ansible_collections.openstack.cyborg.plugins.module_utils.host import Host, Lock
from ansible_collections.openstack.cyborg.plugins.module_utils.tree import Tree
from cyborg_reconciler.simulation import SimulatedHosts, qat_1
from tests.integration.state_support import Subject

QAT = "0000:6b:00.0"


@pytest.fixture
def qat(tmp_path):
    with SimulatedHosts(tmp_path, [qat_1()]) as hosts:
        yield Subject(hosts["qat-1"])


def test_what_starts_at_an_event_waits_for_whoever_changes_the_host(qat):
    qat.make(sriov, address=QAT, num_vfs=2)
    with Lock(qat.tree):
        qat.host.write(f"/sys/bus/pci/devices/{QAT}/sriov_numvfs", 0)
        unit = threading.Thread(target=qat.host.run, args=("systemctl", "start", f"cyborg-device@{QAT}.service"))
        unit.start()
        unit.join(1)
        assert qat.read(sriov, address=QAT)["num_vfs"] == 0
    unit.join(30)
    assert qat.read(sriov, address=QAT)["num_vfs"] == 2


def test_a_file_that_was_tampered_with_is_put_right(qat):
    qat.make(sriov, address=QAT, num_vfs=2)
    (qat.host.root / boot.rule_file(QAT)[1:]).unlink()
    assert qat.make(sriov, address=QAT, num_vfs=2).changed
    assert qat.host.exists(boot.rule_file(QAT))


@pytest.mark.parametrize("last", range(1, 5))
def test_a_kill_while_persistence_goes_is_made_good_by_the_next_call(qat, last):
    class KilledError(Exception):
        pass

    class KilledAfterRemoving(Host):
        removed = 0

        def remove_file(self, name):
            there = self.tree.exists(name)
            super().remove_file(name)
            self.removed += there
            if self.removed == last:
                raise KilledError

    qat.make(sriov, address=QAT, num_vfs=2)
    left_over = qat.host.root / (persistence.device_file(QAT)[1:] + boot.LEFT_OVER)
    left_over.write_text("{")
    host = KilledAfterRemoving(Tree(str(qat.host.root)), link=("local", None))
    with pytest.raises(KilledError):
        boot.persist(host, QAT, dict(persistence.NOTHING))
    qat.make(sriov, address=QAT, state="absent")
    assert qat.traces() == set()
    assert not qat.make(sriov, address=QAT, state="absent").changed


def test_what_a_killed_write_left_behind_keeps_nothing_back(qat):
    qat.make(sriov, address=QAT, num_vfs=2)
    (qat.host.root / (persistence.device_file(QAT)[1:] + boot.LEFT_OVER)).write_text("{")
    assert not qat.make(sriov, address=QAT, num_vfs=2).changed
    qat.make(sriov, address=QAT, state="absent")
    assert qat.traces() == set()


def test_the_script_need_not_be_executable(qat):
    qat.make(sriov, address=QAT, num_vfs=2)
    (qat.host.root / boot.SCRIPT_FILE[1:]).chmod(0o644)
    qat.host.reboot()
    assert qat.read(sriov, address=QAT)["num_vfs"] == 2


def test_a_card_that_stands_where_another_stood_stays_as_it_is(qat):
    qat.make(binding, address=QAT, driver="vfio-pci")
    assert 'ATTR{vendor}=="0x8086", ATTR{device}=="0x4940"' in qat.host.read(boot.rule_file(QAT))
    file = qat.host.root / persistence.device_file(QAT)[1:]
    file.write_text(file.read_text().replace("0x4940", "0x4942"))
    qat.host.reboot()
    assert qat.read(binding, address=QAT) == {"driver": "4xxx", "driver_override": None, "boot_driver": None}
    unit = qat.host.run("systemctl", "status", f"cyborg-device@{QAT}.service").stdout
    assert f"{persistence.device_file(QAT)} is for another device: its device was 0x4942 and is 0x4940" in unit
    assert qat.make(binding, address=QAT, state="absent").changed
    assert qat.traces() == set()
