"""Sound of every kind with a real Asterisk: what the agent says, and what it repeats, in Asterisk's own recordings."""

from __future__ import annotations

import pytest
import yaml

from sipbridge.outcome import Ended
from tests.interop.asterisk import Asterisk
from tests.interop.gateway import GatewayProcess
from tests.interop.nodes import Node
from tests.interop.pbx.conftest import ASTERISK, SPEECH_HERTZ, WIDE_HERTZ, Places
from tests.interop.recipes import recipe
from tests.interop.sound import loud_seconds, tone_seconds

pytestmark = pytest.mark.interop

SUITE = "AES_CM_128_HMAC_SHA1_80"
CALLING = "127.0.0.16"


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


@pytest.mark.parametrize("endpoint", ["sdes", "dtls"])
def test_encrypted_there_and_back(asterisk: Asterisk, trunk: GatewayProcess, endpoint: str) -> None:
    asterisk.call(f"PJSIP/agent@{endpoint}", context="tests", extension="speak")
    asterisk.ami.wait_event("Hangup", timeout=25)
    (report,) = trunk.new_reports(1)
    assert (report["ended"], report["barge_ins"], report["encryption"]) == ("caller_hung_up", 1, SUITE)
    assert tone_seconds(asterisk.heard(), SPEECH_HERTZ) >= 0.8


def test_asterisk_is_called_with_dtls(asterisk: Asterisk, places: Places) -> None:
    addresses = {"10.0.0.5:5060": places.asterisk, "10.0.0.5/": f"{ASTERISK}/"}
    config = yaml.safe_load(recipe("asterisk", "sipbridge.yaml: calls placed with DTLS", addresses))
    with Node(config, desk="tel:+15550100", address=CALLING) as node:
        report = node.dial("listen", from_="dtls").report(30)  # Asterisk finds its endpoint by the caller's name
    assert report.ended is Ended.CALLEE_HUNG_UP
    assert report.to_log()["encryption"] == SUITE
    assert tone_seconds(asterisk.heard(), SPEECH_HERTZ) >= 0.8
