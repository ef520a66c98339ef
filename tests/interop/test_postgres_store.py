"""The store in PostgreSQL, against a real server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection

from sipbridge.history.sink import EntryRefusedError, Query, SinkUnavailableError, Store
from sipbridge.history.stores import sql_store
from sipbridge.history.stores.sql_schema import metadata
from sipbridge.history.stores.sql_store import SqlStore
from tests.history.store_contract import Call, StoreContract, ended, said, started
from tests.interop.postgres import Postgres, running_postgres

pytestmark = pytest.mark.interop


class TestContract(StoreContract):
    @pytest.fixture
    def store(self, server: Postgres) -> Callable[[], Store]:
        url = server.plain_url(server.database())
        return lambda: SqlStore(url)


# --- a server that is not well ----------------------------------------------------------------------------------------


@pytest.fixture
def own_server() -> Iterator[Postgres]:
    """For tests that leave nothing standing."""
    with running_postgres() as running:
        yield running


def test_a_server_that_went_away_is_found_again(own_server: Postgres) -> None:
    calls = [Call(started(), said("hello"), ended()) for _ in range(3)]

    async def story() -> None:
        store = SqlStore(own_server.plain_url(own_server_database))
        await store.deliver(calls[0].entries)
        await asyncio.to_thread(own_server.stop, "immediate")
        with pytest.raises(SinkUnavailableError, match="PostgreSQL: "):
            await store.deliver(calls[1].entries)
        await asyncio.to_thread(own_server.start)
        await store.deliver(calls[1].entries)
        own_server.kill_backends()
        await taken(store, calls[2])
        for call in calls:
            assert await store.entries(call.record) == call.entries
        await store.close()

    own_server_database = own_server.database()
    asyncio.run(story())


async def taken(store: SqlStore, call: Call) -> None:
    """As the outbox does it: again and again."""
    async with asyncio.timeout(30):
        while True:
            try:
                return await store.deliver(call.entries)
            except SinkUnavailableError:
                await asyncio.sleep(0.1)


def test_a_server_that_stands_still_is_given_up_and_taken_up_again(
    own_server: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sql_store, "_STATEMENT_SECONDS", 0.5)
    monkeypatch.setattr(sql_store, "_CONNECT_SECONDS", 0.5)
    monkeypatch.setattr(sql_store, "_OPERATION_SECONDS", 1.0)
    calls = [Call(started(), said("hello"), ended()) for _ in range(2)]
    database = own_server.database()

    async def story() -> None:
        store = SqlStore(own_server.plain_url(database))
        await store.deliver(calls[0].entries)
        own_server.stall()
        for _ in range(3):  # the pool's connection, and new ones
            began = time.monotonic()
            with pytest.raises(SinkUnavailableError):
                await store.deliver(calls[1].entries)
            assert time.monotonic() - began < 5
        own_server.resume()
        await taken(store, calls[1])
        for call in calls:
            assert await store.entries(call.record) == call.entries
        own_server.stall()
        began = time.monotonic()
        await store.close()
        assert time.monotonic() - began < 6

    asyncio.run(story())


def test_a_server_that_only_reads_is_waited_for(server: Postgres) -> None:
    database, call = server.database(), Call(started(), ended())

    async def story() -> None:
        store = SqlStore(server.plain_url(database))
        await store.deliver([])
        await server.ask(f"ALTER DATABASE {database} SET default_transaction_read_only = on")
        await store.close()
        store = SqlStore(server.plain_url(database))
        with pytest.raises(SinkUnavailableError, match="read-only"):
            await store.deliver(call.entries)
        assert await store.calls(Query()) == []
        await server.ask(f"ALTER DATABASE {database} RESET default_transaction_read_only")
        await store.close()
        store = SqlStore(server.plain_url(database))
        await store.deliver(call.entries)
        await store.close()

    asyncio.run(story())


def test_a_server_without_a_free_connection_is_waited_for(own_server: Postgres) -> None:
    database, call = own_server.database(), Call(started(), ended())
    own_server.stop()
    own_server.start("max_connections=4", "superuser_reserved_connections=0", "max_wal_senders=0")

    async def story() -> None:
        others = [await own_server.connect(database) for _ in range(4)]
        store = SqlStore(own_server.plain_url(database))
        with pytest.raises(SinkUnavailableError, match="too many clients"):
            await store.deliver(call.entries)
        for other in others:
            await other.close()
        await taken(store, call)
        await store.close()

    asyncio.run(story())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("sipbridge:", "nobody:"), "authentication failed"),
        (("p%40ss", "wrong"), "authentication failed"),
        (("/history", "/no_such_history"), "does not exist"),
        (("127.0.0.1", "127.0.0.99"), "refused|Connect call failed"),
        (("p%40ss%2F", "pass/"), "no URL of a database"),
    ],
)
def test_what_is_wrong_with_the_url_is_said_without_the_password(
    server: Postgres, change: tuple[str, str], words: str
) -> None:
    url = server.plain_url(server.database()).replace(*change)

    async def story() -> None:
        store = SqlStore(url)
        with pytest.raises(SinkUnavailableError, match=words) as caught:
            await store.deliver(Call(started()).entries)
        assert "pass/" not in str(caught.value)
        assert "'pass'" not in str(caught.value)
        assert "p@ss" not in str(caught.value)
        assert "p%40ss" not in str(caught.value)
        await store.close()

    asyncio.run(story())


def test_a_lock_held_by_somebody_else_costs_its_time_and_no_more(
    server: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sql_store, "_LOCK_SECONDS", 1.0)
    database, calls = server.database(), [Call(started(), ended()) for _ in range(2)]

    async def story() -> None:
        store = SqlStore(server.plain_url(database))
        await store.deliver(calls[0].entries)
        other = await server.connect(database)
        async with other.transaction():
            await other.execute("LOCK TABLE calls IN ACCESS EXCLUSIVE MODE")
            with pytest.raises(SinkUnavailableError, match="lock timeout"):
                await store.deliver(calls[1].entries)
        await other.close()
        await store.deliver(calls[1].entries)
        await store.close()

    asyncio.run(story())


def test_nothing_of_a_delivery_stays_that_was_not_committed(server: Postgres) -> None:
    database, call = server.database(), Call(started(), said("hello"), ended())

    async def story() -> None:
        store = SqlStore(server.plain_url(database))
        await store.deliver([])
        await server.ask("ALTER TABLE calls ADD CONSTRAINT nothing_ends CHECK (ended IS NULL)", database=database)
        with pytest.raises(EntryRefusedError):
            await store.deliver(call.entries)
        assert await store.entries(call.record) == []
        await store.close()

    asyncio.run(story())


# --- the tables' versions ---------------------------------------------------------------------------------------------


def test_the_migrations_make_the_tables_that_the_store_knows(server: Postgres) -> None:
    database = server.database()

    def difference(connection: Connection) -> object:
        return compare_metadata(MigrationContext.configure(connection), metadata)

    async def story() -> None:
        store = SqlStore(server.plain_url(database))
        await store.deliver([])
        async with store.engine.connect() as connection:
            assert await connection.run_sync(difference) == []
        await store.close()

    asyncio.run(story())


def test_tables_can_go_back_to_nothing_and_come_again(server: Postgres) -> None:
    database, call = server.database(), Call(started(), ended())

    async def story() -> None:
        store = SqlStore(server.plain_url(database))
        await store.deliver(call.entries)
        await store.migrate("base")
        assert (
            await server.ask("SELECT 1 FROM pg_tables WHERE tablename IN ('calls', 'entries')", database=database) == []
        )
        await store.migrate()
        assert await store.calls(Query()) == []
        await store.close()

    asyncio.run(story())


def test_several_nodes_may_be_the_first(server: Postgres) -> None:
    database, calls = server.database(), [Call(started(), ended()) for _ in range(6)]

    async def story() -> None:
        stores = [SqlStore(server.plain_url(database)) for _ in calls]
        await asyncio.gather(*(store.deliver(call.entries) for store, call in zip(stores, calls, strict=True)))
        assert len(await stores[0].calls(Query())) == len(calls)
        await asyncio.gather(*(store.close() for store in stores))

    asyncio.run(story())


def test_tables_of_a_newer_version_are_left_alone(server: Postgres) -> None:
    database, call = server.database(), Call(started(), ended())

    async def story() -> None:
        store = SqlStore(server.plain_url(database))
        await store.deliver([])
        await store.close()
        await server.ask("UPDATE alembic_version SET version_num = '9999'", database=database)
        store = SqlStore(server.plain_url(database))
        with pytest.raises(SinkUnavailableError, match="version 9999, made by a newer sipbridge"):
            await store.deliver(call.entries)
        await server.ask("UPDATE alembic_version SET version_num = '0001'", database=database)
        await store.deliver(call.entries)
        await store.close()

    asyncio.run(story())
