"""Certificates: which names they prove, files that change, and TLS between two streams in memory."""

from __future__ import annotations

import ssl
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from sipbridge.errors import TlsError, TlsFileError
from sipbridge.sip.tls import TlsContexts, TlsSettings, check_name
from sipbridge.sip.tls_stream import TlsStream
from tests.sip.certificates import Authority, with_clients


def certificate(*alternatives: tuple[str, str], common_name: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {"subject": ((("commonName", common_name),),)} if common_name else {}
    return found | ({"subjectAltName": alternatives} if alternatives else {})


@pytest.mark.parametrize(
    ("found", "name"),
    [
        (certificate(("DNS", "sip.example.com")), "sip.example.com"),
        (certificate(("DNS", "SIP.example.com")), "sip.EXAMPLE.com."),
        (certificate(("DNS", "other.example"), ("URI", "sip:example.com")), "example.com"),
        (certificate(("URI", "SIP:Example.com")), "example.com"),
        (certificate(("IP Address", "192.0.2.1")), "192.0.2.1"),
        (certificate(("IP Address", "2001:DB8:0:0:0:0:0:1")), "[2001:db8::1]"),
        (certificate(common_name="pbx.example.com"), "pbx.example.com"),
    ],
)
def test_names_that_a_certificate_proves(found: dict[str, Any], name: str) -> None:
    check_name(found, name)


@pytest.mark.parametrize(
    ("found", "name"),
    [
        (certificate(("DNS", "sip.example.com")), "example.com"),
        (certificate(("DNS", "example.com")), "sip.example.com"),
        (certificate(("DNS", "*.example.com")), "sip.example.com"),
        (certificate(("URI", "sip:alice@example.com")), "example.com"),
        (certificate(("URI", "https://example.com")), "example.com"),
        (certificate(("DNS", "other.example"), common_name="example.com"), "example.com"),
        (certificate(("DNS", "192.0.2.1x")), "192.0.2.1"),
        (certificate(("IP Address", "192.0.2.1")), "192.0.2.2"),
        (certificate(), "example.com"),
        (certificate(("DNS", "")), "example.com"),
    ],
)
def test_names_that_it_does_not_prove(found: dict[str, Any], name: str) -> None:
    with pytest.raises(TlsError, match="not of"):
        check_name(found, name)


@pytest.mark.parametrize(
    ("pattern", "name", "covered"),
    [
        ("*.example.com", "sip.example.com", True),
        ("*.example.com", "a.sip.example.com", False),
        ("*.example.com", "example.com", False),
        ("*.com", "example.com", False),
        ("s*.example.com", "sip.example.com", False),
        ("*.0.2.1", "192.0.2.1", False),
    ],
)
def test_wildcards_only_where_they_are_asked_for(pattern: str, name: str, covered: bool) -> None:
    found = certificate(("DNS", pattern))
    with pytest.raises(TlsError):
        check_name(found, name)
    if covered:
        check_name(found, name, wildcards=True)
    else:
        with pytest.raises(TlsError):
            check_name(found, name, wildcards=True)


# --- two streams ------------------------------------------------------------------------------------------------------


def pair(server: TlsSettings, client: TlsSettings, name: str = "sip.example.com") -> tuple[TlsStream, TlsStream]:
    return TlsStream(TlsContexts(server)), TlsStream(TlsContexts(client), server_name=name)


def shake_hands(server: TlsStream, client: TlsStream) -> None:
    client.start()
    while data := client.data_to_send():
        server.feed(data)
        client.feed(server.data_to_send())
    assert server.established
    assert client.established


def test_octets_come_out_as_they_went_in(tmp_path: Path) -> None:
    issued = Authority(tmp_path).issue("sip.example.com")
    server, client = pair(issued, TlsSettings(ca=issued.ca))
    shake_hands(server, client)
    long = bytes(range(256)) * 300
    client.write(long)
    sent = client.data_to_send()
    received = b"".join(server.feed(sent[i : i + 1000]) for i in range(0, len(sent), 1000))
    assert received == long
    server.write(b"back")
    assert client.feed(server.data_to_send()) == b"back"
    client.close()
    server.feed(client.data_to_send())
    assert server.ended


def test_a_name_that_the_certificate_does_not_have_is_refused(tmp_path: Path) -> None:
    issued = Authority(tmp_path).issue("sip.example.com")
    with pytest.raises(TlsError, match="not of evil.example but of sip.example.com"):
        shake_hands(*pair(issued, TlsSettings(ca=issued.ca), "evil.example"))
    shake_hands(*pair(issued, TlsSettings(ca=issued.ca, verify_peer=False), "evil.example"))


def test_an_authority_that_we_do_not_know_is_refused(tmp_path: Path) -> None:
    issued = Authority(tmp_path).issue("sip.example.com")
    other = Authority(tmp_path, "other")
    with pytest.raises(TlsError, match="certificate not accepted"):
        shake_hands(*pair(issued, TlsSettings(ca=other.file)))
    with pytest.raises(TlsError, match="certificate not accepted"):
        shake_hands(*pair(issued, TlsSettings()))


def test_a_certificate_that_has_expired_is_refused(tmp_path: Path) -> None:
    issued = Authority(tmp_path).issue("sip.example.com", not_after=datetime(2020, 1, 1, tzinfo=UTC))
    with pytest.raises(TlsError, match="expired"):
        shake_hands(*pair(issued, TlsSettings(ca=issued.ca)))


def test_a_certificate_that_is_named_itself_is_trusted(tmp_path: Path) -> None:
    issued = Authority(tmp_path).issue("sip.example.com")
    shake_hands(*pair(issued, TlsSettings(ca=issued.certificate)))


@pytest.mark.parametrize("shown", [True, False])
def test_mutual_tls(tmp_path: Path, shown: bool) -> None:
    authority = Authority(tmp_path)
    issued = authority.issue("sip.example.com")
    mine = authority.issue("client.example.com", stem="client") if shown else TlsSettings(ca=authority.file)
    shake_hands(*pair(with_clients(issued, "off"), mine))
    shake_hands(*pair(with_clients(issued, "optional"), mine))
    if shown:
        shake_hands(*pair(with_clients(issued, "required"), mine))
    else:
        with pytest.raises(TlsError, match="peer did not return a certificate"):
            shake_hands(*pair(with_clients(issued, "required"), mine))


def test_a_client_of_another_authority_is_refused_even_where_certificates_are_optional(tmp_path: Path) -> None:
    issued = Authority(tmp_path).issue("sip.example.com")
    stranger = Authority(tmp_path, "other").issue("client.example.com", stem="client")
    with pytest.raises(TlsError, match="certificate not accepted"):
        shake_hands(*pair(with_clients(issued, "optional"), replace(stranger, ca=issued.ca)))


def test_tls_1_1_is_not_spoken(tmp_path: Path) -> None:
    issued = Authority(tmp_path).issue("sip.example.com")
    contexts = TlsContexts(issued)
    for context in (contexts.server(), contexts.client()):
        assert context.minimum_version is ssl.TLSVersion.TLSv1_2


@pytest.mark.parametrize("data", [b"OPTIONS sip:a SIP/2.0\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 64])
def test_what_is_no_tls_is_refused(tmp_path: Path, data: bytes) -> None:
    server = TlsStream(TlsContexts(Authority(tmp_path).issue("sip.example.com")))
    with pytest.raises(TlsError):
        server.feed(data)


@pytest.mark.parametrize("name", ["", ".example.com", "a" * 300])
def test_names_that_cannot_be_asked_for(tmp_path: Path, name: str) -> None:
    with pytest.raises(TlsError):
        TlsStream(TlsContexts(TlsSettings(ca=Authority(tmp_path).file)), server_name=name)


# --- files ------------------------------------------------------------------------------------------------------------


def test_files_that_changed_are_read_when_a_connection_begins(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    issued = authority.issue("old.example.com")
    contexts, trusting = TlsContexts(issued), TlsContexts(TlsSettings(ca=authority.file))
    before = contexts.server()
    assert contexts.server() is before, "nothing has changed"
    up = TlsStream(contexts), TlsStream(trusting, server_name="old.example.com")
    shake_hands(*up)
    authority.issue("new.example.com")
    shake_hands(TlsStream(contexts), TlsStream(trusting, server_name="new.example.com"))
    up[1].write(b"still up")
    assert up[0].feed(up[1].data_to_send()) == b"still up"


def test_files_that_cannot_be_used_leave_the_old_ones_in_force(tmp_path: Path) -> None:
    issued = Authority(tmp_path).issue("sip.example.com")
    assert issued.certificate is not None
    contexts = TlsContexts(issued)
    before, good = contexts.server(), issued.certificate.read_bytes()
    with capture_logs() as logged:
        for broken in (b"", b"-----BEGIN CERTIFICATE-----\nnonsense\n", good[: len(good) // 2]):
            issued.certificate.write_bytes(broken)
            assert contexts.server() is before
            contexts.server()
        issued.certificate.unlink()
        assert contexts.server() is before
    assert [entry["log_level"] for entry in logged] == ["error"] * 4, "once for each that was tried"
    issued.certificate.write_bytes(good)
    assert contexts.server() is not before


@pytest.mark.parametrize(
    ("spoiled", "key", "message"),
    [
        ("no certificate", "certificate", "cannot be read: No such file"),
        ("no key", "key", "cannot be read: No such file"),
        ("other key", "key", "is not the key of the certificate"),
        ("garbage", "certificate", "holds no certificate in PEM"),
        ("key garbage", "key", "holds no private key in PEM"),
        ("passphrase", "key", "or one with a passphrase"),
        ("ca garbage", "ca", "holds no certificate in PEM"),
        ("key left out", "key", "holds no private key in PEM"),
    ],
)
def test_files_that_cannot_be_used_at_first(tmp_path: Path, spoiled: str, key: str, message: str) -> None:
    authority = Authority(tmp_path)
    issued = authority.issue("sip.example.com")
    certificate_file, key_file = tmp_path / "node.pem", tmp_path / "node.key"
    match spoiled:
        case "no certificate":
            certificate_file.unlink()
        case "no key":
            key_file.unlink()
        case "other key":
            issued = replace(issued, key=authority.issue("b.example.com", stem="b").key)
        case "garbage":
            certificate_file.write_text("hello")
        case "key garbage":
            key_file.write_text("hello")
        case "passphrase":
            key_file.write_bytes(_with_passphrase(key_file.read_bytes()))
        case "ca garbage":
            authority.file.write_text("hello")
        case "key left out":
            issued = replace(issued, key=None)
    with pytest.raises(TlsFileError, match=message) as caught:
        TlsContexts(issued)
    assert caught.value.key == key


def test_the_key_may_be_in_the_certificate_s_file(tmp_path: Path) -> None:
    issued = Authority(tmp_path).issue("sip.example.com")
    assert issued.certificate is not None
    assert issued.key is not None
    issued.certificate.write_bytes(issued.key.read_bytes() + issued.certificate.read_bytes())
    shake_hands(*pair(replace(issued, key=None), TlsSettings(ca=issued.ca)))


def test_without_a_certificate_there_is_no_listener() -> None:
    with pytest.raises(TlsError, match="no certificate"):
        TlsContexts(TlsSettings()).server()


def _with_passphrase(pem: bytes) -> bytes:
    from cryptography.hazmat.primitives import serialization

    key = serialization.load_pem_private_key(pem, None)
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )
