# SPDX-License-Identifier: Apache-2.0
"""What does the database know of users' tokens? The statements about credentials.

Called by the store, inside its transactions.
"""

from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime

from sqlalchemy import Connection, bindparam, or_, select, update

from cyborg_reconciler.adapters.database.schema import credentials
from cyborg_reconciler.stores.credentials import Credential

_columns = credentials.c


def read_all(connection: Connection) -> list[Credential]:
    """Return every credential, by name."""
    rows = connection.execute(select(credentials).order_by(_columns.name))
    return [Credential(**row._mapping) for row in rows]  # noqa: SLF001 - SQLAlchemy's name for a row as a mapping


def read(connection: Connection, digest: str) -> Credential | None:
    """Return the credential whose token has *digest*."""
    row = connection.execute(select(credentials).where(_columns.digest == digest)).first()
    return None if row is None else Credential(**row._mapping)  # noqa: SLF001 - SQLAlchemy's name, as above


def insert(connection: Connection, one: Credential) -> None:
    """Enter a new credential."""
    connection.execute(credentials.insert().values(asdict(one)))


def revoke(connection: Connection, name: str, at: datetime) -> bool:
    """Note that the credential called *name* was revoked; return whether there is one, and it was not yet."""
    where = (_columns.name == name, _columns.revoked_at.is_(None))
    return connection.execute(update(credentials).where(*where).values(revoked_at=at)).rowcount == 1


def put_uses(connection: Connection, used: Mapping[str, datetime]) -> None:
    """Note when credentials were used last, unless they were used later than that."""
    at = bindparam("at", type_=_columns.last_used_at.type)
    earlier = or_(_columns.last_used_at.is_(None), _columns.last_used_at < at)
    statement = update(credentials).where(_columns.name == bindparam("called"), earlier).values(last_used_at=at)
    # In order, so that of two who do this at once neither waits for the other's rows.
    connection.execute(statement, [{"called": name, "at": when} for name, when in sorted(used.items())])
