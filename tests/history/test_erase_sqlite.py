"""What was erased from a SQLite store is nowhere in its files, while a gateway writes to them."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

from sipbridge.history.facts import Ended, Entry, Fact, Turn
from sipbridge.history.sink import Query
from sipbridge.history.stores.sqlite_store import SqliteStore
from tests.history.calls import entries, started


def call(record: str, caller: str, words: str, **more: str) -> list[Entry]:
    facts: tuple[Fact, ...] = (
        started(caller=caller, **more),
        Turn(1, "caller", words, 1.0, 2.0),
        Ended({"ended": "caller_hung_up"}),
    )
    return entries(*((float(at), fact) for at, fact in enumerate(facts)), record=record)


def everywhere(directory: Path) -> bytes:
    return b"".join(path.read_bytes() for path in directory.rglob("*") if path.is_file())


def test_the_bytes_are_gone(tmp_path: Path) -> None:
    async def main() -> None:
        gateways, ours = (SqliteStore(tmp_path / "history.db") for _ in range(2))
        await gateways.deliver(call("a" * 32, "+15550123", "my secret is canary-one " * 400))
        await gateways.deliver(call("b" * 32, "sip:0015550123@192.0.2.7", "canary-two"))
        await gateways.deliver(call("c" * 32, "+15550199", "canary-three", to="+15550123", direction="outbound"))
        await gateways.deliver(call("d" * 32, "+15550199", "stays", to="+15550123"))
        assert b"canary-one" in everywhere(tmp_path)
        gone = await ours.erase("+1 555-0123")
        assert {row.record[0] for row in gone} == {"a", "b", "c"}
        assert b"canary" not in everywhere(tmp_path)
        assert b"stays" in everywhere(tmp_path)
        assert await ours.erase("15550123") == await ours.erase("") == []
        await gateways.deliver(call("e" * 32, "+15550198", "afterwards"))
        assert [row.record[0] for row in await ours.calls(Query())] in (["d", "e"], ["e", "d"])
        await gateways.close()
        await ours.close()

    asyncio.run(main())


def test_what_has_expired_is_gone_too(tmp_path: Path) -> None:
    async def main() -> None:
        store = SqliteStore(tmp_path / "history.db")
        old = [replace(entry, at=entry.at - 90 * 86_400) for entry in call("a" * 32, "+15550123", "canary")]
        await store.deliver(old)
        await store.deliver(call("b" * 32, "+15550123", "stays"))
        assert await store.expire("acme", old[0].at + 1) == 1
        assert b"canary" not in everywhere(tmp_path)
        assert b"stays" in everywhere(tmp_path)
        await store.close()

    asyncio.run(main())
