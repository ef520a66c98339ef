"""Hold, and transfers, with telephones behind a real Asterisk."""

from __future__ import annotations

import numpy as np
import pytest

from tests.interop.asterisk import Asterisk
from tests.interop.baresip import wait_for_sound
from tests.interop.gateway import GatewayProcess
from tests.interop.pbx.conftest import DESK_HERTZ, NewPhone, Places
from tests.interop.sound import frame_levels_db, loud_seconds, tone, tone_seconds

pytestmark = pytest.mark.interop


def test_a_transfer_connects_the_caller_with_an_extension(
    asterisk: Asterisk, trunk: GatewayProcess, phone: NewPhone, places: Places
) -> None:
    desk = phone("desk", tone(DESK_HERTZ, 30))
    caller = phone("caller")
    caller.dial(f"sip:700@{places.asterisk}")
    caller.wait_event("CALL_ESTABLISHED")
    wait_for_sound(caller, lambda heard: loud_seconds(heard) > 0.5)
    caller.press("*")
    transfer = asterisk.ami.wait_event("BlindTransfer", timeout=20)
    assert (transfer["Result"], transfer["Extension"]) == ("Success", "1001")
    desk.wait_event("CALL_ESTABLISHED", timeout=20)
    wait_for_sound(caller, lambda heard: tone_seconds(heard, DESK_HERTZ) > 0.5)
    (report,) = trunk.new_reports(1)
    assert report["ended"] == "transferred"


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
