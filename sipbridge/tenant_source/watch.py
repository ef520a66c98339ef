"""The gateway's side of tenants that change: what the process beside it (`watching`) says is put in force.

A new version is there for calls that come from then on. Many at once are taken over in slices, with pauses between, so
that no packet waits for them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn, Self

import structlog

from sipbridge.config import Config
from sipbridge.prompts import read_wav_again
from sipbridge.tenant_source import child
from sipbridge.tenant_source.directory import TenantDirectory
from sipbridge.tenant_source.news import (
    Changed,
    Gone,
    Mended,
    News,
    Refused,
    SettingsLookedAt,
    Settled,
    Start,
    Trouble,
)
from sipbridge.tenant_source.watching import LOOK
from sipbridge.tenants import Tenant

log = structlog.get_logger(__name__)

_SLICE_S = 0.001
_MOST_AT_ONCE = 50
"""Of tenants that other numbers lead to now: so many change places in one moment, between two calls."""
_MOST_TOLD = 20
"""Of the tenants that one look finds changed; how many there are is told in any case."""
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 60.0
_READER = "sipbridge.tenant_source.watching"


class TenantWatch:
    """While it is entered, the directory's tenants are what the files say. `settled` is told how many
    versions have come into force with a look at them."""

    def __init__(
        self,
        config: Config,
        path: Path,
        directory: TenantDirectory,
        *,
        settled: Callable[[int], None] = lambda count: None,
    ) -> None:
        """`path`: sipbridge.yaml."""
        self._config = config
        self._path = path
        self._directory = directory
        self._settled = settled
        self._process: asyncio.subprocess.Process | None = None
        self._moving: list[Changed | Gone] = []
        """Of this look: those that calls come to by other ways now."""
        self._sliced = 0.0
        self._in_look = 0

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run(), name="tenants")
        return self

    async def __aexit__(self, *error: object) -> None:
        self._task.cancel()
        await asyncio.wait((self._task,))

    def look(self) -> None:
        """Have the files looked at now, sipbridge.yaml among them."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.write(LOOK)

    # --- the process ------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        pause = _FIRST_PAUSE_S
        while True:
            began = time.monotonic()
            try:
                await self._listen()
            except EOFError:
                log.error("the reader of tenants' files has ended; they stay as they are until there is another one")
            except Exception:
                # The boundary of reloading: calls go on with the tenants that there are, and another reader is tried.
                log.exception("tenants' files are not read; they stay as they are")
            if time.monotonic() - began > _LONGEST_PAUSE_S:
                pause = _FIRST_PAUSE_S
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_S)

    async def _listen(self) -> NoReturn:
        """Start a reader, and do what it says for as long as it lives. Raises `EOFError` then."""
        process = await child.start(_READER)
        self._moving, self._in_look = [], 0  # what one before it had begun to say
        try:
            await child.send(process, self._start())
            self._process = process
            while True:
                await self._take(await child.receive(process))
        finally:
            self._process = None
            await child.end(process)

    def _start(self) -> Start:
        directory = self._directory
        known = {
            tenant.id: (directory.digests[tenant.id], tenant.config.match)
            for tenant in directory.tenants
            if tenant.id in directory.digests
        }
        return Start(self._config, self._path, known, dict(directory.refused))

    # --- what it says -----------------------------------------------------------------------------------------------

    async def _take(self, news: News) -> None:
        directory = self._directory
        match news:
            case Changed():
                await _read_sounds(news)
                known = directory.get(news.id)
                if known is not None and known.config.match == news.config.match:
                    self._put(news)
                else:
                    self._moving.append(news)
            case Gone():
                self._moving.append(news)
            case Refused(tenant, why):
                directory.refused[tenant] = why
                state = "its last version stays in force" if directory.get(tenant) else "there is no version of it"
                log.error("tenant's file refused", tenant=tenant, error=why, now=state)
            case Mended(tenant):
                if directory.refused.pop(tenant, None) is not None:
                    log.info("tenant's file is right again", tenant=tenant)
            case Trouble(what, error):
                log.warning(what, error=error)
            case SettingsLookedAt():
                _tell_of_settings(news)
            case Settled(seconds):
                await self._move(seconds)
        await self._breathe()

    def _put(self, news: Changed) -> None:
        tenant = Tenant(news.id, news.config, news.version)
        before = self._directory.get(news.id)
        self._directory.take(tenant)
        self._directory.digests[news.id] = news.digest
        self._directory.changes += 1
        self._in_look += 1
        if self._in_look > _MOST_TOLD:
            return
        log.info("tenant changed" if before else "tenant added", tenant=news.id, version=news.version)
        if news.lost:
            log.warning("keys are not set any more, their defaults hold", tenant=news.id, keys=", ".join(news.lost))
        for warning in news.warnings:
            log.warning(warning, tenant=news.id)

    async def _move(self, seconds: float) -> None:
        """A few change places in one moment, so that no call finds two of them, or none, at a number."""
        moving, self._moving = self._moving, []
        for news in moving:
            if isinstance(news, Gone):
                self._directory.drop(news.id)
                log.info("tenant gone", tenant=news.id)
            else:
                self._put(news)
            if len(moving) > _MOST_AT_ONCE:
                await self._breathe()
        if self._in_look > _MOST_TOLD:
            log.info("tenants changed", count=self._in_look, seconds=round(seconds, 2))
        count, self._in_look = self._in_look, 0
        self._settled(count)

    async def _breathe(self) -> None:
        """What was done without a pause is not to become more than a slice."""
        now = time.perf_counter()
        if now - self._sliced > _SLICE_S:
            await asyncio.sleep(_SLICE_S)
            self._sliced = time.perf_counter()


def _tell_of_settings(news: SettingsLookedAt) -> None:
    if news.error:
        log.error("sipbridge.yaml cannot be used as it is now; nothing of it is in force", error=news.error)
    elif news.differing:
        log.warning("sipbridge.yaml has changed; what differs needs a restart", keys=", ".join(news.differing))
    else:
        log.info("sipbridge.yaml says what is in force")


async def _read_sounds(news: Changed) -> None:
    """What its callers hear is read before it is in force, and not where their sound is waiting."""
    files = Tenant(news.id, news.config).sound_files
    try:
        for path in files:
            await asyncio.to_thread(read_wav_again, path, (8000, 16000, 24000))
    except ValueError as error:  # it has changed since it was found to be right
        log.error("sound not read again", tenant=news.id, error=str(error))
