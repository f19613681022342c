# SPDX-License-Identifier: Apache-2.0
"""What the REST API and the agents brought: accelerators, and who has them."""

import sqlalchemy as sa
from alembic import op

revision = "v0002"
down_revision = "v0001"

TIME = sa.DateTime(timezone=True)
NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Make the tables."""
    make_accelerators()
    op.create_table(
        "allocations",
        sa.Column("consumer", sa.String(36), nullable=False),
        sa.Column("accelerator", sa.String(36), nullable=False),
        sa.Column("amount", sa.Integer, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("consumer", "accelerator", name="pk_allocations"),
        sa.ForeignKeyConstraint(
            ["accelerator"], ["accelerators.uuid"], name="fk_allocations_accelerator", ondelete="CASCADE"
        ),
    )
    op.create_index("ix_allocations_accelerator", "allocations", ["accelerator"])


def make_accelerators() -> None:
    """Make the table of what the public API offers."""
    op.create_table(
        "accelerators",
        sa.Column("accelerator_id", NUMBER, autoincrement=True, nullable=False),
        sa.Column("device_type", sa.String(32), nullable=False),
        sa.Column("acc_type", sa.String(64), nullable=False),
        sa.Column("acc_capability", sa.Text, nullable=False),
        sa.Column("vendor_id", sa.String(4)),
        sa.Column("product_id", sa.String(4)),
        sa.Column("remotable", sa.Integer, nullable=False),
        sa.Column("uuid", sa.String(36), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("host", sa.String(255)),
        sa.Column("address", sa.String(64)),
        sa.Column("parent", sa.String(36)),
        sa.Column("origin", sa.String(16), nullable=False),
        sa.Column("claimed", sa.Boolean, nullable=False),
        sa.Column("description", sa.Text, nullable=False),
        sa.Column("num", sa.Integer, nullable=False),
        sa.Column("overlay", sa.Text, nullable=False),
        sa.Column("driver", sa.String(255)),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("desired_state", sa.String(16), nullable=False),
        sa.Column("health", sa.String(16), nullable=False),
        sa.Column("setup_required", sa.Boolean, nullable=False),
        sa.Column("reboot_required", sa.Boolean, nullable=False),
        sa.Column("attach_info", sa.Text),
        sa.Column("instance_uuid", sa.String(36)),
        sa.Column("attached_host", sa.String(255)),
        sa.Column("project_id", sa.String(255)),
        sa.Column("attach_status", sa.String(16)),
        sa.Column("attached_at", TIME),
        sa.Column("resource_provider_uuid", sa.String(36)),
        sa.Column("present", sa.Boolean, nullable=False),
        sa.Column("state_policy", sa.Text, nullable=False),
        sa.Column("binding_policy", sa.Text, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("updated_at", TIME, nullable=False),
        sa.Column("document", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("accelerator_id", name="pk_accelerators"),
        sa.UniqueConstraint("uuid", name="uq_accelerators_uuid"),
        sa.UniqueConstraint("name", name="uq_accelerators_name"),
    )
    for columns in (["host", "address"], ["state", "uuid"], ["device_type", "uuid"], ["instance_uuid"]):
        op.create_index(f"ix_accelerators_{'_'.join(columns)}", "accelerators", columns)


def downgrade() -> None:
    """Drop them again."""
    op.drop_table("allocations")
    op.drop_table("accelerators")
