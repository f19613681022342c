# SPDX-License-Identifier: Apache-2.0
"""What the worker asks of accelerators, and keeps of them: one suite over both databases and over the fake."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy.event import listen

from cyborg_reconciler.adapters.database import open_journal
from cyborg_reconciler.adapters.database.accelerator_store import DatabaseAccelerators
from cyborg_reconciler.core.state import Health
from cyborg_reconciler.meters import QUEUE_LENGTH
from cyborg_reconciler.ports import Event, Unobserved
from cyborg_reconciler.stores.accelerators import Accelerator, AcceleratorFilter, AcceleratorStore, Attachment
from cyborg_reconciler.testing import FakeAccelerators
from tests.contract.test_journal import LATER, NOON
from tests.integration.databases import opened_anew


def accelerator(number: int, **more: object) -> Accelerator:
    given = {"host": "a", "address": f"0000:6b:00.{number}", **more}
    return Accelerator(uuid=str(UUID(int=number)), name=f"card {number}", created_at=NOON, updated_at=NOON, **given)


def event(one: Accelerator) -> Event:
    return Event(LATER, "Told", one.host or "", one.name)


CARDS = (
    accelerator(0),
    accelerator(1, attachment=Attachment("pending", NOON, host="a")),
    accelerator(2, attachment=Attachment("done", NOON, host="a")),
    accelerator(3, attachment=Attachment("failed", NOON, host="b")),
    accelerator(4, attachment=Attachment("done", NOON, instance_uuid=str(UUID(int=9))), desired_state="ready"),
    accelerator(5, host="b", desired_state="maintenance", present=False, health=Health.MISSING),
    accelerator(6, host=None, address=None, desired_state="ready"),
)
#: A PF whose VFs are offered in its place.
DIVIDED = accelerator(7, desired_state="maintenance", present=False, health=Health.HEALTHY)


@pytest.fixture(params=["sqlite", "postgresql", "fake"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[FakeAccelerators]:
    if request.param == "fake":
        yield FakeAccelerators(*CARDS)
        return
    yield from stored(request, tmp_path)


def stored(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[AcceleratorStore]:
    database = request.getfixturevalue("postgresql") if request.param == "postgresql" else ""
    with ExitStack() as stack:
        opened = stack.enter_context(open_journal(tmp_path / "state", database=database)).accelerators()
        for one in CARDS:
            opened.add(one, event(one))
        yield opened


def numbers(found: list[Accelerator]) -> list[int]:
    return sorted(UUID(one.uuid).int for one in found)


def test_accelerators_are_found_by_host_and_by_what_is_asked_of_them(store: FakeAccelerators) -> None:
    assert numbers(store.found_on(["a", "b"])) == [0, 1, 2, 3, 4]
    assert numbers(store.found_on(["b"])) == []
    assert numbers(store.unsettled(["a"])) == [1]
    assert numbers(store.unsettled(["a", "b"])) == [1, 3]
    assert numbers(store.implying()) == [1, 2, 4]


def test_what_is_wanted_of_a_pf_is_wanted_of_the_card_that_its_vfs_are_offered_of(databases: AcceleratorStore) -> None:
    held = replace(DIVIDED, uuid=CARDS[1].uuid[:-1] + "8", name="held", attachment=CARDS[2].attachment)
    fake = FakeAccelerators(*CARDS, DIVIDED, replace(held, desired_state="inactive"))
    for one in (DIVIDED, replace(held, desired_state="inactive")):
        databases.add(one, event(one))
    assert numbers(databases.implying()) == numbers(fake.implying()) == [1, 2, 4, 7]


def test_what_was_observed_is_kept_where_nobody_has_changed_anything_meanwhile(store: FakeAccelerators) -> None:
    one, other = (found for found in store.found_on(["a"]) if UUID(found.uuid).int < 2)
    store.record([(replace(one, state="ready"), [event(one)])])
    assert {found.name: (found.state, found.version) for found in store.found_on(["a"])}[one.name] == ("ready", 2)
    late = replace(one, state="maintenance", updated_at=LATER)
    store.record([(late, [event(one)]), (replace(other, state="ready"), [])])
    states = {found.name: found.state for found in store.found_on(["a"])}
    assert (states[one.name], states[other.name]) == ("ready", "ready")


def test_who_adds_or_updates_an_accelerator_has_its_hosts_looked_at_and_who_observes_it_has_not(
    database: str, tmp_path: Path
) -> None:
    with open_journal(tmp_path / "state", database=database) as journal:
        store, work = journal.accelerators(), journal.work()
        nowhere, here = CARDS[6], CARDS[0]
        store.add(nowhere, event(nowhere))
        assert work.take(9, LATER) == []
        store.add(here, event(here))
        (item,) = work.take(9, LATER)
        assert (item.host, item.reason) == ("a", "Told")
        work.done([item])
        store.record([(replace(here, state="ready"), [event(here)])])
        assert work.take(9, LATER) == []
        attached = replace(nowhere, attachment=Attachment("pending", NOON, host="b"))
        store.update(attached, 1, event(nowhere))
        assert [item.host for item in work.take(9, LATER)] == ["b"]
        assert [told.name for told in store.unsettled(["b"])] == ["card 6"]
        assert len(journal.events(limit=9)) == 4
        assert journal.tallies().tallies()[QUEUE_LENGTH] == {(): 1}


@pytest.fixture(params=["sqlite", "postgresql"])
def databases(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[AcceleratorStore]:
    """The store on both databases: the fake has no pages, for which nothing but the API asks."""
    yield from stored(request, tmp_path)


@pytest.mark.parametrize("sort", ["uuid", "name", "host", "created_at"])
@pytest.mark.parametrize("descending", [False, True])
def test_pages_have_each_accelerator_once_whatever_they_are_ordered_by(databases, sort, descending) -> None:
    seen, marker, more = [], "", True
    while more:
        page = databases.page(AcceleratorFilter(sort=sort, descending=descending, limit=2, marker=marker))
        seen += [json.loads(document) for document in page.documents]
        marker, more = page.last, page.more
    places = [(one[sort] or "", one["uuid"]) for one in seen]
    assert places == sorted(places, reverse=descending)
    assert len({one["uuid"] for one in seen}) == len(seen) == len(CARDS)


def test_a_page_has_what_is_asked_for_alone(databases) -> None:
    def found(**wanted: object) -> list[str]:
        page = databases.page(AcceleratorFilter(**wanted))
        assert not page.more
        return [json.loads(document)["name"] for document in page.documents]

    assert found(equal={"host": "b"}) == ["card 5"]
    assert found(equal={"host": "a", "desired_state": "ready"}) == ["card 4"]
    assert found(equal={"host": "a"}, attached=False) == ["card 0"]
    assert found(attached=True) == ["card 1", "card 2", "card 3", "card 4"]
    assert found(equal={"host": "'; DROP TABLE accelerators"}) == []


def test_what_stays_on_its_host_with_its_driver_has_its_backend_already(tmp_path: Path, database: str) -> None:
    one, said = accelerator(0, driver="dummy"), []
    with open_journal(tmp_path / "state", database=database) as journal:
        journal.record_observations({"a": Unobserved("Unreachable", "")})
        journal.accelerators().add(one, event(one))
        with opened_anew(tmp_path / "state", database) as engine:
            listen(engine, "before_cursor_execute", lambda *told: said.append(told[2]))
            then = DatabaseAccelerators(engine).update(replace(one, desired_state="ready"), one.version, event(one))
            DatabaseAccelerators(engine).record([(replace(then, state="ready"), [event(one)])])
        assert journal.accelerators().accelerator(one.uuid).state == "ready"
    assert not [statement for statement in said if "backends" in statement]
