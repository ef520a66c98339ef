"""What is done to the gateway, and what of it is seen from outside: one function per scenario, run by `far_end`.

Everything here sees both ends of a call, the phone and the model, on one clock. Each function returns figures as plain
lists and numbers; what they mean is said in `measurements`.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import astuple
from typing import Any

from bench import sounds
from bench.loop import MS, Loop, now
from bench.numbers import Spread, delays, gaps
from bench.phones import SAMPLES, Call, Phones
from bench.provider import Provider, Session, Talker, audio_frame, frame
from bench.strangers import Strangers

Results = dict[str, Any]
Tell = Callable[[str], None]
"""Says to whoever runs the bench that a point is reached, and waits for the word to go on."""

_FRAME = 20 * MS
_RATES = {"pcm": 24000, "g711": 8000}
_OCTETS = {"pcm": 48000, "g711": 8000}
"""Of a second of sound, as the model gets it."""
_GOLDEN = 0.618034
"""Whatever the number of calls, their packets are spread over the 20 ms."""


def speech(user: str, hertz: float, milliseconds: int) -> bytes:
    """A tone in the format that this tenant's model speaks."""
    pcm = sounds.tone(hertz, milliseconds, _RATES[user])
    return pcm if user == "pcm" else sounds.mu_law(pcm)


class Stage:
    """Phones and model of one scenario."""

    def __init__(self, loop: Loop, phones: Phones, provider: Provider, tell: Tell, options: dict[str, Any]) -> None:
        self.loop = loop
        self.phones = phones
        self.provider = provider
        self.tell = tell
        self.options = options
        self.user: str = options["user"]
        self.calls: int = options["calls"]
        self.seconds: float = options["seconds"]
        self.random = random.Random(options["seed"])

    def set_up(self, count: int, rate: float, prepare: Callable[[Call, Session], None]) -> list[Call]:
        """So many calls at that rate, each prepared when it is answered; returns when all are."""
        calls: list[Call] = []

        def answered(call: Call) -> None:
            prepare(call, self.provider.sessions[call.id])

        def dial(due: int) -> None:
            call = self.phones.dial(self.user)
            call.on_answer = answered
            calls.append(call)
            if len(calls) < count:
                self.loop.at(due + int(1e9 / rate), dial)

        self.loop.after(0, dial)
        self.loop.run_until(lambda: len(calls) == count and all(call.answered_at or call.failure for call in calls), 20)
        failures = [call.failure or "no answer" for call in calls if not call.answered_at]
        if failures:
            raise RuntimeError(f"{len(failures)} calls were not answered: {failures[0]}")
        return calls

    def tear_down(self, calls: list[Call]) -> None:
        for call in calls:
            if call.failure:
                raise RuntimeError(f"a call has failed: {call.failure}")
            call.hang_up()
        self.loop.run_until(lambda: all(call.ended_at for call in calls), 5)


def steady(stage: Stage) -> Results:
    """Calls that are up, sound both ways all the time."""
    delta = audio_frame("reply", "item", speech(stage.user, sounds.SPEECH_HZ, 100))
    payload = sounds.mu_law(sounds.tone(sounds.SPEECH_HZ, 20, 8000))
    sessions: list[Session] = []

    def prepare(call: Call, session: Session) -> None:
        call.next_payload = lambda: payload
        call.talk(len(sessions) * _FRAME // stage.calls)
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
        call.talk(int(len(sessions) * _GOLDEN * _FRAME))
        sessions.append(session)
        Talker(stage.loop, session, delta, stage.random.randrange(Talker.DELTA))

    # What is loaded and laid out once, with the first calls, is no call's memory.
    warm = stage.set_up(4, 50, prepare)
    stage.loop.run_for(1)
    stage.tear_down(warm)
    sessions.clear()
    stage.loop.run_for(0.5)
    stage.tell("idle")
    calls: list[Call] = []
    steps = []
    for count in stage.options["steps"]:
        calls += stage.set_up(count - len(calls), 50, prepare)
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
        "gap_errors": spread(abs(gap - _FRAME) for call in calls for gap in gaps(call.arrived_at)),
        "delays": spread(delay for call in calls for delay in delays(call.arrived_at, call.numbers, _FRAME)),
        "lateness": spread(phones.lateness),
        "packets_per_second": sum(len(call.arrived_at) for call in calls) / lasted / len(calls),
        "audio_up": heard / lasted / len(calls) / _OCTETS[stage.user],
    }


def spread(values: Iterable[int]) -> list[float]:
    """As JSON: the figures of a Spread."""
    return list(astuple(Spread.of_ns(values)))


def latency(stage: Stage) -> Results:
    """Marks in silence, both ways: every tenth packet of a phone is one; the model says one every 300 ms and a bit."""
    mark_packet = sounds.mu_law(sounds.tone(sounds.MARK_HZ, 20, 8000))
    silence_packet = sounds.MU_LAW_SILENCE * SAMPLES
    rate = _RATES[stage.user]
    silence = b"\x00\x00" * (rate // 25) if stage.user == "pcm" else sounds.MU_LAW_SILENCE * (rate // 25)
    mark = speech(stage.user, sounds.MARK_HZ, 20) + silence
    up: list[int] = []
    down: list[int] = []
    marks = {"up": 0, "down": 0}

    def prepare(call: Call, session: Session) -> None:
        up_sent: deque[int] = deque()
        down_sent: deque[int] = deque()
        packets = stage.random.randrange(10)
        said = 0

        def next_payload() -> bytes:
            nonlocal packets
            packets += 1
            if packets % 10:
                return silence_packet
            marks["up"] += 1
            up_sent.append(now())
            return mark_packet

        def on_audio(audio: bytes, moment: int) -> None:
            onset = sounds.onset_in_pcm(audio, rate) if stage.user == "pcm" else sounds.onset_in_mu_law(audio)
            if onset is not None and up_sent:
                up.append(moment - up_sent.popleft() + int(onset % 20 * MS))

        def say(due: int) -> None:
            nonlocal said
            if session.closed:
                return
            said += 1
            reply_id, item_id = f"reply{said}", f"item{said}"
            message = audio_frame(reply_id, item_id, mark)
            session.begin_reply(reply_id)
            marks["down"] += 1
            down_sent.append(session.send(message))
            session.end_reply(reply_id)
            stage.loop.at(due + 300 * MS + stage.random.randrange(_FRAME), say)

        def on_packet(packet: bytes, moment: int) -> None:
            onset = sounds.onset_in_mu_law(packet[12:])
            if onset is not None and down_sent:
                down.append(moment - down_sent.popleft() + int(onset * MS))

        call.next_payload = next_payload
        call.on_packet = on_packet
        session.on_audio = on_audio
        call.talk(stage.random.randrange(_FRAME))
        stage.loop.after(stage.random.randrange(300 * MS), say)

    calls = stage.set_up(stage.calls, 50, prepare)
    stage.phones.keep_moments = True
    stage.loop.run_for(stage.seconds)
    lost = marks["up"] + marks["down"] - len(up) - len(down)
    stage.tear_down(calls)
    return {"up": up, "down": down, "lateness": stage.phones.lateness, "unmatched": lost}


def flush(stage: Stage) -> Results:
    """The model says much at once, hears the caller while it is being played, and says so."""
    late: list[int] = []
    fades: list[float] = []
    truncations: list[float] = []
    trips: list[int] = []
    delta_audio = speech(stage.user, sounds.SPEECH_HZ, 100)

    def prepare(call: Call, session: Session) -> None:
        rounds = 0
        heard_ms = last_ms = 0.0
        last_at = 0

        def on_packet(packet: bytes, moment: int) -> None:
            nonlocal heard_ms, last_ms, last_at
            if milliseconds := sounds.sound_ms(packet[12:]):
                heard_ms += last_ms and 20.0  # the one before was a whole packet, whatever its last samples were
                last_ms, last_at = milliseconds, moment

        def speak(due: int) -> None:
            nonlocal rounds, heard_ms, last_ms, last_at
            if session.closed:
                return
            rounds += 1
            heard_ms = last_ms = 0.0
            session.told.clear()
            session.begin_reply(f"reply{rounds}")
            session.send(audio_frame(f"reply{rounds}", f"item{rounds}", delta_audio) * 30)
            stage.loop.after(600 * MS + stage.random.randrange(500 * MS), interrupt)

        def interrupt(due: int) -> None:
            if not session.closed:
                began = session.send(frame({"type": "input_audio_buffer.speech_started", "item_id": f"user{rounds}"}))
                stage.loop.after(100 * MS, lambda _: session.ping())
                stage.loop.after(300 * MS, lambda _: judge(began))

        def judge(began: int) -> None:
            if session.closed:
                return
            late.append(max(0, last_at - began))
            if last_at > began:
                fades.append(last_ms)
            for _, message in session.told:
                if message["type"] == "conversation.item.truncate":
                    truncations.append(message["audio_end_ms"] - heard_ms - last_ms)
            session.end_reply(f"reply{rounds}", "cancelled", "turn_detected")
            session.send(frame({"type": "input_audio_buffer.speech_stopped", "item_id": f"user{rounds}"}))
            trips.extend(session.round_trips)
            session.round_trips.clear()
            stage.loop.after(50 * MS, speak)

        call.on_packet = on_packet
        call.talk(stage.random.randrange(_FRAME))
        stage.loop.after(stage.random.randrange(500 * MS), speak)

    calls = stage.set_up(stage.calls, 50, prepare)
    stage.phones.keep_moments = True
    stage.loop.run_for(stage.seconds)
    stage.tear_down(calls)
    return {"late": late, "fades": fades, "truncations": truncations, "trips": trips, "lateness": stage.phones.lateness}


def churn(stage: Stage) -> Results:
    """A hundred calls to warm up, then twice `calls`, each INVITE sent three times; `tell` between them."""
    delta = audio_frame("reply", "item", speech(stage.user, sounds.SPEECH_HZ, 100))
    stage.tell("started")
    _short_calls(stage, 100, 1, delta)
    stage.tell("warm")
    first = _short_calls(stage, stage.calls, 3, delta)
    stage.tell("first")
    second = _short_calls(stage, stage.calls, 3, delta)
    stage.tell("second")
    return {name: [first[name], second[name]] for name in first}


def rush(stage: Stage) -> Results:
    """`calls` in `seconds`, after two seconds of the same to warm up."""
    delta = audio_frame("reply", "item", speech(stage.user, sounds.SPEECH_HZ, 100))
    rate = stage.calls / stage.seconds
    _short_calls(stage, int(2 * rate), 1, delta, rate)
    stage.tell("begin")
    results = _short_calls(stage, stage.calls, 1, delta, rate)
    stage.tell("end")
    return results


def strays(stage: Stage) -> Results:
    """Calls with sound both ways; then, beside them, what scanners send: requests from sources that nobody knows."""
    payload = sounds.mu_law(sounds.tone(sounds.SPEECH_HZ, 20, 8000))
    delta = audio_frame("reply", "item", speech(stage.user, sounds.SPEECH_HZ, 100))
    sessions: list[Session] = []

    def prepare(call: Call, session: Session) -> None:
        call.next_payload = lambda: payload
        call.talk(len(sessions) * _FRAME // stage.calls)
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
        call.talk(stage.random.randrange(_FRAME))
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
    "flush": flush,
    "churn": churn,
    "rush": rush,
    "strays": strays,
}
