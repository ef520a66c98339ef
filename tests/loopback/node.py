"""`sipbridge serve` as a process of its own that may be killed, and a receiver of its webhooks."""

from __future__ import annotations

import asyncio
import json
import signal
import sqlite3
import sys
from ast import literal_eval
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import yaml

from tests.loopback.waiting import Watched

ROOT = Path(__file__).parents[2]


class Receiver(Watched):
    """An HTTP server that takes events. `broken`: it answers 503 meanwhile."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[dict[str, Any]] = []
        """Answered with 200, in their order."""
        self.broken = False
        self.url = ""
        self._writers: set[asyncio.StreamWriter] = set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length:")[2].split()[0])
                event = json.loads(await reader.readexactly(length))
                if not self.broken:
                    self.events.append(event)
                writer.write(b"HTTP/1.1 %s\r\nContent-Length: 0\r\n\r\n" % (b"503 x" if self.broken else b"200 OK"))
                self.changed()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    def hang_up(self) -> None:
        for writer in self._writers:
            writer.close()

    def of_kind(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["type"] == kind]


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    server = await asyncio.start_server(receiver._serve, "127.0.0.1", 0)
    receiver.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook"
    async with server:
        yield receiver
        receiver.hang_up()


class Node(Watched):
    """The process. Its files are in `folder`, and outlive it."""

    def __init__(self, folder: Path, config: Mapping[str, Any], tenant: Mapping[str, Any]) -> None:
        super().__init__()
        self.folder = folder
        self.address = ("", 0)
        self.log: list[dict[str, Any]] = []
        self._process: asyncio.subprocess.Process
        self._reading: asyncio.Task[None]
        (folder / "tenants").mkdir(parents=True, exist_ok=True)
        (folder / "tenants" / "t.yaml").write_text(yaml.safe_dump(dict(tenant)))
        base = {
            "node": {"id": "n1"},
            "sip": {"listen": ["udp://127.0.0.1:0"]},
            "media": {"ports": "28400-28999", "codecs": ["PCMU"]},
            "limits": {"media_timeout_seconds": 600},
        }
        (folder / "sipbridge.yaml").write_text(yaml.safe_dump({**base, **config}))

    async def start(self, *, within: float = 20.0) -> None:
        """Returns when it takes calls."""
        self.address = ("", 0)
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "sipbridge", "--log-json", "serve", "-c", str(self.folder / "sipbridge.yaml")),
            cwd=ROOT,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        self._reading = asyncio.create_task(self._read())
        await self.until(lambda: self.address[1] != 0 or self._reading.done(), within=within)
        assert self.address[1], self.log[-20:]

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            try:
                event = json.loads(line)
            except ValueError:
                event = {"event": line.decode(errors="replace")}
            self.log.append(event)
            if event["event"] == "listening":
                _, self.address = literal_eval(event["addresses"][0])
            self.changed()

    async def kill(self) -> None:
        self._process.kill()
        await self._over()

    async def stop(self, *, within: float = 20.0) -> int:
        """As an operator does; its exit status."""
        self._process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(within):
            await self._over()
        assert self._process.returncode is not None
        return self._process.returncode

    async def stall(self, stalled: bool) -> None:
        self._process.send_signal(signal.SIGSTOP if stalled else signal.SIGCONT)

    async def _over(self) -> None:
        await self._process.wait()
        await self._reading

    def said(self, text: str) -> list[dict[str, Any]]:
        return [event for event in self.log if text in event["event"]]

    # --- its files ----------------------------------------------------------------------------------------------------

    @property
    def store(self) -> Path:
        return self.folder / "var" / "history.db"

    def stored(self, query: str = "SELECT record, seq, kind, data FROM entries ORDER BY record, seq") -> list[Any]:
        return read(self.store, query)

    def waiting(self) -> list[tuple[str, int]]:
        """What the outbox has."""
        found = []
        for path in sorted((self.folder / "var" / "outbox").glob("*.outbox")):
            found += read(path, "SELECT record, seq FROM entries")
        return found


def read(path: Path, query: str) -> list[Any]:
    if not path.exists():
        return []
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as db:
        if not db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:  # killed while it was made
            return []
        return db.execute(query).fetchall()
