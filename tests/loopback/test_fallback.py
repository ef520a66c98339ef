"""An agent fails, and the caller hears who goes on: a gateway, two vendors' servers and a telephone, over real sockets.

What the first model says is 440 Hz here, the second 700 Hz, sentences of ours 900 Hz.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np
import pytest

from sipbridge.outcome import Ended
from sipbridge.simulator.model import ModelServer
from sipbridge.simulator.script import Fault, Script, Utterance
from tests.loopback.earpiece import is_loud
from tests.loopback.house import House, house, within
from tests.loopback.phone import Phone
from tests.loopback.sound import tone

GREETING = "Hello, this is ACME. How are you, and what can I do for you today?"
FIRST = Utterance(GREETING, seconds=3, tone_hz=440)
SECOND = Utterance("I am here now.", seconds=0.6, tone_hz=700)
DESK = "sip:desk@example.com"
TARGETS = f"tools: {{transfer_call: {{targets: {{desk: '{DESK}'}}, via: refer}}}}\n"
BRIEF = "deadlines: {connect_seconds: 1, first_audio_seconds: 0.7, reply_seconds: 0.7}\n"
MOST_SILENCE_S = 2.0


@pytest.fixture(autouse=True)
def _our_sentences_are_tones(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(name: object, rate: int) -> bytes:
        return np.round(tone(900, 0.3, rate=rate) * 32767).astype("<i2").tobytes()

    for place in ("floor.load_prompt", "meanwhile.load_prompt", "sounds.load_wav"):
        monkeypatch.setattr(f"sipbridge.conversation.{place}", load)


@asynccontextmanager
async def two_vendors(
    script: Script, fallback: str, *, wire: str = "gemini", tenant: str = ""
) -> AsyncIterator[tuple[House, ModelServer]]:
    """`{second}` in `fallback` is where the second one is."""
    async with ModelServer(Script((SECOND,)), wire=wire) as second:
        steps = fallback.replace("{second}", f"{{provider: {wire}, api_key: k-0123456789, url: '{second.url}'}}")
        text = f"agent: {{greeting: '{GREETING}'}}\n{TARGETS}{tenant}fallback: {steps}\n"
        async with house(script, tenant=text) as bench:
            yield bench, second
        for record in second.sessions:
            assert record.violations == []


def longest_silence(phone: Phone, since: float) -> float:
    """Between two packets with sound, from then on."""
    moments = [since, *(packet.at for packet in phone.audio.audio() if packet.at > since and is_loud(packet))]
    return max((later - earlier for earlier, later in zip(moments, moments[1:], strict=False)), default=99.0)


async def hang_up(bench: House, phone: Phone) -> None:
    await phone.hang_up()
    report = await bench.report()
    assert report.ended is Ended.CALLER_HUNG_UP
    assert report.fallback[-1].endswith("stands in")


# --- before the answer ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["status:401", "status:429", "status:503", "refuse_setup", "silence", "slow:5000"])
async def test_another_vendor_is_tried_while_it_rings(fault: str) -> None:
    script = Script(fault=Fault.parse(fault))
    async with two_vendors(script, "[{agent: {second}}]", tenant=BRIEF) as (bench, second):
        phone = await bench.phone()
        await phone.call()
        await phone.audio.hear_sound(20, hz=700)
        assert phone.statuses().count(180) == 1
        assert not any(is_loud(packet, 900) for packet in phone.audio.audio()), "nobody hears of a failure"
        await hang_up(bench, phone)
        await within(1.0, second.sessions[0].closed)


async def test_a_prompt_that_comes_first_answers_the_call() -> None:
    chain = "[{prompt: one-moment.wav}, {agent: {second}}]"
    async with two_vendors(Script(fault=Fault("status", "401")), chain) as (bench, _):
        phone = await bench.phone()
        await phone.call()
        word = await phone.audio.hear_sound(10, hz=900)
        reply = await phone.audio.hear_sound(20, hz=700)
        assert reply[0].at > word[-1].at
        await hang_up(bench, phone)


async def test_a_person_takes_the_call_that_no_agent_could() -> None:
    async with two_vendors(Script(fault=Fault("status", "401")), "[{transfer: desk}]") as (bench, _):
        phone = await bench.phone()
        await phone.call()
        refer = await phone.expect("REFER")
        assert refer["Refer-To"] == f"<{DESK}>"
        assert any(is_loud(packet, 900) for packet in phone.audio.audio()), "it is announced"
        phone.respond(refer, 202, "Accepted")
        phone.notify("SIP/2.0 200 OK\r\n", state="terminated;reason=noresource")
        await phone.expect("BYE")
        assert (await bench.report()).ended is Ended.TRANSFERRED


async def test_all_that_could_answer_refuse() -> None:
    async with two_vendors(Script(fault=Fault("status", "401")), "[{agent: {second}}]") as (bench, second):
        second.script = Script(fault=Fault("status", "429"))
        phone = await bench.phone()
        phone.invite()
        refused = await phone.expect(480)
        phone.ack_failure(refused)
        assert "agent_not_ready: 401" in refused["Reason"]
        report = await bench.report()
        assert report.ended is Ended.AGENT_NOT_READY
        assert len(report.fallback) == 2


# --- in the call ------------------------------------------------------------------------------------------------------

BREAKS = {
    "dropped in mid-word": ("drop", "503"),
    "closed by the vendor": ("close:1011", "503"),
    "out of quota": ("close:1011", "429"),
    "and now the key is wrong": ("drop", "401"),
    "does not answer any more": ("drop", ""),
}


@pytest.mark.parametrize(
    ("wire", "what"),
    [
        ("gemini", "dropped in mid-word"),
        *(("openai", what) for what in BREAKS),
        *(pytest.param("gemini", what, marks=pytest.mark.slow) for what in list(BREAKS)[1:]),
    ],
)
async def test_another_vendor_goes_on_in_mid_sentence(what: str, wire: str) -> None:
    """At the speed of speech, so that it stops in a word. The vendor lets nobody in again."""
    fault, status = BREAKS[what]
    script = Script((FIRST,), speed=1.2, fault=Fault(*fault.partition(":")[::2], after=12))
    async with two_vendors(script, "[{agent: {second}}]", wire=wire) as (bench, second):
        phone = await bench.phone()
        await phone.call()
        await bench.session()
        bench.model.script = Script(fault=Fault("status", status) if status else Fault("silence"))
        heard = await phone.audio.hear_sound(10, hz=440)
        reply = await phone.audio.hear_sound(20, hz=700, within=8.0)
        old = [packet for packet in phone.audio.audio() if is_loud(packet, 440)]
        assert longest_silence(phone, heard[-1].at) < MOST_SILENCE_S
        assert reply[0].at - old[-1].at < 3.0, "the gap at a switch"
        told = "".join(str(entry.message) for entry in second.sessions[0].received)
        assert "Hello, this is" in told, "it knows what was said"
        assert (await bench.session()).closed.is_set()
        await hang_up(bench, phone)


async def test_open_and_not_a_word() -> None:
    """The connection stays, the reply stops."""
    script = Script((FIRST,), speed=1.2, fault=Fault("hang", after=12))
    async with two_vendors(script, "[{agent: {second}}]", tenant=BRIEF) as (bench, _):
        phone = await bench.phone()
        await phone.call()
        heard = await phone.audio.hear_sound(10, hz=440)
        await phone.audio.hear_sound(20, hz=700, within=8.0)
        assert longest_silence(phone, heard[-1].at) < 0.7 + MOST_SILENCE_S
        await within(1.5, (await bench.session()).closed)
        await hang_up(bench, phone)


async def test_replies_that_are_refused_for_their_rate() -> None:
    script = Script(fault=Fault("rate_limit", "9"))
    async with two_vendors(script, "[{agent: {second}}]") as (bench, _):
        phone = await bench.phone()
        await phone.call()
        began = time.monotonic()
        reply = await phone.audio.hear_sound(20, hz=700, within=8.0)
        assert reply[0].at - began < MOST_SILENCE_S
        await hang_up(bench, phone)


async def test_garbage_is_no_failure() -> None:
    async with two_vendors(Script((FIRST,), fault=Fault("garbage")), "[{agent: {second}}]") as (bench, second):
        phone = await bench.phone()
        await phone.call()
        await phone.audio.hear_sound(40, hz=440, within=5.0)
        await phone.hang_up()
        assert (await bench.report()).fallback == ()
        assert second.sessions == []


async def test_nobody_is_left() -> None:
    script = Script((FIRST,), speed=1.2, fault=Fault("drop", after=12))
    async with two_vendors(script, "[{agent: {second}}, {transfer: desk}]") as (bench, second):
        second.script = Script(fault=Fault("status", "401"))
        phone = await bench.phone()
        await phone.call()
        await bench.session()
        bench.model.script = Script(fault=Fault("status", "503"))
        heard = await phone.audio.hear_sound(10, hz=440)
        refer = await phone.expect("REFER", within=8.0)
        phone.respond(refer, 603, "Decline")
        bye = await phone.expect("BYE", within=8.0)
        assert bye["Reason"].startswith('Q.850;cause=41;text="provider_failed')
        assert longest_silence(phone, heard[-1].at) < MOST_SILENCE_S
        report = await bench.report()
        assert report.ended is Ended.PROVIDER_FAILED
        assert len(report.fallback) == 3
