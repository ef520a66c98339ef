"""Many tenants: whose call it is, and what reloading all of them costs the sound of calls that are up."""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import random
import socket
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from bench.numbers import Spread
from bench.results import Row, ms
from bench.size import Size
from sipbridge import codecs, logs
from sipbridge.call_fields import CallFields
from sipbridge.cli import keep_start_up
from sipbridge.commands.common import run
from sipbridge.config import Config
from sipbridge.media.engine import MediaEngine
from sipbridge.media.params import MediaParams, MediaSettings
from sipbridge.media.stream import MediaStream
from sipbridge.tenant_config import Match, TenantConfig
from sipbridge.tenant_source.directory import TenantDirectory
from sipbridge.tenant_source.opening import load_directory, watched
from sipbridge.tenants import Tenant

_CALLS = 2000
_FILE = """\
match: {{to: ["+1555{number:05}", "agent{number}"]}}
agent:
  provider: openai
  api_key: "${{OPENAI_API_KEY}}"
  model: gpt-realtime-2.1
  voice: marin
  temperature: {temperature}
  instructions: |
    You answer the phone for customer {number}. Caller: {{{{ call.from }}}},
    member {{{{ header["X-Member"] | default("unknown") }}}}.
  greeting: "Hello, how can I help?"
tools:
  hang_up: {{}}
  transfer_call: {{targets: {{desk: "sip:100@pbx.example.com"}}}}
fallback:
  - {{prompt: one-moment.wav}}
limits: {{call_seconds: 600}}
"""


# --- whose call it is -------------------------------------------------------------------------------------------------


def _matches(count: int) -> Iterator[dict[str, object]]:
    """In all ways in which tenants are told apart, a fifth each."""
    for number in range(count):
        digits = f"{number:05}"
        ways: tuple[dict[str, object], ...] = (
            {"to": f"+1555{digits}"},
            {"to": f"+1666{digits}*"},
            {"to": f"*77{digits}"},
            {"to": "agent", "from": f"+1777{digits}"},
            {"to": "agent", "header": {"X-Sipbridge-Tenant": digits}},
        )
        yield ways[number % 5]


def _calls(count: int) -> Iterator[CallFields]:
    chosen = random.Random(5)
    for _ in range(_CALLS):
        number = chosen.randrange(count)
        digits, header = f"{number:05}", {"X-Member": "1", "User-Agent": "phone"}
        if number % 5 < 3:
            yield CallFields((f"+1555{digits}", f"+1666{digits}9", f"+3377{digits}")[number % 5], headers=header)
        elif number % 5 == 3:
            yield CallFields("agent", caller=f"+1777{digits}", headers=header)
        else:
            yield CallFields("agent", caller="+15550100", headers=header | {"X-Sipbridge-Tenant": digits})


def resolution(count: int) -> Spread:
    """Milliseconds per call."""
    shape = TenantConfig.model_validate({"agent": {"provider": "offline"}})
    tenants = (shape.model_copy(update={"match": Match.model_validate(match)}) for match in _matches(count))
    directory = TenantDirectory([Tenant(str(number), config) for number, config in enumerate(tenants)])
    found = []
    for call in list(_calls(count)):
        began = time.perf_counter_ns()
        tenant = directory.resolve(call)
        found.append(time.perf_counter_ns() - began)
        if tenant is None:
            raise RuntimeError(f"nobody has the call to {call.to}")
    return Spread.of_ns(found)


# --- all of them change -----------------------------------------------------------------------------------------------


def _write(directory: Path, count: int, temperature: float) -> None:
    for number in range(count):
        path = directory / f"t{number:05}.yaml"
        new = path.with_suffix(".new")
        new.write_text(_FILE.format(number=number, temperature=temperature))
        new.replace(path)


def _talk(ports: list[int]) -> None:
    """Another process: what the phones of those legs send, until it is ended."""
    phone = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sequence, due = 0, time.monotonic()
    while True:
        head = bytes((0x80, 0)) + sequence.to_bytes(2, "big") + (160 * sequence % 2**32).to_bytes(4, "big")
        for port in ports:
            phone.sendto(head + port.to_bytes(4, "big") + bytes(160), ("127.0.0.1", port))
        sequence = (sequence + 1) % 65536
        due += 0.02
        time.sleep(max(0.0, due - time.monotonic()))


def reload(count: int, calls: int, quiet_seconds: float) -> tuple[float, float, float, int]:
    """(worst lateness of a tick without a reload and with one, in ms; how long the reload took, in s; ticks in it)"""
    logs.set_up("error")
    with TemporaryDirectory() as base:
        (Path(base) / "tenants").mkdir()
        (Path(base) / "sipbridge.yaml").write_text("{}\n")
        _write(Path(base) / "tenants", count, 0.7)
        return run(_reload(Path(base), count, calls, quiet_seconds))


async def _reload(base: Path, count: int, calls: int, quiet_seconds: float) -> tuple[float, float, float, int]:
    config = Config()
    directory = load_directory(config, base, keep=True)
    engine = MediaEngine(MediaSettings(ports=range(26000, 26000 + 4 * calls), media_timeout_seconds=600))
    codecs.prepare(["PCMU"])
    running = asyncio.create_task(engine.run(lambda event: None))
    spawned = multiprocessing.get_context("spawn")
    settled = asyncio.Event()
    listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)  # nobody reads what the legs send
    listener.bind(("127.0.0.1", 0))
    ports = []
    for _ in range(calls):
        port = engine.reserve()
        ports.append(port.port)
        params = MediaParams(codecs.PCMU, listener.getsockname(), payload_type_send=0, payload_type_receive=0)
        stream = MediaStream(engine, engine.start(port, params))
        stream.play(bytes(2 * 24000 * 300), "reply", "item")
    talking = spawned.Process(target=_talk, args=(ports,), daemon=True)
    talking.start()
    try:
        async with watched(config, directory, base / "sipbridge.yaml", settled=lambda number: settled.set()):
            await _looked_at_once(base, settled, directory)
            keep_start_up()
            quiet = await _worst(engine, lambda: asyncio.sleep(quiet_seconds))
            before, ticks, began = directory.changes, engine.clock.tick, time.monotonic()
            writing = spawned.Process(target=_write, args=(base / "tenants", count, 0.8))

            async def changed() -> None:
                writing.start()
                while directory.changes < before + count:
                    settled.clear()
                    await settled.wait()
                gc.freeze()

            loaded = await _worst(engine, changed)
            return quiet, loaded, time.monotonic() - began, engine.clock.tick - ticks
    finally:
        talking.terminate()
        running.cancel()
        await asyncio.wait((running,))
        engine.shut_down()
        listener.close()


async def _looked_at_once(base: Path, settled: asyncio.Event, directory: TenantDirectory) -> None:
    """The reader is there, and has seen all files, when it has found another one."""
    (base / "tenants" / "last.yaml").write_text("match: {to: last}\nagent: {provider: offline}\n")
    while directory.get("last") is None:
        settled.clear()
        await settled.wait()


async def _worst(engine: MediaEngine, work: Callable[[], Awaitable[None]]) -> float:
    engine.clock.late_max = 0.0
    await work()
    return engine.clock.late_max * 1000


def tenants(size: Size) -> list[Row]:
    spread = resolution(size.tenants)
    runs = [reload(size.tenants, size.few, size.seconds) for _ in range(size.runs)]
    quiet, loaded = max(run[0] for run in runs), max(run[1] for run in runs)
    seconds, ticks = median(run[2] for run in runs), min(run[3] for run in runs)
    return [
        Row(f"a call's tenant among {size.tenants}", "<= 0.2 ms", ms(spread), spread.p99 <= 0.2),
        Row(
            f"ticks of the media clock while {size.tenants} tenants are read again, {size.few} legs",
            "<= 5 ms late",
            f"{loaded:.2f} ms at worst of {ticks}; {quiet:.2f} ms while nothing is read; it takes {seconds:.1f} s",
            loaded <= 5,
        ),
    ]
