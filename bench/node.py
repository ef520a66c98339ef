"""The gateway as `sipbridge serve` runs it, in a process that can be looked into: a line on standard input asks for the
figures, which come back as one line of JSON. Nothing of the product is changed for it.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time

from bench import machine
from bench.tools import FUNCTIONS
from sipbridge import logs
from sipbridge.cli import keep_start_up
from sipbridge.commands.common import run
from sipbridge.config import Config
from sipbridge.gateway import Gateway
from sipbridge.media import engine
from sipbridge.outcome import CallReport
from sipbridge.tenant_config import TenantConfig
from sipbridge.tenant_source.directory import TenantDirectory
from sipbridge.tenants import Tenant

USERS = {"pcm": False, "g711": True, "judged": False, "tools": True}
"""The user part to dial, and whether the phone's codec is passed through. What interrupts the third is judged first,
the fourth has tools."""


def _tenants(provider_url: str) -> TenantDirectory:
    tenants = []
    for user, native_audio in USERS.items():
        agent = {
            "provider": "openai",
            "url": provider_url,
            "instructions": "{{ call.id }}",  # so that the far end knows which call a session is for
            "native_audio": native_audio,
        }
        barge_in = {"recover_false_alarms": user == "judged"}
        config: dict[str, object] = {"match": {"to": user}, "agent": agent, "barge_in": barge_in}
        if user == "tools":
            config["tools"] = {"python": FUNCTIONS, "quotas": {"per_call": 1_000_000, "per_minute": 1_000_000}}
        tenants.append(Tenant(user, TenantConfig.model_validate(config)))
    return TenantDirectory(tenants)


async def _serve(provider_url: str, uplink_ms: int, core: int) -> None:
    ended = 0

    def count(report: CallReport) -> None:
        nonlocal ended
        ended += 1

    config = Config.model_validate(
        {
            "sip": {"listen": ["udp://127.0.0.1:0", "tcp://127.0.0.1:0"]},
            "media": {} if uplink_ms == 20 else {"uplink_ms": uplink_ms},
            "limits": {"max_calls": 2000},
            "trunks": [{"name": "phones", "sources": ["127.0.0.1/32"]}],
        }
    )
    async with Gateway(config, _tenants(provider_url), on_report=count) as gateway:
        keep_start_up()
        closed = asyncio.Event()

        def asked() -> None:
            question = sys.stdin.readline().strip()
            if not question:
                closed.set()
                return
            if question == "settled":
                gc.collect()
            figures = {
                "cpu_seconds": time.process_time(),
                "wall_seconds": time.monotonic(),
                "tasks": len(asyncio.all_tasks()),
                "descriptors": machine.open_descriptors(),
                "resident_kib": machine.resident_kib(),
                "calls": len(gateway.calls),
                "ended": ended,
                "core_seconds": machine.busy_seconds(core),
            }
            print(json.dumps(figures), flush=True)

        await asyncio.sleep(0)  # lets the gateway's own tasks begin, so that the first figures have what they open
        asyncio.get_running_loop().add_reader(sys.stdin.fileno(), asked)
        print(json.dumps({"address": gateway.transport.address("udp")}), flush=True)
        await closed.wait()


def main() -> None:
    options = json.loads(sys.argv[1])
    machine.pin(options["core"])
    if options["compiled"] != (not str(engine.__file__).endswith(".py")):
        raise SystemExit(f"{engine.__file__} is not what was to be measured")
    logs.set_up("info")
    work = _serve(options["provider"], options["uplink_ms"], options["core"])
    if options["uvloop"]:
        run(work)
    else:
        asyncio.run(work)


if __name__ == "__main__":
    main()
