"""Ladders as files: written by a thread when a call is over, read back by `sipbridge ladder`.

One file a call, named after its Call-ID and bound in number: the oldest go first. Nothing secret is in them, since
nothing secret is in a `Ladder`.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2s
from pathlib import Path

import structlog

from sipbridge.errors import ConfigError
from sipbridge.sip.ladder import Ladder, Step, draw, transcribe

log = structlog.get_logger(__name__)

_LINGER_S = 1.0
"""After the end of a call its BYE is still to be answered."""
_MOST_FILES = 1000
_MOST_WAITING = 200
_SUFFIX = ".ladder"


class LadderFiles:
    """Of one gateway. Raises `ConfigError` where the directory cannot be had."""

    def __init__(self, directory: Path, *, most: int = _MOST_FILES) -> None:
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"sip.ladders: {directory}: {error.strerror}") from error
        self._directory = directory
        self._most = most
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ladders")
        self._waiting: dict[Ladder, asyncio.TimerHandle] = {}
        self._names = [path.name for path in sorted(_files(directory), key=lambda path: path.stat().st_mtime)]

    def keep(self, ladder: Ladder) -> None:
        """Write it soon. Where files cannot be written as fast as calls end, some are left out."""
        if len(self._waiting) >= _MOST_WAITING:
            log.warning("ladder left out", call_id=ladder.call_ids[0])
            return
        self._waiting[ladder] = asyncio.get_running_loop().call_later(_LINGER_S, self._hand_over, ladder)

    async def close(self) -> None:
        """Write what waits."""
        for ladder, timer in list(self._waiting.items()):
            timer.cancel()
            self._hand_over(ladder)
        await asyncio.to_thread(self._thread.shutdown)

    def _hand_over(self, ladder: Ladder) -> None:
        del self._waiting[ladder]
        self._thread.submit(
            self._write, tuple(ladder.call_ids), tuple(ladder.steps), ladder.left_out, time.strftime("%F %T %Z")
        )

    def _write(self, call_ids: tuple[str, ...], steps: tuple[Step, ...], left_out: int, ended: str) -> None:
        """In the thread."""
        heads = [*(f"Call-ID: {_one_line(call_id)}" for call_id in call_ids), f"Ended: {ended}"]
        text = "\n".join([*heads, "", *draw(steps, left_out=left_out), "", *transcribe(steps)])
        name = _name(call_ids[0])
        try:
            (self._directory / name).write_text(text, encoding="utf-8")
            if name in self._names:
                self._names.remove(name)
            self._names.append(name)
            while len(self._names) > self._most:
                (self._directory / self._names.pop(0)).unlink(missing_ok=True)
        except OSError as error:
            log.warning("ladder not written", call_id=call_ids[0], error=str(error))


def read_ladder(directory: Path, call_id: str) -> str | None:
    """The file of a call, by the Call-ID of any of its legs."""
    direct = directory / _name(call_id)
    if direct.is_file():
        return direct.read_text(encoding="utf-8")
    wanted = f"Call-ID: {_one_line(call_id)}"
    for path in _files(directory):
        text = path.read_text(encoding="utf-8")
        if wanted in text.partition("\n\n")[0].splitlines():
            return text
    return None


def ladders_of(directory: Path, is_theirs: Callable[[str], bool], call_ids: Collection[str] = ()) -> Iterator[Path]:
    """Those in which a URI's user or number is somebody's, and those of these calls."""
    heads = {f"Call-ID: {_one_line(call_id)}" for call_id in call_ids}
    for path in _files(directory):
        text = path.read_text(encoding="utf-8")
        users = {f"sip:{user}@host" for user in _USER.findall(text)} | set(_TEL.findall(text))
        if heads & set(text.partition("\n\n")[0].splitlines()) or any(map(is_theirs, users)):
            yield path


_USER = re.compile(r"(?i)sips?:([^\s@<>\"]+)@")
_TEL = re.compile(r"(?i)tel:[^\s<>\",]+")


def list_ladders(directory: Path) -> list[tuple[str, str]]:
    """When each call ended, and its Call-ID; the latest last."""
    found = []
    for path in sorted(_files(directory), key=lambda path: path.stat().st_mtime):
        fields = [line.partition(": ")[::2] for line in path.read_text(encoding="utf-8").split("\n\n")[0].splitlines()]
        found.append((dict(fields).get("Ended", ""), next((value for name, value in fields if name == "Call-ID"), "")))
    return found


def _files(directory: Path) -> Iterator[Path]:
    return directory.glob(f"*{_SUFFIX}")


def _name(call_id: str) -> str:
    """A Call-ID is a stranger's text: what of it is plain, and a hash of the whole."""
    plain = re.sub(r"[^A-Za-z0-9_-]", "_", call_id)[:60]
    return f"{plain}.{blake2s(call_id.encode('utf-8', 'surrogateescape'), digest_size=6).hexdigest()}{_SUFFIX}"


def _one_line(text: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in text)
