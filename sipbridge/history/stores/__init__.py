"""Where a history is kept: SQLite, PostgreSQL, a backend."""
