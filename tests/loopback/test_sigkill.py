"""A node that is killed under load, again and again: nothing that was acknowledged is lost or doubled.

Acknowledged is what the store or the outbox has committed, and what a receiver of webhooks has answered with 200.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from sipbridge.simulator.model import ModelServer
from sipbridge.simulator.script import Script, Utterance
from tests.loopback.node import Node, Receiver, receiving
from tests.loopback.phone import Phone

_PHONES = 8


def tenant(model: ModelServer) -> dict[str, Any]:
    agent = {
        "provider": "openai",
        "api_key": "none",
        "url": model.url,
        "greeting": "Hello, this is a test.",
        "turn_detection": {"silence_ms": 100},
    }
    return {"match": {"to": "agent"}, "agent": agent}


async def ring_off_and_on(node: Node, answered: asyncio.Semaphore, talked: set[str], chance: random.Random) -> None:
    """One caller after another, who stay for a moment, or until the node is gone."""
    while True:
        phone = await Phone.open(node.address)
        try:
            await phone.call()
            answered.release()
            with suppress(TimeoutError):
                await phone.audio.hear(20)
                talked.add(phone.call_id)
            if chance.random() < 0.15:
                await asyncio.Event().wait()
            await phone.hang_up()
        except AssertionError:  # the node is dead
            return
        finally:
            await phone.close()


async def under_load(node: Node, chance: random.Random) -> set[str]:
    """Calls come and go; returns in the middle, with the node killed: the Call-IDs of whoever talked for 0.4 s."""
    talked: set[str] = set()
    answered = asyncio.Semaphore(0)
    callers = [asyncio.create_task(ring_off_and_on(node, answered, talked, chance)) for _ in range(_PHONES)]
    with suppress(TimeoutError):  # they may all have stayed
        for _ in range(chance.randrange(_PHONES, 4 * _PHONES)):
            async with asyncio.timeout(2):
                await answered.acquire()
    await node.kill()
    for caller in callers:
        caller.cancel()
    for error in await asyncio.gather(*callers, return_exceptions=True):
        assert error is None or isinstance(error, asyncio.CancelledError), error
    return talked


def in_order(receiver: Receiver) -> None:
    """Of each call, its events came first in the order of their numbers."""
    seen: dict[str, list[int]] = {}
    for event in receiver.events:
        numbers = seen.setdefault(event["record"], [])
        if event["seq"] not in numbers:
            assert not numbers or event["seq"] > max(numbers), (event, numbers)
            numbers.append(event["seq"])


async def kill_again_and_again(folder: Path, kills: int, seed: int) -> None:
    chance = random.Random(seed)
    acknowledged: set[tuple[str, int]] = set()
    async with (
        ModelServer(Script(utterances=(Utterance("Hello.", 0.3),)), wire="openai") as model,
        receiving() as receiver,
    ):
        config = {"webhooks": [{"url": receiver.url, "events": ["call.*"]}]}
        node = Node(folder, config, tenant(model))
        up: set[str] = set()
        talked: set[str] = set()
        for kill in range(kills + 1):
            await node.start()
            await receiver.until(  # within 10 s of the start, every call that was up is closed, and it is told
                lambda up=up: up <= {event["record"] for event in receiver.of_kind("call.ended")},  # type: ignore[misc]
                within=10,
            )
            if kill == kills:
                break
            talked |= await under_load(node, chance)
            acknowledged.update((record, seq) for record, seq, *_ in node.stored())
            acknowledged.update(node.waiting())
            acknowledged.update((event["record"], event["seq"]) for event in receiver.events)
            up = {record for (record,) in node.stored("SELECT record FROM calls WHERE ended IS NULL")}
        assert await node.stop() == 0
        assert node.waiting() == []
        entries = node.stored()
        check(entries, acknowledged, receiver, node)
        assert talked <= {call_id for (call_id,) in node.stored("SELECT call_id FROM calls")}


def check(entries: list[Any], acknowledged: set[tuple[str, int]], receiver: Receiver, node: Node) -> None:
    there = {(record, seq) for record, seq, *_ in entries}
    assert acknowledged - there == set()
    assert len(there) == len(entries)
    assert len(there) > 20
    ends = Counter(record for record, _, kind, _ in entries if kind == "call.ended")
    calls = {record for record, *_ in entries}
    assert ends == dict.fromkeys(calls, 1)
    numbers: dict[str, list[int]] = {}
    for record, seq, *_ in entries:
        numbers.setdefault(record, []).append(seq)
    assert all(seqs == list(range(len(seqs))) for seqs in numbers.values())
    reasons = {json.loads(data)["report"]["ended"] for *_, kind, data in entries if kind == "call.ended"}
    assert reasons >= {"node_crashed", "caller_hung_up"}
    assert node.stored("SELECT count(*) FROM calls WHERE ended IS NULL OR ended_at IS NULL") == [(0,)]
    assert node.stored("SELECT count(*) FROM calls") == [(len(calls),)]
    in_order(receiver)
    told = {(event["record"], event["seq"]) for event in receiver.events}
    assert {(record, seq) for record, seq, kind, _ in entries if kind not in ("call.note", "recording.ready")} <= told


def test_three_kills_under_load_lose_and_double_nothing(tmp_path: Path) -> None:
    asyncio.run(kill_again_and_again(tmp_path, 3, seed=1))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_thirty_kills_under_load_lose_and_double_nothing(tmp_path: Path) -> None:
    asyncio.run(kill_again_and_again(tmp_path, 30, seed=2))
