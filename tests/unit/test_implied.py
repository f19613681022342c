# SPDX-License-Identifier: Apache-2.0
"""What is declared over the API without a policy, as policies: over the fakes."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from cyborg_reconciler.conductor.implied import WithImplied, catalogue_of, name_of, read_implied
from cyborg_reconciler.core.resolve import compile_policies, resolve
from cyborg_reconciler.core.state import ABSENT, Health, Host
from cyborg_reconciler.core.subject import lay_out
from cyborg_reconciler.documents.declared import IMPLIED_PLACE, Declared
from cyborg_reconciler.ports import Event
from cyborg_reconciler.stores.accelerators import Accelerator, Attachment
from cyborg_reconciler.stores.work import HostDriver
from cyborg_reconciler.testing import FakeAccelerators, FakeJournal, FixedDeclarations
from tests.scenarios.story import driver_of, facts_of, policy_of

NOON = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)
ADDRESS = "0000:6b:00.0"
UUID = "8e45a2ea-5364-4b0d-a252-bf8becaa606e"
ROLES = {"install": "a.b.c", "uninstall": "a.b.c"}
QAT = {"name": "qat", "device_type": "CRYPTO", "kernel_module": "qat_4xxx", "roles": ROLES}
EDU = {
    "name": "edu",
    "device_type": "CRYPTO",
    "kernel_module": "edu",
    "version": "1.3",
    "dkms": {"path": "edu", "package": "edu"},
}
DRIVERS = (driver_of(QAT), driver_of(EDU), driver_of({"name": "any", "device_type": "GENERIC"}))
POLICY = policy_of({"name": "qat", "sriov": {"num_vfs": 4}}, 1)
TREE = Declared(policies=(POLICY,), drivers=DRIVERS, digest="d")

CARD = Accelerator(
    uuid=UUID,
    name="card",
    created_at=NOON,
    updated_at=NOON,
    host="compute-7",
    address=ADDRESS,
    vendor_id="8086",
    product_id="4940",
    driver="qat",
)
ATTACHED = replace(CARD, attachment=Attachment("pending", NOON, host="compute-7"))


def declare(work, *, host="compute-7", driver="qat", **more):
    one = HostDriver(**{"host": host, "driver": driver, "state": "present", "declared_at": NOON, **more})
    return work.declare(one, Event(NOON, "DriverInstallAsked", host))


def implied_by(*accelerators, drivers=(), catalogue=TREE):
    work = FakeJournal().work()
    for words in drivers:
        declare(work, **words)
    return read_implied(work, FakeAccelerators(*accelerators), catalogue_of(catalogue))


def desired_by(declared, host="compute-7", **facts):
    """Return what is desired of a host with a QAT card."""
    compiled = compile_policies(declared)
    return resolve(compiled, Host(host), lay_out(facts_of(facts), compiled.catalogue)).fields


def test_a_driver_is_declared_for_just_its_host():
    (located,) = implied_by(drivers=[{"host": "compute-7", "version": "1.2"}])
    assert (located.file, located.document.metadata.name) == (IMPLIED_PLACE, "api.driver.compute-7.qat")
    declared = replace(TREE, policies=(located,))
    path = ("host", "driver", "qat")
    assert desired_by(declared)[(*path, "state")] == "present"
    assert desired_by(declared)[(*path, "version")] == "1.2"
    assert desired_by(declared, host="compute-77") == {}


@pytest.mark.parametrize("host", ["Rack_1*", "[a]", "fe80::1", "h" * 200, "a?"])
def test_a_host_may_be_called_as_no_policy_could_call_it(host):
    (located,) = implied_by(drivers=[{"host": host, "state": "absent"}])
    declared = replace(TREE, policies=(located,))
    assert desired_by(declared, host=host)["host", "driver", "qat", "state"] is ABSENT
    assert desired_by(declared, host=f"{host}x") == {}


def test_what_is_made_ready_for_some_hosts_leaves_out_what_names_others_and_undoes_the_same():
    owned = {"owned": {f"{ADDRESS} sriov num_vfs": 0}, "device": {"vf_devices": [{}] * 4}}
    policies = implied_by(drivers=[{"host": "compute-7"}, {"host": "compute-8"}, {"host": "*"}])
    declared = replace(TREE, policies=policies)
    for host in ("compute-7", "compute-9"):
        whole, part = compile_policies(declared), compile_policies(declared, {host})
        assert len(part.policies) < len(whole.policies)
        subject = lay_out(facts_of(owned), whole.catalogue)
        assert resolve(part, Host(host), subject).fields == resolve(whole, Host(host), subject).fields
    alone = replace(TREE, policies=policies[:1])
    fields = resolve(compile_policies(alone, {"x"}), Host("x"), lay_out(facts_of(owned), {})).fields
    assert fields == {(ADDRESS, "sriov", "num_vfs"): 0}, "there is a policy, and it is not about this host"


def test_names_of_policies_differ_where_hosts_do():
    names = {name_of("driver", host, "qat") for host in ("a_b", "a-b", "A-B", "a.b", "h" * 100, "h" * 101)}
    assert len(names) == 6
    assert all(len(name) <= 63 for name in names)


def test_what_is_built_from_a_source_has_the_version_of_that_source():
    (located,) = implied_by(drivers=[{"driver": "edu", "version": "1.2"}])
    assert located.document.spec.driver.version == "1.3"


def test_a_driver_that_the_catalogue_has_no_more_declares_nothing():
    assert implied_by(drivers=[{"driver": "gone"}]) == ()


def test_an_attachment_to_its_host_binds_the_device_to_its_drivers_module():
    (located,) = implied_by(ATTACHED)
    declared = replace(TREE, policies=(located,))
    assert desired_by(declared)[ADDRESS, "binding", "driver"] == "qat_4xxx"
    other = {"device": {"product_id": "1234"}}
    assert desired_by(declared, **other) == {}, "another device stands there now"


@pytest.mark.parametrize(
    "one",
    [
        CARD,
        replace(CARD, attachment=Attachment("done", NOON, instance_uuid=UUID)),
        replace(ATTACHED, driver="any"),
        replace(ATTACHED, driver=None),
        replace(ATTACHED, parent=UUID),
        replace(ATTACHED, present=False),
        replace(ATTACHED, binding_policy="qat (qat.yml:4)"),
        replace(ATTACHED, address=None),
        replace(ATTACHED, attachment=Attachment("pending", NOON, host="elsewhere")),
        replace(CARD, desired_state="ready", state_policy="qat (qat.yml:4)"),
    ],
)
def test_nothing_is_implied_where_nothing_is_to_be_done_or_a_policy_says_it(one):
    assert implied_by(one) == ()


def test_a_state_that_an_operator_set_is_declared():
    for state in ("ready", "maintenance"):
        (located,) = implied_by(replace(CARD, desired_state=state))
        assert located.document.spec.state == state
        assert located.document.spec.device_selector.addresses == (ADDRESS,)


def test_a_pf_that_is_offered_by_its_vfs_is_wanted_and_bound_to_nothing():
    (located,) = implied_by(replace(ATTACHED, desired_state="maintenance", present=False, health=Health.HEALTHY))
    assert (located.document.spec.state, located.document.spec.binding) == ("maintenance", None)
    gone = replace(ATTACHED, desired_state="maintenance", present=False, health=Health.MISSING)
    assert implied_by(gone) == ()


# ---------------------------------------------------------------------------------------------- together with the tree
def together(tree, *accelerators, drivers=()):
    work = FakeJournal().work()
    for words in drivers:
        declare(work, **words)
    return WithImplied(FixedDeclarations(tree), work, FakeAccelerators(*accelerators)).read()


def test_a_tree_beside_which_nothing_is_declared_stays_as_it_is():
    assert together(TREE) == TREE


def test_what_a_policy_says_wins():
    policy = policy_of({"name": "mine", "priority": 1, "driver": {"name": "qat", "state": "absent"}}, 1)
    declared = together(replace(TREE, policies=(policy,)), drivers=[{"state": "present"}])
    assert desired_by(declared)["host", "driver", "qat", "state"] is ABSENT


def test_the_digest_is_the_trees():
    assert together(TREE, ATTACHED, drivers=[{}]).digest == TREE.digest


def test_what_the_tree_had_set_stays_where_the_tree_has_come_up_empty():
    owned = {"owned": {f"{ADDRESS} sriov num_vfs": 0}, "device": {"vf_devices": [{}] * 4}}
    path = (ADDRESS, "sriov", "num_vfs")
    elsewhere = [{"host": "elsewhere"}]
    assert path not in desired_by(together(Declared(drivers=DRIVERS), drivers=elsewhere), **owned)
    other = policy_of({"name": "other", "device_selector": {"vendor_id": "ffff"}, "sriov": {"num_vfs": 1}}, 1)
    assert desired_by(together(replace(TREE, policies=(other,)), drivers=elsewhere), **owned)[path] == 0
