"""The versions of the history's tables in PostgreSQL, for alembic: `versions/`, the oldest first."""
