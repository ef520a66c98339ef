"""An MCP server that is a program of ours: a transport for the SDK's client, over its standard input and output.

In place of the SDK's own for three reasons: a message has a bound, the program's end is told at once, and what it
writes to standard error is read, however much it is (and logged, to a bound).
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, TypeAlias

import anyio
import structlog
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.client.stdio import get_default_environment
from mcp.shared.message import SessionMessage
from mcp_types import INTERNAL_ERROR, ErrorData, JSONRPCError, jsonrpc_message_adapter

if TYPE_CHECKING:
    from mcp.client._transport import TransportStreams

log = structlog.get_logger(__name__)

MAX_MESSAGE = 1024 * 1024
_READ = 64 * 1024
_ID = re.compile(rb'"id"\s*:\s*(?:(\d{1,18})|"([^"\\]{1,100})")')
_LINES_LOGGED = 100
_LONGEST_LINE = 300
_GRACE_S = 1.0
"""For a program to end by itself when its input ends, and again after SIGTERM (MCP, Lifecycle: Shutdown)."""

Item: TypeAlias = "SessionMessage | Exception"


class Lines:
    """Cuts a stream into lines of at most `MAX_MESSAGE`; of a longer one only the beginning is kept."""

    def __init__(self) -> None:
        self._line = bytearray()
        self._length = 0

    def feed(self, data: bytes) -> list[tuple[bytes, bool]]:
        """The lines that are complete, and whether each is whole."""
        *ends, rest = data.split(b"\n")
        done = []
        for end in ends:
            self._add(end)
            done.append((bytes(self._line), self._length <= MAX_MESSAGE))
            self._line.clear()
            self._length = 0
        self._add(rest)
        return done

    def _add(self, piece: bytes) -> None:
        self._length += len(piece)
        self._line += piece[: max(MAX_MESSAGE - len(self._line), 0)]


@asynccontextmanager
async def program(
    command: str, args: Sequence[str], env: Mapping[str, str], *, name: str, ended: Callable[[], None]
) -> AsyncIterator[TransportStreams]:
    """`ended` is told when the program says no more. Raises `OSError` where it cannot be started."""
    process = await asyncio.create_subprocess_exec(
        command,
        *args,
        stdin=PIPE,
        stdout=PIPE,
        stderr=PIPE,
        env={**get_default_environment(), **env},
        start_new_session=True,  # a signal to us is not one to it; and its own children end with it
    )
    incoming, read = anyio.create_memory_object_stream[Item](0)
    write, outgoing = anyio.create_memory_object_stream[SessionMessage](0)
    tasks = [
        asyncio.create_task(_read(process, incoming, ended)),
        asyncio.create_task(_write(process, outgoing)),
        asyncio.create_task(_log_errors(process, name)),
    ]
    try:
        yield read, write
    finally:
        for task in tasks:
            task.cancel()
        for stream in (incoming, read, write, outgoing):
            stream.close()
        await asyncio.shield(asyncio.ensure_future(_stop(process, tasks)))


async def _read(process: Process, incoming: MemoryObjectSendStream[Item], ended: Callable[[], None]) -> None:
    assert process.stdout is not None
    lines = Lines()
    try:
        async with incoming:
            while data := await process.stdout.read(_READ):
                for line, whole in lines.feed(data):
                    if line.strip():
                        await incoming.send(_message(line, whole))
    except (anyio.BrokenResourceError, anyio.ClosedResourceError):
        return  # nobody listens any more
    finally:
        ended()


def _message(line: bytes, whole: bool) -> Item:
    if not whole:
        found = _ID.search(line[:200])
        if found is None:
            return ValueError("a message that is too long")
        error = ErrorData(code=INTERNAL_ERROR, message=f"the answer is longer than {MAX_MESSAGE} bytes")
        number, text = found.groups()
        return SessionMessage(
            JSONRPCError(jsonrpc="2.0", id=int(number) if number else text.decode("utf-8", "replace"), error=error)
        )
    try:
        return SessionMessage(jsonrpc_message_adapter.validate_json(line, by_name=False))
    except ValueError:
        return ValueError("a line that is no JSON-RPC message")  # a program that prints what it should log


async def _write(process: Process, outgoing: MemoryObjectReceiveStream[SessionMessage]) -> None:
    assert process.stdin is not None
    with suppress(ConnectionError, anyio.ClosedResourceError):
        async with outgoing:
            async for item in outgoing:
                text = item.message.model_dump_json(by_alias=True, exclude_unset=True)
                process.stdin.write(text.encode() + b"\n")
                await process.stdin.drain()


async def _log_errors(process: Process, name: str) -> None:
    """Never stops reading: a program whose pipe is full stands still."""
    assert process.stderr is not None
    left = _LINES_LOGGED
    while data := await process.stderr.read(_READ):
        for line in data.decode("utf-8", "replace").splitlines()[: max(left, 0)]:
            left -= 1
            log.info("MCP server says", server=name, line=line[:_LONGEST_LINE])


async def _stop(process: Process, tasks: Sequence[asyncio.Task[None]]) -> None:
    await asyncio.wait(tasks)
    if process.stdin is not None:
        process.stdin.close()
    for number in (None, signal.SIGTERM, signal.SIGKILL):
        if number is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, number)
        with suppress(TimeoutError):
            async with asyncio.timeout(_GRACE_S):
                await process.communicate()  # reads what is left: waiting alone would not end with a full pipe
                return
