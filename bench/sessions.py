"""The half of a gateway that talks to models, alone in a process: so many sessions, into each a block of sound every
60 ms, and whoever takes their events. Nothing of the product is changed for it.

Lines of JSON: it says when all sessions are open, begins when it is told to, and its last line is the result.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
from typing import Any

from bench import machine
from sipbridge import logs
from sipbridge.agent import Agent, AgentOptions, AssistantAudio
from sipbridge.audio import PCM_24K
from sipbridge.cli import keep_start_up
from sipbridge.commands.common import run
from sipbridge.providers import new_agent_from_credential

BLOCK_MS = 60


def _say(message: dict[str, Any]) -> None:
    print(json.dumps(message), flush=True)


async def _told() -> None:
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)


async def _open(url: str, count: int) -> list[Agent]:
    agents = []
    for number in range(count):
        options = AgentOptions(instructions=str(number), input_format=PCM_24K, output_format=PCM_24K)
        agent = new_agent_from_credential({"provider": "openai", "url": url}, options, connect_timeout=10)
        await agent.start()
        agents.append(agent)
    return agents


class Feeder:
    """A block for each session every 60 ms, each at a moment of its own, until the end."""

    def __init__(self, agents: list[Agent], seconds: float) -> None:
        self.pushed = 0
        self.done = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._block = bytes(BLOCK_MS * PCM_24K.bytes_per_ms)
        began = self._loop.time()
        self._end = began + seconds
        for number, agent in enumerate(agents):
            self._loop.call_at(began + BLOCK_MS / 1000 * number / len(agents), self._push, agent, began)
        self._loop.call_at(self._end, self.done.set)

    def _push(self, agent: Agent, due: float) -> None:
        agent.push_audio(self._block)
        self.pushed += 1
        due = max(due, self._loop.time() - BLOCK_MS / 1000) + BLOCK_MS / 1000
        if due < self._end:
            self._loop.call_at(due, self._push, agent, due)


async def _talk(options: dict[str, Any]) -> dict[str, Any]:
    """What a session costs, and how long a delta is on its way to whoever plays it."""
    agents = await _open(options["url"], options["sessions"])
    delays: list[int] = []
    heard = 0

    async def listen(agent: Agent) -> None:
        nonlocal heard
        async for event in agent:
            if isinstance(event, AssistantAudio):
                heard += 1
                if event.item_id.isdigit():  # when it was sent
                    delays.append(time.time_ns() - int(event.item_id))

    listeners = [asyncio.create_task(listen(agent)) for agent in agents]
    keep_start_up()
    _say({"open": len(agents)})
    await _told()
    await asyncio.sleep(0.5)
    delays.clear()
    began, worked, heard = time.monotonic(), time.process_time(), 0
    feeder = Feeder(agents, options["seconds"])
    await feeder.done.wait()
    wall, cpu = time.monotonic() - began, time.process_time() - worked
    found = {"cpu": cpu / wall / len(agents), "pushed": feeder.pushed, "heard": heard, "delays": list(delays)}
    found["dropped_ms"] = sum(agent.uplink_dropped_ms for agent in agents)
    await asyncio.gather(*(agent.close() for agent in agents))
    await asyncio.gather(*listeners)
    return found


async def _stall(options: dict[str, Any]) -> dict[str, Any]:
    """Nobody reads at the other end any more, while ten times as much is pushed as is spoken."""
    (agent,) = await _open(options["url"], 1)
    keep_start_up()
    _say({"open": 1})
    await _told()
    block, times = bytes(20 * PCM_24K.bytes_per_ms), []
    for _ in range(int(options["seconds"] * 500)):
        began = time.perf_counter_ns()
        agent.push_audio(block)
        times.append(time.perf_counter_ns() - began)
        await asyncio.sleep(0)
    found = {"times": times, "pushed_ms": 20 * len(times), "dropped_ms": agent.uplink_dropped_ms}
    began = time.perf_counter_ns()
    await agent.close()
    return {**found, "close_ms": (time.perf_counter_ns() - began) / 1e6}


def main() -> None:
    options = json.loads(sys.argv[1])
    machine.pin(options["core"])
    logs.set_up("warning")
    gc.collect()
    _say({"result": run({"talk": _talk, "stall": _stall}[options["scenario"]](options))})


if __name__ == "__main__":
    main()
