"""Recordings of calls: handed over by the loop, made and written by one thread for all calls.

    DIRECTORY/TENANT/CALL.part.wav      while the call is up, playable all the time; also what a killed process leaves
    DIRECTORY/TENANT/CALL.wav           it is over, and all of it is here

With `.sealed` behind it where recordings are encrypted (`recording_files.sealed`); what killed processes have left is
finished at the next start (`recording_files.care`). CALL is what of the Call-ID is plain, and a hash of the whole; a
Call-ID that comes again gets a number behind it.

On the loop a packet costs an append. The thread looks after what came three times a second, so a kill costs little
more than half a second of sound. Where a file cannot be made or written (no space, no directory, no permission) that
recording stops, with one line in the log and one count; what was written stays, under its unfinished name; the call
notices nothing.
"""

from __future__ import annotations

import asyncio
import secrets
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import structlog

from sipbridge.audio import AudioFormat
from sipbridge.codecs import Codec
from sipbridge.history.facts import Fact, Noted, RecordingReady
from sipbridge.history.journal import NOWHERE, Journal
from sipbridge.media.recorder import Recorder
from sipbridge.recording_files.about import About
from sipbridge.recording_files.keys import Key
from sipbridge.recording_files.library import SEALED_SUFFIX
from sipbridge.sound_files import SoundFile, SoundFormat, create

log = structlog.get_logger(__name__)

_NARROWBAND, _WIDEBAND = 8000, 16000
_INTERVAL_S = 0.3
# Packets of both directions that may wait for the thread: fifteen seconds of them, should the disk stand still.
_MOST_WAITING = 1500
_PACKETS_AT_ONCE = 100
# The interpreter runs one thread at a time, and the loop wants to be it: recordings are looked after a few at a time,
# spread over the interval, and where the loop has to wait then no longer than this.
_AT_ONCE = 2
_SWITCH_INTERVAL_S = 0.0005
_MOST_SAME_NAMES = 100  # then they are no longer numbered


# What became of a packet: plain numbers, for the loop's sake. _LIVE: received just now, see `Tap.received`.
_SENT, _RECEIVED, _LIVE = range(3)

_Packet: TypeAlias = tuple[float, int, bytes | None, AudioFormat]
StartRecording: TypeAlias = Callable[[Codec], "Recording"]
"""Of a call whose leg speaks this codec."""
Count: TypeAlias = Callable[[str, int], None]
CreateFile: TypeAlias = Callable[[Path, int, SoundFormat, Key | None, str], SoundFile]


class Recording:
    """One call's, a `Tap` of its leg. On the loop."""

    def __init__(
        self,
        about: About,
        directory: Path,
        rate: int,
        sound_format: SoundFormat,
        began: float,
        tell: Callable[[Fact], None] = lambda fact: None,
    ) -> None:
        """`tell` is called in the thread: what became of it."""
        self.about = about
        self.call_id = about.call_id
        self.directory = directory
        self.tell = tell
        self.rate = rate
        self.sound_format: SoundFormat = sound_format
        self.began = began
        self.waiting: deque[_Packet] = deque()
        self.dropped = 0
        """Packets that the thread did not take in time."""
        self.paused = False
        self._room = _MOST_WAITING
        self.ended_at: float | None = None
        self._silent = False

    def sent(self, sound: bytes | None, audio_format: AudioFormat, now: float) -> None:
        if sound is None or self.paused:
            if self._silent:
                return  # the clock makes silence by itself
            self._silent, sound = True, None
        else:
            self._silent = False
        if len(self.waiting) < self._room:
            self.waiting.append((now, _SENT, sound, audio_format))
        else:
            self._drop()

    def received(self, sound: bytes, audio_format: AudioFormat, now: float, live: bool = True) -> None:
        if self.paused:
            sound = audio_format.silence * (len(sound) // audio_format.bytes_per_sample)
        if len(self.waiting) < self._room:
            self.waiting.append((now, _LIVE if live else _RECEIVED, sound, audio_format))
        else:
            self._drop()

    def _drop(self) -> None:
        if not self.over:
            self.dropped += 1

    @property
    def over(self) -> bool:
        """Nothing is taken any more: it has ended, or it could not go on."""
        return self._room == 0

    def stop(self) -> None:
        self._room = 0

    def pause(self) -> None:
        """Silence on both sides from here on, while time passes."""
        self.paused = True

    def resume(self) -> None:
        self.paused = False

    def ended(self, now: float) -> None:
        """The call is over. Idempotent."""
        if self.ended_at is None:
            self.stop()
            self.ended_at = now


class Recordings:
    """Of one gateway. `clock` is the media engine's."""

    def __init__(
        self,
        directory: Path,
        clock: Callable[[], float],
        *,
        key: Key | None = None,
        on_count: Count = lambda state, number: None,
        create_file: CreateFile = create,
    ) -> None:
        """With a `key` they are sealed. `on_count` is told of everything that is counted, in the thread."""
        self.counters: Counter[str] = Counter()
        """`started`, `finished`, `failed`, and `dropped`: packets that the disk was too slow for."""
        self._directory = directory
        self._key = key
        self._clock = clock
        self._on_count = on_count
        self._create = create_file
        self._new: deque[Recording] = deque()
        self._woken = threading.Event()
        self._closing = False
        self._thread: threading.Thread | None = None

    def of(self, about: About, sound_format: SoundFormat, journal: Journal = NOWHERE) -> StartRecording:
        """For a call that may begin to be recorded. What is wideband when it begins is kept as such."""

        def start(codec: Codec) -> Recording:
            rate = _NARROWBAND if codec.sample_rate <= _NARROWBAND else _WIDEBAND
            return self.begin(about, rate=rate, sound_format=sound_format, journal=journal)

        return start

    def begin(
        self, about: About, *, rate: int, sound_format: SoundFormat = "wav", journal: Journal = NOWHERE
    ) -> Recording:
        """Record from now on what the recording is told as a `Tap`, until it `ended`. The journal is told of what
        became of it."""
        loop = asyncio.get_running_loop()
        recording = Recording(
            replace(about, began=time.time()),
            self._directory / about.folder,
            rate,
            sound_format,
            self._clock(),
            tell=lambda fact: _tell(loop, journal, fact),
        )
        self._new.append(recording)
        if self._thread is None:
            sys.setswitchinterval(min(sys.getswitchinterval(), _SWITCH_INTERVAL_S))
            self._thread = threading.Thread(target=self._run, name="recordings", daemon=True)
            self._thread.start()
        self._woken.set()
        return recording

    async def close(self) -> None:
        """Write what waits; recordings that have not ended end here."""
        self._closing = True
        self._woken.set()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join)

    def _count(self, state: str, number: int) -> None:
        self.counters[state] += number
        self._on_count(state, number)

    # --- in the thread ------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        reels: list[_Reel] = []
        while True:
            if not reels:
                self._woken.wait()  # nothing to write: asleep until something is to be
            self._woken.clear()
            closing = self._closing
            while self._new:
                reels.append(_Reel(self._new.popleft(), self._create, self._key, self._count))
            groups = [reels[start : start + _AT_ONCE] for start in range(0, len(reels), _AT_ONCE)]
            for group in groups:
                now = self._clock()
                for reel in group:
                    if closing:
                        reel.recording.ended(now)
                    reel.serve(now)
                self._woken.wait(0.0 if closing else _INTERVAL_S / len(groups))
            reels = [reel for reel in reels if not reel.over]
            if closing and not reels and not self._new:
                return


class _Reel:
    """A recording's other end, in the thread."""

    def __init__(self, recording: Recording, create_file: CreateFile, key: Key | None, count: Count) -> None:
        self.recording = recording
        self._key = key
        self.over = False
        self._create = create_file
        self._count = count
        count("started", 1)
        self._recorder = Recorder(recording.rate, recording.began)
        self._file: SoundFile | None = None
        self._path = self._final = Path()

    def serve(self, now: float) -> None:
        try:
            ended_at = self.recording.ended_at
            if self._file is None:
                self._open()
            self._listen()
            if ended_at is None:
                self._write(self._recorder.take(now))
            else:
                self._write(self._recorder.finish(ended_at))
                self._finish()
        except Exception as error:
            # The boundary of one recording: the others go on, and so does the call.
            self._fail(error)

    def _listen(self) -> None:
        waiting, recorder = self.recording.waiting, self._recorder
        for number in range(len(waiting)):
            now, way, sound, audio_format = waiting.popleft()
            if number % _PACKETS_AT_ONCE == _PACKETS_AT_ONCE - 1:  # the disk, or this thread, stood still
                self._write(recorder.take(now))
            if way == _SENT:
                recorder.sent(sound, audio_format, now)
            elif sound:
                recorder.received(sound, audio_format, now, way == _LIVE)

    def _open(self) -> None:
        recording = self.recording
        recording.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for number in range(1, _MOST_SAME_NAMES + 2):
            name = recording.about.file_name + (f".{number}" if number > 1 else "")
            if number > _MOST_SAME_NAMES:  # a caller must not be able to use up all names of his
                name = f"{recording.about.file_name}.{secrets.token_hex(8)}"
            suffix = recording.sound_format + ("" if self._key is None else SEALED_SUFFIX)
            self._final = recording.directory / f"{name}.{suffix}"
            self._path = recording.directory / f"{name}.part.{suffix}"
            if self._final.exists():
                continue
            with suppress(FileExistsError):
                self._file = self._create(
                    self._path, recording.rate, recording.sound_format, self._key, recording.about.to_text()
                )
                return
        raise FileExistsError(f"{self._path}: there are too many of this name")

    def _write(self, pcm: bytes) -> None:
        if pcm and self._file is not None:
            self._file.write(pcm)

    def _finish(self) -> None:
        assert self._file is not None
        file, self._file = self._file, None
        file.close()
        self._path.rename(self._final)
        self._end()
        self._count("finished", 1)
        path, seconds = str(Path(*self._final.parts[-2:])), round(self._recorder.seconds, 2)
        self.recording.tell(RecordingReady(path, seconds, self._key is not None))
        log.info(
            "recording finished",
            call_id=self.recording.call_id,
            path=str(self._final),
            seconds=round(self._recorder.seconds, 1),
            dropped=self.recording.dropped,
        )

    def _fail(self, error: Exception) -> None:
        self._count("failed", 1)
        path = str(self._path) if self._path.name else str(self.recording.directory)
        details = {"call_id": self.recording.call_id, "path": path, "seconds": round(self._recorder.seconds, 1)}
        said = error.strerror or str(error) if isinstance(error, OSError) else type(error).__name__
        if isinstance(error, OSError):
            log.error("recording stopped", error=said, **details)
        else:
            log.exception("recording stopped", **details)
        self.recording.tell(Noted("recording_failed", said))
        if self._file is not None:
            with suppress(OSError):  # it has said what was wrong
                self._file.close(whole=False)
        self._end()

    def _end(self) -> None:
        self.over = True
        self.recording.stop()
        self.recording.waiting.clear()
        self._count("dropped", self.recording.dropped)


def _tell(loop: asyncio.AbstractEventLoop, journal: Journal, fact: Fact) -> None:
    """In the thread; the journal lives on the loop."""
    with suppress(RuntimeError):  # the loop is closed: nobody is there to be told
        loop.call_soon_threadsafe(journal.note, fact)
