"""From the INVITE to where both can talk: when it is answered, what is heard until then. Virtual time, no sockets."""

from __future__ import annotations

import asyncio
import math
import wave
from array import array
from pathlib import Path

import pytest

from sipbridge.agent import AssistantAudio, AssistantTurnStarted
from sipbridge.errors import AgentStartError, ConfigError
from sipbridge.media.events import Audio, Drained, KeyPressed
from sipbridge.outcome import Ended
from sipbridge.sip.events import CallEnded, EndCause
from tests import virtual
from tests.call.fakes import Call, FakeLeg, settle

GREETS = "agent: {provider: scripted, greeting: Hello}\n"
SILENT = "agent: {provider: scripted}\n"


def ended(cause: EndCause, status: int | None = None) -> CallEnded:
    return CallEnded(None, cause, status, "")  # type: ignore[arg-type]  # the session does not look at the call


def a_wav(path: Path, seconds: float) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        samples = array("h", (round(8000 * math.sin(n)) for n in range(round(8000 * seconds))))
        file.writeframes(samples.tobytes())
    return path


def heard(call: Call) -> list[str]:
    """The items that were played, in order; of a sound that is looped any number of pieces."""
    names = [item.partition("-")[0] if item.startswith("sound-") else item for _, item, _ in call.stream.given]
    return [name for name, before in zip(names, ["", *names], strict=False) if name != before]


async def all_is_heard(call: Call) -> None:
    """What waits on the stream is heard to its end."""
    for item in call.stream.finished[:]:
        call.stream.finished.remove(item)
        call.session.media_event(Drained(0, item))
    await settle()


# --- ring_then_answer -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rings", "model_s", "answered_s"), [(1, 0.5, 5.0), (2, 0.0, 10.0), (1, 2.9, 5.0)])
def test_it_rings_so_often_and_the_model_is_asked_just_in_time(rings: int, model_s: float, answered_s: float) -> None:
    async def scenario() -> None:
        call = Call(f"{GREETS}answer: ring_then_answer\nrings: {rings}", start=model_s)
        loop = asyncio.get_running_loop()
        began = loop.time()
        call.begin()
        await virtual.pass_time(rings * 5 - 3.1)
        assert call.leg.steps == [("180",)]
        assert call.agents == [], "nobody pays for a model that listens to a ringing tone"
        await call.leg.media_open.wait()
        await settle()
        assert loop.time() - began == pytest.approx(answered_s)
        assert call.agent.commands == [("say", "Hello")]
        call.session.sip_event(ended(EndCause.REMOTE_BYE))
        assert (await call.over()).setup_ms == answered_s * 1000

    virtual.run(scenario())


@virtual.timed
async def test_a_model_that_cannot_be_had_is_480_though_it_rings_by_count() -> None:
    call = Call(f"{GREETS}answer: ring_then_answer", start=AgentStartError("no", code="401"))
    call.begin()
    report = await call.over()
    assert (report.ended, report.status, report.setup_ms) == (Ended.AGENT_NOT_READY, 480, None)
    assert call.leg.steps[1] == (480, 'Q.850;cause=41;text="agent_not_ready: 401"')


@virtual.timed
async def test_who_gives_up_in_the_first_rings_costs_no_session() -> None:
    call = Call(f"{GREETS}answer: ring_then_answer")
    call.begin()
    await virtual.pass_time(4)
    call.session.sip_event(ended(EndCause.CANCELLED, 487))
    report = await call.over()
    assert (report.ended, report.status) == (Ended.CALLER_CANCELLED, 487)
    assert call.agents == []


@virtual.timed
async def test_an_invite_that_expires_was_not_answered() -> None:
    call = Call(f"{GREETS}answer: ring_then_answer")
    call.begin()
    await virtual.pass_time(8)
    call.session.sip_event(ended(EndCause.TIMEOUT, 487))
    assert (await call.over()).ended is Ended.NO_ANSWER
    assert call.agent.closed


# --- immediately ------------------------------------------------------------------------------------------------------


@virtual.timed
async def test_the_tone_is_heard_until_the_agents_first_word() -> None:
    call = Call(f"{GREETS}answer: immediately", start=1.0)
    call.begin()
    await settle()
    assert [step[0] for step in call.leg.steps] == ["180", "200"]
    assert heard(call) == ["sound"]
    assert not call.agent.commands
    await virtual.pass_time(1.1)
    assert call.agent.commands == [("say", "Hello")]
    assert call.stream.discards == 0, "nobody has said anything yet"
    call.agent.emit(AssistantTurnStarted("r"), AssistantAudio("r", "i", bytes(4800)))
    await settle()
    assert call.stream.discards == 1
    assert heard(call) == ["sound", "i"]
    call.session.sip_event(ended(EndCause.REMOTE_BYE))
    report = await call.over()
    assert (report.ended, report.setup_ms) == (Ended.CALLER_HUNG_UP, 0)


@virtual.timed
async def test_where_the_caller_is_to_begin_the_tone_ends_when_the_model_hears() -> None:
    call = Call(f"{SILENT}answer: immediately", start=1.0)
    call.begin()
    await virtual.pass_time(0.5)
    assert call.stream.discards == 0
    await virtual.pass_time(0.6)
    assert call.stream.discards == 1
    call.session.media_event(Audio(0, bytes(640)))
    assert call.agent.commands == [("audio", 640)]
    call.session.end(Ended.SHUTDOWN)
    await call.over()


@virtual.timed
async def test_no_sound_where_none_is_wanted() -> None:
    call = Call(f"{GREETS}answer: immediately\nwaiting_sound: null", start=1.0)
    call.begin()
    await virtual.pass_time(0.9)
    assert heard(call) == []
    call.session.end(Ended.SHUTDOWN)
    await call.over()


def test_a_sentence_is_heard_to_its_end_and_followed_by_the_tone(tmp_path: Path) -> None:
    async def scenario(model_s: float) -> list[str]:
        call = Call(f"{GREETS}answer: immediately\nwaiting_sound: {a_wav(tmp_path / 'w.wav', 2)}", start=model_s)
        call.begin()
        await settle()
        assert heard(call) == ["welcome"]
        await virtual.pass_time(2)
        await all_is_heard(call)
        await virtual.pass_time(0.5)
        call.agent.emit(AssistantTurnStarted("r"), AssistantAudio("r", "i", bytes(4800)))
        await settle()
        items = heard(call)
        call.session.end(Ended.SHUTDOWN)
        await call.over()
        return items

    assert virtual.run(scenario(0.1)) == ["welcome", "i"]
    assert virtual.run(scenario(2.4)) == ["welcome", "sound", "i"]


def test_music_gives_way(tmp_path: Path) -> None:
    async def scenario() -> None:
        call = Call(f"{GREETS}answer: immediately\nwaiting_sound: {a_wav(tmp_path / 'm.wav', 6)}", start=0.2)
        call.begin()
        await settle()
        assert heard(call) == ["sound"]
        pieces = len(call.stream.given)
        await all_is_heard(call)
        assert len(call.stream.given) > pieces, "over and over"
        await virtual.pass_time(0.3)
        call.agent.emit(AssistantTurnStarted("r"), AssistantAudio("r", "i", bytes(4800)))
        await settle()
        assert call.stream.discards == 1
        call.session.end(Ended.SHUTDOWN)
        await call.over()

    virtual.run(scenario())


@virtual.timed
async def test_answered_and_no_model_is_said_aloud() -> None:
    call = Call(f"{GREETS}answer: immediately", start=AgentStartError("no", code="401"))
    call.begin()
    await settle()
    assert [step[0] for step in call.leg.steps] == ["180", "200"]
    assert heard(call)[-1] == "prompt-unavailable"
    await all_is_heard(call)
    report = await call.over()
    assert (report.ended, report.status) == (Ended.AGENT_NOT_READY, None)
    assert call.leg.steps[-1] == ("close", 'Q.850;cause=41;text="agent_not_ready"')


@virtual.timed
async def test_who_hangs_up_while_the_tone_is_heard_has_hung_up() -> None:
    call = Call(f"{GREETS}answer: immediately", start=2.0)
    call.begin()
    await virtual.pass_time(1)
    call.session.sip_event(ended(EndCause.REMOTE_BYE))
    assert (await call.over()).ended is Ended.CALLER_HUNG_UP
    assert call.agent.closed


@virtual.timed
async def test_a_key_that_is_pressed_before_the_agent_is_there_is_known_to_it() -> None:
    call = Call(f"{GREETS}answer: immediately", start=3.0)
    call.begin()
    await settle()
    call.session.media_event(KeyPressed(0, "1"))
    await virtual.pass_time(3.1)
    assert call.agent.commands == [("text", "The caller pressed 1."), ("say", "Hello")]
    call.session.end(Ended.SHUTDOWN)
    await call.over()


# --- early media ------------------------------------------------------------------------------------------------------


@virtual.timed
async def test_early_media_is_heard_until_the_answer() -> None:
    call = Call(f"{GREETS}early_media: true", start=2.0)
    call.begin()
    await settle()
    assert call.leg.steps == [("183",)]
    assert heard(call) == ["sound"]
    pieces = len(call.stream.given)
    await all_is_heard(call)
    assert len(call.stream.given) > pieces
    assert not call.session.answered
    await virtual.pass_time(2.1)
    assert call.leg.steps[1][0] == "200"
    assert call.stream.discards == 1
    assert call.agent.commands == [("say", "Hello")]
    call.session.end(Ended.SHUTDOWN)
    await call.over()


@pytest.mark.parametrize("keys", ["early_media: true\nwaiting_sound: null", "waiting_sound: tone"])
def test_no_early_media_without_both(keys: str) -> None:
    async def scenario() -> None:
        call = Call(f"{GREETS}{keys}", start=1.0)
        call.begin()
        await settle()
        assert call.leg.steps == [("180",)]
        call.session.end(Ended.SHUTDOWN)
        await call.over()

    virtual.run(scenario())


def test_a_sound_that_is_none_is_an_error_of_its_line() -> None:
    with pytest.raises(ConfigError, match=r"t\.yaml:2: waiting_sound: .*nothing\.wav: No such file"):
        Call(f"{GREETS}waiting_sound: nothing.wav")


# --- calls that we make -----------------------------------------------------------------------------------------------


class Callee(FakeLeg):
    """Somebody whom we call; answers after so many seconds."""

    outbound = True

    def __init__(self, machine: str = "", after: float = 0.5) -> None:
        super().__init__()
        self.machine = machine
        self._after = after

    async def answer(self) -> None:
        await virtual.pass_time(self._after)
        await super().answer()


@virtual.timed
async def test_a_machine_is_told_to_the_agent_and_in_the_report() -> None:
    call = Call("agent: {provider: scripted, instructions: Be brief., greeting: Hello}", leg=Callee("voicemail"))
    await call.up()
    told, said = call.agent.commands
    assert told[0] == "instructions"
    assert told[1].startswith("Be brief.\n\n")
    assert "machine" in told[1]
    assert "voicemail" in told[1]
    assert said == ("say", "Hello")
    call.session.sip_event(ended(EndCause.REMOTE_BYE))
    report = await call.over()
    assert (report.ended, report.machine) == (Ended.CALLEE_HUNG_UP, "voicemail")


@virtual.timed
async def test_templates_may_ask_for_the_machine() -> None:
    tenant = (
        "agent:\n  provider: scripted\n"
        "  instructions: 'You call {% if call.machine %}a {{ call.machine }}{% else %}somebody{% endif %}.'\n"
        "  greeting: '{% if call.machine %}Please call back.{% else %}Hello{% endif %}'\n"
    )
    call = await Call(tenant, leg=Callee("voicemail")).up()
    assert call.agent.options.instructions == "You call somebody."
    assert call.agent.commands == [("instructions", "You call a voicemail."), ("say", "Please call back.")]
    call.session.end(Ended.SHUTDOWN)
    await call.over()
    call = await Call(tenant, leg=Callee()).up()
    assert call.agent.commands == [("say", "Hello")]
    call.session.end(Ended.SHUTDOWN)
    assert (await call.over()).machine == ""


@virtual.timed
async def test_a_tenant_may_have_no_word_for_machines() -> None:
    call = Call(f"{GREETS}machine: hang_up", leg=Callee("announcement"))
    call.begin()
    report = await call.over()
    assert (report.ended, report.machine) == (Ended.ANSWERING_MACHINE, "announcement")
    assert call.agent.commands == []
    assert call.leg.steps[-1] == ("close", 'Q.850;cause=16;text="answering_machine"')


@virtual.timed
async def test_how_calls_are_answered_does_not_concern_those_that_we_make() -> None:
    call = Call(f"{GREETS}answer: immediately\nearly_media: true", leg=Callee(after=9), start=1.0)
    call.begin()
    await settle()
    assert call.leg.steps == [("180",)]
    call.session.end(Ended.CANCELLED)
    await call.over()


@virtual.timed
async def test_who_answers_before_the_model_is_there_hears_a_word() -> None:
    call = Call(GREETS, leg=Callee(), start=2.5)
    call.begin()
    await virtual.pass_time(1.4)
    assert call.session.answered
    assert heard(call) == []
    await virtual.pass_time(0.2)
    assert heard(call) == ["prompt-one-moment"]
    await virtual.pass_time(1.0)
    assert call.agent.commands == [("say", "Hello")]
    call.session.sip_event(ended(EndCause.REMOTE_BYE))
    report = await call.over()
    assert (report.ended, report.setup_ms) == (Ended.CALLEE_HUNG_UP, 500)


@virtual.timed
async def test_a_machine_costs_no_model_where_nobody_is_to_talk_to_it() -> None:
    call = Call(f"{GREETS}machine: hang_up", leg=Callee("voicemail"), start=2.5)
    call.begin()
    report = await call.over()
    assert (report.ended, report.seconds) == (Ended.ANSWERING_MACHINE, 0.5)
    assert call.agent.closed


@virtual.timed
async def test_a_machine_that_answers_while_the_model_connects() -> None:
    tenant = "agent: {provider: scripted, instructions: '{{ call.machine }}', greeting: 'Hello {{ call.machine }}'}"
    call = await Call(tenant, leg=Callee("voicemail"), start=1.0).up()
    await virtual.pass_time(1.0)
    assert call.agent.commands == [("instructions", "voicemail"), ("say", "Hello voicemail")]
    call.session.end(Ended.SHUTDOWN)
    await call.over()
