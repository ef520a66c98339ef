"""Recordings as files, made by a real thread; and what is left of them when everything goes wrong."""

from __future__ import annotations

import asyncio
import errno
import io
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path

import numpy as np
import pytest
import soundfile
from structlog.testing import capture_logs

from sipbridge.audio import PCMU
from sipbridge.history.facts import Fact, Noted, RecordingReady
from sipbridge.recording_files.about import HEAD_BYTES, About, folder_name
from sipbridge.recording_files.keys import Key, KeyRing
from sipbridge.recording_files.library import replay
from sipbridge.recording_files.medium import PlainFile
from sipbridge.recording_files.sealed import Closing, SealedReader
from sipbridge.recordings import Recording, Recordings
from sipbridge.sound_files import SoundFormat, WavFile, create

VOICE = b"\x80" * 160
FORMATS: list[SoundFormat] = ["wav", "flac"]


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def converse(recording: Recording, clock: Clock, packets: int = 100) -> None:
    """The far end speaks, and so do we."""
    for _ in range(packets):
        recording.sent(VOICE, PCMU, clock.now)
        clock.now += 0.02
        recording.received(VOICE, PCMU, clock.now)


def run(scenario: Callable[[], Coroutine[None, None, None]]) -> None:
    asyncio.run(asyncio.wait_for(scenario(), 20))


@pytest.mark.parametrize("sound_format", FORMATS)
def test_a_call_is_a_file_under_its_name(tmp_path: Path, sound_format: SoundFormat) -> None:
    clock = Clock()

    async def scenario() -> None:
        recordings = Recordings(tmp_path / "deep" / "down", clock)
        recording = recordings.begin(About("a84b4c76@192.0.2.1", "acme"), rate=8000, sound_format=sound_format)
        converse(recording, clock)
        recording.ended(clock.now)
        await recordings.close()
        assert recordings.counters == {"started": 1, "finished": 1, "dropped": 0}

    with capture_logs() as logs:
        run(scenario)
    path = tmp_path / "deep" / "down" / "acme" / f"{About('a84b4c76@192.0.2.1', '').file_name}.{sound_format}"
    assert list(path.parent.iterdir()) == [path]
    assert path.parent.stat().st_mode & 0o777 == 0o700
    sound, rate = soundfile.read(path, dtype="int16")
    assert (rate, sound.shape) == (8000, (16000, 2))
    assert sound[1000:-1000].min() == sound[1000:-1000].max() == 32124
    assert [entry["event"] for entry in logs] == ["recording finished"]


def test_a_call_id_is_a_strangers_text(tmp_path: Path) -> None:
    clock = Clock()
    wild = ["../../../../etc/passwd", "a\0b", "x" * 500, "", "ü\udcff", "a/b", "a_b"]

    async def scenario() -> None:
        recordings = Recordings(tmp_path / "here", clock)
        for call_id in wild * 2:
            recording = recordings.begin(About(call_id, "t"), rate=8000)
            converse(recording, clock, 2)
            recording.ended(clock.now)
        await recordings.close()
        assert recordings.counters["finished"] == 2 * len(wild)

    run(scenario)
    assert [path.name for path in tmp_path.iterdir()] == ["here"]
    assert len(list((tmp_path / "here" / "t").iterdir())) == 2 * len(wild)


def test_pause_leaves_silence_and_time(tmp_path: Path) -> None:
    clock = Clock()

    async def scenario() -> None:
        recordings = Recordings(tmp_path, clock)
        recording = recordings.begin(About("a", "t"), rate=8000)
        converse(recording, clock)
        recording.pause()
        converse(recording, clock)
        assert not any(sound and VOICE in sound for _, _, sound, _ in list(recording.waiting)[-90:])
        recording.resume()
        converse(recording, clock)
        recording.ended(clock.now)
        await recordings.close()

    run(scenario)
    (path,) = (tmp_path / "t").iterdir()
    sound, _ = soundfile.read(path, dtype="int16")
    assert len(sound) == 48000
    for side in (0, 1):
        assert 100 + np.flatnonzero(sound[100:, side] == 0).min() == pytest.approx(16000, abs=200)
        assert not sound[16200:31800, side].any()
        assert sound[32400:47000, side].all()


def test_the_gateway_stops_in_mid_call(tmp_path: Path) -> None:
    clock = Clock()

    async def scenario() -> None:
        recordings = Recordings(tmp_path, clock)
        converse(recordings.begin(About("a", "t"), rate=8000), clock)
        await recordings.close()
        assert recordings.counters["finished"] == 1

    run(scenario)
    (path,) = (tmp_path / "t").iterdir()
    assert soundfile.info(path).frames == 16000


class TestWhatGoesWrong:
    """The recording stops, the others go on, one line says why."""

    def outcome(self, directory: Path, create_file: Callable[..., WavFile]) -> tuple[str, str]:
        clock = Clock()

        async def scenario() -> None:
            recordings = Recordings(directory, clock, create_file=create_file)
            recording = recordings.begin(About("a", "t"), rate=8000)
            converse(recording, clock)
            await recordings.close()
            converse(recording, clock)
            assert not recording.waiting, "nothing is kept for a file that will not be"
            assert recordings.counters["failed"] == 1
            assert recordings.counters["finished"] == 0

        with capture_logs() as logs:
            run(scenario)
        (entry,) = logs
        assert entry["call_id"] == "a"
        return entry["event"], entry["error"]

    def test_the_disk_is_full(self, tmp_path: Path) -> None:
        def on_a_full_disk(path: Path, rate: int, *_: object) -> WavFile:
            return WavFile(PlainFile(os.open("/dev/full", os.O_RDWR)), rate)

        said = self.outcome(tmp_path, on_a_full_disk)
        assert said == ("recording stopped", os.strerror(errno.ENOSPC))

    def test_the_disk_becomes_full(self, tmp_path: Path) -> None:
        class Small(WavFile):
            def write(self, pcm: bytes, /) -> None:
                super().write(pcm[:800])
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        def small(path: Path, rate: int, *_: object) -> WavFile:
            return Small(PlainFile(os.open(path, os.O_RDWR | os.O_CREAT, 0o600)), rate)

        self.outcome(tmp_path, small)
        (path,) = (tmp_path / "t").iterdir()
        assert path.name == f"{About('a', '').file_name}.part.wav"
        assert soundfile.info(path).frames == 200, "what there was can be heard"

    @pytest.mark.parametrize("directory", ["/proc/nowhere", "/dev/null/recordings"])
    def test_there_is_no_directory_and_none_can_be_made(self, directory: str) -> None:
        event, error = self.outcome(Path(directory), create)  # type: ignore[arg-type]
        assert event == "recording stopped"
        assert error in ("No such file or directory", "Not a directory")

    def test_one_fails_another_goes_on(self, tmp_path: Path) -> None:
        clock = Clock()
        (tmp_path / "bad").write_text("a file where a directory should be")

        async def scenario() -> None:
            recordings = Recordings(tmp_path, clock)
            bad, good = (recordings.begin(About("a", tenant), rate=8000) for tenant in ("bad", "good"))
            converse(good, clock)
            good.ended(clock.now)
            bad.ended(clock.now)
            await recordings.close()
            assert recordings.counters == {"started": 2, "finished": 1, "failed": 1, "dropped": 0}

        run(scenario)
        assert len(list((tmp_path / "good").iterdir())) == 1

    def test_a_disk_that_stands_still_costs_sound_not_memory(self, tmp_path: Path) -> None:
        recording = Recording(About("a", "t"), tmp_path, 8000, "wav", 1000.0)
        clock = Clock()
        converse(recording, clock, 1000)  # nobody takes it
        assert len(recording.waiting) == 1500
        assert recording.dropped == 500


_VICTIM = """
import asyncio, sys, time
from pathlib import Path
from sipbridge.audio import PCMU
from sipbridge.recording_files.about import About
from sipbridge.recordings import Recordings

async def main():
    recordings = Recordings(Path(sys.argv[1]), time.monotonic)
    recording = recordings.begin(About("a", "t"), rate=8000, sound_format=sys.argv[2])
    began = time.monotonic()
    for number in range(10_000):
        await asyncio.sleep(began + number * 0.02 - time.monotonic())
        recording.sent(b"\\x80" * 160, PCMU, time.monotonic())
        recording.received(b"\\x80" * 160, PCMU, time.monotonic())
        print(number, flush=True)

asyncio.run(main())
"""


@pytest.mark.parametrize("sound_format", FORMATS)
def test_a_killed_process_leaves_all_but_the_last_second(tmp_path: Path, sound_format: SoundFormat) -> None:
    command = [sys.executable, "-c", _VICTIM, str(tmp_path), sound_format]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as victim:
        assert victim.stdout is not None
        number = next(number for number in map(int, victim.stdout) if number >= 125)
        victim.send_signal(signal.SIGKILL)
    assert victim.returncode == -signal.SIGKILL
    (path,) = (tmp_path / "t").iterdir()
    assert path.name == f"{About('a', '').file_name}.part.{sound_format}"
    sound, rate = soundfile.read(path, dtype="int16")
    assert len(sound) / rate > number * 0.02 - 1.0
    assert sound[1000:].max() == sound[1000:].min() == 32124, "both sides, to the end"


_LIMITED = """
import asyncio, os, resource, sys
from pathlib import Path
from sipbridge.audio import PCMU
from sipbridge.recording_files.about import About
from sipbridge.recordings import Recordings

async def main():
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
    for sound_format in ("wav", "flac"):
        recordings = Recordings(Path(sys.argv[1]), lambda: 1000 + number * 0.02)
        number = 0
        recording = recordings.begin(About("a", "t"), rate=8000, sound_format=sound_format)
        for number in range(150):
            recording.received(os.urandom(160), PCMU, 1000 + number * 0.02)
        recording.ended(1003.0)
        await recordings.close()
        print(recordings.counters["failed"])

asyncio.run(main())
"""


def test_a_limit_of_the_system_stops_a_recording_and_not_the_process(tmp_path: Path) -> None:
    """In mid file, whatever the format: an error as any other."""
    command = [sys.executable, "-c", _LIMITED, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    assert [line for line in done.stdout.splitlines() if line.isdigit()] == ["1", "1"], done.stdout
    parts = sorted((tmp_path / "t").iterdir())
    assert [path.name for path in parts] == [f"{About('a', '').file_name}.part.{kind}" for kind in ("flac", "wav")]


def test_a_call_id_that_comes_hundreds_of_times_is_still_recorded(tmp_path: Path) -> None:
    """Else a caller could have himself not recorded."""
    clock = Clock()
    (tmp_path / "acme").mkdir()
    for number in range(1, 1000):
        (tmp_path / "acme" / f"{About('again', '').file_name}{f'.{number}' if number > 1 else ''}.wav").touch()

    async def scenario() -> None:
        recordings = Recordings(tmp_path, clock)
        recording = recordings.begin(About("again", "acme"), rate=8000)
        converse(recording, clock)
        recording.ended(clock.now)
        await recordings.close()
        assert recordings.counters == {"started": 1, "finished": 1, "dropped": 0}

    run(scenario)
    assert len(list((tmp_path / "acme").glob("*.wav"))) == 1000


def test_tenants_that_look_alike_have_folders_of_their_own() -> None:
    assert folder_name("acme-2_b") == "acme-2_b"
    assert len({folder_name(tenant) for tenant in ("a.b", "a_b", "a b", "a/b", "..")}) == 5
    assert all("/" not in name and not name.startswith(".") for name in map(folder_name, ("a/b", "..", "../etc")))


def test_a_sealed_one_is_sound_only_with_its_key(tmp_path: Path) -> None:
    """Both formats; and it says of itself what it is."""
    clock, key = Clock(), Key(bytes(range(32)))

    async def scenario() -> None:
        recordings = Recordings(tmp_path, clock, key=key)
        for sound_format in FORMATS:
            about = About("a", "t", record="00ff", caller="+15550100", to="agent", retention_days=7)
            recording = recordings.begin(about, rate=8000, sound_format=sound_format)
            converse(recording, clock)
            recording.ended(clock.now)
        await recordings.close()

    run(scenario)
    paths = sorted((tmp_path / "t").iterdir())
    assert [path.name for path in paths] == [f"{About('a', '').file_name}.{kind}.sealed" for kind in ("flac", "wav")]
    for path in paths:
        data = path.read_bytes()
        assert b"5550100" not in data
        assert not any(word in data for word in (b"RIFF", b"fLaC", VOICE[:16], b"\x7c\x7d" * 8))
        reader, plain = SealedReader(io.BytesIO(data), KeyRing(key)), io.BytesIO()
        replay(reader, into=plain)
        assert reader.closing is Closing.CLOSED
        plain.seek(0)
        sound, rate = soundfile.read(plain, dtype="int16")
        assert (rate, len(sound)) == (8000, 16000)
        assert sound[1000:-1000].min() == sound[1000:-1000].max() == 32124
        about = About.find(plain.getvalue()[:HEAD_BYTES])
        assert about is not None
        assert (about.caller, about.record, about.retention_days) == ("+15550100", "00ff", 7)
        assert about.began > 1.7e9


class Notes:
    def __init__(self) -> None:
        self.facts: list[Fact] = []
        self.record = "00ff"
        self.began_at = 0.0

    def note(self, fact: Fact, *, ago: float = 0.0) -> None:
        self.facts.append(fact)


def test_the_journal_hears_what_became_of_it(tmp_path: Path) -> None:
    clock, journal = Clock(), Notes()
    (tmp_path / "bad").write_text("a file where a directory should be")

    async def scenario() -> None:
        for key in (None, Key(bytes(32))):
            recordings = Recordings(tmp_path, clock, key=key)
            for tenant in ("acme", "bad"):
                recording = recordings.begin(About("a", tenant), rate=8000, journal=journal)
                converse(recording, clock)
                recording.ended(clock.now)
            await recordings.close()

    run(scenario)
    name = f"acme/{About('a', '').file_name}.wav"
    ready = [fact for fact in journal.facts if isinstance(fact, RecordingReady)]
    assert ready == [RecordingReady(name, 2.0, False), RecordingReady(f"{name}.sealed", 2.0, True)]
    assert journal.facts.count(Noted("recording_failed", "File exists")) == 2


def test_what_strangers_say_of_themselves_ends_somewhere_and_means_nothing() -> None:
    for text in ('"}\n{"sipbridge":1,"tenant":"other"', "ü\udcff\0", "x" * 100_000):
        about = About.find(b"RIFF...." + About(text, "t", caller=text).to_text().encode() + b"\0data")
        assert about is not None
        assert about.tenant == "t"
        assert len(about.caller) <= 200
    for head in (b"", b'{"sipbridge":1,', b'{"sipbridge":1,' + b"[" * 100_000, b'{"sipbridge":1,"began":"x"}'):
        assert About.find(head) in (None, About("", ""))
