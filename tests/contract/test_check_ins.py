# SPDX-License-Identifier: Apache-2.0
"""What is kept of check-ins that are written together, over both databases."""

import json
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import msgspec
import pytest
from sqlalchemy import event, text

from ansible_collections.openstack.cyborg.plugins.module_utils.facts import gather
from ansible_collections.openstack.cyborg.plugins.module_utils.tree import Tree
from cyborg_reconciler.adapters.database import accelerator_rows, agent_rows, open_journal
from cyborg_reconciler.adapters.database.agent_store import Ahead, DatabaseAgents
from cyborg_reconciler.adapters.database.discovery_rows import found_by
from cyborg_reconciler.adapters.database.engine import reading, writing
from cyborg_reconciler.adapters.database.event_rows import in_order
from cyborg_reconciler.core.accelerators import Unit, settle, units
from cyborg_reconciler.documents.declared import Declared
from cyborg_reconciler.documents.facts import decode_facts
from cyborg_reconciler.errors import ConflictError
from cyborg_reconciler.ports import Event, Observation
from cyborg_reconciler.simulation import samples
from cyborg_reconciler.simulation.hosts import write_tree
from cyborg_reconciler.stores.accelerators import Accelerator, Attachment
from cyborg_reconciler.stores.agents import Agent, AgentDriver, CheckIn, DriverHardware, Enrolment, Inventory, digest_of
from cyborg_reconciler.stores.work import HostDriver
from tests.integration.api_support import until
from tests.integration.databases import opened_anew

NOON = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)
ENROLLED = Event(NOON, "AgentEnrolled")
SAID = {"epoch": 1, "boot_id": "b", "agent_version": "1", "received_at": NOON}
MACHINES = {machine.name: machine for machine in samples.demo_machines()}


@pytest.fixture(scope="module")
def facts(tmp_path_factory):
    """The facts of two hosts that are not alike, under one fingerprint: an agent may say what it likes."""
    found = {}
    for name in ("gpu-1", "qat-1"):
        root = tmp_path_factory.mktemp(name)
        write_tree(MACHINES[name], root)
        read = decode_facts(json.dumps(gather(Tree(str(root)), connection="local")))
        found[name] = msgspec.structs.replace(read, fingerprint="f")
    return found


def check_in(host, facts, sequence=1):
    told = {"fingerprint": facts.fingerprint, "facts": facts, "document": b"{}"}
    return CheckIn(host=host, sequence=sequence, **SAID, **told)


@pytest.fixture
def journal(tmp_path, database):
    with open_journal(tmp_path / "state", database=database, busy_timeout_s=60) as journal:
        for host in MACHINES:
            enrol(journal, host)
        yield journal


def enrol(journal, host):
    journal.agents().mint(host, Enrolment(host, NOON + timedelta(days=1)), ENROLLED)
    journal.agents().enrol(Agent(host=host, uuid="", token_hash=host), host, Inventory(), ENROLLED)


def addresses(journal, host):
    return {json.loads(one)["address"] for one in journal.hardware().page(host, 100, "").documents}


def test_nobody_s_hardware_is_another_s_whatever_fingerprint_he_tells(journal, facts):
    assert journal.agents().keep([check_in(host, found) for host, found in facts.items()]) == [True, True]
    for host, found in facts.items():
        assert addresses(journal, host) == {device.address for device in found.devices}


def test_of_one_host_s_check_ins_the_newest_counts_and_older_ones_are_told_so(journal, facts):
    first = msgspec.structs.replace(facts["gpu-1"], devices=facts["gpu-1"].devices[:1], fingerprint="one")
    told = [check_in("gpu-1", facts["gpu-1"], 2), check_in("gpu-1", first, 1), check_in("gpu-1", first, 3)]
    assert journal.agents().keep(told) == [True, False, True]
    assert addresses(journal, "gpu-1") == {first.devices[0].address}
    assert journal.agents().agent("gpu-1").fingerprint == "one"


def test_what_an_agent_tells_after_the_clock_was_set_back_is_kept_and_is_when_it_was_heard(journal, facts):
    store, found = journal.agents(), facts["gpu-1"]
    store.keep([replace(check_in("gpu-1", found, 1), received_at=NOON + timedelta(hours=1))])
    newest = msgspec.structs.replace(found, devices=found.devices[:1], fingerprint="newest")
    assert store.keep([check_in("gpu-1", newest, 2)]) == [True]
    assert addresses(journal, "gpu-1") == {newest.devices[0].address}
    assert journal.reported(NOON - timedelta(minutes=1)) == {"gpu-1": NOON}


@pytest.mark.parametrize("is_news", [True, False])
def test_a_fingerprint_is_that_of_the_facts_that_are_kept_whatever_is_heard_later(journal, facts, is_news):
    store, found = journal.agents(), facts["qat-1"]
    store.keep([check_in("qat-1", found, 1)])
    heard = replace(check_in("qat-1", found, 3), facts=None, document=b"")  # as it was before what comes next
    store.keep([check_in("qat-1", msgspec.structs.replace(found, fingerprint="other"), 2)])
    (store.keep if is_news else store.touch)([heard])
    assert store.agent("qat-1").fingerprint == "other", "so the next check-in is asked for its facts"
    assert store.agent("qat-1").sequence == 3


def test_what_was_looked_at_ahead_by_another_catalogue_is_looked_at_again(facts):
    found = facts["qat-1"]
    old, new = {}, {}
    ahead = Ahead(old, found_by({("qat-1", "f"): found}, old))
    observed = {"qat-1": Observation(found, b"{}", NOON)}
    assert ahead.found_by(observed, old)["qat-1"] is ahead.found["qat-1", "f"]
    again = ahead.found_by(observed, new)["qat-1"]
    assert again is not ahead.found["qat-1", "f"]
    assert again == ahead.found["qat-1", "f"]


def test_the_catalogue_is_the_same_object_until_something_else_is_declared(journal, facts):
    store = journal.agents()
    ahead = [store.look_ahead([check_in("qat-1", facts["qat-1"])]) for _ in range(2)]
    assert ahead[0].catalogue is ahead[1].catalogue
    journal.record_declarations(Declared((), digest="d1"), NOON)
    declared = store.look_ahead([])
    assert declared.catalogue is not ahead[0].catalogue
    assert store.look_ahead([]).catalogue is declared.catalogue


def dummy(host, device, sequence=1):
    """A check-in of a host whose driver tells of one device."""
    unit = Unit(address="dummy:0", identity=(), is_accelerator=True, driver="dummy")
    hardware = DriverHardware(frozenset({"dummy"}), {"dummy": {device: unit}})
    return CheckIn(host=host, sequence=sequence, fingerprint="", hardware=hardware, **SAID)


@pytest.mark.parametrize("whose", ["operator", "driver"])
def test_a_device_whose_uuid_something_else_has_gets_another_and_keeps_it(journal, facts, whose):
    agents, accelerators = journal.agents(), journal.accelerators()
    (host_uuid,) = (UUID(one.uuid) for one in journal.hosts(["qat-1"]))
    there = units(facts["qat-1"], {})
    taken = min(map(str, settle(there, host_uuid, ()).values()))
    if whose == "operator":
        given = {"host": "gpu-1", "origin": "api", "created_at": NOON, "updated_at": NOON}
        accelerators.add(Accelerator(uuid=taken, name="mine", **given), ENROLLED)
    else:
        assert agents.keep([dummy("gpu-1", taken)]) == [True]
    before = accelerators.accelerator(taken)
    agents.keep([check_in("qat-1", facts["qat-1"], 1)])
    found = journal.hardware().page("qat-1", 100, "").documents
    assert {json.loads(one)["address"] for one in found} == {unit.address for unit in there}
    assert taken not in {json.loads(one)["uuid"] for one in found}
    assert accelerators.accelerator(taken) == before
    turned = msgspec.structs.replace(facts["qat-1"], devices=facts["qat-1"].devices[::-1], fingerprint="again")
    agents.keep([check_in("qat-1", turned, 2)])
    assert journal.hardware().page("qat-1", 100, "").documents == found


@pytest.mark.parametrize("host", [None, "qat-1"])
def test_what_an_operator_told_of_before_is_the_hardware_with_its_uuid(journal, facts, host):
    (host_uuid,) = (UUID(one.uuid) for one in journal.hosts(["qat-1"]))
    found = units(facts["qat-1"], {})
    uuids = {str(uuid): address for address, uuid in settle(found, host_uuid, ()).items()}
    for uuid_ in uuids:
        given = {"created_at": NOON, "updated_at": NOON, "origin": "api", "claimed": True, "state": "ready"}
        told = Accelerator(uuid=uuid_, name=uuid_, host=host, **given)
        assert bool(told.waits) == bool(host)
        journal.accelerators().add(told, ENROLLED)
    assert journal.agents().keep([check_in("qat-1", facts["qat-1"])]) == [True]
    documents = journal.hardware().page("qat-1", 100, "").documents
    assert {json.loads(one)["uuid"] for one in documents} == uuids.keys()
    offered = journal.accelerators().found_on(["qat-1"])
    assert offered
    for one in offered:
        assert (one.name, one.address, one.state) == (one.uuid, uuids[one.uuid], "inactive")
        assert not one.waits


def waiting(engine):
    """How many transactions wait for what another one has."""
    waits = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
    with reading(engine) as connection:
        return connection.execute(text(waits)).scalar_one()


def test_a_look_that_came_in_after_a_check_in_and_had_seen_less_has_its_host_looked_at_again(journal, facts):
    before = msgspec.structs.replace(facts["qat-1"], devices=(), fingerprint="before")
    journal.agents().keep([check_in("qat-1", facts["qat-1"])])
    (item,) = journal.work().take(9, NOON)
    journal.record_observations({"qat-1": Observation(before, b"{}", NOON + timedelta(seconds=1))})
    assert journal.reported(NOON - timedelta(hours=1)) == {}, "what is kept is not what its agent stands by"
    assert journal.work().take(9, NOON) == [item]
    again = Observation(facts["qat-1"], b"{}", NOON + timedelta(seconds=2))
    journal.record_observations({"qat-1": again})
    assert journal.reported(NOON - timedelta(hours=1)) == {"qat-1": NOON}


@pytest.fixture(params=["uuid", "name"])
def posted(request, facts, journal):
    """An accelerator that an operator tells of, with the uuid or just the name of what discovery is about to find."""
    (host_uuid,) = (UUID(one.uuid) for one in journal.hosts(["gpu-1"]))
    found = [unit for unit in found_by(facts, {})["gpu-1"].units if unit.is_accelerator]
    uuid_ = settle(found, host_uuid, ())[found[0].address] if request.param == "uuid" else uuid.uuid4()
    given = {"created_at": NOON, "updated_at": NOON, "origin": "api", "claimed": True, "state": "ready"}
    return Accelerator(uuid=str(uuid_), name=f"gpu-1 {found[0].address}", **given)


@pytest.fixture(params=["check-in", "look"])
def discover(request, facts, journal):
    """Has what is on a host found, as its agent tells, or by a look at it."""
    if request.param == "check-in":
        return lambda: journal.agents().keep([check_in("gpu-1", facts["gpu-1"])])
    return lambda: journal.record_observations({"gpu-1": Observation(facts["gpu-1"], b"{}", NOON)})


@pytest.mark.parametrize("database", ["sqlite", "postgresql"], indirect=True)
def test_discovery_takes_what_is_posted_at_that_instant_as_it_is(tmp_path, journal, database, posted, discover):
    # SQLite has one writer at a time: there nobody gets as far as to be waited for.
    is_met = (lambda: waiting(engine) == 1) if database else (lambda: True)
    with opened_anew(tmp_path / "state", database) as engine, ThreadPoolExecutor(1) as pool:
        with writing(engine) as connection:
            accelerator_rows.insert(connection, [posted])
            found = pool.submit(discover)
            until(is_met)
        found.result(60)
    is_it = UUID(posted.uuid).version != uuid.uuid4().version
    kept = journal.accelerators().accelerator(posted.uuid)
    assert (kept.name, kept.host) == (posted.name, "gpu-1" if is_it else None)
    names = [found.name for found in journal.accelerators().found_on(["gpu-1"])]
    assert names
    assert (posted.name in names) is is_it


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_a_post_of_what_is_discovered_at_that_instant_is_a_conflict(tmp_path, journal, database, posted):
    with opened_anew(tmp_path, database) as engine, ThreadPoolExecutor(1) as pool:
        with writing(engine) as connection:
            accelerator_rows.insert(connection, [replace(posted, origin="discovery", host="gpu-1")])
            told = pool.submit(journal.accelerators().add, posted, Event(NOON, "AcceleratorCreated"))
            until(lambda: waiting(engine) == 1)
        with pytest.raises(ConflictError, match="another accelerator has that name or uuid"):
            told.result(60)


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_what_is_attached_while_its_host_checks_in_stays_attached(tmp_path, journal, database, facts):
    accelerators, agents = journal.accelerators(), journal.agents()
    agents.keep([check_in("gpu-1", facts["gpu-1"])])
    one = accelerators.found_on(["gpu-1"])[0]
    held = replace(one, attachment=Attachment("done", NOON, str(uuid.uuid4()), "gpu-1", "p"), version=one.version + 1)
    nothing = msgspec.structs.replace(facts["gpu-1"], devices=())
    with opened_anew(tmp_path, database) as engine, ThreadPoolExecutor(1) as pool:
        with writing(engine) as connection:
            assert accelerator_rows.replace_if(connection, held, one.version)
            kept = pool.submit(agents.keep, [check_in("gpu-1", nothing, 2)])
            until(lambda: waiting(engine) == 1)
        assert kept.result(60) == [True]
    now = accelerators.accelerator(one.uuid)
    assert (now.attachment, now.present, now.version) == (held.attachment, False, one.version + 2)


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
@pytest.mark.parametrize("first", ["check-in", "accelerator"])
def test_of_two_who_write_of_one_host_none_waits_for_the_other_in_vain(tmp_path, journal, database, facts, first):
    accelerators, agents = journal.accelerators(), journal.agents()
    asked = Event(NOON, "DriverInstallAsked", "gpu-1")
    driver = HostDriver(host="gpu-1", driver="d", state="present", declared_by="operator", declared_at=NOON)
    with opened_anew(tmp_path, database) as engine, ThreadPoolExecutor(2) as pool:
        if first == "accelerator":
            agents.keep([check_in("gpu-1", facts["gpu-1"])])
            one = accelerators.found_on(["gpu-1"])[0]
        with writing(engine) as connection:
            in_order(connection)  # nobody comes to his end before this has
            if first == "accelerator":
                one_way = pool.submit(accelerators.update, one, one.version, Event(NOON, "Changed", "gpu-1"))
            else:
                one_way = pool.submit(agents.keep, [check_in("gpu-1", facts["gpu-1"])])
            until(lambda: waiting(engine) == 1)
            other_way = pool.submit(journal.work().declare, driver, asked)
            until(lambda: waiting(engine) == 2)
        assert one_way.result(60)
        assert other_way.result(60)


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_of_two_who_tell_of_the_same_new_devices_crosswise_one_has_them_and_none_waits_in_vain(
    tmp_path, journal, database
):
    one, other = str(uuid.UUID(int=1)), str(uuid.UUID(int=2))
    enrol(journal, "a-4th")
    first, second, third, fourth = sorted((*MACHINES, "a-4th"))

    with opened_anew(tmp_path, database) as engine, ThreadPoolExecutor(2) as pool:
        store, entered = DatabaseAgents(engine), set()

        @event.listens_for(engine, "after_cursor_execute")
        def _meet(_connection, _cursor, statement, *_more):
            if statement.startswith("INSERT INTO hardware"):
                entered.add(threading.get_ident())
                until(lambda: len(entered) == 2 or waiting(engine))

        batches = [dummy(first, other), dummy(third, one)], [dummy(second, one), dummy(fourth, other)]
        kept = [pool.submit(store.keep, batch) for batch in batches]
        assert [each.result(60) for each in kept] == [[True, True], [True, True]]
    page = journal.hardware().page("", 100, "")
    assert {json.loads(found)["host"] for found in page.documents} in ({first, third}, {second, fourth})
    assert [json.loads(found)["uuid"] for found in page.documents] == [one, other]
    hosts = {json.loads(found)["uuid"]: json.loads(found)["host"] for found in page.documents}
    assert {found: journal.accelerators().accelerator(found).host for found in hosts} == hosts


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_of_two_who_register_one_unknown_name_at_once_one_has_it(tmp_path, journal, database):
    store = journal.agents()
    with opened_anew(tmp_path, database) as engine, ThreadPoolExecutor(2) as pool:
        with writing(engine) as connection:
            connection.execute(text("lock table hosts in share mode"))  # both have asked before either has entered it
            new = [Agent(host="new", uuid="", token_hash=token, approved=False) for token in ("one", "other")]
            first = [pool.submit(store.enrol, agent, "", Inventory("new"), ENROLLED) for agent in new]
            until(lambda: waiting(engine) == 2)
        won = [each.result(60) for each in first]
    assert sorted(won) == [False, True]
    assert store.agent("new").token_hash == new[won.index(True)].token_hash


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_who_is_heard_just_now_is_not_silent(tmp_path, journal, database):
    agents = journal.agents()
    with opened_anew(tmp_path, database) as engine, ThreadPoolExecutor(1) as pool:
        with writing(engine) as connection:
            for host in ("gpu-1", "qat-1"):
                agent_rows.change(connection, host, last_seen_at=NOON)
        with writing(engine) as connection:
            agent_rows.change(connection, "gpu-1", last_seen_at=NOON + timedelta(minutes=5))
            fallen = pool.submit(agents.fall_silent, NOON + timedelta(minutes=3), NOON + timedelta(minutes=5))
            until(lambda: waiting(engine) == 1)
        assert fallen.result(60) == ["qat-1"]
    assert not agents.agent("gpu-1").silent


def test_what_the_later_of_two_that_are_written_together_leaves_out_is_as_the_earlier_said(journal, facts):
    journal.agents().keep([check_in("qat-1", facts["qat-1"])])
    drivers = (AgentDriver("pci", "GENERIC", "READY"),)
    said, silent = check_in("qat-1", facts["qat-1"], 2), check_in("qat-1", facts["qat-1"], 3)
    told = [replace(said, drivers=drivers, health={"0000:6b:00.0": "Degraded"}), replace(silent, facts=None)]
    assert journal.agents().keep(told) == [True, True]
    assert journal.agents().agent("qat-1").drivers == digest_of(drivers)
    assert journal.agents().fares_otherwise("qat-1", {"0000:6b:00.0": "Healthy"})
    assert not journal.agents().fares_otherwise("qat-1", {"0000:6b:00.0": "Degraded"})


def test_what_a_revoked_agent_said_of_health_is_forgotten_also_what_it_said_at_that_moment(journal, facts):
    degraded, store = {"0000:6b:00.0": "Degraded"}, journal.agents()
    store.keep([check_in("qat-1", facts["qat-1"])])
    store.keep([replace(check_in("qat-1", facts["qat-1"], 2), health=degraded)])
    store.fall_silent(NOON + timedelta(minutes=3), NOON + timedelta(minutes=5))
    assert not store.fares_otherwise("qat-1", degraded), "who is silent may have had reason to say so"
    store.revoke("qat-1", Event(NOON, "AgentTokenRevoked", "qat-1"))
    assert store.fares_otherwise("qat-1", degraded)
    store.keep([replace(check_in("qat-1", facts["qat-1"], 3), health=degraded)])
    assert store.fares_otherwise("qat-1", degraded)
    assert [one.kind for one in journal.events("qat-1", 100)].count("AcceleratorHealthForgotten") == 1
