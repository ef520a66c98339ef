"""A running node whose store is locked and whose receiver is broken, while calls come and go: they notice nothing, and
all of it gets there when they are back."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

from sipbridge.simulator.model import ModelServer
from sipbridge.simulator.script import Script, Utterance
from tests.loopback.node import Node, receiving
from tests.loopback.phone import Phone
from tests.loopback.test_sigkill import tenant


async def one_call(node: Node) -> None:
    phone = await Phone.open(node.address)
    try:
        await phone.call()
        await phone.audio.hear_sound(5)
        await phone.hang_up()
    finally:
        await phone.close()


async def test_calls_notice_nothing_and_all_of_it_is_caught_up(tmp_path: Path) -> None:
    script = Script(utterances=(Utterance("Hello.", 0.3),))
    async with ModelServer(script, wire="openai") as model, receiving() as receiver:
        config = {
            "history": {"retry": {"attempts": 3, "backoff_seconds": 0.1}},
            "webhooks": [{"url": receiver.url, "events": ["call.*"]}],
        }
        node = Node(tmp_path, config, tenant(model))
        await node.start()
        await one_call(node)
        await receiver.until(lambda: len(receiver.of_kind("call.ended")) == 1, within=5)

        receiver.broken = True
        with closing(sqlite3.connect(node.store, isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            await asyncio.gather(*(one_call(node) for _ in range(6)))
            assert len(receiver.of_kind("call.started")) == 1
            assert len(node.waiting()) >= 6
            other.execute("ROLLBACK")
        receiver.broken = False
        await receiver.until(lambda: len(receiver.of_kind("call.ended")) == 7, within=5)
        assert await node.stop() == 0

    assert node.stored("SELECT count(*), count(DISTINCT record) FROM calls WHERE ended = 'caller_hung_up'") == [(7, 7)]
    assert node.waiting() == []
    told = [(event["record"], event["seq"]) for event in receiver.events]
    assert len(told) == len(set(told))
    for record in {record for record, _ in told}:
        numbers = [seq for name, seq in told if name == record]
        assert numbers == sorted(numbers)
