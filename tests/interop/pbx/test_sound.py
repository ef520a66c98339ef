"""Sound of every kind with a real Asterisk: what the agent says, and what it repeats, in Asterisk's own recordings."""

from __future__ import annotations

import pytest

from tests.interop.asterisk import Asterisk
from tests.interop.gateway import GatewayProcess
from tests.interop.pbx.conftest import WIDE_HERTZ
from tests.interop.sound import loud_seconds, tone_seconds

pytestmark = pytest.mark.interop


@pytest.mark.parametrize(
    ("endpoint", "codec"),
    [("wide", "opus"), pytest.param("opus", "opus", marks=pytest.mark.slow), ("g722", "G722")],
)
def test_wideband_there_and_back(asterisk: Asterisk, trunk: GatewayProcess, endpoint: str, codec: str) -> None:
    if codec == "opus" and not asterisk.has_module("codec_opus"):
        pytest.skip("this Asterisk has no Opus")
    asterisk.call(f"PJSIP/agent@{endpoint}", context="tests", extension="speak_wide")
    asterisk.ami.wait_event("Hangup", timeout=25)
    heard = asterisk.heard(wideband=True)
    assert loud_seconds(heard) > 1
    (report,) = trunk.new_reports(1)
    assert (report["ended"], report["codec"], report["barge_ins"]) == ("caller_hung_up", codec, 1)
    assert tone_seconds(heard, WIDE_HERTZ, rate=16000) >= 0.8, "no telephone of 8 kHz could have carried it"
