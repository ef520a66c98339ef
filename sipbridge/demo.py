"""The demonstration: a gateway on the embedded model, and one real call to it over UDP. No key, no account."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from sipbridge.config import Config
from sipbridge.gateway import Gateway
from sipbridge.prompts import CALLER_WAV, DEFAULT_GREETING
from sipbridge.simulator.caller import CallOptions, place_call
from sipbridge.simulator.caller_report import CallReport, parse_expectations
from sipbridge.tenant_config import TenantConfig
from sipbridge.tenant_source.directory import TenantDirectory
from sipbridge.tenants import Tenant

PORT = 5060
RECORDING = Path("var/demo.wav")
# Generous: a machine that is busy with its first start still has to pass, one that is silent must not.
EXPECTED = "answered, greeting<3000, reply<4000, flush<2000, bye"


def tenants() -> TenantDirectory:
    """One tenant for every number, answered by the embedded model."""
    config = TenantConfig.model_validate(
        {"agent": {"provider": "offline", "greeting": DEFAULT_GREETING}, "tools": {"hang_up": {}}}
    )
    return TenantDirectory([Tenant("demo", config)])


@asynccontextmanager
async def gateway() -> AsyncIterator[Gateway]:
    """The demonstration's gateway on loopback: at the usual port or, where that is taken, at any free one."""
    for port in (PORT, 0):
        listen = (f"udp://127.0.0.1:{port}", f"tcp://127.0.0.1:{port}")
        try:
            async with Gateway(Config.model_validate({"sip": {"listen": listen}}), tenants()) as node:
                yield node
                return
        except OSError as error:
            if error.errno != errno.EADDRINUSE or port == 0:
                raise


async def call(node: Gateway) -> CallReport:
    """One call to it: hear the greeting, speak, interrupt the answer, press the key that asks it to hang up."""
    host, port = node.transport.address("udp")
    RECORDING.parent.mkdir(exist_ok=True)
    options = CallOptions(
        target=f"sip:agent@{host}:{port}",
        wav=CALLER_WAV,
        barge_in=True,
        dtmf="#",
        record=RECORDING,
        stereo=True,
        expect=parse_expectations(EXPECTED),
    )
    report = await place_call(options, print)
    print(*report.summary(), sep="\n", flush=True)
    return report


async def demonstrate(stop: asyncio.Event, *, once: bool) -> bool:
    """Whether the call went as it should. Unless `once`, the gateway then stays up until `stop` is set."""
    async with gateway() as node:
        report = await call(node)
        if once or not report.ok:
            return report.ok
        for transport, (host, port) in node.transport.addresses:
            print(f"Dial it from a softphone on this machine: sip:agent@{host}:{port} ({transport.upper()})")
        print("Speak and it repeats, press a key and it names it, press # and it hangs up. Ctrl-C ends it.", flush=True)
        await stop.wait()
        return True
