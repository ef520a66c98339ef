"""Tools of others in a real call: an HTTP server, a function, an MCP server, an attached client; and what is heard
meanwhile."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from sipbridge.call import CallSession
from sipbridge.outcome import Ended, ToolRun
from sipbridge.simulator.http import Broken, HttpAnswer, HttpRequest, HttpServer
from sipbridge.simulator.script import Script, ToolUse, Utterance
from tests.loopback.earpiece import is_loud
from tests.loopback.house import House, house, within
from tests.loopback.phone import Phone
from tests.loopback.sound import tone
from tests.tools import mcp_server

ANSWER = Utterance("It has been sent.", seconds=0.3, tone_hz=800)
LOOKUP = "tools: {python: ['tests.tools.functions:lookup']}"
ORDER = "{name: order_status, description: State of an order, parameters: {properties: {number: {type: string}}}"


def asks_for(name: str, arguments: str = '{"number": "7"}', **more: Any) -> Script:
    return Script((ANSWER,), speed=0, tools={0: ToolUse(name, arguments, **more)})


async def ask(bench: House) -> Phone:
    phone = await bench.phone()
    await phone.call()
    phone.audio.say(tone(1000, 0.1))
    return phone


async def output(bench: House, count: int = 1) -> str:
    """The `count`-th tool result that the model was given."""
    session = await bench.session()

    def outputs() -> list[str]:
        items = [message["item"] for message in session.messages("conversation.item.create")]
        return [item["output"] for item in items if item["type"] == "function_call_output"]

    await session.wait_until(lambda: len(outputs()) >= count)
    return outputs()[count - 1]


async def over(bench: House, phone: Phone) -> tuple[ToolRun, ...]:
    """The caller has heard the answer and hangs up; what the call's report has of its tools."""
    await phone.audio.hear_sound(8, hz=800)
    assert (await bench.session()).violations == []
    await phone.hang_up()
    report = await bench.report()
    assert report.ended is Ended.CALLER_HUNG_UP
    return report.tool_runs


async def test_a_request_is_made_and_its_answer_told() -> None:
    async def state(request: HttpRequest) -> HttpAnswer:
        return HttpAnswer.of({"state": "sent", "of": request.json()["number"]})

    async with HttpServer(state) as server:
        url = server.url + "/orders?from={{ call.from }}"
        tenant = f"tools: {{http: [{ORDER}, url: '{url}', allow_private: true}}]}}"
        async with house(asks_for("order_status"), tenant=tenant) as bench:
            phone = await ask(bench)
            assert json.loads(await output(bench)) == {"state": "sent", "of": "7"}
            (run,) = await over(bench, phone)
            assert (run.name, run.arguments, run.outcome, run.error) == ("order_status", '{"number": "7"}', "ok", "")
            assert 0 < run.at < 5
            assert run.ms < 1000
        assert list(server.requests[0].query) == ["from"]


async def test_a_private_address_is_not_asked() -> None:
    tenant = f"tools: {{http: [{ORDER}, url: 'http://127.0.0.1:9/orders'}}]}}"
    async with house(asks_for("order_status"), tenant=tenant) as bench:
        phone = await ask(bench)
        assert "not a public one" in await output(bench)
        (run,) = await over(bench, phone)
        assert run.outcome == "error"


async def test_a_function_is_asked() -> None:
    async with house(asks_for("lookup"), tenant=LOOKUP) as bench:
        phone = await ask(bench)
        assert json.loads(await output(bench)) == {"number": "order 7 x1", "sent": True}
        assert (await over(bench, phone))[0].outcome == "ok"


@pytest.mark.slow
async def test_an_mcp_server_is_asked() -> None:
    server = json.dumps({"name": "shop", "command": sys.executable, "args": [str(Path(mcp_server.__file__))]})
    async with house(asks_for("orders_state"), tenant=f"tools: {{mcp: [{server}]}}") as bench:
        phone = await ask(bench)
        assert await output(bench) == "order 7 has been sent"
        session = await bench.session()
        (update,) = session.messages("session.update")[:1]
        assert "orders_state" in [tool["name"] for tool in update["session"]["tools"]]
        await over(bench, phone)


class Client:
    def __init__(self, session: CallSession, answer: str | None) -> None:
        self.called: list[tuple[str, Mapping[str, Any]]] = []
        self.asked = asyncio.Event()
        self.cancelled = asyncio.Event()
        self._session = session
        self._answer = answer

    def tool_called(self, call_id: str, name: str, arguments: Mapping[str, Any]) -> None:
        self.called.append((name, arguments))
        self.asked.set()
        if self._answer is not None:
            asyncio.get_running_loop().call_soon(self._session.answer_tool, call_id, self._answer)

    def tool_cancelled(self, call_id: str) -> None:
        self.cancelled.set()


PASSED = "tools: {pass_through: [{name: show, description: Shows a page, timeout_seconds: 0.3, parameters: {}}]}"


async def test_an_attached_client_answers() -> None:
    async with house(asks_for("show"), tenant=PASSED) as bench:
        phone = await bench.phone()
        await phone.call()
        (session,) = bench.gateway.calls.sessions
        client = Client(session, "shown")
        session.attach(client)
        phone.audio.say(tone(1000, 0.1))
        assert await output(bench) == "shown"
        assert client.called == [("show", {"number": "7"})]
        assert (await over(bench, phone))[0].outcome == "ok"


async def test_nobody_is_attached() -> None:
    async with house(asks_for("show"), tenant=PASSED) as bench:
        phone = await ask(bench)
        assert "nobody is there" in await output(bench)
        assert (await over(bench, phone))[0].outcome == "error"


async def test_a_client_that_says_nothing_is_given_up() -> None:
    async with house(asks_for("show"), tenant=PASSED) as bench:
        phone = await bench.phone()
        await phone.call()
        (session,) = bench.gateway.calls.sessions
        client = Client(session, None)
        session.attach(client)
        phone.audio.say(tone(1000, 0.1))
        assert "did not finish" in await output(bench)
        assert client.cancelled.is_set()
        assert (await over(bench, phone))[0].outcome == "timeout"


async def test_a_client_that_goes_away_is_not_waited_for() -> None:
    async with house(asks_for("show"), tenant=PASSED.replace("0.3", "30")) as bench:
        phone = await bench.phone()
        await phone.call()
        (session,) = bench.gateway.calls.sessions
        client = Client(session, None)
        session.attach(client)
        phone.audio.say(tone(1000, 0.1))
        await client.asked.wait()
        session.detach(client)
        assert "is gone" in await output(bench)
        await over(bench, phone)


SLOW = f"http: [{ORDER}, url: 'URL', allow_private: true}}]"


async def test_a_tone_is_heard_while_a_tool_takes_its_time() -> None:
    answered = asyncio.Event()

    async def state(request: HttpRequest) -> HttpAnswer:
        await answered.wait()
        return HttpAnswer(body=b"sent")

    async with HttpServer(state) as server:
        tenant = f"tools: {{{SLOW.replace('URL', server.url)}, waiting: {{after_seconds: 0.2, sound: tone}}}}"
        async with house(asks_for("order_status"), tenant=tenant) as bench:
            phone = await ask(bench)
            await phone.audio.hear_sound(5, hz=480)
            answered.set()
            assert await output(bench) == "sent"
            await over(bench, phone)
            tones = [packet for packet in phone.audio.audio() if is_loud(packet, 480)]
            words = [packet for packet in phone.audio.audio() if is_loud(packet, 800)]
            assert tones[-1].at < words[0].at


async def test_the_agent_says_a_word_while_a_tool_takes_its_time() -> None:
    answered = asyncio.Event()

    async def state(request: HttpRequest) -> HttpAnswer:
        await answered.wait()
        return HttpAnswer(body=b"sent")

    moment = Utterance("One moment.", seconds=0.3, tone_hz=500)
    script = Script((moment, moment, ANSWER), speed=0, tools={0: ToolUse("order_status")})
    async with HttpServer(state) as server:
        tenant = f"tools: {{{SLOW.replace('URL', server.url)}, waiting: {{after_seconds: 0.1, say: One moment}}}}"
        async with house(script, tenant=tenant) as bench:
            phone = await ask(bench)
            await phone.audio.hear_sound(8, hz=500)
            assert "Meanwhile say only this: One moment" in await output(bench)
            answered.set()
            await over(bench, phone)
            texts = [
                message["item"]["content"][0]["text"]
                for message in (await bench.session()).messages("conversation.item.create")
                if message["item"]["type"] == "message"
            ]
            assert "The result of order_status: sent" in texts


async def test_quotas_are_kept_and_answered() -> None:
    tenant = "tools: {python: ['tests.tools.functions:lookup'], quotas: {per_call: 1}}"
    tools = {n: ToolUse("lookup", '{"number": "7"}') for n in (0, 1)}
    async with house(Script((ANSWER,), speed=0, tools=tools), tenant=tenant) as bench:
        phone = await ask(bench)
        assert "no more tools" in await output(bench, 2)
        assert [run.outcome for run in await over(bench, phone)] == ["ok", "refused"]


@pytest.mark.parametrize("arguments", ["{", '{"kind": "ship", "number": "7"}'])
async def test_what_does_not_fit_is_answered(arguments: str) -> None:
    async with house(asks_for("lookup", arguments), tenant=LOOKUP) as bench:
        phone = await ask(bench)
        assert "error" in json.loads(await output(bench))
        assert (await over(bench, phone))[0].outcome == "invalid"


async def test_a_tool_that_nobody_has_is_answered() -> None:
    async with house(asks_for("rm")) as bench:
        phone = await ask(bench)
        assert "there is no tool 'rm'" in await output(bench)
        assert (await over(bench, phone))[0].outcome == "unknown"


@pytest.mark.slow
async def test_a_caller_who_hangs_up_waits_for_no_tool() -> None:
    asked, enough = asyncio.Event(), asyncio.Event()

    async def silence(request: HttpRequest) -> HttpAnswer:
        asked.set()
        await enough.wait()
        raise Broken

    program = json.dumps({"name": "shop", "command": sys.executable, "args": [str(Path(mcp_server.__file__))]})
    async with HttpServer(silence) as server:
        http = SLOW.replace("URL", server.url)
        tools = {0: ToolUse("hang"), 1: ToolUse("order_status", '{"number": "7"}')}
        script = Script((ANSWER,), speed=0, tools=tools)
        tenant = f"tools: {{{http}, mcp: [{program}]}}\ndeadlines: {{tool_seconds: 0.5}}"
        async with house(script, tenant=tenant) as bench:
            phone = await ask(bench)
            assert "did not finish" in await output(bench)
            await asked.wait()
            await phone.hang_up()
            report = await bench.report(within=1.0)
            assert [run.outcome for run in report.tool_runs] == ["timeout", "cancelled"]
            await within(1.0, (await bench.session()).closed)
            enough.set()
