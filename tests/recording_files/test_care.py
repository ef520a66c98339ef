"""What becomes of recordings later: finished after a crash, deleted when their time is over."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from sipbridge.history.facts import RecordingReady
from sipbridge.recording_files.about import About
from sipbridge.recording_files.care import Care
from sipbridge.recording_files.keys import Key, KeyRing
from sipbridge.recording_files.library import export, recording_files, verify
from sipbridge.recording_files.recovery import Recovered, recover
from sipbridge.recording_files.retention import delete_expired
from sipbridge.sound_files import SoundFormat, create

KEY = Key(bytes(range(32)))
RING = KeyRing(KEY)
DAY = 86_400.0
NOISE = np.random.default_rng(1).integers(-3000, 3000, (24000, 2)).astype("<i2")
KINDS: list[tuple[SoundFormat, Key | None]] = [("wav", None), ("flac", None), ("wav", KEY), ("flac", KEY)]

_VICTIM = """
import sys
from pathlib import Path
import numpy as np
from sipbridge.recording_files.about import About
from sipbridge.recording_files.keys import Key
from sipbridge.sound_files import create

about = About("a", "t", record="00ff", caller="+15550123", retention_days=7)
folder = Path(sys.argv[1]) / "t"
folder.mkdir()
key = Key(bytes(range(32))) if sys.argv[3] else None
path = folder / f"{about.file_name}.part.{sys.argv[2]}{'.sealed' if key else ''}"
file = create(path, 8000, sys.argv[2], key, about.to_text())
noise = np.random.default_rng(1).integers(-3000, 3000, (24000, 2)).astype("<i2")
for start in range(0, 24000, 2400):
    file.write(noise[start : start + 2400].tobytes())
print("written", flush=True)
sys.stdin.read()
"""


@pytest.fixture(params=KINDS, ids=lambda kind: f"{kind[0]}{'-sealed' if kind[1] else ''}")
def victim(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that records three seconds, and does not end."""
    kind, key = request.param
    command = [sys.executable, "-c", _VICTIM, str(tmp_path), kind, "yes" if key else ""]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "written\n"
        yield process
        process.kill()


def plain(path: Path, into: Path) -> np.ndarray[tuple[int, ...], np.dtype[np.int16]]:
    (file,) = (file for file in recording_files(path.parent.parent) if file.path == path)
    with into.open("wb") as opened:
        export(file, opened, RING)
    sound, rate = soundfile.read(into, dtype="int16")
    assert rate == 8000
    return np.asarray(sound)


def test_what_a_killed_process_has_left_is_finished(victim: subprocess.Popen[str], tmp_path: Path) -> None:
    assert list(recover(tmp_path, RING)) == [], "as long as it is alive it has the file"
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    (left,) = (tmp_path / "t").iterdir()
    if left.suffix != ".flac":  # its blocks are written before it says that they are there
        os.truncate(left, left.stat().st_size - 3)  # as if it had been killed in the middle of a write
    (found,) = recover(tmp_path, RING)
    assert found.path.name == left.name.replace(".part", "")
    assert [*(tmp_path / "t").iterdir()] == [found.path]
    assert found.about is not None
    assert (found.about.record, found.about.caller) == ("00ff", "+15550123")
    sound = plain(found.path, tmp_path / "sound")
    assert len(sound) / 8000 == pytest.approx(found.seconds, abs=0.15)
    assert found.seconds > 2.5
    assert np.array_equal(sound, NOISE[: len(sound)])
    (file,) = recording_files(tmp_path)
    assert ("after a crash" if found.sealed else "not encrypted") in verify(file, RING)
    assert list(recover(tmp_path, RING)) == []


def left(tmp_path: Path, call_id: str = "a", *, key: Key | None = KEY, seconds: float = 1.0) -> Path:
    about = About(call_id, "t", record="00ff", retention_days=3)
    (tmp_path / "t").mkdir(exist_ok=True)
    path = tmp_path / "t" / f"{about.file_name}.part.wav{'.sealed' if key else ''}"
    file = create(path, 8000, "wav", key, about.to_text())
    if seconds:
        file.write(NOISE[: int(seconds * 8000)].tobytes())
    file.close(whole=False)
    return path


def test_without_its_key_it_waits(tmp_path: Path) -> None:
    path = left(tmp_path)
    before = path.read_bytes()
    for ring in (None, KeyRing(Key(bytes(32)))):
        assert list(recover(tmp_path, ring)) == []
        assert path.read_bytes() == before
    assert len(list(recover(tmp_path, KeyRing(Key(bytes(32)), [KEY])))) == 1


def test_nothing_is_written_over_and_nothing_is_not_kept(tmp_path: Path) -> None:
    path = left(tmp_path)
    taken = path.with_name(path.name.replace(".part", ""))
    taken.write_bytes(b"precious")
    (found,) = recover(tmp_path, RING)
    assert found.path.name.endswith(".2.wav.sealed")
    assert taken.read_bytes() == b"precious"
    for key in (None, KEY):
        path = left(tmp_path, "empty", key=key, seconds=0)
        assert list(recover(tmp_path, RING)) == []
        assert not path.exists()
    being_made = path.with_name("x.part.wav")
    being_made.touch()
    assert list(recover(tmp_path, RING)) == []
    assert being_made.exists()


def test_others_files_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    others = [tmp_path / "t" / name for name in ("notes.txt", "x.part", "y.part.mp3")]
    for path in (*others, tmp_path / "z.part.wav"):
        path.write_bytes(b"RIFF")
    (tmp_path / "t" / "link.part.wav").symlink_to(others[0])
    (tmp_path / "t" / "bad.part.wav.sealed").write_bytes(b"not sealed at all")
    assert list(recover(tmp_path, RING)) == []
    assert delete_expired(tmp_path, {"t": 1}, RING, time.time() + 1000 * DAY) == 1  # bad
    assert [path.read_bytes() for path in others] == [b"RIFF"] * 3


def test_a_day_too_old(tmp_path: Path) -> None:
    now = time.time()
    ages = {"new": 0.5, "fresh": 2.5, "older": 6.5, "old": 7.5}
    for call_id, age in ages.items():
        path = left(tmp_path, call_id)
        os.utime(path, (now - age * DAY, now - age * DAY))
    names = {call_id: About(call_id, "t").file_name for call_id in ages}

    def there() -> set[str]:
        present = {path.name.partition(".part")[0] for path in (tmp_path / "t").iterdir()}
        return {call_id for call_id, name in names.items() if name in present}

    assert delete_expired(tmp_path, {"t": 7, "other": 1}, RING, now) == 1
    assert there() == {"new", "fresh", "older"}
    assert delete_expired(tmp_path, {"other": 1}, None, now) == 0, "nobody can say without the key"
    assert delete_expired(tmp_path, {"other": 1}, RING, now) == 1
    assert there() == {"new", "fresh"}, "its tenant is gone: as it was said when it was recorded"


def test_care_tells_and_counts(tmp_path: Path) -> None:
    left(tmp_path)
    path = left(tmp_path, "old")
    recorded = next(recover(tmp_path, RING), None)
    assert isinstance(recorded, Recovered)
    told: list[tuple[str, RecordingReady]] = []
    counts: dict[str, int] = {}
    done = asyncio.Event()

    async def main() -> None:
        loop = asyncio.get_running_loop()

        async def expire_history() -> int:
            loop.call_soon_threadsafe(done.set)
            return 5

        care = Care(
            tmp_path,
            RING,
            days_of=lambda: {"t": 7},
            note_late=lambda record, fact: told.append((record, fact)),
            expire_history=expire_history,
            on_count=lambda state, number: counts.update({state: counts.get(state, 0) + number}),
            wall=lambda: time.time() + 8 * DAY,
        )
        care.start()
        await asyncio.wait_for(done.wait(), 10)
        await care.close()

    asyncio.run(main())
    assert [record for record, _ in told] == ["00ff"]
    assert told[0][1].seconds == 1.0
    assert counts == {"recovered": 1, "expired": 2}
    assert not path.exists()
