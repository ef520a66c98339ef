"""RTCP of a leg in virtual time: whom it believes, where its own goes, and what it keeps alive."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sipbridge import codecs
from sipbridge.audio import PCMU
from sipbridge.media import rtcp
from sipbridge.media.events import MediaEvent, MediaTimeout
from sipbridge.media.leg import Leg
from sipbridge.media.params import MediaParams
from sipbridge.media.rtcp import Bye, OtherPacket, ReceiverReport, ReportBlock, RtcpPacket, SenderReport
from sipbridge.media.rtcp_session import RtcpSession
from sipbridge.media.rtp import RtpPacket, Sequencer

PHONE, PHONE_RTCP = ("192.0.2.1", 4000), ("192.0.2.1", 4001)
BEHIND_NAT, NAT_RTCP = ("198.51.100.7", 50000), ("198.51.100.7", 61234)
STRANGER = ("203.0.113.66", 666)
OURS, THEIRS = 0xABCD, 0x1234
PARAMS = MediaParams(
    codec=codecs.PCMU,
    remote=PHONE,
    remote_rtcp=PHONE_RTCP,
    payload_type_send=0,
    payload_type_receive=0,
    uplink=PCMU,
    downlink=PCMU,
)


class Bench:
    def __init__(self, params: MediaParams = PARAMS, *, timeout: float | None = None, sequence_number: int = 0) -> None:
        self.now = 100.0
        self.number = sequence_number
        session = RtcpSession(OURS, b"c", self.now, clock_rate=8000, wall_time=1.7e9, chance=lambda: 0.5)
        self.leg = Leg(7, params, Sequencer(OURS, 0, 0), self.now, timeout_seconds=timeout, rtcp=session)
        self.rtcp = self.leg.rtcp
        self.session = session
        self.events: list[MediaEvent] = []
        self.sent: list[tuple[tuple[RtcpPacket, ...], tuple[str, int] | None]] = []

    def say(self, source: tuple[str, int] = PHONE, *, ssrc: int = THEIRS, payload: bytes = b"\xff" * 160) -> None:
        packet = RtpPacket(0, self.number & 0xFFFF, self.number * 160 & 0xFFFFFFFF, ssrc, payload)
        self.number += 1
        self.leg.receive(packet.serialize(), source, self.now, self.events)

    def tick(self, seconds: float = 0.02, *, say: tuple[str, int] | None = None) -> None:
        for _ in range(round(seconds / 0.02)):
            self.now += 0.02
            self.leg.next_packet(self.now)
            if say is not None:
                self.say(say)
            self.leg.advance(self.now, self.events)
            self.leg.uplink.take()
            if self.now >= self.rtcp.due_at and (data := self.rtcp.report(self.now)) is not None:
                self.sent.append((rtcp.parse(data), self.rtcp.target))

    def tell(self, source: tuple[str, int], *packets: RtcpPacket) -> None:
        self.rtcp.receive(rtcp.serialize(packets), source, self.now)


class TestWhoIsBelieved:
    @pytest.mark.parametrize("source", [PHONE_RTCP, PHONE, (PHONE[0], 9999)])
    def test_the_host_that_rtp_comes_from(self, source: tuple[str, int]) -> None:
        bench = Bench()
        bench.say()
        bench.tell(source, ReceiverReport(THEIRS, (ReportBlock(OURS, 0, 5, 0, 0, 0, 0),)))
        assert bench.session.remote_lost == 5

    def test_the_host_that_sdp_names_before_anything_came(self) -> None:
        bench = Bench()
        bench.tell(PHONE_RTCP, ReceiverReport(THEIRS))
        assert bench.session.received == 1

    def test_no_more_of_it_is_read_than_anybody_needs(self) -> None:
        bench = Bench()
        bench.say()
        for _ in range(1000):
            bench.tell(PHONE, ReceiverReport(THEIRS))
        assert (bench.session.received, bench.rtcp.received) == (20, 1000)
        assert bench.rtcp.ignored == 980
        bench.tick(1.1, say=PHONE)
        bench.tell(PHONE, ReceiverReport(THEIRS))
        assert bench.session.received == 21

    def test_a_stranger_changes_nothing_but_a_counter(self) -> None:
        bench = Bench(timeout=3)
        bench.tick(1, say=PHONE)
        for _ in range(50):
            bench.tell(STRANGER, ReceiverReport(THEIRS, (ReportBlock(OURS, 255, 5000, 0, 800, 0, 0),)))
            bench.tell(STRANGER, Bye((THEIRS,)))
        stats = bench.leg.stats()
        assert (stats.rtcp_received, stats.rtcp_ignored) == (100, 100)
        assert bench.session.remote_lost is None
        assert bench.rtcp.target == PHONE_RTCP
        bench.tick(3.2)
        assert [type(event) for event in bench.events][-1] is MediaTimeout

    def test_the_address_of_sdp_no_more_once_another_was_learned(self) -> None:
        bench = Bench()
        for _ in range(5):
            bench.say(BEHIND_NAT)
        bench.tell(PHONE_RTCP, ReceiverReport(THEIRS))
        assert bench.session.received == 0
        bench.tell(NAT_RTCP, ReceiverReport(THEIRS))
        assert bench.session.received == 1

    def test_another_host_that_a_rtcp_names(self) -> None:
        """RFC 3605."""
        other = ("192.0.2.99", 53020)
        bench = Bench(replace(PARAMS, remote_rtcp=other))
        bench.say()
        bench.tell(other, ReceiverReport(THEIRS))
        assert bench.session.received == 1
        assert bench.rtcp.target == other

    def test_over_the_rtp_port(self) -> None:
        """RFC 5761, also where it was not agreed upon: what is there is read."""
        bench = Bench()
        bench.say()
        report = rtcp.serialize((SenderReport(THEIRS, 1 << 40, 0, 1, 160), OtherPacket(204, 0, b"")))
        bench.leg.receive(report, PHONE, bench.now, bench.events)
        bench.leg.receive(report, STRANGER, bench.now, bench.events)
        bench.tick()
        stats = bench.leg.stats()
        assert (stats.rtcp_received, stats.rtcp_ignored, stats.non_rtp) == (2, 1, 0)
        assert bench.rtcp.target == PHONE_RTCP

    def test_a_flood_on_the_rtp_port_is_bounded(self) -> None:
        bench = Bench()
        bench.say()
        for _ in range(1000):
            bench.leg.receive(rtcp.serialize((ReceiverReport(THEIRS),)), PHONE, bench.now, bench.events)
        assert len(bench.leg.uplink.control) <= 8
        bench.tick()
        stats = bench.leg.stats()
        assert (stats.rtcp_received, stats.rtcp_received - stats.rtcp_ignored) == (1000, 8)

    def test_what_is_broken_is_ignored(self) -> None:
        bench = Bench()
        bench.say()
        bench.rtcp.receive(b"\x81\xc9\x00\x01" + bytes(4), PHONE_RTCP, bench.now)
        assert bench.leg.stats().rtcp_ignored == 1


class TestWhereOursGoes:
    def test_the_port_that_sdp_names(self) -> None:
        bench = Bench()
        bench.tick(10, say=PHONE)
        assert len(bench.sent) >= 2
        assert {target for _, target in bench.sent} == {PHONE_RTCP}

    def test_where_theirs_comes_from(self) -> None:
        """RFC 4961: a NAT has a port of its own for it."""
        bench = Bench()
        for _ in range(5):
            bench.say(BEHIND_NAT)
        assert bench.rtcp.target == (BEHIND_NAT[0], BEHIND_NAT[1] + 1)
        bench.tell(NAT_RTCP, ReceiverReport(THEIRS))
        assert bench.rtcp.target == NAT_RTCP

    def test_over_the_rtp_port(self) -> None:
        bench = Bench(replace(PARAMS, rtcp_mux=True))
        bench.tick(5, say=PHONE)
        assert bench.rtcp.muxed
        assert bench.sent
        assert bench.sent[0][1] == PHONE

    def test_without_latching_only_what_sdp_names(self) -> None:
        bench = Bench(replace(PARAMS, latch=False))
        bench.say()
        bench.tell((PHONE[0], 9999), ReceiverReport(THEIRS))
        assert bench.rtcp.target == PHONE_RTCP

    def test_nobody_is_known(self) -> None:
        bench = Bench(replace(PARAMS, remote=None, remote_rtcp=None))
        bench.tick(10)
        assert bench.sent == []
        assert bench.rtcp.bye(bench.now) is None
        bench.tick(5, say=PHONE)
        assert bench.sent[0][1] == (PHONE[0], PHONE[1] + 1)

    def test_a_new_answer_names_another_place(self) -> None:
        bench = Bench()
        bench.say()
        bench.tell((PHONE[0], 9999), ReceiverReport(THEIRS))
        assert bench.rtcp.target == (PHONE[0], 9999)
        bench.leg.update(replace(PARAMS, remote=("192.0.2.5", 7000), remote_rtcp=("192.0.2.5", 7001)), bench.now)
        assert bench.rtcp.target == ("192.0.2.5", 7001)


class TestReports:
    def test_what_was_received(self) -> None:
        bench = Bench(sequence_number=65500)
        bench.tick(0.5, say=PHONE)
        bench.number += 5
        bench.tick(4.5, say=PHONE)
        report = bench.sent[-1][0][0]
        assert isinstance(report, SenderReport)
        (block,) = report.reports
        assert (block.ssrc, block.lost) == (THEIRS, 5)
        assert 65536 < block.extended_highest < 65536 + 300
        assert report.packets == report.octets // 160 > 50

    def test_rtp_time_and_ntp_time_go_together(self) -> None:
        bench = Bench()
        bench.tick(30, say=PHONE)
        reports = [packets[0] for packets, _ in bench.sent]
        first, *_, last = [report for report in reports if isinstance(report, SenderReport)]
        seconds = (last.ntp - first.ntp) / 2**32
        assert seconds > 20
        assert (last.rtp_timestamp - first.rtp_timestamp) / 8000 == pytest.approx(seconds, abs=0.002)

    def test_a_new_source_is_counted_from_its_beginning(self) -> None:
        """RFC 3550 §8.2: another SSRC is another stream."""
        bench = Bench()
        bench.number = 100
        bench.tick(5, say=PHONE)
        bench.number = 40000
        for _ in range(250):
            bench.tick()
            bench.say(ssrc=99)
        (block,) = bench.sent[-1][0][0].reports  # type: ignore[union-attr]
        assert block.ssrc == 99
        assert block.lost == 0
        assert 40000 < block.extended_highest < 40300

    def test_on_hold_we_are_a_receiver(self) -> None:
        bench = Bench(replace(PARAMS, direction="recvonly"))
        bench.tick(12, say=PHONE)
        assert {type(packets[0]) for packets, _ in bench.sent} == {ReceiverReport}
        assert len(bench.sent[0][0][0].reports) == 1  # type: ignore[union-attr]


class TestFigures:
    def test_what_a_leg_knows_of_its_sound(self) -> None:
        bench = Bench()
        for second in range(10):
            bench.tick(0.5, say=PHONE)
            bench.number += 2 if second < 5 else 0
            bench.tick(0.5, say=PHONE)
        report = next(packets[0] for packets, _ in bench.sent if isinstance(packets[0], SenderReport))
        about_us = ReportBlock(OURS, 13, 9, 0, 240, report.ntp >> 16 & 0xFFFFFFFF, 0)
        bench.tell(PHONE_RTCP, ReceiverReport(THEIRS, (about_us,)))
        stats = bench.leg.stats()
        assert (stats.lost, stats.bursts, stats.remote_lost, stats.remote_jitter_ms) == (10, 5, 9, 30)
        assert stats.rtt_ms is None  # that report is too old for a round trip
        assert stats.rtcp_implausible == 1
        assert stats.mos is not None
        assert stats.mos_worst is not None
        assert stats.mos_worst < 4.2 < 4.39 < stats.mos
        assert stats.remote_mos is not None
        assert stats.remote_mos < 4.0

    def test_a_round_trip(self) -> None:
        bench = Bench()
        while not bench.sent:
            bench.tick(say=PHONE)
        report = bench.sent[0][0][0]
        assert isinstance(report, SenderReport)
        bench.tick(0.2)
        about_us = ReportBlock(OURS, 0, 0, 0, 0, report.ntp >> 16 & 0xFFFFFFFF, 65536 // 10)
        bench.tell(PHONE_RTCP, ReceiverReport(THEIRS, (about_us,)))
        assert bench.leg.stats().rtt_ms == pytest.approx(100, abs=0.1)


class TestSignsOfLife:
    def test_a_peer_that_says_that_it_sends_nothing_may_be_silent(self) -> None:
        bench = Bench(timeout=10)
        bench.tick(2, say=PHONE)
        for _ in range(12):
            bench.tick(5)
            bench.tell(PHONE_RTCP, ReceiverReport(THEIRS))
        assert not [event for event in bench.events if isinstance(event, MediaTimeout)]
        bench.tick(10.1)
        (timeout,) = [event for event in bench.events if isinstance(event, MediaTimeout)]
        assert timeout.seconds == pytest.approx(10, abs=0.05)

    def test_a_peer_whose_packets_do_not_come_may_not(self) -> None:
        bench = Bench(timeout=10)
        bench.tick(2, say=PHONE)
        for number in range(3):
            bench.tick(5)
            bench.tell(PHONE_RTCP, SenderReport(THEIRS, 1, 1, 100 + 250 * number, 1))
        assert len([event for event in bench.events if isinstance(event, MediaTimeout)]) == 1

    def test_a_bye_ends_nothing(self) -> None:
        bench = Bench(timeout=10)
        bench.tick(2, say=PHONE)
        before = list(bench.events)
        bench.tell(PHONE_RTCP, ReceiverReport(THEIRS), Bye((THEIRS,)))
        bench.tick(2, say=PHONE)
        assert bench.events == before
        assert bench.leg.stats().packets_received == 200
