"""How long a caller hears nothing when another agent takes the line: by a hand-over, and because the first one's
provider has failed. The models answer at once, so what is heard of a gap is the gateway's own.
"""

from __future__ import annotations

import asyncio
import wave
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from bench import sounds
from bench.numbers import Spread
from bench.results import Finding, Row
from bench.size import Size
from sipbridge import logs
from sipbridge.config import Config
from sipbridge.gateway import Gateway
from sipbridge.simulator.caller import CallOptions, place_call
from sipbridge.simulator.model import ModelServer
from sipbridge.simulator.script import Script, ToolUse, Utterance
from sipbridge.tenant_config import TenantConfig
from sipbridge.tenant_source.directory import TenantDirectory
from sipbridge.tenants import Tenant

_RATE = 8000
_WINDOW = _RATE // 100
_FIRST = Utterance("I put you through to billing.", 1.0, 500)
_SECOND = Utterance("This is billing.", 0.5, 800)
_VENDORS = ("openai", "gemini")
_TURNS = {"silence_ms": 100}
_HAND_OVER = ToolUse("switch_agent", '{"agent": "second", "summary": "A bill."}', spoken=True)


def handovers(size: Size) -> list[Finding]:
    logs.set_up("error")
    switched = asyncio.run(_calls(_switch_agent, 2 * size.runs))
    failed = asyncio.run(_calls(_provider_fails, size.runs))
    return [
        Row(
            f"silence at switch_agent, openai to gemini, {switched.count} calls",
            "<= 1.5 s",
            _s(switched),
            switched.max <= 1.5,
        ),
        Row(
            f"the same where a provider fails in mid-word, {failed.count} calls", "<= 3 s", _s(failed), failed.max <= 3
        ),
    ]


def _s(spread: Spread) -> str:
    return f"{spread.p50:.2f} / {spread.p99:.2f} / {spread.max:.2f} s"


async def _calls(one: Any, calls: int) -> Spread:
    with TemporaryDirectory() as directory:
        return Spread.of([await one(Path(directory)) for _ in range(calls)])


async def _switch_agent(directory: Path) -> float:
    first = Script((_FIRST,), tools={0: _HAND_OVER}, speed=1.0)
    async with ModelServer(first, wire="openai") as one, ModelServer(Script((_SECOND,)), wire="gemini") as other:
        agents = {"first": _agent("openai", one), "second": _agent("gemini", other)}
        return await _silence({"agents": agents}, directory)


async def _provider_fails(directory: Path) -> float:
    async with AsyncExitStack() as stack:
        one = await stack.enter_async_context(ModelServer(Script((_FIRST,), speed=1.0), wire="openai"))
        other = await stack.enter_async_context(ModelServer(Script((_SECOND,)), wire="gemini"))

        async def gone() -> None:
            """In the middle of a word, and for good."""
            session = await one.session()
            await session.wait_until(lambda: sum("delta" in message for message in session.sent) > 4)
            one.drop()
            await one.__aexit__()

        tenant = {"agent": _agent("openai", one), "fallback": [{"agent": _agent("gemini", other)}]}
        cutting = asyncio.create_task(gone())
        try:
            return await _silence(tenant, directory)
        finally:
            await cutting


def _agent(vendor: str, server: ModelServer) -> dict[str, Any]:
    return {"provider": vendor, "api_key": "key-0123456789", "url": server.url, "turn_detection": _TURNS}


async def _silence(tenant: Mapping[str, Any], directory: Path) -> float:
    """A call whose caller says something; the longest silence from the first agent's answer to the end of the other's,
    in seconds."""
    question, heard = directory / "question.wav", directory / "heard.wav"
    with wave.open(str(question), "wb") as file:
        file.setparams((1, 2, _RATE, 0, "NONE", ""))
        file.writeframes(sounds.tone(1000, 300, _RATE))
    tenants = TenantDirectory([Tenant("a", TenantConfig.model_validate(tenant))])
    async with Gateway(Config.model_validate({"sip": {"listen": ["udp://127.0.0.1:0"]}}), tenants) as gateway:
        target = f"sip:agent@127.0.0.1:{gateway.transport.address('udp')[1]}"
        options = CallOptions(target=target, wav=question, record=heard, seconds=4, greeting_within_s=0.2)
        report = await place_call(options, lambda entry: None)
    if report.status != 200:
        raise RuntimeError(f"the call was not answered: {report.status} {report.error}")
    with wave.open(str(heard), "rb") as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2")
    return _longest_silence(samples)


def _longest_silence(samples: np.ndarray[Any, np.dtype[np.int16]]) -> float:
    windows = samples[: len(samples) // _WINDOW * _WINDOW].astype(float).reshape(-1, _WINDOW)
    loud = np.flatnonzero(np.sqrt(np.mean(windows**2, axis=1)) > 300)
    if len(loud) < 2 or not _is_second(windows[loud[-20:]]):
        raise RuntimeError("the second agent was not heard")
    return float(np.max(np.diff(loud)) - 1) / 100


def _is_second(windows: np.ndarray[Any, np.dtype[np.float64]]) -> bool:
    spectrum = np.abs(np.fft.rfft(windows.reshape(-1)))
    return abs(float(np.argmax(spectrum)) * _RATE / windows.size - _SECOND.tone_hz) < 50
