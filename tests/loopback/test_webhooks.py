"""`sipbridge serve` as a process, calls to it, and who is told of them: a webhook's receiver, and a backend that keeps
the history, both stalled, lying, away, and brought back while calls are up."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import yaml

from sipbridge.simulator.caller import CallOptions, CallReport, place_call
from sipbridge.simulator.caller_report import parse_expectations
from tests.history.receiver import OK, Receiver, Request, Stall, Status
from tests.history.test_http_store import kept
from tests.history.test_webhooks import is_ours, told
from tests.loopback.test_backend import Process, running

SECRET = "a word that both know"


class Bench:
    def __init__(self, folder: Path, hook: Receiver, backend: Receiver) -> None:
        self.hook, self.backend = hook, backend
        self.path = folder / "sipbridge.yaml"
        (folder / "secret").write_text(SECRET)
        secret = f"file:{folder / 'secret'}"
        config = {
            "sip": {"listen": ["udp://127.0.0.1:0"]},
            "media": {"ports": "28600-28799", "codecs": ["PCMU"]},
            "history": {
                "store": backend.url,
                "secret": secret,
                "retry": {"attempts": 5, "backoff_seconds": 0.1},
                "drain_seconds": 1,
            },
            "webhooks": [{"url": hook.url, "secret": secret, "events": ["call.*"], "timeout_seconds": 0.5}],
        }
        self.path.write_text(yaml.safe_dump(config))
        (folder / "tenants").mkdir()
        tenant = {"match": {"to": "agent"}, "agent": {"provider": "offline", "greeting": "One moment, please."}}
        (folder / "tenants" / "acme.yaml").write_text(yaml.safe_dump(tenant))
        self.gateway: Process
        self.port = 0

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        async with running("-m", "sipbridge", "--log-json", "serve", "-c", str(self.path)) as self.gateway:
            self.port = int((await self.gateway.line(r"'127.0.0.1', (\d+)"))[1])
            yield

    async def call(self, expect: str = "answered,greeting<3000", *, seconds: float = 1.0) -> CallReport:
        target = f"sip:agent@127.0.0.1:{self.port}"
        report = await place_call(CallOptions(target, seconds=seconds, expect=parse_expectations(expect)))
        assert report.ok, "\n".join([*map(str, report.timeline), *report.summary(), *self.gateway.lines[-20:]])
        return report

    async def ended(self, count: int) -> None:
        """Everybody has been told, and has kept, how so many calls have ended."""
        await self.hook.until(lambda: _ends(told(self.hook.taken).values()) >= count, within=20)
        await self.backend.until(lambda: _ends(kept(self.backend.taken).values()) >= count, within=20)


def _ends(calls: Iterable[list[str]]) -> int:
    return sum("call.ended" in kinds for kinds in calls)


def assert_whole(calls: dict[str, list[str]], count: int) -> None:
    """Every call from its beginning to its end, with at least the greeting between."""
    assert len(calls) == count
    for kinds in calls.values():
        assert kinds[0] == "call.started"
        assert kinds[-1] == "call.ended"
        found = Counter(kinds)
        assert (found["call.started"], found["call.answered"], found["call.ended"]) == (1, 1, 1), kinds
        assert found["call.turn"] >= 1


def assert_in_order(requests: Iterable[Request]) -> None:
    """Of each call, what came first is what happened first."""
    last: dict[str, int] = {}
    seen: set[str] = set()
    for request in requests:
        content = request.content
        if content["id"] not in seen:
            seen.add(content["id"])
            assert content["seq"] > last.get(content["record"], -1)
            last[content["record"]] = content["seq"]


async def test_a_call_is_told_of_and_kept(tmp_path: Path) -> None:
    with Receiver() as hook, Receiver() as backend:
        bench = Bench(tmp_path, hook, backend)
        async with bench.serving():
            await bench.call()
            await bench.ended(1)
        assert_whole(told(hook.taken), 1)
        assert_whole(kept(backend.taken), 1)
        assert_in_order(hook.taken)
        for request in (*hook.requests, *backend.requests):
            assert is_ours()(SECRET, request.headers, request.body)
        started, ended = hook.taken[0].content, hook.taken[-1].content
        assert (started["tenant"], started["data"]["to"], started["data"]["provider"]) == ("acme", "agent", "offline")
        assert (ended["data"]["report"]["ended"], ended["call_id"]) == ("caller_hung_up", started["call_id"])
        assert SECRET not in "".join(bench.gateway.lines)


@pytest.mark.slow
async def test_receivers_may_stall_lie_and_be_away_while_calls_are_up(tmp_path: Path) -> None:
    with Receiver() as hook, Receiver() as backend:
        bench = Bench(tmp_path, hook, backend)
        async with bench.serving():
            up = asyncio.create_task(bench.call("answered,duration>4500", seconds=5))
            hook.mode, backend.mode = Stall(), Status(200, b"<html>Log in</html>")
            await bench.call()
            hook.stop()
            backend.stop()
            await asyncio.gather(bench.call(), bench.call())
            hook.mode = Status(500)
            hook.start()
            backend.start()
            await bench.call()
            hook.mode = backend.mode = OK
            await up
            await bench.ended(5)
        assert_whole(told(hook.taken), 5)
        assert_whole(kept(backend.taken), 5)
        assert_in_order(hook.taken)


@pytest.mark.slow
async def test_what_a_killed_gateway_has_not_told_its_successor_tells_and_how_the_call_ended(tmp_path: Path) -> None:
    with Receiver() as hook, Receiver() as backend:
        bench = Bench(tmp_path, hook, backend)
        hook.mode = Status(503)
        async with bench.serving():
            dying = asyncio.create_task(bench.call("answered"))
            await backend.until(lambda: any("call.answered" in kinds for kinds in kept(backend.taken).values()))
            await bench.gateway.stop(signal.SIGKILL)
        hook.mode = OK
        async with bench.serving():
            await asyncio.gather(dying, bench.ended(1))
        assert_in_order(hook.taken)
        kinds = list(told(hook.taken).values())
        assert kinds == list(kept(backend.taken).values())
        assert (kinds[0][0], kinds[0][-1]) == ("call.started", "call.ended")
        ended = hook.taken[-1].content
        assert (ended["tenant"], ended["data"]["report"]["ended"]) == ("acme", "node_crashed")
