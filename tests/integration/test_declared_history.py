# SPDX-License-Identifier: Apache-2.0
"""What is kept of what was declared: each state of the tree once, and of each what had changed. On both databases."""

import json
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from sqlalchemy import select, text

from cyborg_reconciler.adapters.database import migrations, open_journal, schema
from cyborg_reconciler.adapters.database.engine import reading, writing
from cyborg_reconciler.adapters.declarations.catalogue import read_catalogue
from cyborg_reconciler.documents.declared import Declared, Located
from cyborg_reconciler.documents.policy import AcceleratorPolicy
from tests.integration.databases import opened_anew

NOON = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)
OLD = "insert into declarations (digest, document, first_seen_at) values (:digest, :document, :at)"
OLD_STAMP = "insert into declared_stamp (stamp, digest, prunes, recorded_at) values ('s', 'three', :prunes, :at)"


def policy(name, place, priority=50):
    document = {
        "api_version": "cyborg/v1",
        "kind": "AcceleratorPolicy",
        "metadata": {"name": name},
        "spec": {"host_selector": {"groups": ["crypto"]}, "priority": priority, "kernel_args": {"iommu": "pt"}},
    }
    return Located(AcceleratorPolicy.model_validate_json(json.dumps(document)), place)


def declared(*policies):
    digest = str(hash(tuple(one.document.model_dump_json() for one in policies)))
    return Declared(policies, read_catalogue(), digest=digest)


ONE, OTHER, CHANGED = policy("one", "a.yml"), policy("other", "b.yml"), policy("one", "a.yml", 60)


@pytest.fixture
def memory(tmp_path, database):
    """A journal, and what its table of declarations has, the oldest first."""
    with (
        open_journal(tmp_path / "state", database=database) as journal,
        opened_anew(tmp_path / "state", database) as engine,
    ):

        def kept():
            with reading(engine) as connection:
                rows = connection.execute(select(schema.declarations).order_by(schema.declarations.c.first_seen_at))
                return [(row, json.loads(row.document)) for row in rows]

        yield journal, kept


def test_each_state_of_the_tree_is_kept_once_with_what_had_changed(memory):
    journal, kept = memory
    states = (declared(ONE), declared(ONE, OTHER), declared(CHANGED, OTHER), declared(CHANGED), declared(ONE, OTHER))
    for minute, state in enumerate(states):
        journal.record_declarations(state, NOON + timedelta(minutes=minute))
    rows = kept()
    assert [row.previous for row, _ in rows] == [None, *(row.digest for row, _ in rows[:-1])]
    told = [[(one["name"], one["document"] and one["document"]["spec"]["priority"]) for one in of] for _, of in rows]
    assert told == [[("one", 50)], [("other", 50)], [("one", 60)], [("other", None)]]
    there = journal.fleet().declared.documents()
    assert [(one.document.metadata.name, one.document.spec.priority) for one in there] == [("one", 50), ("other", 50)]
    assert "generic-pci" in journal.work().catalogue()


def test_a_policy_of_the_api_costs_no_copy_of_the_tree(memory):
    journal, kept = memory
    for priority in range(20):
        journal.record_declarations(declared(ONE, OTHER, policy("mine", "api: mine", priority)), NOON)
    assert len(kept()) == 1
    assert [one.document.metadata.name for one in journal.fleet().declared.documents()] == ["one", "other"]


def plain(located):
    document = msgspec.json.decode(located.document.model_dump_json(exclude_unset=True))
    return {"file": located.file, "document": document}


def test_what_was_kept_as_copies_goes_up_and_down(tmp_path, empty_database):
    shipped = [{"file": "(shipped) x", "document": plain(one)["document"]} for one in read_catalogue()]
    copies = {
        "one": [ONE],
        "two": [ONE, policy("mine", "api: mine")],
        "three": [ONE, OTHER, policy("mine", "api: mine")],
    }
    with opened_anew(tmp_path / "state", empty_database) as engine:
        with writing(engine) as connection:
            migrations.move(connection, "v0006")
            for minute, (digest, policies) in enumerate(copies.items()):
                whole = [*map(plain, policies), *shipped]
                row = {"document": msgspec.json.encode(whole).decode(), "at": NOON + timedelta(minutes=minute)}
                connection.execute(text(OLD), {"digest": digest, **row})
            connection.execute(text(OLD_STAMP), {"prunes": True, "at": NOON})
            migrations.move(connection, "v0009")
        with open_journal(tmp_path / "state", database=empty_database) as journal:
            assert "generic-pci" in journal.work().catalogue()
            journal.record_declarations(declared(ONE, OTHER), NOON)
        with reading(engine) as connection:
            rows = connection.execute(select(schema.declarations).order_by(schema.declarations.c.first_seen_at)).all()
        assert len(rows) == 2, "what is recorded now is the state that was there: one digest has one row"
        assert [[one["name"] for one in json.loads(row.document)] for row in rows] == [["one"], ["other"]]
        with writing(engine) as connection:
            migrations.move(connection, "v0006")
            digest, document = connection.execute(
                text("select d.digest, document from declarations d join declared_stamp s on s.digest = d.digest")
            ).one()
        found = json.loads(document)
        assert [one["document"]["metadata"]["name"] for one in found[:2]] == ["one", "other"]
        assert {one["document"]["kind"] for one in found[2:]} == {"Driver"}
        assert digest
