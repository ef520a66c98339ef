"""Calls that come from a real Asterisk over an IP trunk, judged by Asterisk's own recordings."""

from __future__ import annotations

import numpy as np
import pytest

from tests.interop.asterisk import Asterisk
from tests.interop.gateway import GatewayProcess
from tests.interop.pbx.conftest import SPEECH_HERTZ
from tests.interop.sound import frame_levels_db, loud_seconds, tone_seconds

pytestmark = pytest.mark.interop


@pytest.mark.parametrize(
    ("endpoint", "codec"), [("sipbridge", "PCMU"), pytest.param("alaw", "PCMA", marks=pytest.mark.slow)]
)
def test_a_caller_hears_the_greeting_and_then_itself(
    asterisk: Asterisk, trunk: GatewayProcess, endpoint: str, codec: str
) -> None:
    asterisk.call(f"PJSIP/agent@{endpoint}", context="tests", extension="speak")
    asterisk.ami.wait_event("Hangup", timeout=25)
    heard = asterisk.heard()
    greeting = frame_levels_db(heard)[:75]
    assert np.count_nonzero(greeting > -45) > 30, "no greeting within a second and a half"
    assert np.max(greeting) > -25
    assert loud_seconds(heard) > 2
    assert tone_seconds(heard, SPEECH_HERTZ) >= 0.8
    (report,) = trunk.new_reports(1)
    assert (report["ended"], report["codec"], report["barge_ins"]) == ("caller_hung_up", codec, 1)
    assert report["trunk"] == "pbx"


@pytest.mark.parametrize("endpoint", ["sipbridge", "info"])
def test_keys_of_the_caller_are_heard(asterisk: Asterisk, trunk: GatewayProcess, endpoint: str) -> None:
    asterisk.call(f"PJSIP/agent@{endpoint}", context="tests", extension="press", variables={"KEYS": "5#"})
    asterisk.ami.wait_event("Hangup", timeout=25)
    (report,) = trunk.new_reports(1)
    assert report["ended"] == "agent_hung_up"


def test_provisional_responses_that_must_be_reliable(asterisk: Asterisk, trunk: GatewayProcess) -> None:
    asterisk.call("PJSIP/agent@reliable", context="tests", extension="press", variables={"KEYS": "#"})
    asterisk.ami.wait_event("Hangup", timeout=25)
    (report,) = trunk.new_reports(1)
    assert report["ended"] == "agent_hung_up"
    asterisk.program.wait_for(r"^PRACK sip:")


def test_the_caller_gives_up_while_it_rings(asterisk: Asterisk, trunk: GatewayProcess) -> None:
    asterisk.call("PJSIP/slow@sipbridge", context="tests", extension="stay")
    ringing = asterisk.ami.wait_event("Newstate", ChannelStateDesc="Ringing")
    asterisk.ami.action("Hangup", Channel=ringing["Channel"])
    (report,) = trunk.new_reports(1)
    assert report["ended"] == "caller_cancelled"


def test_a_number_that_nobody_has(asterisk: Asterisk, trunk: GatewayProcess) -> None:
    asterisk.call("PJSIP/nobody@sipbridge", context="tests", extension="stay")
    assert asterisk.ami.wait_event("Hangup")["Cause"] == "1"  # Q.850: unallocated number
    assert trunk.new_reports(0) == []


def test_a_model_that_is_away_lets_the_dialplan_go_on(asterisk: Asterisk, trunk: GatewayProcess) -> None:
    asterisk.call("PJSIP/away@sipbridge", context="tests", extension="stay")
    hangup = asterisk.ami.wait_event("Hangup")
    assert hangup["Cause"] in ("19", "41")  # no answer; or what our Reason says
    (report,) = trunk.new_reports(1)
    assert report["ended"] == "agent_not_ready"


def test_asterisk_asks_whether_we_are_there(asterisk: Asterisk) -> None:
    asterisk.ami.command("pjsip qualify sipbridge")
    asterisk.program.wait_for(r"^SIP/2.0 200 OK\n(\S+: .*\n)*CSeq: \d+ OPTIONS")
    assert "Avail" in asterisk.ami.command("pjsip show contacts")
