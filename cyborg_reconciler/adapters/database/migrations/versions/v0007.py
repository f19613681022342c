# SPDX-License-Identifier: Apache-2.0
"""Which services there are, and what agents tell of their drivers."""

import sqlalchemy as sa
from alembic import op

revision = "v0007"
down_revision = "v0006"

TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Make the table, with the agents that there are."""
    op.create_table(
        "services",
        sa.Column("uuid", sa.String(36), nullable=False),
        sa.Column("host", sa.String(255), nullable=False),
        sa.Column("type", sa.String(16), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("version", sa.String(255), nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("started_at", TIME),
        sa.Column("last_seen_at", TIME),
        sa.Column("due_at", TIME),
        sa.PrimaryKeyConstraint("uuid", name="pk_services"),
    )
    op.create_index("ix_services_host_type_name", "services", ["host", "type", "name"], unique=True)
    op.add_column("agents", sa.Column("drivers", sa.Text, nullable=False, server_default=sa.text("''")))
    op.execute(
        "INSERT INTO services (uuid, host, type, name, version, message)"
        " SELECT hosts.uuid, hosts.name, 'agent', 'agent', '', '' FROM agents JOIN hosts ON hosts.name = agents.host"
    )


def downgrade() -> None:
    """Drop both again."""
    op.drop_column("agents", "drivers")
    op.drop_table("services")
