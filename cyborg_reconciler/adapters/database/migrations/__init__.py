# SPDX-License-Identifier: Apache-2.0
"""How does a journal of an older release come to the present one, and back? By alembic, from inside the program.

Called by `engine.migrate`. Works in the caller's transaction, so that a migration happens wholly or not at all.
"""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

#: Alembic's word for a database without our tables.
BASE = "base"


def configuration(connection: Connection | None = None) -> Config:
    """Return alembic's configuration: no file of the user's, just these scripts."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def revisions() -> list[str]:
    """Return all revisions, oldest first."""
    scripts = ScriptDirectory.from_config(configuration())
    return [script.revision for script in scripts.walk_revisions()][::-1]


def move(connection: Connection, revision: str) -> None:
    """Take the database up or down to *revision*, which may be BASE.

    Raises:
        alembic.util.CommandError: the database is of a revision that is not among these.
    """
    config = configuration(connection)
    order = [BASE, *revisions()]
    found = MigrationContext.configure(connection).get_current_revision() or BASE
    if found in order and order.index(revision) < order.index(found):
        command.downgrade(config, revision)
    else:
        command.upgrade(config, revision)
