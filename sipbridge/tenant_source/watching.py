"""The process beside the gateway that reads tenants' files when they change.

Parsing YAML holds the interpreter for milliseconds; in a thread of the gateway's it would make the media clock late. So
it is done here, where nothing is in a hurry. What is right is handed over ready to be used (`news`).
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from sipbridge import tenant_checks
from sipbridge.config import Config, load_config
from sipbridge.configfile import state_directory
from sipbridge.errors import ConfigError
from sipbridge.prompts import forget_wavs
from sipbridge.tenant_source import child
from sipbridge.tenant_source.files import checked, no_longer_set, without_secrets
from sipbridge.tenant_source.intake import Candidate, Intake
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
from sipbridge.tenant_source.scanner import QUIET_S, Scanner, Seen
from sipbridge.tenant_source.versions import Text, Versions, digest_of

LOOK = b"l"
"""What the gateway writes to have the files looked at now, sipbridge.yaml among them."""
_NO_EVENTS_S = 2.0
"""Without inotify the directory is looked at so often."""


class Reader:
    """`look` is one look at the files."""

    def __init__(self, start: Start) -> None:
        self._config = start.config
        self._path = start.path
        self.directory = start.path.parent / start.config.tenants.directory
        kept = start.config.tenants.versions
        self._versions = None if kept is None else Versions(state_directory(start.path.parent) / kept)
        self._scanner = Scanner(self.directory, {tenant: digest for tenant, (digest, _) in start.known.items()})
        self._intake = Intake({tenant: match for tenant, (_, match) in start.known.items()}, start.refused)
        self._trouble = ""

    @property
    def pending(self) -> bool:
        return self._scanner.pending

    def look(self, now: float) -> Iterator[News]:
        began = time.monotonic()
        try:
            seen = self._scanner.look(now)
        except OSError as error:
            words = f"{self.directory}: {error.strerror or error}"
            if words != self._trouble:
                self._trouble = words
                yield Trouble("tenants' directory cannot be read, all stay as they are", words)
            return
        if self._trouble:
            self._trouble = ""
            yield Trouble("tenants' directory can be read again", "")
        if seen:
            yield from self._news(seen)
            yield Settled(time.monotonic() - began)

    def _news(self, seen: Seen) -> Iterator[News]:
        candidates, faults = [], dict(seen.faults)
        forget_wavs()  # that they can be played is looked at anew
        for tenant, path, text in seen.texts:
            try:
                candidates.append(Candidate(tenant, path, text, checked(text, path, self._config)))
            except ConfigError as error:
                faults[tenant] = str(error)
        step = self._intake.step(candidates, faults, seen.gone, seen.back)
        numbers: dict[str, int] = {}
        lost: dict[str, tuple[str, ...]] = {}
        if self._versions is not None and step.taken:
            try:
                lost = self._lost(step.taken)
                numbers = self._versions.keep(
                    Text(each.id, each.text, without_secrets(each.text)) for each in step.taken
                )
            except ConfigError as error:
                yield Trouble("versions of tenants not kept", str(error))
        for each in step.taken:
            digest = self._scanner.digests[each.id] = digest_of(each.text)
            warnings = tuple(tenant_checks.warnings(each.config))
            yield Changed(each.id, each.config, numbers.get(each.id, 0), digest, warnings, lost.get(each.id, ()))
        for tenant in seen.gone:
            self._scanner.digests.pop(tenant, None)
        yield from map(Gone, step.dropped)
        yield from map(Mended, step.mended)
        for tenant, why in step.refused:
            yield Refused(tenant, why)

    def _lost(self, taken: Sequence[Candidate]) -> dict[str, tuple[str, ...]]:
        """Keys that were set, and are not any more: that may be meant, and may be an accident."""
        assert self._versions is not None
        before = self._versions.newest(each.id for each in taken)
        known = ((each, before[each.id][1]) for each in taken if each.id in before)
        return {each.id: tuple(no_longer_set(text, each.text)) for each, text in known}

    def settings(self) -> SettingsLookedAt:
        """What of sipbridge.yaml would be another now."""
        try:
            now = load_config(self._path)
        except ConfigError as error:
            return SettingsLookedAt((), str(error))
        return SettingsLookedAt(tuple(differing(self._config, now)))


def differing(one: Config, other: Config) -> Iterator[str]:
    """The sections, and their keys, in which two configurations differ."""
    for name, section in one:
        theirs = getattr(other, name)
        if section == theirs:
            continue
        fields = (
            type(section).model_fields if type(section) is type(theirs) and hasattr(section, "model_fields") else {}
        )
        keys = [key for key in fields if getattr(section, key) != getattr(theirs, key)]
        yield from (f"{name}.{type(section).model_fields[key].alias or key}" for key in keys)
        if not keys:
            yield name


def main() -> None:
    """Read the `Start` from standard input, then write news to standard output until the input ends."""
    os.nice(10)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGIO):
        # The end of the gateway is ours; SIGIO tells that somebody wants to write what we have just looked at.
        signal.signal(number, signal.SIG_IGN)
    source, out = child.pipes()
    start: Start = child.read(source)
    reader = Reader(start)
    wake, asked = threading.Event(), threading.Event()
    every = start.config.tenants.rescan_seconds
    threading.Thread(target=_listen, args=(source, asked, wake), daemon=True).start()
    threading.Thread(target=_watch, args=(reader.directory, wake, every), daemon=True).start()
    with suppress(BrokenPipeError):
        while True:
            if asked.is_set():
                asked.clear()
                child.write(reader.settings(), out)
            for news in reader.look(time.monotonic()):
                child.write(news, out)
            if wake.wait(QUIET_S if reader.pending else every):
                wake.clear()
                time.sleep(QUIET_S / 2)  # a change seldom comes alone


def _listen(source: BinaryIO, asked: threading.Event, wake: threading.Event) -> None:
    while source.read(1) == LOOK:
        asked.set()
        wake.set()
    os._exit(0)  # the gateway is gone


def _watch(directory: Path, wake: threading.Event, every: float) -> None:
    from watchfiles import watch

    while True:
        with suppress(OSError, RuntimeError):  # no inotify, none left, no directory: it is looked at all the same
            identity = os.stat(directory).st_ino
            for changes in watch(
                directory, recursive=False, watch_filter=None, debounce=100, step=20, rust_timeout=5000,
                yield_on_timeout=True, raise_interrupt=False,
            ):  # fmt: skip
                if changes:
                    wake.set()
                elif os.stat(directory).st_ino != identity:  # another one in its place: that one has to be watched
                    break
        wake.set()
        time.sleep(min(every, _NO_EVENTS_S))
