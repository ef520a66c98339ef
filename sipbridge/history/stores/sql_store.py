"""The history in PostgreSQL, by SQLAlchemy over asyncpg: a `Store` that several nodes may share.

Nothing is asked of the server before the first entries are there, and nothing is believed of it: every statement has
its time, here and there, and a connection that did not keep it is thrown away. What has been committed is taken; where
that cannot be told (the connection was lost in COMMIT), the same entries come again, and are known.

Sources: PostgreSQL 15, chapters 13 (isolation) and 19.11 (time-outs), appendix A (SQLSTATE); asyncpg 0.30's `connect`.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from itertools import groupby
from typing import Any

import asyncpg
import structlog
from sqlalchemy import ColumnElement, Executable, and_, case, delete, or_, select
from sqlalchemy.dialects.postgresql import Insert, insert
from sqlalchemy.exc import DBAPIError, SQLAlchemyError, StatementError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from sipbridge.history.facts import Entry
from sipbridge.history.numbers import forms_of
from sipbridge.history.sink import CallRow, EntryRefusedError, Pace, Query, SinkUnavailableError
from sipbridge.history.stores import sql_migration
from sipbridge.history.stores import sql_schema as table
from sipbridge.history.stores.rows import BLANK, changes, encode

log = structlog.get_logger(__name__)

_CONNECT_SECONDS = 5.0
_STATEMENT_SECONDS = 15.0
_LOCK_SECONDS = 10.0
_IDLE_SECONDS = 30.0
"""A node that dies in mid-transaction gives back its locks after this."""
_OPERATION_SECONDS = 30.0
"""Everything that one verb does, also towards a server that stands still."""
_MIGRATION_SECONDS = 660.0
_GATHERS_SECONDS = 0.5
"""A transaction costs this machine more than twenty entries in it."""
_CONNECTIONS = 2
"""One writes, one answers people who ask."""
_DELETED_AT_ONCE = 500
"""So many calls are deleted in one transaction: none holds its locks for long."""
_REFUSED = ("22", "23", "54")
"""Classes of SQLSTATE that are about what was sent, and not about how the server is: data exception, integrity, a limit
of the program exceeded (nested too deeply, longer than may be)."""
_RECORD = re.compile(r"[0-9a-f]{8,32}", re.IGNORECASE)
_UNSPEAKABLE = re.compile("[\x00\ud800-\udfff]")


class SqlStore:
    pace = Pace(pause=_GATHERS_SECONDS)

    def __init__(self, url: str, *, name: str = "store") -> None:
        """`url`: postgresql://USER:PASSWORD@HOST[:PORT]/NAME, with what libpq's URLs may have (several hosts, sslmode,
        sslrootcert, target_session_attrs ...). Nothing is asked of it yet."""
        self.name = name
        self._url = re.sub(r"^postgresql\+asyncpg:", "postgresql:", url)
        self.engine = create_async_engine(
            "postgresql+asyncpg://",
            async_creator=self._connect,
            pool_size=_CONNECTIONS,
            max_overflow=0,
            pool_timeout=_OPERATION_SECONDS,
            pool_recycle=3600,
            pool_pre_ping=True,  # of a server that was started anew: no attempt is lost to a connection of before
            json_serializer=encode,
        )
        self._migrated = False
        self._migrating = asyncio.Lock()

    # --- a sink -------------------------------------------------------------------------------------------------------

    def wants(self, entry: Entry) -> bool:
        return True

    async def deliver(self, entries: Sequence[Entry]) -> None:
        """See `Sink`. All of them or none: in one transaction. Without any: is it there?"""
        rows = [_entry_row(entry) for entry in sorted(entries, key=lambda entry: (entry.record, entry.seq))]
        async with self._transaction() as connection:
            if not rows:
                return
            await connection.execute(insert(table.entries).on_conflict_do_nothing(), rows)
            for record, of_record in groupby(rows, lambda row: row["record"]):
                await connection.execute(_row_of_call(record, list(of_record)))

    async def close(self) -> None:
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                await self.engine.dispose()
        except TimeoutError:
            log.warning("the history's store did not let go in time", store=self.name)

    # --- a store ------------------------------------------------------------------------------------------------------

    async def calls(self, query: Query) -> list[CallRow]:
        wanted = select(table.calls).where(*_conditions(query)).order_by(*_LATEST_FIRST).limit(max(query.limit, 0))
        async with self._transaction() as connection:
            return await _fetched(connection, wanted)

    async def find(self, name: str) -> list[CallRow]:
        which: ColumnElement[bool] = _call.call_id == _text(name)
        if _RECORD.fullmatch(name):
            which = or_(which, _call.record.startswith(name.lower()))
        async with self._transaction() as connection:
            return await _fetched(connection, select(table.calls).where(which).order_by(*_LATEST_FIRST))

    async def entries(self, record: str) -> list[Entry]:
        wanted = select(table.entries).where(_entry.record == _text(record)).order_by(_entry.seq)
        async with self._transaction() as connection:
            return [Entry(row.record, row.seq, row.at, row.kind, row.data) for row in await connection.execute(wanted)]

    async def erase(self, caller: str, also: Collection[str] = ()) -> list[CallRow]:
        person = case((_call.direction == "outbound", _call.to), else_=_call.caller)
        async with self._transaction() as connection:
            known = (await connection.execute(select(person).distinct())).scalars().all()
        records = [_text(record) for record in also]
        gone = await self._delete(or_(person.in_(forms_of(_text(caller), known)), _call.record.in_(records)))
        async with self._transaction() as connection:  # of which nobody knows (any more) whose they are
            await connection.execute(delete(table.entries).where(_entry.record.in_(records)))
        return sorted(gone, key=lambda row: (row.began_at, row.record), reverse=True)

    async def expire(self, tenant: str | None, before: float) -> int:
        which = _call.began_at < before
        return len(await self._delete(which if tenant is None else and_(_call.tenant == _text(tenant), which)))

    async def _delete(self, which: ColumnElement[bool]) -> list[CallRow]:
        """Some at a time: nobody who writes has to wait for long."""
        gone: list[CallRow] = []
        while True:
            some = select(_call.record).where(which).limit(_DELETED_AT_ONCE)
            async with self._transaction() as connection:
                rows = await _fetched(
                    connection, delete(table.calls).where(_call.record.in_(some)).returning(table.calls)
                )
                await connection.execute(delete(table.entries).where(_entry.record.in_([row.record for row in rows])))
            gone += rows
            if len(rows) < _DELETED_AT_ONCE:
                return gone

    # --- the server ---------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[AsyncConnection]:
        """Raises `SinkUnavailableError` and `EntryRefusedError`, and nothing else for what the server does."""
        with _in_words():
            await self._be_ready()
            async with asyncio.timeout(_OPERATION_SECONDS), self.engine.begin() as connection:
                yield connection

    async def _be_ready(self) -> None:
        """The tables are of the version that this program knows, or are brought to it, once."""
        if self._migrated:
            return
        async with self._migrating:
            if self._migrated:
                return
            async with asyncio.timeout(_OPERATION_SECONDS), self.engine.connect() as connection:
                found = await connection.run_sync(sql_migration.version)
            if found != sql_migration.newest():
                sql_migration.check_known(found)
                await self.migrate()
            self._migrated = True

    async def migrate(self, to: str | None = None) -> None:
        """Bring the tables to a version (`sql_migration.migrate`)."""
        engine: AsyncEngine = create_async_engine(
            "postgresql+asyncpg://", async_creator=self._connect_for_long, poolclass=NullPool
        )
        async with asyncio.timeout(_MIGRATION_SECONDS), engine.begin() as connection:
            await connection.run_sync(sql_migration.migrate, to)
        log.info("the history's tables are of version", version=to or sql_migration.newest(), store=self.name)

    async def _connect(self, *, statement_seconds: float | None = None) -> asyncpg.Connection[Any]:
        seconds = statement_seconds or _STATEMENT_SECONDS
        connection = await asyncpg.connect(self._url, timeout=_CONNECT_SECONDS, command_timeout=seconds)
        # By statements: poolers between us and the server refuse most of these in what a connection begins with.
        await connection.execute(
            "SET application_name = 'sipbridge';"
            f"SET statement_timeout = '{seconds * 1000:.0f}';"
            f"SET lock_timeout = '{_LOCK_SECONDS * 1000:.0f}';"
            f"SET idle_in_transaction_session_timeout = '{_IDLE_SECONDS:.0f}s';"
            # What was acknowledged has to outlive the server.
            "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"
        )
        return connection

    async def _connect_for_long(self) -> asyncpg.Connection[Any]:
        return await self._connect(statement_seconds=_MIGRATION_SECONDS)


_call, _entry = table.calls.c, table.entries.c
_LATEST_FIRST = (_call.began_at.desc(), _call.record.desc())


def _conditions(query: Query) -> Iterator[ColumnElement[bool]]:
    if query.tenant is not None:
        yield _call.tenant == _text(query.tenant)
    if query.since is not None:
        yield _call.began_at >= query.since
    if query.until is not None:
        yield _call.began_at < query.until
    if query.outcome is not None:
        yield or_(_call.outcome == _text(query.outcome), _call.ended == _text(query.outcome))
    if query.caller is not None:
        yield _call.caller == _text(query.caller)
    if query.number is not None:
        yield or_(_call.caller == _text(query.number), _call.to == _text(query.number))


async def _fetched(connection: AsyncConnection, statement: Executable) -> list[CallRow]:
    return [CallRow(**row._mapping) for row in await connection.execute(statement)]


def _row_of_call(record: str, entries: Sequence[Mapping[str, Any]]) -> Insert:
    """What these entries say about their call, brought into its row, which may not be there yet."""
    changed: dict[str, Any] = {}
    for entry in entries:
        changed |= changes(Entry(**entry))
    values = {name: _text(value) if isinstance(value, str) else value for name, value in changed.items()}
    blank = {**BLANK, "began_at": entries[0]["at"]}
    statement = insert(table.calls).values({**blank, **values, "record": record})
    if not values:
        return statement.on_conflict_do_nothing()
    return statement.on_conflict_do_update(index_elements=["record"], set_=values)


def _entry_row(entry: Entry) -> dict[str, Any]:
    return {
        "record": _text(entry.record),
        "seq": entry.seq,
        "at": entry.at,
        "kind": _text(entry.kind),
        "data": entry.data,
    }


def _text(value: str) -> str:
    """Without what PostgreSQL's text has no room for: NUL, and halves of surrogate pairs."""
    return _UNSPEAKABLE.sub("\ufffd", value)


@contextmanager
def _in_words() -> Iterator[None]:
    try:
        yield
    except sql_migration.NewerSchemaError as error:
        raise SinkUnavailableError(f"PostgreSQL: {error}") from error
    except TimeoutError as error:
        raise SinkUnavailableError("PostgreSQL: no answer in time") from error
    except (DBAPIError, asyncpg.PostgresError) as error:
        state = _state(error)
        kind = EntryRefusedError if state[:2] in _REFUSED else SinkUnavailableError
        raise kind(f"PostgreSQL: {_first_line(error)}") from error
    except StatementError as error:  # a value that cannot even be sent
        raise EntryRefusedError(f"PostgreSQL: {_first_line(error)}") from error
    except (OSError, SQLAlchemyError, asyncpg.InterfaceError) as error:
        raise SinkUnavailableError(f"PostgreSQL: {_first_line(error)}") from error
    except ValueError:  # which quotes what it stumbled over: that may be half a password
        words = "history.store is no URL of a database; is a password in it escaped, or in the environment?"
        raise SinkUnavailableError(f"PostgreSQL: {words}") from None


def _state(error: BaseException) -> str:
    """The SQLSTATE, "" where the server has not said one."""
    original = error.orig if isinstance(error, DBAPIError) else error
    return str(getattr(original, "sqlstate", None) or "")


def _first_line(error: BaseException) -> str:
    """In a few words; a statement's values, which SQLAlchemy would add, are nobody's business."""
    said = error.orig if isinstance(error, StatementError) and error.orig is not None else error
    said = said.__cause__ if isinstance(said, Exception) and isinstance(said.__cause__, Exception) else said
    return (str(said).strip().splitlines() or [type(said).__name__])[0][:200]
