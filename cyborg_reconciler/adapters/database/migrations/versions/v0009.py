# SPDX-License-Identifier: Apache-2.0
"""What was declared is kept as what changed; runs know their request, and hosts what their agents' drivers say.

Until now `declarations` had a copy of all that is declared for each change of a policy of the API. Now it has a row for
each state of the tree, with the documents that differ from the state before.
"""

import hashlib
import json
from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "v0009"
down_revision = "v0008"

TIME = sa.DateTime(timezone=True)
OTHER_PLACES = ("api: ", "(shipped) ")

#: Documents of the tree by kind and name, each with its file and its JSON.
State = dict[tuple[str, str], tuple[str, str]]

states = sa.table(
    "declarations", sa.column("digest"), sa.column("document"), sa.column("first_seen_at", TIME), sa.column("previous")
)
stamp = sa.table("declared_stamp", sa.column("digest"), sa.column("tree"), sa.column("catalogue"))


def upgrade() -> None:
    """Add what is new, and keep of what was declared what changed."""
    op.create_index("ix_events_host_kind_number", "events", ["host", "kind", "number"])
    op.add_column("runs", sa.Column("request_id", sa.String(64), nullable=False, server_default=sa.text("''")))
    op.create_table(
        "agent_drivers",
        sa.Column("host", sa.String(255), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("type", sa.String(255), nullable=False),
        sa.Column("status", sa.String(255), nullable=False),
        sa.Column("endpoint", sa.String(255), nullable=False),
        sa.PrimaryKeyConstraint("host", "name", name="pk_agent_drivers"),
        sa.ForeignKeyConstraint(["host"], ["hosts.name"], name="fk_agent_drivers_host", ondelete="CASCADE"),
    )
    op.execute("UPDATE agents SET drivers = ''")  # as never told: it is a digest, and agent_drivers is empty
    op.create_table(
        "passes",
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("result", sa.String(16), nullable=False),
        sa.Column("count", sa.BigInteger, nullable=False),
        sa.Column("seconds", sa.Float, nullable=False),
        sa.Column("ended_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("kind", "result", name="pk_passes"),
    )
    op.add_column("declarations", sa.Column("previous", sa.String(255)))
    op.add_column("declared_stamp", sa.Column("tree", sa.String(64), nullable=False, server_default=sa.text("''")))
    op.add_column("declared_stamp", sa.Column("catalogue", sa.Text, nullable=False, server_default=sa.text("'[]'")))
    keep_changes(op.get_bind())


def keep_changes(connection: sa.Connection) -> None:
    """Put rows of what changed in the place of whole copies."""
    rows = connection.execute(sa.select(states).order_by(states.c.first_seen_at, states.c.digest)).all()
    now = connection.execute(sa.select(stamp.c.digest)).scalar()
    kept: dict[str, dict[str, Any]] = {}
    before: tuple[str | None, State] = None, {}
    for row in rows:
        documents = listed(row.document)
        state = of_tree(documents)
        digest = digest_of(state)
        changes = {"document": changes_of(before[1], state), "previous": before[0]}
        kept.setdefault(digest, {"digest": digest, "first_seen_at": row.first_seen_at, **changes})
        before = digest, state
        if row.digest == now:
            drivers = [one["document"] for one in documents if one["document"].get("kind") == "Driver"]
            connection.execute(sa.update(stamp).values(tree=digest, catalogue=dumped(drivers)))
    replace(connection, kept.values())


def downgrade() -> None:
    """Make whole copies again, and drop what was new."""
    copy_whole(op.get_bind())
    for column in ("catalogue", "tree"):
        op.drop_column("declared_stamp", column)
    op.drop_column("declarations", "previous")
    op.drop_table("passes")
    op.drop_table("agent_drivers")
    op.drop_column("runs", "request_id")
    op.drop_index("ix_events_host_kind_number", "events")


def copy_whole(connection: sa.Connection) -> None:
    """Put whole copies in the place of what changed; that of what is declared now has the drivers of all places."""
    now = connection.execute(sa.select(stamp)).first()
    rows = {row.digest: row for row in connection.execute(sa.select(states))}
    kept: dict[str, dict[str, Any]] = {}
    for row in rows.values():
        state = whole(row.digest, rows)
        documents = [{"file": file, "document": json.loads(text)} for file, text in state.values()]
        digest = row.digest
        if now is not None and now.tree == digest:
            digest = now.digest
            there = {text for _, text in state.values()}
            found = [one for one in json.loads(now.catalogue) if isinstance(one, dict) and dumped(one) not in there]
            documents += [{"file": OTHER_PLACES[1].strip(), "document": one} for one in found]
        kept[digest] = {
            "digest": digest,
            "document": dumped(documents),
            "first_seen_at": row.first_seen_at,
            "previous": None,
        }
    replace(connection, kept.values())


def whole(digest: str, rows: dict[str, Any]) -> State:
    """Return the state with *digest*: the changes since the first, one upon another."""
    chain = []
    while digest in rows and digest not in chain:
        chain.append(digest)
        digest = rows[digest].previous
    state: State = {}
    for one in reversed(chain):
        for change in listed(rows[one].document):
            key = change["kind"], change["name"]
            state.pop(key, None)
            if change["document"] is not None:
                state[key] = change["file"], dumped(change["document"])
    return state


def replace(connection: sa.Connection, rows: Iterable[dict[str, Any]]) -> None:
    """Put *rows* in the place of all that are there."""
    connection.execute(sa.delete(states))
    for row in rows:
        connection.execute(sa.insert(states).values(**row))


def listed(text: str) -> list[dict[str, Any]]:
    """Return the documents, or the changes, that a row has."""
    found = json.loads(text)
    return found if isinstance(found, list) else []


def of_tree(documents: list[dict[str, Any]]) -> State:
    """Return those documents that files declare."""
    return {
        (one["document"]["kind"], one["document"]["metadata"]["name"]): (one["file"], dumped(one["document"]))
        for one in documents
        if not one["file"].startswith(OTHER_PLACES)
    }


def digest_of(state: State) -> str:
    """Return sha256 over a state of the tree, in hex: as the program makes it."""
    return hashlib.sha256(dumped([[*key, *value] for key, value in sorted(state.items())]).encode()).hexdigest()


def changes_of(before: State, after: State) -> str:
    """Return the documents that are others than *before*; one that went is null."""
    found: list[dict[str, Any]] = [
        {"kind": key[0], "name": key[1], "file": value[0], "document": json.loads(value[1])}
        for key, value in sorted(after.items())
        if before.get(key) != value
    ]
    found += [
        {"kind": key[0], "name": key[1], "file": before[key][0], "document": None}
        for key in sorted(before.keys() - after.keys())
    ]
    return dumped(found)


def dumped(value: object) -> str:
    """Return JSON as the program writes it."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
