# SPDX-License-Identifier: Apache-2.0
# long: all that a journal promises, asked of the fake and of both databases
"""What every journal promises: one suite over both databases and over the fake that tests use in their place."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from cyborg_reconciler.adapters.database import DatabaseJournal
from cyborg_reconciler.core.conditions import Condition, ConditionType, Status
from cyborg_reconciler.core.state import Health, History, Host, Phase, Sync
from cyborg_reconciler.documents.base import Metadata, Selector
from cyborg_reconciler.documents.declared import Declared, Located
from cyborg_reconciler.documents.facts import Drivers, Facts, KernelFacts, decode_facts
from cyborg_reconciler.documents.plan import (
    ActionsSegment,
    HostPlan,
    Outcome,
    PlanDocument,
    RebootSegment,
    Step,
    StepOutcome,
)
from cyborg_reconciler.documents.policy import AcceleratorPolicy, PolicySpec
from cyborg_reconciler.errors import JournalError
from cyborg_reconciler.ports import Event, HostRecord, Journal, Observation, RunRecord, Unobserved
from cyborg_reconciler.stores.agents import Agent, CheckIn, Enrolment, Inventory
from cyborg_reconciler.testing import FakeJournal, FixedClock, RecordedObserver, ignore_progress
from tests.begun import uuid_of

NOON = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)
LATER = NOON + timedelta(minutes=5)

#: Opens the same journal anew, as the next process does.
Opener = Callable[[], Journal]


@pytest.fixture
def journal(opener: Opener) -> Journal:
    return opener()


def make_facts(host: str, fingerprint: str = "f1", boot_id: str = "b1") -> Facts:
    kernel = KernelFacts(release="6.1.0", architecture="x86_64", boot_id=boot_id)
    return Facts(
        facts_version=1, hostname=host, devices=[], drivers=Drivers(modules=[]), kernel=kernel, fingerprint=fingerprint
    )


def observe(*facts: Facts, at: datetime = NOON) -> dict[str, Observation]:
    observer = RecordedObserver({found.hostname: found for found in facts}, clock=FixedClock(at))
    return dict(observer.observe([Host(found.hostname) for found in facts], (), ignore_progress))


def raised(journal: Journal, host: str, digest: str) -> int:
    return journal.histories({host: digest})[host].generation


def make_plan(uuid: str, *hosts: str) -> PlanDocument:
    step = Step(id="sriov 0000:6b:00.0", module="sriov_vfs", args={"address": "0000:6b:00.0", "num_vfs": 4})
    of_host = HostPlan(
        generation=2,
        digest="d",
        fingerprint="f",
        segments=[ActionsSegment(steps=[step]), RebootSegment(id="reboot", boot_id="b1", timeout_s=600)],
    )
    return PlanDocument(
        plan_version=1,
        uuid=uuid,
        created_at="2026-01-05T12:00:00Z",
        controller_id="c",
        fencing_token=1,
        hosts=dict.fromkeys(hosts, of_host),
    )


RECORD = HostRecord(
    name="compute-1",
    uuid="",
    generation=3,
    sync=Sync.OUT_OF_SYNC,
    health=Health.DEGRADED,
    phase=Phase.FAILED,
    reason="DeviceInUse",
    message="VF 3 is held by qemu (pid 4711)",
    fingerprint="f1",
    observed_at=NOON,
    changed_at=NOON,
    failed_in=Phase.REBOOTING,
    conditions=(
        Condition(ConditionType.READY, Status.FALSE, "DeviceInUse", "VF 3 is held by qemu (pid 4711)", NOON, 3),
        Condition(ConditionType.REBOOT_REQUIRED, Status.UNKNOWN, "Unknown", "{{ not a template }}", LATER, 2),
    ),
    drivers={"qat": "crypto (policies/qat.yml:4)"},
)


def test_the_controller_keeps_its_id_and_its_token_rises(opener: Opener) -> None:
    first = opener().controller()
    second = opener().controller()
    assert first.id == second.id
    assert first.id
    assert second.fencing_token == first.fencing_token + 1


def test_the_generation_rises_with_the_digest_and_only_then(opener: Opener) -> None:
    journal = opener()
    assert [raised(journal, "compute-1", digest) for digest in ("a", "a", "b", "b", "a")] == [1, 1, 2, 2, 3]
    assert raised(journal, "compute-2", "a") == 1
    assert raised(opener(), "compute-1", "a") == 3


def test_a_host_never_seen_begins_with_generation_one(journal: Journal) -> None:
    assert journal.hosts() == []
    assert journal.histories({"compute-1": "a"}) == {"compute-1": History(generation=1)}


def test_the_history_is_that_of_the_present_generation(opener: Opener) -> None:
    journal = opener()
    raised(journal, "compute-1", "a")
    journal.record_reboot("compute-1", "b1", NOON)
    journal.record_reboot("compute-1", "b2", LATER)
    journal.record_verdicts({"compute-1": False})
    journal.record_verdicts({"compute-1": False, "compute-2": True})
    remembered = History(generation=1, boots=("b1", "b2"), failures=2)
    assert opener().histories({"compute-1": "a"})["compute-1"] == remembered
    assert opener().histories({"compute-1": "b"})["compute-1"] == History(generation=2)


def test_a_state_that_is_desired_again_finds_what_was_remembered_under_it(opener: Opener) -> None:
    journal = opener()
    raised(journal, "compute-1", "a")
    journal.record_reboot("compute-1", "b1", NOON)
    journal.record_verdicts({"compute-1": False})
    raised(journal, "compute-1", "b")
    journal.record_reboot("compute-1", "b2", NOON)
    assert raised(journal, "compute-1", "a") == 3
    assert opener().histories({"compute-1": "a"})["compute-1"] == History(generation=3, boots=("b1",), failures=1)


def test_an_approval_is_used_up_by_the_run_of_its_plan(journal: Journal) -> None:
    plan = make_plan("p", "compute-1", "compute-2")
    for digest in ("other", *(of_host.digest for of_host in plan.hosts.values())):
        for host, of_host in plan.hosts.items():
            journal.approve(host, of_host.generation, digest, NOON)
    journal.open_run(plan, NOON)
    for host, of_host in plan.hosts.items():
        assert not journal.approved(host, of_host.generation, of_host.digest)
        assert journal.approved(host, of_host.generation, "other")


def test_a_verified_host_was_synced_and_has_neither_failures_nor_reboots_in_vain(journal: Journal) -> None:
    raised(journal, "compute-1", "a")
    journal.record_reboot("compute-1", "b1", NOON)
    journal.record_verdicts({"compute-1": False})
    journal.record_verdicts({"compute-1": True})
    assert journal.histories({"compute-1": "a"})["compute-1"] == History(generation=1, was_synced=True)
    journal.record_verdicts({"compute-1": False})
    assert journal.histories({"compute-1": "a"})["compute-1"] == History(generation=1, was_synced=True, failures=1)


def test_a_retry_forgets_failures_and_reboots(opener: Opener) -> None:
    journal = opener()
    raised(journal, "compute-1", "a")
    journal.record_reboot("compute-1", "b1", NOON)
    journal.record_verdicts({"compute-1": False})
    journal.retry("compute-1", NOON)
    assert opener().histories({"compute-1": "a"})["compute-1"] == History(generation=1)


def test_facts_come_back_as_they_were_received(opener: Opener) -> None:
    one, two = make_facts("compute-1"), make_facts("compute-2", "f2")
    opener().record_observations(observe(one, two))
    found = opener().facts(["compute-2", "compute-1", "compute-3"])
    assert {host: (decode_facts(document), at) for host, (document, at) in found.items()} == {
        "compute-1": (one, NOON),
        "compute-2": (two, NOON),
    }


def test_an_unchanged_fingerprint_only_moves_the_time(journal: Journal) -> None:
    journal.record_observations(observe(make_facts("compute-1", boot_id="b1")))
    journal.record_observations(observe(make_facts("compute-1", boot_id="b2"), at=LATER))
    ((document, at),) = journal.facts(["compute-1"]).values()
    assert (decode_facts(document).kernel.boot_id, at) == ("b1", LATER)


def test_a_changed_fingerprint_brings_the_new_facts(journal: Journal) -> None:
    journal.record_observations(observe(make_facts("compute-1", boot_id="b1")))
    journal.record_observations(observe(make_facts("compute-1", "f2", boot_id="b2"), at=LATER))
    ((document, at),) = journal.facts(["compute-1"]).values()
    assert (decode_facts(document).kernel.boot_id, at) == ("b2", LATER)


def test_a_host_that_does_not_answer_is_known_and_keeps_its_facts(journal: Journal) -> None:
    journal.record_observations(observe(make_facts("compute-1")))
    silent = Unobserved("Unreachable", "no route to host")
    journal.record_observations({"compute-1": silent, "compute-2": silent})
    assert [at for _, at in journal.facts(["compute-1", "compute-2"]).values()] == [NOON]
    assert [record.name for record in journal.hosts()] == ["compute-1", "compute-2"]


def test_many_hosts_are_recorded_at_once(journal: Journal) -> None:
    fleet = [make_facts(f"compute-{number:05}") for number in range(6000)]
    journal.record_observations(observe(*fleet))
    journal.record_observations(observe(*fleet, at=LATER))
    found = journal.facts([facts.hostname for facts in fleet])
    assert len(found) == 6000
    assert {at for _, at in found.values()} == {LATER}
    assert len({record.uuid for record in journal.hosts()}) == 6000


def test_a_host_stands_where_it_was_recorded(opener: Opener) -> None:
    opener().record_hosts([RECORD])
    (found,) = opener().hosts()
    assert found.uuid
    assert replace(found, uuid="") == RECORD


def test_a_record_keeps_the_journals_uuid_and_generation_and_what_it_leaves_empty(journal: Journal) -> None:
    raised(journal, "compute-1", "a")
    (known,) = journal.hosts()
    journal.record_hosts([RECORD])
    bare = HostRecord("compute-1", "", 9, Sync.SYNCED, Health.HEALTHY, Phase.IDLE)
    journal.record_hosts([bare])
    kept = replace(bare, uuid=known.uuid, generation=1, fingerprint="f1", observed_at=NOON, changed_at=NOON)
    assert journal.hosts() == [replace(kept, conditions=RECORD.conditions, drivers=RECORD.drivers)]
    journal.record_hosts([replace(bare, drivers={})])
    assert journal.hosts()[0].drivers == {}


def test_hosts_are_read_by_name(journal: Journal) -> None:
    journal.record_hosts([replace(RECORD, name=name) for name in ("b", "C", "a")])
    assert [record.name for record in journal.hosts()] == ["a", "b", "C"]
    assert [record.name for record in journal.hosts(["C", "a", "unknown"])] == ["a", "C"]
    assert journal.hosts([]) == []


def check_in(journal: Journal, facts: Facts, at: datetime, sequence: int = 1) -> None:
    """Have the agent of a host report *facts*."""
    host = facts.hostname
    assert isinstance(host, str)
    journal.record_observations(observe(facts, at=at))
    if isinstance(journal, FakeJournal):
        journal.hear(host, facts.fingerprint, at)
        return
    assert isinstance(journal, DatabaseJournal)
    store = journal.agents()
    if store.agent(host) is None:
        store.mint(host, Enrolment(host, LATER), Event(NOON, "AgentEnrolled", host))
        store.enrol(Agent(host=host, uuid="", token_hash=host), host, Inventory(), Event(NOON, "AgentEnrolled", host))
    told = {"boot_id": "b", "fingerprint": facts.fingerprint, "agent_version": "1", "facts": facts, "document": b"{}"}
    store.keep([CheckIn(host=host, epoch=1, sequence=sequence, received_at=at, **told)])


def test_hosts_whose_agents_stand_by_the_facts_that_are_kept_are_told_from_others(opener: Opener) -> None:
    journal = opener()
    journal.record_observations(observe(make_facts("asked"), make_facts("other")))
    for name, at in (("silent", NOON), ("new", LATER), ("other", NOON)):
        check_in(journal, make_facts(name, "f2"), at)
    journal.record_observations(observe(make_facts("other", "f3"), make_facts("new", "f2"), at=LATER))
    journal = opener()
    assert journal.reported(NOON) == {"new": LATER, "silent": NOON}
    assert journal.reported(LATER) == {"new": LATER}
    assert journal.reported(NOON, ["asked", "silent"]) == {"silent": NOON}
    if isinstance(journal, DatabaseJournal):  # nobody stands by what a revoked agent has told
        journal.agents().revoke("new", Event(NOON, "AgentRevoked", "new"))
        assert journal.reported(NOON) == {"silent": NOON}


def test_what_was_received_earlier_does_not_take_the_place_of_what_is_kept(journal: Journal) -> None:
    journal.record_observations(observe(make_facts("compute-1", "new"), at=LATER))
    kept = journal.facts(["compute-1"])
    journal.record_observations(observe(make_facts("compute-1", "old"), at=NOON))
    journal.record_observations(observe(make_facts("compute-1", "new"), at=NOON))
    assert journal.facts(["compute-1"]) == kept


def test_phases_of_many_hosts_are_recorded_at_once_and_all_else_stays(opener: Opener) -> None:
    journal = opener()
    names = [f"compute-{number:04}" for number in range(6000)]
    journal.record_hosts([replace(RECORD, name=name) for name in names])
    journal.record_phases(names[1:], Phase.APPLYING)
    journal.record_phases(names[:-1:5999], Phase.FAILED, Phase.VALIDATING)
    first, *others = opener().hosts()
    assert (first.phase, first.failed_in) == (Phase.FAILED, Phase.VALIDATING)
    assert {(record.phase, record.failed_in) for record in others} == {(Phase.APPLYING, None)}
    assert replace(others[0], uuid="", name=RECORD.name, phase=RECORD.phase, failed_in=RECORD.failed_in) == RECORD


def test_a_run_is_open_until_it_is_closed(opener: Opener) -> None:
    journal = opener()
    plan = make_plan("p1", "compute-2", "compute-1")
    run = uuid_of(journal.open_run(plan, NOON))
    both_running = {"compute-1": "running", "compute-2": "running"}
    assert journal.runs() == [RunRecord(run, "p1", "running", NOON, None, both_running)]
    assert journal.open_runs() == [], "our own run was not left by an earlier process"
    journal = opener()
    assert journal.open_runs() == [RunRecord(run, "p1", "running", NOON, None, both_running)]
    journal.close_run(run, "interrupted", LATER)
    assert journal.open_runs() == []
    both_interrupted = dict.fromkeys(both_running, "interrupted")
    assert journal.runs() == [RunRecord(run, "p1", "interrupted", NOON, LATER, both_interrupted)]


def test_what_came_out_stays_when_the_run_is_closed(opener: Opener) -> None:
    journal = opener()
    run = uuid_of(journal.open_run(make_plan("p1", "compute-1", "compute-2"), NOON))
    journal.record_outcome(run, "compute-1", Outcome(status="applied"), NOON)
    journal.close_run(run, "failed", LATER)
    assert opener().runs()[0].hosts == {"compute-1": "applied", "compute-2": "failed"}


def test_an_outcome_is_its_hosts_alone(opener: Opener) -> None:
    journal = opener()
    run = uuid_of(journal.open_run(make_plan("p1", "compute-1", "compute-2"), NOON))
    refused = StepOutcome(id="sriov", status="refused", reason="DeviceInUse", message="{{ not a template }}")
    journal.record_outcome(run, "compute-1", Outcome(status="refused", steps=[refused]), LATER)
    assert opener().runs()[0].hosts == {"compute-1": "refused", "compute-2": "running"}


def test_an_outcome_of_a_run_that_is_not_there_is_an_error(journal: Journal) -> None:
    with pytest.raises(JournalError, match="no such run"):
        journal.record_outcome("nowhere", "compute-1", Outcome(status="applied"), NOON)
    with pytest.raises(JournalError, match="no such run"):
        journal.close_run("nowhere", "failed", NOON)


def test_runs_come_newest_first(journal: Journal) -> None:
    plan = make_plan("p1", "compute-1")
    runs = [uuid_of(journal.open_run(plan, NOON)) for _ in range(3)]
    assert [run.uuid for run in journal.runs()] == runs[::-1]
    assert [run.uuid for run in journal.runs(limit=2)] == runs[:0:-1]


def test_the_runs_of_a_host_are_found_whatever_was_run_on_others_since(journal: Journal) -> None:
    old = [uuid_of(journal.open_run(make_plan(f"p{number}", "compute-1", "compute-2"), NOON)) for number in range(3)]
    for number in range(3, 6):
        journal.open_run(make_plan(f"p{number}", "compute-2"), NOON)
    assert [run.uuid for run in journal.runs("compute-1", limit=2)] == old[:0:-1]
    assert dict(journal.runs("compute-1")[0].hosts) == {"compute-1": "running", "compute-2": "running"}
    assert journal.runs("compute-3") == []


def test_a_plan_comes_back_as_it_was(opener: Opener) -> None:
    plan = make_plan("p1", "compute-1")
    opener().open_run(plan, NOON)
    journal = opener()
    assert journal.plan("p1") == plan
    assert journal.plan("p2") is None


def test_approval_binds_generation_and_digest(opener: Opener) -> None:
    journal = opener()
    journal.approve("compute-1", 2, "d", NOON)
    journal.approve("compute-1", 2, "d", LATER)
    journal = opener()
    asked = [("compute-1", 2, "d"), ("compute-1", 3, "d"), ("compute-1", 2, "e"), ("compute-2", 2, "d")]
    assert [journal.approved(*what) for what in asked] == [True, False, False, False]


def test_events_come_newest_first_and_by_host(opener: Opener) -> None:
    journal = opener()
    story = [
        Event(NOON, "observed", "compute-1"),
        Event(NOON, "declared", message="3 policies", data={"digest": "d", "policies": ["qat"]}),
        Event(LATER, "drift", "compute-2", "sriov.num_vfs 4 → 0"),
        Event(LATER, "applied", "compute-1"),
    ]
    for event in story:
        journal.record_event(event)
    journal = opener()
    assert journal.events() == story[::-1]
    assert journal.events(limit=1) == story[3:]
    assert journal.events("compute-1") == [story[3], story[0]]


def test_what_was_declared_may_be_recorded_again(journal: Journal) -> None:
    policy = AcceleratorPolicy(
        api_version="cyborg/v1",
        kind="AcceleratorPolicy",
        metadata=Metadata(name="qat"),
        spec=PolicySpec(host_selector=Selector(groups=("crypto",))),
    )
    declared = Declared(policies=(Located(policy, "qat.yml"),), digest="d1")
    journal.record_declarations(declared, NOON)
    journal.record_declarations(declared, LATER)
    journal.record_declarations(replace(declared, digest="d2"), LATER)


def test_the_audit_trail_tells_of_a_run_its_outcomes_and_its_end(journal: Journal) -> None:
    run = uuid_of(journal.open_run(make_plan("p1", "compute-1"), NOON))
    journal.record_outcome(run, "compute-1", Outcome(status="failed", message="no space left"), NOON)
    journal.close_run(run, "failed", LATER)
    told = [(event.kind, event.host, event.message, event.run) for event in reversed(journal.events())]
    assert told == [
        ("RunStarted", "", "plan p1", run),
        ("ApplyEnded", "compute-1", "failed: no space left", run),
        ("RunEnded", "", "failed", run),
    ]
