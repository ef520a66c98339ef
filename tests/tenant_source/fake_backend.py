"""A tenants' backend: an HTTP server on loopback that answers as it is told to, lies among it.

As a program (`python -m tests.tenant_source.fake_backend PORT FILE`) it answers every question with that file.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit


@dataclass(frozen=True)
class Asked:
    target: str
    headers: dict[str, str]

    @property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(urlsplit(self.target).query, keep_blank_values=True))


def http(status: int, body: bytes = b"", **headers: str) -> bytes:
    head = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}"]
    head += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


def document(tenant: str = "acme", **more: Any) -> bytes:
    return json.dumps({"id": tenant, "agent": {"provider": "offline"}, **more}).encode()


@dataclass
class FakeBackend:
    """`answer` gives the octets that are sent back; None: the connection is reset."""

    answer: Callable[[Asked], bytes | None | Awaitable[bytes | None]] = lambda asked: http(200, document())
    asked: list[Asked] = field(default_factory=list)
    port: int = 0
    hangs_up: bool = False
    """After each answer."""

    async def __aenter__(self) -> Self:
        self._tasks: set[asyncio.Task[None]] = set()
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/tenant"

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                first, *lines = head.strip().split("\r\n")
                pairs = (line.partition(":") for line in lines)
                asked = Asked(first.split()[1], {name.lower(): value.strip() for name, _, value in pairs})
                self.asked.append(asked)
                answer = self.answer(asked)
                if isinstance(answer, Awaitable):
                    answer = await answer
                if answer is None:
                    writer.transport.abort()
                    return
                writer.write(answer)
                await writer.drain()
                if self.hangs_up:
                    return
        except (EOFError, OSError):
            pass
        finally:
            writer.close()


def from_file(path: Path) -> Callable[[Asked], bytes]:
    def answer(asked: Asked) -> bytes:
        body = path.read_bytes()
        etag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
        if asked.headers.get("if-none-match") == etag:
            return http(304, etag=etag)
        return http(200, body, etag=etag)

    return answer


async def _serve_forever(port: int, path: Path) -> None:
    async with FakeBackend(from_file(path), port=port) as backend:
        sys.stdout.write(f"{backend.port}\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve_forever(int(sys.argv[1]), Path(sys.argv[2])))
