"""Who looks after the recordings of a gateway: finishes what a crash has left, and deletes what is past its time.

In a thread of its own, in small steps with rests between them: a thread that computes holds up the audio's.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import structlog

from sipbridge.config import Config
from sipbridge.history.facts import RecordingReady
from sipbridge.history.history import History
from sipbridge.history.stores.opening import open_store
from sipbridge.recording_files.keys import KeyRing
from sipbridge.recording_files.recovery import Recovered, recover
from sipbridge.recording_files.retention import delete_expired
from sipbridge.tenant_source.source import TenantSource

log = structlog.get_logger(__name__)

_DAY_S = 86_400.0
_REST_S = 0.005


class Care:
    """From `start` to `close`."""

    def __init__(
        self,
        directory: Path | None,
        keys: KeyRing | None,
        *,
        days_of: Callable[[], Mapping[str, int]],
        note_late: Callable[[str, RecordingReady], None] = lambda record, fact: None,
        expire_history: Callable[[], Awaitable[int]] | None = None,
        on_count: Callable[[str, int], None] = lambda state, number: None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """`days_of`: retention by tenant, as it is when it is asked for. `expire_history` is run in the thread."""
        self._directory = directory
        self._keys = keys
        self._days_of = days_of
        self._note_late = note_late
        self._expire_history = expire_history
        self._on_count = on_count
        self._wall = wall
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="recordings-care", daemon=True)

    def start(self) -> None:
        self._thread.start()

    async def close(self) -> None:
        """Leaves off between two files."""
        self._closing.set()
        await asyncio.to_thread(self._thread.join)

    # --- in the thread ------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._recover()
            while not self._closing.is_set():
                self._expire()
                self._closing.wait(_DAY_S)
        except _ClosingError:
            pass
        except Exception:
            log.exception("recordings are not looked after any more")

    def _rest(self) -> None:
        if self._closing.wait(_REST_S):
            raise _ClosingError

    def _recover(self) -> None:
        if self._directory is None:
            return
        try:
            for found in recover(self._directory, self._keys, self._rest):
                self._on_count("recovered", 1)
                self._tell(found)
        except OSError as error:
            log.error("recordings cannot be looked through", directory=str(self._directory), error=str(error))

    def _tell(self, found: Recovered) -> None:
        if found.about is not None and found.about.record:
            path = str(Path(*found.path.parts[-2:]))
            self._note_late(found.about.record, RecordingReady(path, found.seconds, found.sealed))

    def _expire(self) -> None:
        """What goes wrong today is tried again tomorrow."""
        try:
            if self._directory is not None:
                deleted = delete_expired(self._directory, self._days_of(), self._keys, self._wall(), self._rest)
                self._on_count("expired", deleted)
            if self._expire_history is not None:
                asyncio.run(self._expired_calls(self._expire_history))
        except _ClosingError:
            raise
        except Exception as error:
            log.error("nothing more expires today", error=str(error))

    async def _expired_calls(self, expire_history: Callable[[], Awaitable[int]]) -> None:
        if count := await expire_history():
            log.info("calls deleted from the history: their time is over", calls=count)


def care_of(
    config: Config,
    keys: KeyRing | None,
    tenants: TenantSource,
    history: History | None,
    on_count: Callable[[str, int], None],
) -> Care:
    """What a gateway needs."""
    days = config.history.retention_days

    async def expire_history() -> int:
        store = open_store(config)
        try:
            return 0 if days is None else await store.expire(None, time.time() - days * _DAY_S)
        finally:
            await store.close()

    return Care(
        config.recordings.directory,
        keys,
        days_of=lambda: {tenant.id: tenant.config.recording.retention_days for tenant in tenants.tenants},
        note_late=history.note_late if history is not None else lambda record, fact: None,
        expire_history=None if days is None or history is None else expire_history,
        on_count=on_count,
    )


class _ClosingError(Exception):
    pass
