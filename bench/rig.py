"""Starts the two processes of a run, on different cores, and talks to them."""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO, Any

from bench import machine, secrecy
from bench.loop import Loop

_REPOSITORY = Path(__file__).parents[1]
_NATIVE = _REPOSITORY / "build" / "native"
_force_interpreted = False


def interpret() -> None:
    """From now on, the gateway's sources as they are, even where there is a compiled media plane."""
    global _force_interpreted
    _force_interpreted = True


def compiled() -> bool:
    """Whether gateways are started with the compiled media plane (`scripts/native.sh`)."""
    return not _force_interpreted and (_NATIVE / "sipbridge").is_dir()


@dataclass(frozen=True, slots=True)
class Figures:
    """What the gateway's process says of itself at a moment."""

    cpu_seconds: float
    wall_seconds: float
    tasks: int
    descriptors: list[str]
    resident_kib: int
    calls: int
    ended: int
    core_seconds: float
    """What its core has worked, for itself and others."""


class Process:
    """A module of the bench that speaks in lines of JSON."""

    def __init__(
        self,
        module: str,
        options: dict[str, Any],
        errors: IO[bytes] | int | None,
        *,
        trusted: Path | None = None,
        package: Path = _REPOSITORY,
    ) -> None:
        """`trusted`: the authority whose certificates it believes; `package`: the folder that has the product."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, json.dumps(options)],
            cwd=package,
            env=os.environ
            | {"PYTHONPATH": str(_REPOSITORY)}
            | ({} if trusted is None else {"SSL_CERT_FILE": str(trusted)}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )

    def hear(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._process.args!r} ended with status {self._process.wait()}")
        message: dict[str, Any] = json.loads(line)
        return message

    def when_it_speaks(self, loop: Loop, tell: Callable[[dict[str, Any]], None]) -> None:
        """Have each line told, instead of waiting for it. Lines are whole when they come: it flushes after each."""
        output = self._process.stdout
        assert output is not None
        os.set_blocking(output.fileno(), False)
        text = b""

        def readable() -> None:
            nonlocal text
            data = os.read(output.fileno(), 1 << 20)
            if not data:
                raise RuntimeError(f"{self._process.args!r} ended with status {self._process.wait()}")
            *lines, text = (text + data).split(b"\n")
            for line in lines:
                tell(json.loads(line))

        loop.add_reader(output, readable)

    def say(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def end(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()


@cache
def certificate() -> tuple[Path, Path]:
    directory = tempfile.TemporaryDirectory(prefix="bench")
    atexit.register(directory.cleanup)
    return secrecy.make_certificate(Path(directory.name))


def package(native: bool) -> Path:
    """Where the product is taken from."""
    return _NATIVE if native else _REPOSITORY


AtPoint = Callable[[str, Callable[[str], Figures]], None]
"""Called at each point that a scenario reaches, with a function that asks the gateway for its figures."""


def run(
    scenario: str,
    *,
    user: str,
    calls: int,
    seconds: float,
    seed: int,
    uvloop: bool = True,
    spin: bool = False,
    tls: bool = False,
    uplink_ms: int = 20,
    interpreted: bool = False,
    at_point: AtPoint = lambda point, ask: None,
    **more: Any,
) -> dict[str, Any]:
    """One run on a fresh gateway; what the scenario found. `more` is for the scenario."""
    gateway_core, our_core = machine.cores()
    options = {"scenario": scenario, "user": user, "calls": calls, "seconds": seconds, "seed": seed}
    chain, trusted = certificate() if tls else (None, None)
    options |= {
        "core": our_core,
        "spin": spin and our_core != gateway_core,
        "certificate": str(chain or ""),
        **more,
    }
    far_end = Process("bench.far_end", options, None)
    try:
        provider = far_end.hear()["provider"]
        native = compiled() and not interpreted
        node_options = {"provider": provider, "uvloop": uvloop, "core": gateway_core, "uplink_ms": uplink_ms}
        node_options["compiled"] = native
        # The log is written, as it is in use, but nobody reads it.
        node = Process("bench.node", node_options, subprocess.DEVNULL, trusted=trusted, package=package(native))
        try:

            def ask(question: str) -> Figures:
                node.say(question)
                return Figures(**node.hear())

            far_end.say(json.dumps(node.hear()["address"]))
            while True:
                message = far_end.hear()
                if "result" in message:
                    result: dict[str, Any] = message["result"]
                    return result
                at_point(message["reached"], ask)
                far_end.say("go on")
        finally:
            node.end()
    finally:
        far_end.end()
