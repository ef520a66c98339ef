"""a=crypto lines (RFC 4568)."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sipbridge.media.sdes import OFFERED, Crypto, answered, offer_lines, own_key, parse_lines
from sipbridge.media.srtp import SUITES
from sipbridge.sip.ladder import redact

KEY = base64.b64encode(bytes(range(30))).decode()
GCM_128 = base64.b64encode(bytes(range(28))).decode()
GCM_256 = base64.b64encode(bytes(range(44))).decode()
CM_80 = "AES_CM_128_HMAC_SHA1_80"
SECRET = bytes(range(32))


@pytest.mark.parametrize(
    ("line", "tag", "suite"),
    [
        (f"1 {CM_80} inline:{KEY}", 1, CM_80),
        (f"999999999 {CM_80} inline:{KEY}", 999999999, CM_80),
        (f"2 AES_CM_128_HMAC_SHA1_32 inline:{KEY}", 2, "AES_CM_128_HMAC_SHA1_32"),
        (f"3 AEAD_AES_128_GCM inline:{GCM_128}", 3, "AEAD_AES_128_GCM"),
        (f"4 AEAD_AES_256_GCM inline:{GCM_256}", 4, "AEAD_AES_256_GCM"),
        (f"4 AEAD_AES_256_GCM inline:{GCM_256.rstrip('=')}", 4, "AEAD_AES_256_GCM"),
        (f"1 {CM_80} inline:{KEY}|2^31", 1, CM_80),
        (f"1 {CM_80} inline:{KEY}|1048576", 1, CM_80),
        (f"1 {CM_80.lower()} INLINE:{KEY}|2^48 ", 1, CM_80),
        (f"1 {CM_80} inline:{KEY} WSH=128", 1, CM_80),
        (f"1\t{CM_80}  inline:{KEY}|2^20 KDR=0 -example", 1, CM_80),
    ],
)
def test_lines_that_can_be_used(line: str, tag: int, suite: str) -> None:
    crypto = Crypto.parse(line)
    assert crypto is not None
    assert (crypto.tag, crypto.suite.name) == (tag, suite)
    assert crypto.key.octets == bytes(range(crypto.suite.master_length))
    assert Crypto.parse(str(crypto)) == crypto


@pytest.mark.parametrize(
    "line",
    [
        "",
        "1",
        f"1 {CM_80}",
        f"x {CM_80} inline:{KEY}",
        f"-1 {CM_80} inline:{KEY}",
        f"1234567890 {CM_80} inline:{KEY}",
        f"1 F8_128_HMAC_SHA1_80 inline:{KEY}",
        f"1 AES_256_CM_HMAC_SHA1_80 inline:{GCM_256}",
        f"1 {CM_80} inline:{GCM_128}",
        f"1 {CM_80} inline:{GCM_256}",
        f"1 {CM_80} inline:{KEY[:-1]}",
        f"1 {CM_80} inline:!!!!",
        f"1 {CM_80} inline:",
        f"1 {CM_80} uri:https://example.com/key",
        f"1 {CM_80} inline:{KEY}|2^20|1:4",  # an MKI in every packet
        f"1 {CM_80} inline:{KEY}|1:4",
        f"1 {CM_80} inline:{KEY}|2^20|1:4;inline:{KEY}|2^20|2:4",
        f"1 {CM_80} inline:{KEY};inline:{KEY}",
        f"1 {CM_80} inline:{KEY} UNENCRYPTED_SRTP",
        f"1 {CM_80} inline:{KEY} WSH=64 UNENCRYPTED_SRTCP",
        f"1 {CM_80} inline:{KEY} UNAUTHENTICATED_SRTP",
        f"1 {CM_80} inline:{KEY} KDR=1",
        f"1 {CM_80} inline:{KEY} FEC_KEY=inline:{KEY}",
        f"1 {CM_80} inline:{KEY} something-new",
        "1 " * 100_000,
    ],
)
def test_lines_that_are_not_there_for_us(line: str) -> None:
    assert Crypto.parse(line) is None


ALMOST = st.tuples(st.text("0123456789", max_size=3), st.text(KEY + "=", min_size=38, max_size=42), st.text(max_size=9))
LINES = ALMOST.map(lambda parts: f"{parts[0]} {CM_80} inline:{parts[1]}{parts[2]}")


@settings(max_examples=300)
@given(st.text(max_size=200) | LINES)
def test_nothing_raises_and_what_is_read_can_be_written(text: str) -> None:
    crypto = Crypto.parse(text)
    if crypto is not None:
        assert Crypto.parse(str(crypto)) == crypto


def test_their_order_stays_and_a_tag_counts_once() -> None:
    lines = [
        f"3 AEAD_AES_128_GCM inline:{GCM_128}",
        f"1 {CM_80} inline:{KEY}|2^20|1:4",
        f"2 {CM_80} inline:{KEY}",
        f"3 {CM_80} inline:{KEY}",
    ]
    assert [(crypto.tag, crypto.suite.name) for crypto in parse_lines(lines)] == [(3, "AEAD_AES_128_GCM"), (2, CM_80)]


def test_the_number_of_lines_is_bounded() -> None:
    assert len(parse_lines(f"{tag} {CM_80} inline:{KEY}" for tag in range(1_000))) == 32


def test_our_offer() -> None:
    lines = offer_lines(SECRET)
    assert [(line.tag, line.suite.name) for line in lines] == [
        (1, CM_80),
        (2, "AEAD_AES_256_GCM"),
        (3, "AEAD_AES_128_GCM"),
    ]
    assert len({line.key.octets[:16] for line in lines}) == 3, "RFC 4568 §6.1: no two lines with one key"
    assert lines == offer_lines(SECRET)
    assert lines[0].key != offer_lines(SECRET[::-1])[0].key
    with pytest.raises(ValueError, match="32 octets"):
        own_key(b"short", OFFERED[0])


def test_the_answer_s_line_is_found_by_its_tag_or_else_its_suite() -> None:
    ours = offer_lines(SECRET)
    chosen = Crypto(2, own_key(SECRET[::-1], SUITES["AEAD_AES_256_GCM"]))
    assert answered([chosen], ours) == (chosen, ours[1])
    wrong_tag = Crypto(1, chosen.key)
    assert answered([wrong_tag], ours) == (wrong_tag, ours[1])
    not_offered = Crypto(2, own_key(SECRET, SUITES["AES_CM_128_HMAC_SHA1_32"]))
    assert answered([not_offered], ours) is None
    assert answered([], ours) is None


def test_no_key_gets_into_logs_or_ladders() -> None:
    crypto = offer_lines(SECRET)[0]
    key = str(crypto).partition("inline:")[2]
    assert key not in repr(crypto)
    assert crypto.key.octets.hex() not in repr(crypto)
    assert repr(crypto.key.octets)[2:-1] not in repr(crypto)
    message = (
        f"INVITE sip:a@example.com SIP/2.0\r\n\r\nv=0\r\nm=audio 4 RTP/SAVP 0\r\na=crypto:{crypto}|2^31\r\na=x\r\n"
    )
    hidden = redact(message)
    assert key not in hidden
    assert "a=crypto:1 AES_CM_128_HMAC_SHA1_80 ***\r\na=x\r\n" in hidden
