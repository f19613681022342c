# SPDX-License-Identifier: Apache-2.0
"""The first tables of the journal."""

import sqlalchemy as sa
from alembic import op

revision = "v0001"
down_revision = None

TIME = sa.DateTime(timezone=True)
NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Make the tables."""
    make_hosts()
    make_what_is_remembered()
    make_runs()
    op.create_table(
        "controllers",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("fencing_token", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_controllers"),
    )
    op.create_table(
        "declarations",
        sa.Column("digest", sa.String(255), nullable=False),
        sa.Column("document", sa.Text, nullable=False),
        sa.Column("first_seen_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("digest", name="pk_declarations"),
    )
    op.create_table(
        "approvals",
        sa.Column("host", sa.String(255), nullable=False),
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("digest", sa.String(255), nullable=False),
        sa.Column("approved_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("host", "generation", "digest", name="pk_approvals"),
    )
    op.create_table(
        "events",
        sa.Column("number", NUMBER, autoincrement=True, nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.Column("kind", sa.String(64), nullable=False),
        sa.Column("host", sa.String(255), nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("data", sa.Text),
        sa.PrimaryKeyConstraint("number", name="pk_events"),
    )
    op.create_index("ix_events_host", "events", ["host"])


def make_hosts() -> None:
    """Make the table of hosts."""
    op.create_table(
        "hosts",
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("uuid", sa.String(36), nullable=False),
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("digest", sa.String(255), nullable=False),
        sa.Column("sync", sa.String(32), nullable=False),
        sa.Column("health", sa.String(32), nullable=False),
        sa.Column("phase", sa.String(32), nullable=False),
        sa.Column("failed_in", sa.String(32), nullable=False),
        sa.Column("reason", sa.String(64), nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("fingerprint", sa.String(255), nullable=False),
        sa.Column("observed_at", TIME),
        sa.Column("changed_at", TIME),
        sa.PrimaryKeyConstraint("name", name="pk_hosts"),
        sa.UniqueConstraint("uuid", name="uq_hosts_uuid"),
    )


def make_what_is_remembered() -> None:
    """Make the tables that hang on hosts."""
    op.create_table(
        "conditions",
        sa.Column("host", sa.String(255), nullable=False),
        sa.Column("document", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("host", name="pk_conditions"),
        sa.ForeignKeyConstraint(["host"], ["hosts.name"], name="fk_conditions_host", ondelete="CASCADE"),
    )
    op.create_table(
        "histories",
        sa.Column("host", sa.String(255), nullable=False),
        sa.Column("digest", sa.String(255), nullable=False),
        sa.Column("was_synced", sa.Boolean, nullable=False),
        sa.Column("failures", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("host", "digest", name="pk_histories"),
        sa.ForeignKeyConstraint(["host"], ["hosts.name"], name="fk_histories_host", ondelete="CASCADE"),
    )
    op.create_table(
        "facts",
        sa.Column("host", sa.String(255), nullable=False),
        sa.Column("fingerprint", sa.String(255), nullable=False),
        sa.Column("document", sa.Text, nullable=False),
        sa.Column("received_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("host", name="pk_facts"),
        sa.ForeignKeyConstraint(["host"], ["hosts.name"], name="fk_facts_host", ondelete="CASCADE"),
    )
    op.create_table(
        "reboots",
        sa.Column("number", NUMBER, autoincrement=True, nullable=False),
        sa.Column("host", sa.String(255), nullable=False),
        sa.Column("digest", sa.String(255), nullable=False),
        sa.Column("boot_id", sa.String(64), nullable=False),
        sa.Column("asked_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_reboots"),
        sa.ForeignKeyConstraint(["host"], ["hosts.name"], name="fk_reboots_host", ondelete="CASCADE"),
    )
    op.create_index("ix_reboots_host_digest", "reboots", ["host", "digest"])


def make_runs() -> None:
    """Make the tables of what was planned and done."""
    op.create_table(
        "plans",
        sa.Column("uuid", sa.String(36), nullable=False),
        sa.Column("document", sa.Text, nullable=False),
        sa.Column("recorded_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("uuid", name="pk_plans"),
    )
    op.create_table(
        "runs",
        sa.Column("number", NUMBER, autoincrement=True, nullable=False),
        sa.Column("uuid", sa.String(36), nullable=False),
        sa.Column("plan_uuid", sa.String(36), nullable=False),
        sa.Column("fencing_token", sa.BigInteger, nullable=False),
        sa.Column("status", sa.String(32), nullable=False),
        sa.Column("started_at", TIME, nullable=False),
        sa.Column("ended_at", TIME),
        sa.PrimaryKeyConstraint("number", name="pk_runs"),
        sa.UniqueConstraint("uuid", name="uq_runs_uuid"),
        sa.ForeignKeyConstraint(["plan_uuid"], ["plans.uuid"], name="fk_runs_plan_uuid"),
    )
    op.create_index("ix_runs_plan_uuid", "runs", ["plan_uuid"])
    op.create_index("ix_runs_status", "runs", ["status"])
    op.create_table(
        "outcomes",
        sa.Column("run_uuid", sa.String(36), nullable=False),
        sa.Column("host", sa.String(255), nullable=False),
        sa.Column("status", sa.String(32), nullable=False),
        sa.Column("document", sa.Text, nullable=False),
        sa.Column("ended_at", TIME),
        sa.PrimaryKeyConstraint("run_uuid", "host", name="pk_outcomes"),
        sa.ForeignKeyConstraint(["run_uuid"], ["runs.uuid"], name="fk_outcomes_run_uuid", ondelete="CASCADE"),
    )


def downgrade() -> None:
    """Take the tables away, those first that point to others."""
    for table in (
        "events",
        "approvals",
        "declarations",
        "controllers",
        "outcomes",
        "runs",
        "plans",
        "reboots",
        "facts",
        "histories",
        "conditions",
        "hosts",
    ):
        op.drop_table(table)
