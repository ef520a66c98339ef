"""Tenants' documents, read by a process beside the gateway (`child`).

To validate one takes seconds where somebody wants it to. A child that takes too long is killed; the next document gets
a new one.
"""

from __future__ import annotations

import asyncio
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sipbridge.config import Config
from sipbridge.errors import ConfigError
from sipbridge.tenant_source import child
from sipbridge.tenant_source.document import Document, read_document

_START_S = 20.0
"""For the child to be there: it imports what we have imported."""


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
        self._set_up = (config, directory)
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
                process = await self._running()
                async with asyncio.timeout(self._seconds):
                    answer = await _ask(process, _Work(body, name, nameless))
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
        process = self._child = await child.start(__name__)
        async with asyncio.timeout(_START_S):
            await _ask(process, self._set_up)
        return process

    async def _kill(self) -> None:
        process, self._child = self._child, None
        if process is not None:
            await child.end(process)


async def _ask(process: asyncio.subprocess.Process, work: object) -> Any:
    await child.send(process, work)
    return await child.receive(process)


# --- the child --------------------------------------------------------------------------------------------------------


def main() -> None:
    """Until the gateway is gone."""
    requests, answers = child.pipes()
    config, directory = child.read(requests)
    child.write(None, answers)
    while True:
        try:
            work: _Work = child.read(requests)
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
        child.write(answer, answers)
