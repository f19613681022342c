# SPDX-License-Identifier: Apache-2.0
"""Laws of what hosts have: each unit keeps its uuid, and nothing is ready that is not seen to be."""

import json
from collections.abc import Mapping
from uuid import UUID

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from cyborg_reconciler.core.accelerators import Kinds, Known, Unit, settle, units
from cyborg_reconciler.core.offer import offers
from cyborg_reconciler.core.plan import Terms, make_plan
from cyborg_reconciler.core.resolve import compile_policies, resolve
from cyborg_reconciler.core.state import HOST, Health, History
from cyborg_reconciler.core.subject import lay_out
from cyborg_reconciler.documents.declared import Declared
from cyborg_reconciler.documents.driver import DriverDocSpec
from cyborg_reconciler.documents.facts import Facts, Unknown
from tests.properties.fleet import CATALOGUE, declarations, hosts
from tests.properties.simulator import Host
from tests.properties.test_laws import ADDRESSES, COMPUTE, NOW, OWNED, REBOOT, US, Rows, converge, marked, owned_by_us

UUID_OF_HOST = UUID("8e45a2ea-5364-4b0d-a252-bf8becaa606e")
DRIVERS: Mapping[str, DriverDocSpec] = {one.document.metadata.name: one.document.spec for one in CATALOGUE}
UNREADABLE = Unknown("I/O error")


def known(found: tuple[Unit, ...], settled: Mapping[str, UUID]) -> list[Known]:
    return [
        Known(settled[unit.address], unit.address, f"{unit.vendor_id}:{unit.product_id}", unit.serial)
        for unit in found
        if unit.parent is None and unit.address in settled
    ]


@given(hosts(unknowns=True, busy=True))
def test_every_function_is_one_unit_and_no_two_are_one(facts: Facts) -> None:
    found = units(facts, DRIVERS)
    assert [unit.address for unit in found] == [device.address for device in facts.devices]
    settled = settle(found, UUID_OF_HOST, ())
    assert len(set(settled.values())) == len(settled)
    assert {unit.address for unit in found if unit.identity} == settled.keys()
    for unit in found:
        assert json.loads(json.dumps([unit.capability, unit.attach_info])) == [unit.capability, unit.attach_info]
        assert (unit.health is Health.HEALTHY) == (unit.reason == "")
        assert unit.is_accelerator is False or unit.attach_info is not None


@given(hosts(unknowns=True), hosts(unknowns=True, busy=True))
def test_what_was_found_of_one_host_says_nothing_of_another(first: Facts, second: Facts) -> None:
    kinds: Kinds = {}
    assert [units(one, DRIVERS, kinds) for one in (first, second, first)] == [
        units(one, DRIVERS) for one in (first, second, first)
    ]


@given(hosts(unknowns=True), ADDRESSES, ADDRESSES, st.randoms(use_true_random=False))
def test_hardware_keeps_its_uuid_whatever_else_goes_and_whatever_cannot_be_read(
    facts: Facts, gone: frozenset[str], dumb: frozenset[str], random
) -> None:
    found = units(facts, DRIVERS)
    before = settle(found, UUID_OF_HOST, ())
    left = marked(facts, dumb, serial=UNREADABLE, product_id=UNREADABLE)
    devices = [one for one in left.devices if gone.isdisjoint({one.address, one.physfn})]
    random.shuffle(devices)
    after = settle(units(msgspec.structs.replace(left, devices=devices), DRIVERS), UUID_OF_HOST, known(found, before))
    vfs_of_dumb = {one.address for one in devices if one.physfn in dumb}
    kept = {one.address for one in devices} - vfs_of_dumb
    assert {at: uuid for at, uuid in after.items() if at in kept} == {at: before[at] for at in kept if at in before}


@given(declarations(), hosts(unknowns=True, busy=True), OWNED)
def test_only_what_is_desired_and_seen_to_be_so_is_ready(declared: Declared, facts: Facts, rows: Rows) -> None:
    compiled = compile_policies(declared)
    subject = lay_out(owned_by_us(facts, rows), compiled.catalogue)
    desired = resolve(compiled, COMPUTE, subject)
    plan = make_plan(COMPUTE.name, desired, subject, Terms(US, REBOOT, History(), NOW, NOW))
    found = units(subject.facts, subject.catalogue)
    held_up = {wait.target for wait in plan.waits} | {action.target for action in plan.actions}
    unseen = {path[0] for path, _ in plan.blind_spots}
    for offer in offers(found, plan, desired, subject):
        assert (offer.health is Health.HEALTHY) == (offer.reason == "")
        assert offer.state in {"inactive", offer.desired_state}
        if offer.state == "ready":
            assert offer.health is not Health.UNKNOWN
            assert not offer.setup_required or not desired.lifecycle.drivers.get(offer.address)
            assert offer.address not in (held_up | unseen) - {HOST}
            assert not subject.devices[offer.address].protected
        elif offer.desired_state == "ready":
            assert offer.health is not Health.HEALTHY


@given(declarations(agreeing=True), hosts())
def test_what_is_declared_ready_becomes_so_or_something_waits(declared: Declared, facts: Facts) -> None:
    host = Host(facts)
    last = converge(declared, host)
    compiled = compile_policies(declared)
    subject = lay_out(host.facts, compiled.catalogue)
    desired = resolve(compiled, COMPUTE, subject)
    for offer in offers(units(subject.facts, subject.catalogue), last, desired, subject):
        # Suspended: another policy says that its driver is not to be there.
        assert offer.state == offer.desired_state or offer.health is Health.SUSPENDED or last.waits
