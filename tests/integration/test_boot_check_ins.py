# SPDX-License-Identifier: Apache-2.0
"""What becomes of a host that was rebooted and whose agent checks in with another boot id? Over a real journal."""

from dataclasses import replace
from datetime import timedelta

import msgspec
import pytest

from cyborg_reconciler.adapters.database import open_journal
from cyborg_reconciler.adapters.stored.observer import FreshestObserver, StoredObserver
from cyborg_reconciler.conductor.admission import Admission
from cyborg_reconciler.conductor.agents import Agents
from cyborg_reconciler.conductor.callers import Caller, Role
from cyborg_reconciler.conductor.saving import SaveOut, Saver
from cyborg_reconciler.core.state import Host, Phase
from cyborg_reconciler.documents.declared import Declared
from cyborg_reconciler.documents.rest.agent import CheckInGiven, InventoryGiven, LookupGiven
from cyborg_reconciler.ports import Unobserved
from cyborg_reconciler.survey import Options, survey
from cyborg_reconciler.testing import FixedClock, RecordedObserver, ignore_progress
from tests.fake_ports import fake_ports
from tests.scenarios.story import facts_of

HOST = "rebooted-1"


def booted(boot):
    """The facts of a host that runs since *boot*, as the fact modules tell them: the fingerprint counts the boot id."""
    return msgspec.structs.replace(facts_of({"hostname": HOST, "kernel": {"boot_id": boot}}), fingerprint=f"of {boot}")


class Place:
    """A host with an agent, the conductor that hears it, and the look that the loop has at it; over SSH it is down."""

    def __init__(self, journal):
        self.journal, self.clock = journal, FixedClock()
        self.saver = Saver(journal.agents(), SaveOut())
        self.agents = Agents(journal.agents(), self.saver, self.clock)
        admission = Admission(journal.agents(), self.clock)
        enroller = self.agents.enroller(admission.enrol(Caller("tests", Role.ADMIN), HOST, timedelta(hours=1)))
        given = LookupGiven(agent_version="1", inventory=InventoryGiven(hostname=HOST))
        self.token = self.agents.look_up(enroller, given)[0].token
        self.ssh = RecordedObserver({}, {HOST: Unobserved("Unreachable", "no route to host")}, clock=self.clock)
        self.sequence = 0

    def check_in(self, boot):
        self.sequence += 1
        facts = booted(boot)
        document = msgspec.Raw(msgspec.json.encode(facts))
        given = CheckInGiven("1", boot, 1, self.sequence, facts.fingerprint, facts=document)
        assert self.agents.check_in(self.agents.speaker(self.token), HOST, given).durable

    def due(self):
        """The hosts that the loop looks at next; they are taken from the queue."""
        work = self.journal.work()
        items = work.take(100, self.clock.now())
        work.done(items)
        return [(item.host, item.reason) for item in items]

    def look(self, *, connection):
        host = Host(HOST, connection=connection)
        stored = StoredObserver(self.journal, self.clock, timedelta(minutes=15))
        ports = fake_ports(Declared(), [host], self.ssh)
        observer = FreshestObserver(stored, self.ssh, self.journal)
        controller = self.journal.controller()
        survey(
            replace(ports, journal=self.journal, observer=observer, controller=controller), Options(), ignore_progress
        )

    def stands(self):
        """The phase of the host, in which it failed, and whether it is ready."""
        (record,) = self.journal.hosts([HOST])
        ready = {one.status for one in record.conditions if one.type == "Ready"}
        return str(record.phase), record.failed_in, *ready


@pytest.fixture
def place(tmp_path):
    with open_journal(tmp_path / "state") as journal:
        place = Place(journal)
        place.check_in("boot-1")
        place.look(connection=False)
        assert place.stands() == ("Idle", None, "True")
        assert place.due() == [(HOST, "CheckedIn")]
        yield place
        place.saver.close()


def test_a_host_that_comes_back_after_its_run_gave_it_up_is_looked_at_and_available_again(place):
    (record,) = place.journal.hosts([HOST])
    place.journal.record_hosts([replace(record, phase=Phase.FAILED, failed_in=Phase.REBOOTING)])
    place.check_in("boot-2")
    assert place.stands()[:2] == ("Failed", "Rebooting"), "a check-in says that it is back, and not that all is well"
    assert place.due() == [(HOST, "CheckedIn")]
    place.look(connection=False)
    assert place.stands() == ("Idle", None, "True")


def test_a_run_that_waits_for_the_reboot_goes_on_by_itself_and_the_host_is_looked_at_once_more_after_it(place):
    (record,) = place.journal.hosts([HOST])
    place.journal.record_hosts([replace(record, phase=Phase.REBOOTING)])
    place.check_in("boot-2")
    assert place.stands()[:2] == ("Rebooting", None), "its phase is the run's to say"
    assert place.due() == [(HOST, "CheckedIn")]
    place.look(connection=True)
    assert place.ssh.asked[-1] == (HOST,), "of a host that is being changed nobody knows when its agent looked"
    assert place.stands()[:2] == ("Rebooting", None)


def test_a_host_that_was_out_of_reach_is_available_again_with_its_check_in_after_the_boot(place):
    place.clock.move(3600)
    place.look(connection=True)
    assert place.stands() == ("Idle", None, "Unknown")
    place.check_in("boot-2")
    assert place.due() == [(HOST, "CheckedIn")]
    place.look(connection=True)
    assert place.stands() == ("Idle", None, "True")
