"""Scenarios that follow single sounds through the gateway: how long they take, and how quickly they end."""

from __future__ import annotations

from collections import deque

from bench import sounds
from bench.loop import MS, now
from bench.phones import SAMPLES, Call
from bench.provider import Session, audio_frame, frame
from bench.stage import FRAME, RATES, Results, Stage, speech

_MARK_EVERY = 10
"""Packets of a phone."""


def latency(stage: Stage) -> Results:
    """Marks in silence, both ways: every tenth packet of a phone is one; the model says one every 300 ms and a bit."""
    mark_packet = sounds.mu_law(sounds.tone(sounds.MARK_HZ, 20, 8000))
    silence_packet = sounds.MU_LAW_SILENCE * SAMPLES
    rate = RATES[stage.user]
    silence = b"\x00\x00" * (rate // 25) if stage.user == "pcm" else sounds.MU_LAW_SILENCE * (rate // 25)
    mark = speech(stage.user, sounds.MARK_HZ, 20) + silence
    up: list[int] = []
    down: list[int] = []
    marks = {"up": 0, "down": 0}

    def prepare(call: Call, session: Session) -> None:
        up_sent: deque[int] = deque()
        down_sent: deque[int] = deque()
        packets = stage.random.randrange(_MARK_EVERY)
        said = 0

        def next_payload() -> bytes:
            nonlocal packets
            packets += 1
            if packets % _MARK_EVERY:
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
            stage.loop.at(due + 300 * MS + stage.random.randrange(FRAME), say)

        def on_packet(packet: bytes, moment: int) -> None:
            onset = sounds.onset_in_mu_law(packet[12:])
            if onset is not None and down_sent:
                down.append(moment - down_sent.popleft() + int(onset * MS))

        call.next_payload = next_payload
        call.on_packet = on_packet
        session.on_audio = on_audio
        call.talk(stage.random.randrange(FRAME))
        stage.loop.after(stage.random.randrange(300 * MS), say)

    calls = stage.set_up(stage.calls, 50, prepare)
    stage.phones.keep_moments = True
    stage.loop.run_for(stage.seconds)
    lost = marks["up"] + marks["down"] - len(up) - len(down)
    stage.tear_down(calls)
    return {"up": up, "down": down, "lateness": stage.phones.lateness, "unmatched": lost}


def echo(stage: Stage) -> Results:
    """The model says again what it hears: all of it as one reply without end, or, with `replies`, each mark as one."""
    mark_packet = sounds.mu_law(sounds.tone(sounds.MARK_HZ, 20, 8000))
    silence_packet = sounds.MU_LAW_SILENCE * SAMPLES
    rate = RATES[stage.user]
    trips: list[int] = []
    marks = 0

    def prepare(call: Call, session: Session) -> None:
        sent: deque[int] = deque()
        packets = stage.random.randrange(_MARK_EVERY)
        said = more = 0

        def next_payload() -> bytes:
            nonlocal packets, marks
            packets += 1
            if packets % _MARK_EVERY:
                return silence_packet
            marks += 1
            sent.append(now())
            return mark_packet

        def on_audio(audio: bytes, moment: int) -> None:
            nonlocal said, more
            if not stage.options["replies"]:
                session.send(audio_frame("reply", "item", audio))
                return
            onset = sounds.onset_in_pcm(audio, rate) if stage.user == "pcm" else sounds.onset_in_mu_law(audio)
            if more == 0 and onset is not None:
                said, more = said + 1, 2  # what the filter has put off is in the next block
                session.begin_reply(f"reply{said}")
            if more:
                session.send(audio_frame(f"reply{said}", f"item{said}", audio))
                more -= 1
                if not more:
                    session.end_reply(f"reply{said}")

        def on_packet(packet: bytes, moment: int) -> None:
            onset = sounds.onset_in_mu_law(packet[12:])
            if onset is not None and sent:
                trips.append(moment - sent.popleft() + int(onset * MS))

        call.next_payload = next_payload
        call.on_packet = on_packet
        session.on_audio = on_audio
        if not stage.options["replies"]:
            session.begin_reply("reply")
        call.talk(stage.random.randrange(FRAME))

    calls = stage.set_up(stage.calls, 50, prepare)
    stage.loop.run_for(1)
    stage.phones.keep_moments = True
    stage.phones.lateness.clear()
    trips.clear()
    marks = 0
    stage.loop.run_for(stage.seconds)
    lost = marks - len(trips)
    stage.tear_down(calls)
    return {"trips": trips, "lateness": stage.phones.lateness, "unmatched": lost}


def flush(stage: Stage) -> Results:
    """The model says `ahead_ms` at once, hears the caller while it is being played, and says so."""
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
            session.send(
                audio_frame(f"reply{rounds}", f"item{rounds}", delta_audio) * (stage.options["ahead_ms"] // 100)
            )
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
        call.talk(stage.random.randrange(FRAME))
        stage.loop.after(stage.random.randrange(500 * MS), speak)

    calls = stage.set_up(stage.calls, 50, prepare)
    stage.phones.keep_moments = True
    stage.loop.run_for(stage.seconds)
    stage.tear_down(calls)
    return {"late": late, "fades": fades, "truncations": truncations, "trips": trips, "lateness": stage.phones.lateness}
