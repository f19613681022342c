# SPDX-License-Identifier: Apache-2.0
"""Laws that hold for whatever is declared, observed and owned."""

from collections.abc import Mapping
from dataclasses import replace as changed
from datetime import UTC, datetime
from random import Random
from typing import Any

import msgspec
from hypothesis import assume, given
from hypothesis import strategies as st

from cyborg_reconciler.core.diff import blind_spots, diff
from cyborg_reconciler.core.interpret import interpret
from cyborg_reconciler.core.plan import Terms, make_plan, to_document
from cyborg_reconciler.core.resolve import compile_policies, resolve
from cyborg_reconciler.core.state import HOST, Disruption, FieldPath, History, Plan, Reason, Value
from cyborg_reconciler.core.state import Host as InventoryHost
from cyborg_reconciler.core.subject import lay_out, matches
from cyborg_reconciler.core.verdict import judge
from cyborg_reconciler.documents.declared import Declared
from cyborg_reconciler.documents.facts import Facts, Holder, OwnedField, Ownership, Protection, Unknown
from cyborg_reconciler.documents.pool import Reboot
from tests.properties.fleet import NOTHING, PFS, PLAIN, declarations, hosts, policy, vf_address
from tests.properties.simulator import Host, known

NOW = datetime(2026, 11, 1, 12, 0, tzinfo=UTC)
US = "us"
COMPUTE = InventoryHost("compute-1", frozenset({"crypto"}))
REBOOT = Reboot(allowed=True, max_attempts=10)
UNTOUCHED = History()

#: As many passes as `reconcile.converge` makes, and one to see that there is nothing left.
PASSES = 5

Rows = tuple[tuple[str | int | None, ...], ...]

#: Records of ownership: target, feature, field, value before.
OWNED: st.SearchStrategy[Rows] = st.lists(
    st.sampled_from(
        [
            *((pf, "sriov", "num_vfs", 0) for pf in PFS),
            *((pf, "sriov", "boot", "num_vfs", None) for pf in PFS),
            *((pf, "sriov", "vf_driver", "0-1", None) for pf in PFS),
            *((pf, "sriov", "boot", "vf_driver", "0-3", None) for pf in PFS),
            *((address, "binding", "driver", "vfio-pci") for address in (*PLAIN, PFS[2])),
            (PLAIN[1], "binding", "boot", "driver", None),
            (PFS[1], "sriov", "boot", "num_vfs", "many"),
            (HOST, "sriov", "num_vfs", 2),
            (PLAIN[0], "kernel_args", "iommu", None),
            (HOST, "kernel_args", "boot", "quiet", True),
            (HOST, "kernel_args", "iommu", None),
            (HOST, "kernel_modules", "load", "edu", None),
            (HOST, "kernel_modules", "boot", "load", "nouveau", None),
            (HOST, "kernel_modules", "blacklist", "vfio_pci", None),
            (HOST, "kernel_modules", "options", "qat", "rings", "2"),
            (HOST, "driver", "edu", "state", "not loaded"),
            (HOST, "driver", "qat", "state", None),
        ]
    ),
    unique=True,
    max_size=6,
).map(tuple)


#: Some functions, PFs, VFs and others.
ADDRESSES = st.frozensets(st.sampled_from([*PFS, *PLAIN, *(vf_address(pf, 0) for pf in PFS)]), min_size=3)


def plan_for(declared: Declared, facts: Facts, *, reboot: Reboot = REBOOT, history: History = UNTOUCHED) -> Plan:
    compiled = compile_policies(declared)
    subject = lay_out(facts, compiled.catalogue)
    return make_plan(COMPUTE.name, resolve(compiled, COMPUTE, subject), subject, Terms(US, reboot, history, NOW, NOW))


def desired_of(declared: Declared, facts: Facts) -> Mapping[FieldPath, Value]:
    compiled = compile_policies(declared)
    return resolve(compiled, COMPUTE, lay_out(facts, compiled.catalogue)).fields


def owned_by_us(facts: Facts, rows: Rows) -> Facts:
    fields = [OwnedField(path=[str(part) for part in row[:-1]], before=row[-1], set=None) for row in rows]
    return msgspec.structs.replace(facts, ownership=Ownership(controller_id=US, fields=fields))


def marked(facts: Facts, addresses: frozenset[str], **changes: Any) -> Facts:
    """Return *facts* with other facts of the devices at *addresses*."""
    devices = [msgspec.structs.replace(one, **changes) if one.address in addresses else one for one in facts.devices]
    return msgspec.structs.replace(facts, devices=devices)


def converge(declared: Declared, host: Host) -> Plan:
    """Apply plans until one has no actions, and return that one."""
    compiled = compile_policies(declared)
    boots: tuple[str, ...] = ()
    for _ in range(PASSES):
        subject = lay_out(host.facts, compiled.catalogue)
        terms = Terms(US, REBOOT, History(boots=boots), NOW, NOW)
        desired = resolve(compiled, COMPUTE, subject)
        plan = make_plan(COMPUTE.name, desired, subject, terms)
        if not plan.actions:
            return plan
        if plan.reboots:
            boots = (*boots, host.facts.kernel.boot_id)
        host.apply(to_document(plan, desired, subject, REBOOT), US)
    words = [(action.id, action.changes) for action in plan.actions]
    raise AssertionError(f"after {PASSES} passes there is still something to do: {words}")


@given(declarations(), hosts(unknowns=True, busy=True), OWNED)
def test_nothing_differs_from_itself(declared: Declared, facts: Facts, rows: Rows) -> None:
    compiled = compile_policies(declared)
    subject = lay_out(owned_by_us(facts, rows), compiled.catalogue)
    desired = resolve(compiled, COMPUTE, subject)
    observed = interpret(subject, desired.fields)
    assert diff(desired.fields, desired.fields) == ()
    assert diff(observed, observed) == ()
    assert observed.keys() == desired.fields.keys()
    assert {change.path for change in diff(desired.fields, observed)}.isdisjoint(
        path for path, _ in blind_spots(desired.fields, observed)
    )


@given(declarations(agreeing=True), hosts())
def test_what_a_plan_does_makes_the_host_as_desired(declared: Declared, facts: Facts) -> None:
    host = Host(facts)
    last = converge(declared, host)
    assert not last.blind_spots
    assert judge(last).verified or last.waits


@given(declarations(agreeing=True), hosts(busy=True), ADDRESSES)
def test_what_is_in_use_or_protected_stays_while_all_else_is_done(
    declared: Declared, facts: Facts, held: frozenset[str]
) -> None:
    facts = marked(facts, held, holders=[Holder(kind="process", name="qemu", pid=4711)])
    host = Host(facts)  # it asserts that nothing in use or protected is touched
    last = converge(declared, host)
    before = {device.address: device for device in facts.devices}
    for device in host.facts.devices:
        was = before.get(device.address)
        if was is not None and (was.protected or was.holders):
            assert was.driver in {None, device.driver}
            assert device.num_vfs == was.num_vfs or not was.protected
    assert judge(last).verified or last.waits


@given(declarations(agreeing=True), hosts())
def test_what_is_no_longer_declared_goes_back_to_what_it_was(declared: Declared, facts: Facts) -> None:
    host = Host(facts)
    converge(declared, host)
    last = converge(NOTHING, host)
    assume(not last.waits)
    there = {HOST, *(device.address for device in host.facts.devices)}
    assert there.isdisjoint(path[0] for path in lay_out(host.facts, {}).owned)
    assert host.facts.kernel.args_next_boot == facts.kernel.args_next_boot or not host.ours
    before = {device.address: device for device in facts.devices}
    for device in host.facts.devices:
        was = before.get(device.address)
        if was is None:
            continue
        assert device.num_vfs == was.num_vfs
        assert (device.boot_num_vfs, device.boot_vf_drivers, device.boot_driver) == (None, [], None)
        assert device.driver_override in {None, was.driver_override}
        assert device.driver == was.driver or device.driver_override is None
    drivers, first = host.facts.drivers, facts.drivers
    assert {one.name: one.loaded for one in drivers.modules} == {one.name: one.loaded for one in first.modules}
    assert sorted(known(drivers.blacklisted)) == sorted(known(first.blacklisted))
    assert sorted(known(drivers.load)) == sorted(known(first.load))


@given(declarations(agreeing=True), hosts(), ADDRESSES)
def test_what_was_set_on_a_host_for_a_device_stays_when_the_device_vanishes(
    declared: Declared, facts: Facts, gone: frozenset[str]
) -> None:
    host = Host(facts)
    converge(declared, host)
    before = {path: value for path, value in desired_of(declared, host.facts).items() if path[0] == HOST}
    left = [one for one in host.facts.devices if gone.isdisjoint({one.address, one.physfn})]
    plan = plan_for(declared, msgspec.structs.replace(host.facts, devices=left))
    undone = {change.path for action in plan.actions for change in action.changes if not change.declared_by.policy}
    released = {tuple(path) for action in plan.actions for path in getattr(action.call, "release", [])}
    assert before.keys().isdisjoint(undone | released)


@given(declarations(agreeing=True), declarations(agreeing=True), hosts())
def test_from_one_declaration_to_another_is_a_finite_way(one: Declared, other: Declared, facts: Facts) -> None:
    host = Host(facts)
    converge(one, host)
    last = converge(other, host)
    assert judge(last).verified or last.waits


@given(declarations(), hosts(unknowns=True, busy=True), OWNED)
def test_what_is_unknown_yields_no_action(declared: Declared, facts: Facts, rows: Rows) -> None:
    plan = plan_for(declared, owned_by_us(facts, rows))
    by_device = {action.target for action in plan.actions if action.target != HOST}
    by_feature = {action.feature for action in plan.actions if action.target == HOST}
    for path, _ in plan.blind_spots:
        assert path[0] not in by_device
        assert path[0] != HOST or path[1] not in by_feature
    for device in facts.devices:
        if isinstance(device.protected, Unknown):
            assert device.address not in by_device
    assert not plan.blind_spots or not judge(plan).verified


@given(declarations(agreeing=True), hosts(), OWNED, ADDRESSES)
def test_a_protected_device_is_never_acted_on(
    declared: Declared, facts: Facts, rows: Rows, protected: frozenset[str]
) -> None:
    facts = marked(facts, protected, protected=[Protection(reason="root_disk")])
    plan = plan_for(declared, owned_by_us(facts, rows))
    assert protected.isdisjoint(action.target for action in plan.actions)


@given(declarations(), hosts(unknowns=True, busy=True), OWNED)
def test_what_nobody_of_us_set_is_never_undone(declared: Declared, facts: Facts, rows: Rows) -> None:
    facts = owned_by_us(facts, rows)
    owned = set(lay_out(facts, {}).owned)
    plan = plan_for(declared, facts)
    for action in plan.actions:
        for change in action.changes:
            covering = {path for path in owned if path[:-1] == change.path[:-1]}
            assert change.declared_by.policy or change.path in owned or covering
        for path in getattr(action.call, "release", []):
            assert tuple(path) in owned


@given(declarations(), hosts(unknowns=True, busy=True), OWNED)
def test_a_device_in_maintenance_is_never_acted_on(declared: Declared, facts: Facts, rows: Rows) -> None:
    compiled = compile_policies(declared)
    subject = lay_out(owned_by_us(facts, rows), compiled.catalogue)
    desired = resolve(compiled, COMPUTE, subject)
    kept = desired.lifecycle.in_maintenance
    kept_with_vfs = {a for a, device in subject.devices.items() if a in kept or device.physfn in kept}
    plan = make_plan(COMPUTE.name, desired, subject, Terms(US, REBOOT, UNTOUCHED, NOW, NOW))
    assert kept_with_vfs == kept.keys()
    assert kept.keys().isdisjoint(action.target for action in plan.actions)
    assert not (kept and plan.reboots)


@given(declarations(agreeing=True), declarations(agreeing=True), hosts(busy=True))
def test_what_is_in_maintenance_stays_as_it_is_while_all_else_is_done(
    one: Declared, other: Declared, facts: Facts
) -> None:
    host = Host(facts)
    converge(one, host)
    compiled = compile_policies(other)
    subject = lay_out(host.facts, compiled.catalogue)
    kept = resolve(compiled, COMPUTE, subject).lifecycle.in_maintenance
    last = converge(other, host)
    after = {device.address: device for device in host.facts.devices}
    assert {address: after[address] for address in kept} == {address: subject.devices[address] for address in kept}
    assert judge(last).verified or last.waits


@given(declarations(), hosts(unknowns=True, busy=True))
def test_no_driver_is_set_up_for_inactive_devices_alone(declared: Declared, facts: Facts) -> None:
    selector = {"vendor_id": ["8086", "10de", "1234"]}
    last = policy("last", {"priority": 1000, "device_selector": selector, "state": "inactive"})
    plan = plan_for(changed(declared, policies=(*declared.policies, last)), facts)
    rules = {one.document.metadata.name: one.document.spec.match for one in declared.drivers}
    calls = [action.call for action in plan.actions if action.feature == "driver"]
    for call in calls:
        args = getattr(call, "args", {})
        assert args.get("state") != "present" or not any(matches(one, rules[args["name"]]) for one in facts.devices)


@given(hosts(unknowns=True, busy=True), OWNED)
def test_a_source_without_a_policy_undoes_nothing(facts: Facts, rows: Rows) -> None:
    plan = plan_for(Declared(), owned_by_us(facts, rows))
    assert not plan.actions
    assert not plan.waits


@given(declarations(), hosts(unknowns=True, busy=True), OWNED, st.randoms(use_true_random=False))
def test_the_same_is_planned_whatever_the_order_of_the_policies(
    declared: Declared, facts: Facts, rows: Rows, random: Random
) -> None:
    facts = owned_by_us(facts, rows)
    plan = plan_for(declared, facts)
    assert plan_for(declared, facts) == plan
    policies = list(declared.policies)
    random.shuffle(policies)
    assert plan_for(changed(declared, policies=tuple(policies)), facts) == plan


@given(declarations(), declarations(), hosts())
def test_the_digest_changes_with_what_is_declared_and_with_nothing_else(
    one: Declared, other: Declared, facts: Facts
) -> None:
    found = []
    for declared in (one, other):
        compiled = compile_policies(declared)
        subject = lay_out(facts, compiled.catalogue)
        desired = resolve(compiled, COMPUTE, subject)
        states = {address: leaf.value for address, leaf in desired.lifecycle.states.items()}
        found.append(((desired.fields, states), desired.digest()))
    assert (found[0][0] == found[1][0]) == (found[0][1] == found[1][1])


@given(declarations(), hosts(), OWNED)
def test_the_digest_is_not_touched_by_what_goes_back(declared: Declared, facts: Facts, rows: Rows) -> None:
    compiled = compile_policies(declared)
    bare = resolve(compiled, COMPUTE, lay_out(facts, compiled.catalogue))
    owned = resolve(compiled, COMPUTE, lay_out(owned_by_us(facts, rows), compiled.catalogue))
    assert bare.digest() == owned.digest()


@given(declarations(), hosts(unknowns=True, busy=True))
def test_a_reboot_is_planned_last_and_only_where_it_is_allowed(declared: Declared, facts: Facts) -> None:
    plan = plan_for(declared, facts)
    kinds = [action.disruption is Disruption.REBOOT for action in plan.actions]
    assert kinds == sorted(kinds)
    assert not plan_for(declared, facts, reboot=Reboot()).reboots
    exhausted = History(boots=tuple(f"boot-{number}" for number in range(REBOOT.max_attempts)))
    assert not plan_for(declared, facts, history=exhausted).reboots


@given(declarations(), hosts(unknowns=True, busy=True), OWNED)
def test_steps_are_told_apart_and_every_wait_says_why(declared: Declared, facts: Facts, rows: Rows) -> None:
    facts = owned_by_us(facts, rows)
    plan = plan_for(declared, facts)
    ids = [action.id for action in plan.actions]
    assert len(set(ids)) == len(ids)
    assert all(wait.message and wait.reason in Reason for wait in plan.waits)
    compiled = compile_policies(declared)
    subject = lay_out(facts, compiled.catalogue)
    document = to_document(plan, resolve(compiled, COMPUTE, subject), subject, REBOOT)
    assert msgspec.json.decode(msgspec.json.encode(document), type=type(document)) == document
