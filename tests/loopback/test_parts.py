"""Agents made of several services, heard over the telephone: nothing else about a call is different."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
import yaml

from sipbridge.simulator.model import ModelServer
from sipbridge.simulator.parts import PartsServer
from sipbridge.simulator.script import Script, Utterance
from tests.loopback.earpiece import is_loud
from tests.loopback.house import house
from tests.loopback.sound import join, snr_db, tone

STORY = "Once upon a time there was a hotel by the sea."
OLD, NEW = 440, 700
SCRIPT = Script((Utterance(STORY, 4.0, OLD), Utterance("Yes?", 0.3, NEW)), speed=4.0)


def tenant(agent: dict[str, Any]) -> str:
    return yaml.safe_dump({"agent": agent})


async def test_a_caller_interrupts_a_model_that_has_another_s_voice() -> None:
    async with ModelServer(replace(SCRIPT, speed=1.5), wire="cartesia") as voice:
        section = {"provider": "cartesia", "voice": "voice-1", "url": voice.url, "api_key": "key-0123456789"}
        async with house(SCRIPT, tenant=tenant({"greeting": STORY, "voice_provider": section})) as bench:
            phone = await bench.phone()
            await phone.call()
            await phone.audio.hear_sound(40, hz=OLD)
            phone.audio.say(tone(1000, 0.25))
            model = await bench.session()
            deleted = await model.wait_for("conversation.item.delete")
            put = await model.wait_for("conversation.item.create")
            await phone.audio.hear_sound(12, hz=NEW)
            await phone.hang_up()
            heard_ms = 20 * len([p for p in phone.audio.audio() if is_loud(p) and is_loud(p, OLD)])
            words = put["item"]["content"][0]["text"]
            assert STORY.startswith(words)
            assert len(words.split()) == pytest.approx(heard_ms / 4000 * len(STORY.split()), abs=1.5)
            assert deleted["item_id"] != put["item"].get("id")
            spoken = voice.sessions[0]
            assert any("cancel" in entry.message for entry in spoken.received) or heard_ms > 900
            assert spoken.received[0].message["output_format"] == {
                "container": "raw",
                "encoding": "pcm_mulaw",
                "sample_rate": 8000,
            }
            assert (model.violations, spoken.violations) == ([], [])
            assert (await bench.report()).barge_ins == 1
            await asyncio.wait_for(spoken.closed.wait(), 2)


@pytest.mark.parametrize("kind", ["deepgram", pytest.param("plain", marks=pytest.mark.slow)])
async def test_a_conversation_with_a_cascade(kind: str) -> None:
    script = Script((Utterance("Two nights are 240 euros.", 0.6, NEW),), speed=0.0)
    async with PartsServer.cascade(kind, script) as parts:
        agent = {**parts.credential, "greeting": "Hotel Aster."}
        async with house(provider="cascade", tenant=tenant(agent)) as bench:
            phone = await bench.phone()
            await phone.call()
            await phone.audio.hear_sound(25, hz=NEW)
            phone.audio.say(tone(1000, 0.4))
            await phone.audio.hear_sound(20, hz=NEW)
            await phone.hang_up()
            report = await bench.report()
            assert report.replies == 2
            new = [packet.samples for packet in phone.audio.audio() if is_loud(packet, NEW)]
            assert snr_db(join(new[3:20]), NEW) > 25
        assert [record.violations for record in parts.sessions if record.violations] == []


async def test_a_part_that_refuses_is_a_busy_agent_to_the_caller() -> None:
    agent = {
        "stt": {"provider": "deepgram", "url": "ws://127.0.0.1:1/v2/listen"},
        "llm": {"provider": "openai_compatible", "url": "http://127.0.0.1:1/", "model": "m"},
        "tts": {"provider": "cartesia", "url": "ws://127.0.0.1:1/", "voice": "v"},
    }
    async with house(provider="cascade", tenant=tenant(agent)) as bench:
        phone = await bench.phone()
        phone.invite()
        refused = await phone.expect(480)
        phone.ack_failure(refused)
        assert "refused" in refused["Reason"]
