"""How calls are answered and made, with baresip and SIPp at the other end."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from tests.interop import sipp
from tests.interop.baresip import Baresip, wait_for_sound
from tests.interop.gateway import GatewayProcess, offline, running_gateway
from tests.interop.peers import ROOT, Program, free_port
from tests.interop.sound import Samples, loud_seconds, silence, tone, tone_seconds, write_wav

pytestmark = pytest.mark.interop

RINGING, WELCOME, DESK = 425.0, 1300.0, 1100.0
NewPhone = Callable[..., Baresip]


@pytest.fixture
def phone(tmp_path: Path) -> Iterator[NewPhone]:
    """Makes silent softphones, each in a folder of its own."""
    with ExitStack() as stack:

        def new(says: Samples, *, address: str = "127.0.0.3", **how: object) -> Baresip:
            folder = tmp_path / f"phone-{address}"
            folder.mkdir()
            wav = write_wav(folder / "says.wav", np.concatenate((says, silence(60))))
            return stack.enter_context(Baresip(folder, address=address, says=wav, **how))  # type: ignore[arg-type]

        yield new


@pytest.fixture(scope="module")
def answering(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """Tenants by how they answer. The model of those that are called `slow...` never says a word."""
    folder = tmp_path_factory.mktemp("answering")
    welcome = write_wav(tmp_path_factory.mktemp("sounds") / "welcome.wav", tone(WELCOME, 1.5))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"ws://127.0.0.1:{silent.getsockname()[1]}/v1/realtime"
        slow = {"agent": {"provider": "openai", "api_key": "none", "url": url}, "deadlines": {"connect_seconds": 3}}
        quick = offline("", "sip:nobody@example.com")
        tenants: dict[str, dict[str, Any]] = {
            "slow-early": {**slow, "early_media": True},
            "slow-at-once": {**slow, "answer": "immediately"},
            "welcome": {**quick, "answer": "immediately", "waiting_sound": str(welcome)},
            "rings": {**quick, "answer": "ring_then_answer", "rings": 1},
        }
        for name, tenant in tenants.items():
            tenant["match"] = {"to": name}
        with running_gateway(folder, desk="sip:nobody@example.com", tenants=tenants) as gateway:
            yield gateway


# baresip 1.0.0 answers no DTLS before the call is answered.
@pytest.mark.parametrize("encryption", [None, pytest.param("srtp-mand", marks=pytest.mark.slow)])
def test_early_media_is_heard_and_then_the_refusal(
    answering: GatewayProcess, phone: NewPhone, encryption: str | None
) -> None:
    caller = phone(silence(1), encryption=encryption)
    caller.dial(answering.uri("slow-early"))
    caller.wait_event("CALL_PROGRESS")
    caller.wait_event("CALL_CLOSED", timeout=15)
    assert tone_seconds(caller.heard(), RINGING) >= 0.8
    (report,) = answering.new_reports(1)
    assert (report["ended"], report["status"], report["setup_ms"]) == ("agent_not_ready", 480, None)


def test_early_media_to_somebody_who_gives_up(answering: GatewayProcess, phone: NewPhone) -> None:
    caller = phone(silence(1))
    caller.dial(answering.uri("slow-early"))
    wait_for_sound(caller, lambda heard: tone_seconds(heard, RINGING) >= 0.5)
    caller.hang_up()
    caller.wait_event("CALL_CLOSED")
    (report,) = answering.new_reports(1)
    assert (report["ended"], report["status"]) == ("caller_cancelled", 487)


def test_answered_at_once_and_no_model_is_a_tone_a_sentence_and_bye(answering: GatewayProcess, phone: NewPhone) -> None:
    caller = phone(silence(1))
    caller.dial(answering.uri("slow-at-once"))
    caller.wait_event("CALL_ESTABLISHED", timeout=2)
    caller.wait_event("CALL_CLOSED", timeout=20)
    heard = caller.heard()
    assert tone_seconds(heard, RINGING) >= 0.8
    assert loud_seconds(heard) > tone_seconds(heard, RINGING) + 1, "no sentence was heard"
    (report,) = answering.new_reports(1)
    assert report["ended"] == "agent_not_ready"
    assert report["setup_ms"] < 500


def test_a_welcome_of_the_tenants_own_and_then_the_agent(answering: GatewayProcess, phone: NewPhone) -> None:
    caller = phone(silence(1))
    caller.dial(answering.uri("welcome"))
    heard = wait_for_sound(caller, lambda heard: loud_seconds(heard) > 3)
    caller.hang_up()
    caller.wait_event("CALL_CLOSED")
    assert tone_seconds(heard, WELCOME) == pytest.approx(1.5, abs=0.2), "from its beginning to its end"
    answering.new_reports(1)


@pytest.mark.parametrize("user", ["rings", "slow-at-once", "slow-early"])
def test_sipp_gives_up_while_it_rings(answering: GatewayProcess, tmp_path: Path, user: str) -> None:
    scenario = {"rings": "cancel", "slow-at-once": "hang_up_at_once", "slow-early": "cancel_early"}[user]
    sipp.run(tmp_path, scenario, answering.target, user=user)
    (report,) = answering.new_reports(1)
    assert report["ended"] == ("caller_hung_up" if user == "slow-at-once" else "caller_cancelled")


@pytest.mark.slow
def test_it_rings_once_and_is_answered(answering: GatewayProcess, phone: NewPhone) -> None:
    caller = phone(silence(1))
    caller.dial(answering.uri("rings"))
    caller.wait_event("CALL_RINGING")
    caller.wait_event("CALL_ESTABLISHED", timeout=10)
    wait_for_sound(caller, lambda heard: loud_seconds(heard) > 0.5)
    caller.hang_up()
    (report,) = answering.new_reports(1)
    assert 4900 <= report["setup_ms"] < 6000


# --- sipbridge dial ---------------------------------------------------------------------------------------------------


def dialled(
    folder: Path, proxy: str, *, to: str = "+15550100", outbound: str = "", tenant: dict[str, Any] | None = None
) -> Program:
    (folder / "tenants").mkdir(parents=True)
    path = folder / "sipbridge.yaml"
    path.write_text(
        "trunks: [{name: pbx, sources: [127.0.0.0/8], "
        f"outbound: {{proxy: '{proxy}', ping_seconds: 0, {outbound}}}}}]\n"
        "media: {ports: 30600-30699}\n"
    )
    acme = {**offline("*", "sip:nobody@example.com"), **(tenant or {})}
    (folder / "tenants" / "acme.yaml").write_text(yaml.safe_dump(acme))
    return Program([sys.executable, "-m", "sipbridge", "dial", "acme", to, "-c", str(path)], cwd=ROOT, env={})


def report_of(program: Program) -> tuple[int, dict[str, Any]]:
    try:
        status = program.wait(30)
    finally:
        program.stop()
    lines = program.output.splitlines()
    return status, json.loads("".join(lines[lines.index("{") :]))


def test_dial_lets_the_agent_talk_to_baresip(tmp_path: Path, phone: NewPhone) -> None:
    callee = phone(silence(1), address="127.0.0.4", answers=True)
    with dialled(tmp_path, f"sip:127.0.0.4:{callee.port}", to="baresip") as program:
        callee.wait_event("CALL_ESTABLISHED", timeout=20)
        wait_for_sound(callee, lambda heard: loud_seconds(heard) > 2)
        callee.hang_up()
        status, report = report_of(program)
    assert (status, report["ended"], report["direction"]) == (0, "callee_hung_up", "outbound")


@pytest.mark.parametrize(
    ("scenario", "ended", "outbound"),
    [
        ("uas_busy", "busy", ""),
        ("uas_declined", "declined", ""),
        ("uas_moved", "redirected", ""),
        ("uas_overloaded", "unreachable", ""),
        ("uas_cancelled", "no_answer", "ring_seconds: 1"),
        ("uas_machine", "answering_machine", ""),
    ],
)
def test_dial_says_what_sipp_did(tmp_path: Path, scenario: str, ended: str, outbound: str) -> None:
    port = free_port(sipp.ADDRESS)
    copies = ("uas_busy", "uas_declined", "uas_moved")
    callee = sipp.Sipp(tmp_path / "sipp", scenario, None, port=port, timeout=30, repeats=scenario not in copies)
    proxy = f"sip:{sipp.ADDRESS}:{port}"
    program = dialled(tmp_path / "dial", proxy, outbound=outbound, tenant={"machine": "hang_up"})
    try:
        status, report = report_of(program)
        assert (status, report["ended"]) == (1, ended)
        if scenario not in copies:  # a copy of a refusal, which they send, may come when the process is gone
            callee.finish()
    finally:
        callee.program.stop()
