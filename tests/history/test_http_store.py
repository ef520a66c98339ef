"""The history at a backend, over a real History, its outbox and a real server."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from sipbridge.gateway_file.history import HistoryConfig
from sipbridge.history.facts import Entry, Turn
from sipbridge.history.history import STORE, History
from sipbridge.history.http import Answer, seconds_of
from sipbridge.history.sink import EntryRefusedError, Query, SinkUnavailableError
from sipbridge.history.stores.http_store import HttpStore, makes_sense
from tests.history.receiver import OK, Half, Mode, Receiver, Request, Reset, Status
from tests.history.test_history import config
from tests.history.test_webhooks import KINDS, SECRET, a_call, is_ours, note, tenant

RECORD = "019a1b2c3d4e5f60718293a4b5c6d7e8"


@pytest.fixture(autouse=True)
def _secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HISTORY_SECRET", SECRET)


def settings(url: str) -> dict[str, Any]:
    return {"store": url, "secret": "${HISTORY_SECRET}", "retry": {"attempts": 3, "backoff_seconds": 0.05}}


def history(path: Path, url: str) -> History:
    found = config(path, **settings(url), drain_seconds=0.2)
    return History(found, lambda: {STORE: HttpStore(found)}, node="n1")


def store(receiver: Receiver) -> HttpStore:
    return HttpStore(HistoryConfig.model_validate(settings(receiver.url)))


def entry(seq: int, text: str = "") -> Entry:
    return Entry(RECORD, seq, 1795166104.0 + seq, Turn.kind, {"text": text}, "c1", "acme")


def kept(requests: Iterable[Request]) -> dict[str, list[str]]:
    """What a backend has that keeps what it does not know: by call, the kinds in their order."""
    rows: dict[tuple[str, int], tuple[str, str]] = {}
    for request in requests:
        content = request.content
        for each in content["entries"]:
            rows.setdefault((content["record"], each["seq"]), (content["call_id"], each["type"]))
    found: dict[str, list[str]] = {}
    for call_id, kind in rows.values():
        found.setdefault(call_id, []).append(kind)
    return found


def count(requests: Iterable[Request]) -> int:
    return sum(len(request.content["entries"]) for request in requests)


def test_entries_come_signed_and_in_order(tmp_path: Path) -> None:
    async def main(receiver: Receiver) -> None:
        async with history(tmp_path, receiver.url) as opened:
            note(opened, "c1")
            note(opened, "c2", of="other")
            await receiver.until(lambda: count(receiver.taken) == 10)

    with Receiver() as receiver:
        asyncio.run(main(receiver))
    assert kept(receiver.taken) == {"c1": KINDS, "c2": KINDS}
    assert len(receiver.requests) < 10  # together, as far as they were there
    for request in receiver.requests:
        content = request.content
        first, *_ = entries = content["entries"]
        assert list(content) == ["record", "call_id", "tenant", "entries"]
        assert list(first) == ["seq", "time", "type", "data"]
        assert request.headers["idempotency-key"] == f"{content['record']}-{first['seq']}-{entries[-1]['seq']}"
        assert is_ours()(SECRET, request.headers, request.body)
    ends = [each for each in receiver.taken[-1].content["entries"] if each["type"] == "call.ended"]
    assert ends[0]["data"]["ladder"] == [{"at": 0.0, "text": "INVITE"}]


@pytest.mark.parametrize(
    "trouble",
    [
        Status(500),
        Status(403),
        Half(),
        Reset(),
        Status(200, b"<!doctype html><title>Log in</title>", {"Content-Type": "text/html"}),
        Status(200, b'{"kept": ', {"Content-Type": "application/json"}),
        Status(200, b"\xff\xfe\x00garbage"),
    ],
    ids=["500", "403", "half", "reset", "page", "no JSON", "garbage"],
)
def test_nothing_is_lost_or_doubled_by_a_backend_in_trouble(tmp_path: Path, trouble: Mode) -> None:
    seen: list[Request] = []

    def choose(request: Request) -> Mode:
        if receiver.mode is OK:
            seen.append(request)  # what it then really keeps
        return receiver.mode

    async def main() -> None:
        async with history(tmp_path, receiver.url) as opened:
            receiver.mode = trouble
            journal = opened.journal(tenant())
            facts = a_call("c1")
            for fact in facts[:2]:
                journal.note(fact)
            await receiver.until(lambda: len(receiver.requests) >= 2)
            for fact in facts[2:]:
                journal.note(fact)
            await receiver.until(lambda: len(receiver.requests) >= 3)
            receiver.mode = OK
            await receiver.until(lambda: count(seen) == 5)

    with Receiver() as receiver:
        receiver.choose = choose
        asyncio.run(main())
    assert kept(seen) == {"c1": KINDS}
    # What nobody said yes to comes again as it was, under the same key.
    bodies: dict[str, set[bytes]] = {}
    for request in receiver.requests:
        bodies.setdefault(request.headers["idempotency-key"], set()).add(request.body)
    assert all(len(same) == 1 for same in bodies.values())
    first = receiver.requests[0].headers["idempotency-key"]
    assert [request.headers["idempotency-key"] for request in receiver.requests][:3] == [first] * 3


def test_what_is_known_already_is_taken(tmp_path: Path) -> None:
    async def main(receiver: Receiver) -> None:
        receiver.mode = Status(409)
        async with history(tmp_path, receiver.url) as opened:
            note(opened, "c1")
            await receiver.until(lambda: count(receiver.taken) == 5)

    with Receiver() as receiver:
        asyncio.run(main(receiver))
    assert kept(receiver.taken) == {"c1": KINDS}


def test_one_entry_that_is_refused_does_not_keep_the_others(tmp_path: Path) -> None:
    def choose(request: Request) -> Mode:
        kinds = [each["type"] for each in request.content["entries"]]
        return Status(422) if "call.answered" in kinds else OK

    async def main(receiver: Receiver) -> None:
        receiver.choose = choose
        async with history(tmp_path, receiver.url) as opened:
            note(opened, "c1")
            await receiver.until(lambda: count(receiver.taken) == 4)

    with Receiver() as receiver:
        asyncio.run(main(receiver))
    assert kept(receiver.taken) == {"c1": ["call.started", "call.turn", "call.turn", "call.ended"]}


def test_a_batch_whose_answer_was_lost_comes_again_as_it_was_then_the_rest() -> None:
    async def main(receiver: Receiver) -> None:
        backend = store(receiver)
        receiver.mode = Half()
        with pytest.raises(SinkUnavailableError):
            await backend.deliver([entry(0), entry(1)])
        receiver.mode = OK
        await backend.deliver([entry(0), entry(1), entry(2)])
        await backend.deliver([entry(3), entry(4)])
        await backend.close()

    with Receiver() as receiver:
        asyncio.run(main(receiver))
    keys = [request.headers["idempotency-key"] for request in receiver.requests]
    assert keys == [f"{RECORD}-{cut}" for cut in ("0-1", "0-1", "2-2", "3-4")]


def test_several_are_refused_at_once_one_alone_after_some_time() -> None:
    async def main(receiver: Receiver) -> None:
        backend = store(receiver)
        receiver.mode = Status(400)
        with pytest.raises(EntryRefusedError):
            await backend.deliver([entry(0), entry(1)])
        for _ in range(4):
            with pytest.raises(SinkUnavailableError):
                await backend.deliver([entry(0)])
        with pytest.raises(EntryRefusedError):
            await backend.deliver([entry(0)])
        await backend.close()

    with Receiver() as receiver:
        asyncio.run(main(receiver))


def test_it_is_asked_to_forget_somebody() -> None:
    removed = b'{"calls": [{"record": "%s", "call_id": "c1", "tenant": "acme", "extra": 1}, 5, {}]}' % RECORD.encode()

    async def main(receiver: Receiver) -> None:
        backend = store(receiver)
        receiver.mode = Status(200, removed, {"Content-Type": "application/json"})
        [row] = await backend.erase("+15550100")
        assert (row.record, row.call_id, row.tenant, row.report) == (RECORD, "c1", "acme", None)
        yes: list[Mode] = [Status(204), Status(404), Status(200, b'{"calls": 3}'), Status(200, b"done")]
        for receiver.mode in yes:
            assert await backend.erase("+15550100") == []
        no: list[Mode] = [Status(405), Status(501), Status(500), Status(302), Reset()]
        for receiver.mode in no:
            with pytest.raises(SinkUnavailableError):
                await backend.erase("+15550100")
        await backend.close()

    with Receiver() as receiver:
        asyncio.run(main(receiver))
    first = receiver.requests[0]
    assert (first.method, first.path, first.content) == ("DELETE", "/hook", {"caller": "+15550100"})
    assert is_ours()(SECRET, first.headers, first.body)


def test_what_it_keeps_is_asked_there() -> None:
    async def main() -> None:
        backend = HttpStore(HistoryConfig.model_validate({"store": "https://me:sesame@example.com/calls?key=sesame"}))
        for question in (backend.calls(Query()), backend.find(RECORD), backend.entries(RECORD)):
            with pytest.raises(SinkUnavailableError, match=r"kept by example\.com: ask there"):
                await question
        assert await backend.expire("acme", 0.0) == 0
        await backend.close()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("status", "media_type", "body", "sense"),
    [
        (200, "", b"", True),
        (204, "", b"", True),
        (200, "text/plain", b"ok", True),
        (200, "text/html", b"OK", True),
        (200, "", b'{"kept": 3}', True),
        (200, "application/json", b"null", True),
        (200, "application/json", b"[]", True),
        (200, "application/json", b"<p>", False),
        (200, "application/problem+json", b"oops", False),
        (200, "text/html", b" <html>", False),
        (200, "", b"<html>", False),
        (200, "", b"\x00\xff", False),
        (200, "application/json", b"[" * 60_000, False),
    ],
)
def test_who_says_yes_is_believed_if_it_can_be_him(status: int, media_type: str, body: bytes, sense: bool) -> None:
    assert makes_sense(Answer(status, media_type, body, None)) is sense


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("120", 120.0),
        (" 5 ", 5.0),
        ("Fri, 20 Nov 2026 09:16:00 GMT", 60.0),
        ("Fri, 20 Nov 2026 09:14:00 GMT", 0.0),
        ("", None),
        ("soon", None),
        ("-1", None),
        ("1e9", None),
        ("\N{SUPERSCRIPT TWO}", None),
        ("9" * 5000, None),
        ("Fri, 99 Nov 99999 09:16:00 GMT", None),
    ],
)
def test_when_to_come_again(text: str, seconds: float | None) -> None:
    assert seconds_of(text, 1795166100.0) == seconds


def test_the_documentation_s_example_is_what_is_sent() -> None:
    text = (Path(__file__).parents[2] / "docs" / "backend.md").read_text()
    [shown] = [block for block in re.findall(r"^```json\n(.*?)^```", text, re.MULTILINE | re.DOTALL) if "seq" in block]
    assert re.findall(r'^  "(\w+)":', shown, re.MULTILINE) == ["record", "call_id", "tenant", "entries"]
    assert set(re.findall(r'\{"seq": \d+, "time": "[^"]+", "type": "([^"]+)", "data"', shown)) == {
        "call.started",
        "call.answered",
        "call.turn",
    }
