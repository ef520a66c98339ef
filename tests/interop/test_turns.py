"""A cough and a sentence of baresip's, heard by our own ear while the embedded model speaks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.interop.baresip import Baresip, wait_for_sound
from tests.interop.gateway import GatewayProcess, offline, running_gateway
from tests.interop.sound import loud_seconds, silence, tone, tone_seconds, write_wav

pytestmark = pytest.mark.interop

GATEWAY, PHONE = "127.0.0.18", "127.0.0.19"
CALLER_HERTZ = 700.0
DESK = "sip:desk@127.0.0.18:9"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    judged = {"barge_in": {"recover_false_alarms": True}}
    turns = {"turn_detection": {"type": "local_vad", "silence_ms": 400}}
    judging = offline("judging", DESK) | judged
    by_ear = offline("by-ear", DESK)
    by_ear = by_ear | judged | {"agent": by_ear["agent"] | turns}
    folder = tmp_path_factory.mktemp("turns")
    with running_gateway(folder, desk=DESK, address=GATEWAY, tenants={"judging": judging, "by-ear": by_ear}) as process:
        yield process


@pytest.mark.parametrize("tenant", ["judging", "by-ear"])
def test_a_cough_costs_no_greeting_and_a_sentence_is_repeated(
    gateway: GatewayProcess, tmp_path: Path, tenant: str
) -> None:
    # The greeting takes eight seconds: one is coughed in, and another is spoken into.
    says = np.concatenate((silence(1.5), tone(CALLER_HERTZ, 0.25), silence(2.0), tone(CALLER_HERTZ, 1.5), silence(60)))
    wav = write_wav(tmp_path / "says.wav", says)
    with Baresip(tmp_path / "phone", address=PHONE, says=wav) as caller:
        caller.dial(gateway.uri(tenant))
        caller.wait_event("CALL_ESTABLISHED")
        wait_for_sound(caller, lambda heard: tone_seconds(heard, CALLER_HERTZ) >= 1.2)
        caller.hang_up()
        caller.wait_event("CALL_CLOSED")
        assert loud_seconds(caller.heard()) > 3
    (report,) = gateway.new_reports(1)
    assert (report["barge_ins"], report["false_alarms"], report["ended"]) == (1, 1, "caller_hung_up")
