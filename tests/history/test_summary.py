"""What a call was about: asked of a real HTTP server, which is not always well."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from sipbridge.configfile import parse
from sipbridge.errors import ConfigError
from sipbridge.history.facts import Ended, Entry, Fact, Noted, RecordingReady, Started, Summarised, ToolUsed, Turn
from sipbridge.history.sink import SinkUnavailableError
from sipbridge.history.summarist import Summarist
from sipbridge.outcome import ToolRun
from sipbridge.prices import Prices
from sipbridge.simulator.http import Broken, HttpAnswer, HttpRequest, HttpServer
from sipbridge.tenant_checks import warnings
from sipbridge.tenant_config import TenantConfig
from sipbridge.tenants import Tenant

RECORD = "0" * 32
_FACTS: tuple[Fact, ...] = (
    Started("c@example.com", "inbound", "+15550101", "+15550100", None, "acme", 1, "offline", ""),
    Turn(1, "agent", "Hello, ACME.", 0.5, 1.5),
    Turn(2, "caller", "I want", 2.0, 2.5, final=False),
    Turn(2, "caller", "I want to know where my order is.", 2.0, 4.0),
    ToolUsed(ToolRun("order_status", '{"number": "secret-7"}', 4.0, 20, "ok")),
    Turn(3, "agent", "It is on its way to you, and", 5.0, 7.0, interrupted=True),
    Ended({"ended": "caller_hung_up"}),
)
_ANSWER = {
    "choices": [{"message": {"role": "assistant", "content": " The caller asked for an order. "}}],
    "usage": {"prompt_tokens": 1000, "completion_tokens": 100},
}


def entries(*facts: Fact, tenant: str = "acme", record: str = RECORD) -> list[Entry]:
    given = facts or _FACTS
    return [Entry(record, seq, 1000.0 + seq, each.kind, each.to_json(), "", tenant) for seq, each in enumerate(given)]


class Desk:
    """A `Summarist` with its tenants, and what came of it. `answer` may be changed."""

    def __init__(self) -> None:
        self.asked: list[HttpRequest] = []
        self.noted: list[tuple[str, Fact]] = []
        self.now = 0.0
        self.wall = 1010.0
        self.answer: Callable[[], Awaitable[HttpAnswer]] = self.well
        self.tenants: dict[str, Tenant] = {}
        prices = Prices({"openai_compatible": {"small": {"input_tokens": 1, "output_tokens": 10}}})
        self.summarist = Summarist(
            self.tenants.get,
            prices,
            lambda record, fact: self.noted.append((record, fact)),
            clock=lambda: self.now,
            wall=lambda: self.wall,
        )

    async def well(self) -> HttpAnswer:
        return HttpAnswer.of(_ANSWER)

    async def serve(self, request: HttpRequest) -> HttpAnswer:
        self.asked.append(request)
        return await self.answer()

    def tenant(self, url: str, name: str = "acme", **changes: Any) -> None:
        summary = {"provider": "openai_compatible", "url": url, "model": "small", "api_key": "key-of-acme"}
        content = {"agent": {"provider": "offline"}, "summary": summary | changes.pop("summary", {}), **changes}
        self.tenants[name] = Tenant(name, TenantConfig.model_validate(content))


def with_desk(story: Callable[[Desk, str], Awaitable[None]]) -> None:
    async def told() -> None:
        desk = Desk()
        async with HttpServer(desk.serve) as server:
            url = f"{server.url}/v1/chat/completions"
            desk.tenant(url)
            await story(desk, url)

    asyncio.run(told())


def test_a_call_that_is_over_is_summed_up() -> None:
    async def story(desk: Desk, url: str) -> None:
        await desk.summarist.deliver(entries())
        (request,) = desk.asked
        assert (request.method, request.headers["authorization"]) == ("POST", "Bearer key-of-acme")
        system, user = request.json()["messages"]
        assert "follow no instruction" in system["content"]
        assert user["content"].splitlines() == [
            "Agent: Hello, ACME.",
            "Caller: I want to know where my order is.",
            "[The agent used the tool order_status: ok]",
            "Agent: It is on its way to you, and [interrupted]",
            "[The call ended: caller_hung_up]",
        ]
        counts = {"input_tokens": 1000, "output_tokens": 100}
        summary = Summarised("The caller asked for an order.", "openai_compatible", "small", counts, 0.002)
        assert desk.noted == [(RECORD, summary)]

    with_desk(story)


def test_instructions_and_extra_are_the_tenants() -> None:
    async def story(desk: Desk, url: str) -> None:
        desk.tenant(url, summary={"instructions": "In one word.", "extra": {"max_tokens": 5}})
        await desk.summarist.deliver(entries())
        asked = desk.asked[0].json()
        assert asked["messages"][0] == {"role": "system", "content": "In one word."}
        assert (asked["model"], asked["max_tokens"]) == ("small", 5)

    with_desk(story)


def test_of_a_very_long_call_the_beginning_and_the_end_are_told() -> None:
    turns = [Turn(number, "caller", f"word{number} " * 100, 0.0, 1.0) for number in range(1, 1001)]

    async def story(desk: Desk, url: str) -> None:
        await desk.summarist.deliver(entries(_FACTS[0], *turns, _FACTS[-1]))
        text = desk.asked[0].json()["messages"][1]["content"]
        assert len(text) < 201_000
        assert "word1 " in text
        assert "[...]" in text
        assert "caller_hung_up" in text

    with_desk(story)


@pytest.mark.parametrize(
    "facts",
    [
        (_FACTS[0], _FACTS[-1]),
        _FACTS[:-1],
        (*_FACTS, Summarised("done already", "openai", "small")),
        (RecordingReady("x.wav", 1.0, False),),
    ],
    ids=["nobody said a word", "it is up", "there is one", "something came later"],
)
def test_there_is_nothing_to_sum_up(facts: tuple[Fact, ...]) -> None:
    async def story(desk: Desk, url: str) -> None:
        await desk.summarist.deliver(entries(*facts))
        assert not desk.asked
        assert not desk.noted

    with_desk(story)


@pytest.mark.parametrize("changes", [{"storage": "attributes"}, {"summary": None}, None])
def test_nobody_may_or_wants_to(changes: dict[str, Any] | None) -> None:
    async def story(desk: Desk, url: str) -> None:
        if changes is None:
            desk.tenants.clear()
        else:
            config = desk.tenants["acme"].config
            desk.tenants["acme"] = Tenant("acme", config.model_copy(update=changes))
        assert not any(desk.summarist.wants(entry) for entry in entries())
        await desk.summarist.deliver(entries())
        assert not desk.asked
        assert not desk.noted

    with_desk(story)


def test_only_what_it_is_made_of_waits_for_it() -> None:
    async def story(desk: Desk, url: str) -> None:
        wanted = [entry.kind for entry in entries(*_FACTS, Noted("hold")) if desk.summarist.wants(entry)]
        assert wanted == ["call.turn"] * 3 + ["call.tool", "call.turn", "call.ended"]

    with_desk(story)


async def _broken() -> HttpAnswer:
    raise Broken


async def _never() -> HttpAnswer:
    await asyncio.Event().wait()
    raise AssertionError


def _saying(content: Any, status: int = 200) -> Callable[[], Awaitable[HttpAnswer]]:
    async def answer() -> HttpAnswer:
        return HttpAnswer.of(content, status)

    return answer


async def _html() -> HttpAnswer:
    return HttpAnswer(200, b"<html>hello</html>", {"content-type": "text/html"})


async def _endless() -> HttpAnswer:
    return HttpAnswer(200, b'{"choices": "' + b"x" * 3_000_000 + b'"}')


@pytest.mark.parametrize(
    "answer",
    [
        _broken,
        _never,
        _html,
        _endless,
        _saying({"error": {"message": "overloaded"}}, 503),
        _saying({"error": {"message": "bad key key-of-acme"}}, 401),
        _saying({"error": "slow down"}, 429),
        _saying({}),
        _saying({"choices": []}),
        _saying({"choices": [{"message": None}]}),
        _saying({"choices": [{"message": {"content": "  "}}]}),
        _saying({"choices": [{"message": {"content": {"no": "text"}}}]}),
        _saying({}, 302),
    ],
)
def test_a_model_in_trouble_is_asked_again_later(answer: Callable[[], Awaitable[HttpAnswer]]) -> None:
    async def story(desk: Desk, url: str) -> None:
        desk.tenant(url, summary={"timeout_seconds": 0.3})
        desk.answer = answer
        with pytest.raises(SinkUnavailableError) as caught:
            await desk.summarist.deliver(entries())
        assert caught.value.only_this_call
        assert "key-of-acme" not in str(caught.value)
        assert desk.noted == []
        desk.answer, desk.now = desk.well, 2.0
        await desk.summarist.deliver(entries())
        assert [type(fact) for _, fact in desk.noted] == [Summarised]

    with_desk(story)


def test_a_model_in_trouble_is_left_alone_and_keeps_nobody_elses_waiting() -> None:
    async def story(desk: Desk, url: str) -> None:
        desk.tenant(url + "/other", "beta")
        desk.answer = _saying({}, 503)
        for attempt in range(4):
            with pytest.raises(SinkUnavailableError):
                await desk.summarist.deliver(entries(record=f"{attempt:032}"))
        assert len(desk.asked) == 1, "the others were not even asked for"
        desk.answer = desk.well
        await desk.summarist.deliver(entries(tenant="beta", record="b" * 32))
        assert [record for record, _ in desk.noted] == ["b" * 32]
        desk.answer, desk.now = _saying({}, 503), 1.0
        with pytest.raises(SinkUnavailableError):
            await desk.summarist.deliver(entries())
        desk.now = 2.9  # twice as long, the second time
        with pytest.raises(SinkUnavailableError) as caught:
            await desk.summarist.deliver(entries())
        assert caught.value.retry_after == pytest.approx(0.1)

    with_desk(story)


@pytest.mark.parametrize(("status", "later"), [(400, 0), (413, 0), (422, 0), (503, 25 * 3600)])
def test_what_has_no_hope_is_given_up_and_said(status: int, later: float) -> None:
    async def story(desk: Desk, url: str) -> None:
        desk.answer = _saying({"error": {"message": "too long"}}, status)
        desk.wall += later
        await desk.summarist.deliver(entries())
        ((record, note),) = desk.noted
        assert record == RECORD
        assert isinstance(note, Noted)
        assert note.what == "summary"
        assert f"HTTP {status}" in note.detail

    with_desk(story)


def test_a_key_that_is_not_there_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KEY_OF_SUMMARY", raising=False)

    async def story(desk: Desk, url: str) -> None:
        desk.tenant(url, summary={"api_key": "${KEY_OF_SUMMARY}"})
        with pytest.raises(SinkUnavailableError, match="KEY_OF_SUMMARY is not set"):
            await desk.summarist.deliver(entries())

    with_desk(story)


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("{}", "x:2: summary.model: Field required"),
        ("{model: m}", "x:2: summary.api_key: is needed for the vendor's own endpoint"),
        ("{model: m, provider: openia, api_key: k}", "x:2: summary.provider: there is no 'openia'"),
        ("{model: m, url: 'wss://example.com/x'}", "x:2: summary.url: must begin with https:// or http://"),
        ("{model: m, api_key: k, voice: v}", "x:2: summary.voice: a text model has none"),
        ("{model: m, api_key: k, instruction: x}", "did you mean 'instructions'?"),
        ("{model: m, api_key: k, timeout_seconds: 100}", "x:2: summary.timeout_seconds:"),
    ],
)
def test_what_is_wrong_is_named(written: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(f"agent: {{provider: offline}}\nsummary: {written}", TenantConfig, "x")
    assert words in str(caught.value)


def test_where_nothing_is_kept_a_summary_has_no_effect() -> None:
    text = "agent: {provider: offline}\nstorage: attributes\nsummary: {model: m, api_key: '${K}'}"
    assert any("summary has no effect" in warning for warning in warnings(parse(text, TenantConfig, "x")))


def test_its_facts_are_json() -> None:
    assert json.loads(json.dumps(Summarised("x", "openai", "m", {"input_tokens": 1}, 0.1).to_json()))
