"""The soft phone calls a callee made of tones, over real sockets on loopback."""

from __future__ import annotations

import asyncio
import re
import wave
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from sipbridge.errors import ConfigError
from sipbridge.prompts import CALLER_TEXT, CALLER_WAV
from sipbridge.simulator.caller import CallOptions, place_call
from sipbridge.simulator.caller_recording import read_speech
from sipbridge.simulator.caller_report import CallReport, TimelineEntry, parse_expectations
from sipbridge.simulator.caller_speech import speak
from tests.media.test_vad import silence, tone
from tests.simulator.agent_stub import AgentStub, Manners, agent_stub

QUICK = CallOptions("", greeting_within_s=0.5, reply_within_s=1.5, turn_gap_s=0.35, barge_in_after_s=0.4)


@pytest.fixture
def sentence(tmp_path: Path) -> Path:
    """0.6 s of a tone that is not the callee's."""
    path = tmp_path / "sentence.wav"
    with wave.open(str(path), "wb") as file:
        file.setsampwidth(2)
        file.setnchannels(1)
        file.setframerate(16000)
        file.writeframes(tone(600, hertz=1000) + silence(100))
    return path


def call(
    manners: Manners, options: CallOptions = QUICK, transport: Literal["udp", "tcp"] = "udp"
) -> tuple[CallReport, AgentStub, list[TimelineEntry]]:
    entries: list[TimelineEntry] = []

    async def main() -> tuple[CallReport, AgentStub]:
        async with agent_stub(manners, transport) as (stub, uri):
            report = await place_call(replace(options, target=uri, transport=transport), entries.append)
            return report, stub

    report, stub = asyncio.run(main())
    return report, stub, entries


def strongest(pcm: bytes) -> float:
    samples = np.frombuffer(pcm, "<i2")
    return float(np.abs(np.fft.rfft(samples)).argmax() / len(samples) * 8000)


def test_the_ladder_of_a_call() -> None:
    report, _, _ = call(Manners(), replace(QUICK, seconds=0.3))
    titles = [re.sub(r"[-<>|]+", "", line[10:]).strip() for line in report.ladder[1:]]
    assert titles[0] == "INVITE +sdp"
    assert titles[-2:] == ["BYE", "200 OK (BYE)"]
    assert "phone" in report.ladder[0].split()


@pytest.mark.parametrize(("transport", "codec"), [("udp", "PCMU"), pytest.param("tcp", "PCMA", marks=pytest.mark.slow)])
def test_a_conversation(sentence: Path, tmp_path: Path, transport: Literal["udp", "tcp"], codec: str) -> None:
    options = replace(
        QUICK,
        wav=sentence,
        record=tmp_path / "heard.wav",
        dtmf="5",
        codecs=(codec,),
        expect=parse_expectations("answered,ringing,greeting<500,reply<800,key<300,heard>1000,2xx"),
    )
    report, stub, entries = call(Manners(), options, transport)
    assert report.unmet == (), report.summary()
    assert report.ok
    assert report.outcome == "completed"
    assert report.codec == codec
    texts = [entry.text for entry in report.timeline]
    assert [text.split(" after")[0] for text in texts[1:]] == [
        "180 Ringing",
        "200 OK",
        "greeting heard",
        "caller speaks",
        "answer heard",
        "caller presses 5",
        "answer to the key heard",
        "hang up",
    ]
    assert texts[0].startswith("INVITE sip:agent@127.0.0.1:")
    assert sorted(map(str, entries)) == sorted(map(str, report.timeline))
    # The callee waits 300 ms; packets and detectors are good for 20 ms on each side.
    assert 260 <= report.figures["reply"] <= 450
    assert report.figures["heard"] == pytest.approx(400 + 500 + 200, abs=60)
    assert stub.keys == "5"
    assert stub.ended[0].cause.value == "remote_bye"
    assert strongest(bytes(stub.heard)) == pytest.approx(1000, abs=2)
    assert abs(report.packets["sent"] - report.packets["received"]) < 15
    with wave.open(str(tmp_path / "heard.wav")) as file:
        assert file.getframerate() == 8000
        assert file.getnframes() / 8 == pytest.approx(report.figures["duration"], abs=80)
        assert strongest(file.readframes(file.getnframes())) == pytest.approx(300, abs=2)


def test_an_interruption_is_timed(sentence: Path, tmp_path: Path) -> None:
    options = replace(QUICK, wav=sentence, barge_in=True, record=tmp_path / "both.wav", stereo=True)
    report, _, _ = call(Manners(answer_ms=1200), options)
    texts = [entry.text for entry in report.timeline]
    assert "caller interrupts" in texts
    # The callee needs 60 ms to be sure, and what is heard is timed by whole packets; they and the clocks take up to 20
    # ms each way.
    assert 40 <= report.figures["flush"] <= 160, report.summary()
    assert any(text.startswith("barge-in flushed in") for text in texts)
    with wave.open(str(tmp_path / "both.wav")) as file:
        assert file.getnchannels() == 2


def test_a_callee_that_does_not_give_way_is_found_out(sentence: Path) -> None:
    options = replace(QUICK, wav=sentence, barge_in=True, expect=parse_expectations("flush<300"))
    report, _, _ = call(Manners(answer_ms=1200, gives_way=False), options)
    assert report.figures["flush"] > 600
    assert report.unmet == ("flush<300",)
    assert not report.ok


def test_a_callee_that_hangs_up() -> None:
    options = replace(QUICK, dtmf="1#", expect=parse_expectations("bye,key"))
    report, stub, _ = call(Manners(), options)
    assert report.ok
    assert report.outcome == "the other side hung up"
    assert stub.keys == "1#"
    assert report.timeline[-1].text == "BYE received"


def test_a_silent_callee_and_one_without_keys(sentence: Path) -> None:
    options = replace(QUICK, dtmf="1", reply_within_s=0.3, expect=parse_expectations("silence"))
    report, _, _ = call(Manners(greeting_ms=0, keys=False), options)
    assert report.ok
    assert "greeting" not in report.figures
    assert any("takes no keys" in entry.text for entry in report.timeline)


def test_with_nothing_to_do_it_listens_for_so_many_seconds() -> None:
    report, _, _ = call(Manners(), replace(QUICK, seconds=0.8))
    assert report.figures["duration"] == pytest.approx(800, abs=30)
    assert report.ok


@pytest.mark.parametrize(("status", "expected"), [(486, "busy"), (480, "480"), (488, "4xx")])
def test_a_refusal(status: int, expected: str) -> None:
    report, _, _ = call(Manners(status=status))
    assert not report.ok
    assert report.status == status
    assert report.timeline[-1].text.startswith(f"{status} ")
    report.expected = parse_expectations(expected)
    assert report.ok


def test_nobody_answers() -> None:
    report, stub, _ = call(Manners(status=0), replace(QUICK, ring_seconds=0.2))
    assert not report.ok
    assert (report.status, report.cause) == (0, "cancelled")
    assert stub.ended[0].cause.value == "cancelled"


def test_the_codec_is_the_one_that_was_answered() -> None:
    report, _, _ = call(Manners(codecs=("PCMA",)), replace(QUICK, seconds=0.2))
    assert report.codec == "PCMA"


def test_cancelled_it_hangs_up_first() -> None:
    async def main() -> AgentStub:
        async with agent_stub(Manners()) as (stub, uri):
            answered = asyncio.Event()
            entries: list[str] = []

            def on_entry(entry: TimelineEntry) -> None:
                entries.append(entry.text)
                if entry.text.startswith("greeting"):
                    answered.set()

            task = asyncio.create_task(place_call(replace(QUICK, target=uri, seconds=30), on_entry))
            await answered.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            return stub

    assert [end.cause.value for end in asyncio.run(main()).ended] == ["remote_bye"]


def test_nobody_there_over_tcp() -> None:
    report = asyncio.run(place_call(replace(QUICK, target="sip:agent@127.0.0.1:1;transport=tcp")))
    assert not report.ok
    assert report.cause == "flow_failed"


def test_an_unknown_host_cannot_be_reached() -> None:
    report = asyncio.run(place_call(replace(QUICK, target="sip:agent@host.invalid")))
    assert not report.ok
    assert report.cause == "flow_failed"


@pytest.mark.parametrize(
    "options",
    [
        replace(QUICK, target="agent"),
        replace(QUICK, target="tel:+15550100"),
        replace(QUICK, target="sip:a@127.0.0.1", dtmf="5x"),
        replace(QUICK, target="sip:a@127.0.0.1", barge_in=True),
        replace(QUICK, target="sip:a@127.0.0.1", codecs=("MP3",)),
        replace(QUICK, target="sip:a@127.0.0.1", from_="nobody"),
        replace(QUICK, target="sip:a@127.0.0.1", wav=Path("missing.wav")),
    ],
)
def test_options_that_cannot_be_used(options: CallOptions) -> None:
    with pytest.raises(ConfigError):
        asyncio.run(place_call(options))


def test_a_recording_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    report, stub, _ = call(Manners(), replace(QUICK, seconds=0.2, record=tmp_path / "missing" / "heard.wav"))
    assert "missing" in report.error
    assert not report.ok
    assert stub.ended


def test_words_to_say() -> None:
    assert asyncio.run(speak(CALLER_TEXT)) == read_speech(CALLER_WAV)
    assert asyncio.run(speak("goodbye"))
    with pytest.raises(ConfigError, match="no-such-program"):
        asyncio.run(speak("What time is it?", program="no-such-program"))
    with pytest.raises(ConfigError, match="no sound"):
        asyncio.run(speak("What time is it?", program="false"))
