"""baresip over UDP and TCP, as caller, as callee, and as a telephone that registers here."""

from __future__ import annotations

from pathlib import Path

import pytest

from sipbridge.outcome import Ended
from tests.interop.baresip import Baresip, wait_for_sound
from tests.interop.gateway import GatewayProcess
from tests.interop.nodes import Node
from tests.interop.sound import loud_seconds, silence, write_wav

pytestmark = pytest.mark.interop

GATEWAY, PHONE = "127.0.0.14", "127.0.0.3"
PASSWORD = "correct-horse"


@pytest.fixture
def quiet(tmp_path: Path) -> Path:
    return write_wav(tmp_path / "quiet.wav", silence(60))


def test_it_calls_over_tcp(gateway: GatewayProcess, tmp_path: Path, quiet: Path) -> None:
    with Baresip(tmp_path / "caller", address=PHONE, says=quiet) as caller:
        caller.dial(f"{gateway.uri()};transport=tcp")
        caller.wait_event("CALL_ESTABLISHED")
        wait_for_sound(caller, lambda heard: loud_seconds(heard) > 0.5)
        caller.press("#")
        caller.wait_event("CALL_CLOSED", timeout=15)
    (report,) = gateway.new_reports(1)
    assert report["ended"] == "agent_hung_up"


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_it_is_called(tmp_path: Path, quiet: Path, transport: str) -> None:
    with Baresip(tmp_path / "callee", address=PHONE, says=quiet, answers=True) as callee:
        way = {"proxy": f"sip:{PHONE}:{callee.port}", "transport": transport, "ping_seconds": 0}
        trunk = {"name": "pbx", "sources": [PHONE, "127.0.0.1"], "outbound": way}  # its connections come from there
        with Node({"trunks": [trunk]}, desk="tel:+15550100", address=GATEWAY) as node:
            call = node.dial("baresip")
            callee.wait_event("CALL_ESTABLISHED")
            wait_for_sound(callee, lambda heard: loud_seconds(heard) > 0.5)
            callee.hang_up()
            assert call.report().ended is Ended.CALLEE_HUNG_UP


def test_it_registers_here_and_calls(tmp_path: Path, quiet: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OFFICE_PASSWORD", PASSWORD)
    account = {"username": "office", "password": "${OFFICE_PASSWORD}"}
    accounts = {"sip": {"accounts": [account], "digest_algorithms": ["MD5"]}}  # 1.0 gives up at the sight of SHA-256
    with (
        Node(accounts, desk="tel:+15550100", address=GATEWAY) as node,
        Baresip(tmp_path / "phone", address=PHONE, says=quiet, registers=("office", PASSWORD, node.target)) as phone,
    ):
        phone.program.wait_for("200 OK")
        phone.dial(f"sip:agent@{node.target}")
        phone.wait_event("CALL_ESTABLISHED")
        wait_for_sound(phone, lambda heard: loud_seconds(heard) > 0.5)
        phone.hang_up()
        assert node.next_report().ended is Ended.CALLER_HUNG_UP
