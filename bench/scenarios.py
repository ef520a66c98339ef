"""What is done to the gateway, and what of it is seen from outside: one function per scenario, run by `far_end`.

Everything here sees both ends of a call, the phone and the model, on one clock. Each function returns figures as plain
lists and numbers; what they mean is said in `measurements`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from bench import sounds
from bench.hearing import hearing
from bench.loop import MS, now
from bench.numbers import delays, gaps
from bench.phones import Call
from bench.provider import Session, Talker, audio_frame
from bench.stage import FRAME, Results, Stage, speech, spread
from bench.strangers import Strangers
from bench.tools import tools
from bench.turns import echo, flush, latency
from bench.verdicts import false_alarm

_OCTETS = {"pcm": 48000, "g711": 8000}
"""Of a second of sound, as the model gets it."""
_GOLDEN = 0.618034
"""Whatever the number of calls, their packets are spread over the 20 ms."""


def steady(stage: Stage) -> Results:
    """Calls that are up, sound both ways all the time."""
    delta = audio_frame("reply", "item", speech(stage.user, sounds.SPEECH_HZ, 100))
    payload = sounds.mu_law(sounds.tone(sounds.SPEECH_HZ, 20, 8000))
    sessions: list[Session] = []

    def prepare(call: Call, session: Session) -> None:
        call.next_payload = lambda: payload
        call.talk(len(sessions) * FRAME // stage.calls)
        sessions.append(session)
        Talker(stage.loop, session, delta, stage.random.randrange(Talker.DELTA))

    stage.tell("idle")
    calls = stage.set_up(stage.calls, 50, prepare)
    stage.loop.run_for(1.5)
    stage.phones.keep_moments = True
    stage.phones.lateness.clear()
    messages = sum(session.audio_messages for session in sessions)
    packets = sum(call.packets for call in calls)
    stage.tell("begin")
    began = now()
    stage.loop.run_for(stage.seconds)
    stage.tell("end")
    lasted = (now() - began) / 1e9
    results = {
        "gaps": [gap for call in calls for gap in gaps(call.arrived_at)],
        "lateness": list(stage.phones.lateness),
        "packets_per_second": (sum(call.packets for call in calls) - packets) / lasted / len(calls),
        "messages_per_second": (sum(session.audio_messages for session in sessions) - messages) / lasted / len(calls),
    }
    stage.phones.keep_moments = False
    stage.tear_down(calls)
    return results


def ramp(stage: Stage) -> Results:
    """More and more calls, sound both ways all the time, looked at for `seconds` at each of `steps`."""
    delta = audio_frame("reply", "item", speech(stage.user, sounds.SPEECH_HZ, 100))
    payload = sounds.mu_law(sounds.tone(sounds.SPEECH_HZ, 20, 8000))
    sessions: list[Session] = []

    def prepare(call: Call, session: Session) -> None:
        call.next_payload = lambda: payload
        call.talk(int(len(sessions) * _GOLDEN * FRAME))
        sessions.append(session)
        Talker(stage.loop, session, delta, stage.random.randrange(Talker.DELTA))

    stage.tell("started")
    # What is loaded and laid out once, with the first calls, is no call's memory.
    warm = stage.set_up(4, 50, prepare)
    stage.loop.run_for(1)
    stage.tear_down(warm)
    sessions.clear()
    stage.loop.run_for(0.5)
    stage.tell("idle")
    calls: list[Call] = []
    steps: list[Results] = []
    for count in stage.options["steps"]:
        try:
            calls += stage.set_up(count - len(calls), 50, prepare)
        except RuntimeError as error:  # that many it does not take
            print(f"{count} calls: {error}", file=sys.stderr)
            return {"steps": steps}
        stage.loop.run_for(1.5)
        steps.append(_look(stage, calls, sessions))
    stage.tear_down(calls)
    return {"steps": steps}


def _look(stage: Stage, calls: list[Call], sessions: list[Session]) -> Results:
    """What `seconds` of the sound that there is look like."""
    phones = stage.phones
    stage.tell(f"begin {len(calls)}")
    stage.loop.run_for(0.2)  # whoever asked the gateway for its figures has held us up
    phones.lateness.clear()
    for call in calls:
        call.arrived_at.clear()
        call.numbers.clear()
    phones.keep_moments = True
    heard, began = sum(session.audio_bytes for session in sessions), now()
    stage.loop.run_for(stage.seconds)
    lasted, heard = (now() - began) / 1e9, sum(session.audio_bytes for session in sessions) - heard
    phones.keep_moments = False
    stage.tell(f"end {len(calls)}")
    return {
        "calls": len(calls),
        "gap_errors": spread(abs(gap - FRAME) for call in calls for gap in gaps(call.arrived_at)),
        "delays": spread(delay for call in calls for delay in delays(call.arrived_at, call.numbers, FRAME)),
        "lateness": spread(phones.lateness),
        "packets_per_second": sum(len(call.arrived_at) for call in calls) / lasted / len(calls),
        "audio_up": heard / lasted / len(calls) / _OCTETS[stage.user],
    }


def churn(stage: Stage) -> Results:
    """A hundred calls to warm up, then twice `calls`, each INVITE sent three times; `tell` between them."""
    delta = audio_frame("reply", "item", speech(stage.user, sounds.SPEECH_HZ, 100))
    stage.tell("started")
    _short_calls(stage, 100, 1, delta)
    stage.tell("warm")
    stage.phones.keep_moments = True
    first = _short_calls(stage, stage.calls, 3, delta)
    stage.tell("first")
    second = _short_calls(stage, stage.calls, 3, delta)
    stage.tell("second")
    return {name: [first[name], second[name]] for name in first} | {"lateness": stage.phones.lateness}


def rush(stage: Stage) -> Results:
    """`calls` in `seconds`, after two seconds of the same to warm up."""
    delta = audio_frame("reply", "item", speech(stage.user, sounds.SPEECH_HZ, 100))
    rate = stage.calls / stage.seconds
    _short_calls(stage, int(2 * rate), 1, delta, rate)
    stage.phones.keep_moments = True
    stage.tell("begin")
    results = _short_calls(stage, stage.calls, 1, delta, rate)
    stage.tell("end")
    return results | {"lateness": stage.phones.lateness}


def strays(stage: Stage) -> Results:
    """Calls with sound both ways; then, beside them, what scanners send: requests from sources that nobody knows."""
    payload = sounds.mu_law(sounds.tone(sounds.SPEECH_HZ, 20, 8000))
    delta = audio_frame("reply", "item", speech(stage.user, sounds.SPEECH_HZ, 100))
    sessions: list[Session] = []

    def prepare(call: Call, session: Session) -> None:
        call.next_payload = lambda: payload
        call.talk(len(sessions) * FRAME // stage.calls)
        sessions.append(session)
        Talker(stage.loop, session, delta, stage.random.randrange(Talker.DELTA))

    warm = stage.set_up(stage.calls, 50, prepare)
    stage.loop.run_for(1)
    stage.tear_down(warm)
    stage.phones.calls.clear()
    stage.loop.run_for(0.5)
    stage.tell("idle")
    calls = stage.set_up(stage.calls, 50, prepare)
    stage.loop.run_for(1)
    stage.tell("quiet")
    stage.loop.run_for(3)
    stage.phones.keep_moments = True
    stage.phones.lateness.clear()
    strangers = Strangers(stage.loop, stage.phones.gateway, 5000)
    stage.tell("begin")
    stage.loop.run_for(stage.seconds)
    stage.tell("end")
    strangers.stop()
    stage.loop.run_for(0.5)
    stage.phones.keep_moments = False
    sent_up = sum(call.sequence for call in calls)
    received_up = sum(session.audio_messages for session in sessions[-len(calls) :])
    stage.tear_down(calls)
    stage.loop.run_for(0.5)
    stage.tell("settled")
    return {
        "gaps": [gap for call in calls for gap in gaps(call.arrived_at)],
        "lateness": list(stage.phones.lateness),
        "strays": strangers.sent,
        "answers": strangers.answers,
        "sent_down": sum(call.last_sequence - call.first_sequence + 1 for call in calls),
        "lost_down": sum(call.last_sequence - call.first_sequence + 1 - call.packets for call in calls),
        "sent_up": sent_up,
        # The last of a call are still on their way when it is hung up.
        "lost_up": max(0, sent_up - received_up - 3 * len(calls)),
    }


def _short_calls(stage: Stage, count: int, copies: int, delta: bytes, rate: float = 50) -> Results:
    """So many a second, each up for a third of a second with sound both ways."""
    provider, loop = stage.provider, stage.loop
    calls: list[Call] = []
    connections = provider.connections
    ended = 0

    def answered(call: Call) -> None:
        call.talk(stage.random.randrange(FRAME))
        session = provider.sessions[call.id]
        session.begin_reply("reply")
        session.send(delta)
        loop.after(333 * MS, lambda due: None if call.ended_at else call.hang_up())

    def over(call: Call) -> None:
        nonlocal ended
        ended += 1

    def dial(due: int) -> None:
        call = stage.phones.dial(stage.user, copies=copies)
        call.on_answer, call.on_end = answered, over
        calls.append(call)
        if len(calls) < count:
            loop.at(due + int(1e9 / rate), dial)

    loop.after(0, dial)
    loop.run_until(lambda: ended == count, count / rate + 10)
    loop.run_for(0.5)
    stage.phones.calls.clear()
    failures = [call.failure for call in calls if call.failure]
    return {
        "setup": [call.answered_at - call.dialled_at for call in calls if call.answered_at],
        "far_ends": [len(call.tags) for call in calls],
        "connections": provider.connections - connections,
        "failures": failures[:5] + [f"{count - ended} never ended"] * (ended < count),
    }


SCENARIOS: dict[str, Callable[[Stage], Results]] = {
    "steady": steady,
    "ramp": ramp,
    "latency": latency,
    "tools": tools,
    "echo": echo,
    "flush": flush,
    "false_alarm": false_alarm,
    "hearing": hearing,
    "churn": churn,
    "rush": rush,
    "strays": strays,
}
