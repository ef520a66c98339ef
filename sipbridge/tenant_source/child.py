"""A process of our own beside the gateway, for what would make the media clock late: to validate one document of a
tenant's takes milliseconds, and in a thread as well it would hold the interpreter.

On the pipes are frames: four octets of length, then a pickle. Both ends are this package: nobody else's are read. What
a child prints goes to standard error.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import struct
import sys
from typing import Any, BinaryIO

_LENGTH = struct.Struct("!I")
_MOST = 64 * 1024 * 1024

# --- the gateway's side -----------------------------------------------------------------------------------------------


async def start(module: str) -> asyncio.subprocess.Process:
    """It runs the module's `main`. Raises `OSError`."""
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-c", f"from {module} import main; main()"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,  # Ctrl-C is for us to hear
        env=os.environ | {"PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)},
    )


async def send(child: asyncio.subprocess.Process, message: object) -> None:
    """Raises `OSError` where it is gone. To pickle the tenants of a big gateway takes a tenth of a second."""
    assert child.stdin is not None
    child.stdin.write(await asyncio.to_thread(framed, message))
    await child.stdin.drain()


async def receive(child: asyncio.subprocess.Process) -> Any:
    """Raises `EOFError` where no more comes, or half of it."""
    assert child.stdout is not None
    (length,) = _LENGTH.unpack(await child.stdout.readexactly(_LENGTH.size))
    if length > _MOST:
        raise EOFError("too much of an answer")
    return pickle.loads(await child.stdout.readexactly(length))


async def end(child: asyncio.subprocess.Process) -> None:
    if child.returncode is None:
        child.kill()
    if child.stdin is not None:
        child.stdin.close()
    if child.stdout is not None:
        await child.stdout.read()  # `wait` waits for the end of what it has said, too
    await child.wait()


# --- the child's side -------------------------------------------------------------------------------------------------


def pipes() -> tuple[BinaryIO, BinaryIO]:
    """What the gateway says, and what it is told."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return sys.stdin.buffer, answers


def read(pipe: BinaryIO) -> Any:
    """Raises `EOFError` where the gateway is gone."""
    head = pipe.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        raise EOFError
    return pickle.loads(pipe.read(*_LENGTH.unpack(head)))


def write(message: object, pipe: BinaryIO) -> None:
    pipe.write(framed(message))
    pipe.flush()


def framed(message: object) -> bytes:
    data = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    return _LENGTH.pack(len(data)) + data
