# SPDX-License-Identifier: Apache-2.0
"""What does the database know of leases? The statements about them, each of which asks who has the lease."""

from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, select, update

from cyborg_reconciler.adapters.database.engine import upsert
from cyborg_reconciler.adapters.database.schema import leases
from cyborg_reconciler.stores.work import Lease


def read(connection: Connection, name: str) -> Lease | None:
    """Return the lease called *name*."""
    row = connection.execute(select(leases).where(leases.c.name == name)).first()
    return None if row is None else Lease(row.name, row.holder, row.token, row.expires_at)


def is_still(lease: Lease) -> ColumnElement[bool]:
    """Return what holds as long as *lease* is as it was seen: who renews it changes its end."""
    return and_(leases.c.name == lease.name, leases.c.token == lease.token, leases.c.expires_at == lease.expires_at)


def take(connection: Connection, wanted: Lease, seen: Lease | None) -> Lease | None:
    """Take a lease that is as it was *seen*; of many who saw it so, one does."""
    if seen is None:
        first: dict[str, Any] = {"name": wanted.name, "holder": "", "token": 0, "expires_at": wanted.expires_at}
        upsert(connection, leases, [first], update=[])
        seen = Lease(wanted.name, "", 0, wanted.expires_at)
    token = seen.token + 1
    values = {"holder": wanted.holder, "token": token, "expires_at": wanted.expires_at}
    taken = connection.execute(update(leases).where(is_still(seen)).values(values)).rowcount == 1
    return Lease(wanted.name, wanted.holder, token, wanted.expires_at) if taken else None


def extend(connection: Connection, lease: Lease) -> bool:
    """Have a lease end later, if its token is still the one that it was taken with."""
    ours = and_(leases.c.name == lease.name, leases.c.token == lease.token, leases.c.holder == lease.holder)
    return connection.execute(update(leases).where(ours).values(expires_at=lease.expires_at)).rowcount == 1


def release(connection: Connection, lease: Lease) -> None:
    """Have nobody hold a lease, if its token is still the one that it was taken with."""
    ours = and_(leases.c.name == lease.name, leases.c.token == lease.token)
    connection.execute(update(leases).where(ours).values(holder=""))
