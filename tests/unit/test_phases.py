# SPDX-License-Identifier: Apache-2.0
"""In which phase the journal has a host while it is changed, and where it is left by what goes wrong."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from cyborg_reconciler.core.conditions import ConditionType, Status
from cyborg_reconciler.core.state import Phase
from cyborg_reconciler.documents.facts import Facts
from cyborg_reconciler.documents.plan import Outcome, RebootSegment, Segment, StepOutcome
from cyborg_reconciler.documents.pool import Reboot
from cyborg_reconciler.errors import ExecutionError, JournalLockedError
from cyborg_reconciler.phases import MOST_WRITES, WavePhases, put_right
from cyborg_reconciler.ports import HostRecord, Progress, Unobserved
from cyborg_reconciler.reconcile import converge, resume
from cyborg_reconciler.survey import Options, survey
from cyborg_reconciler.testing import FakeJournal, change_nothing, ignore_progress
from tests.unit.world import ARGS, YES, World, obey, pool_of

REBOOTS = {"policies": [ARGS], "pools": [pool_of(reboot=Reboot(allowed=True))]}


class Diary(FakeJournal):
    """A journal that remembers in which phases each host was, and how often phases were written."""

    def __init__(self) -> None:
        super().__init__()
        self.phases: dict[str, list[str]] = {}
        self.writes = 0

    def record_hosts(self, records: Sequence[HostRecord]) -> None:
        super().record_hosts(records)
        self._note([record.name for record in records])

    def record_phases(self, hosts: Sequence[str], phase: Phase, failed_in: Phase | None = None) -> None:
        super().record_phases(hosts, phase, failed_in)
        self.writes += 1
        self._note(hosts)

    def _note(self, hosts: Sequence[str]) -> None:
        for host in hosts:
            seen, phase = self.phases.setdefault(host, []), standing(self, host)
            if seen[-1:] != [phase]:
                seen.append(phase)


def standing(journal: FakeJournal, host: str) -> str:
    record = journal.memory.records[host]
    return f"Failed ({record.failed_in})" if record.failed_in else str(record.phase)


def condition(world: World, type_: ConditionType) -> tuple[Status, str]:
    (found,) = [one for one in world.journal.hosts()[0].conditions if one.type is type_]
    return found.status, found.reason


def watched(*names: str, **more) -> World:
    world = World(*names, **more)
    world.journal = Diary()
    world.ports = replace(world.ports, journal=world.journal)
    return world


def test_a_host_goes_through_the_phases_of_its_change() -> None:
    world = watched("a")
    world.converge()
    assert world.journal.phases["a"] == [
        "Planned",
        "Cordoning",
        "Applying",
        "Validating",
        "Uncordoning",
        "Idle",
    ]


def test_a_reboot_is_a_phase_of_the_host_that_reboots() -> None:
    world = watched("a", **REBOOTS)
    world.converge()
    assert world.journal.phases["a"][2:5] == ["Applying", "Rebooting", "Validating"]


def test_the_cordon_is_asked_in_the_phases_that_are_called_after_it() -> None:
    world = watched("a")
    seen = []

    class Watching:
        def cordon(self, host: str) -> bool:
            seen.append(standing(world.journal, host))
            return True

        def uncordon(self, host: str) -> None:
            seen.append(standing(world.journal, host))

    world.ports = replace(world.ports, cordon=Watching())
    world.converge()
    assert seen == ["Cordoning", "Uncordoning"]


@pytest.mark.parametrize("status", ["failed", "unreachable", "cancelled", "missing", "refused"])
def test_a_host_whose_run_failed_says_so_and_in_which_phase_until_it_is_as_declared(status: str) -> None:
    world = watched("a")
    world.executor.outcomes["a"] = Outcome(status=status, message="broken")
    world.converge()
    assert world.journal.phases["a"][-2:] == ["Applying", "Failed (Applying)"]
    assert condition(world, ConditionType.DEGRADED) == (Status.TRUE, "ChangeFailed")
    assert condition(world, ConditionType.PROGRESSING) == (Status.FALSE, "ChangeFailed")
    world.look(Options())
    assert standing(world.journal, "a") == "Failed (Applying)", "it is shown until a pass succeeds"
    world.executor.outcomes.clear()
    world.converge()
    assert standing(world.journal, "a") == "Idle"
    assert condition(world, ConditionType.DEGRADED) == (Status.FALSE, "NoTrouble")


def test_a_refusal_for_old_facts_alone_is_no_failure() -> None:
    world = watched("a")
    refusal = StepOutcome(id="sriov", status="refused", reason="FactsStale", message="another count is there")
    world.executor.outcomes["a"] = Outcome(status="refused", steps=[refusal])
    world.converge()
    assert not any(phase.startswith("Failed") for phase in world.journal.phases["a"])


def test_a_reboot_that_fails_is_said_to_have_failed_there() -> None:
    world = watched("a", **REBOOTS)

    class Lost:
        def apply(self, plan, on_progress):
            world.executor.apply(plan, on_progress)
            world.observer.unobserved["a"] = Unobserved("Unreachable", "no route to host")
            return {"a": Outcome(status="unreachable", message="no route to host")}

        def settle(self) -> None:
            """Nothing is left running here."""

    world.ports = replace(world.ports, executor=Lost())
    world.converge()
    assert standing(world.journal, "a") == "Failed (Rebooting)"


def test_a_change_that_is_reported_and_not_seen_failed_when_it_was_looked_for() -> None:
    world = watched("a", react=change_nothing)
    world.converge()
    assert world.journal.phases["a"][-1] == "Failed (Validating)"
    assert condition(world, ConditionType.DEGRADED) == (Status.TRUE, "ChangeFailed")


def test_a_host_that_does_not_answer_after_its_change_failed_when_it_was_looked_at() -> None:
    def go(facts: Facts, segment: Segment):
        world.observer.unobserved["a"] = Unobserved("Unreachable", "no route to host")
        return obey(facts, segment)

    world = watched("a", react=go)
    world.converge()
    assert standing(world.journal, "a") == "Failed (Validating)"


def test_what_makes_a_further_pass_possible_did_not_fail() -> None:
    def halve(facts: Facts, segment: Segment):
        """Do one step of the two in each pass."""
        if isinstance(segment, RebootSegment):
            return obey(facts, segment)
        return obey(facts, type(segment)(steps=segment.steps[:1]))

    world = watched("a", react=halve, policies=[ARGS, *World("x").declarations.declared.policies], pools=[pool_of()])
    converge(world.ports, world.look(YES), YES, ignore_progress)
    assert not any(phase.startswith("Failed") for phase in world.journal.phases["a"])


def test_a_run_that_could_not_begin_failed_when_it_was_applied() -> None:
    world = watched("a")
    world.executor.broken = ExecutionError(wanted="ansible-playbook", found="it is not there")
    with pytest.raises(ExecutionError):
        world.converge()
    assert standing(world.journal, "a") == "Failed (Applying)"
    assert condition(world, ConditionType.PROGRESSING) == (Status.FALSE, "ChangeFailed")


def test_a_host_that_could_not_be_cordoned_is_not_changed_and_the_others_are_let_go() -> None:
    world = watched("a", "b", pools=[pool_of(max_unavailable=2)])
    plain = world.cordon.cordon

    def cordon(host: str) -> bool:
        if host == "b":
            raise ExecutionError(wanted="the scheduler", found="it is not there")
        return plain(host)

    world.cordon.cordon = cordon
    with pytest.raises(ExecutionError):
        world.converge()
    assert world.executor.applied == []
    assert world.cordon.cordoned == set()
    assert standing(world.journal, "b") == "Failed (Cordoning)"


def test_what_is_broken_off_says_so_at_once() -> None:
    def break_off(facts: Facts, segment: Segment):
        raise KeyboardInterrupt

    world = watched("a", react=break_off)
    with pytest.raises(KeyboardInterrupt):
        world.converge()
    assert standing(world.journal, "a") == "Failed (Applying)"


@pytest.mark.parametrize("phase", ["Cordoning", "Applying", "Uncordoning", "Validating"])
def test_what_a_killed_process_left_is_put_right_at_the_next_start(phase: str) -> None:
    """A process is killed right after it wrote *phase*: nothing that it would have done follows."""

    class KilledError(BaseException):
        pass

    world = watched("a")
    dead = []

    def write(name: str):
        plain = getattr(world.journal, name)

        def written(*args):
            if dead:
                raise KilledError
            plain(*args)
            if name in {"record_hosts", "record_phases"} and world.journal.phases["a"][-1] == phase:
                dead.append(phase)
                raise KilledError

        return written

    for name in ("record_hosts", "record_phases", "record_event", "close_run", "record_verdicts", "record_outcome"):
        setattr(world.journal, name, write(name))
    with pytest.raises(KilledError):
        world.converge()
    assert world.journal.phases["a"][-1] == phase
    next_start = world.journal.reopened()
    world.ports = replace(world.ports, journal=next_start, controller=next_start.controller())
    resume(world.ports)
    assert standing(next_start, "a") == f"Failed ({phase})"
    assert {(one.type, one.reason) for one in next_start.hosts()[0].conditions} >= {
        (ConditionType.PROGRESSING, "ChangeFailed"),
        (ConditionType.DEGRADED, "ChangeFailed"),
    }
    assert converge(world.ports, world.look(), YES, ignore_progress).hosts["a"].verdict.verified
    assert standing(next_start, "a") == "Idle"


def test_a_look_beside_a_run_leaves_its_phases_alone() -> None:
    def look_at_it(facts: Facts, segment: Segment):
        survey(beside, Options(), ignore_progress)
        seen.append(standing(world.journal, "a"))
        return obey(facts, segment)

    world, seen = watched("a", react=look_at_it), []
    beside = world.ports
    world.converge()
    assert seen == ["Applying"]
    assert standing(world.journal, "a") == "Idle"


def test_a_journal_that_was_lost_for_a_moment_does_not_leave_a_host_at_work() -> None:
    def lose_it(facts: Facts, segment: Segment):
        world.journal.broken = JournalLockedError(wanted="the journal", found="locked")
        raise world.journal.broken

    world = watched("a", react=lose_it)
    with pytest.raises(JournalLockedError):
        world.converge()
    world.journal.broken = None
    assert standing(world.journal, "a") == "Applying"
    put_right(world.journal, world.ports.clock.now())
    assert standing(world.journal, "a") == "Failed (Applying)"


def test_reboots_of_a_large_wave_are_written_in_few_transactions_and_of_a_small_one_as_they_begin() -> None:
    for size, most in ((10_000, MOST_WRITES), (3, 3)):
        journal, told = Diary(), []
        names = [f"compute-{number}" for number in range(size)]
        for name in names:
            journal.histories({name: ""})
        phases = WavePhases(journal, names)
        phases.enter(Phase.APPLYING)
        journal.writes = 0
        follow = phases.following(told.append)
        for name in names:
            for _ in range(2):
                follow(Progress(name, "reboot", "started"))
        assert journal.writes == most
        assert len(told) == 2 * size
        assert standing(journal, names[-1]) == "Rebooting"
        follow(Progress("a host of no plan", "reboot", "started"))


def test_all_hosts_of_a_wave_enter_a_phase_in_one_transaction() -> None:
    world = watched(*(f"h{number:03}" for number in range(50)), pools=[pool_of(max_unavailable="100%")])
    world.converge()
    assert all(phases[-1] == "Idle" for phases in world.journal.phases.values())
    assert world.journal.writes == 3, "Applying, Validating, Uncordoning"


def test_trouble_with_the_journal_breaks_no_run_off_for_a_reboot_that_begins() -> None:
    journal, told = Diary(), []
    for name in ("a", "b"):
        journal.histories({name: ""})
    phases = WavePhases(journal, ["a", "b"])
    phases.enter(Phase.APPLYING)
    follow = phases.following(told.append)
    journal.broken = JournalLockedError(wanted="the journal", found="database is locked")
    follow(Progress("a", "reboot", "started"))
    journal.broken = None
    assert (len(told), standing(journal, "a")) == (1, "Applying")
    follow(Progress("b", "reboot", "started"))
    assert (standing(journal, "a"), standing(journal, "b")) == ("Rebooting", "Rebooting")
