"""A scenario: the model calls tools that answer with the moment of their answer; and these tools, which the gateway's
process imports."""

from __future__ import annotations

import time

from bench.loop import MS
from bench.phones import Call
from bench.provider import Session, frame
from bench.stage import FRAME, Results, Stage

FUNCTIONS = ("bench.tools:moment", "bench.tools:moment_in_thread")
_ROUND = 200 * MS


async def moment() -> str:
    """When it answers, by CLOCK_REALTIME, in nanoseconds."""
    return str(time.time_ns())


def moment_in_thread() -> str:
    """The same, in a thread."""
    return str(time.time_ns())


def tools(stage: Stage) -> Results:
    """Each call's model asks for a tool five times a second, while the caller talks."""
    names = [function.partition(":")[2] for function in FUNCTIONS]
    results: dict[str, list[int]] = {name: [] for name in names}
    trips: dict[str, list[int]] = {name: [] for name in names}
    rounds = 0

    def prepare(call: Call, session: Session) -> None:
        def ask(due: int) -> None:
            nonlocal rounds
            if session.closed:
                return
            rounds += 1
            name, reply_id, call_id = names[rounds % 2], f"reply{rounds}", f"call{rounds}"
            session.told.clear()
            session.begin_reply(reply_id)
            item = {"id": f"item{rounds}", "type": "function_call", "call_id": call_id, "name": name, "arguments": "{}"}
            done = {"type": "response.output_item.done", "response_id": reply_id, "output_index": 0, "item": item}
            began = session.send(frame(done))
            session.end_reply(reply_id)
            stage.loop.after(_ROUND // 2, lambda _: judge(name, call_id, began))

        def judge(name: str, call_id: str, began: int) -> None:
            for arrived, message in session.told:
                item = message.get("item", {})
                if item.get("type") == "function_call_output" and item["call_id"] == call_id:
                    results[name].append(arrived - int(item["output"]))
                    trips[name].append(arrived - began)
                elif message["type"] == "response.create":
                    session.begin_reply(f"to {call_id}")
                    session.end_reply(f"to {call_id}")
            stage.loop.after(_ROUND // 2, ask)

        call.talk(stage.random.randrange(FRAME))
        stage.loop.after(stage.random.randrange(_ROUND), ask)

    calls = stage.set_up(stage.calls, 50, prepare)
    stage.phones.keep_moments = True
    stage.loop.run_for(stage.seconds)
    stage.tear_down(calls)
    return {"results": results, "trips": trips, "rounds": rounds, "lateness": stage.phones.lateness}
