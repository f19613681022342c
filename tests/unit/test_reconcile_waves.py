# SPDX-License-Identifier: Apache-2.0
"""Which hosts are changed together, with whose consent, and what trouble and time do to those that come later."""

from dataclasses import replace
from datetime import timedelta

import msgspec
import pytest

from cyborg_reconciler.core.state import Phase, Reason
from cyborg_reconciler.documents.facts import Facts
from cyborg_reconciler.documents.plan import (
    Outcome,
    Segment,
    StepOutcome,
)
from cyborg_reconciler.errors import ExecutionError
from cyborg_reconciler.ports import Progress, Unobserved
from cyborg_reconciler.reconcile import converge
from cyborg_reconciler.survey import Options, survey
from cyborg_reconciler.testing import (
    FakeExecutor,
    change_nothing,
    ignore_progress,
)
from tests.scenarios.story import driver_of, facts_of, policy_of
from tests.unit.world import ARGS, VFS, YES, World, obey, pool_of, waits_of


def test_a_wave_is_as_wide_as_the_pool_says() -> None:
    world = World("a", "b", "c", "d", pools=[pool_of(max_unavailable="50%")])
    world.converge()
    assert [sorted(plan.hosts) for plan in world.executor.applied] == [["a", "b"], ["c", "d"]]


def test_without_a_pool_hosts_go_one_at_a_time() -> None:
    world = World("a", "b")
    world.converge()
    assert [sorted(plan.hosts) for plan in world.executor.applied] == [["a"], ["b"]]


def test_a_failure_stops_the_waves_after_it() -> None:
    world = World("a", "b")
    world.executor.outcomes["a"] = Outcome(status="failed", message="broken")
    seen = world.converge()
    assert [sorted(plan.hosts) for plan in world.executor.applied] == [["a"]]
    assert not seen.hosts["b"].verdict.verified
    assert [run.status for run in world.journal.runs()] == ["failed"]


def test_waves_that_come_late_are_looked_at_again_first() -> None:
    world = World("a", "b", "c")
    options = replace(YES, facts_max_age=timedelta(minutes=10))

    def slowly(facts: Facts, segment: Segment):
        world.ports.clock.move(1000)
        return obey(facts, segment)

    world.ports = replace(world.ports, executor=FakeExecutor(world.observer, slowly))
    seen = converge(world.ports, world.look(options), options, ignore_progress)
    assert all(view.verdict.verified for view in seen.hosts.values())
    assert world.observer.asked == [("a", "b", "c"), ("a",), ("b",), ("b",), ("c",), ("c",)]


def test_each_host_has_the_age_of_its_own_facts() -> None:
    world = World("a", "b", pools=[pool_of(approval="automatic", max_unavailable=1)])

    def slowly(progress: Progress) -> None:
        if (progress.step, progress.status) == ("observe", "ok"):
            world.ports.clock.move(500)

    begun = world.ports.clock.now()
    first = survey(world.ports, YES, slowly)
    ages = [(view.observed_at - begun).total_seconds() for view in first.hosts.values()]
    assert ages == [500, 1000]
    assert [record.observed_at for record in world.journal.hosts()] == [v.observed_at for v in first.hosts.values()]
    world.observer.asked.clear()
    world.ports.clock.move(450)
    converge(world.ports, first, replace(YES, facts_max_age=timedelta(seconds=900)), ignore_progress)
    assert world.observer.asked == [("a",), ("a",), ("b",)]


def test_a_new_look_that_takes_too_long_is_not_acted_on_where_it_began() -> None:
    world = World("a", "b", pools=[pool_of(approval="automatic", max_unavailable=2)])
    first = world.look()
    world.ports.clock.move(3600)
    slow = iter([0, 1000])

    def wait(progress: Progress) -> None:
        if (progress.step, progress.status) == ("observe", "ok"):
            world.ports.clock.move(next(slow, 0))

    seen = converge(world.ports, first, YES, wait)
    assert [sorted(plan.hosts) for plan in world.executor.applied] == [["b"], ["a"]]
    assert all(view.verdict.verified for view in seen.hosts.values())


def test_what_is_too_old_even_when_it_is_looked_at_anew_is_not_acted_on() -> None:
    world = World("a")
    first = world.look()
    world.ports.clock.move(3600)
    world.observer.unobserved["a"] = Unobserved("Unreachable", "no route to host")
    seen = converge(world.ports, first, YES, ignore_progress)
    assert world.executor.applied == []
    assert waits_of(seen, "a") == [Reason.UNREACHABLE]


def test_trouble_in_one_pool_stops_no_other() -> None:
    pools = [pool_of("p", ["a", "b"], max_unavailable=1), pool_of("q", ["c", "d"], max_unavailable=1)]
    world = World("a", "b", "c", "d", pools=pools)
    world.executor.outcomes["a"] = Outcome(status="failed", message="broken")
    seen = world.converge()
    assert [sorted(plan.hosts) for plan in world.executor.applied] == [["a", "c"], ["d"]]
    assert [name for name, view in seen.hosts.items() if view.verdict.verified] == ["c", "d"]
    assert seen.hosts["b"].phase is Phase.WAITING_FOR_SLOT


def test_what_was_applied_and_is_not_so_stops_the_waves_of_its_pool() -> None:
    world = World("a", "b", react=change_nothing)
    seen = world.converge()
    assert [sorted(plan.hosts) for plan in world.executor.applied] == [["a"]]
    assert seen.hosts["b"].phase is Phase.WAITING_FOR_SLOT


def test_a_host_that_cannot_be_uncordoned_keeps_no_other_from_it() -> None:
    world = World("a", "b", pools=[pool_of(max_unavailable=2)])
    let_go: list[str] = []

    class Stubborn:
        def cordon(self, host: str) -> bool:
            return bool(host)

        def uncordon(self, host: str) -> None:
            let_go.append(host)
            raise ExecutionError(wanted="the host uncordoned", found="the scheduler is gone", host=host)

    world.ports = replace(world.ports, cordon=Stubborn())
    with pytest.raises(ExecutionError, match="the scheduler is gone"):
        world.converge()
    assert sorted(let_go) == ["a", "b"]


def test_a_host_is_uncordoned_once_it_was_looked_at_again() -> None:
    world = World("a", "b")
    calls: list[str] = []

    class Watching:
        def cordon(self, host: str) -> bool:
            calls.append(f"cordon {host}")
            return True

        def uncordon(self, host: str) -> None:
            calls.append(f"uncordon {host}")

    def note(progress: Progress) -> None:
        if progress.status == "started":
            calls.append(f"{progress.step} {progress.host}")

    world.ports = replace(world.ports, cordon=Watching())
    converge(world.ports, world.look(), YES, note)
    assert calls == [f"{call} {host}" for host in ("a", "b") for call in ("cordon", "apply", "observe", "uncordon")]


@pytest.mark.parametrize("approval", ["manual", "automatic"])
@pytest.mark.parametrize(("saved", "applied"), [(False, 2), (True, 1)])
def test_a_consent_to_a_saved_plan_is_not_to_what_waited_when_it_was_made(approval, saved, applied) -> None:
    def free(facts: Facts, segment: Segment):
        steps, facts = obey(facts, segment)
        devices = [msgspec.structs.replace(device, holders=[]) for device in facts.devices]
        return steps, msgspec.structs.replace(facts, devices=devices)

    world = World("a", policies=[VFS, ARGS], pools=[pool_of(approval=approval)], react=free)
    holder = {"kind": "process", "name": "qemu", "pid": 7}
    world.observer.facts["a"] = facts_of({"hostname": "a", "device": {"vf_devices": [{"holders": [holder]}, {}]}})
    options = replace(YES, saved=saved)
    first = world.look(options)
    assert Reason.DEVICE_IN_USE in waits_of(first, "a")
    seen = converge(world.ports, first, options, ignore_progress)
    assert len(world.executor.applied) == applied
    assert (seen.hosts["a"].phase is Phase.PENDING_APPROVAL) == saved


@pytest.mark.parametrize(("saved", "applied"), [(False, 2), (True, 1)])
def test_a_consent_to_a_saved_plan_is_not_to_more_disruption_than_it_says(saved, applied) -> None:
    def of_module(**facts: object) -> Facts:
        edu = {"vendor_id": "1234", "driver": facts.get("driver")}
        return facts_of({"hostname": "a", "device": edu, "modules": [{"name": "edu", **facts.get("module", {})}]})

    def bring_an_old_build(facts: Facts, segment: Segment):
        old = {"loaded": True, "loaded_version": "0.9", "disk_version": "0.9"}
        return [StepOutcome(id=segment.id, status="changed")], of_module(driver="edu", module=old)

    install = policy_of({"name": "edu", "driver": {"name": "edu", "version": "1.0"}}, 1)
    world = World("a", policies=[install], react=bring_an_old_build)
    roles = {"install": "a.b.c", "uninstall": "a.b.c"}
    match = [{"vendor_id": "1234"}]
    edu = driver_of(
        {"name": "edu", "device_type": "PROCESSING", "match": match, "kernel_module": "edu", "roles": roles}
    )
    world.declarations.declared = replace(world.declarations.declared, drivers=(edu,))
    world.observer.facts["a"] = of_module(module={"path": None})
    options = replace(YES, saved=saved)
    first = world.look(options)
    assert [str(action.disruption) for action in first.hosts["a"].plan.actions] == ["none"]
    seen = converge(world.ports, first, options, ignore_progress)
    assert [str(action.disruption) for action in seen.hosts["a"].plan.actions] == ["module_reload"]
    assert len(world.executor.applied) == applied
    assert (seen.hosts["a"].phase is Phase.PENDING_APPROVAL) == saved


def test_a_refusal_does_not_stop_the_waves_after_it() -> None:
    world = World("a", "b")
    world.executor.outcomes["a"] = Outcome(status="refused", message="VF 1 is held")
    assert world.converge().hosts["b"].verdict.verified


def test_manual_approval_waits_and_binds_the_very_actions() -> None:
    world = World("a")
    options = Options()
    seen = world.converge(options)
    assert world.executor.applied == []
    plan = seen.hosts["a"].plan
    world.journal.approve("a", plan.generation, "another digest", world.ports.clock.now())
    world.converge(options)
    assert world.executor.applied == []
    world.journal.approve("a", plan.generation, plan.digest, world.ports.clock.now())
    assert world.converge(options).hosts["a"].verdict.verified


def test_a_run_that_somebody_cancels_is_the_last_of_its_pass_and_the_next_pass_goes_on() -> None:
    world = World("a", "b", "c", pools=[pool_of(max_unavailable=1)])
    apply = world.executor.apply

    def apply_and_cancel(plan, on_progress):
        world.journal.memory.cancelled.add(world.journal.runs()[0].uuid)
        return apply(plan, on_progress)

    world.executor.apply = apply_and_cancel
    seen = world.converge()
    assert [list(plan.hosts) for plan in world.executor.applied] == [["a"]]
    assert seen.hosts["a"].verdict.verified
    assert {seen.hosts[name].phase for name in "bc"} == {Phase.WAITING_FOR_SLOT}
    world.executor.apply = apply
    seen = world.converge()
    assert all(view.verdict.verified for view in seen.hosts.values())
