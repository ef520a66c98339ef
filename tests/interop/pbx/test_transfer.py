"""Hold, and transfers, with telephones behind a real Asterisk."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from sipbridge.outcome import Ended
from sipbridge.sip.events import CallEnded, ReferProgress
from tests.interop.asterisk import Asterisk
from tests.interop.baresip import Baresip, wait_for_sound
from tests.interop.gateway import GatewayProcess
from tests.interop.nodes import Node
from tests.interop.pbx.conftest import CALLER_HERTZ, DESK_HERTZ, OPERATOR, SPEECH_HERTZ, NewPhone, Places
from tests.interop.sound import frame_levels_db, loud_seconds, silence, tone, tone_seconds
from tests.interop.telephone import Telephone

pytestmark = pytest.mark.interop


@pytest.fixture
def operator() -> Iterator[Telephone]:
    """A telephone with two lines."""
    with Telephone(OPERATOR) as telephone:
        yield telephone


def desk_and_caller(phone: NewPhone, uri: str) -> tuple[Baresip, Baresip]:
    desk = phone("desk", tone(DESK_HERTZ, 30))
    return desk, asks_for_a_transfer(phone, uri)


def asks_for_a_transfer(phone: NewPhone, uri: str, *, silent: float = 15) -> Baresip:
    """It has talked to the agent, and is silent until it is connected: what it said before would be the agent's to
    answer."""
    caller = phone("caller", np.concatenate((silence(silent), tone(CALLER_HERTZ, 30))))
    caller.dial(uri)
    caller.wait_event("CALL_ESTABLISHED")
    wait_for_sound(caller, lambda heard: loud_seconds(heard) > 0.5)
    caller.press("*")
    return caller


def they_hear_each_other(desk: Baresip, caller: Baresip) -> None:
    """By the recordings of both."""
    wait_for_sound(caller, lambda heard: tone_seconds(heard, DESK_HERTZ) > 0.5)
    wait_for_sound(desk, lambda heard: tone_seconds(heard, CALLER_HERTZ) > 0.5)


def test_a_transfer_connects_the_caller_with_an_extension(
    asterisk: Asterisk, trunk: GatewayProcess, phone: NewPhone, places: Places
) -> None:
    desk, caller = desk_and_caller(phone, f"sip:700@{places.asterisk}")
    transfer = asterisk.ami.wait_event("BlindTransfer", timeout=20)
    assert (transfer["Result"], transfer["Extension"]) == ("Success", "1001")
    desk.wait_event("CALL_ESTABLISHED", timeout=20)
    # The other way is looked at below: baresip drops what comes after Asterisk has changed its SSRC.
    wait_for_sound(caller, lambda heard: tone_seconds(heard, DESK_HERTZ) > 0.5)
    (report,) = trunk.new_reports(1)
    assert report["ended"] == "transferred"


def test_whom_the_caller_was_transferred_to_has_a_recording_of_him(
    asterisk: Asterisk, trunk: GatewayProcess, phone: NewPhone, places: Places
) -> None:
    caller = asks_for_a_transfer(phone, f"sip:705@{places.asterisk}", silent=7)
    asterisk.ami.wait_event("BlindTransfer", timeout=20)
    caller.wait_event("CALL_CLOSED", timeout=20)
    assert tone_seconds(asterisk.heard(), CALLER_HERTZ) > 1
    assert tone_seconds(caller.heard(), SPEECH_HERTZ) > 0.8
    (report,) = trunk.new_reports(1)
    assert report["ended"] == "transferred"


def test_a_transfer_over_us_connects_the_caller_with_an_extension(
    asterisk: Asterisk, trunk: GatewayProcess, phone: NewPhone, places: Places
) -> None:
    desk, caller = desk_and_caller(phone, f"sip:704@{places.asterisk}")
    desk.wait_event("CALL_ESTABLISHED", timeout=20)
    they_hear_each_other(desk, caller)
    desk.hang_up()
    caller.wait_event("CALL_CLOSED")
    (report,) = trunk.new_reports(1)
    assert report["ended"] == "transferred"


def test_an_extension_is_asked_before_it_gets_the_caller(
    asterisk: Asterisk, trunk: GatewayProcess, phone: NewPhone, places: Places
) -> None:
    """REFER with Replaces by the gateway: Asterisk connects its two calls, and we are out of it."""
    desk, caller = desk_and_caller(phone, f"sip:703@{places.asterisk}")
    desk.wait_event("CALL_ESTABLISHED", timeout=20)
    wait_for_sound(desk, lambda heard: loud_seconds(heard) > 1)
    assert tone_seconds(caller.heard(), DESK_HERTZ) == 0
    desk.press("1")
    assert asterisk.ami.wait_event("AttendedTransfer")["Result"] == "Success"
    (report,) = trunk.new_reports(1)
    assert report["ended"] == "transferred"
    they_hear_each_other(desk, caller)


def test_an_extension_that_declines_leaves_the_caller_with_the_agent(
    asterisk: Asterisk, trunk: GatewayProcess, phone: NewPhone, places: Places
) -> None:
    desk, caller = desk_and_caller(phone, f"sip:703@{places.asterisk}")
    desk.wait_event("CALL_ESTABLISHED", timeout=20)
    wait_for_sound(desk, lambda heard: loud_seconds(heard) > 1)
    desk.press("2")
    desk.wait_event("CALL_CLOSED")
    caller.press("#")
    caller.wait_event("CALL_CLOSED", timeout=15)
    (report,) = trunk.new_reports(1)
    assert report["ended"] == "agent_hung_up"


def test_hold_and_resume(asterisk: Asterisk, trunk: GatewayProcess, phone: NewPhone, places: Places) -> None:
    caller = phone("caller")
    caller.dial(f"sip:701@{places.asterisk}")
    caller.wait_event("CALL_ESTABLISHED")
    wait_for_sound(caller, lambda heard: loud_seconds(heard) > 0.5)
    for verb, direction in (("hold", "sendonly"), ("resume", "sendrecv")):
        caller.command(verb, may_fail=True)
        asterisk.wait_for_invite(places.gateway, rf"a={direction}")
    caller.press("#")
    caller.wait_event("CALL_CLOSED", timeout=15)
    (report,) = trunk.new_reports(1)
    assert report["ended"] == "agent_hung_up"
    tail = frame_levels_db(asterisk.heard())[-100:]
    assert np.count_nonzero(tail > -45) > 15, "the goodbye was not heard"


def test_sound_that_goes_past_asterisk(
    asterisk: Asterisk, trunk: GatewayProcess, phone: NewPhone, places: Places
) -> None:
    """direct_media: Asterisk sends the telephone's address in a re-INVITE, and takes the call back to hold it."""
    caller = phone("caller")
    caller.dial(f"sip:702@{places.asterisk}")
    caller.wait_event("CALL_ESTABLISHED")
    asterisk.wait_for_invite(places.gateway, rf"c=IN IP4 {caller.address}")
    wait_for_sound(caller, lambda heard: loud_seconds(heard) > 0.5)
    caller.command("hold", may_fail=True)
    asterisk.wait_for_invite(places.gateway, rf"c=IN IP4 {asterisk.address}")
    caller.command("resume", may_fail=True)
    asterisk.wait_for_invite(places.gateway, rf"c=IN IP4 {caller.address}")
    caller.press("#")
    caller.wait_event("CALL_CLOSED", timeout=15)
    (report,) = trunk.new_reports(1)
    assert report["ended"] == "agent_hung_up"


def test_who_was_called_moves_the_call(asterisk: Asterisk, dialler: Node) -> None:
    """REFER to us: the agent goes on talking, to the extension that it was sent to."""
    call = dialler.dial("moves")
    assert asterisk.ami.wait_event("UserEvent", UserEvent="Moved")["Status"] == "SUCCESS"
    assert call.report().ended is Ended.CALLEE_HUNG_UP
    assert tone_seconds(asterisk.heard(), SPEECH_HERTZ) >= 0.8


def test_a_call_is_not_moved_to_where_nobody_allowed(asterisk: Asterisk, dialler: Node) -> None:
    call = dialler.dial("strays")
    assert asterisk.ami.wait_event("UserEvent", UserEvent="Moved")["Status"] == "FAILURE"
    assert call.report().ended is Ended.CALLEE_HUNG_UP


def test_an_attended_transfer_connects_two_calls(asterisk: Asterisk, operator: Telephone, places: Places) -> None:
    """REFER with Replaces from our stack."""
    first = operator.call(f"sip:partner@{places.asterisk}")
    second = operator.call(f"sip:consulted@{places.asterisk}")
    operator.transfer(first, second)
    assert asterisk.ami.wait_event("AttendedTransfer")["Result"] == "Success"
    progress, ended = operator.wait_for_both(ReferProgress, CallEnded)  # Asterisk does not wait for its own NOTIFY
    assert progress.status == 200
    assert ended.call is second
    operator.hang_up(first)  # whoever transfers takes leave himself
    asterisk.ami.wait_event("Hangup", Exten="listen", timeout=20)
    assert tone_seconds(asterisk.heard(), DESK_HERTZ) > 1


def test_asterisk_takes_over_a_call_of_ours(
    asterisk: Asterisk, dialler: Node, operator: Telephone, places: Places
) -> None:
    """INVITE with Replaces to us: who asked the agent something on a second line connects the first line with it."""
    first = operator.call(f"sip:partner@{places.asterisk}")
    second = operator.call(f"sip:agent@{places.dialler}")
    operator.transfer(first, second)
    assert asterisk.ami.wait_event("BlindTransfer")["Result"] == "Success"
    assert operator.wait_for(ReferProgress).final
    report = dialler.next_report()
    assert report.ended is Ended.CALLER_HUNG_UP
    assert tone_seconds(asterisk.heard(), SPEECH_HERTZ) >= 0.8
