# SPDX-License-Identifier: Apache-2.0
"""What does a pass not do: reboot without end, act on old facts, or do what nobody was shown?"""

from dataclasses import replace

import msgspec
import pytest

from cyborg_reconciler.core.state import Host, Phase
from cyborg_reconciler.documents.facts import Facts
from cyborg_reconciler.documents.plan import Outcome, PlanDocument, RebootSegment, Segment
from cyborg_reconciler.documents.pool import Reboot
from cyborg_reconciler.errors import ExecutionError, JournalLockedError
from cyborg_reconciler.reconcile import converge
from cyborg_reconciler.survey import Options
from cyborg_reconciler.testing import FixedInventory, change_nothing, ignore_progress
from tests.scenarios.story import facts_of, policy_of
from tests.unit.test_reconcile import ARGS, VFS, YES, World, obey, pool_of


def reboots_of(world: World) -> int:
    return sum(
        isinstance(segment, RebootSegment)
        for plan in world.executor.applied
        for of_host in plan.hosts.values()
        for segment in of_host.segments
    )


def test_a_look_with_other_policies_between_does_not_lift_the_limit_of_reboots() -> None:
    boots = iter(range(2, 100))

    def stubborn(facts: Facts, segment: Segment):
        steps, after = obey(facts, segment)
        kernel = msgspec.structs.replace(after.kernel, boot_id=f"boot-{next(boots)}", args_running=[])
        return steps, msgspec.structs.replace(after, kernel=kernel)

    world = World("a", policies=[ARGS], pools=[pool_of(reboot=Reboot(allowed=True, max_attempts=2))], react=stubborn)
    loop = world.declarations.declared
    for _ in range(5):
        world.converge()
        world.declarations.declared = replace(loop, policies=(VFS,), digest="other")
        world.look()
        world.declarations.declared = loop
    assert reboots_of(world) == 2


def test_facts_that_grew_old_while_a_person_thought_are_gathered_anew() -> None:
    world = World("a")
    first = world.look()
    world.ports.clock.move(24 * 3600)
    world.observer.facts["a"] = facts_of({"hostname": "a", "device": {"vf_devices": [{}] * 4, "boot_num_vfs": 4}})
    seen = converge(world.ports, first, YES, ignore_progress)
    assert seen.hosts["a"].verdict.verified
    assert world.executor.applied == []


def test_a_consent_to_an_unloading_is_none_to_a_reboot() -> None:
    keep_out = policy_of({"name": "no", "kernel_modules": {"blacklist": ["nouveau"]}}, 1)
    world = World("a", policies=[keep_out], pools=[pool_of(reboot=Reboot(allowed=True))], react=change_nothing)
    loaded = {"hostname": "a", "device": {"driver": "nouveau"}, "modules": [{"name": "nouveau", "loaded": True}]}
    world.observer.facts["a"] = facts_of(loaded)
    first = world.look()
    assert not first.hosts["a"].plan.reboots
    held = [{"name": "nouveau", "loaded": True, "refcount": 1, "holders": [{"kind": "process", "name": "X", "pid": 5}]}]
    world.observer.facts["a"] = facts_of({**loaded, "modules": held})
    seen = converge(world.ports, first, YES, ignore_progress)
    assert seen.hosts["a"].phase is Phase.PENDING_APPROVAL
    assert reboots_of(world) == 0


def test_a_host_that_only_its_agent_knows_is_looked_at_and_left_alone() -> None:
    world = World("a")
    world.ports = replace(world.ports, inventory=FixedInventory([Host("a", connection=False)]))
    world.converge()
    (record,) = world.journal.hosts()
    assert world.executor.applied == []
    assert (record.phase, record.sync, record.reason) == (Phase.IDLE, "OutOfSync", "NoConnection")


def test_nothing_more_is_begun_once_it_is_told_to_stop() -> None:
    world = World("a", "b", "c")
    done = world.executor.applied
    seen = world.converge(Options(consent=True, stop=lambda: bool(done)))
    assert len(done) == 1
    assert sorted(name for name, view in seen.hosts.items() if view.verdict.verified) == ["a"]


def test_a_run_that_could_not_begin_is_closed_as_failed_and_counts() -> None:
    world = World("a")
    world.executor.broken = ExecutionError(wanted="ansible-playbook", found="it is not there")
    with pytest.raises(ExecutionError):
        world.converge()
    assert [run.status for run in world.journal.runs()] == ["failed"]
    assert [history.failures for history in world.journal.memory.histories.values()] == [1]


@pytest.mark.parametrize("trouble", [KeyboardInterrupt(), JournalLockedError(wanted="the journal", found="locked")])
def test_a_run_that_is_broken_off_is_closed_at_once_and_its_hosts_with_it(trouble: BaseException) -> None:
    def break_off(facts: Facts, segment: Segment):
        raise trouble

    world = World("a", react=break_off)
    with pytest.raises(type(trouble)):
        world.converge()
    (run,) = world.journal.runs()
    assert (run.status, run.ended_at, run.hosts) == ("interrupted", world.ports.clock.now(), {"a": "interrupted"})
    assert world.cordon.cordoned == set()


def test_a_run_that_cannot_even_be_closed_is_left_to_the_next_start_and_the_trouble_told() -> None:
    def lose_the_disk(facts: Facts, segment: Segment):
        world.journal.broken = JournalLockedError(wanted="the journal", found="locked")
        raise KeyboardInterrupt

    world = World("a", react=lose_the_disk)
    with pytest.raises(KeyboardInterrupt):
        world.converge()
    world.journal.broken = None
    assert [run.hosts for run in world.journal.reopened().open_runs()] == [{"a": "running"}]


def test_a_host_whose_wave_was_not_begun_says_so() -> None:
    world = World("a", "b")
    world.executor.outcomes["a"] = Outcome(status="failed", message="broken")
    seen = world.converge()
    assert (seen.hosts["a"].phase, seen.hosts["b"].phase) == (Phase.PLANNED, Phase.WAITING_FOR_SLOT)
    assert {record.name: record.reason for record in world.journal.hosts()}["b"] == "WaitingForSlot"


def test_while_a_host_is_changed_the_journal_says_so() -> None:
    world = World("a")
    seen = []
    plain_apply = world.executor.apply

    class Watching:
        def apply(self, plan: PlanDocument, on_progress):
            seen.extend(record.phase for record in world.journal.hosts())
            return plain_apply(plan, on_progress)

        def settle(self) -> None:
            """Nothing is left running here."""

    world.ports = replace(world.ports, executor=Watching())
    assert world.converge().hosts["a"].phase is Phase.IDLE
    assert seen == [Phase.APPLYING]
