"""What alembic runs around the versions: over the connection that it is given, all or none."""

from __future__ import annotations

from alembic import context

from sipbridge.history.stores.sql_schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
