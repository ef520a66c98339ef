"""How soon a caller is told that there is no model: a gateway, a server that refuses or says nothing, and a phone."""

from __future__ import annotations

import asyncio
import time

from sipbridge import logs
from sipbridge.config import Config
from sipbridge.gateway import Gateway
from sipbridge.simulator.caller import CallOptions, place_call
from sipbridge.simulator.caller_report import TimelineEntry
from sipbridge.tenant_config import TenantConfig
from sipbridge.tenant_source.directory import TenantDirectory
from sipbridge.tenants import Tenant

_UNAUTHORIZED = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
DEADLINE_S = 1.0


class _Server:
    """Takes connections, and refuses them or never says a word."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self.refused_at = 0.0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            if self._answer:
                self.refused_at = time.monotonic()
                writer.write(self._answer)
            await reader.read()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


async def _milliseconds(answer: bytes, calls: int) -> list[float]:
    """From the refusal, or from the INVITE where there is none, to the final answer."""
    model = _Server(answer)
    found = []
    async with await asyncio.start_server(model.serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        agent = {"provider": "openai", "url": f"ws://127.0.0.1:{port}/v1/realtime"}
        settings = {"agent": agent, "deadlines": {"connect_seconds": DEADLINE_S}}
        tenants = TenantDirectory([Tenant("a", TenantConfig.model_validate(settings))])
        async with Gateway(Config.model_validate({"sip": {"listen": ["udp://127.0.0.1:0"]}}), tenants) as gateway:
            target = f"sip:agent@127.0.0.1:{gateway.transport.address('udp')[1]}"
            for _ in range(calls):
                found.append(await _one(target, model))
    return found


async def _one(target: str, model: _Server) -> float:
    began = time.monotonic()
    final = 0.0

    def told(entry: TimelineEntry) -> None:
        nonlocal final
        if "480" in entry.text:
            final = time.monotonic()

    report = await place_call(CallOptions(target=target), told)
    if report.status != 480 or not final:
        raise RuntimeError(f"the call was not refused with 480: {report.status} {report.error}")
    return (final - (model.refused_at or began)) * 1000


def refused(calls: int) -> list[float]:
    logs.set_up("error")
    return asyncio.run(_milliseconds(_UNAUTHORIZED, calls))


def silent(calls: int) -> list[float]:
    """Over the deadline."""
    logs.set_up("error")
    return [value - DEADLINE_S * 1000 for value in asyncio.run(_milliseconds(b"", calls))]
