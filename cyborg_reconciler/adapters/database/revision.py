# SPDX-License-Identifier: Apache-2.0
"""Of which revision is the database, and how does it come to that of this program?

Called by the journal when it is opened. Reads the revision, and changes the tables where that is called for.
"""

from typing import Final

from sqlalchemy import Column, Connection, Engine, MetaData, PrimaryKeyConstraint, String, Table, inspect, select

from cyborg_reconciler.adapters.database import postgresql, schema
from cyborg_reconciler.adapters.database.engine import POSTGRESQL, reading, take_turns, writing
from cyborg_reconciler.errors import JournalError

#: Where alembic notes the revision. Source: alembic, MigrationContext.
VERSIONS: Final = Table(
    "alembic_version",
    MetaData(),
    Column("version_num", String(32), nullable=False),
    PrimaryKeyConstraint("version_num", name="alembic_version_pkc"),
)


def read_revision(engine: Engine) -> str:
    """Return the revision of the database; empty when it has no tables yet."""
    with reading(engine) as connection:
        return _read(connection)


def _read(connection: Connection) -> str:
    if not inspect(connection).has_table(VERSIONS.name):
        return ""
    return connection.execute(select(VERSIONS.c.version_num)).scalar() or ""


def migrate(engine: Engine, revision: str = schema.REVISION) -> None:
    """Bring the database to *revision*, all or nothing.

    Raises:
        JournalError: the database is of a newer release.
    """
    found = read_revision(engine)
    if found == revision or (not found and revision == schema.REVISION and _make(engine)):
        return
    from alembic.util import CommandError  # noqa: PLC0415  alembic takes long to import, and is seldom needed

    from cyborg_reconciler.adapters.database import migrations  # noqa: PLC0415  imports alembic as well

    try:
        with writing(engine) as connection:
            take_turns(connection)  # whoever comes second finds that nothing is left to do
            if connection.dialect.name == POSTGRESQL:
                postgresql.lift_timeout(connection)  # tables may be large
            migrations.move(connection, revision)
    except CommandError as exc:
        raise outdated(engine, found, revision) from exc


def _make(engine: Engine) -> bool:
    """Make the tables of a database that has none, as all migrations together leave them; return False if it has some.

    It takes a tenth of the time that they take.
    """
    with writing(engine) as connection:
        take_turns(connection)  # whoever comes second finds that nothing is left to do
        if _read(connection):
            return False
        schema.metadata.create_all(connection, checkfirst=False)
        VERSIONS.create(connection, checkfirst=True)  # it is there, and empty, where all else was taken back
        connection.execute(VERSIONS.insert().values(version_num=schema.REVISION))
    return True


def check_revision(engine: Engine) -> None:
    """Raise JournalError unless the database is of the present revision; for readers, who change nothing."""
    found = read_revision(engine)
    if not found:
        raise JournalError(
            wanted=f"the journal {engine.url.database}",
            found="it is empty",
            remedy="wait for the first `observe`, `plan`, `apply` or `run`, which fills it",
        )
    if found != schema.REVISION:
        raise outdated(engine, found, schema.REVISION)


def outdated(engine: Engine, found: str, wanted: str) -> JournalError:
    """Return the error for a database that is of another revision than this program."""
    return JournalError(
        wanted=f"the journal {engine.url.database} of revision {wanted}",
        found=f"revision {found}",
        remedy="an older one is brought up to date by `observe`, say; a newer one needs a newer program",
    )
