"""Webhooks over a real History, its outbox and a real server: stopped, stalled, made to lie, and brought back."""

from __future__ import annotations

import asyncio
import json
import re
import ssl
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from sipbridge.configfile import parse
from sipbridge.errors import ConfigError
from sipbridge.gateway_file.webhooks import WebhookConfig, kinds_of
from sipbridge.history.facts import Answered, Ended, Entry, Fact, Noted, Started, Turn
from sipbridge.history.history import History
from sipbridge.history.sink import Sink
from sipbridge.history.webhooks import Webhook, event, webhooks_of
from sipbridge.tenant_config import TenantConfig
from sipbridge.tenants import Tenant
from tests.history.receiver import OK, Flood, Half, Mode, Receiver, Request, Reset, Stall, Status
from tests.history.test_history import config
from tests.sip.certificates import Authority

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
DOCUMENT = Path(__file__).parents[2] / "docs" / "webhooks.md"


@pytest.fixture(autouse=True)
def _secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK_SECRET", SECRET)


def is_ours() -> Callable[[str, dict[str, str], bytes], bool]:
    """What the documentation gives receivers."""
    [code] = re.findall(r"^```python\n(.*?)^```", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)
    found: Callable[[str, dict[str, str], bytes], bool] = names["is_ours"]
    return found


def webhook(url: str, **keys: Any) -> Webhook:
    settings = {"url": url, "secret": "${HOOK_SECRET}", "timeout_seconds": 5, **keys}
    return Webhook(WebhookConfig.model_validate(settings))


def history(path: Path, make: Callable[[], Iterable[Sink]], **keys: Any) -> History:
    settings = config(path, **{"retry": {"attempts": 3, "backoff_seconds": 0.05}, "drain_seconds": 0.2, **keys})
    return History(settings, lambda: {sink.name: sink for sink in make()}, node="n1")


def tenant(name: str = "acme") -> Tenant:
    return Tenant(name, parse("agent: {provider: offline}", TenantConfig, f"{name}.yaml"))


def a_call(name: str, of: str = "acme") -> list[Fact]:
    return [
        Started(name, "inbound", "+15550100", "agent", "pbx", of, 3, "offline", "", "n1"),
        Answered(120, "PCMU"),
        Turn(1, "caller", "Grüße, \N{SNOWMAN}", 1.0, 2.0),
        Turn(2, "agent", "hello", 2.0, 3.0),
        Ended({"ended": "caller_hung_up", "call_id": name, "tenant": of}, ({"at": 0.0, "text": "INVITE"},)),
    ]


def note(opened: History, name: str, of: str = "acme") -> None:
    journal = opened.journal(tenant(of))
    for fact in a_call(name, of):
        journal.note(fact)


def told(requests: Iterable[Request]) -> dict[str, list[str]]:
    """By call: the kinds of events, each where it came first."""
    seen: dict[str, dict[str, str]] = {}
    for request in requests:
        seen.setdefault(request.content["call_id"], {}).setdefault(request.content["id"], request.content["type"])
    return {call: list(kinds.values()) for call, kinds in seen.items()}


KINDS = ["call.started", "call.answered", "call.turn", "call.turn", "call.ended"]


def test_an_event_is_as_the_documentation_says(tmp_path: Path) -> None:
    async def main(receiver: Receiver) -> None:
        async with history(tmp_path, lambda: [webhook(receiver.url)]) as opened:
            note(opened, "c1")
            await receiver.until(lambda: len(receiver.taken) == 5)

    with Receiver() as receiver:
        asyncio.run(main(receiver))
    assert told(receiver.requests) == {"c1": KINDS}
    of_docs = is_ours()
    for number, request in enumerate(receiver.requests):
        content = request.content
        assert list(content) == ["id", "type", "time", "record", "seq", "call_id", "tenant", "data"]
        assert content["id"] == request.headers["webhook-id"] == f"{content['record']}-{number}"
        assert (content["seq"], content["tenant"]) == (number, "acme")
        assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", content["time"])
        assert request.headers["content-type"] == "application/json"
        assert of_docs(SECRET, request.headers, request.body)
        assert not of_docs(SECRET, request.headers, request.body + b" ")
        assert not of_docs("another", request.headers, request.body)
    assert receiver.requests[2].content["data"]["text"] == "Grüße, \N{SNOWMAN}"
    assert receiver.requests[4].content["data"] == {
        "report": {"ended": "caller_hung_up", "call_id": "c1", "tenant": "acme"}
    }


def test_the_documentation_s_example_is_what_is_sent() -> None:
    [example] = re.findall(r"^```json\n(.*?)^```", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL)
    shown = json.loads(example)
    entry = Entry(shown["record"], shown["seq"], 1795166104.812, shown["type"], {}, shown["call_id"], shown["tenant"])
    made = event(entry)
    assert {**made, "data": {}} == {**shown, "data": {}}
    assert list(made) == list(shown)


@pytest.mark.parametrize(
    "trouble",
    [Status(500), Status(404), Status(401), Status(503, b"<html>"), Half(), Reset(), Stall(), None],
    ids=["500", "404", "401", "503", "half", "reset", "stalled", "stopped"],
)
def test_nothing_is_lost_by_a_receiver_in_trouble(tmp_path: Path, trouble: Mode | None) -> None:
    async def main(receiver: Receiver) -> None:
        async with history(tmp_path, lambda: [webhook(receiver.url, timeout_seconds=0.3)]) as opened:
            note(opened, "before")
            await receiver.until(lambda: len(receiver.taken) == 5)
            if trouble is None:
                receiver.stop()
            else:
                receiver.mode = trouble
            note(opened, "a")
            note(opened, "b")
            if trouble is None:
                receiver.start()
            else:
                await receiver.until(lambda: len(receiver.requests) >= 7)
                receiver.mode = OK
            await receiver.until(lambda: len({request.content["id"] for request in receiver.taken}) == 15)

    with Receiver() as receiver:
        asyncio.run(main(receiver))
    assert told(receiver.taken) == {"before": KINDS, "a": KINDS, "b": KINDS}
    bodies: dict[str, set[bytes]] = {}
    for request in receiver.requests:
        bodies.setdefault(request.headers["webhook-id"], set()).add(request.body)
    assert all(len(same) == 1 for same in bodies.values())
    # Nobody who said yes is asked again, unless the sender could not hear it any more.
    if not isinstance(trouble, Stall):
        assert len(receiver.taken) == 15


def test_a_redirect_is_not_followed(tmp_path: Path) -> None:
    async def main(receiver: Receiver, elsewhere: Receiver) -> None:
        async with history(tmp_path, lambda: [webhook(receiver.url)]) as opened:
            receiver.mode = Status(307, headers={"Location": elsewhere.url})
            note(opened, "c1")
            await receiver.until(lambda: len(receiver.requests) >= 2)
            receiver.mode = OK
            await receiver.until(lambda: len(receiver.taken) == 5)
        assert elsewhere.requests == []

    with Receiver() as receiver, Receiver() as elsewhere:
        asyncio.run(main(receiver, elsewhere))
    assert told(receiver.taken) == {"c1": KINDS}


def test_an_answer_without_end_is_cut_and_counts(tmp_path: Path) -> None:
    async def main(receiver: Receiver) -> None:
        receiver.mode = Flood()
        async with history(tmp_path, lambda: [webhook(receiver.url)]) as opened:
            note(opened, "c1")
            await receiver.until(lambda: len(receiver.requests) == 5)

    with Receiver() as receiver:
        asyncio.run(main(receiver))
    assert told(receiver.requests) == {"c1": KINDS}


@pytest.mark.parametrize(("status", "times"), [(400, 5), (422, 5), (410, 1)])
def test_what_is_refused_for_good_is_set_aside_and_the_next_ones_follow(
    tmp_path: Path, status: int, times: int
) -> None:
    async def main(receiver: Receiver) -> None:
        receiver.choose = lambda request: Status(status) if request.content["type"] == "call.answered" else OK
        async with history(tmp_path, lambda: [webhook(receiver.url)]) as opened:
            note(opened, "c1")
            await receiver.until(lambda: len(receiver.taken) == 4)

    with Receiver() as receiver:
        asyncio.run(main(receiver))
    assert told(receiver.taken) == {"c1": ["call.started", "call.turn", "call.turn", "call.ended"]}
    assert [request.content["type"] for request in receiver.requests].count("call.answered") == times


def test_a_receiver_that_asks_for_time_gets_it(tmp_path: Path) -> None:
    times: list[float] = []

    def once(request: Request) -> Mode:
        times.append(time.monotonic())
        return Status(429, headers={"Retry-After": "1"}) if len(times) == 1 else OK

    async def main(receiver: Receiver) -> None:
        receiver.choose = once
        async with history(tmp_path, lambda: [webhook(receiver.url)]) as opened:
            note(opened, "c1")
            await receiver.until(lambda: len(receiver.taken) == 5)

    with Receiver() as receiver:
        asyncio.run(main(receiver))
    assert times[1] - times[0] >= 1


def test_calls_do_not_wait_for_each_other(tmp_path: Path) -> None:
    async def main(receiver: Receiver) -> None:
        receiver.choose = lambda request: Stall() if request.content["call_id"] == "slow" else receiver.mode
        async with history(tmp_path, lambda: [webhook(receiver.url)]) as opened:
            note(opened, "slow")
            await receiver.until(lambda: len(receiver.requests) == 1)
            for number in range(20):
                note(opened, f"c{number}")
            await receiver.until(lambda: len(receiver.taken) == 100)
            assert told(receiver.taken) == {f"c{number}": KINDS for number in range(20)}
            receiver.choose = lambda request: receiver.mode
            receiver.mode = OK
            await receiver.until(lambda: len(receiver.taken) == 105)

    with Receiver() as receiver:
        asyncio.run(main(receiver))
    assert told(receiver.taken)["slow"] == KINDS
    assert 2 <= receiver.most_at_once <= 8


def test_what_nobody_has_taken_is_sent_after_the_next_start_and_calls_that_were_cut_have_an_end(tmp_path: Path) -> None:
    async def main(receiver: Receiver) -> None:
        receiver.mode = Status(500)
        async with history(tmp_path, lambda: [webhook(receiver.url)]) as opened:
            note(opened, "whole")
            journal = opened.journal(tenant())
            for fact in a_call("cut")[:3]:
                journal.note(fact)
            await receiver.until(lambda: len(receiver.requests) >= 2)
        assert receiver.taken == []
        receiver.mode = OK
        async with history(tmp_path, lambda: [webhook(receiver.url)]):
            await receiver.until(lambda: len(receiver.taken) == 9)

    with Receiver() as receiver:
        asyncio.run(main(receiver))
    assert told(receiver.taken) == {"whole": KINDS, "cut": ["call.started", "call.answered", "call.turn", "call.ended"]}
    last = receiver.taken[-1].content if receiver.taken[-1].content["call_id"] == "cut" else None
    ends = [request.content for request in receiver.taken if request.content["type"] == "call.ended"]
    crashed = next(end for end in ends if end["call_id"] == "cut")
    assert last is None or last == crashed
    assert (crashed["tenant"], crashed["data"]["report"]["ended"]) == ("acme", "node_crashed")


def test_who_wants_little_gets_little(tmp_path: Path) -> None:
    async def main(all_of_acme: Receiver, ends: Receiver) -> None:
        def make() -> list[Sink]:
            return [webhook(all_of_acme.url, tenants="ac*"), webhook(ends.url, events="ended")]

        async with history(tmp_path, make) as opened:
            note(opened, "c1")
            note(opened, "c2", of="other")
            await all_of_acme.until(lambda: len(all_of_acme.taken) == 5)
            await ends.until(lambda: len(ends.taken) == 2)

    with Receiver() as all_of_acme, Receiver() as ends:
        asyncio.run(main(all_of_acme, ends))
    assert told(all_of_acme.requests) == {"c1": KINDS}
    assert told(ends.requests) == {"c1": ["call.ended"], "c2": ["call.ended"]}


def test_a_certificate_of_somebody_else_gets_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = Authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))

    def server(name: str) -> ssl.SSLContext:
        made = authority.issue(name, stem=name)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(str(made.certificate), str(made.key))
        return context

    wrong, right = server("elsewhere.example.com"), server("127.0.0.1")

    async def main(liar: Receiver, receiver: Receiver) -> None:
        async with history(tmp_path, lambda: [webhook(liar.url), webhook(receiver.url)]) as opened:
            note(opened, "c1")
            await receiver.until(lambda: len(receiver.taken) == 5)
        assert liar.requests == []

    with Receiver(tls=wrong) as liar, Receiver(tls=right) as receiver:
        asyncio.run(main(liar, receiver))


# --- configuration ------------------------------------------------------------------------------------------------


def test_events_are_globs_of_kinds_long_or_short() -> None:
    assert kinds_of(["call.*"]) == tuple(kind for kind in kinds_of("*") if kind.startswith("call."))
    assert kinds_of(["turn", "recording.*"]) == ("call.turn", "recording.ready")
    assert kinds_of(["e*"]) == ("call.ended",)
    assert kinds_of(["nothing"]) == ()


def test_the_documentation_names_every_event() -> None:
    rows = re.findall(r"^\| `([a-z.]+)` \| (?:`([a-z]+)`)? ?\|", DOCUMENT.read_text(), re.MULTILINE)
    assert tuple(kind for kind, _ in rows) == kinds_of("*")
    assert all(kinds_of([short]) == (kind,) for kind, short in rows if short)


def test_a_secret_that_is_not_there_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOOK_SECRET")
    with pytest.raises(ConfigError, match="HOOK_SECRET"):
        webhooks_of([WebhookConfig.model_validate({"url": "https://example.com/", "secret": "${HOOK_SECRET}"})])


def test_a_name_tells_two_urls_apart_and_none_of_their_secrets() -> None:
    first, second = webhook("https://me:sesame@example.com/a?key=sesame"), webhook("https://me:sesame@example.com/b")
    assert first.name != second.name
    assert first.name == webhook("https://me:sesame@example.com/a?key=sesame").name
    assert "sesame" not in first.name
    assert first.name.startswith("webhook example.com ")


def test_one_url_may_be_told_of_several_things_by_several_webhooks() -> None:
    keys = [{"url": "https://example.com/a", "events": kind} for kind in ("turn", "ended", "note")]
    names = [each.name for each in webhooks_of([WebhookConfig.model_validate(each) for each in keys])]
    assert len(set(names)) == 3
    assert names[0] == webhook("https://example.com/a").name


def test_a_fact_that_is_noted_late_is_an_event_of_its_call() -> None:
    entry = Entry("0" * 32, 7, 0.0, Noted.kind, {"what": "hold", "detail": ""}, "c1", "acme")
    assert event(entry)["time"] == "1970-01-01T00:00:00.000Z"
