# SPDX-License-Identifier: Apache-2.0
"""What the users' authentication brought: their tokens, hashed."""

import sqlalchemy as sa
from alembic import op

revision = "v0003"
down_revision = "v0002"

TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "credentials",
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("project_id", sa.String(255)),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("expires_at", TIME),
        sa.Column("last_used_at", TIME),
        sa.Column("revoked_at", TIME),
        sa.PrimaryKeyConstraint("name", name="pk_credentials"),
        sa.UniqueConstraint("digest", name="uq_credentials_digest"),
    )


def downgrade() -> None:
    """Drop it again."""
    op.drop_table("credentials")
