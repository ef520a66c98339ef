"""A media engine with bridged legs and nothing else, in a process of its own: what two callers who were connected over
the gateway cost it. Lines of JSON, as `node` speaks them.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

from bench import machine
from sipbridge.audio import PCMU
from sipbridge.codecs import lookup
from sipbridge.media.engine import MediaEngine
from sipbridge.media.events import MediaEvent
from sipbridge.media.params import MediaParams, MediaSettings
from sipbridge.media.stream import MediaStream


def _dispatched(event: MediaEvent) -> None:
    """As a conversation does: nobody takes what is said."""


async def _serve(legs: int, remote: tuple[str, int], core: int) -> None:
    engine = MediaEngine(MediaSettings(ports=range(34000, 36000), media_timeout_seconds=None))
    codec = lookup("PCMU")
    assert codec is not None
    params = MediaParams(
        codec, remote, 0, 0, event_payload_type_send=101, event_payload_type_receive=101, uplink=PCMU, downlink=PCMU
    )
    ports, streams = [], []
    for _ in range(legs):
        port = engine.reserve()
        ports.append(port.port)
        streams.append(MediaStream(engine, engine.start(port, params)))
    for one, other in zip(streams[::2], streams[1::2], strict=True):
        one.route(other)
        other.route(one)
    running = asyncio.get_running_loop().create_task(engine.run(_dispatched))
    closed = asyncio.Event()

    def asked() -> None:
        if not sys.stdin.readline().strip():
            closed.set()
            return
        figures = {
            "cpu_seconds": time.process_time(),
            "wall_seconds": time.monotonic(),
            "tasks": len(asyncio.all_tasks()),
            "descriptors": machine.open_descriptors(),
            "resident_kib": machine.resident_kib(),
            "calls": legs // 2,
            "ended": 0,
            "core_seconds": machine.busy_seconds(core),
        }
        print(json.dumps(figures), flush=True)

    asyncio.get_running_loop().add_reader(sys.stdin.fileno(), asked)
    print(json.dumps({"ports": ports}), flush=True)
    await closed.wait()
    running.cancel()
    engine.shut_down()


def main() -> None:
    options = json.loads(sys.argv[1])
    machine.pin(options["core"])
    work = _serve(options["legs"], (options["host"], options["port"]), options["core"])
    if options["uvloop"]:
        from uvloop import run

        run(work)
    else:
        asyncio.run(work)


if __name__ == "__main__":
    main()
