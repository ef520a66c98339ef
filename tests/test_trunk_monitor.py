"""OPTIONS to trunks, by the clock: up, busy, down and back, with nothing but a user agent's surface."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

from sipbridge.config import Config
from sipbridge.configfile import parse
from sipbridge.sip.ping import PingResult
from sipbridge.sip.user_agent import UserAgent
from sipbridge.trunk_monitor import TrunkMonitor
from tests import virtual

CONFIG = """
trunks:
  - {name: a, sources: ['192.0.2.1'], outbound: {proxy: 'sip:192.0.2.1', transport: tcp, ping_seconds: 10}}
  - {name: quiet, sources: ['192.0.2.2'], outbound: {proxy: 'sip:192.0.2.2', ping_seconds: 0}}
  - {name: inbound, sources: ['192.0.2.3']}
"""


class Asked:
    """A user agent that notes when it was asked, and answers as the test says."""

    def __init__(self, *answers: int | None) -> None:
        self.answers = list(answers)
        self.at: list[float] = []
        self.targets: set[str] = set()

    def options(self, target: object, *, on_result: Callable[[PingResult], None], now: float) -> None:
        self.at.append(now)
        self.targets.add(str(target))
        status = self.answers.pop(0)
        response = cast(Any, object()) if status is not None else None
        result = PingResult(status or 408, "", 0.0, None, response)
        asyncio.get_running_loop().call_later(1.0, on_result, result)


def test_a_trunk_is_asked_now_and_then_and_sooner_in_doubt() -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        asked = Asked(200, None, None, None, 200, 200, 503, 503, 503, 200, 200)
        monitor = TrunkMonitor(cast(UserAgent, asked), loop.time, share=lambda: 0.5)
        began = loop.time()
        monitor.watch(parse(CONFIG, Config, "f.yaml").trunks)
        states: list[str] = []
        while asked.answers:
            await virtual.pass_time(0.5)
            if not states or states[-1] != monitor.state("a").value:
                states.append(monitor.state("a").value)
        assert states == ["unknown", "up", "down", "up", "busy"]
        assert [round(at - began, 2) for at in asked.at[:5]] == [0.0, 11.0, 15.33, 19.67, 30.67]
        assert asked.targets == {"sip:192.0.2.1;transport=tcp"}
        assert monitor.state("quiet").value == monitor.state("inbound").value == "unknown"
        monitor.close()
        count = len(asked.at)
        await virtual.pass_time(100)
        assert len(asked.at) == count

    virtual.run(scenario())
