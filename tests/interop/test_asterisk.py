"""A real Asterisk as the PBX, configured as docs/pbx/asterisk.md says, judged by its own recordings."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml

from tests.interop.asterisk import Asterisk
from tests.interop.gateway import GatewayProcess, free_on_both, running_gateway
from tests.interop.recipes import recipe
from tests.interop.sound import frame_levels_db, loud_seconds, silence, tone, tone_seconds, write_wav

pytestmark = pytest.mark.interop

ASTERISK = "127.0.0.5"
SPEECH_HERTZ = 600.0
DESK_HERTZ = 1100.0

# What answers calls, and what speaks in those that Asterisk begins. RECORDINGS is set by Asterisk.call.
DIALPLAN = """
[tests]
exten => speak,1,MixMonitor(${RECORDINGS}/mixed.wav,r(${RECORDINGS}/heard.wav)t(${RECORDINGS}/said.wav))
 same => n,Playback(SOUNDS/question)
 same => n,Hangup()
exten => press,1,MixMonitor(${RECORDINGS}/mixed.wav,r(${RECORDINGS}/heard.wav))
 same => n,Wait(1)
 same => n,SendDTMF(${KEYS},200,150)
 same => n,Wait(10)
"""


@pytest.fixture(scope="module")
def port() -> int:
    return free_on_both(ASTERISK)


@pytest.fixture(scope="module")
def bridge_process(tmp_path_factory: pytest.TempPathFactory, port: int) -> Iterator[GatewayProcess]:
    """The gateway with a trunk to Asterisk, as the recipe has it."""
    own = free_on_both("127.0.0.1")
    ours = {"10.0.0.20:5060": f"127.0.0.1:{own}", "10.0.0.20": "127.0.0.1", "10.0.0.5": ASTERISK}
    config = recipe("asterisk", "sipbridge.yaml: the trunk", ours)
    theirs = {"10.0.0.5:5060": f"{ASTERISK}:{port}"}
    tenant = recipe("asterisk", "tenants/acme.yaml: whom the caller talks to", theirs)
    with running_gateway(
        tmp_path_factory.mktemp("gateway"),
        desk=f"sip:1001@{ASTERISK}:{port}",
        port=own,
        config=yaml.safe_load(config),
        tenants={"acme": yaml.safe_load(tenant)},
    ) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def asterisk_process(
    tmp_path_factory: pytest.TempPathFactory, bridge_process: GatewayProcess, port: int
) -> Iterator[Asterisk]:
    folder = tmp_path_factory.mktemp("asterisk")
    # Two seconds into the greeting a tone interrupts it, and there is time for it to come back.
    write_wav(folder / "question.wav", np.concatenate((silence(2), tone(SPEECH_HERTZ, 1), silence(4))))
    write_wav(folder / "desk.wav", tone(DESK_HERTZ, 20))
    pjsip = recipe(
        "asterisk",
        "pjsip.conf: the trunk",
        {"10.0.0.5:5060": f"{ASTERISK}:{port}", "10.0.0.20:5060": bridge_process.target, "10.0.0.20": bridge_process.address},
    )
    extensions = recipe("asterisk", "extensions.conf: the way to the agent, and what the agent can reach", {})
    with Asterisk(
        folder,
        ASTERISK,
        {"pjsip.conf": pjsip, "extensions.conf": extensions + DIALPLAN.replace("SOUNDS", str(folder))},
    ) as asterisk:
        yield asterisk


@pytest.fixture
def bridge(bridge_process: GatewayProcess) -> GatewayProcess:
    bridge_process.forget()
    return bridge_process


@pytest.fixture
def asterisk(asterisk_process: Asterisk) -> Asterisk:
    asterisk_process.forget()
    return asterisk_process


def test_a_caller_on_the_trunk_hears_the_greeting_and_then_itself(asterisk: Asterisk, bridge: GatewayProcess) -> None:
    asterisk.call("PJSIP/agent@sipbridge", context="tests", extension="speak")
    asterisk.ami.wait_event("Hangup", timeout=25)
    heard = asterisk.heard()
    greeting = frame_levels_db(heard)[:100]
    assert np.count_nonzero(greeting > -45) > 40, "no greeting within two seconds"
    assert np.max(greeting) > -25
    assert loud_seconds(heard) > 2
    assert tone_seconds(heard, SPEECH_HERTZ) >= 0.8
    (report,) = bridge.new_reports(1)
    assert (report["ended"], report["codec"], report["barge_ins"]) == ("caller_hung_up", "PCMU", 1)


def test_keys_of_the_caller_are_heard(asterisk: Asterisk, bridge: GatewayProcess) -> None:
    asterisk.call("PJSIP/agent@sipbridge", context="tests", extension="press", variables={"KEYS": "5#"})
    asterisk.ami.wait_event("Hangup", timeout=25)
    (report,) = bridge.new_reports(1)
    assert report["ended"] == "agent_hung_up"
