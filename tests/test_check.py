"""`sipbridge check`: what it finds of listeners, names, certificates and trunks, on loopback."""

from __future__ import annotations

import asyncio
import os
import re
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

import pytest
import trustme

from sipbridge import check as checking
from sipbridge import codecs
from sipbridge.certificates import validity
from sipbridge.check import check
from sipbridge.codecs import g722
from sipbridge.config import Config
from sipbridge.configfile import parse
from sipbridge.finding import Finding
from sipbridge.sip.dns import DnsAnswer, DnsResolver

RANGE = "media: {ports: 28700-28999}\nlimits: {max_calls: 10}\n"


class Names:
    """A resolver that knows these records."""

    def __init__(self, records: dict[tuple[str, str], tuple[str, ...]], error: str | None = None) -> None:
        self._records = records
        self._error = error

    async def query(self, name: str, kind: str) -> DnsAnswer:
        return DnsAnswer(self._records.get((name, kind), ()), error=self._error)


def look(text: str, names: Names | None = None, answer_s: float = 2.0) -> dict[str, Finding]:
    config = parse(RANGE + text, Config, "f.yaml")
    findings = asyncio.run(check(config, resolver=cast(DnsResolver, names or Names({})), answer_s=answer_s))
    return {finding.subject: finding for finding in findings}


@contextmanager
def taken(kind: socket.SocketKind = socket.SOCK_DGRAM) -> Iterator[tuple[socket.socket, int]]:
    with closing(socket.socket(socket.AF_INET, kind)) as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock, sock.getsockname()[1]


def listening(port: int, transport: str = "udp") -> str:
    return f"sip: {{listen: ['{transport}://127.0.0.1:{port}']}}\n"


def test_codecs_that_are_there_and_that_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    assert look("")["codecs"].text == f"this machine has {', '.join(codecs.available_codecs())}"
    assert "codec G722" not in look("")
    monkeypatch.setattr(g722, "load", lambda: None)
    trunk = "trunks: [{name: a, sources: [192.0.2.0/24], codecs: [G722]}]"
    found = look(trunk)
    assert "G722" not in found["codecs"].text
    assert found["codec G722"].verdict == "warning"
    assert found["codec G722"].cure.endswith("or take it out of media.codecs and trunks[0].codecs")
    assert found["trunks[0].codecs"].verdict == "failed"


def test_a_port_that_is_free() -> None:
    found = look("sip: {listen: ['udp://127.0.0.1:0', 'tcp://127.0.0.1:0', 'udp://[::1]:0']}")
    assert {finding.verdict for finding in found.values()} == {"ok"}
    assert str(found["listener udp://127.0.0.1:0"]) == "ok       listener udp://127.0.0.1:0: can be had"
    assert found["trunks"].text == "none: only this machine may call"


def test_a_port_that_another_program_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking, "_THERE_S", 0.2)
    with taken() as (_, port):
        finding = look(listening(port))[f"listener udp://127.0.0.1:{port}"]
    assert (finding.verdict, finding.text) == ("failed", "in use by another program")
    assert "sip.listen" in finding.cure


def test_a_port_that_a_gateway_has() -> None:
    with taken(socket.SOCK_STREAM) as (sock, port):
        sock.listen()
        finding = look(listening(port, "tcp"))[f"listener tcp://127.0.0.1:{port}"]
    assert (finding.verdict, "sipbridge, if it is running" in finding.text) == ("ok", True)


def test_an_address_that_is_not_ours() -> None:
    found = look("sip: {listen: ['udp://192.0.2.1:5060']}")
    finding = found["listener udp://192.0.2.1:5060"]
    assert finding.verdict == "failed"
    assert "address of this machine" in finding.cure


def test_media_that_cannot_be_had() -> None:
    found = look("sip: {listen: ['udp://127.0.0.1:0']}".replace("sip:", "sip:"), None)
    assert found["media 127.0.0.1:28700-28999"].verdict == "ok"
    config = parse("media: {address: 192.0.2.1}\nsip: {listen: ['udp://127.0.0.1:0']}", Config, "f.yaml")
    finding = next(f for f in asyncio.run(check(config)) if f.subject.startswith("media"))
    assert finding.verdict == "failed"
    config = parse("media: {ports: 28700-28719}\nsip: {listen: ['udp://127.0.0.1:0']}", Config, "f.yaml")
    finding = next(f for f in asyncio.run(check(config)) if f.subject.startswith("media"))
    assert (finding.verdict, finding.text) == ("warning", "ports for 10 calls")


# --- names ------------------------------------------------------------------------------------------------------------

NAMED = (
    "sip: {listen: ['udp://127.0.0.1:0']}\n"
    "trunks: [{name: pbx, sources: ['127.0.0.1'], outbound: {proxy: 'sip:pbx.example.com'}}]\n"
)


def test_sound_that_only_this_machine_can_hear() -> None:
    finding = look("sip: {listen: ['udp://0.0.0.0:0']}")["media 127.0.0.1:28700-28999"]
    assert (finding.verdict, "media.address" in finding.cure) == ("warning", True)


def test_the_key_of_recordings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOD", bytes(32).hex())
    monkeypatch.setenv("SHORT", bytes(31).hex())

    def key(name: str) -> Finding:
        return look(f'recordings: {{key: "${{{name}}}"}}\n')["recordings.key"]

    assert [key(name).verdict for name in ("GOOD", "SHORT", "NONE")] == ["ok", "failed", "failed"]
    assert "32 bytes" in key("SHORT").text
    assert bytes(31).hex() not in str(key("SHORT"))


def test_recordings_that_can_be_made_and_that_cannot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not any(subject.startswith("recordings") for subject in look(""))
    directory = tmp_path / "deep"
    found = look(f"recordings: {{directory: {directory}}}\n")[f"recordings {directory}"]
    assert (found.verdict, re.sub(r"\d+", "N", found.text)) == ("ok", "room for N hours of calls")
    assert os.listdir(directory) == []
    monkeypatch.setattr(checking, "_FEW_HOURS", 10**9)
    assert look(f"recordings: {{directory: {directory}}}\n")[f"recordings {directory}"].verdict == "warning"
    nowhere = look("recordings: {directory: /proc/nowhere}\n")["recordings /proc/nowhere"]
    assert (nowhere.verdict, nowhere.text) == ("failed", "No such file or directory")


def test_names() -> None:
    known = Names({("pbx.example.com", "A"): ("127.0.0.1",), ("_sip._udp.pbx.example.com", "SRV"): ("x",)})
    finding = look(NAMED.replace("outbound", "outbound"), known, 0.1)["name pbx.example.com"]
    assert (finding.verdict, finding.text) == ("ok", "SRV for _sip._udp.; 127.0.0.1")
    finding = look(NAMED, Names({}), 0.1)["name pbx.example.com"]
    assert (finding.verdict, finding.text) == ("failed", "there is no such name")
    assert finding.cure == "see outbound.proxy of trunk pbx"
    finding = look(NAMED, Names({}, error="timed out"), 0.1)["name pbx.example.com"]
    assert (finding.verdict, finding.text) == ("failed", "no name server answers (timed out)")


# --- trunks -----------------------------------------------------------------------------------------------------------


class Peer(asyncio.DatagramProtocol):
    """Answers OPTIONS with one status, or not at all."""

    def __init__(self, status: int | None) -> None:
        self._status = status

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        assert data.startswith(b"OPTIONS ")
        if self._status is not None:
            _, _, rest = data.partition(b"\r\n")
            self._transport.sendto(b"SIP/2.0 %d Whatever\r\n" % self._status + rest, addr)


@pytest.mark.parametrize(
    ("status", "verdict", "text"),
    [
        (200, "ok", "answered OPTIONS with 200"),
        (404, "ok", "answered OPTIONS with 404"),
        (503, "warning", "answered OPTIONS with 503"),
        (None, "failed", "did not answer OPTIONS within 0.3 s"),
    ],
)
def test_a_trunk_is_asked(status: int | None, verdict: str, text: str) -> None:
    async def scenario() -> list[Finding]:
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(lambda: Peer(status), local_addr=("127.0.0.1", 0))
        port = transport.get_extra_info("sockname")[1]
        config = parse(RANGE + NAMED.replace("pbx.example.com", f"127.0.0.1:{port}"), Config, "f.yaml")
        try:
            return await check(config, answer_s=0.3 if status is None else 2.0)
        finally:
            transport.close()

    finding = next(finding for finding in asyncio.run(scenario()) if finding.subject == "trunk pbx")
    assert (finding.verdict, text in finding.text) == (verdict, True), finding


@pytest.mark.parametrize(("seconds", "verdict"), [(0, "warning"), (30, "failed")])
def test_a_trunk_that_is_never_pinged_may_be_silent(seconds: int, verdict: str) -> None:
    with taken() as (_, port):
        outbound = f"{{proxy: 'sip:127.0.0.1:{port}', ping_seconds: {seconds}}}"
        config = listening(0) + f"trunks: [{{name: pbx, sources: [127.0.0.1], outbound: {outbound}}}]\n"
        assert look(config, answer_s=0.2)["trunk pbx"].verdict == verdict


def test_a_trunk_whose_name_leads_nowhere() -> None:
    config = "trunks: [{name: pbx, sources: [127.0.0.1], outbound: {proxy: 'sip:pbx.invalid'}}]\n"
    finding = look(listening(0) + config)["trunk pbx"]
    assert finding.text == "sip:pbx.invalid is not reachable: no address is known"


def test_a_trunk_that_only_calls_us_is_not_asked() -> None:
    found = look("sip: {listen: ['udp://127.0.0.1:0']}\ntrunks: [{name: pbx, sources: [192.0.2.0/24]}]")
    assert found["trunk pbx"].text == "calls come from 192.0.2.0/24; none are placed over it"


REGISTERS = (
    "sip: {listen: ['udp://127.0.0.1:0']}\n"
    "trunks: [{name: pbx, sources: ['127.0.0.1'], "
    "register: {server: 'sip:127.0.0.1:PORT', username: u, password: p}}]\n"
)


class Registrar(asyncio.DatagramProtocol):
    """Takes or refuses every REGISTER, and notes for how long each wanted to be there."""

    def __init__(self, status: int | None) -> None:
        self._status = status
        self.expires: list[str] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        _, _, rest = data.partition(b"\r\n")
        assert data.startswith(b"REGISTER ")
        self.expires += re.findall(r"(?mi)^expires: *(\d+)|;expires=(\d+)", data.decode())[0]
        if self._status is not None:
            self._transport.sendto(b"SIP/2.0 %d Whatever\r\n" % self._status + rest, addr)


@pytest.mark.parametrize(
    ("status", "verdict", "text", "cure"),
    [
        (200, "ok", "taken back again", ""),
        (403, "failed", "403 Whatever", "register.username"),
        (404, "failed", "404 Whatever", "register.user:"),
        (None, "failed", "no answer within 0.3 s", "register.server"),
    ],
)
def test_a_registration_is_tried_and_taken_back(status: int | None, verdict: str, text: str, cure: str) -> None:
    async def scenario() -> tuple[list[Finding], list[str]]:
        loop = asyncio.get_running_loop()
        transport, registrar = await loop.create_datagram_endpoint(lambda: Registrar(status), ("127.0.0.1", 0))
        port = transport.get_extra_info("sockname")[1]
        config = parse(RANGE + REGISTERS.replace("PORT", str(port)), Config, "f.yaml")
        try:
            findings = await check(config, answer_s=0.3 if status is None else 2.0)
            return findings, [value for value in registrar.expires if value]
        finally:
            transport.close()

    findings, expires = asyncio.run(scenario())
    finding = next(finding for finding in findings if finding.subject == "registration pbx")
    assert (finding.verdict, text in finding.text, cure in finding.cure) == (verdict, True, True), finding
    if status == 200:
        assert expires == ["300", "0"]


def test_a_registration_is_left_alone_where_a_gateway_runs() -> None:
    with taken(socket.SOCK_STREAM) as (sock, port):
        sock.listen()
        config = REGISTERS.replace("udp://127.0.0.1:0", f"tcp://127.0.0.1:{port}").replace("PORT", "1")
        assert "not tried" in look(config)["registration pbx"].text


# --- certificates -----------------------------------------------------------------------------------------------------


def test_when_a_certificate_expires(tmp_path: Path) -> None:
    until = datetime.now(UTC).replace(microsecond=0) + timedelta(days=30, hours=1)
    certificate = trustme.CA().issue_cert("gw.example.com", not_after=until)
    pem = certificate.cert_chain_pems[0].bytes().decode()
    first, last = validity("a comment\n" + pem + pem)
    assert last == until
    assert first < datetime.now(UTC)
    path = tmp_path / "gw.pem"
    path.write_text(pem)

    def verdict(days: float) -> tuple[str, str]:
        finding = checking._expiry("c", path, datetime.now(UTC) + timedelta(days=days))
        return finding.verdict, finding.text

    assert verdict(0) == ("ok", f"valid until {until:%F}, 30 days")
    assert verdict(20) == ("warning", f"expires in 10 days, on {until:%F}")
    assert verdict(31) == ("failed", f"expired on {until:%F}")
    assert verdict(-100_000)[0] == "failed"


@pytest.mark.parametrize("text", ["", "nothing", "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n"])
def test_what_is_no_certificate_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match="certificate"):
        validity(text)


def test_a_certificate_that_is_cut_anywhere_is_no_more_than_a_value_error() -> None:
    import ssl

    der = ssl.PEM_cert_to_DER_cert(trustme.CA().issue_cert("a").cert_chain_pems[0].bytes().decode())
    for end in range(0, 200):
        with pytest.raises(ValueError):  # noqa: PT011  # of several kinds
            validity(ssl.DER_cert_to_PEM_cert(der[:end]))
