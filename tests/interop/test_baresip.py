"""Whole conversations with baresip, judged by what its recording holds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from tests.interop.baresip import Baresip, wait_for_sound
from tests.interop.conftest import DESK_ADDRESS
from tests.interop.gateway import GatewayProcess
from tests.interop.sound import Samples, frame_levels_db, loud_seconds, silence, tone, tone_seconds, write_wav

pytestmark = pytest.mark.interop

CALLER_HERTZ = 700.0
DESK_HERTZ = 1100.0
NewPhone = Callable[..., Baresip]


@pytest.fixture
def phone(tmp_path: Path) -> Iterator[NewPhone]:
    """Makes softphones that say what they are given, each in a folder of its own; the caller is 127.0.0.3."""
    with ExitStack() as stack:

        def new(says: Samples, *, address: str = "127.0.0.3", **how: object) -> Baresip:
            folder = tmp_path / address
            folder.mkdir()
            # aufile ends the call's source at the end of the file: there is always more silence than call.
            wav = write_wav(folder / "says.wav", np.concatenate((says, silence(60))))
            return stack.enter_context(Baresip(folder, address=address, says=wav, **how))  # type: ignore[arg-type]

        yield new


@pytest.mark.parametrize("codec", ["PCMU", pytest.param("PCMA", marks=pytest.mark.slow)])
def test_the_caller_hears_the_greeting_and_then_itself(gateway: GatewayProcess, phone: NewPhone, codec: str) -> None:
    # Two seconds into the greeting the caller speaks, so the greeting is cut and the words come back.
    caller = phone(np.concatenate((silence(2), tone(CALLER_HERTZ, 1))), codec=codec)
    caller.dial(gateway.uri())
    caller.wait_event("CALL_ESTABLISHED")
    wait_for_sound(caller, lambda heard: tone_seconds(heard, CALLER_HERTZ) >= 0.8)
    caller.hang_up()
    caller.wait_event("CALL_CLOSED")

    heard = caller.heard()
    levels = frame_levels_db(heard)
    greeting = levels[:100]  # its first two seconds
    assert np.count_nonzero(greeting > -45) > 40, "no greeting within two seconds"
    assert np.max(levels) > -25
    assert loud_seconds(heard) > 2
    (report,) = gateway.new_reports(1)
    assert report["codec"] == codec
    assert report["ended"] == "caller_hung_up"
    assert report["barge_ins"] == 1


def test_keys_are_heard_and_pound_ends_the_call(gateway: GatewayProcess, phone: NewPhone) -> None:
    caller = phone(silence(1))
    caller.dial(gateway.uri())
    caller.wait_event("CALL_ESTABLISHED")
    wait_for_sound(caller, lambda heard: loud_seconds(heard) > 0.5)
    caller.press("#")
    caller.wait_event("CALL_CLOSED", timeout=15)
    (report,) = gateway.new_reports(1)
    assert report["ended"] == "agent_hung_up"
    tail = frame_levels_db(caller.heard())[-100:]
    assert np.count_nonzero(tail > -45) > 15, "the goodbye was not heard"


def test_hold_and_resume(gateway: GatewayProcess, phone: NewPhone) -> None:
    caller = phone(silence(1))
    caller.dial(gateway.uri())
    caller.wait_event("CALL_ESTABLISHED")
    wait_for_sound(caller, lambda heard: loud_seconds(heard) > 0.5)
    for verb in ("hold", "resume"):
        caller.forget_events()
        caller.command(verb, may_fail=True)  # 1.1.0 resumes and says that it failed; the answer's arrival tells
        caller.wait_event("CALL_REMOTE_SDP")
    # baresip's recording ends with the first re-INVITE (towards another baresip too), so that the call goes on is seen
    # by a key that is heard, and by a goodbye that is played to its end.
    caller.press("#")
    caller.wait_event("CALL_CLOSED", timeout=15)
    (report,) = gateway.new_reports(1)
    assert report["ended"] == "agent_hung_up"


def test_a_transfer_connects_the_caller_with_the_desk(gateway: GatewayProcess, phone: NewPhone, desk_port: int) -> None:
    desk = phone(tone(DESK_HERTZ, 30), address=DESK_ADDRESS, port=desk_port, answers=True)
    caller = phone(silence(1))
    caller.dial(gateway.uri())
    caller.wait_event("CALL_ESTABLISHED")
    wait_for_sound(caller, lambda heard: loud_seconds(heard) > 0.5)
    caller.press("*")
    desk.wait_event("CALL_ESTABLISHED", timeout=20)
    wait_for_sound(caller, lambda heard: tone_seconds(heard, DESK_HERTZ) > 0.5)
    (report,) = gateway.new_reports(1)
    assert report["ended"] == "transferred"


@pytest.mark.slow
def test_both_sides_report_by_rtcp(gateway: GatewayProcess, phone: NewPhone) -> None:
    """Its answer to a sender report of ours gives the round trip, and its view of our stream."""
    caller = phone(tone(CALLER_HERTZ, 20), codec="PCMU")
    caller.dial(gateway.uri())
    caller.wait_event("CALL_ESTABLISHED")
    wait_for_sound(caller, lambda heard: len(heard) >= 14 * 8000, timeout=25)
    caller.hang_up()
    caller.wait_event("CALL_CLOSED")
    (report,) = gateway.new_reports(1)
    assert 0 <= report["rtt_ms"] < 100
    assert report["far_loss_pct"] < 1
    assert report["mos"] > 4.2
