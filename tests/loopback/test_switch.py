"""One agent hands the caller over to another, of another vendor: what the telephone hears, what each model is told."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import yaml

from sipbridge.outcome import CallReport, Ended
from sipbridge.simulator.model import ModelServer, SessionRecord
from sipbridge.simulator.parts import PartsServer
from sipbridge.simulator.script import Fault, Script, ToolUse, Utterance
from tests.loopback.earpiece import Packet, is_loud
from tests.loopback.house import House, house, within
from tests.loopback.phone import Phone
from tests.loopback.sound import join, level_db, tone
from tests.providers.scenarios.bench import BENCHES, Bench

LAST_WORDS, FIRST_WORDS = 500, 800
SECONDS = 0.6
SAID = "I put you through to billing."
HEARD = "My bill is wrong."
GAP_S = 1.5
OPENAI = next(bench for bench in BENCHES if bench.name == "openai")
QUICK = ("openai_live", "gemini", "elevenlabs", "nova_sonic", "cascade (deepgram)")
"""One of each kind: the rest takes its time in `make test-all`."""
GEMINI = next(bench for bench in BENCHES if bench.slug == "gemini")
HAND_OVER = json.dumps({"agent": "billing", "summary": "Bill seven is too high."})


def first(*, spoken: bool = True, speed: float = 8.0, fault: Fault | None = None) -> Script:
    """Answers the caller's first words with a hand-over; later ones with a word."""
    utterances = (Utterance(SAID, SECONDS, LAST_WORDS), Utterance("I am still here.", 0.3, LAST_WORDS))
    tool = ToolUse("switch_agent", HAND_OVER, spoken=spoken)
    return Script(utterances, (HEARD, "Hello?"), {0: tool}, speed=speed, fault=fault)


SECOND = Script((Utterance("Billing here.", 0.5, FIRST_WORDS),))


@dataclass
class Desk:
    """The telephone, the house, and each agent's server by the agent's name."""

    house: House
    phone: Phone
    servers: Mapping[str, ModelServer | PartsServer]

    async def session(self, name: str) -> SessionRecord:
        server = self.servers[name]
        assert isinstance(server, ModelServer)
        return await server.session()

    async def ask(self) -> None:
        """The caller says something to the first agent."""
        self.phone.audio.say(tone(1000, 0.2))

    @property
    def gap_s(self) -> float:
        """Between the last of the one's words and the first of the other's, in packets."""
        audio = list(self.phone.audio.audio())
        last = max(number for number, packet in enumerate(audio) if is_loud(packet, LAST_WORDS))
        begins = min(number for number, packet in enumerate(audio) if is_loud(packet, FIRST_WORDS))
        return (begins - last - 1) * 0.02

    def heard(self, hz: float) -> list[Packet]:
        return [packet for packet in self.phone.audio.audio() if is_loud(packet, hz)]

    async def hang_up(self) -> CallReport:
        await self.phone.hang_up()
        report = await self.house.report()
        assert report.ended is Ended.CALLER_HUNG_UP
        for server in self.servers.values():
            assert [record.violations for record in server.sessions if record.violations] == []
        return report


@asynccontextmanager
async def desk(
    benches: Sequence[Bench], scripts: Sequence[Script], more: str = "", agent: Mapping[str, Any] | None = None
) -> AsyncIterator[Desk]:
    """`agent`: more keys of the second."""
    async with AsyncExitStack() as stack:
        servers: dict[str, ModelServer | PartsServer] = {}
        agents: dict[str, dict[str, Any]] = {}
        for name, bench, script in zip(("triage", "billing"), benches, scripts, strict=True):
            server = bench.server()
            server.script = script
            servers[name] = await stack.enter_async_context(server)
            agents[name] = {"instructions": f"You are {name}.", **bench.credential_for(server)}
            if bench.slug != "cascade":
                agents[name]["turn_detection"] = {"silence_ms": 100}
        agents["billing"] |= agent or {}
        tenant = yaml.safe_dump({"agents": agents}, sort_keys=False) + more
        bench_house = await stack.enter_async_context(house(tenant=tenant))
        phone = await bench_house.phone()
        await phone.call()
        yield Desk(bench_house, phone, servers)


def told(session: SessionRecord) -> str:
    """Everything that a model was sent but sound, as text."""
    return json.dumps(session.messages(), ensure_ascii=False)


async def test_from_one_vendor_to_another_and_what_it_is_told() -> None:
    async with desk((OPENAI, GEMINI), (first(), SECOND)) as line:
        await line.ask()
        await line.phone.audio.hear_sound(10, hz=FIRST_WORDS, within=5)
        triage, billing = await line.session("triage"), await line.session("billing")
        await within(1.0, triage.closed)
        assert len(line.heard(LAST_WORDS)) == pytest.approx(SECONDS / 0.02, abs=1), "to its last packet"
        assert line.gap_s < 0.5
        text = told(billing)
        for words in ("You are billing.", "by the agent 'triage'", "Bill seven is too high.", HEARD, SAID):
            assert words in text
        await billing.wait_until(lambda: any("usageMetadata" in message for message in billing.sent))
        await line.phone.audio.hear(5)
        assert len(billing.audio) > 0, "it hears the caller"
        report = await line.hang_up()
        assert report.agents == ("triage", "billing")
        assert report.provider == "openai"
        assert {spent.provider for spent in report.spent} == {"openai", "gemini"}


@pytest.mark.parametrize(
    "successor",
    [pytest.param(it, id=it.name, marks=() if it.name in QUICK else pytest.mark.slow) for it in BENCHES],
)
async def test_no_dead_air_whoever_follows(successor: Bench) -> None:
    """Also where the first agent's words come no faster than they are heard."""
    async with desk((OPENAI, successor), (first(speed=1.0), SECOND)) as line:
        await line.ask()
        await line.phone.audio.hear_sound(10, hz=FIRST_WORDS, within=8)
        assert line.gap_s < GAP_S
        report = await line.hang_up()
        assert report.agents == ("triage", "billing")


@pytest.mark.slow
@pytest.mark.parametrize("predecessor", BENCHES, ids=lambda bench: bench.name)
async def test_no_dead_air_whoever_hands_over(predecessor: Bench) -> None:
    async with desk((predecessor, GEMINI), (first(), SECOND)) as line:
        await line.ask()
        await line.phone.audio.hear_sound(10, hz=FIRST_WORDS, within=8)
        assert line.gap_s < GAP_S
        assert "Bill seven is too high." in told(await line.session("billing"))
        await line.hang_up()


async def test_without_a_word_of_the_first_agents() -> None:
    async with desk((OPENAI, GEMINI), (first(spoken=False), SECOND)) as line:
        await line.ask()
        await line.phone.audio.hear_sound(10, hz=FIRST_WORDS, within=5)
        assert line.heard(LAST_WORDS) == []
        await line.hang_up()


@pytest.mark.parametrize(
    "wire", ["elevenlabs", *(pytest.param(wire, marks=pytest.mark.slow) for wire in ("deepgram", "ultravox"))]
)
async def test_who_greets_by_himself_is_not_let_to_do_it_again(wire: str) -> None:
    """Vendors that are told their first words with the setup, where nothing is known of the conversation."""
    successor = next(bench for bench in BENCHES if bench.slug == wire)
    silent = Script(first().utterances, ("",), first(spoken=False).tools)
    async with desk((OPENAI, successor), (silent, SECOND), agent={"greeting": "Welcome to billing."}) as line:
        await line.ask()
        await line.phone.audio.hear_sound(20, hz=FIRST_WORDS, within=8)
        assert "Welcome to billing." not in told(await line.session("billing"))
        await line.hang_up()


@pytest.mark.slow
async def test_a_model_that_takes_long_to_connect_is_bridged_by_a_word() -> None:
    slow = Script(SECOND.utterances, fault=Fault.parse("slow:2500"))
    async with desk((OPENAI, GEMINI), (first(), slow), "deadlines: {connect_seconds: 4}") as line:
        await line.ask()
        await line.phone.audio.hear_sound(10, hz=FIRST_WORDS, within=8)
        quiet = longest_silence_s([packet for packet in line.phone.audio.audio() if packet.at >= line.heard(500)[0].at])
        assert quiet < GAP_S
        await line.hang_up()


def longest_silence_s(packets: Sequence[Packet]) -> float:
    longest = run = 0
    for packet in packets:
        run = 0 if level_db(packet.samples) > -50 else run + 1
        longest = max(longest, run)
    return longest * 0.02


@pytest.mark.parametrize("fault", ["status:401", "no_update", "status:503"])
async def test_one_that_cannot_be_reached_leaves_the_caller_where_he_is(fault: str) -> None:
    broken = Script(SECOND.utterances, fault=Fault.parse(fault))
    async with desk((OPENAI, GEMINI), (first(), broken)) as line:
        await line.ask()
        triage = await line.session("triage")
        await triage.wait_until(lambda: "cannot be reached now" in told(triage))
        heard = len(line.heard(LAST_WORDS))
        await line.phone.audio.until(lambda: len(line.heard(LAST_WORDS)) > heard + 5)
        report = await line.hang_up()
        assert report.agents == ("triage",)


async def test_an_interruption_calls_it_off_and_the_first_agent_hears_him() -> None:
    long = Script((Utterance(SAID, 3.0, LAST_WORDS), Utterance("Yes?", 0.5, 620)), (HEARD, "Wait."), first().tools)
    async with desk((OPENAI, GEMINI), (long, SECOND)) as line:
        await line.ask()
        await line.phone.audio.hear_sound(20, hz=LAST_WORDS, within=5)
        line.phone.audio.say(tone(1000, 0.2))
        await line.phone.audio.hear_sound(10, hz=620, within=5)
        billing = await line.session("billing")
        await within(1.0, billing.closed)
        assert line.heard(FIRST_WORDS) == []
        report = await line.hang_up()
        assert report.agents == ("triage",)
        assert report.barge_ins == 1


async def test_the_successor_has_its_own_format_voice_and_greeting() -> None:
    """G.711 as it comes from the wire before, PCM after; and it says its greeting where it is to."""
    agent = {"voice": "Puck", "greeting": "The billing desk, hello.", "greet": True, "tools": []}
    async with desk((OPENAI, GEMINI), (first(), SECOND), "tools: {hang_up: {}}", agent) as line:
        await line.ask()
        await line.phone.audio.hear_sound(10, hz=FIRST_WORDS, within=5)
        text = told(await line.session("billing"))
        assert "Puck" in text
        assert "The billing desk, hello." in text
        assert "switch_agent" in text
        assert "hang_up" not in text
        await line.hang_up()


async def test_there_and_back_with_one_conversation() -> None:
    back = json.dumps({"agent": "triage", "summary": "The bill was right."})
    billing = Script(SECOND.utterances, ("Thank you.",), {1: ToolUse("switch_agent", back, spoken=True)})
    async with desk((OPENAI, GEMINI), (first(), billing)) as line:
        await line.ask()
        await line.phone.audio.hear_sound(20, hz=FIRST_WORDS, within=5)
        await line.phone.audio.until(lambda: level_db(join([p.samples for p in line.phone.audio.packets[-10:]])) < -60)
        before = len(line.phone.audio.packets)
        await line.ask()
        server = line.servers["triage"]
        assert isinstance(server, ModelServer)
        again = await server.session(1)
        await line.phone.audio.until(
            lambda: any(is_loud(packet, LAST_WORDS) for packet in line.phone.audio.audio(before)), within=5
        )
        for words in ("The bill was right.", "Billing here.", HEARD, "by the agent 'billing'"):
            assert words in told(again)
        report = await line.hang_up()
        assert report.agents == ("triage", "billing", "triage")


@pytest.mark.slow
async def test_a_caller_who_speaks_while_the_other_connects_loses_no_word() -> None:
    slow = Script(SECOND.utterances, fault=Fault.parse("slow:2000"))
    async with desk((OPENAI, GEMINI), (first(), slow), "deadlines: {connect_seconds: 4}") as line:
        await line.ask()
        await line.phone.audio.until(lambda: len(line.heard(LAST_WORDS)) >= 29, within=5)
        await line.phone.audio.hear(15)
        await line.ask()
        await line.phone.audio.until(lambda: len(line.heard(LAST_WORDS)) > 35, within=5)  # the first one answers him
        await line.phone.audio.hear_sound(10, hz=FIRST_WORDS, within=8)
        assert len(line.heard(LAST_WORDS)) == pytest.approx(45, abs=2), "and is heard to the end"
        assert "Caller: Hello?" in told(await line.session("billing"))
        await line.hang_up()
