"""A database brought to the version of the tables that this program knows.

Several nodes may start at once: whoever comes first does it, behind an advisory lock, and the others find it done. A
database that is newer than the program is left alone.
"""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from sipbridge.errors import SipbridgeError

_LOCK = 0x5349_5042_4849_5354
"""Of PostgreSQL's advisory locks, which are numbers that programs agree on: "SIPBHIST"."""
_WAIT_SECONDS = 30
"""For another node that is at it."""
_WORK_SECONDS = 600


class NewerSchemaError(SipbridgeError):
    """The tables are of a version that this program does not know."""

    label = "history_schema"


def newest() -> str:
    """The version that this program knows."""
    return str(_scripts(_config()).get_current_head())


def version(connection: Connection) -> str | None:
    """Of the database's tables; None: there are none."""
    return MigrationContext.configure(connection).get_current_revision()


def check_known(found: str | None) -> None:
    """Raises `NewerSchemaError`."""
    known = {script.revision for script in _scripts(_config()).walk_revisions()}
    if found is not None and found not in known:
        raise NewerSchemaError(
            f"its tables are of version {found}, made by a newer sipbridge; this one knows {newest()}: "
            "upgrade this node, or downgrade the tables with the newer one"
        )


def migrate(connection: Connection, to: str | None = None) -> None:
    """Bring the tables to a version: the newest, an older one, or "base": none. Within the connection's transaction:
    all of it, or nothing. Raises `NewerSchemaError`."""
    connection.execute(text(f"SET LOCAL lock_timeout = '{_WAIT_SECONDS}s'"))
    connection.execute(text(f"SET LOCAL statement_timeout = '{_WORK_SECONDS}s'"))
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
    found = version(connection)
    check_known(found)
    config = _config()
    config.attributes["connection"] = connection
    if to is None:
        command.upgrade(config, "head")
    else:
        command.downgrade(config, to)


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    return config


def _scripts(config: Config) -> ScriptDirectory:
    return ScriptDirectory.from_config(config)
