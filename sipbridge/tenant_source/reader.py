"""A process of our own that reads tenants' documents.

To validate one takes milliseconds, and seconds where somebody wants it to: too long for the loop that the audio lives
on, and for a thread as well, which holds the interpreter's lock. So the document goes to a child, and what comes back
is the configuration, pickled. A child that takes too long is killed; the next document gets a new one.

On the pipes are frames: four octets of length, then a pickle. Both ends are this package: nobody else's are read.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import struct
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from sipbridge.config import Config
from sipbridge.errors import ConfigError
from sipbridge.tenant_source.document import Document, read_document

_LENGTH = struct.Struct("!I")
_START_S = 20.0
"""For the child to be there: it imports what we have imported."""
_MOST = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class _Work:
    body: bytes
    name: str
    nameless: str


class Reader:
    def __init__(self, config: Config, directory: Path) -> None:
        """`directory`: where documents' sounds are looked for."""
        # From when it has the child to itself: whoever has asked the backend still waits when it is given up.
        self._seconds = config.tenants.timeout_seconds * 0.7
        self._set_up = (list(sys.path), config, directory)
        self._child: asyncio.subprocess.Process | None = None
        self._free = asyncio.Lock()

    async def start(self) -> None:
        """So that the first document need not wait for it. Raises `OSError`."""
        async with self._free:
            await self._running()

    async def read(self, body: bytes, *, name: str, nameless: str) -> Document:
        """As `read_document`; raises `ConfigError`, also where it takes too long."""
        async with self._free:
            try:
                child = await self._running()
                async with asyncio.timeout(self._seconds):
                    answer = await _ask(child, _Work(body, name, nameless))
            except TimeoutError:
                await self._kill()
                raise ConfigError(f"{name}: takes longer than {self._seconds:.1f} s to read") from None
            except (OSError, EOFError, pickle.PickleError) as error:
                await self._kill()
                raise ConfigError(f"{name}: cannot be read: {error or 'the reading process has died'}") from error
            except BaseException:
                await self._kill()  # cancelled: its answer would be taken for the next one's
                raise
        if isinstance(answer, Document):
            return answer
        raise ConfigError(str(answer))

    async def close(self) -> None:
        async with self._free:
            await self._kill()

    async def _running(self) -> asyncio.subprocess.Process:
        if self._child is not None and self._child.returncode is None:
            return self._child
        child = self._child = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "sipbridge.tenant_source.reader"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for us to hear
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        )
        async with asyncio.timeout(_START_S):
            await _ask(child, self._set_up)
        return child

    async def _kill(self) -> None:
        child, self._child = self._child, None
        if child is None:
            return
        if child.returncode is None:
            child.kill()
        await child.wait()
        if child.stdin is not None:
            child.stdin.close()


async def _ask(child: asyncio.subprocess.Process, work: object) -> Any:
    assert child.stdin is not None
    assert child.stdout is not None
    data = pickle.dumps(work)
    child.stdin.write(_LENGTH.pack(len(data)) + data)
    await child.stdin.drain()
    (length,) = _LENGTH.unpack(await child.stdout.readexactly(_LENGTH.size))
    if length > _MOST:
        raise EOFError("too much of an answer")
    return pickle.loads(await child.stdout.readexactly(length))


# --- the child --------------------------------------------------------------------------------------------------------


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Until the other side is gone."""
    sys.path[:], config, directory = _read(requests)
    _write(answers, None)
    while True:
        try:
            work: _Work = _read(requests)
        except EOFError:
            return
        answer: Document | str
        try:
            answer = read_document(
                work.body, name=work.name, config=config, directory=directory, nameless=work.nameless
            )
        except ConfigError as error:
            answer = str(error)
        except Exception as error:  # the boundary of one document, which strangers may have written
            answer = f"{work.name}: cannot be read: {type(error).__name__}: {error}"
        _write(answers, answer)


def _read(file: BinaryIO) -> Any:
    head = file.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        raise EOFError
    return pickle.loads(file.read(*_LENGTH.unpack(head)))


def _write(file: BinaryIO, answer: object) -> None:
    data = pickle.dumps(answer)
    file.write(_LENGTH.pack(len(data)) + data)
    file.flush()


if __name__ == "__main__":
    # Under its own name, so that what is pickled there is known here. What is printed is no answer.
    from sipbridge.tenant_source import reader

    pipe = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    reader.serve(sys.stdin.buffer, pipe)
