"""Calls that are recorded: what is in the file is what the phone said and heard, octet by octet."""

from __future__ import annotations

import os
import time
from contextlib import AbstractAsyncContextManager
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from structlog.testing import capture_logs

from sipbridge.outcome import Ended
from sipbridge.prompts import load_prompt
from sipbridge.simulator.script import Script, Utterance
from tests.loopback.earpiece import Packet
from tests.loopback.house import House, house
from tests.loopback.phone import Phone, describe
from tests.loopback.sound import LAWS, ULAW, clean_share, level_db, peak_hz, snr_db, tone
from tests.loopback.test_moves import replaces
from tests.loopback.test_renegotiation import renegotiate

OLD, NEW = 440, 700
GREETS = "agent: {greeting: Hello.}"
Side = NDArray[np.int16]


def recorded(
    script: Script, directory: Path, *, sound_format: str = "wav", more: str = ""
) -> AbstractAsyncContextManager[House]:
    """A house that records."""
    tenant = f"{GREETS}\nrecording: {{enabled: true, format: {sound_format}{more}}}"
    return house(script, tenant=tenant, config=f"recordings: {{directory: {directory}}}")


def read(directory: Path, *, rate: int = 8000) -> tuple[Side, Side]:
    (path,) = (directory / "t").iterdir()
    assert ".part." not in path.name
    sound, found = soundfile.read(path, dtype="int16")
    assert found == rate
    return sound[:, 0], sound[:, 1]


def position(part: bytes, side: Side) -> int:
    """Where these samples are; -1: nowhere."""
    whole, start = side.tobytes(), -1
    while (start := whole.find(part, start + 1)) % 2:
        if start < 0:
            return -1
    return start // 2


def stretches(packets: list[Packet]) -> list[list[Packet]]:
    """Those that follow each other without a pause, be it one of the speaker's or of a machine that was busy."""
    cuts = [index for index in range(1, len(packets)) if packets[index].timestamp != packets[index - 1].timestamp + 160]
    return [packets[start:end] for start, end in pairwise([0, *cuts, len(packets)])]


def likeness_db(part: bytes, side: Side) -> tuple[float, int]:
    """How little of these samples is otherwise where they fit best, and where that is. The phone's clock is ours, but a
    machine that is busy sends packets late enough for some to be moved by a fraction of a sample."""
    said, heard = np.frombuffer(part, "<i2").astype(float), side.astype(float)
    place = int(np.argmax(np.correlate(heard, said, "valid")))
    other = heard[place : place + len(said)] - said
    return float(10 * np.log10(np.sum(said**2) / max(1.0, float(np.sum(other**2))))), place


def linear(octets: bytes) -> bytes:
    return ULAW.to_pcm(octets, 2)


async def interrupt(bench: House, phone: Phone) -> float:
    """The agent speaks, the caller interrupts and is answered. When the caller's last word had been sent."""
    await phone.audio.hear_sound(25, hz=OLD)
    phone.audio.say(tone(1000, 0.3))
    await phone.audio.said()
    said_at = time.monotonic()
    await phone.audio.hear_sound(14, hz=NEW)
    await phone.audio.hear(20)
    await phone.hang_up()
    await bench.report()
    return said_at


@pytest.mark.parametrize("sound_format", ["wav", pytest.param("flac", marks=pytest.mark.slow)])
async def test_a_call_with_an_interruption(tmp_path: Path, sound_format: str) -> None:
    script = Script((Utterance(seconds=6, tone_hz=OLD), Utterance(seconds=0.3, tone_hz=NEW)), speed=0)
    async with recorded(script, tmp_path, sound_format=sound_format) as bench:
        phone = await bench.phone()
        await phone.call()
        said_at = await interrupt(bench, phone)
    far, ours = read(tmp_path)
    packets = list(phone.audio.audio())
    loud = [index for index, packet in enumerate(packets) if level_db(packet.samples) > -90]
    rest, began, until = ours.copy(), 0, 0
    for stretch in stretches([packets[index] for index in loud]):
        heard = linear(b"".join(packet.payload for packet in stretch))
        place = position(heard, ours[until:])
        assert place >= 0, "what was heard, with the fade and without what was thrown away, is in the file untouched"
        began, until = began or place, until + place + len(heard) // 2
        rest[until - len(heard) // 2 : until] = 0
    assert not rest.any(), "and nothing else"
    said = linear(ULAW.encode(tone(1000, 0.3)))
    likeness, place = likeness_db(said, far)
    assert likeness > 35, "what was said is in the file"
    told = (place + len(said) / 2 - began) / 8000
    assert told == pytest.approx(said_at - packets[loud[0]].at, abs=0.04), "both sides are on one clock"


async def test_hold_and_another_codec(tmp_path: Path) -> None:
    """The file keeps its rate and its time."""
    script = Script((Utterance(seconds=20, tone_hz=OLD),), speed=0, vad_rms=1e9)
    async with recorded(script, tmp_path) as bench:
        phone = await bench.phone()
        await phone.call(describe(phone.audio.address, formats=(0,)))
        began = time.monotonic()
        await phone.audio.hear_sound(15, hz=OLD)
        await renegotiate(phone, describe(phone.audio.address, formats=(0,), direction="inactive", version=2))
        held = time.monotonic()
        phone.audio.hush()
        (session,) = bench.model.sessions
        start = len(session.audio)
        await session.wait_until(lambda: len(session.audio) > start + 4800)
        await renegotiate(phone, describe(phone.audio.address, formats=(8,), version=3))
        resumed = time.monotonic()
        phone.audio.connect(phone.audio.remote or ("", 0), 8)
        phone.audio.say(tone(1000, 0.3))
        await phone.audio.said()
        await phone.audio.hear_sound(15, hz=OLD)
        ended = time.monotonic()
        await phone.hang_up()
        await bench.report()
    far, ours = read(tmp_path)
    assert len(ours) / 8000 == pytest.approx(ended - began, abs=0.1)
    loud = np.flatnonzero(ours)
    pauses = np.diff(loud)
    assert pauses.max() / 8000 == pytest.approx(resumed - held, abs=0.06), "silence while nothing was sent"
    said = LAWS[8].to_pcm(LAWS[8].encode(tone(1000, 0.3)), 2)
    assert likeness_db(said, far)[0] > 35
    assert snr_db(ours[loud[0] + 400 : loud[0] + 2000].astype(float), OLD) > 30


async def test_a_notice_comes_first_and_cannot_be_interrupted(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    prompt = load_prompt("one-moment", 8000)
    notice = f", notice: {Path(__file__).parents[2] / 'sipbridge' / 'prompts' / 'one-moment.wav'}"
    script = Script((Utterance(seconds=1, tone_hz=OLD), Utterance(seconds=0.3, tone_hz=NEW)), speed=0)
    async with recorded(script, tmp_path / "here", more=notice) as bench:
        phone = await bench.phone()
        await phone.call()
        phone.audio.say(tone(1000, 0.25))
        await phone.audio.hear_sound(len(prompt) // 640)
        await phone.audio.hear_sound(5, hz=NEW)
        await phone.hang_up()
        await bench.report()
    _, ours = read(tmp_path / "here")
    assert position(linear(ULAW.from_pcm(prompt, 2))[800:-800], ours) >= 0


async def test_a_sentence_as_notice_is_said_with_the_greeting(tmp_path: Path) -> None:
    script = Script((Utterance(seconds=0.3, tone_hz=OLD),), speed=0)
    async with recorded(script, tmp_path, more=", notice: We record this.") as bench:
        phone = await bench.phone()
        await phone.call()
        session = await bench.session()
        request = await session.wait_for("response.create")
        assert "We record this. Hello." in request["response"]["instructions"]
        await phone.audio.hear_sound(5)
        await phone.hang_up()
        await bench.report()
    assert peak_hz(read(tmp_path)[1].astype(float)) == pytest.approx(OLD, abs=10)


async def test_no_place_to_record_to_is_no_reason_to_hang_up() -> None:
    script = Script((Utterance(seconds=1, tone_hz=OLD),), speed=0)
    with capture_logs() as logs:
        async with recorded(script, Path("/proc/nowhere")) as bench:
            phone = await bench.phone()
            await phone.call()
            await phone.audio.hear_sound(40, hz=OLD)
            await phone.hang_up()
            report = await bench.report()
    assert report.ended is Ended.CALLER_HUNG_UP
    (line,) = [entry for entry in logs if entry["event"].startswith("recording")]
    assert line["event"] == "recording stopped"
    assert line["error"] == "No such file or directory"


async def test_who_does_not_ask_for_it_is_not_recorded(tmp_path: Path) -> None:
    script = Script((Utterance(seconds=0.3, tone_hz=OLD),), speed=0)
    async with house(script, tenant=GREETS, config=f"recordings: {{directory: {tmp_path}}}") as bench:
        phone = await bench.phone()
        await phone.call()
        await phone.audio.hear_sound(5)
        await phone.hang_up()
        await bench.report()
    assert os.listdir(tmp_path) == []


async def test_another_telephone_takes_the_call_over(tmp_path: Path) -> None:
    """It is the same conversation, so it is the same file."""
    script = Script((Utterance(seconds=8, tone_hz=OLD),), speed=0, vad_rms=1e9)
    outbound = "outbound: {proxy: 'sip:127.0.0.1:9', ping_seconds: 0}"
    trunk = f"{{name: pbx, sources: ['127.0.0.1'], accept_refer: true, refer_targets: [desk], {outbound}}}"
    config = f"recordings: {{directory: {tmp_path}}}\ntrunks: [{trunk}]"
    async with house(script, tenant=f"{GREETS}\nrecording: {{enabled: true}}", config=config) as bench:
        phone = await bench.phone()
        await phone.call()
        await phone.audio.hear_sound(10, hz=OLD)
        phone.audio.say(tone(600, 0.3))
        await phone.audio.said()
        second = await bench.phone()
        second.invite(headers=replaces(phone))
        answered = await second.expect(200, "INVITE")
        second.ack(answered)
        second.audio.connect(answered.rtp)
        second.audio.say(tone(1500, 0.3))
        await second.audio.said()
        phone.audio.hush()
        await second.audio.hear_sound(10, hz=OLD)
        await second.hang_up()
        await bench.report()
    far, ours = read(tmp_path)
    sound = far.astype(float)
    for hz in (600, 1500):
        angle = 2 * np.pi * hz * np.arange(len(sound)) / 8000
        there = np.flatnonzero(np.abs(np.convolve(sound * np.exp(-1j * angle), np.ones(400) / 400, "same")) > 3000)
        assert len(there) / 8000 == pytest.approx(0.3, abs=0.06), hz
        assert clean_share(sound[there[0] + 400 : there[-1] - 400], hz) > 0.7, hz
    assert np.diff(np.flatnonzero(ours)).max() < 0.2 * 8000
