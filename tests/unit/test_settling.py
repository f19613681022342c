# SPDX-License-Identifier: Apache-2.0
"""What becomes of runs that were asked for, and of attachments to hosts, after a pass: over the fakes."""

from dataclasses import replace
from datetime import UTC, datetime

import msgspec

from cyborg_reconciler.conductor.implied import WithImplied
from cyborg_reconciler.conductor.rules import Rules
from cyborg_reconciler.conductor.settling import Settling
from cyborg_reconciler.documents.plan import ActionsSegment, Outcome, RoleSegment, StepOutcome
from cyborg_reconciler.ports import Event, Unobserved
from cyborg_reconciler.reconcile import converge
from cyborg_reconciler.stores.accelerators import Accelerator, Attachment
from cyborg_reconciler.stores.work import HostDriver
from cyborg_reconciler.survey import Options, survey
from cyborg_reconciler.testing import FAKE_CONTROLLER_ID, FakeAccelerators, change_nothing, ignore_progress
from tests.scenarios.story import driver_of, facts_of, policy_of
from tests.unit.world import World, pool_of

NOON = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)
ADDRESS = "0000:6b:00.0"
ROLES = {"install": "a.b.c", "uninstall": "a.b.c"}
QAT = driver_of({"name": "qat", "device_type": "CRYPTO", "kernel_module": "qat_4xxx", "roles": ROLES})
FRESH = {"device": {"driver": None}, "modules": [{"name": "qat_4xxx", "path": None}]}
INSTALLED = {"device": {"driver": "qat_4xxx"}, "modules": [{"name": "qat_4xxx", "loaded": True, "devices": [ADDRESS]}]}
AUTOMATIC = pool_of(approval="automatic")

CARD = Accelerator(
    uuid="8e45a2ea-5364-4b0d-a252-bf8becaa606e",
    name="card",
    created_at=NOON,
    updated_at=NOON,
    host="a",
    address=ADDRESS,
    vendor_id="8086",
    product_id="4940",
    driver="qat",
    attachment=Attachment("pending", NOON, host="a"),
)


def obey(facts, segment):
    """Install the driver where a role does, and bind the device where a step does."""
    if isinstance(segment, RoleSegment):
        found = facts_of({"hostname": "a", **(INSTALLED if segment.args["state"] == "present" else FRESH)})
        return [StepOutcome(id=segment.id, status="changed")], found
    assert isinstance(segment, ActionsSegment)
    (step,) = segment.steps
    device = {"driver": step.args["driver"], "boot_driver": step.args["driver"]}
    return [StepOutcome(id=step.id, status="changed")], facts_of({"hostname": "a", "device": device})


class NoHosts:
    """A memory without hosts: a look says what there is to be known of them."""

    def hosts(self, _names):
        return {}

    facts = hosts


class Place:
    """A host `a` with a card, its policies, and what is asked of it over the API."""

    def __init__(self, *accelerators, pools=(AUTOMATIC,), policies=(), react=obey, **facts):
        world = World("a", policies=policies, pools=pools, react=react)
        world.observer.facts["a"] = facts_of({"hostname": "a", **(facts or FRESH)})
        world.declarations.declared = replace(world.declarations.declared, drivers=(QAT,))
        self.world, self.work = world, world.journal.work()
        self.accelerators = FakeAccelerators(*accelerators)
        declarations = WithImplied(world.declarations, self.work, self.accelerators)
        self.ports = replace(world.ports, declarations=declarations)
        self.rules = Rules(world.declarations, NoHosts())
        self.settling = Settling(self.work, self.accelerators, self.rules, world.ports.clock)

    def ask(self, state="present", **more):
        more = {"driver": "qat", **more}
        one = HostDriver(host="a", state=state, declared_at=self.ports.clock.now(), **more)
        return self.work.declare(one, Event(NOON, "DriverInstallAsked", "a"))

    def look(self):
        return survey(self.ports, Options(), ignore_progress)

    def pass_over(self):
        self.settling.settle(converge(self.ports, self.look(), Options(), ignore_progress))

    def run(self, asked):
        return next(run for run in self.world.journal.runs() if run.uuid == asked.run)

    def stands(self, asked):
        run = self.run(asked)
        return run.status, run.message

    @property
    def attachment(self):
        return self.accelerators.kept[CARD.uuid].attachment.status


# -------------------------------------------------------------------------------------------- runs that were asked for
def test_a_run_that_was_asked_for_gets_what_the_next_pass_made_of_it():
    place = Place()
    asked = place.ask()
    place.pass_over()
    (mine,) = place.world.journal.runs()
    plan = place.world.journal.plan(mine.plan_uuid)
    assert (mine.uuid, mine.status, mine.hosts) == (asked.run, "applied", {"a": "applied"})
    assert list(plan.hosts) == ["a"]
    told = [event.kind for event in reversed(place.world.journal.events()) if event.run == asked.run]
    assert told == ["RunStarted", "ApplyStarted", "ApplyEnded", "RunEnded"]
    assert place.work.awaited(["a"]) == []


def test_what_is_so_already_has_come_out_well_without_a_change():
    place = Place(**INSTALLED)
    asked = place.ask()
    place.pass_over()
    assert place.stands(asked) == ("applied", "")
    assert len(place.world.journal.runs()) == 1


def test_a_driver_that_is_taken_away_again():
    place = Place(**INSTALLED)
    asked = place.ask("absent")
    place.pass_over()
    assert place.stands(asked) == ("applied", "")


def test_a_run_waits_for_approval_and_says_so():
    place = Place(pools=[pool_of(approval="manual")])
    asked = place.ask()
    place.pass_over()
    assert place.stands(asked) == ("pending", "PendingApproval: ask somebody to approve it")
    record = place.world.journal.hosts()[0]
    view = place.look().hosts["a"]
    place.world.journal.approve("a", record.generation, view.plan.digest, NOON)
    place.pass_over()
    assert place.stands(asked) == ("applied", "")


def test_a_run_waits_with_the_reason_of_its_host():
    place = Place(**{**FRESH, "modules": [{"name": "qat_4xxx", "path": None, "loaded": {"unknown": "no permission"}}]})
    asked = place.ask()
    place.pass_over()
    status, message = place.stands(asked)
    assert status == "pending"
    assert "no permission" in message
    place.world.observer.unobserved["a"] = Unobserved("Unreachable", "no route to host")
    place.pass_over()
    assert place.stands(asked) == ("pending", "Unreachable: no route to host")


def test_a_change_that_failed_ends_the_run_with_its_words_and_stays_declared():
    place = Place()
    step = StepOutcome(id="driver qat", status="failed", message="no such package")
    place.world.executor.outcomes["a"] = Outcome(status="failed", steps=[step])
    asked = place.ask()
    place.pass_over()
    assert place.stands(asked) == ("failed", "driver qat: no such package")
    assert place.run(asked).hosts == {"a": "failed"}
    assert [one.driver for one in place.work.declared()] == ["qat"]


def test_what_was_reported_as_done_and_is_not_so_has_failed():
    place = Place(react=change_nothing)
    asked = place.ask()
    place.pass_over()
    assert place.stands(asked) == ("failed", "it was carried out, and is not so")


def test_a_policy_that_says_otherwise_ends_the_run():
    policy = policy_of({"name": "mine", "driver": {"name": "qat", "state": "absent"}}, 1)
    place = Place(policies=[policy])
    asked = place.ask()
    place.pass_over()
    status, message = place.stands(asked)
    assert status == "failed"
    assert message.startswith("policy mine (mine.yml:")


def test_a_look_that_began_before_it_was_asked_for_says_nothing_of_it():
    place = Place(**INSTALLED)
    seen = place.look()
    asked = place.ask()
    place.settling.settle(seen)
    assert place.stands(asked) == ("pending", "")
    place.pass_over()
    seen = place.look()
    again = place.ask("absent")
    place.settling.settle(seen)
    assert place.stands(again) == ("pending", ""), "that look was made for what was asked for before"


# ------------------------------------------------------------------------------------------------------- attachments
def test_an_attachment_is_done_when_the_binding_was_verified():
    place = Place(CARD)
    place.pass_over()
    assert place.attachment == "done"
    (event,) = place.accelerators.events
    assert (event.kind, event.host) == ("AttachmentDone", "a")
    place.pass_over()
    assert len(place.accelerators.events) == 1, "and that is told once"


def test_an_attachment_that_binds_nothing_is_done_when_its_host_was_seen():
    place = Place(replace(CARD, driver=None))
    place.pass_over()
    assert place.attachment == "done"


def test_an_attachment_fails_with_its_hosts_change_and_is_done_when_that_succeeds():
    place = Place(CARD)
    place.world.executor.outcomes["a"] = Outcome(status="unreachable", message="no route to host")
    place.pass_over()
    assert place.attachment == "failed"
    del place.world.executor.outcomes["a"]
    place.pass_over()
    assert place.attachment == "done"


def test_an_attachment_waits_with_its_host():
    place = Place(CARD, pools=[pool_of(approval="manual")])
    place.pass_over()
    assert place.attachment == "pending"
    place.world.observer.unobserved["a"] = Unobserved("Unreachable", "no route to host")
    place.pass_over()
    assert place.attachment == "pending"


def test_an_attachment_that_somebody_else_changed_meanwhile_is_left_to_him():
    place = Place(CARD)
    seen = converge(place.ports, place.look(), Options(), ignore_progress)
    stale = place.accelerators.unsettled(["a"])
    place.accelerators.kept[CARD.uuid] = replace(CARD, version=2)
    place.accelerators.unsettled = lambda _hosts: stale
    place.settling.settle(seen)
    assert (place.attachment, place.accelerators.events) == ("pending", [])


def test_what_an_attachment_bound_goes_back_when_it_ends():
    place = Place(replace(CARD, desired_state="ready"))
    place.pass_over()
    facts = place.world.observer.facts["a"]
    owned = facts_of({"owner": FAKE_CONTROLLER_ID, "owned": {f"{ADDRESS} binding driver": "none"}}).ownership
    place.world.observer.facts["a"] = msgspec.structs.replace(facts, ownership=owned)
    place.accelerators.kept[CARD.uuid] = replace(place.accelerators.kept[CARD.uuid], attachment=None)
    changes = [change for action in place.look().hosts["a"].plan.actions for change in action.changes]
    assert [(change.path, change.declared_by.policy) for change in changes] == [((ADDRESS, "binding", "driver"), "")]
