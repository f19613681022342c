# SPDX-License-Identifier: Apache-2.0
"""Of which revision is the database, and how does it come to that of this program?

Called by the journal when it is opened. Reads the revision, and changes the tables where that is called for.
"""

from sqlalchemy import Engine, inspect, select, text

from cyborg_reconciler.adapters.database import schema
from cyborg_reconciler.adapters.database.engine import reading, take_turns, writing
from cyborg_reconciler.errors import JournalError


def read_revision(engine: Engine) -> str:
    """Return the revision of the database; empty when it has no tables yet."""
    with reading(engine) as connection:
        if not inspect(connection).has_table("alembic_version"):
            return ""
        return str(connection.execute(select(text("version_num")).select_from(text("alembic_version"))).scalar() or "")


def migrate(engine: Engine, revision: str = schema.REVISION) -> None:
    """Bring the database to *revision*, all or nothing.

    Raises:
        JournalError: the database is of a newer release.
    """
    found = read_revision(engine)
    if found == revision:
        return
    from alembic.util import CommandError  # noqa: PLC0415  alembic takes long to import, and is seldom needed

    from cyborg_reconciler.adapters.database import migrations  # noqa: PLC0415  imports alembic as well

    try:
        with writing(engine) as connection:
            take_turns(connection)  # whoever comes second finds that nothing is left to do
            migrations.move(connection, revision)
    except CommandError as exc:
        raise outdated(engine, found, revision) from exc


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
