# SPDX-License-Identifier: Apache-2.0
"""How far agents are reached: hardware that their drivers found, where they are called, commands counted once."""

import sqlalchemy as sa
from alembic import op

revision = "v0008"
down_revision = "v0007"


def upgrade() -> None:
    """Say which driver found hardware and where an agent is called; have SQLite count commands as PostgreSQL does."""
    op.add_column("hardware", sa.Column("driver", sa.String(64)))
    op.add_column("inventory", sa.Column("agent_endpoint", sa.Text))
    if op.get_bind().dialect.name == "sqlite":
        renumber(is_once=True)


def renumber(*, is_once: bool) -> None:
    """Make the table of commands anew, with its rows: SQLite gives the number of a row that has gone again, or not."""
    op.drop_index("ix_commands_host", "commands")
    op.rename_table("commands", "commands_before")
    op.create_table(
        "commands",
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=True, nullable=False),
        sa.Column("host", sa.String(255), nullable=False),
        sa.Column("command", sa.String(32), nullable=False),
        sa.Column("driver", sa.String(255)),
        sa.Column("asked_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["host"], ["hosts.name"], name="fk_commands_host", ondelete="CASCADE"),
        sqlite_autoincrement=is_once,
    )
    op.execute("INSERT INTO commands SELECT number, host, command, driver, asked_at FROM commands_before")
    op.drop_table("commands_before")
    op.create_index("ix_commands_host", "commands", ["host"])


def downgrade() -> None:
    """Take it all back."""
    if op.get_bind().dialect.name == "sqlite":
        renumber(is_once=False)
    with op.batch_alter_table("hardware") as hardware:
        hardware.drop_column("driver")
    with op.batch_alter_table("inventory") as inventory:
        inventory.drop_column("agent_endpoint")
