# SPDX-License-Identifier: Apache-2.0
"""It is kept when agents fell silent, or came to be heard."""

import sqlalchemy as sa
from alembic import op

revision = "v0011"
down_revision = "v0010"


def upgrade() -> None:
    """Add it. Of agents that were heard before, it is not known: as far as is known, it has been so since then."""
    op.add_column("agents", sa.Column("silent_changed_at", sa.DateTime(timezone=True)))
    op.execute(sa.text("UPDATE agents SET silent_changed_at = last_seen_at"))


def downgrade() -> None:
    """Forget it."""
    op.drop_column("agents", "silent_changed_at")
