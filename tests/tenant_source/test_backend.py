"""Calls' tenants from a backend that answers, lies, stalls and goes away; what is known from before in its place."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sipbridge.call_fields import CallFields
from sipbridge.config import Config
from sipbridge.configfile import parse
from sipbridge.errors import TenantSourceError
from sipbridge.metrics import Metrics
from sipbridge.tenant_config import TenantConfig
from sipbridge.tenant_source.backend import TenantBackend
from sipbridge.tenant_source.backend_client import MOST_BYTES
from sipbridge.tenant_source.directory import TenantDirectory
from sipbridge.tenant_source.document import Document, read_document
from sipbridge.tenant_source.known_good import erase_caller, known_in
from sipbridge.tenant_source.question import Question
from sipbridge.tenant_source.reader import Reader
from sipbridge.tenants import Tenant
from tests.tenant_source.fake_backend import Asked, FakeBackend, document, from_file, http


class HereReader(Reader):
    """Without a process."""

    reads = 0

    async def start(self) -> None:
        pass

    async def read(self, body: bytes, *, name: str, nameless: str) -> Document:
        self.reads += 1
        config, directory = self._set_up
        return read_document(body, name=name, config=config, directory=directory, nameless=nameless)

    async def close(self) -> None:
        pass


@dataclass
class Bench:
    source: TenantBackend
    server: FakeBackend
    reader: HereReader
    cache: Path
    now: float = 1000.0

    async def find(self, to: str = "+15550100", caller: str = "+15550101", **more: Any) -> Tenant | None:
        found = self.source.find(CallFields(to=to, caller=caller, call_id="abc", **more))
        return await found if isinstance(found, Awaitable) else found

    async def name(self, to: str = "+15550100", caller: str = "+15550101", **more: Any) -> str:
        """Of who it is for, or what is wrong."""
        try:
            tenant = await self.find(to, caller, **more)
        except TenantSourceError as error:
            return f"unknown: {error}"
        return "nobody" if tenant is None else tenant.id

    def away(self) -> None:
        self.server.answer = lambda asked: None


@asynccontextmanager
async def bench(
    tmp_path: Path, *, more: str = "", beside: TenantDirectory | None = None, server: FakeBackend | None = None
) -> AsyncIterator[Bench]:
    async with server or FakeBackend() as fake:
        text = f"tenants: {{url: '{fake.url}', cache: {tmp_path}/t.db, timeout_seconds: 2, {more}}}"
        config = parse(text, Config, "sipbridge.yaml")
        reader = HereReader(config, tmp_path)
        made: list[Bench] = []
        async with TenantBackend(
            config, tmp_path, beside=beside, reader=reader, clock=lambda: made[0].now, wall=lambda: made[0].now
        ) as source:
            made.append(Bench(source, fake, reader, tmp_path / "t.db"))
            yield made[0]


async def test_it_is_asked_for_each_call_with_what_is_known_of_it(tmp_path: Path) -> None:
    async with bench(tmp_path, more="token: hush") as b:
        assert await b.name(trunk="pbx", headers={"X-Member": "4 2&x=1", "Subject": "no"}) == "acme"
        asked = b.server.asked[0]
        assert asked.target.startswith("/tenant?")
        assert asked.query["node"]
        expected = {
            "to": "+15550100",
            "from": "+15550101",
            "trunk": "pbx",
            "call_id": "abc",
            "header.x-member": "4 2&x=1",
        }
        assert {name: value for name, value in asked.query.items() if name != "node"} == expected
        assert asked.headers["authorization"] == "Bearer hush"
        await b.name(caller="+15550102")
        assert len(b.server.asked) == 2


async def test_a_cookie_of_one_call_is_not_sent_for_another(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        b.server.answer = lambda asked: http(200, document(), Set_Cookie="caller=+15550101")
        await b.name()
        await b.name(caller="+15550102")
        assert [asked.headers.get("cookie") for asked in b.server.asked] == [None, None]


async def test_what_has_not_changed_is_not_read_again(tmp_path: Path) -> None:
    body = document(version=3)
    (tmp_path / "doc").write_bytes(body)
    async with bench(tmp_path, server=FakeBackend(from_file(tmp_path / "doc"))) as b:
        assert await b.name() == "acme"
        first = await b.find()
        assert first is not None
        assert first.version == 3
        assert first is await b.find()
        assert b.source.counts == {"answered": 1, "unchanged": 2}
        assert b.reader.reads == 1
        (tmp_path / "doc").write_bytes(document(version=4))
        again = await b.find()
        assert again is not None
        assert again.version == 4


async def test_what_is_fresh_is_not_asked_for(tmp_path: Path) -> None:
    async with bench(
        tmp_path, server=FakeBackend(lambda asked: http(200, document(), Cache_Control="max-age=60"))
    ) as b:
        await b.find()
        b.now += 59
        assert isinstance(b.source.find(CallFields(to="+15550100", caller="+15550101")), Tenant)  # within the INVITE
        b.now += 2
        assert await b.name() == "acme"
        assert len(b.server.asked) == 2


async def test_calls_that_are_alike_wait_together(tmp_path: Path) -> None:
    gate, came = asyncio.Event(), asyncio.Event()

    async def later(asked: Asked) -> bytes:
        came.set()
        await gate.wait()
        return http(200, document())

    async with bench(tmp_path, server=FakeBackend(later)) as b:
        calls = [asyncio.create_task(b.name()) for _ in range(20)]
        await came.wait()
        calls[0].cancel()  # he has hung up, and nobody else is harmed
        gate.set()
        assert await asyncio.gather(*calls[1:]) == ["acme"] * 19
        assert len(b.server.asked) == 1


@pytest.mark.parametrize("status", [204, 404])
async def test_nobodys(tmp_path: Path, status: int) -> None:
    async with bench(tmp_path) as b:
        assert await b.name() == "acme"
        b.server.answer = lambda asked: http(status)
        assert await b.name() == "nobody"
        b.away()
        assert (await b.name()).startswith("unknown")  # what was known of it is gone


def directory() -> TenantDirectory:
    config = parse("match: {to: '*'}\nagent: {provider: offline}", TenantConfig, "desk.yaml")
    return TenantDirectory([Tenant("desk", config)])


async def test_the_directory_has_what_is_nobodys_but_nothing_else(tmp_path: Path) -> None:
    async with bench(tmp_path, beside=directory()) as b:
        assert await b.name() == "acme"
        b.server.answer = lambda asked: http(404)
        assert await b.name() == "desk"
        b.away()
        assert (await b.name()).startswith("unknown")
        assert [tenant.id for tenant in b.source.tenants] == ["acme", "desk"]
        assert b.source.get("desk") is not None


LIES: dict[str, bytes | None] = {
    "html": http(200, b"<html>Welcome to the Wi-Fi</html>", Content_Type="text/html"),
    "empty": http(200, b""),
    "half a document": http(200, document()[:20]),
    "half an answer": http(200, document())[:-5],
    "no tenant": http(200, b"{}"),
    "a list": http(200, b"[1, 2]"),
    "wrong types": http(200, json.dumps({"id": "acme", "agent": {"provider": "offline", "temperature": "x"}}).encode()),
    "unknown keys": http(200, document(colour="red")),
    "a bomb": http(200, b"[" * 200_000),
    "too much": http(200, b" " * (MOST_BYTES + 1)),
    "compressed": http(200, b"\x1f\x8b", Content_Encoding="gzip"),
    "elsewhere": http(302, Location="http://127.0.0.1:1/"),
    "broken": http(500, b"oops"),
    "no HTTP": b"SSH-2.0-OpenSSH\r\n\r\n",
    "a reset": None,
    "unauthorised": http(401),
    "as before, never sent": http(304),
    "a file of ours": http(200, document(agent={"provider": "offline", "api_key": "file:/etc/hosts"})),
}


@pytest.mark.parametrize("lie", LIES)
async def test_whatever_it_says_calls_get_what_was_last_good(tmp_path: Path, lie: str) -> None:
    async with bench(tmp_path) as b:
        assert await b.name() == "acme"
        b.server.answer = lambda asked: LIES[lie]
        b.server.hangs_up = lie == "half an answer"
        assert await b.name() == "acme"
        assert b.source.counts["last_known"] == 1
        assert list(b.source.stale) == ["acme"]
        assert (await b.name(to="+15550199")).startswith("unknown: ")
        b.server.answer = lambda asked: http(200, document())
        b.server.hangs_up = False
        b.now += 2
        assert await b.name() == "acme"
        assert b.source.stale == {}
        assert b.source.counts["last_known"] == 1


async def test_what_was_refused_is_not_read_for_each_call(tmp_path: Path) -> None:
    async with bench(tmp_path, server=FakeBackend(lambda asked: http(200, document(colour="red")))) as b:
        for caller in "123":
            assert "colour: unknown key" in await b.name(caller=caller)
        assert b.reader.reads == 1
        b.now += 31
        assert "colour: unknown key" in await b.name()
        assert b.reader.reads == 2


async def test_it_is_tried_again_within_the_time(tmp_path: Path) -> None:
    answers = iter([None, http(503, Retry_After="0"), http(200, document())])
    async with bench(tmp_path, server=FakeBackend(lambda asked: next(answers))) as b:
        assert await b.name() == "acme"
        assert len(b.server.asked) == 3


async def test_one_that_stalls_costs_no_more_than_the_time(tmp_path: Path) -> None:
    async def never(asked: Asked) -> bytes:
        await asyncio.Event().wait()
        return b""

    async with bench(tmp_path, more="source: http") as b:
        await b.name()
        b.server.answer = never
        b.source._timeout = 0.05
        began = asyncio.get_running_loop().time()
        for _ in range(5):
            assert await b.name() == "acme"
        assert asyncio.get_running_loop().time() - began < 2
        # Now it is known to be away: nobody waits, and one question a second goes on.
        b.source._timeout = 60
        asked = len(b.server.asked)
        async with asyncio.timeout(1):
            assert [await b.name() for _ in range(50)] == ["acme"] * 50
            assert (await b.name(to="+15550199")).startswith("unknown: ")
        assert len(b.server.asked) <= asked + 1
        figures = Metrics()
        for collector in b.source.collectors():
            figures.registry.register(collector)
        assert "sipbridge_tenants_backend_up 0.0" in figures.render()
        assert 'sipbridge_tenants_backend_total{result="last_known"} 55.0' in figures.render()
        b.now += 30
        assert "sipbridge_tenants_stale_seconds 30.0" in figures.render()


async def test_it_is_found_to_be_back(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await b.name()
        b.server.answer = lambda asked: http(401)
        b.away()
        b.source._client._sleep = lambda seconds: asyncio.sleep(0)
        for _ in range(5):
            await b.name()
        assert b.source.is_away
        b.server.answer = lambda asked: http(200, document(rings=7))
        b.now += 1.1
        await b.name()  # as last known, at once; the question goes on beside
        await asyncio.gather(*b.source._asking.values())
        assert not b.source.is_away
        tenant = await b.find()
        assert tenant is not None
        assert tenant.config.rings == 7


# --- whose answer is given to whom ------------------------------------------------------------------------------------


def personal(asked: Asked) -> bytes:
    agent = {"provider": "offline", "instructions": f"You talk to the owner of {asked.query['from']}."}
    return http(200, document(agent=agent))


async def test_ones_own_text_is_never_anothers(tmp_path: Path) -> None:
    async with bench(tmp_path, server=FakeBackend(personal)) as b:
        await b.name(caller="1")
        await b.name(caller="2")
        b.away()
        mine = await b.find(caller="1")
        assert mine is not None
        assert mine.config.agent.instructions == "You talk to the owner of 1."
        assert (await b.name(caller="3")).startswith("unknown: ")


async def test_ones_own_text_is_never_anothers_whatever_its_match_says(tmp_path: Path) -> None:
    match: dict[str, Any] = {"match": {"to": "+1555*"}}

    def by_name(asked: Asked) -> bytes:
        return http(200, document(agent={"provider": "offline", "greeting": names[asked.query["from"]]}, **match))

    names = {"+15550101": "Hello, Ada.", "+15550102": "Hello, Bob."}
    async with bench(tmp_path, server=FakeBackend(by_name)) as b:
        for caller in names:
            await b.find(caller=caller)
        b.away()
        assert (await b.name(caller="+15550103")).startswith("unknown")
        assert await b.name(caller="+15550102") == "acme"
        assert await b.name(to="+15550177", caller="+15550102") == "acme"
    with_number = document(agent={"provider": "offline", "instructions": "Member +15550101 calls."}, **match)
    async with bench(tmp_path / "other", server=FakeBackend(lambda asked: http(200, with_number))) as b:
        await b.find()
        b.away()
        assert (await b.name(caller="+15550103")).startswith("unknown")
        assert await b.name(to="+15550177") == "acme"


async def test_what_two_callers_were_given_alike_is_everybodys(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await b.name(caller="1")
        await b.name(caller="1", headers={"X-Try": "2"})  # the same one again says nothing
        b.away()
        assert (await b.name(caller="3")).startswith("unknown: ")
        b.server.answer = lambda asked: http(200, document())
        b.now += 10
        await b.name(caller="2")
        b.away()
        assert await b.name(caller="3") == "acme"
        assert (await b.name(caller="3", trunk="other")).startswith("unknown: ")
        b.server.answer = personal
        b.now += 10
        await b.name(caller="2")
        b.away()
        assert (await b.name(caller="3")).startswith("unknown: ")  # it is not alike for all after all


async def test_what_the_backend_says_is_everybodys_or_ones_own(tmp_path: Path) -> None:
    async with bench(tmp_path, server=FakeBackend(lambda asked: http(200, document(), Cache_Control="public"))) as b:
        await b.name(caller="1")
        b.away()
        assert await b.name(caller="2") == "acme"
    fits = document(match={"to": "+155501*"})
    async with bench(tmp_path / "2", server=FakeBackend(lambda asked: http(200, fits))) as b:
        await b.name(caller="1")
        b.away()
        assert await b.name(to="+15550177", caller="2") == "acme"
        assert (await b.name(to="+15559")).startswith("unknown: ")
    only = http(200, fits, Cache_Control="private")
    async with bench(tmp_path / "3", server=FakeBackend(lambda asked: only)) as b:
        await b.name(caller="1")
        await b.name(caller="2")
        b.away()
        assert await b.name(caller="2") == "acme"
        assert (await b.name(caller="3")).startswith("unknown: ")


async def test_without_an_id_each_number_is_a_tenant(tmp_path: Path) -> None:
    nameless = json.dumps({"agent": {"provider": "offline"}}).encode()
    async with bench(tmp_path, server=FakeBackend(lambda asked: http(200, nameless))) as b:
        assert [await b.name(to=to) for to in ("1", "2", "1")] == ["1", "2", "1"]


# --- over a restart ---------------------------------------------------------------------------------------------------


async def test_what_is_known_survives_a_restart(tmp_path: Path) -> None:
    (tmp_path / "doc").write_bytes(document(match={"to": "+1555*"}, rings=5))
    async with bench(tmp_path, server=FakeBackend(from_file(tmp_path / "doc"))) as b:
        await b.name()
    assert (tmp_path / "t.db").stat().st_mode & 0o777 == 0o600
    async with bench(tmp_path) as b:
        b.away()
        tenant = await b.find()
        assert tenant is not None
        assert (tenant.id, tenant.config.rings) == ("acme", 5)
        assert await b.name(to="+15559", caller="4") == "acme"  # by its match
        b.server.answer = from_file(tmp_path / "doc")
        b.now += 10
        assert await b.name() == "acme"
        assert b.source.counts["unchanged"] == 1  # the ETag was kept, too


async def test_nothing_is_kept_that_is_not_to_be(tmp_path: Path) -> None:
    async with bench(tmp_path, server=FakeBackend(lambda asked: http(200, document(), Cache_Control="no-store"))) as b:
        await b.name()
        b.away()
        assert await b.name() == "acme"  # in memory it is
    assert known_in(tmp_path / "t.db") == []


def on_disk(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.glob("t.db*"))


async def test_a_caller_is_erased(tmp_path: Path) -> None:
    async with bench(tmp_path, server=FakeBackend(personal)) as b:
        await b.name(caller="+15550111")
        await b.name(caller="+15550122")
        await b.source.known.written()
        config = parse(f"tenants: {{cache: {b.cache}}}", Config, "sipbridge.yaml")
        assert erase_caller(config, "tel:+1-555-0111") == 1  # while it runs
        assert erase_caller(config, "") == 0
        kept = on_disk(tmp_path)
        assert b"15550111" not in kept
        assert b"15550122" in kept
    assert [known.caller for known in known_in(b.cache)] == ["+15550122"]


@pytest.mark.parametrize("kind", ["directory", "garbage"])
async def test_a_file_that_cannot_be_used_costs_no_call(tmp_path: Path, kind: str) -> None:
    if kind == "directory":
        (tmp_path / "t.db").mkdir()
    else:
        (tmp_path / "t.db").write_bytes(b"this is no database, but it is long enough to be taken for one" * 100)
    async with bench(tmp_path) as b:
        assert await b.name() == "acme"
        b.away()
        assert await b.name() == "acme"
    if kind == "garbage":  # it was set aside, for a new one
        async with bench(tmp_path) as b:
            b.away()
            assert await b.name() == "acme"


async def test_a_file_that_is_locked_is_written_later(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await b.name()
        await b.source.known.written()
        other = sqlite3.connect(b.cache)
        other.execute("BEGIN EXCLUSIVE")
        assert await b.name(to="2") == "acme"
        other.rollback()
        other.close()
    assert len(known_in(tmp_path / "t.db")) == 2


# --- the process that reads -------------------------------------------------------------------------------------------


async def test_a_document_that_takes_seconds_is_given_up(tmp_path: Path) -> None:
    async with FakeBackend() as server:
        text = f"tenants: {{url: '{server.url}', cache: {tmp_path}/t.db, timeout_seconds: 1}}"
        async with TenantBackend(parse(text, Config, "sipbridge.yaml"), tmp_path) as source:
            fields = CallFields(to="1", caller="2")
            assert await source._find(Question.of(fields), fields) is not None
            agent = {"provider": "offline", "instructions": "{{ call['from'] }} " * 60_000}
            server.answer = lambda asked: http(200, document(agent=agent))
            began = asyncio.get_running_loop().time()
            found = await source._find(Question.of(fields), fields)
            assert found is not None
            assert found.config.agent.instructions == ""
            assert asyncio.get_running_loop().time() - began < 3
            assert source.counts["nonsense"] == 1


async def test_documents_are_read_by_a_process_that_may_die(tmp_path: Path) -> None:
    reader = Reader(parse("", Config, "sipbridge.yaml"), tmp_path)
    try:
        found = await reader.read(document(version=2), name="http://b", nameless="x")
        assert (found.id, found.version) == ("acme", 2)
        child = reader._child
        assert child is not None
        child.kill()
        await child.wait()
        assert (await reader.read(document(), name="http://b", nameless="x")).id == "acme"
        with pytest.raises(Exception, match="http://b: no JSON"):
            await reader.read(b"<html>", name="http://b", nameless="x")
    finally:
        await reader.close()
