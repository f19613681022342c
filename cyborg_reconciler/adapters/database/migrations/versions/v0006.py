# SPDX-License-Identifier: Apache-2.0
"""What agents brought: who they are, how their hosts are known, and what was found there."""

import sqlalchemy as sa
from alembic import op

revision = "v0006"
down_revision = "v0005"

TIME = sa.DateTime(timezone=True)
NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "identities",
        sa.Column("host", sa.String(255), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("value", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("host", "kind", "value", name="pk_identities"),
        of_host("identities"),
    )
    op.create_index("ix_identities_kind_value", "identities", ["kind", "value"])
    make_agents()
    op.create_table(
        "enrolments",
        sa.Column("token_hash", sa.String(64), nullable=False),
        sa.Column("host", sa.String(255), nullable=False),
        sa.Column("expires_at", TIME, nullable=False),
        sa.Column("used_at", TIME),
        sa.PrimaryKeyConstraint("token_hash", name="pk_enrolments"),
    )
    op.create_index("ix_enrolments_host", "enrolments", ["host"])
    op.create_table(
        "commands",
        sa.Column("number", NUMBER, autoincrement=True, nullable=False),
        sa.Column("host", sa.String(255), nullable=False),
        sa.Column("command", sa.String(32), nullable=False),
        sa.Column("driver", sa.String(255)),
        sa.Column("asked_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_commands"),
        of_host("commands"),
    )
    op.create_index("ix_commands_host", "commands", ["host"])
    make_hardware()


def make_hardware() -> None:
    """Make the table of what was found."""
    op.create_table(
        "hardware",
        sa.Column("uuid", sa.String(36), nullable=False),
        sa.Column("host", sa.String(255), nullable=False),
        sa.Column("address", sa.String(64), nullable=False),
        sa.Column("ids", sa.String(64), nullable=False),
        sa.Column("serial", sa.Text),
        sa.Column("present", sa.Boolean, nullable=False),
        sa.Column("is_accelerator", sa.Boolean, nullable=False),
        sa.Column("document", sa.Text, nullable=False),
        sa.Column("first_seen_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("uuid", name="pk_hardware"),
        of_host("hardware"),
    )
    op.create_index("ix_hardware_host_address", "hardware", ["host", "address"])
    op.add_column("facts", sa.Column("units", sa.String(64)))


def make_agents() -> None:
    """Make the table of the agents."""
    op.create_table(
        "agents",
        sa.Column("host", sa.String(255), nullable=False),
        sa.Column("token_hash", sa.String(64), nullable=False),
        sa.Column("next_token_hash", sa.String(64), nullable=False),
        sa.Column("approved", sa.Boolean, nullable=False),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("fingerprint", sa.String(255), nullable=False),
        sa.Column("boot_id", sa.String(255), nullable=False),
        sa.Column("endpoint", sa.String(255), nullable=False),
        sa.Column("agent_version", sa.String(255), nullable=False),
        sa.Column("last_seen_at", TIME),
        sa.Column("silent", sa.Boolean, nullable=False),
        sa.PrimaryKeyConstraint("host", name="pk_agents"),
        of_host("agents"),
    )
    for column in ("token_hash", "next_token_hash", "last_seen_at"):
        op.create_index(f"ix_agents_{column}", "agents", [column])


def of_host(table: str) -> sa.ForeignKeyConstraint:
    """Return the tie of a row to its host."""
    return sa.ForeignKeyConstraint(["host"], ["hosts.name"], name=f"fk_{table}_host", ondelete="CASCADE")


def downgrade() -> None:
    """Drop them again."""
    with op.batch_alter_table("facts") as facts:
        facts.drop_column("units")
    for table in ("hardware", "commands", "enrolments", "agents", "identities"):
        op.drop_table(table)
