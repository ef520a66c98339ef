"""Hold, and transfers, with telephones behind a real Asterisk."""

from __future__ import annotations

import pytest

from tests.interop.asterisk import Asterisk
from tests.interop.baresip import wait_for_sound
from tests.interop.gateway import GatewayProcess
from tests.interop.pbx.conftest import ASTERISK, DESK_HERTZ, NewPhone
from tests.interop.sound import loud_seconds, tone, tone_seconds

pytestmark = pytest.mark.interop


def test_a_transfer_connects_the_caller_with_an_extension(
    asterisk: Asterisk, trunk: GatewayProcess, phone: NewPhone, port: int
) -> None:
    desk = phone("desk", tone(DESK_HERTZ, 30))
    caller = phone("caller")
    caller.dial(f"sip:700@{ASTERISK}:{port}")
    caller.wait_event("CALL_ESTABLISHED")
    wait_for_sound(caller, lambda heard: loud_seconds(heard) > 0.5)
    caller.press("*")
    transfer = asterisk.ami.wait_event("BlindTransfer", timeout=20)
    assert (transfer["Result"], transfer["Extension"]) == ("Success", "1001")
    desk.wait_event("CALL_ESTABLISHED", timeout=20)
    wait_for_sound(caller, lambda heard: tone_seconds(heard, DESK_HERTZ) > 0.5)
    (report,) = trunk.new_reports(1)
    assert report["ended"] == "transferred"


@pytest.mark.parametrize(("extension", "direction"), [("701", "sendonly"), ("702", "sendonly")])
def test_hold_and_resume(
    asterisk: Asterisk, trunk: GatewayProcess, phone: NewPhone, port: int, extension: str, direction: str
) -> None:
    caller = phone("caller")
    caller.dial(f"sip:{extension}@{ASTERISK}:{port}")
    caller.wait_event("CALL_ESTABLISHED")
    wait_for_sound(caller, lambda heard: loud_seconds(heard) > 0.5)
    for verb, event in (("hold", "Hold"), ("resume", "Unhold")):
        caller.command(verb, may_fail=True)
        asterisk.ami.wait_event(event)
    import pathlib; pathlib.Path("/tmp/labexp/sip.log").write_text(asterisk.program.output)
    caller.press("#")
    caller.wait_event("CALL_CLOSED", timeout=15)
    (report,) = trunk.new_reports(1)
    assert report["ended"] == "agent_hung_up"
