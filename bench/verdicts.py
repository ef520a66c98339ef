"""A scenario of false alarms: the model hears something while it is heard, and then that it was a "mm-hm"."""

from __future__ import annotations

from bench import sounds
from bench.loop import MS
from bench.phones import Call
from bench.provider import Session, audio_frame, frame
from bench.stage import FRAME, Results, Stage, speech

_SAID_MS = 1500
_PACKET_MS = 20.0


def false_alarm(stage: Stage) -> Results:
    """The model says one and a half seconds at once; in the middle of it, it hears the caller, and tells his words."""
    silenced: list[int] = []
    resumed: list[int] = []
    repeated: list[float] = []
    said = speech(stage.user, sounds.SPEECH_HZ, 100) * (_SAID_MS // 100)

    def prepare(call: Call, session: Session) -> None:
        rounds = 0
        packets: list[tuple[int, float]] = []  # arrival, sound in it

        def on_packet(packet: bytes, moment: int) -> None:
            if milliseconds := sounds.sound_ms(packet[12:]):
                packets.append((moment, milliseconds))

        def speak(due: int) -> None:
            nonlocal rounds
            if session.closed:
                return
            rounds += 1
            packets.clear()
            session.begin_reply(f"reply{rounds}")
            session.send(audio_frame(f"reply{rounds}", f"item{rounds}", said))
            session.end_reply(f"reply{rounds}")
            stage.loop.after(400 * MS + stage.random.randrange(300 * MS), hear)

        def hear(due: int) -> None:
            if not session.closed:
                began = session.send(frame({"type": "input_audio_buffer.speech_started", "item_id": f"user{rounds}"}))
                stage.loop.after(200 * MS + stage.random.randrange(FRAME), lambda _: tell(began))

        def tell(began: int) -> None:
            if session.closed:
                return
            item = {"item_id": f"user{rounds}"}
            session.send(frame({"type": "input_audio_buffer.speech_stopped", **item}))
            kind = "conversation.item.input_audio_transcription.completed"
            told = session.send(frame({"type": kind, "content_index": 0, "transcript": "Mm-hm.", **item}))
            stage.loop.after(1500 * MS, lambda _: judge(began, told))

        def judge(began: int, told: int) -> None:
            if session.closed:
                return
            before = [at for at, _ in packets if at < told]
            after = [at for at, _ in packets if at >= told]
            silenced.append(max(0, before[-1] - began))
            resumed.append(after[0] - told)
            last = (before[-1], packets[-1][0])  # of both stretches: what is not filled to its end
            heard = sum(sound if at in last else _PACKET_MS for at, sound in packets)
            repeated.append(heard - _SAID_MS)
            speak(0)

        call.on_packet = on_packet
        call.talk(stage.random.randrange(FRAME))
        stage.loop.after(stage.random.randrange(500 * MS), speak)

    calls = stage.set_up(stage.calls, 50, prepare)
    stage.phones.keep_moments = True
    stage.loop.run_for(stage.seconds)
    stage.tear_down(calls)
    return {"silenced": silenced, "resumed": resumed, "repeated": repeated, "lateness": stage.phones.lateness}
