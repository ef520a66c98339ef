"""One run of a local program: a message on its standard input, its standard output back, both bounded."""

from __future__ import annotations

import asyncio
from asyncio.subprocess import DEVNULL, PIPE, Process

import structlog

from sipbridge.providers import ProgramEndpoint

log = structlog.get_logger(__name__)

_BLOCK = 64 * 1024


async def run_program(endpoint: ProgramEndpoint, message: str | bytes) -> bytes:
    """What the program wrote, or `b""` where it could not be run, failed, took too long or wrote too much.

    Cancelled or not, the program is gone when this returns.
    """
    data = message.encode() if isinstance(message, str) else message
    try:
        process = await asyncio.create_subprocess_exec(*endpoint.argv, stdin=PIPE, stdout=PIPE, stderr=DEVNULL)
    except OSError as error:
        log.warning("program could not be run", program=endpoint.argv[0], error=str(error))
        return b""
    try:
        async with asyncio.timeout(endpoint.timeout):
            output = await _converse(process, data, endpoint.max_output)
            status = await process.wait()
    except TimeoutError:
        log.warning("program took too long", program=endpoint.argv[0], seconds=endpoint.timeout)
        return b""
    finally:
        if process.returncode is None:
            process.kill()
        await _reap(process)
    if output is None or status != 0:
        why = "too much output" if output is None else f"exit status {status}"
        log.warning("program failed", program=endpoint.argv[0], why=why)
        return b""
    return output


async def _converse(process: Process, data: bytes, max_output: int) -> bytes | None:
    """None: more than `max_output`, and the program was killed for it."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(data)
    process.stdin.close()
    blocks, size = [], 0
    while block := await process.stdout.read(_BLOCK):
        blocks.append(block)
        size += len(block)
        if size > max_output:
            process.kill()
            return None
    return b"".join(blocks)


async def _reap(process: Process) -> None:
    """The pipe has to be read to its end before the exit is seen."""
    assert process.stdout is not None
    while await process.stdout.read(_BLOCK):
        pass
    await process.wait()
