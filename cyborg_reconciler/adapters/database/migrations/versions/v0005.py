# SPDX-License-Identifier: Apache-2.0
"""What the worker brought: the queue, leases, drivers that are declared over the API, and what it keeps for them."""

import sqlalchemy as sa
from alembic import op

revision = "v0005"
down_revision = "v0004"

TIME = sa.DateTime(timezone=True)

#: The columns that older tables get, by table.
ADDED = {"hosts": "drivers", "runs": "message"}


def upgrade() -> None:
    """Make the tables, and add to the older ones."""
    op.add_column("hosts", sa.Column("drivers", sa.Text, nullable=False, server_default=sa.text("''")))
    op.add_column("runs", sa.Column("message", sa.Text, nullable=False, server_default=sa.text("''")))
    op.create_index("ix_accelerators_attached_host", "accelerators", ["attached_host"])
    op.create_table(
        "queue",
        sa.Column("host", sa.String(255), nullable=False),
        sa.Column("reason", sa.String(64), nullable=False),
        sa.Column("ticket", sa.BigInteger, nullable=False),
        sa.Column("enqueued_at", TIME, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("not_before", TIME, nullable=False),
        sa.PrimaryKeyConstraint("host", name="pk_queue"),
    )
    op.create_index("ix_queue_not_before", "queue", ["not_before"])
    op.create_table(
        "leases",
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("holder", sa.String(255), nullable=False),
        sa.Column("token", sa.BigInteger, nullable=False),
        sa.Column("expires_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_leases"),
    )
    op.create_table(
        "host_drivers",
        sa.Column("host", sa.String(255), nullable=False),
        sa.Column("driver", sa.String(255), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("version", sa.String(128)),
        sa.Column("run", sa.String(36), nullable=False),
        sa.Column("is_open", sa.Boolean, nullable=False),
        sa.Column("declared_by", sa.String(255), nullable=False),
        sa.Column("declared_at", TIME, nullable=False),
        sa.Column("state_before", sa.String(16)),
        sa.Column("version_before", sa.String(128)),
        sa.PrimaryKeyConstraint("host", "driver", name="pk_host_drivers"),
    )
    op.create_index("ix_host_drivers_is_open", "host_drivers", ["is_open"])


def downgrade() -> None:
    """Drop them again."""
    for table in ("host_drivers", "leases", "queue"):
        op.drop_table(table)
    op.drop_index("ix_accelerators_attached_host", "accelerators")
    for table, name in ADDED.items():
        op.drop_column(table, name)
