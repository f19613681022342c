# SPDX-License-Identifier: Apache-2.0
"""Who wins, a policy or what was asked for over the API, whichever came first? Real HTTP, a real tree and journal.

Hosts report what was recorded; a pass is what the loop does with that.
"""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from cyborg_reconciler.bootstrap import SystemClock, rules_of
from cyborg_reconciler.conductor.implied import WithImplied
from cyborg_reconciler.conductor.offering import Offering
from cyborg_reconciler.conductor.settling import Settling
from cyborg_reconciler.core.state import Host
from cyborg_reconciler.survey import Options, survey
from cyborg_reconciler.testing import FixedClock, RecordedObserver, ignore_progress
from tests.fake_ports import fake_ports
from tests.integration.api_support import problem
from tests.integration.api_world import api_policy, open_world

HOST, CARD = "compute-1", "0000:6b:00.0"
CARDS = {"vendor_id": "8086", "product_id": ["4940"]}
SITE = """\
api_version: cyborg/v1
kind: Driver
metadata: {name: qat}
spec: {device_type: CRYPTO, kernel_module: qat_4xxx, match: [{vendor_id: "8086", product_id: ["4940"]}]}
"""
COMMITTED = """\
api_version: cyborg/v1
kind: AcceleratorPolicy
metadata: {name: committed}
spec:
  priority: 0
  host_selector: {groups: [crypto]}
  %s
"""
OF_CARDS = 'device_selector: {vendor_id: "8086", product_id: ["4940"]}\n  '


class Site:
    """A server, its tree, and the loop that looks at a host with a card."""

    def __init__(self, world, host=HOST):
        self.world, self.stores, self.rules = world, world.stores, rules_of(world.stores)
        self.host = host

    def __call__(self, method, path, body=None):
        return self.world(method, path, body)

    def commit(self, words):
        """Commit a policy to the tree, or take it back."""
        text = COMMITTED % words if words else ""
        (self.world.tree / "committed.yml").write_text(text, encoding="utf-8")

    def synchronise(self):
        """Do what the loop does first once it sees that the tree has changed."""
        self.stores.journal.record_declarations(self.world.declarations.read(), datetime.now(UTC))

    def pass_over(self, meanwhile=lambda: None):
        """Look at the host and settle, as a pass does that may change nothing; *meanwhile* comes between the two."""
        clock = FixedClock(datetime.now(UTC))
        observer = RecordedObserver({self.host: self.world.facts_of(self.host)}, clock=clock)
        ports = fake_ports(self.world.declarations.read(), [Host(self.host, frozenset({"crypto"}))], observer)
        journal, cards, work = self.stores.journal, self.stores.accelerators, self.stores.drivers
        declarations = WithImplied(self.world.declarations, work, cards)
        ports = replace(ports, journal=journal, controller=journal.controller(), declarations=declarations)
        seen = survey(replace(ports, clock=SystemClock()), Options(), ignore_progress)
        meanwhile()
        Offering(cards, self.rules, clock).record(seen)
        Settling(work, cards, self.rules, clock).settle(seen)
        return seen.hosts[self.host]

    @property
    def path(self):
        found = self("GET", f"/v1/accelerators?host={self.host}&driver=qat").json()["accelerator"]
        return f"/v1/accelerators/{found[0]['uuid']}"

    @property
    def card(self):
        return self("GET", self.path).json()

    def set(self, state):
        return self("PATCH", self.path, [{"op": "replace", "path": "/desired_state", "value": state}])

    def events(self, kind):
        return self("GET", f"/v1/events?kind={kind}&host={self.host}").json()["events"]


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    with open_world(tmp_path_factory.mktemp("rules")) as world:
        (world.tree / "site.yml").write_text(SITE, encoding="utf-8")
        yield Site(world)


@pytest.fixture
def site(opened):
    """The site as nobody has declared anything of its card, which is sound and has its driver."""
    opened.commit("")
    opened.synchronise()
    opened.pass_over()
    if opened.card["attachment"]:
        assert opened("DELETE", opened.path).status == 204
    assert opened.set("inactive").status == 200
    opened.pass_over()
    assert (opened.card["state"], opened.card["desired_state"]) == ("inactive", "inactive")
    return opened


def make_ready(site):
    assert site.set("ready").status == 200
    site.pass_over()
    assert site.card["state"] == "ready"


class TestStates:
    def test_a_policy_that_was_committed_is_named_before_a_pass_has_acted_on_it(self, site):
        site.commit(OF_CARDS + "state: maintenance")
        site.synchronise()
        assert "policy committed (" in problem(site.set("ready"), 409).detail
        assert site.card["desired_state"] == "inactive"
        site.commit("")
        site.synchronise()
        assert site.set("ready").status == 200

    def test_a_policy_of_the_api_counts_at_once(self, site):
        body = api_policy("mine", host_selector={"groups": ["crypto"]}, device_selector=CARDS, state="inactive")
        del body["spec"]["kernel_args"]
        assert site("POST", "/v1/policies", body).status == 201
        assert "policy mine (api: mine" in problem(site.set("ready"), 409).detail
        assert site("DELETE", "/v1/policies/mine").status == 204
        assert site.set("ready").status == 200

    def test_a_policy_that_is_committed_after_it_wins_the_accelerator_says_so_and_nothing_flaps(self, site):
        make_ready(site)
        before = len(site.events("AcceleratorOverruled"))
        site.commit(OF_CARDS + "state: inactive")
        view = site.pass_over()
        assert not view.desired.conflicts
        card = site.card
        assert (card["state"], card["desired_state"]) == ("inactive", "inactive")
        told, *earlier = site.events("AcceleratorOverruled")
        assert (len(earlier), told["before"], told["after"]) == (
            before,
            {"desired_state": "ready"},
            {"desired_state": "inactive"},
        )
        assert "policy committed (" in told["message"]
        site.pass_over()
        site.pass_over()
        assert site.card == card
        assert len(site.events("AcceleratorOverruled")) == before + 1
        assert "policy committed (" in problem(site.set("ready"), 409).detail

    @pytest.mark.parametrize(("declared", "wished"), [("maintenance", "ready"), ("ready", "ready")])
    def test_a_wish_right_after_its_policy_went_is_no_wish_of_the_policys(self, site, declared, wished):
        site.commit(OF_CARDS + f"state: {declared}")
        site.pass_over()
        assert site.card["desired_state"] == declared
        site.commit("")
        site.synchronise()
        assert site.set(wished).status == 200
        site.pass_over()
        assert (site.card["state"], site.card["desired_state"]) == (wished, wished)

    @pytest.mark.parametrize(("declared", "stored"), [("maintenance", "ready"), ("ready", "inactive")])
    def test_a_wish_that_is_as_it_was_and_not_as_a_policy_says_is_refused_and_what_was_wished_before_stays(
        self, site, declared, stored
    ):
        if stored == "ready":
            make_ready(site)
        before = site.card
        site.commit(OF_CARDS + f"state: {declared}")
        site.synchronise()
        assert "policy committed (" in problem(site.set(stored), 409).detail
        assert site.card == before
        site.commit("")
        site.pass_over()
        assert site.card == before, "no pass had seen the policy"

    def test_a_wish_that_a_policy_shares_stays_when_the_policy_goes_before_a_pass(self, site):
        site.commit(OF_CARDS + "state: ready")
        site.synchronise()
        assert site.set("ready").status == 200
        site.commit("")
        site.pass_over()
        assert (site.card["state"], site.card["desired_state"]) == ("ready", "ready")

    def test_a_wish_that_a_noted_policy_shares_is_the_policys(self, site):
        site.commit(OF_CARDS + "state: ready")
        site.pass_over()
        before = site.card
        assert site.set("ready").status == 200
        assert site.card == before
        site.commit("")
        site.pass_over()
        assert (site.card["state"], site.card["desired_state"]) == ("inactive", "inactive")

    @pytest.mark.parametrize("state", ["maintenance", "inactive"])
    def test_what_is_not_wanted_ready_any_more_is_not_offered_from_then_on(self, site, state):
        make_ready(site)
        site.pass_over(meanwhile=lambda: site.set(state))
        assert (site.card["state"], site.card["desired_state"]) == (state, state), "a look from before counts no more"
        assert f"it is {state}" in problem(site("PUT", site.path, {}), 409).detail
        site.pass_over()
        assert (site.card["state"], site.card["desired_state"]) == (state, state)

    @pytest.mark.parametrize("state", ["maintenance", "inactive"])
    def test_a_wish_after_its_policy_went_outlives_a_look_that_began_before(self, site, state):
        site.commit(OF_CARDS + "state: ready")
        site.pass_over()
        assert (site.card["state"], site.card["desired_state"]) == ("ready", "ready")
        overruled = site.events("AcceleratorOverruled")

        def meanwhile():
            site.commit("")
            site.synchronise()
            assert site.set(state).status == 200, "nobody declares it any more"

        site.pass_over(meanwhile)
        assert (site.card["state"], site.card["desired_state"]) == (state, state)
        site.pass_over()
        assert (site.card["state"], site.card["desired_state"]) == (state, state)
        assert site.events("AcceleratorOverruled") == overruled

    def test_a_wish_after_a_policy_of_the_api_went_outlives_a_look_that_began_before(self, site):
        body = api_policy("mine", host_selector={"groups": ["crypto"]}, device_selector=CARDS, state="ready")
        del body["spec"]["kernel_args"]
        assert site("POST", "/v1/policies", body).status == 201
        site.pass_over()
        assert site.card["state"] == "ready"

        def meanwhile():
            assert site("DELETE", "/v1/policies/mine").status == 204
            assert site.set("inactive").status == 200

        site.pass_over(meanwhile)
        assert (site.card["state"], site.card["desired_state"]) == ("inactive", "inactive")

    def test_a_driver_that_a_policy_declares_stays_and_is_not_offered_while_its_accelerator_is_inactive(self, site):
        site.commit("driver: {name: qat}")
        site.synchronise()
        make_ready(site)
        assert site.set("inactive").status == 200, "no policy declares its state"
        view = site.pass_over()
        assert (site.card["state"], site.card["desired_state"]) == ("inactive", "inactive")
        assert view.desired.fields["host", "driver", "qat", "state"] == "present", "what Git declares is kept so"
        assert (view.plan.actions, view.desired.restored) == ((), ())
        make_ready(site)


class TestClaims:
    """What was found is claimed by a POST, each time on a host of its own: nobody gives it back."""

    @staticmethod
    def found(site, host):
        """A host whose card was found, and where that is."""
        place = Site(site.world, host)
        place.pass_over()
        return place, {"name": f"card of {host}", "host": host, "address": CARD}

    def test_what_is_claimed_is_wanted_ready_and_is_so_once_it_was_verified(self, site):
        place, body = self.found(site, "claimed-1")
        assert (place.card["state"], place.card["desired_state"]) == ("inactive", "inactive")
        uuid = place.card["uuid"]
        answer = place("POST", "/v1/accelerators", {"name": body["name"], "uuid": uuid})
        assert (answer.status, answer.headers["Location"]) == (201, f"/accelerators/{uuid}")
        assert (place.card["state"], place.card["desired_state"]) == ("inactive", "ready")
        (told,) = place.events("AcceleratorClaimed")
        assert (told["before"]["desired_state"], told["after"]["desired_state"]) == ("inactive", "ready")
        assert "claimed-1" in {item.host for item in site.stores.leases.take(100, datetime.now(UTC))}
        place.pass_over()
        assert (place.card["state"], place.card["desired_state"]) == ("ready", "ready")

    def test_what_a_policy_declares_or_somebody_has_in_maintenance_is_claimed_as_it_is(self, site):
        place, body = self.found(site, "claimed-2")
        assert place.set("maintenance").status == 200
        assert place("POST", "/v1/accelerators", body).status == 201
        assert (place.card["name"], place.card["desired_state"]) == (body["name"], "maintenance")
        site.commit(OF_CARDS + "state: inactive")
        site.synchronise()
        place, body = self.found(site, "claimed-3")
        assert place("POST", "/v1/accelerators", body).status == 201
        place.pass_over()
        assert (place.card["state"], place.card["desired_state"]) == ("inactive", "inactive")
        assert place.events("AcceleratorOverruled") == []


class TestBindings:
    def test_a_policy_that_binds_otherwise_is_named_before_a_pass_has_acted_on_it(self, site):
        make_ready(site)
        for words in ("binding: {driver: vfio-pci}", "sriov: {num_vfs: 2}"):
            site.commit(OF_CARDS + words)
            site.synchronise()
            assert "policy committed (" in problem(site("PUT", site.path, {"host": HOST}), 409).detail
        assert site.card["attachment"] is None

    def test_a_policy_that_binds_as_the_attachment_does_is_no_obstacle(self, site):
        make_ready(site)
        before = site.events("AttachmentFailed")
        site.commit(OF_CARDS + "binding: {driver: qat_4xxx}")
        site.synchronise()
        assert site("PUT", site.path, {"host": HOST}).status == 200
        site.pass_over()
        assert site.card["attachment"]["status"] in {"pending", "done"}
        assert site.events("AttachmentFailed") == before

    def test_an_attachment_right_after_a_policy_of_its_binding_went_binds_by_itself(self, site):
        site.commit(OF_CARDS + "binding: {driver: qat_4xxx}")
        make_ready(site)
        site.commit("")
        site.synchronise()
        assert site("PUT", site.path, {"host": HOST}).status == 200
        assert site.pass_over().desired.fields[CARD, "binding", "driver"] == "qat_4xxx"

    def test_a_policy_that_is_committed_after_it_wins_and_the_attachment_says_so_until_it_goes(self, site):
        make_ready(site)
        assert site("PUT", site.path, {"host": HOST}).status == 200
        site.pass_over()
        assert site.card["attachment"]["status"] == "done"
        site.commit(OF_CARDS + "binding: {driver: vfio-pci}")
        view = site.pass_over()
        assert view.desired.fields[CARD, "binding", "driver"] == "vfio-pci"
        assert not view.desired.conflicts
        assert site.card["attachment"]["status"] == "failed"
        (told,) = site.events("AttachmentFailed")
        assert "policy committed (" in told["message"]
        settled = site.card
        site.pass_over()
        assert site.card == settled
        site.commit("")
        site.pass_over()
        site.pass_over()
        assert site.card["attachment"]["status"] == "done"

    def test_an_attachment_after_a_policy_went_does_not_fail_by_it(self, site):
        make_ready(site)
        before = site.events("AttachmentFailed")
        site.commit(OF_CARDS + "binding: {driver: vfio-pci}")

        def meanwhile():
            site.commit("")
            site.synchronise()
            assert site("PUT", site.path, {"host": HOST}).status == 200, "no policy binds it any more"

        site.pass_over(meanwhile)
        assert site.card["attachment"]["status"] == "pending"
        site.pass_over()
        assert (site.card["attachment"]["status"], site.events("AttachmentFailed")) == ("done", before)


class TestDrivers:
    def test_a_policy_that_was_committed_is_named_before_a_pass_has_acted_on_it(self, site):
        site.commit("driver: {name: qat}")
        site.synchronise()
        for wish in ("install", "update", "uninstall"):
            answer = site("POST", f"/v1/hosts/{HOST}/drivers/qat/{wish}")
            assert "policy committed (" in problem(answer, 409).detail
        site.commit("")
        site.synchronise()
        asked = site("POST", f"/v1/hosts/{HOST}/drivers/qat/install")
        assert asked.status == 202
        told, *_ = site.events("DriverInstallAsked")
        assert told["data"]["request_id"] == asked.headers["X-Openstack-Request-Id"]
        assert site("POST", f"/v1/runs/{asked.json()['uuid']}/cancel").status < 300

    def test_a_policy_that_is_committed_after_it_wins_and_the_run_says_so(self, site):
        asked = site("POST", f"/v1/hosts/{HOST}/drivers/qat/install").json()
        site.commit("driver: {name: qat, state: absent}")
        site.pass_over()
        run = site("GET", f"/v1/runs/{asked['uuid']}").json()
        assert run["status"] == "failed"
        assert "policy committed (" in run["message"]
        site.commit("")
        site.pass_over()
        assert site("GET", f"/v1/runs/{asked['uuid']}").json() == run

    def test_a_run_does_not_fail_by_a_policy_that_went_before_it_was_asked_for(self, site):
        first = site("POST", f"/v1/hosts/{HOST}/drivers/qat/install").json()
        site.pass_over()
        assert site("GET", f"/v1/runs/{first['uuid']}").json()["status"] == "applied"
        site.commit("driver: {name: qat, state: absent}")
        asked = {}

        def meanwhile():
            site.commit("")
            site.synchronise()
            asked.update(site("POST", f"/v1/hosts/{HOST}/drivers/qat/install").json())

        site.pass_over(meanwhile)
        assert site("GET", f"/v1/runs/{asked['uuid']}").json()["status"] == "pending"
        site.pass_over()
        assert site("GET", f"/v1/runs/{asked['uuid']}").json()["status"] == "applied"
