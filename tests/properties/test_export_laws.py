# SPDX-License-Identifier: Apache-2.0
"""Laws of `export`: what it writes describes what there is, and asks for nothing."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from cyborg_reconciler.core.export import describe
from cyborg_reconciler.core.plan import Terms, make_plan
from cyborg_reconciler.core.resolve import Desired, compile_policies, resolve
from cyborg_reconciler.core.state import HOST, History, Host
from cyborg_reconciler.core.subject import Subject, lay_out
from cyborg_reconciler.core.verdict import judge
from cyborg_reconciler.documents.declared import Declared, Located
from cyborg_reconciler.documents.driver import DriverDocSpec
from cyborg_reconciler.documents.facts import Facts
from cyborg_reconciler.documents.policy import AcceleratorPolicy
from cyborg_reconciler.documents.pool import Reboot
from tests.properties.fleet import CATALOGUE, hosts

NOW = datetime(2026, 11, 1, 12, 0, tzinfo=UTC)


def catalogue() -> Mapping[str, DriverDocSpec]:
    return {one.document.metadata.name: one.document.spec for one in CATALOGUE}


def declared_by(documents: Iterable[Mapping[str, Any]]) -> Declared:
    policies = [AcceleratorPolicy.model_validate(document, strict=False) for document in documents]
    located = tuple(Located(policy, f"{policy.metadata.name}.yml") for policy in policies)
    return Declared(policies=located, drivers=CATALOGUE)


def desired_of(declared: Declared, name: str, facts: Facts) -> tuple[Desired, Subject]:
    compiled = compile_policies(declared)
    subject = lay_out(facts, compiled.catalogue)
    return resolve(compiled, Host(name, frozenset({"any"})), subject), subject


FLEETS = st.lists(hosts(unknowns=True, busy=True), min_size=1, max_size=3).map(
    lambda found: {f"compute-{number}": facts for number, facts in enumerate(found)}
)


@given(FLEETS)
def test_with_what_is_exported_there_is_nothing_to_do(fleet: Mapping[str, Facts]) -> None:
    exported = describe({name: lay_out(facts, catalogue()) for name, facts in fleet.items()})
    declared = declared_by(exported.documents)
    for name, facts in fleet.items():
        desired, subject = desired_of(declared, name, facts)
        terms = Terms("us", Reboot(allowed=True), History(), NOW, NOW)
        plan = make_plan(name, desired, subject, terms)
        assert (plan.actions, plan.waits, plan.blind_spots) == ((), (), ())
        assert judge(plan).verified


@given(FLEETS)
def test_all_that_was_set_is_exported_or_said_to_be_left_out(fleet: Mapping[str, Facts]) -> None:
    exported = describe({name: lay_out(facts, catalogue()) for name, facts in fleet.items()})
    declared = declared_by(exported.documents)
    for name, facts in fleet.items():
        fields = desired_of(declared, name, facts)[0].fields
        said = "\n".join(line for line in exported.left_out if line.startswith(f"{name}: "))
        for device in facts.devices:
            if device.physfn is None and isinstance(device.num_vfs, int) and device.num_vfs:
                assert (device.address, "sriov", "num_vfs") in fields or device.address in said
            elif device.physfn is None and device.driver_override is not None and not device.num_vfs:
                assert (device.address, "binding", "driver") in fields or device.address in said
        for word in facts.kernel.args_running if isinstance(facts.kernel.args_running, list) else ():
            key = word.partition("=")[0]
            if "iommu" in key:
                assert (HOST, "kernel_args", key) in fields or key in said


@given(FLEETS)
def test_the_export_is_plain_data_with_names_of_its_own(fleet: Mapping[str, Facts]) -> None:
    exported = describe({name: lay_out(facts, catalogue()) for name, facts in fleet.items()})
    again = msgspec.json.decode(msgspec.json.encode(exported.documents))
    assert again == list(exported.documents)
    names = [document["metadata"]["name"] for document in exported.documents]
    assert len(set(names)) == len(names)


@given(hosts(unknowns=True, busy=True))
def test_hosts_that_are_alike_share_their_policies(facts: Facts) -> None:
    one = describe({"compute-1": lay_out(facts, catalogue())})
    many = describe({f"compute-{number}": lay_out(facts, catalogue()) for number in range(1, 9)})
    assert len(many.documents) == len(one.documents)
    for document in many.documents:
        assert document["spec"]["host_selector"]["names"] == [f"compute-{number}" for number in range(1, 9)]
