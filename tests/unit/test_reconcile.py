# SPDX-License-Identifier: Apache-2.0
"""The sentence over the fakes: what it asks of each port, in which order, and what it refuses."""

from dataclasses import replace

import msgspec
import pytest

from cyborg_reconciler.core.state import Health, Reason, Sync
from cyborg_reconciler.documents.base import Metadata
from cyborg_reconciler.documents.declared import Located
from cyborg_reconciler.documents.facts import Facts
from cyborg_reconciler.documents.plan import (
    HostPlan,
    Outcome,
    PlanDocument,
    RebootSegment,
    Segment,
    StepOutcome,
)
from cyborg_reconciler.documents.pool import Reboot
from cyborg_reconciler.ports import Unobserved
from cyborg_reconciler.reconcile import converge, resume
from cyborg_reconciler.survey import Options
from cyborg_reconciler.testing import (
    FakeExecutor,
    RecordingCordon,
    change_nothing,
    ignore_progress,
)
from tests.scenarios.story import facts_of, policy_of
from tests.unit.world import ARGS, VFS, YES, World, obey, pool_of, waits_of


def test_a_host_is_made_as_declared_and_looked_at_again() -> None:
    world = World("a")
    seen = world.converge()
    assert seen.hosts["a"].verdict.sync is Sync.SYNCED
    assert len(world.observer.asked) == 2
    assert [run.status for run in world.journal.runs()] == ["applied"]


def test_a_second_pass_does_nothing() -> None:
    world = World("a")
    world.converge()
    world.converge()
    assert len(world.executor.applied) == 1


def test_success_is_not_a_return_code() -> None:
    world = World("a", react=change_nothing)
    seen = world.converge()
    assert seen.hosts["a"].outcome.status == "applied"
    assert seen.hosts["a"].verdict.sync is Sync.OUT_OF_SYNC
    digest = seen.hosts["a"].desired.digest()
    assert world.journal.histories({"a": digest})["a"].failures == 1


def test_the_same_plan_is_not_tried_twice_in_one_pass() -> None:
    world = World("a", react=change_nothing)
    world.converge()
    assert len(world.executor.applied) == 1


def test_a_host_that_cannot_be_observed_gets_no_action_and_others_go_on() -> None:
    world = World("a", "b", pools=[pool_of(max_unavailable=2)])
    world.observer.unobserved["a"] = Unobserved("Unreachable", "no route to host")
    seen = world.converge()
    assert waits_of(seen, "a") == [Reason.UNREACHABLE]
    assert seen.hosts["a"].verdict.health is Health.MISSING
    assert seen.hosts["b"].verdict.verified
    assert [set(plan.hosts) for plan in world.executor.applied] == [{"b"}]


def test_a_host_that_waits_for_approval_says_so_until_it_has_it() -> None:
    world = World("a")

    def standing() -> tuple[str, str]:
        (record,) = world.journal.hosts()
        return record.phase.value, record.reason

    plan = world.look(Options()).hosts["a"].plan
    assert standing() == ("PendingApproval", "PendingApproval")
    world.journal.approve("a", plan.generation, plan.digest, world.ports.clock.now())
    world.look(Options())
    assert standing() == ("Planned", "")
    world.converge(Options())
    assert standing() == ("Idle", "")


def test_the_journal_knows_when_a_host_was_changed_last() -> None:
    world = World("a")
    world.look()
    assert world.journal.hosts()[0].changed_at is None
    world.converge()
    changed_at = world.ports.clock.now()
    world.ports.clock.move(60)
    world.converge()
    assert world.journal.hosts()[0].changed_at == changed_at


def test_automatic_approval_does_not_wait() -> None:
    world = World("a", pools=[pool_of(approval="automatic")])
    assert world.converge(Options()).hosts["a"].verdict.verified


def test_a_reboot_is_noted_before_it_is_asked_for() -> None:
    world = World("a", policies=[ARGS], pools=[pool_of(reboot=Reboot(allowed=True))])
    noted = []
    plain_apply = world.executor.apply

    class Watching:
        def apply(self, plan: PlanDocument, on_progress):
            digest = world.journal.memory.digests["a"]
            noted.extend(world.journal.memory.histories["a", digest].boots)
            return plain_apply(plan, on_progress)

        def settle(self) -> None:
            """Nothing is left running here."""

    world.ports = replace(world.ports, executor=Watching())
    assert world.converge().hosts["a"].verdict.verified
    assert noted == ["boot-1"]


def test_an_argument_that_never_runs_ends_in_reboot_loop_detected() -> None:
    boots = iter(range(2, 100))

    def stubborn(facts: Facts, segment: Segment):
        steps, after = obey(facts, segment)
        if isinstance(segment, RebootSegment):
            kernel = msgspec.structs.replace(after.kernel, boot_id=f"boot-{next(boots)}", args_running=[])
            after = msgspec.structs.replace(after, kernel=kernel)
        return steps, after

    world = World("a", policies=[ARGS], pools=[pool_of(reboot=Reboot(allowed=True, max_attempts=2))], react=stubborn)
    for _ in range(6):
        seen = world.converge()
    reboots = sum(
        isinstance(segment, RebootSegment)
        for plan in world.executor.applied
        for of_host in plan.hosts.values()
        for segment in of_host.segments
    )
    assert reboots == 2
    assert waits_of(seen, "a") == [Reason.REBOOT_LOOP_DETECTED]


def test_a_reboot_that_is_not_allowed_waits_and_says_what_to_do() -> None:
    world = World("a", policies=[ARGS])
    seen = world.converge()
    assert waits_of(seen, "a") == [Reason.REBOOT_NOT_ALLOWED]
    assert world.converge(Options(consent=True, allow_reboot=True)).hosts["a"].verdict.verified


def test_what_was_cordoned_by_others_stays_cordoned() -> None:
    world = World("a", "b")
    world.cordon = RecordingCordon(by_others=["a"])
    world.ports = replace(world.ports, cordon=world.cordon)
    world.converge()
    assert world.cordon.cordoned == {"a"}


def test_an_interrupted_run_is_closed_once_nothing_of_it_runs() -> None:
    world = World("a")
    seen = world.look()
    plan = PlanDocument(
        plan_version=1, uuid="u", created_at="", controller_id="x", fencing_token=1, hosts={"a": _host_plan()}
    )
    world.journal.open_run(plan, world.ports.clock.now())
    later = world.journal.reopened()
    world.ports = replace(world.ports, journal=later, controller=later.controller())
    assert resume(world.ports) == ("a",)
    assert world.executor.settled == 1
    assert [run.status for run in later.runs()] == ["interrupted"]
    assert resume(world.ports) == ()
    assert seen.hosts["a"].plan.actions


def _host_plan():
    return HostPlan(generation=1, digest="d", fingerprint="f", segments=[])


@pytest.mark.parametrize(("approval", "count"), [("manual", 4), ("automatic", 8)])
def test_policies_that_change_meanwhile_are_what_is_judged_by_and_a_consent_is_not_for_them(approval, count) -> None:
    world = World("a", pools=[pool_of(approval=approval)])
    first = world.look()
    more = policy_of({"name": "qat", "sriov": {"num_vfs": 8}}, 1)
    changed = replace(world.declarations.declared, policies=(more,), digest="e")

    def change_then_obey(facts: Facts, segment: Segment):
        world.declarations.declared = changed
        return obey(facts, segment)

    world.ports = replace(world.ports, executor=FakeExecutor(world.observer, change_then_obey))
    seen = converge(world.ports, first, YES, ignore_progress)
    assert world.observer.facts["a"].devices[0].num_vfs == count
    assert seen.hosts["a"].verdict.verified == (approval == "automatic")
    assert seen.hosts["a"].plan.generation == first.hosts["a"].plan.generation + 1


def test_a_plan_that_turns_out_stale_is_made_anew() -> None:
    world = World("a")
    refusal = StepOutcome(id="sriov", status="refused", reason="FactsStale", message="another count is there")
    world.executor.outcomes["a"] = Outcome(status="refused", steps=[refusal])
    first = world.look()
    world.observer.facts["a"] = facts_of({"hostname": "a", "device": {"vf_devices": [{}, {}]}})
    converge(world.ports, first, YES, ignore_progress)
    assert len(world.executor.applied) == 2


def test_a_policy_that_selects_nothing_is_told() -> None:
    idle = policy_of({"name": "idle", "sriov": {"num_vfs": 4}, "device_selector": {"vendor_id": "ffff"}}, 2)
    assert World("a", policies=[VFS, idle]).look().unused_policies == ("idle",)


def test_a_policy_may_select_what_is_out_of_sight_and_then_nothing_is_told_of_it() -> None:
    here = {"name": "here", "sriov": {"num_vfs": 4}, "host_selector": {"names": ["a"]}}
    there = {**here, "name": "there", "host_selector": {"names": ["b"]}}
    none = {**here, "name": "none", "host_selector": {"names": ["c"]}}
    world = World("a", "b", policies=[policy_of(spec, 1) for spec in (here, there, none)])
    del world.observer.facts["b"]
    assert world.look().unused_policies == ("none",)
    limited = replace(YES, limited=True)
    assert world.look(limited).unused_policies == ()
    assert world.converge(limited).unused_policies == ()


def test_a_host_in_two_pools_is_conflicted_and_others_go_on() -> None:
    other = pool_of()
    document = other.document.model_copy(update={"metadata": Metadata(name="q")})
    world = World("a", pools=[other, Located(document, "q.yml", {})])
    assert waits_of(world.look(), "a") == [Reason.CONFLICTED]


@pytest.mark.parametrize("vfs", [4, 8])
def test_drift_is_marked_once_the_host_was_in_sync(vfs: int) -> None:
    world = World("a", policies=[policy_of({"name": "qat", "sriov": {"num_vfs": vfs}}, 1)])
    assert not world.look().hosts["a"].plan.actions[0].drift
    world.converge()
    world.observer.facts["a"] = facts_of({"hostname": "a"})
    assert world.look().hosts["a"].plan.actions[0].drift


def test_every_change_of_standing_is_an_event() -> None:
    world = World("a")
    world.converge()
    kinds = [event.kind for event in reversed(world.journal.events("a"))]
    assert kinds == ["OutOfSync", "ApplyStarted", "ApplyEnded", "Synced"]
