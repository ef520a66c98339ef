"""SRTP: what passes, what does not, and what happens when keys change."""

from __future__ import annotations

import hmac
import random
import struct

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings
from hypothesis import strategies as st

from sipbridge.media.srtp import SUITES, MasterKey, SrtpReceiver, SrtpSender, Suite

CM_80 = SUITES["AES_CM_128_HMAC_SHA1_80"]
EVERY = pytest.mark.parametrize("suite", SUITES.values(), ids=list(SUITES))
RTCP = struct.pack("!BBHIIIIII", 0x80, 200, 6, 7, 1, 2, 3, 4, 5)


def key(suite: Suite = CM_80, fill: int = 1) -> MasterKey:
    return MasterKey(suite, bytes((fill + 7 * i) & 0xFF for i in range(suite.master_length)))


def rtp(number: int, *, ssrc: int = 7, payload: bytes = b"abc" * 50) -> bytes:
    return struct.pack("!BBHII", 0x80, 0, number & 0xFFFF, number * 160 & 0xFFFFFFFF, ssrc) + payload


@EVERY
def test_both_ways(suite: Suite) -> None:
    sender, receiver = SrtpSender(key(suite)), SrtpReceiver(key(suite))
    for number in range(5):
        protected = sender.protect(rtp(number))
        assert protected is not None
        assert protected[:12] == rtp(number)[:12]
        assert b"abcabc" not in protected
        assert receiver.unprotect(protected) == rtp(number)
    report = sender.protect_rtcp(RTCP)
    assert report is not None
    assert RTCP[8:] not in report
    assert receiver.unprotect_rtcp(report) == RTCP


def derive(master: MasterKey, label: int, length: int) -> bytes:
    """RFC 3711 §4.3, with a key derivation rate of 0. The salt is 14 octets; GCM's 12 are filled up (RFC 7714 §11)."""
    octets, size = master.octets, master.suite.key_length
    salt = octets[size:].ljust(14, b"\0")
    start = int.from_bytes(salt) ^ label << 48
    cipher = Cipher(algorithms.AES(octets[:size]), modes.CTR((start << 16).to_bytes(16)))
    return cipher.encryptor().update(bytes(length))


def gcm(cipher_key: bytes, salt: bytes, packet: bytes, rollover: int = 0) -> bytes:
    """RFC 7714 §8.1."""
    nonce = bytes(2) + packet[8:12] + rollover.to_bytes(4) + packet[2:4]
    mixed = bytes(one ^ other for one, other in zip(nonce, salt, strict=True))
    return packet[:12] + AESGCM(cipher_key).encrypt(mixed, packet[12:], packet[:12])


# RFC 3711 B.3.
B3 = MasterKey(CM_80, bytes.fromhex("E1F97A0D3E018BE0D64FA32C06DE41390EC675AD498AFEEBB6960B3AABE6"))
B3_CIPHER_KEY = bytes.fromhex("C61E7A93744F39EE10734AFE3FF7A087")
B3_SALT = bytes.fromhex("30CBBC08863D8C85D49DB34A9AE1")
B3_AUTHENTICATION_KEY = bytes.fromhex("CEBE321F6FF7716B6FD4AB49AF256A156D38BAA4")


def test_key_derivation_of_rfc_3711() -> None:
    assert derive(B3, 0, 16) == B3_CIPHER_KEY
    assert derive(B3, 1, 20) == B3_AUTHENTICATION_KEY
    assert derive(B3, 2, 14) == B3_SALT


@pytest.mark.parametrize(("name", "tag"), [("AES_CM_128_HMAC_SHA1_80", 10), ("AES_CM_128_HMAC_SHA1_32", 4)])
def test_a_packet_by_the_rules_of_rfc_3711(name: str, tag: int) -> None:
    """§4.1.1 and §4.2.1, with the session keys of B.3."""
    packet = rtp(77, ssrc=0xDEADBEEF)
    start = int.from_bytes(B3_SALT) << 16 ^ 0xDEADBEEF << 64 ^ 77 << 16
    cipher = Cipher(algorithms.AES(B3_CIPHER_KEY), modes.CTR(start.to_bytes(16)))
    body = packet[:12] + cipher.encryptor().update(packet[12:])
    expected = body + hmac.digest(B3_AUTHENTICATION_KEY, body + bytes(4), "sha1")[:tag]
    master = MasterKey(SUITES[name], B3.octets)
    assert SrtpSender(master).protect(packet) == expected
    assert SrtpReceiver(master).unprotect(expected) == packet


def test_a_packet_of_rfc_7714() -> None:
    """§16.1.1."""
    packet = bytes.fromhex("8040f17b8041f8d35501a0b2") + b"Gallia est omnis divisa in partes tres"
    cipher_text = (
        "f24de3a3fb34de6cacba861c9d7e4bcabe633bd50d294e6f42a5f47a51c7d19b36de3adf8833899d7f27beb16a9152cf765ee4390cce"
    )
    assert gcm(bytes(range(16)), b"Quid pro quo", packet) == packet[:12] + bytes.fromhex(cipher_text)


@pytest.mark.parametrize("name", ["AEAD_AES_128_GCM", "AEAD_AES_256_GCM"])
def test_a_packet_by_the_rules_of_rfc_7714(name: str) -> None:
    master = key(SUITES[name])
    packet = rtp(77, ssrc=0xDEADBEEF)
    expected = gcm(derive(master, 0, master.suite.key_length), derive(master, 2, 12), packet)
    assert SrtpSender(master).protect(packet) == expected
    assert SrtpReceiver(master).unprotect(expected) == packet


def test_a_packet_in_the_clear_is_not_believed() -> None:
    receiver = SrtpReceiver(key())
    assert receiver.unprotect(rtp(1)) is None
    assert receiver.unprotect_rtcp(RTCP) is None
    assert (receiver.unauthenticated, receiver.replayed, receiver.malformed) == (2, 0, 0)


@EVERY
def test_a_packet_that_was_changed_is_not_believed(suite: Suite) -> None:
    protected = SrtpSender(key(suite)).protect(rtp(1)) or b""
    for position in range(len(protected)):
        receiver = SrtpReceiver(key(suite))
        forged = bytearray(protected)
        forged[position] ^= 0x10
        assert receiver.unprotect(bytes(forged)) is None
        assert receiver.unauthenticated + receiver.malformed == 1
        assert receiver.unprotect(protected) == rtp(1)


def test_a_packet_counts_once() -> None:
    sender, receiver = SrtpSender(key()), SrtpReceiver(key())
    first, report = sender.protect(rtp(1)) or b"", sender.protect_rtcp(RTCP) or b""
    assert receiver.unprotect(first) == rtp(1)
    assert receiver.unprotect_rtcp(report) == RTCP
    assert receiver.unprotect(first) is None
    assert receiver.unprotect_rtcp(report) is None
    for number in range(2, 400):
        assert receiver.unprotect(sender.protect(rtp(number)) or b"") == rtp(number)
    assert receiver.unprotect(first) is None
    assert (receiver.replayed, receiver.unauthenticated) == (3, 0)


def test_order_and_loss_do_not_matter_across_the_wrap() -> None:
    sender, receiver = SrtpSender(key()), SrtpReceiver(key())
    packets = [(rtp(number), sender.protect(rtp(number)) or b"") for number in range(60_000, 67_000)]
    shuffled = list(packets)
    source = random.Random(4)
    for start in range(0, len(shuffled) - 8, 8):
        part = shuffled[start : start + 8]
        source.shuffle(part)
        shuffled[start : start + 8] = part
    for clear, protected in shuffled:
        if source.random() > 0.3:
            assert receiver.unprotect(protected) == clear
    assert receiver.replayed == receiver.unauthenticated == 0


def test_several_ssrcs_of_one_peer() -> None:
    sender, receiver = SrtpSender(key()), SrtpReceiver(key())
    for number, ssrc in enumerate((7, 7, 8, 7, 9, 9, 8, 7)):
        packet = rtp(number, ssrc=ssrc)
        assert receiver.unprotect(sender.protect(packet) or b"") == packet


def test_the_number_of_ssrcs_is_bounded() -> None:
    sender, receiver = SrtpSender(key()), SrtpReceiver(key())
    passed = sum(receiver.unprotect(sender.protect(rtp(1, ssrc=ssrc)) or b"") is not None for ssrc in range(100))
    assert (passed, receiver.refused) == (64, 36)
    assert receiver.unprotect(sender.protect(rtp(2, ssrc=3)) or b"") == rtp(2, ssrc=3)
    assert receiver.unprotect(sender.protect(rtp(2, ssrc=99)) or b"") is None


def test_what_is_no_packet_cannot_be_sent() -> None:
    sender = SrtpSender(key())
    assert sender.protect(bytes(1_500)) is None
    assert sender.protect(b"") is None
    assert sender.protect_rtcp(b"") is None


@settings(max_examples=300)
@given(st.binary(max_size=2_048))
def test_nothing_a_stranger_sends_raises(data: bytes) -> None:
    receiver = SrtpReceiver(key())
    receiver.rekey(key(fill=2))
    assert receiver.unprotect(data) is None
    assert receiver.unprotect_rtcp(data) is None
    assert receiver.unauthenticated + receiver.malformed + receiver.replayed == 2


def test_keys_are_in_no_repr() -> None:
    assert "octets" not in repr(key())
    with pytest.raises(ValueError, match="wants 30 octets, not 2"):
        MasterKey(CM_80, b"ab")


class TestRekey:
    """The other side's key changes in the middle of a call."""

    def setup_method(self) -> None:
        self.before, self.after = SrtpSender(key(fill=1)), SrtpSender(key(fill=2))
        self.receiver = SrtpReceiver(key(fill=1))

    def comes(self, sender: SrtpSender, number: int) -> bool:
        packet = self.receiver.unprotect(sender.protect(rtp(number)) or b"")
        assert packet in (None, rtp(number))
        return packet is not None

    def test_there_is_no_gap(self) -> None:
        assert self.comes(self.before, 1)
        self.receiver.rekey(key(fill=2))
        assert [self.comes(self.before, number) for number in range(2, 50)] == [True] * 48
        assert self.comes(self.after, 51)
        assert self.comes(self.before, 50), "it was overtaken"
        assert self.receiver.unauthenticated == 0

    def test_the_old_key_is_of_no_use_for_long(self) -> None:
        self.comes(self.before, 1)
        self.receiver.rekey(key(fill=2))
        self.comes(self.after, 2)
        heard = [self.comes(self.before, number) for number in range(3, 103)]
        assert heard == [True] * 16 + [False] * 84
        assert self.receiver.unauthenticated == 84
        assert self.comes(self.after, 103)

    def test_what_was_heard_under_the_old_key_is_not_heard_again(self) -> None:
        recorded = self.before.protect(rtp(1)) or b""
        assert self.receiver.unprotect(recorded)
        self.receiver.rekey(key(fill=2))
        assert self.receiver.unprotect(recorded) is None

    def test_the_same_key_again_changes_nothing(self) -> None:
        recorded = self.before.protect(rtp(1)) or b""
        assert self.receiver.unprotect(recorded)
        self.receiver.rekey(key(fill=1))
        assert self.receiver.unprotect(recorded) is None
        assert self.receiver.replayed == 1

    def test_a_key_that_was_never_used_is_forgotten(self) -> None:
        """Two changes, and packets still come under the first key: it is the one that is known to work."""
        self.comes(self.before, 1)
        self.receiver.rekey(key(fill=3))
        self.receiver.rekey(key(fill=2))
        assert self.comes(self.before, 2)
        assert self.comes(self.after, 3)

    @pytest.mark.parametrize("began_anew", [False, True])
    @pytest.mark.parametrize("at", [70_000, 131_000, 131_080, 200_000])
    def test_the_rollover_counter_goes_on_or_not(self, began_anew: bool, at: int) -> None:
        """RFC 3711 §8.1 says that it does."""
        for number in (*range(0, at, 0x3000), *range(at - 300, at)):
            assert self.comes(self.before, number)
        self.receiver.rekey(key(fill=2))
        if not began_anew:
            for number in range(0, at, 0x3000):
                self.after.protect(rtp(number))
        assert [self.comes(self.after, number) for number in range(at, at + 70_000, 0x1000)] == [True] * 18
        assert self.receiver.unauthenticated == 0

    def test_another_suite(self) -> None:
        self.comes(self.before, 1)
        gcm = key(SUITES["AEAD_AES_256_GCM"])
        self.receiver.rekey(gcm)
        assert self.comes(self.before, 2)
        assert self.comes(SrtpSender(gcm), 3)
        report = self.before.protect_rtcp(RTCP) or b""
        assert self.receiver.unprotect_rtcp(report) == RTCP


@pytest.mark.parametrize("spoken", [True, False])
def test_a_key_that_comes_back_brings_no_recording_back_to_life(spoken: bool) -> None:
    first, second = SrtpSender(key()), SrtpSender(key(fill=2))
    receiver = SrtpReceiver(key())
    recorded = [first.protect(rtp(number)) or b"" for number in range(50)]
    assert all(map(receiver.unprotect, recorded))
    receiver.rekey(key(fill=2))
    if spoken:
        assert all(receiver.unprotect(second.protect(rtp(number)) or b"") for number in range(50, 80))
    receiver.rekey(key())
    assert not any(map(receiver.unprotect, recorded))
    assert receiver.replayed == 50
    overtaken = [second.protect(rtp(number)) or b"" for number in range(80, 82)]
    assert not spoken or all(map(receiver.unprotect, overtaken)), "no gap"
    assert all(receiver.unprotect(first.protect(rtp(number)) or b"") for number in range(82, 120))


def test_not_all_keys_are_remembered() -> None:
    receiver = SrtpReceiver(key())
    for fill in range(2, 100):
        receiver.rekey(key(fill=fill))
    assert len(receiver._past) == 4
