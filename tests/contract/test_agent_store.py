# SPDX-License-Identifier: Apache-2.0
"""What both databases keep of agents: commands until they are done, where agents are called, what drivers found."""

import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from sqlalchemy import select

from cyborg_reconciler.adapters.database import open_journal, schema
from cyborg_reconciler.adapters.database.engine import reading
from cyborg_reconciler.core.accelerators import Unit, units, uuid_of
from cyborg_reconciler.core.state import Health, Host
from cyborg_reconciler.limits import HOST_DEVICES
from cyborg_reconciler.ports import Event
from cyborg_reconciler.stores.accelerators import Accelerator
from cyborg_reconciler.stores.agents import Agent, AgentDriver, CheckIn, DriverHardware, Enrolment, Inventory, digest_of
from cyborg_reconciler.stores.work import HostDriver
from tests.integration.databases import opened_anew
from tests.scenarios.story import facts_of

NOW = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)
HOST = "compute-7"
ASKED = Event(NOW, "AgentAsked")


@pytest.fixture
def journal(tmp_path, database):
    with open_journal(tmp_path / "state", database=database) as journal:
        store, event = journal.agents(), Event(NOW, "AgentEnrolled", HOST)
        store.mint("hash", Enrolment(HOST, NOW + timedelta(hours=1)), event)
        assert store.enrol(Agent(host=HOST, uuid=""), "hash", Inventory(HOST), event)
        yield journal


@pytest.fixture
def store(journal):
    return journal.agents()


def unit(address="dummy:0", **more):
    said = {"driver": "dummy", "setup_required": True, **more}
    return Unit(address=address, identity=(), is_accelerator=True, **said)


def told(found, *drivers):
    return DriverHardware(frozenset(drivers or ("dummy",)), {"dummy": found})


def keep(store, said, sequence):
    terms = {"boot_id": "b", "fingerprint": "", "agent_version": "1", "received_at": NOW}
    assert store.keep([CheckIn(host=HOST, epoch=1, sequence=sequence, hardware=said, **terms)]) == [True]


def test_a_command_is_there_until_it_is_done_and_its_number_is_never_given_again(store):
    store.command([HOST], "discover", None, ASKED)
    store.command([HOST], "discover", None, ASKED)
    (first,) = store.commands(HOST)
    assert store.commands(HOST) == [first]
    store.done("compute-8", [first.id])
    assert store.commands(HOST) == [first]
    store.done(HOST, [first.id, 2**62])
    assert store.commands(HOST) == []
    store.command([HOST], "send_facts", None, ASKED)
    assert store.commands(HOST)[0].id > first.id


def test_what_is_asked_for_and_the_event_that_tells_of_it_are_kept_together(journal, store):
    untold = replace(ASKED, data={"driver": object()})
    with pytest.raises(TypeError):
        store.command([HOST], "discover", None, untold)
    with pytest.raises(TypeError):
        store.ask_for_discovery([HOST], None, untold)
    assert (store.commands(HOST), journal.work().take(9, NOW)) == ([], [])
    assert store.ask_for_discovery([HOST, "nobody"], None, ASKED) == ["nobody"]
    assert "AgentAsked" not in {event.kind for event in journal.events()}
    assert store.ask_for_discovery([HOST], None, ASKED) == []
    store.command([HOST], "rotate_token", None, ASKED)
    assert [(event.kind, event.host) for event in journal.events(limit=2)] == [("AgentAsked", HOST), ("AgentAsked", "")]


def test_a_new_token_is_no_command_any_more_once_it_is_in_use(store):
    store.command([HOST], "rotate_token", None, ASKED)
    store.command([HOST], "discover", "dummy", ASKED)
    assert store.set_token(store.agent(HOST), "old", "new", Event(NOW, "AgentTokenTold", HOST))
    assert [one.command for one in store.commands(HOST)] == ["rotate_token", "discover"]
    assert store.set_token(store.agent(HOST), "new", "", Event(NOW, "AgentTokenRotated", HOST))
    assert [one.command for one in store.commands(HOST)] == ["discover"]


def test_an_agent_is_called_where_the_inventory_last_said(journal, store):
    assert store.endpoint(HOST) == ""
    for endpoint in ("https://compute-7:1337", "https://compute-7:1338", ""):
        journal.record_inventory([Host(HOST, agent_endpoint=endpoint)])
        assert store.endpoint(HOST) == endpoint


def test_what_a_driver_found_is_kept_judged_by_what_is_desired_and_missing_when_it_is_gone(journal, store):
    one, accelerators = str(uuid.uuid4()), journal.accelerators()
    assert store.is_news(HOST, told({one: unit()}), NOW)
    keep(store, told({one: unit()}), 1)
    assert not store.is_news(HOST, told({one: unit()}), NOW)
    assert not store.is_news(HOST, DriverHardware(frozenset({"dummy"})), NOW)  # it was not heard
    assert store.ready(HOST) == []

    kept = accelerators.accelerator(one)
    assert (kept.origin, kept.state, kept.driver, kept.name) == ("driver", "inactive", "dummy", f"{HOST} dummy:0")
    wanted = accelerators.update(
        replace(kept, desired_state="ready"), kept.version, Event(NOW, "AcceleratorPatched", HOST)
    )
    assert [(wish.driver, wish.address, wish.uuid) for wish in store.ready(HOST)] == [("dummy", "dummy:0", one)]
    keep(store, told({one: unit(setup_required=False)}), 2)
    assert accelerators.accelerator(one).state == "ready"
    assert accelerators.accelerator(one).version == wanted.version + 1

    absent = HostDriver(host=HOST, driver="dummy", state="absent", declared_by="operator", declared_at=NOW)
    journal.work().declare(absent, Event(NOW, "DriverUninstallAsked", HOST))
    assert store.ready(HOST) == []
    assert store.is_news(HOST, told({one: unit(setup_required=False)}), NOW)
    keep(store, told({}), 3)
    gone = accelerators.accelerator(one)
    assert (gone.present, gone.health, gone.state) == (False, Health.MISSING, "inactive")
    keep(store, told({one: unit()}), 4)
    assert accelerators.accelerator(one).present
    assert store.is_news(HOST, DriverHardware(), NOW)  # there is no such driver any more


def test_what_an_operator_told_of_before_it_was_found_is_that_and_ready_only_once_it_was_verified(journal, store):
    facts = facts_of({"hostname": HOST, "device": {"num_vfs": 0}})
    (found,) = units(facts, {})
    made, accelerators = str(uuid_of(found, uuid.UUID(store.agent(HOST).uuid))), journal.accelerators()
    told_of = Accelerator(
        uuid=made, name="mine", created_at=NOW, updated_at=NOW, origin="api", state="ready", desired_state="ready"
    )
    accelerators.add(told_of, Event(NOW, "AcceleratorCreated"))
    terms = {"boot_id": "b", "agent_version": "1", "received_at": NOW, "host": HOST, "epoch": 1}
    first = CheckIn(sequence=1, fingerprint="f", facts=facts, document=msgspec.json.encode(facts), **terms)
    assert store.keep([first]) == [True]
    one = accelerators.accelerator(made)
    assert (one.name, one.host, one.address, one.device_type) == ("mine", HOST, found.address, found.device_type)
    assert (one.state, one.desired_state) == ("inactive", "ready")
    gone = msgspec.structs.replace(facts, devices=[], fingerprint="g")
    then = replace(first, sequence=2, fingerprint="g", facts=gone, document=msgspec.json.encode(gone))
    assert store.keep([then]) == [True]
    assert accelerators.accelerator(made).health is Health.MISSING


def test_what_stands_at_one_address_has_names_of_its_own(journal, store):
    alike = [f"aaaaaaaa-0000-4000-8000-{number:012}" for number in range(4)]
    keep(store, told({one: unit() for one in alike}), 1)
    names = [journal.accelerators().accelerator(one).name for one in alike]
    stands = f"{HOST} dummy:0"
    assert names == [stands, f"{stands} aaaaaaaa", *(f"{stands} {one}" for one in alike[2:])]


def test_what_nobody_has_is_forgotten_with_its_driver(journal, store):
    free, wanted, claimed, lost = (str(uuid.uuid4()) for _ in range(4))
    accelerators, event = journal.accelerators(), Event(NOW, "AcceleratorPatched", HOST)
    keep(store, told({one: unit() for one in (free, wanted, claimed, lost)}), 1)
    for one, said in ((wanted, {"desired_state": "ready"}), (claimed, {"claimed": True})):
        kept = accelerators.accelerator(one)
        accelerators.update(replace(kept, **said), kept.version, event)
    keep(store, told({one: unit() for one in (free, wanted, claimed)}), 2)
    assert accelerators.accelerator(lost).health is Health.MISSING  # its driver may tell of it again
    keep(store, DriverHardware(), 3)
    assert [accelerators.accelerator(one) for one in (free, lost)] == [None, None]
    assert {accelerators.accelerator(one).health for one in (wanted, claimed)} == {Health.MISSING}
    assert [one.kind for one in journal.events(HOST, 100)].count("AcceleratorMissing") == 4
    assert not store.is_news(HOST, DriverHardware(), NOW)


def test_of_more_than_a_host_may_have_those_that_are_missing_are_forgotten(journal, store):
    first, second = ({str(uuid.uuid4()): unit(f"dummy:{number}") for number in range(1100)} for _ in range(2))
    keep(store, told(first), 1)
    keep(store, told(second), 2)
    found = journal.hardware().page(HOST, 5000, "").documents
    assert len(found) == len(second)
    assert journal.accelerators().accelerator(next(iter(first))) is None


def test_a_host_whose_drivers_fall_silent_one_by_one_has_no_more_than_others(journal, store):
    many = HOST_DEVICES // 2
    for sequence in range(1, 4):
        name = f"driver-{sequence}"
        found = {str(uuid.uuid4()): unit(f"{name}:{number}", driver=name) for number in range(many + 1)}
        keep(store, DriverHardware(frozenset(f"driver-{number}" for number in range(1, 4)), {name: found}), sequence)
    assert len(journal.hardware().page(HOST, 5000, "").documents) == HOST_DEVICES
    told_of = [one.message for one in journal.events(HOST, 5000) if one.kind == "HardwareLeftOut"]
    words = "{} devices of its drivers are left out: 2048 are kept of a host"
    assert told_of == [words.format(many + 1), words.format(2)]


def test_of_a_driver_that_has_more_than_it_tells_of_nothing_is_missing(journal, store):
    one, other = str(uuid.uuid4()), str(uuid.uuid4())
    keep(store, told({one: unit(), other: unit("dummy:1")}), 1)
    keep(store, replace(told({other: unit("dummy:1")}), partial=frozenset({"dummy"})), 2)
    assert journal.accelerators().accelerator(one).present
    keep(store, told({other: unit("dummy:1")}), 3)
    assert not journal.accelerators().accelerator(one).present


@pytest.fixture
def backends(tmp_path, database):
    """Return what returns the drivers that have a backend."""

    def read():
        with opened_anew(tmp_path / "state", database) as engine, reading(engine) as connection:
            return set(connection.execute(select(schema.backends.c.driver)).scalars())

    return read


def said(sequence, *names):
    terms = {"boot_id": "b", "fingerprint": "", "agent_version": "1", "received_at": NOW}
    drivers = [AgentDriver(name, "CRYPTO", "READY") for name in names]
    return CheckIn(host=HOST, epoch=1, sequence=sequence, drivers=drivers, **terms)


def test_a_backend_that_no_agent_tells_of_and_that_has_nothing_is_forgotten(store, backends):
    keep(store, told({str(uuid.uuid4()): unit()}), 1)
    store.keep([said(2, "a", "b")])
    assert backends() == {"a", "b", "dummy"}
    store.keep([said(3, "b", "c")])
    assert backends() == {"b", "c", "dummy"}


@pytest.mark.parametrize("sequence", [2, 4])
def test_who_was_merely_heard_takes_back_nothing_that_was_told_before_that_was_written(
    journal, store, backends, sequence
):
    store.keep([said(1, "a")])
    heard = said(sequence, "a")  # nothing new, as of then
    store.keep([said(3, "b")])
    store.fall_silent(NOW + timedelta(minutes=1), NOW)
    store.touch([heard])
    assert (backends(), set(store.drivers(HOST))) == ({"b"}, {"b"})
    assert store.agent(HOST).drivers == digest_of(said(3, "b").drivers), (
        "so the next check-in that tells others is news"
    )
    assert store.agent(HOST).silent is (sequence < 3)
    assert [event.kind for event in journal.events(HOST, 10)].count("AgentHeard") == (sequence > 3)
