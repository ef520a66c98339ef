"""Where the real peers are, and how a program is started, listened to and ended.

A missing peer skips the test and says why; in continuous integration (CI=true) it fails it, since there the set-up has
to have installed it.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

ROOT = Path(__file__).parents[2]
LAB = Path(os.environ.get("SIPBRIDGE_LAB", ROOT / ".lab")).absolute()


def require(program: str) -> str:
    """The path of a peer: from the lab folder, else from PATH."""
    installed = LAB / "bin" / program
    if (LAB / "stamp").exists() and installed.exists():
        return str(installed)
    found = shutil.which(program)
    if found is None:
        reason = f"{program} is neither in {LAB} nor on PATH: run `make lab`"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return found


def free_port(address: str, kind: socket.SocketKind = socket.SOCK_DGRAM) -> int:
    """A port that is free on this address now. The test's own addresses (127.0.0.2 ...) have no other users."""
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind) as sock:
        sock.bind((address, 0))
        port: int = sock.getsockname()[1]
        return port


class Program:
    """A running program whose output is read as it comes. Use as a context manager: leaving it ends the program."""

    def __init__(
        self,
        argv: Sequence[str],
        *,
        cwd: Path | None = None,
        env: dict[str, str] | None = None,
        account: tuple[int, int] | None = None,
    ) -> None:
        """`account`: user and group that it runs as, where they are not ours."""
        self.argv = list(argv)
        user, group = account or (None, None)
        self.process = subprocess.Popen(
            self.argv,
            cwd=cwd,
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            user=user,
            group=group,
            extra_groups=None if account is None else [],
        )
        self._lines: list[str] = []
        self._changed = threading.Condition()
        self._ended = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def output(self) -> str:
        with self._changed:
            return "".join(self._lines)

    def wait_for(self, pattern: str, timeout: float = 15) -> re.Match[str]:
        """Wait until the output matches `pattern`; fails with the output where the program ends or time runs out."""
        expression = re.compile(pattern, re.MULTILINE)
        match: re.Match[str] | None = None

        def seen() -> bool:
            nonlocal match
            match = expression.search("".join(self._lines))
            return match is not None or self._ended

        with self._changed:
            self._changed.wait_for(seen, timeout)
        if match is None:
            what = f"ended with {self.process.wait()}" if self._ended else f"did not say so within {timeout:g} s"
            raise AssertionError(f"{self.argv[0]}: waiting for {pattern!r}, but it {what}:\n{self.output}")
        return match

    def wait_until(self, done: Callable[[], bool], timeout: float, what: str) -> None:
        """Wait until `done`, which is asked again at every line of output."""
        with self._changed:
            if not self._changed.wait_for(done, timeout):
                raise AssertionError(f"{self.argv[0]}: no {what} within {timeout:g} s:\n{self.output}")

    def wait(self, timeout: float) -> int:
        """The exit status; fails where the program does not end by itself in time."""
        try:
            status = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.argv[0]} did not end within {timeout:g} s:\n{self.output}") from None
        self._reader.join(timeout)
        return status

    def stop(self) -> int:
        """Ask the program to end, make it after five seconds; its exit status. May be called twice."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
        status = self.process.wait()
        self._reader.join(5)
        if self.process.stdout:
            self.process.stdout.close()
        return status

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            with self._changed:
                self._lines.append(line)
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()
