"""SIP over TLS with baresip, both ways, and a private CA."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml

from tests.interop.baresip import Baresip
from tests.interop.peers import ROOT, Program, free_port
from tests.interop.sound import loud_seconds, silence, tone, write_wav
from tests.sip.certificates import Authority

pytestmark = pytest.mark.interop

GATEWAY, PHONE = "127.0.0.23", "127.0.0.24"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def gateway(tmp_path: Path, authority: Authority) -> Iterator[str]:
    """The URI of an agent behind a TLS listener."""
    issued = authority.issue(GATEWAY, stem="gateway")
    port = free_port(GATEWAY)
    config = {
        "sip": {
            "listen": [f"tls://{GATEWAY}:{port}"],
            "tls": {"certificate": str(issued.certificate), "key": str(issued.key), "ca": str(issued.ca)},
        },
        "media": {"address": GATEWAY, "ports": "30400-30499"},
        "tenants": {"directory": "tenants"},
    }
    tenant = {"match": {"to": "agent"}, "agent": {"provider": "offline", "greeting": "Hello, this is sipbridge."}}
    (tmp_path / "tenants").mkdir()
    (tmp_path / "sipbridge.yaml").write_text(yaml.safe_dump(config))
    (tmp_path / "tenants" / "agent.yaml").write_text(yaml.safe_dump(tenant))
    program = Program(
        [sys.executable, "-m", "sipbridge", "--log-json", "serve", "-c", str(tmp_path / "sipbridge.yaml")], cwd=ROOT
    )
    try:
        program.wait_for('"event": "listening"')
        yield f"sip:agent@{GATEWAY}:{port};transport=tls"
    finally:
        assert program.stop() == 0, program.output[-5000:]
    assert "Traceback" not in program.output, program.output[-5000:]


def baresip(folder: Path, authority: Authority, *, answers: bool = False) -> Baresip:
    issued = authority.issue(PHONE, stem="phone")
    assert issued.certificate is not None
    assert issued.key is not None
    both = folder / "phone-both.pem"
    both.write_bytes(issued.certificate.read_bytes() + issued.key.read_bytes())
    (folder / "baresip").mkdir()
    wav = write_wav(folder / "says.wav", np.concatenate((tone(700, 10), silence(60))))
    return Baresip(folder / "baresip", address=PHONE, says=wav, answers=answers, tls=(authority.file, both))


def test_baresip_calls_and_hears(tmp_path: Path, authority: Authority, gateway: str) -> None:
    with baresip(tmp_path, authority) as phone:
        phone.dial(gateway)
        phone.wait_event("CALL_ESTABLISHED")
        phone.program.wait_until(lambda: phone.is_recording and loud_seconds(phone.heard()) > 0.5, 20, "the greeting")
        phone.hang_up()
        phone.wait_event("CALL_CLOSED")


@pytest.mark.parametrize("trusted", [True, False])
def test_baresip_is_called(tmp_path: Path, authority: Authority, trusted: bool) -> None:
    ca = authority.file if trusted else Authority(tmp_path, "other").file
    with baresip(tmp_path, authority, answers=True) as phone:
        uri = f"sip:baresip@{PHONE}:{phone.port + 1};transport=tls"
        with Program(
            [sys.executable, "-m", "sipbridge", "call", uri, "--ca", str(ca), "--seconds", "1", "--expect", "answered"],
            cwd=ROOT,
        ) as caller:
            status = caller.wait(20)
        assert status == (0 if trusted else 1), caller.output
        if trusted:
            phone.wait_event("CALL_ESTABLISHED")
            phone.wait_event("CALL_CLOSED")
            assert "packets" in caller.output
        else:
            assert "certificate not accepted" in caller.output
