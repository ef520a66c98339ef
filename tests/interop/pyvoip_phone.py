"""pyVoIP 1.6.8 as a telephone, in a process of its own: the badly behaved one.

    python pyvoip_phone.py SERVER PORT USERNAME PASSWORD ADDRESS SIP_PORT RECORDING dial NUMBER SECONDS
    ... RECORDING answer AFTER

It registers, then calls, speaks a tone, and hangs up after so many seconds of audio; or it waits to be called, answers
after so many seconds, and speaks until the other side hangs up. What it heard goes into RECORDING (8-bit unsigned,
8 kHz). Each step is a line on standard output. Its licence is the GPL: nothing of ours may import it, and this file is
run, not imported.
"""

from __future__ import annotations

import math
import sys
import threading
import time
from pathlib import Path

from pyVoIP.VoIP import CallState, InvalidStateError, PhoneStatus, VoIPCall, VoIPPhone

FRAME = 160
TONE_HERTZ = 500


def say(event: str) -> None:
    sys.stdout.write(f"{event}\n")
    sys.stdout.flush()


def tone(frames: int) -> bytes:
    step = 2 * math.pi * TONE_HERTZ / 8000
    return bytes(128 + round(60 * math.sin(step * sample)) for sample in range(frames * FRAME))


def talk(call: VoIPCall, recording: Path, seconds: float) -> None:
    """Speak and listen until the time is over or the other side has hung up."""
    sound = tone(50)
    heard = bytearray()
    spoken, loud = 0, False
    try:
        while call.state == CallState.ANSWERED and len(heard) < seconds * 8000:
            if spoken <= len(heard):
                call.write_audio(sound)  # it has a buffer of its own and a clock
                spoken += len(sound)
            frame = call.read_audio(FRAME)
            if not loud and max(frame) - min(frame) > 40:
                loud = True
                say("heard something")
            heard += frame
        if call.state == CallState.ANSWERED:
            call.hangup()
            say("hung up")
        else:
            say("was hung up")
    except InvalidStateError:
        say("was hung up")
    recording.write_bytes(heard)


def main() -> None:
    server, port, username, password, address, sip_port, recording, task, *rest = sys.argv[1:]
    over = threading.Event()

    def called(call: VoIPCall) -> None:
        say("called")
        time.sleep(float(rest[0]))
        call.answer()
        say("answered")
        talk(call, Path(recording), 3600)
        over.set()

    phone = VoIPPhone(
        server,
        int(port),
        username,
        password,
        myIP=address,
        callCallback=called,
        sipPort=int(sip_port),
        rtpPortLow=22000,
        rtpPortHigh=22998,
    )
    phone.start()
    assert phone.get_status() == PhoneStatus.REGISTERED, phone.get_status()
    say("registered")
    try:
        if task == "answer":
            over.wait()
        else:
            number, seconds = rest
            call = phone.call(number)
            while call.state == CallState.DIALING:
                time.sleep(0.02)  # it has nothing to wait on
            say(f"state {call.state.name}")
            talk(call, Path(recording), float(seconds))
    finally:
        phone.stop()
        say("stopped")


if __name__ == "__main__":
    main()
