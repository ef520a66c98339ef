"""`sipbridge serve` with a tenants' backend that is a process of its own: stopped, stalled, made to lie and brought
back while calls are up and come in."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from sipbridge.simulator.caller import CallOptions, CallReport, place_call
from sipbridge.simulator.caller_report import parse_expectations

ROOT = Path(__file__).parents[2]
_ENV = {**os.environ, "ACME_KEY": "k"}


class Process:
    """What it prints is kept."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: list[str] = []
        self._told = asyncio.Condition()
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            self.lines.append(line.decode())
            async with self._told:
                self._told.notify_all()

    async def line(self, pattern: str, *, after: int = 0) -> re.Match[str]:
        """The first that fits, as soon as it is there."""
        found: list[re.Match[str]] = []

        def look() -> bool:
            found[:] = [match for line in self.lines[after:] if (match := re.search(pattern, line))]
            return bool(found)

        async with asyncio.timeout(15), self._told:
            await self._told.wait_for(look)
        return found[0]

    async def stop(self, number: int = signal.SIGTERM) -> None:
        if self.process.returncode is None:
            self.process.send_signal(number)
        await self.process.wait()
        await self._reading


@asynccontextmanager
async def running(*command: str) -> AsyncIterator[Process]:
    program = Process(
        await asyncio.create_subprocess_exec(
            sys.executable,
            *command,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            cwd=ROOT,
            env=_ENV,
        )
    )
    try:
        yield program
    finally:
        if program.process.returncode is None:
            program.process.send_signal(signal.SIGCONT)
        await program.stop(signal.SIGKILL if "fake_backend" in " ".join(command) else signal.SIGTERM)


class Bench:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.document = folder / "answer.json"
        self.gateway: Process
        self.port = 0

    def answer(self, text: str | None = None, **more: Any) -> None:
        agent = {"provider": "offline", "greeting": "One moment, please.", "api_key": "${ACME_KEY}"}
        body = text if text is not None else json.dumps({"id": "acme", "agent": agent, **more})
        part = self.document.with_suffix(".part")
        part.write_text(body)
        part.replace(self.document)

    async def backend(self, port: int = 0) -> Process:
        command = [sys.executable, "-m", "tests.tenant_source.fake_backend", str(port), str(self.document)]
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, cwd=ROOT)
        return Process(process)

    async def call(self, expect: str, *, seconds: float = 0.7, to: str = "+15550100") -> CallReport:
        target = f"sip:{to}@127.0.0.1:{self.port}"
        report = await place_call(CallOptions(target, seconds=seconds, expect=parse_expectations(expect)))
        assert report.ok, "\n".join([*map(str, report.timeline), *report.summary(), *self.gateway.lines[-20:]])
        return report

    def write(self, url: str) -> Path:
        config = {
            "sip": {"listen": ["udp://127.0.0.1:0"]},
            "media": {"ports": "28400-28599", "codecs": ["PCMU"]},
            "tenants": {"url": url, "timeout_seconds": 1},
            "history": {"enabled": False},
        }
        path = self.folder / "sipbridge.yaml"
        path.write_text(yaml.safe_dump(config))
        return path

    @asynccontextmanager
    async def serving(self, path: Path) -> AsyncIterator[None]:
        async with running("-m", "sipbridge", "--log-json", "serve", "-c", str(path)) as self.gateway:
            self.port = int((await self.gateway.line(r"'127.0.0.1', (\d+)"))[1])
            yield


@asynccontextmanager
async def asked(folder: Path) -> AsyncIterator[tuple[Bench, Path, int, list[Process]]]:
    """A backend's process that runs, and a configuration that names it."""
    bench = Bench(folder)
    bench.answer()
    backends = [await bench.backend()]
    port = int((await backends[0].line(r"(\d+)"))[1])
    try:
        yield bench, bench.write(f"http://127.0.0.1:{port}/tenants"), port, backends
    finally:
        for backend in backends:
            await backend.stop(signal.SIGKILL)


@pytest.mark.slow
async def test_a_backend_may_stall_lie_and_die_while_calls_are_up(tmp_path: Path) -> None:
    async with asked(tmp_path) as (bench, path, _, (backend,)), bench.serving(path):
        up = asyncio.create_task(bench.call("answered,greeting<3000,duration>4500", seconds=5))
        await bench.call("answered,greeting<3000")
        backend.process.send_signal(signal.SIGSTOP)
        # One waits for the time-out and gets what was last good; of the other's number nothing is known.
        await asyncio.gather(bench.call("answered,connect<2500"), bench.call("480", to="+15550177"))
        backend.process.send_signal(signal.SIGCONT)
        bench.answer("<html>Service unavailable</html>")
        await bench.call("answered,connect<900")
        await backend.stop(signal.SIGKILL)
        await bench.call("answered,connect<2500")
        await up
        assert sum("tenant as last known" in line for line in bench.gateway.lines) == 3


@pytest.mark.slow
async def test_what_it_said_survives_the_gateway_and_it_is_asked_when_it_is_back(tmp_path: Path) -> None:
    async with asked(tmp_path) as (bench, path, port, backends):
        async with bench.serving(path):
            await bench.call("answered,greeting<3000")
        await backends[0].stop(signal.SIGKILL)
        async with bench.serving(path):  # this one has asked nobody
            await bench.call("answered,connect<2500")
            bench.answer(version=2)
            backends.append(await bench.backend(port))
            await backends[1].line(r"\d+")
            await bench.call("answered,greeting<3000")
            bench.answer(limits={"call_seconds": "x"})
            await bench.call("answered")
            wrong = await bench.gateway.line('limits.call_seconds[^"]*')
            assert "a valid number" in wrong[0]
            assert "Traceback" not in "".join(bench.gateway.lines)
