"""Two encrypted legs, joined in memory, with a clock of 20 ms; and what strangers do to them."""

from __future__ import annotations

import datetime
import gc
import random
import weakref
from collections.abc import Callable
from dataclasses import replace
from functools import cache

import pytest

from sipbridge import codecs
from sipbridge.audio import PCMU
from sipbridge.media import rtp
from sipbridge.media.addresses import Address
from sipbridge.media.dtls import DtlsIdentity
from sipbridge.media.events import EncryptionFailed, MediaEvent, SourceChanged
from sipbridge.media.keying import DtlsParams, Role, SdesParams, SecurityParams
from sipbridge.media.leg import Leg
from sipbridge.media.params import MediaParams
from sipbridge.media.rtcp_session import RtcpSession
from sipbridge.media.rtp import RtpPacket, Sequencer
from sipbridge.media.srtp import SUITES, MasterKey, SrtpSender

ALICE, BOB, STRANGER = ("203.0.113.1", 4000), ("203.0.113.2", 5000), ("198.51.100.66", 666)
HOME = ("192.168.1.7", 4000)
VOICE = bytes(range(160))
QUIET = b"\xff" * 160


@cache
def identity(name: str) -> DtlsIdentity:
    return DtlsIdentity.make(datetime.datetime(2026, 11, 21, tzinfo=datetime.UTC))


def key(number: int, suite: str = "AES_CM_128_HMAC_SHA1_80") -> MasterKey:
    size = SUITES[suite].master_length
    return MasterKey(SUITES[suite], bytes((number * 31 + step) & 0xFF for step in range(size)))


def sdes(send: int, receive: int, suite: str = "AES_CM_128_HMAC_SHA1_80") -> SdesParams:
    return SdesParams(1, key(send, suite), key(receive, suite))


def dtls(role: Role, expected: str, peer: Address | None) -> DtlsParams:
    return DtlsParams(role, (identity(expected).fingerprint,), peer)


class Side:
    def __init__(self, address: Address, peer: Address | None, security: SecurityParams | None, name: str) -> None:
        self.address = address
        self.params = MediaParams(
            codec=codecs.PCMU,
            remote=peer,
            payload_type_send=0,
            payload_type_receive=0,
            uplink=PCMU,
            downlink=PCMU,
            remote_rtcp=None if peer is None else (peer[0], peer[1] + 1),
            security=security,
        )
        number = len(name)
        session = RtcpSession(number, b"x", 0.0, clock_rate=8000, wall_time=0.0, chance=lambda: 0.5)
        self.leg = Leg(1, self.params, Sequencer(number, 100 * number, 7), 0.0, rtcp=session, identity=identity(name))
        self.events: list[MediaEvent] = []
        self.heard = b""
        self.wire: list[bytes] = []
        """What it has sent, as it went out."""

    def update(self, security: SecurityParams | None, now: float, remote: Address | None = None) -> None:
        self.params = replace(self.params, security=security, remote=remote or self.params.remote)
        self.leg.update(self.params, now)

    def failures(self) -> list[str]:
        return [event.reason for event in self.events if isinstance(event, EncryptionFailed)]


class Call:
    """`way` makes of each datagram what arrives, `(data, number of it)`."""

    def __init__(self, alice: SecurityParams | None, bob: SecurityParams | None, *, behind_nat: bool = False) -> None:
        self.now = 0.0
        self.alice = Side(ALICE, BOB, alice, "alice")
        self.bob = Side(BOB, HOME if behind_nat else ALICE, bob, "bob")
        self.way: Callable[[bytes], list[bytes]] = lambda data: [data]
        self.down = False

    def carry(self, sender: Side, receiver: Side, data: bytes, target: Address | None) -> None:
        sender.wire.append(data)
        if target == receiver.address and not self.down:
            for arriving in self.way(data):
                receiver.leg.receive(arriving, sender.address, self.now, receiver.events)

    def tick(self, count: int = 1, *, alice: bytes = b"", bob: bytes = b"") -> None:
        sides = ((self.alice, self.bob, alice), (self.bob, self.alice, bob))
        for _ in range(count):
            self.now += 0.02
            for sender, receiver, say in sides:
                if say:
                    sender.leg.push(say, "reply", "item", self.now)
                packet = sender.leg.next_packet(self.now)
                if packet:
                    self.carry(sender, receiver, packet, sender.leg.latch.target)
                    sender.leg.sent(sender.events)
                if self.now >= sender.leg.rtcp.due_at:
                    report = sender.leg.rtcp.report(self.now)
                    protected = None if report is None else sender.leg.protect_rtcp(report)
                    if protected is not None:
                        receiver.leg.receive_rtcp(protected, sender.address, self.now)
            for sender, receiver, _ in (*sides, *sides):
                sender.leg.advance(self.now, sender.events)
                for datagram, target in sender.leg.handshake():
                    self.carry(sender, receiver, datagram, target)
            for side in (self.alice, self.bob):
                side.heard += side.leg.uplink.converter.process(side.leg.uplink.take())


SDES = (sdes(1, 2), sdes(2, 1))
DTLS = (dtls("client", "bob", BOB), dtls("server", "alice", ALICE))


@pytest.mark.parametrize("suite", SUITES)
def test_both_hear_each_other(suite: str) -> None:
    call = Call(sdes(1, 2, suite), sdes(2, 1, suite))
    call.tick(10, alice=VOICE, bob=VOICE[::-1])
    assert VOICE * 9 in call.bob.heard
    assert VOICE[::-1] * 9 in call.alice.heard
    assert all(VOICE[:8] not in data for data in call.alice.wire)
    stats = call.bob.leg.stats()
    assert stats.encryption == suite
    assert (stats.unauthenticated, stats.replayed, stats.malformed, stats.lost) == (0, 0, 0, 0)


def test_reports_are_encrypted_and_read() -> None:
    call = Call(*SDES)
    call.tick(500, alice=VOICE, bob=VOICE)
    for side in (call.alice, call.bob):
        stats = side.leg.stats()
        assert stats.rtcp_received > 1
        assert stats.rtcp_ignored == 0
        assert stats.remote_lost == 0
    report = rtp_report(call)
    before = call.bob.leg.stats()
    call.bob.leg.receive_rtcp(report, ALICE, call.now)
    after = call.bob.leg.stats()
    assert after.rtcp_received == before.rtcp_received
    assert after.unauthenticated == before.unauthenticated + 1


def rtp_report(call: Call) -> bytes:
    """One in the clear."""
    report = call.alice.leg.rtcp.bye(call.now)
    assert report is not None
    return report


class TestSdes:
    def test_loss_and_order_and_repetition(self) -> None:
        source = random.Random(9)
        waiting: dict[bytes, list[bytes]] = {}

        def badly(data: bytes) -> list[bytes]:
            late = waiting.setdefault(data[8:12], [])
            late.append(data)
            if source.random() < 0.1 and len(late) < 2:
                return []
            arriving = waiting.pop(data[8:12])[::-1]
            return [*arriving, arriving[0]]

        call = Call(*SDES)
        call.way = badly
        call.tick(700, alice=VOICE, bob=VOICE)
        stats = call.bob.leg.stats()
        assert stats.lost == 0
        assert stats.replayed == pytest.approx(630, abs=30)
        assert stats.unauthenticated == 0
        assert call.bob.heard.count(VOICE) > 650

    def test_numbers_begin_anew_after_65535(self) -> None:
        call = Call(*SDES)
        call.alice.leg._sequencer.sequence_number = 65_400
        call.tick(300, alice=VOICE)
        assert call.bob.leg.stats().lost == 0
        assert call.bob.leg.stats().unauthenticated == 0
        assert call.bob.heard.endswith(VOICE * 100)

    def test_what_is_in_the_clear_is_not_heard(self) -> None:
        call = Call(*SDES)
        call.tick(5, alice=VOICE)
        for number in range(50):
            plain = RtpPacket(0, number, number * 160, 77, VOICE[::-1]).serialize()
            call.bob.leg.receive(plain, ALICE, call.now, call.bob.events)
            call.tick(alice=VOICE)
        assert VOICE[::-1] not in call.bob.heard
        stats = call.bob.leg.stats()
        assert (stats.unauthenticated, stats.lost, stats.source_changes) == (50, 0, 1)

    def test_a_recording_played_back_is_not_heard(self) -> None:
        call = Call(*SDES)
        call.tick(20, alice=VOICE)
        heard = call.bob.heard
        for data in call.alice.wire:
            call.bob.leg.receive(data, STRANGER, call.now, call.bob.events)
        call.tick(5)
        assert call.bob.heard[len(heard) :].count(VOICE) == 0
        assert call.bob.leg.stats().replayed == 20
        assert call.bob.leg.latch.target == ALICE

    def test_another_leg_of_the_pbx_is_heard_at_once(self) -> None:
        """A new SSRC from where the old one came: genuine, so there is nothing to wait for."""
        call = Call(*SDES)
        call.tick(10, alice=VOICE)
        call.alice.leg._sequencer.ssrc = 4711
        call.alice.leg._sequencer.sequence_number = 20_000
        call.tick(10, alice=VOICE)
        stats = call.bob.leg.stats()
        assert (stats.source_changes, stats.wrong_source) == (2, 0)
        assert call.bob.heard.count(VOICE) == 20

    def test_sources_without_end_are_refused_and_counted(self) -> None:
        """Genuine, but more than a PBX has."""
        call = Call(*SDES)
        call.tick(10, alice=VOICE)
        sender = SrtpSender(key(1))
        for ssrc in range(100, 200):
            protected = sender.protect(RtpPacket(0, 1, 0, ssrc, VOICE).serialize())
            assert protected is not None
            call.bob.leg.receive(protected, ALICE, call.now, call.bob.events)
        stats = call.bob.leg.stats()
        assert stats.source_changes + stats.wrong_source == 1 + 100
        assert stats.wrong_source == 100 - 63, "64 of a key, with the one that spoke first"

    def test_somebody_behind_a_nat_is_heard_with_his_first_packet(self) -> None:
        call = Call(*SDES, behind_nat=True)
        call.tick(10, alice=VOICE, bob=VOICE)
        assert call.bob.events[0] == SourceChanged(1, ALICE)
        assert call.bob.heard.count(VOICE) == 10
        assert call.alice.heard.count(VOICE) >= 9

    @pytest.mark.parametrize("suite", ["AES_CM_128_HMAC_SHA1_80", "AEAD_AES_128_GCM"])
    def test_new_keys_of_theirs_leave_no_gap(self, suite: str) -> None:
        call = Call(*SDES)
        call.tick(50, alice=VOICE, bob=VOICE)
        call.bob.update(SdesParams(1, key(2), key(3, suite)), call.now)
        call.tick(20, alice=VOICE, bob=VOICE)
        call.alice.update(SdesParams(1, key(3, suite), key(2)), call.now)
        call.tick(50, alice=VOICE, bob=VOICE)
        for side in (call.alice, call.bob):
            assert side.heard.count(VOICE) == 120
            assert side.leg.stats().unauthenticated == 0
        old = RtpPacket(0, 1, 1, 7, VOICE[::-1]).serialize()
        sender = SrtpSender(key(1))
        for number in range(60):
            packet = sender.protect(replace(RtpPacket.parse(old), sequence_number=200 + number).serialize())
            call.bob.leg.receive(packet or b"", ALICE, call.now, call.bob.events)
        assert call.bob.leg.stats().unauthenticated == 60 - 16

    def test_with_a_new_key_of_ours_the_stream_begins_anew(self) -> None:
        call = Call(*SDES)
        call.tick(10, alice=VOICE)
        call.alice.update(sdes(5, 2), call.now)
        call.bob.update(sdes(2, 5), call.now)
        call.tick(10, alice=VOICE)
        first, last = (RtpPacket.parse(call.alice.wire[index]) for index in (0, -1))
        assert last.ssrc == first.ssrc + 1
        assert call.bob.heard.count(VOICE) == 20
        assert call.bob.leg.stats().unauthenticated == 0

    def test_reports_alone_are_a_stream_that_begins_anew(self) -> None:
        """The key of a suite is the same when the suite comes back, and SRTCP counts from the beginning: under the same
        SSRC two reports would be encrypted alike."""
        call = Call(*SDES)
        call.alice.params = replace(call.alice.params, direction="recvonly")
        call.alice.update(SDES[0], call.now)
        call.tick(500)
        assert (call.alice.leg.stats().packets_sent, call.alice.leg.rtcp.sent > 0) == (0, True)
        reports = [call.alice.leg.rtcp.bye(call.now)]
        for security in (sdes(5, 2), SDES[0]):
            call.alice.update(security, call.now)
            reports.append(call.alice.leg.rtcp.bye(call.now))
        assert len({report[4:8] for report in reports if report is not None}) == 3

    def test_a_refresh_with_the_same_keys_changes_nothing(self) -> None:
        call = Call(*SDES)
        call.tick(10, alice=VOICE, bob=VOICE)
        recorded = call.alice.wire[-1]
        call.alice.update(SDES[0], call.now)
        call.bob.update(SDES[1], call.now)
        call.tick(10, alice=VOICE, bob=VOICE)
        call.bob.leg.receive(recorded, ALICE, call.now, call.bob.events)
        assert call.bob.leg.stats().replayed == 1
        assert RtpPacket.parse(call.alice.wire[-1]).ssrc == RtpPacket.parse(recorded).ssrc
        assert call.bob.heard.count(VOICE) == 20

    def test_encryption_may_end_and_begin(self) -> None:
        call = Call(None, None)
        call.tick(10, alice=VOICE)
        for security in (SDES, (None, None), SDES):
            call.alice.update(security[0], call.now)
            call.bob.update(security[1], call.now)
            call.tick(10, alice=VOICE)
        assert call.bob.heard.count(VOICE) == 40


class TestDtls:
    @pytest.mark.parametrize("roles", [("client", "server"), ("server", "client")])
    def test_both_hear_each_other(self, roles: tuple[Role, Role]) -> None:
        call = Call(dtls(roles[0], "bob", BOB), dtls(roles[1], "alice", ALICE))
        call.tick(20, alice=VOICE, bob=VOICE)
        assert call.alice.heard.count(VOICE) >= 15
        assert call.bob.heard.count(VOICE) >= 15
        assert call.bob.leg.stats().encryption == "AEAD_AES_128_GCM"
        assert call.bob.leg.stats().dtls_ignored == 0
        assert not call.bob.failures()

    def test_before_the_keys_nothing_is_said_or_believed(self) -> None:
        call = Call(*DTLS)
        call.down = True
        plain = RtpPacket(0, 1, 1, 77, VOICE).serialize()
        for _ in range(20):
            call.bob.leg.receive(plain, ALICE, call.now, call.bob.events)
            call.tick(alice=VOICE, bob=VOICE)
        assert all(rtp.classify(data) is rtp.Kind.DTLS for data in call.alice.wire)
        assert call.bob.wire == []
        stats = call.bob.leg.stats()
        assert (stats.packets_received, stats.unauthenticated, stats.source_changes) == (0, 20, 0)
        assert VOICE not in call.bob.heard

    def test_what_was_to_be_said_waits_for_the_keys(self) -> None:
        call = Call(*DTLS)
        call.down = True
        call.tick(3, bob=VOICE)
        assert call.bob.leg.downlink.pacer.buffered == 3 * 160

    def test_nobody_there_ends_it_after_ten_seconds(self) -> None:
        call = Call(*DTLS)
        call.down = True
        call.tick(499)
        assert call.alice.failures() == call.bob.failures() == []
        call.tick(10)
        assert call.alice.failures() == call.bob.failures() == ["DTLS failed: not done within 10 s"]
        call.tick(100)
        assert len(call.alice.failures()) == 1

    def test_another_certificate_than_signalled(self) -> None:
        call = Call(dtls("client", "mallory", BOB), dtls("server", "alice", ALICE))
        call.tick(30, alice=VOICE, bob=VOICE)
        (reason,) = call.alice.failures()
        assert "fingerprint" in reason
        assert call.alice.heard.count(VOICE) == 0
        assert not call.alice.leg.stats().encryption
        assert all(rtp.classify(data) is not rtp.Kind.RTP for data in call.alice.wire)

    def test_who_has_not_acknowledged_is_answered_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """INVITE and hello can be forged, and name somebody else."""
        bob = Side(BOB, ALICE, None, "bob")
        bob.params = replace(bob.params, security=dtls("server", "alice", ALICE), confirmed=False)
        bob.leg = Leg(1, bob.params, Sequencer(3, 300, 7), 0.0, identity=identity("bob"))
        alice = Side(ALICE, BOB, dtls("client", "bob", BOB), "alice")
        for datagram, _ in alice.leg.handshake():
            bob.leg.receive(datagram, ALICE, 0.0, bob.events)
        assert bob.leg.handshake()
        handshake = bob.leg.security and bob.leg.security._handshake
        assert handshake
        repeated: list[None] = []
        monkeypatch.setattr(handshake._connection, "DTLSv1_handle_timeout", lambda: repeated.append(None))
        bob.leg.advance(3.0, bob.events)
        assert not repeated
        bob.leg.latch.confirm()
        bob.leg.advance(4.0, bob.events)
        assert repeated

    def test_hold_and_resume_shake_no_hands(self) -> None:
        call = Call(*DTLS)
        call.tick(20, alice=VOICE, bob=VOICE)
        said = len(call.alice.wire)
        call.bob.params = replace(call.bob.params, direction="recvonly")
        call.bob.update(DTLS[1], call.now)
        call.tick(10, alice=VOICE)
        call.bob.params = replace(call.bob.params, direction="sendrecv")
        call.bob.update(DTLS[1], call.now)
        call.tick(10, alice=VOICE, bob=VOICE)
        assert all(rtp.classify(data) is rtp.Kind.RTP for data in call.alice.wire[said:])
        assert call.bob.heard.endswith(VOICE * 9)

    def test_another_place_is_another_handshake(self) -> None:
        call = Call(*DTLS)
        call.tick(20, alice=VOICE, bob=VOICE)
        first = call.bob.leg.security
        assert first is not None
        said = len(call.alice.wire)
        call.alice.address = ("203.0.113.1", 4002)
        call.alice.update(dtls("client", "bob", BOB), call.now)
        call.alice.leg.security = None
        call.alice.update(dtls("client", "bob", BOB), call.now)
        call.bob.update(dtls("server", "alice", call.alice.address), call.now, remote=call.alice.address)
        call.tick(20, alice=VOICE, bob=VOICE)
        assert any(rtp.classify(data) is rtp.Kind.DTLS for data in call.alice.wire[said:])
        assert call.bob.heard.endswith(VOICE * 5)
        assert call.alice.heard.endswith(VOICE * 5)

    def test_goodbye(self) -> None:
        call = Call(*DTLS)
        call.tick(10)
        security = call.alice.leg.security
        assert security is not None
        security.close()
        ((goodbye, target),) = call.alice.leg.handshake()
        assert target == BOB
        call.bob.leg.receive(goodbye, ALICE, call.now, call.bob.events)
        call.tick(10, bob=VOICE)
        assert not call.bob.failures()
        assert VOICE in call.alice.heard, "the call ends by SIP"

    def test_somebody_behind_a_nat(self) -> None:
        """SDP names an address at home; the hello comes from elsewhere, and answers go there."""
        call = Call(dtls("client", "bob", BOB), dtls("server", "alice", HOME), behind_nat=True)
        call.tick(20, alice=VOICE, bob=VOICE)
        assert call.alice.heard.count(VOICE) >= 15
        assert call.bob.heard.count(VOICE) >= 15


@pytest.mark.parametrize("params", [SDES, DTLS, (DTLS[0], None)])
def test_a_leg_that_is_over_is_freed_at_once(params: tuple[SecurityParams, SecurityParams | None]) -> None:
    """Keys and OpenSSL's memory do not wait for the collector."""
    gc.collect()
    gc.disable()
    try:
        call = Call(*params)
        call.tick(10, alice=VOICE, bob=VOICE)
        assert call.alice.leg.security is not None
        security, handshake = call.alice.leg.security, call.alice.leg.security._handshake
        watched: list[weakref.ref[object]] = [weakref.ref(security)]
        if handshake is not None:
            watched.append(weakref.ref(handshake._connection))
        del call, security, handshake
        assert [ref() for ref in watched] == [None] * len(watched)
    finally:
        gc.enable()


class TestStrangers:
    """Somebody who knows the port and sends what he likes."""

    def hello(self, number: int = 0) -> Side:
        stranger = Side(STRANGER, BOB, dtls("client", "bob", BOB), f"stranger {number}")
        return stranger

    def test_his_hello_is_not_answered_while_the_named_address_may_speak(self) -> None:
        call = Call(*DTLS)
        call.down = True
        stranger = self.hello()
        for datagram, _ in stranger.leg.handshake():
            call.bob.leg.receive(datagram, STRANGER, call.now, call.bob.events)
        assert call.bob.leg.handshake() == []
        assert call.bob.leg.stats().dtls_ignored == 1
        call.down = False
        call.tick(20, alice=VOICE, bob=VOICE)
        assert call.bob.heard.count(VOICE) >= 15

    def test_he_gives_way_to_the_named_address(self) -> None:
        call = Call(*DTLS)
        call.down = True
        call.tick(45)
        hello = next(data for data in call.alice.wire)
        stranger = self.hello()
        ((datagram, _),) = stranger.leg.handshake()
        call.bob.leg.receive(datagram, STRANGER, call.now, call.bob.events)
        assert [target for _, target in call.bob.leg.handshake()] == [STRANGER]
        call.down = False
        call.bob.leg.receive(hello, ALICE, call.now, call.bob.events)
        answers = call.bob.leg.handshake()
        assert {target for _, target in answers} == {ALICE}
        for answer, _ in answers:
            call.alice.leg.receive(answer, BOB, call.now, call.alice.events)
        call.tick(20, alice=VOICE, bob=VOICE)
        assert call.alice.heard.count(VOICE) >= 15
        assert call.bob.heard.count(VOICE) >= 15

    def test_without_the_right_certificate_he_gets_nowhere(self) -> None:
        call = Call(*DTLS)
        call.down = True
        call.tick(45)
        for number in range(10):
            stranger = self.hello(number)
            for _ in range(5):
                for datagram, _ in stranger.leg.handshake():
                    call.bob.leg.receive(datagram, STRANGER, call.now, call.bob.events)
                for datagram, target in call.bob.leg.handshake():
                    assert target == STRANGER
                    stranger.leg.receive(datagram, BOB, call.now, stranger.events)
            call.tick()
        assert call.bob.failures() == []
        assert call.bob.leg.latch.target == ALICE
        assert not call.bob.leg.stats().encryption

    @pytest.mark.parametrize("params", [SDES, DTLS])
    def test_noise_changes_nothing_but_counters(self, params: tuple[SecurityParams, SecurityParams]) -> None:
        source = random.Random(11)
        call = Call(*params)
        for _ in range(100):
            for origin in (STRANGER, ALICE):
                for _ in range(10):
                    first = source.choice((0, 20, 22, 23, 128, 128, 144, 176, 200))
                    noise = bytes([first, source.choice((0, 128, 200, 254))]) + source.randbytes(source.randrange(300))
                    call.bob.leg.receive(noise, origin, call.now, call.bob.events)
                    call.bob.leg.receive_rtcp(noise, origin, call.now)
            call.tick(alice=VOICE, bob=VOICE)
        assert call.bob.failures() == call.alice.failures() == []
        assert call.alice.heard.count(VOICE) >= 90
        assert call.bob.heard.count(VOICE) >= 90
        stats = call.bob.leg.stats()
        assert stats.lost == 0
        assert stats.unauthenticated > 1_000
        assert stats.source_changes == 1
        assert stats.remote == ALICE
