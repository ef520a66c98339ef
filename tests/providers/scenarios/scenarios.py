"""The scenarios. Each is written once, knows no vendor, and asks `Capabilities` what it may expect."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest

from sipbridge.agent import (
    AssistantAudio,
    AssistantInterrupted,
    AssistantTurnEnd,
    AssistantTurnStarted,
    Capabilities,
    Reconnecting,
    Resumed,
    SessionClosed,
    SessionOpen,
    ToolCall,
    ToolCallCancelled,
    TurnDetection,
    UserSpeechEnded,
    UserSpeechStarted,
    UserTranscript,
)
from sipbridge.audio import Played
from sipbridge.codecs import G722, OPUS, PCMA, PCMU
from sipbridge.errors import AgentClosedError
from sipbridge.providers import capabilities_of
from sipbridge.simulator.script import Script, ToolUse, Utterance
from tests.providers.scenarios.bench import Bench
from tests.providers.scenarios.talk import CALLER_HZ, TOOL, Heard, Talk, peak_hz

Run = Callable[[Bench], Awaitable[None]]
Needs = Callable[[Capabilities], bool]

FIRST, SECOND, THIRD = Utterance("One.", 0.5, 440.0), Utterance("Two.", 0.5, 560.0), Utterance("Three.", 0.5, 620.0)
SHORT = Script(utterances=(FIRST, SECOND, THIRD), transcripts=("two nights", "from Monday", "that is all"), speed=0.0)
LONG = replace(SHORT, utterances=(Utterance("A long story.", 6.0, 440.0), SECOND, THIRD), speed=8.0)
"""While it is told, there is time to interrupt."""


@dataclass(frozen=True)
class Scenario:
    name: str
    run: Run
    needs: Needs
    instead: str = "no"
    """What the table says where the provider is none that `needs` holds for."""

    def otherwise(self, bench: Bench) -> str:
        """What the table says where the suite did not see it work."""
        return "no" if self.possible(bench) else self.instead

    @property
    def what(self) -> str:
        return (self.run.__doc__ or "").strip()

    def possible(self, bench: Bench) -> bool:
        return self.needs(capabilities_of(bench.slug, {**bench.credential, "provider": bench.slug}))


SCENARIOS: list[Scenario] = []


def scenario(name: str, needs: Needs = lambda _: True, instead: str = "no") -> Callable[[Run], Run]:
    def add(run: Run) -> Run:
        SCENARIOS.append(Scenario(name, run, needs, instead))
        return run

    return add


def sounds_like(heard: Heard, utterance: Utterance) -> None:
    """All of its speech, and nothing else."""
    assert heard.hz == pytest.approx(utterance.tone_hz, abs=5)
    sound = heard.pcm.rstrip(heard.audio.silence)  # where turns are found in a stream, silence is how they end
    assert heard.audio.duration_ms(sound) == pytest.approx(utterance.seconds * 1000, abs=30)


# --- talking ----------------------------------------------------------------------------------------------------------


@scenario("greeting")
async def greeting(bench: Bench) -> None:
    """The agent speaks first, the words it was given; all of its speech arrives, and what it says in words."""
    async with Talk(bench, SHORT) as talk:
        talk.agent.say("Hotel Aster, how can I help?")
        heard = await talk.reply(since=0)
        assert isinstance(talk.seen[0], SessionOpen)
        sounds_like(heard, FIRST)
        assert heard.status == "completed"
        assert heard.text, "what it says is told in words"
        await talk.told("Hotel Aster, how can I help?")
        if talk.capabilities.says_verbatim:  # perhaps the model was not even asked for that
            await talk.turn()
        await talk.told("You run a hotel.")


@scenario("turn")
async def turn(bench: Bench) -> None:
    """The caller speaks and is answered, twice; where the model transcribes, what was said is told."""
    async with Talk(bench, SHORT) as talk:
        sounds_like(await talk.turn(), FIRST)
        sounds_like(await talk.turn(), SECOND)
        if talk.capabilities.speech_events:
            assert (talk.count(UserSpeechStarted), talk.count(UserSpeechEnded)) == (2, 2)
        if talk.capabilities.transcribes:
            for said in ("two nights", "from Monday"):
                await talk.until(UserTranscript, 0, lambda event, said=said: event.final and event.text == said)  # type: ignore[misc]


@scenario("rates")
async def rates(bench: Bench) -> None:
    """Telephones with PCMU, PCMA, G.722 and Opus hear and are heard, each at the rate that the table below has."""
    tried = set()
    for codec in (PCMU, PCMA, G722, OPUS):
        talk = Talk(bench, SHORT, codec=codec)
        async with talk:
            heard = await talk.turn()
            sounds_like(heard, FIRST)
            formats = (talk.options.input_format, talk.options.output_format)
            if formats in tried:
                continue
            tried.add(formats)
        sound = b"".join(bytes(record.audio) for record in talk.server.sessions)
        heard_in = talk.server.sessions[0].audio_format or formats[0]
        assert peak_hz(sound, heard_in) == pytest.approx(CALLER_HZ, abs=5), f"what the model heard of {codec.name}"
        if bench.hears_silence:
            assert heard_in.duration_ms(sound) == pytest.approx(2100, abs=100)


@scenario("silence")
async def silence(bench: Bench) -> None:
    """Who says nothing is not answered."""
    async with Talk(bench, SHORT) as talk:
        talk.hush(2.0)
        sounds_like(await talk.turn(), FIRST)
        assert talk.count(AssistantTurnStarted) == 1
        assert talk.count(UserSpeechStarted) <= 1
        assert talk.count(UserTranscript) <= 2


@scenario("DTMF", lambda can: can.takes_text)
async def keys(bench: Bench) -> None:
    """Keys that the caller pressed reach the model in words, and are answered."""
    async with Talk(bench, SHORT) as talk:
        talk.agent.send_text("The caller pressed 1 2 #.")
        talk.agent.create_response()
        sounds_like(await talk.reply(since=0), FIRST)
        await talk.told("The caller pressed 1 2 #.")


@scenario("instructions in mid-call", lambda can: can.takes_instructions)
async def instructions(bench: Bench) -> None:
    """Instructions are changed in mid-call; the model knows the new ones before its next answer."""
    async with Talk(bench, SHORT) as talk:
        sounds_like(await talk.turn(), FIRST)
        talk.agent.update_instructions("From now on you run a bakery.")
        if not talk.capabilities.says_verbatim:
            await talk.told("From now on you run a bakery.")
        sounds_like(await talk.turn(), SECOND)
        await talk.told("From now on you run a bakery.")  # at the latest with the next question to the model
        assert not list(talk.those(SessionClosed))


@scenario("options")
async def options(bench: Bench) -> None:
    """What a model takes of voice, temperature, language and turn detection reaches it as it was asked for."""
    can = capabilities_of(bench.slug, {**bench.credential, "provider": bench.slug})
    wanted: dict[str, Any] = {"interim_transcripts": can.transcribes_interim}
    told: list[tuple[str, ...]] = []
    if can.voices:
        wanted["voice"] = can.voices[-1]
        told.append((can.voices[-1],))
    if can.takes_temperature is not None:
        wanted["temperature"] = value = round(0.77 * can.takes_temperature[1], 2)
        told.append((str(value),))
    if can.takes_language:
        wanted["language"] = "fr"
        told.append(('"fr', "=fr"))
    if can.has_session and {("server_vad", "silence_ms")} <= can.turn_settings and "server_vad" in can.turn_detection:
        wanted["turn_detection"] = TurnDetection(silence_ms=437)
        told.append(("437",))
    async with Talk(bench, SHORT, **wanted) as talk:
        await talk.turn()
        interim = [event for event in talk.those(UserTranscript) if not event.final]
        assert can.transcribes_interim or not interim
        for words in told:
            assert any(word in talk.everything_told for word in words), f"never told {words[0]}"


# --- interrupting -----------------------------------------------------------------------------------------------------


async def interrupt(talk: Talk, played_ms: int = 200) -> None:
    """The caller speaks into what is heard; what a call does then."""
    here = talk.here
    talk.speak()
    kind: Any = UserSpeechStarted if talk.capabilities.speech_events else (UserSpeechStarted, AssistantInterrupted)
    await talk.until(kind, here)
    heard = {event.reply_id: event.item_id for event in talk.those(AssistantAudio)}
    talk.cancel([Played(reply_id, item_id, played_ms) for reply_id, item_id in heard.items()])


@scenario("barge-in", lambda can: not can.full_duplex, instead="by itself")
async def barge_in(bench: Bench) -> None:
    """The caller speaks into an answer: no more of it comes, it ends as cancelled, and the next one answers him."""
    async with Talk(bench, LONG) as talk:
        talk.agent.say("A long story.")
        began = await talk.until(AssistantAudio, 0)
        await interrupt(talk)
        talk.hush()
        ended = await talk.until(AssistantTurnEnd, 0, lambda end: end.reply_id == began.reply_id)
        assert ended.status == "cancelled"
        cut = talk.heard(began.reply_id)
        assert cut.audio.duration_ms(cut.pcm) < 5500, "the rest of it was never told"
        sounds_like(await talk.reply(talk.seen.index(ended)), SECOND)


# --- tools ------------------------------------------------------------------------------------------------------------


def has_tools(capabilities: Capabilities) -> bool:
    return capabilities.takes_tools


@scenario("tool call and result", has_tools)
async def tool(bench: Bench) -> None:
    """The model calls a tool and goes on, knowing the result, once."""
    script = replace(SHORT, tools={0: ToolUse(TOOL.name, '{"nights":2}')})
    async with Talk(bench, script) as talk:
        talk.speak()
        talk.hush()
        call = await talk.until(ToolCall, 0)
        assert (call.name, call.arguments.replace(" ", "")) == (TOOL.name, '{"nights":2}')
        here = talk.here
        talk.agent.send_tool_result(call.call_id, '{"eur": 240}')
        heard = await talk.reply(talk.seen.index(call) if here == 0 else 0)
        assert heard.pcm, "the model goes on by itself"
        await talk.told("240")
        assert talk.count(ToolCall) == 1
        sounds_like(await talk.turn(), THIRD)


@scenario(
    "tool cancelled by barge-in",
    lambda can: can.takes_tools and not can.full_duplex,
)
async def tool_cancelled(bench: Bench) -> None:
    """The caller interrupts the reply that called: the call is taken back, and a result that comes late is dropped."""
    # Generated at once, heard for longer: a caller whom a busy machine delays interrupts it all the same.
    spoken = replace(FIRST, seconds=3.0)
    script = replace(
        SHORT, utterances=(spoken, SECOND, THIRD), tools={0: ToolUse(TOOL.name, '{"nights":2}', spoken=True)}
    )
    async with Talk(bench, script) as talk:
        talk.speak()
        talk.hush()
        await talk.until(AssistantAudio, 0)
        call = await talk.until(ToolCall, 0)
        here = talk.here
        await interrupt(talk)
        await talk.until(ToolCallCancelled, here, lambda event: event.call_id == call.call_id)
        talk.agent.send_tool_result(call.call_id, '{"eur": 240}')  # a tool that did not notice
        talk.hush()
        assert (await talk.reply(talk.here)).status == "completed"
        assert talk.agent.counters["tool_result_unexpected"] == 1


# --- a session's life -------------------------------------------------------------------------------------------------


async def goes_on(talk: Talk, told: Mapping[int, int]) -> None:
    """Whoever answers now knows what was said and what was changed, and greets nobody again."""
    here = talk.here
    heard = await talk.turn()
    assert talk.count(AssistantTurnStarted, here) == 1
    # A server that was given the conversation begins anew; one that has kept it is where it was.
    sounds_like(heard, FIRST if abs(heard.hz - FIRST.tone_hz) < 5 else SECOND)
    await talk.told("You run a bakery." if talk.capabilities.takes_instructions else "You run a hotel.", told)
    if talk.capabilities.transcribes and not talk.capabilities.can_resume:
        await talk.told("two nights", told)
    replies = [event.reply_id for event in talk.those(AssistantTurnStarted)]
    assert len(replies) == len(set(replies))


@scenario("lost connection")
async def lost(bench: Bench) -> None:
    """The connection breaks without a word: another session goes on, and knows what was said and what was changed."""
    async with Talk(bench, SHORT) as talk:
        sounds_like(await talk.turn(), FIRST)
        if talk.capabilities.takes_instructions:
            talk.agent.update_instructions("You run a bakery.")
        told, sessions = talk.told_until_now, len(talk.server.sessions)
        talk.server.drop()
        if talk.capabilities.has_session:
            await talk.until(Reconnecting, 0)
            assert (await talk.until(Resumed, 0)).context_kept
            assert len(talk.server.sessions) > sessions
        await goes_on(talk, told)


@scenario("session's end", lambda can: can.has_session, instead="no need")
async def ending(bench: Bench) -> None:
    """A session has to end soon: at a quiet moment another one takes its place, and nobody notices."""
    async with Talk(bench, SHORT) as talk:
        sounds_like(await talk.turn(), FIRST)
        if talk.capabilities.takes_instructions:
            talk.agent.update_instructions("You run a bakery.")
        told, sessions = talk.told_until_now, list(talk.server.sessions)
        talk.end_in(60.0)
        assert (await talk.until(Resumed, 0)).context_kept
        assert len(talk.server.sessions) > len(sessions)
        await goes_on(talk, told)
        assert not talk.count(Reconnecting)
        await sessions[0].closed.wait()
        assert sessions[0].close_code == 1000


@scenario("close")
async def close(bench: Bench) -> None:
    """We hang up in the middle of an answer: it ends, then the session, and the WebSocket with 1000."""
    async with Talk(bench, LONG) as talk:
        talk.agent.say("A long story.")
        await talk.until(AssistantAudio, 0)
        await talk.agent.close()
        assert await talk.until(SessionClosed, 0) == SessionClosed("closed", expected=True)
        assert not talk.order.open_replies
        with pytest.raises(AgentClosedError):
            talk.agent.push_audio(b"\0\0")
        for record in talk.server.sessions:
            await record.closed.wait()
            assert record.close_code == 1000
