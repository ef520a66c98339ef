"""Session timers with a real Asterisk: 90 s is the least that the RFC allows; who refreshes does so at half time."""

from __future__ import annotations

import pytest

from sipbridge.outcome import Ended
from tests.interop.asterisk import Asterisk
from tests.interop.gateway import GatewayProcess
from tests.interop.nodes import Node
from tests.interop.pbx.conftest import ASTERISK, Places

pytestmark = [pytest.mark.interop, pytest.mark.slow]


@pytest.mark.timeout(120)
def test_asterisk_refreshes_the_session(asterisk: Asterisk, trunk: GatewayProcess, places: Places) -> None:
    asterisk.call("PJSIP/agent@timed", context="tests", extension="stay")
    asterisk.wait_for_message("SIP/2.0 200 OK", r"Session-Expires: 90;refresher=uac")
    asterisk.wait_for_message(rf"(INVITE|UPDATE) sip:\S*{places.gateway}", r"Session-Expires: 90;refresher=uac", 60)
    asterisk.wait_for_message("SIP/2.0 200 OK", r"Session-Expires: 90")
    asterisk.ami.wait_event("Hangup", timeout=60)
    (report,) = trunk.new_reports(1)
    assert report["ended"] == "caller_hung_up"


@pytest.mark.timeout(120)
def test_we_refresh_the_session(asterisk: Asterisk, dialler: Node) -> None:
    call = dialler.dial("stays", from_="timed")
    asterisk.wait_for_message("SIP/2.0 200 OK", r"Session-Expires: 90;refresher=uac")
    asterisk.wait_for_message(rf"(INVITE|UPDATE) sip:\S*{ASTERISK}", r"Session-Expires: 90;refresher=uac", 60)
    assert call.report(60).ended is Ended.CALLEE_HUNG_UP
