# SPDX-License-Identifier: Apache-2.0
"""What alembic runs around a migration; it finds this file by its name. Connection and transaction are the caller's."""

from alembic import context

from cyborg_reconciler.adapters.database.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
