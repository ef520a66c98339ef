"""Local programs as channels: bounded in time and size, and gone when they are no longer wanted."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from sipbridge.providers import Outgoing, ProgramEndpoint
from sipbridge.providers.channels import ProgramChannel
from sipbridge.providers.programs import run_program


def python(code: str, *, timeout: float = 10.0, max_output: int = 1 << 20) -> ProgramEndpoint:
    return ProgramEndpoint((sys.executable, "-S", "-c", code), timeout, max_output)


def test_a_message_goes_in_and_the_output_comes_back() -> None:
    echo = python("import sys; sys.stdout.buffer.write(sys.stdin.buffer.read()[::-1])")
    big = bytes(range(256)) * 2000
    assert asyncio.run(run_program(echo, "caf\u00e9")) == "caf\u00e9".encode()[::-1]
    assert asyncio.run(run_program(echo, big)) == big[::-1]


@pytest.mark.parametrize(
    "endpoint",
    [
        ProgramEndpoint(("/no/such/program",)),
        python("raise SystemExit(3)"),
        python("print('x' * 100_000)", max_output=1000),
        python("import time; time.sleep(60)", timeout=0.1),
    ],
    ids=["missing", "exit status", "too much", "too long"],
)
def test_a_run_that_fails_is_an_empty_message(endpoint: ProgramEndpoint) -> None:
    assert asyncio.run(run_program(endpoint, b"")) == b""


def test_a_program_does_not_outlive_the_one_who_waits_for_it(tmp_path: Path) -> None:
    fifo = tmp_path / "pid"
    os.mkfifo(fifo)
    lingering = python(f"import os, time; open({str(fifo)!r}, 'w').write(str(os.getpid())); time.sleep(60)")

    async def scenario() -> int:
        run = asyncio.create_task(run_program(lingering, b""))
        pid = int(await asyncio.to_thread(fifo.read_text))
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        return pid

    pid = asyncio.run(scenario())
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_runs_of_one_channel_come_back_in_the_order_they_were_asked_for() -> None:
    async def scenario() -> list[str | bytes]:
        channel = ProgramChannel(python("import sys; print(sys.stdin.read(), end='')"))
        answers: list[str | bytes] = []

        def deliver(message: str | bytes) -> None:
            answers.append(message)
            if len(answers) == 3:
                channel.abort()

        for text in ("a", "b", "c"):
            channel.send(Outgoing("speech", text))
        assert await channel.receive(deliver) == (1000, "closed")
        return answers

    assert asyncio.run(scenario()) == [b"a", b"b", b"c"]
