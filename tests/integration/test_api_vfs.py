# SPDX-License-Identifier: Apache-2.0
"""What becomes of what an operator wants of a card once the card is offered by its VFs? Real HTTP, a real journal.

Hosts report what was recorded; a pass is what the loop does with that.
"""

import msgspec
import pytest

from tests.integration.api_support import problem
from tests.integration.api_world import open_world
from tests.integration.test_api_rules import CARD, SITE, Site

VF = "0000:6b:00.1"


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    with open_world(tmp_path_factory.mktemp("vfs")) as world:
        (world.tree / "site.yml").write_text(SITE, encoding="utf-8")
        world.whole = world.facts
        yield world


def divide(world):
    """Have hosts report that the card has a VF."""
    pf = next(one for one in world.whole.devices if one.address == CARD)
    vf = msgspec.structs.replace(pf, address=VF, product_id="4941", physfn=CARD, vf_index=0, total_vfs=None)
    pf = msgspec.structs.replace(pf, num_vfs=1, vfs=[VF])
    others = [one for one in world.whole.devices if one.address != CARD]
    world.facts = msgspec.structs.replace(world.whole, devices=[*others, pf, vf])


def divided(site, world):
    """What a pass saw once the card had a VF, after one at whose beginning the card was still offered itself."""
    divide(world)
    site.pass_over()
    return site.pass_over()


def card_and_vf(site):
    """The card and its VF, as the API tells of them."""
    found = site("GET", f"/v1/accelerators?host={site.host}&driver=qat").json()["accelerator"]
    by_address = {one["attach_info"]["address"]: one for one in found}
    return by_address[CARD], by_address[VF]


def states(one):
    return one["state"], one["desired_state"]


@pytest.fixture
def site(world, request):
    """A host of its own, whose card has no VFs yet."""
    world.facts = world.whole
    site = Site(world, request.node.name.replace("_", "-"))
    site.pass_over()
    return site


def set_state(site, one, state):
    steps = [{"op": "replace", "path": "/state", "value": state}]
    return site("PATCH", f"/v1/accelerators/{one['uuid']}", steps)


def test_a_card_in_maintenance_stays_so_whoever_makes_vfs_of_it(site, world):
    assert site.set("maintenance").status == 200
    site.pass_over()
    view = divided(site, world)
    card, vf = card_and_vf(site)
    assert (states(card), states(vf)) == (("maintenance", "maintenance"),) * 2
    assert view.plan.actions == ()
    assert set(view.desired.lifecycle.in_maintenance) == {CARD, VF}
    assert f"its PF, {card['name']}, is to be maintenance" in problem(set_state(site, vf, "ready"), 409).detail
    assert set_state(site, card, "inactive").status == 200
    site.pass_over()
    assert [states(one) for one in card_and_vf(site)] == [("inactive", "inactive")] * 2


def test_a_ready_card_has_ready_vfs_and_keeps_its_driver(site, world):
    assert site.set("ready").status == 200
    site.pass_over()
    view = divided(site, world)
    assert view.desired.fields["host", "driver", "qat", "state"] == "present", "nobody has taken it back"
    card, vf = card_and_vf(site)
    assert (states(card), states(vf)) == (("inactive", "ready"), ("ready", "ready"))
    assert "and its VFs with it" in problem(set_state(site, vf, "inactive"), 409).detail
    assert set_state(site, vf, "maintenance").status == 200, "of one VF alone"
    site.pass_over()
    card, vf = card_and_vf(site)
    assert (states(card), states(vf)) == (("inactive", "ready"), ("maintenance", "maintenance"))
    assert set_state(site, card, "inactive").status == 200
    assert set_state(site, vf, "inactive").status == 200
    site.pass_over()
    assert [states(one) for one in card_and_vf(site)] == [("inactive", "inactive")] * 2
