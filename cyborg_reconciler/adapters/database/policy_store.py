# SPDX-License-Identifier: Apache-2.0
"""Policies, the API's and the tree's, and what else the tree declares. Called by the API and the conductor.

Opened by `bootstrap`. A version is the number of the event that tells of the change: no two changes ever have one. The
event is entered after the rows that the transaction changes, and the version when the number is known.
"""

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import ColumnElement, Connection, Engine, Row, Subquery, delete, func, literal, null, select, update
from sqlalchemy.exc import IntegrityError

from cyborg_reconciler.adapters.database import declaration_rows
from cyborg_reconciler.adapters.database.engine import reading, writing
from cyborg_reconciler.adapters.database.event_rows import put_event
from cyborg_reconciler.adapters.database.pages import link, raw, read_page, render
from cyborg_reconciler.adapters.database.schema import declared_documents, declared_stamp, policies
from cyborg_reconciler.documents.declared import Document, Located
from cyborg_reconciler.documents.driver import Driver
from cyborg_reconciler.documents.parse import load_document
from cyborg_reconciler.errors import ConflictError, DeclarationsInvalidError, OvertakenError, Problem
from cyborg_reconciler.ports import Event
from cyborg_reconciler.stores.pages import Page, PageQuery
from cyborg_reconciler.stores.policies import StoredPolicy

POLICIES: Final = "/v1/policies"
POLICY: Final = "AcceleratorPolicy"

_tree: Final = declared_documents.c


class DatabasePolicies:
    """The policies, in a database."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def page(self, wanted: PageQuery) -> Page:
        """Return a page of policies."""
        both = _both()
        query = select(both)
        for name, value in wanted.equal.items():
            query = query.where(both.c[name] == value)
        with reading(self._engine) as connection:
            rows, more = read_page(connection, query, both.c.name, wanted, wanted.marker or None)
        return Page([_policy(row) for row in rows], rows[-1].name if rows else "", more)

    def document(self, name: str) -> tuple[str, int | None] | None:
        """Return what the API gives of a policy."""
        both = _both()
        with reading(self._engine) as connection:
            row = connection.execute(select(both).where(both.c.name == name)).first()
        return None if row is None else (_policy(row), row.version)

    def policy(self, name: str) -> StoredPolicy | None:
        """Return the API's policy."""
        with reading(self._engine) as connection:
            row = connection.execute(select(policies).where(policies.c.name == name)).first()
        return None if row is None else _stored(row)

    def policies(self) -> Sequence[StoredPolicy]:
        """Return all of the API's policies."""
        with reading(self._engine) as connection:
            return [_stored(row) for row in connection.execute(select(policies).order_by(policies.c.name))]

    def stamp(self) -> str:
        """Return a digest of what policies there are: their number, and the newest version."""
        with reading(self._engine) as connection:
            row = connection.execute(select(func.count(), func.max(policies.c.version))).one()
        return f"{row[0]} {row[1]}"

    def file_of(self, name: str) -> str | None:
        """Return where the tree has a policy."""
        with reading(self._engine) as connection:
            return connection.execute(select(_tree.file).where(_tree.kind == POLICY, _tree.name == name)).scalar()

    def add(self, name: str, text: str, event: Event) -> StoredPolicy:
        """Keep a new policy."""
        row = {"name": name, "document": text, "version": 0, "created_at": event.at, "updated_at": event.at}
        try:
            with writing(self._engine) as connection:
                connection.execute(policies.insert().values(row))
                version = _put(connection, name, event)
        except IntegrityError as exc:
            raise ConflictError(
                wanted=f"a policy called {name}", found="there is one", remedy=f"change it: PUT {POLICIES}/{name}"
            ) from exc
        return StoredPolicy(name, text, version, event.at, event.at)

    def replace(self, seen: StoredPolicy, text: str, event: Event) -> StoredPolicy:
        """Keep what has become of a policy."""
        changed = update(policies).where(_is_as(seen)).values(document=text, updated_at=event.at)
        with writing(self._engine) as connection:
            if connection.execute(changed).rowcount != 1:
                raise _overtaken(seen)
            version = _put(connection, seen.name, event)
        return StoredPolicy(seen.name, text, version, seen.created_at, event.at)

    def remove(self, seen: StoredPolicy, event: Event) -> None:
        """Forget a policy."""
        with writing(self._engine) as connection:
            if connection.execute(delete(policies).where(_is_as(seen))).rowcount != 1:
                raise _overtaken(seen)
            put_event(connection, event)


def _both() -> Subquery:
    """Return the policies of API and tree as one table; one that both have is there once, as the API's."""
    ours = policies.c
    of_tree = (_tree.kind == POLICY) & (_tree.name == ours.name)
    of_api = select(
        ours.name,
        literal("api").label("owner"),
        null().label("file"),
        _tree.file.label("also_in"),
        *(ours.document, ours.created_at, ours.updated_at, ours.version),
    ).outerjoin(declared_documents, of_tree)
    rest = select(_tree.name, literal("tree"), _tree.file, null(), _tree.document, null(), null(), null()).where(
        _tree.kind == POLICY, _tree.name.not_in(select(ours.name))
    )
    return of_api.union_all(rest).subquery()


def _is_as(seen: StoredPolicy) -> ColumnElement[bool]:
    return (policies.c.name == seen.name) & (policies.c.version == seen.version)


def _put(connection: Connection, name: str, event: Event) -> int:
    """Tell of a change of a policy, and give it the version that it has from now on."""
    version = put_event(connection, event)
    connection.execute(update(policies).where(policies.c.name == name).values(version=version))
    return version


def _overtaken(seen: StoredPolicy) -> OvertakenError:
    return OvertakenError(wanted=f"policy {seen.name} as it was read", found="another process updated it first")


def _stored(row: Row[Any]) -> StoredPolicy:
    return StoredPolicy(row.name, row.document, row.version, row.created_at, row.updated_at)


def _policy(row: Row[Any]) -> str:
    """Return a policy as the API gives it."""
    return render(
        {
            "name": row.name,
            "owner": row.owner,
            "file": row.file,
            "also_in": row.also_in,
            "policy": raw(row.document),
            "created_at": row.created_at,
            "updated_at": row.updated_at,
            "links": [link(f"{POLICIES}/{row.name}")],
        }
    )


class DatabaseDeclared:
    """What the tree declared when it was last read, in a database."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def stamp(self) -> str:
        """Return a digest of what was declared."""
        with reading(self._engine) as connection:
            return declaration_rows.read_stamp(connection)

    def documents(self) -> Sequence[Located[Document]]:
        """Return the tree's documents."""
        with reading(self._engine) as connection:
            rows = connection.execute(select(declared_documents).order_by(_tree.kind, _tree.name)).all()
        return [_located(row) for row in rows]

    def prunes(self) -> bool:
        """Return whether the tree declared something, where there is a tree."""
        with reading(self._engine) as connection:
            return connection.execute(select(declared_stamp.c.prunes)).scalar() is not False

    def drivers(self) -> Sequence[Located[Driver]]:
        """Return the tree's drivers."""
        query = select(declared_documents).where(_tree.kind == "Driver").order_by(_tree.name)
        with reading(self._engine) as connection:
            found = [_located(row) for row in connection.execute(query)]
        return [Located(one.document, one.file, one.lines) for one in found if isinstance(one.document, Driver)]


def _located(row: Row[Any]) -> Located[Document]:
    try:
        document = load_document(row.kind, row.document)
    except ValueError as exc:
        wrong = Problem(row.file, 0, "", f"the {row.kind} {row.name} is not of this release", "look at the hosts again")
        raise DeclarationsInvalidError([wrong]) from exc
    return Located(document, row.file, msgspec.json.decode(row.lines))
