# SPDX-License-Identifier: Apache-2.0
"""What the API keeps beside accelerators: policies, plans, what the tree declares, the inventory, who ends a run."""

import sqlalchemy as sa
from alembic import op

revision = "v0004"
down_revision = "v0003"

TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Make the tables, and what is new in others."""
    op.add_column("events", sa.Column("run", sa.String(36)))
    for columns in (["run"], ["kind"], ["at"]):
        op.create_index(f"ix_events_{'_'.join(columns)}", "events", columns)
    op.add_column("allocations", sa.Column("version", sa.BigInteger))
    op.create_index("ix_accelerators_host_driver", "accelerators", ["host", "driver"])
    make_declarations()
    make_runs()
    op.create_table(
        "backends",
        sa.Column("uuid", sa.String(36), nullable=False),
        sa.Column("host", sa.String(255), nullable=False),
        sa.Column("driver", sa.String(255), nullable=False),
        sa.PrimaryKeyConstraint("uuid", name="pk_backends"),
    )
    op.create_index("ix_backends_host_driver", "backends", ["host", "driver"], unique=True)


def make_declarations() -> None:
    """Make the tables of what is declared, and for which hosts."""
    op.create_table(
        "inventory",
        sa.Column("host", sa.String(255), nullable=False),
        sa.Column("groups", sa.Text, nullable=False),
        sa.Column("labels", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("host", name="pk_inventory"),
    )
    op.create_table(
        "policies",
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("document", sa.Text, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("updated_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_policies"),
    )
    op.create_table(
        "declared_documents",
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("file", sa.Text, nullable=False),
        sa.Column("lines", sa.Text, nullable=False),
        sa.Column("document", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("kind", "name", name="pk_declared_documents"),
    )
    op.create_table(
        "declared_stamp",
        sa.Column("stamp", sa.String(64), nullable=False),
        sa.Column("digest", sa.String(255), nullable=False),
        sa.Column("prunes", sa.Boolean, nullable=False),
        sa.Column("recorded_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("stamp", name="pk_declared_stamp"),
    )


def make_runs() -> None:
    """Make the tables of what is asked of plans and runs."""
    op.create_table(
        "proposals",
        sa.Column("plan_uuid", sa.String(36), nullable=False),
        sa.Column("allow_reboot", sa.Boolean, nullable=False),
        sa.Column("document", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("plan_uuid", name="pk_proposals"),
        sa.ForeignKeyConstraint(["plan_uuid"], ["plans.uuid"], name="fk_proposals_plan_uuid", ondelete="CASCADE"),
    )
    op.create_table(
        "cancellations",
        sa.Column("run_uuid", sa.String(36), nullable=False),
        sa.Column("requested_at", TIME, nullable=False),
        sa.Column("requested_by", sa.String(255), nullable=False),
        sa.PrimaryKeyConstraint("run_uuid", name="pk_cancellations"),
        sa.ForeignKeyConstraint(["run_uuid"], ["runs.uuid"], name="fk_cancellations_run_uuid", ondelete="CASCADE"),
    )


def downgrade() -> None:
    """Drop them again."""
    for table in ("backends", "cancellations", "proposals"):
        op.drop_table(table)
    for table in ("declared_stamp", "declared_documents", "policies", "inventory"):
        op.drop_table(table)
    op.drop_index("ix_accelerators_host_driver", "accelerators")
    op.drop_column("allocations", "version")
    for index in ("ix_events_at", "ix_events_kind", "ix_events_run"):
        op.drop_index(index, "events")
    op.drop_column("events", "run")
