# SPDX-License-Identifier: Apache-2.0
"""What was seen of an accelerator's health, and what its host's agent says of it, are kept apart."""

import sqlalchemy as sa
from alembic import op

revision = "v0010"
down_revision = "v0009"


def upgrade() -> None:
    """Add both; what is there was seen, and no agent has said anything yet."""
    for name, value in (("seen_health", "''"), ("told_health", "'Healthy'")):
        op.add_column("accelerators", sa.Column(name, sa.String(16), nullable=False, server_default=sa.text(value)))
    op.execute(sa.text("UPDATE accelerators SET seen_health = health"))


def downgrade() -> None:
    """Keep what was seen alone."""
    op.execute(sa.text("UPDATE accelerators SET health = seen_health"))
    for name in ("told_health", "seen_health"):
        op.drop_column("accelerators", name)
