"""Scenario: one speech each way in each of a few calls, through the real gateway, kept as it arrives.

Each case is a call: packets as its phone sends them (payloads encoded beforehand, and when each of them arrives, so
that a bad network is only a schedule) and PCM as its model says it. What the model was given and what the phone
received goes into a file beside the cases.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from pathlib import Path
from typing import Any

from bench.loop import MS, now
from bench.phones import Call, Format
from bench.provider import Session, audio_frame
from bench.stage import Results, Stage

_DELTA_MS = 100
_AFTER_SECONDS = 1.0


def hearing(stage: Stage) -> Results:
    """`cases`: a file with a list of {"payloads", "arrivals", "speech"}; see `quality`."""
    path = Path(stage.options["cases"])
    cases: list[dict[str, Any]] = json.loads(path.read_text())
    phone_format = Format(**stage.options["format"])
    ears: list[tuple[list[bytes], dict[int, bytes]]] = []

    def prepare(call: Call, session: Session) -> None:
        case = cases[len(ears)]
        given: list[bytes] = []
        received: dict[int, bytes] = {}
        ears.append((given, received))
        session.on_audio = lambda audio, moment: given.append(audio)
        call.on_packet = lambda packet, moment: received.__setitem__(int.from_bytes(packet[4:8]), packet[12:])
        payloads = [b64decode(payload) for payload in case["payloads"]]
        begin = now() + 100 * MS
        for seconds, number in case["arrivals"]:
            if payloads[number]:  # a silence that the codec need not send
                _arrive(stage, call, begin + int(seconds * 1e9), number, payloads[number])
        speech = b64decode(case["speech"])
        size = 24000 * 2 * _DELTA_MS // 1000
        session.begin_reply("reply")
        for start in range(0, len(speech), size):
            session.send(audio_frame("reply", "item", speech[start : start + size]))
        session.end_reply("reply")

    calls = stage.set_up(len(cases), 20, prepare, phone_format)
    stage.phones.keep_moments = True
    longest = max(max(case["arrivals"][-1][0], len(b64decode(case["speech"])) / 48000) for case in cases)
    stage.loop.run_for(longest + _AFTER_SECONDS)
    stage.tear_down(calls)
    results = [
        {
            "given": b64encode(b"".join(given)).decode(),
            "received": [b64encode(payload).decode() for payload in in_time(received, phone_format.ticks)],
        }
        for given, received in ears
    ]
    path.with_suffix(".heard").write_text(json.dumps(results))
    return {"lateness": stage.phones.lateness}


def in_time(received: dict[int, bytes], ticks: int) -> list[bytes]:
    """Payloads by their timestamps -> one for each packet time, b"" where nothing came."""
    if not received:
        return []
    first = next(iter(received))
    places = {(timestamp - first + (1 << 31)) % (1 << 32) - (1 << 31): timestamp for timestamp in received}
    return [received[places[place]] if place in places else b"" for place in range(min(places), max(places) + 1, ticks)]


def _arrive(stage: Stage, call: Call, when: int, number: int, payload: bytes) -> None:
    stage.loop.at(when, lambda due: call.send_payload(number, payload, due))
