"""pyVoIP 1.6.8, the badly behaved telephone: it registers here and calls, and it is called."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from sipbridge.outcome import Ended
from tests.interop.gateway import free_on_both
from tests.interop.nodes import Node
from tests.interop.peers import Program, free_port
from tests.interop.sound import Samples, loud_seconds

pytestmark = pytest.mark.interop

GATEWAY, PHONE = "127.0.0.14", "127.0.0.15"
PASSWORD = "correct horse"


@pytest.fixture(scope="module")
def phone_port() -> int:
    return free_port(PHONE)


@pytest.fixture(scope="module")
def gateway(phone_port: int) -> Iterator[Node]:
    config = {
        "sip": {"accounts": [{"username": "office", "password": "${OFFICE_PASSWORD}"}]},
        "trunks": [
            {
                "name": "elsewhere",  # accounts prove who they are, wherever they call from
                "sources": ["127.0.0.99"],
                "outbound": {"proxy": f"sip:{PHONE}:{phone_port}", "ping_seconds": 0},
            }
        ],
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OFFICE_PASSWORD", PASSWORD)
        with Node(config, desk="tel:+15550100", address=GATEWAY, port=free_on_both(GATEWAY)) as gateway:
            yield gateway


def telephone(gateway: Node, phone_port: int, recording: Path, *task: str) -> Program:
    host, _, port = gateway.target.rpartition(":")
    script = str(Path(__file__).parent / "pyvoip_phone.py")
    return Program(
        [sys.executable, script, host, port, "office", PASSWORD, PHONE, str(phone_port), str(recording), *task]
    )


def read(recording: Path) -> Samples:
    """Its audio: 8-bit, unsigned."""
    return (np.frombuffer(recording.read_bytes(), np.uint8).astype(np.float64) - 128) / 128


def test_it_registers_and_calls(gateway: Node, phone_port: int, tmp_path: Path) -> None:
    """It sends both INVITEs with one branch, credentials without qop and for no user, an ACK with a To tag of its own
    making, and a BYE with the branch of the INVITE."""
    recording = tmp_path / "heard"
    with telephone(gateway, phone_port, recording, "dial", "agent", "2") as phone:
        phone.wait_for("^registered$")
        phone.wait_for("^state ANSWERED$")
        phone.wait_for("^stopped$", timeout=30)
    assert loud_seconds(read(recording)) > 0.5
    assert gateway.next_report().ended is Ended.CALLER_HUNG_UP


def test_it_is_called(gateway: Node, phone_port: int, tmp_path: Path) -> None:
    recording = tmp_path / "heard"
    with telephone(gateway, phone_port, recording, "answer", "0") as phone:
        phone.wait_for("^registered$")
        call = gateway.dial("office")
        phone.wait_for("^answered$")
        phone.wait_for("^heard something$")
        call.give_up()
        phone.wait_for("^was hung up$")
        phone.wait_for("^stopped$", timeout=30)
    assert call.report().ended is Ended.CANCELLED


def test_it_answers_a_call_that_we_have_given_up(gateway: Node, phone_port: int, tmp_path: Path) -> None:
    """It says 200 to our CANCEL, nothing to the INVITE, and later 200: which gets its ACK, and a BYE."""
    with telephone(gateway, phone_port, tmp_path / "heard", "answer", "1") as phone:
        phone.wait_for("^registered$")
        call = gateway.dial("office")
        phone.wait_for("^called$")
        call.give_up()
        assert call.report().ended is Ended.CANCELLED
        phone.wait_for("^answered$")
        phone.wait_for("^was hung up$")
        phone.wait_for("^stopped$", timeout=30)
