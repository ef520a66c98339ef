"""What is noted of real calls: every fact at its time, over real sockets."""

from __future__ import annotations

import json
import time

import pytest

from sipbridge.history.facts import Entry
from sipbridge.simulator.script import Script, ToolUse, Utterance
from tests.loopback.house import house
from tests.loopback.notebook import Notebook
from tests.loopback.sound import tone

GREETING = "agent: {greeting: Hello.}"
QUESTION = tone(1000, 0.3)


def kinds(entries: list[Entry]) -> list[str]:
    return [entry.kind.removeprefix("call.") for entry in entries]


async def test_a_conversation_from_its_beginning_to_its_end() -> None:
    notebook = Notebook()
    script = Script(
        (Utterance("Hello, ACME.", seconds=0.4), Utterance("It is on its way.", seconds=0.6)),
        transcripts=("Where is my order?",),
        think_ms=150,
        speed=0,
    )
    async with house(script, tenant=GREETING, history=notebook.history) as bench:
        before = time.time()
        phone = await bench.phone()
        await phone.call()
        await notebook.until(lambda: len(notebook.of("turn")) == 1)
        phone.audio.say(QUESTION)
        await notebook.until(lambda: len(notebook.of("turn")) == 3)
        await phone.hang_up()
        end = await notebook.ended()
    entries = notebook.entries()
    assert [entry.seq for entry in entries] == list(range(len(entries)))
    assert {entry.record for entry in entries} == {end["report"]["record"]}
    assert abs(entries[0].at - before) < 0.5
    assert [entry.at for entry in entries] == sorted(entry.at for entry in entries)
    (started,) = notebook.of("started")
    assert (started["call_id"], started["direction"], started["to"], started["tenant"], started["node"]) == (
        phone.call_id,
        "inbound",
        "agent",
        "t",
        "n1",
    )
    assert started["provider"] == "openai"
    (answered,) = notebook.of("answered")
    assert answered["codec"] == "PCMU"
    greeting, question, answer = sorted(notebook.of("turn"), key=lambda turn: int(turn["number"]))
    assert [turn["number"] for turn in (greeting, question, answer)] == [1, 2, 3]
    assert (greeting["speaker"], greeting["text"], greeting["latency"]) == ("agent", "Hello.", None)
    assert (question["speaker"], question["text"], question["final"]) == ("caller", "Where is my order?", True)
    assert (answer["speaker"], answer["text"], answer["heard_ms"]) == ("agent", "It is on its way.", 600)
    assert not answer["interrupted"]
    assert greeting["ended"] <= question["began"] < question["ended"] < answer["began"] < answer["ended"]
    assert answer["ended"] - answer["began"] == pytest.approx(0.6, abs=0.1)
    latency = answer["latency"]
    assert 90 <= latency["endpointing_ms"] <= 300, "the server waits for 100 ms of silence"
    assert 140 <= latency["model_ms"] <= 450, "it thinks for 150 ms"
    assert 0 <= latency["playout_ms"] <= 40
    waited = answer["began"] - question["ended"]
    assert waited == pytest.approx(sum(latency.values()) / 1000, abs=0.03), "the parts make up the whole"
    report = end["report"]
    assert (report["ended"], report["outcome"]) == ("caller_hung_up", "completed")
    assert report["latencies"] == [{"turn": 3, **latency}]
    assert [step["title"] for step in end["ladder"]][-2:] == ["BYE", "200 OK (BYE)"]
    assert end["ladder"][0]["title"] == "INVITE +sdp"
    json.dumps([entry.data for entry in entries], allow_nan=False)


async def test_an_interruption_says_how_much_was_heard() -> None:
    notebook = Notebook()
    script = Script((Utterance("A long story.", seconds=6), Utterance("Yes?", seconds=0.3)), speed=0)
    async with house(script, tenant=GREETING, history=notebook.history) as bench:
        phone = await bench.phone()
        await phone.call()
        await phone.audio.hear_sound(25)
        phone.audio.say(QUESTION)
        await notebook.until(lambda: len(notebook.of("turn")) == 3)
        await phone.hang_up()
        await notebook.ended()
    turns = {turn["number"]: turn for turn in notebook.of("turn")}
    assert (turns[1]["text"], turns[1]["interrupted"], turns[3]["interrupted"]) == ("Hello.", True, False)
    assert 400 <= turns[1]["heard_ms"] <= 1500
    assert "interrupted" in notebook.notes()


async def test_tools_keys_and_what_the_agent_hung_up_for() -> None:
    notebook = Notebook()
    script = Script((Utterance(seconds=0.3),), tools={1: ToolUse("hang_up", '{"reason": "done"}')}, speed=0)
    tenant = f"{GREETING}\ntools: {{hang_up: {{}}}}"
    async with house(script, tenant=tenant, history=notebook.history) as bench:
        phone = await bench.phone()
        await phone.call()
        await notebook.until(lambda: len(notebook.of("turn")) == 1)
        phone.audio.press("7")
        end = await notebook.ended()
    (tool,) = notebook.of("tool")
    assert (tool["name"], tool["outcome"], json.loads(tool["arguments"])) == ("hang_up", "ok", {"reason": "done"})
    assert notebook.of("note")[0] == {"what": "agent", "detail": "main"}
    assert {"what": "key", "detail": "*"} in notebook.of("note")
    assert "7" not in str([note["detail"] for note in notebook.of("note")])
    assert end["report"]["ended"] == "agent_hung_up"
    assert [step["title"] for step in end["ladder"]][-1] == "200 OK (BYE)", "it was waited for"


async def test_a_transfer_that_is_refused() -> None:
    notebook = Notebook()
    script = Script((Utterance(seconds=0.3),), tools={1: ToolUse("transfer_call", '{"target": "desk"}')}, speed=0)
    tenant = f"{GREETING}\ntools: {{transfer_call: {{targets: {{desk: 'sip:desk@example.com'}}, via: refer}}}}"
    async with house(script, tenant=tenant, history=notebook.history) as bench:
        phone = await bench.phone()
        await phone.call()
        await notebook.until(lambda: len(notebook.of("turn")) == 1)
        phone.audio.say(QUESTION)
        refer = await phone.expect("REFER", within=5.0)
        phone.respond(refer, 603, "Declined")
        await notebook.until(lambda: bool(notebook.of("transferred")))
        await phone.hang_up()
        await notebook.ended()
    (transfer,) = notebook.of("transferred")
    assert (transfer["target"], transfer["way"], transfer["succeeded"]) == ("desk", "refer", False)
    assert "603" in transfer["detail"]


async def test_calls_that_are_refused_have_a_record() -> None:
    notebook = Notebook()
    async with house(Script(), config="limits: {max_calls: 1}", history=notebook.history) as bench:
        stranger = await bench.phone(user="nobody")
        stranger.invite()
        stranger.ack_failure(await stranger.expect(404))
        end = await notebook.ended(1)
        assert (end["report"]["ended"], end["report"]["outcome"], end["report"]["status"]) == (
            "no_tenant",
            "refused",
            404,
        )
        assert [step["title"] for step in end["ladder"]] == [
            "INVITE +sdp",
            "100 Trying (INVITE)",
            "404 Not Found (INVITE)",
            "ACK",
        ]
        first = await bench.phone()
        await first.call()
        second = await bench.phone()
        second.invite()
        second.ack_failure(await second.expect(503))
        end = await notebook.ended(3)
        assert (end["report"]["ended"], end["report"]["status"]) == ("refused", 503)
        assert kinds(notebook.entries(3)) == ["started", "ended"]
        await first.hang_up()


async def test_a_model_that_cannot_be_reached_is_told_with_its_words() -> None:
    notebook = Notebook()
    tenant = "fallback: [{agent: {provider: openai, url: 'ws://127.0.0.1:9/v1'}}]"
    async with house(
        Script(), tenant=tenant, url=lambda model: "ws://127.0.0.1:9/v1", history=notebook.history
    ) as bench:
        phone = await bench.phone()
        phone.invite()
        phone.ack_failure(await phone.expect(480))
        end = await notebook.ended()
    assert (end["report"]["ended"], end["report"]["outcome"]) == ("agent_not_ready", "failed")
    assert notebook.notes().count("fallback") == 2
    assert notebook.of("answered") == []
