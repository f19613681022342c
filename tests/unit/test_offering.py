# SPDX-License-Identifier: Apache-2.0
"""What the API says of accelerators after a pass: which are ready, and which policies declare what. Over the fakes."""

from dataclasses import replace

import pytest

from cyborg_reconciler.conductor.offering import Offering
from cyborg_reconciler.core.state import Health
from cyborg_reconciler.ports import Unobserved
from cyborg_reconciler.stores.accelerators import Attachment
from tests.scenarios.story import driver_of, policy_of
from tests.unit.test_settling import CARD, FRESH, INSTALLED, NOON, Place
from tests.unit.world import pool_of

FOUND = replace(CARD, attachment=None, setup_required=True)
WANTED = replace(FOUND, desired_state="ready")
MANUAL = pool_of(approval="manual")


class Offered(Place):
    """A host whose accelerator is kept as it was seen."""

    def pass_over(self):
        super().pass_over()
        self.record(self.look())

    def record(self, seen):
        Offering(self.accelerators, self.rules, self.ports.clock).record(seen)

    @property
    def card(self):
        return self.accelerators.kept[CARD.uuid]

    def told(self):
        return [event.kind for event in self.accelerators.events]


def test_what_is_wanted_ready_is_set_up_verified_and_offered():
    place = Offered(WANTED)
    place.record(place.look())
    assert (place.card.state, place.card.setup_required, place.card.health) == ("inactive", True, Health.PROGRESSING)
    place.pass_over()
    card = place.card
    assert (card.state, card.desired_state, card.setup_required, card.health) == ("ready", "ready", False, "Healthy")
    assert card.state_policy == "", "an operator said so, and may say otherwise"
    assert place.told() == ["AcceleratorReady"]
    place.pass_over()
    assert place.card == card, "what is as it was is not written"


def test_what_is_ready_and_is_found_otherwise_is_not_offered_any_more():
    place = Offered(WANTED, pools=[MANUAL], **INSTALLED)
    place.record(place.look())
    assert place.card.state == "ready"
    place.world.observer.facts["a"] = Place(**FRESH).world.observer.facts["a"]
    place.record(place.look())
    assert place.card.state == "inactive"
    assert place.told() == ["AcceleratorReady", "AcceleratorInactive"]


def test_what_an_agent_says_of_its_health_outlives_passes_and_ends_the_offer_until_it_says_otherwise():
    place = Offered(replace(WANTED, told_health=Health.DEGRADED), **INSTALLED)
    place.pass_over()
    card = place.card
    assert (card.state, card.health, card.fares) == ("inactive", Health.HEALTHY, Health.DEGRADED)
    place.accelerators.kept[CARD.uuid] = replace(card, told_health=Health.HEALTHY)
    place.pass_over()
    assert (place.card.state, place.card.fares) == ("ready", Health.HEALTHY)


def test_a_host_that_is_not_observed_says_nothing_of_its_accelerators():
    place = Offered(WANTED, **INSTALLED)
    place.world.observer.unobserved["a"] = Unobserved("Unreachable", "no route to host")
    place.record(place.look())
    assert place.card == WANTED


def test_a_policy_that_declares_the_state_is_named_and_forgotten_when_it_goes():
    policy = policy_of({"name": "mine", "state": "maintenance"}, 1)
    place = Offered(FOUND, policies=[policy], **INSTALLED)
    place.record(place.look())
    card = place.card
    assert (card.state, card.desired_state, card.health) == ("maintenance", "maintenance", Health.SUSPENDED)
    assert card.state_policy.startswith("mine (mine.yml:")
    place.world.declarations.declared = replace(place.world.declarations.declared, policies=(), digest="-")
    place.record(place.look())
    assert (place.card.state, place.card.desired_state, place.card.state_policy) == ("inactive", "inactive", "")


def test_an_operators_word_stays_where_no_policy_says_anything():
    place = Offered(FOUND, **INSTALLED)
    seen = place.look()
    place.accelerators.kept[CARD.uuid] = WANTED  # after the look began
    place.record(seen)
    assert place.card.desired_state == "ready"


def test_a_policy_that_goes_while_its_accelerators_are_read_takes_its_word_along():
    policy = policy_of({"name": "mine", "state": "ready"}, 1)
    place = Offered(FOUND, policies=[policy], **INSTALLED)
    place.record(place.look())
    assert (place.card.state, place.card.desired_state) == ("ready", "ready")
    seen, found_on = place.look(), place.accelerators.found_on

    def read_first(hosts):
        found = found_on(hosts)
        place.world.declarations.declared = replace(place.world.declarations.declared, policies=(), digest="-")
        withdrawn = replace(place.card, state="inactive", desired_state="inactive", state_policy="")
        place.accelerators.kept[CARD.uuid] = replace(withdrawn, version=place.card.version + 1)
        return found

    place.accelerators.found_on = read_first
    place.record(seen)
    assert (place.card.state, place.card.desired_state, place.card.state_policy) == ("inactive", "inactive", "")


@pytest.mark.parametrize("driver", ["qat_4xxx", "vfio-pci"])
def test_a_policy_that_declares_the_binding_is_named(driver):
    policy = policy_of({"name": "mine", "binding": {"driver": driver}}, 1)
    place = Offered(FOUND, policies=[policy], pools=[MANUAL], **INSTALLED)
    place.record(place.look())
    assert place.card.binding_policy.startswith("mine (mine.yml:")


def test_an_attachment_is_no_policy():
    place = Offered(replace(WANTED, attachment=Attachment("pending", NOON, host="a")))
    place.pass_over()
    assert place.card.binding_policy == ""


@pytest.mark.parametrize("wanted", ["qat", "any"])
def test_a_driver_that_is_uninstalled_takes_its_ready_accelerator_along_until_it_is_installed_again(wanted):
    place = Offered(WANTED, **INSTALLED)
    if wanted == "any":  # one that has nothing to install or to take away, as the catalogue's generic-pci
        generic = driver_of({"name": "any", "device_type": "GENERIC"})
        place.world.declarations.declared = replace(place.world.declarations.declared, drivers=(generic,))
    place.pass_over()
    assert place.card.state == "ready"
    asked = place.ask("absent", driver=wanted)
    place.pass_over()
    assert place.stands(asked) == ("applied", "")
    (record,) = place.world.journal.hosts()
    assert (record.sync, record.reason) == ("Synced", "")
    assert (place.card.state, place.card.desired_state, place.card.setup_required) == ("inactive", "ready", True)
    again = place.ask(driver=wanted)
    place.pass_over()
    assert place.stands(again) == ("applied", "")
    assert place.card.state == "ready"
