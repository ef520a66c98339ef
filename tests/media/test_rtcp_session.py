"""When a leg reports and what, and what it takes from the far end's reports, in virtual time."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import pairwise

import pytest

from sipbridge.media import rtcp
from sipbridge.media.rtcp import Bye, ReceiverReport, ReportBlock, RtcpPacket, SenderReport, SourceDescription
from sipbridge.media.rtcp_session import Reception, RtcpSession, Sent
from sipbridge.media.rtp import JitterEstimator, SequenceTracker

OURS, THEIRS = 0xABCD, 0x1234
WALL = 1_700_000_000.25
START = 50.0


class Bench:
    """A session, the stream that it speaks of, and a peer that answers."""

    def __init__(self, *, chance: float | random.Random = 0.5) -> None:
        self.now = START
        draw = chance.random if isinstance(chance, random.Random) else lambda: chance
        self.session = RtcpSession(OURS, b"cname", START, clock_rate=8000, wall_time=WALL, chance=draw)
        self.sent = Sent(0, 0, 160)
        self.heard = Reception(THEIRS, SequenceTracker(), JitterEstimator(8000))
        self.number = 0

    def speak(self, packets: int = 50) -> None:
        self.sent = Sent(self.sent.packets + packets, self.sent.octets + 160 * packets, self.sent.rtp_timestamp + 8000)

    def hear(self, packets: int = 50, *, lose: int = 0) -> None:
        for _ in range(packets):
            self.heard.tracker.update(self.number & 0xFFFF)
            self.heard.estimator.update(self.number * 160, self.now + self.number * 0.02)
            self.number += 1
        self.number += lose

    def report(self) -> tuple[RtcpPacket, ...]:
        """The next one, when its time comes."""
        while True:
            self.now = max(self.now, self.session.due_at)
            data = self.session.report(self.now, self.sent, self.heard)
            if data is not None:
                return rtcp.parse(data)

    def sender_report(self) -> SenderReport:
        self.speak()
        report = self.report()[0]
        assert isinstance(report, SenderReport)
        return report

    def receive(self, *packets: RtcpPacket) -> None:
        self.session.receive(rtcp.serialize(packets), self.now)

    def block(self, **fields: int) -> ReportBlock:
        return replace(ReportBlock(OURS, 0, 0, 0, 0, 0, 0), **fields)


class TestTiming:
    def test_the_first_report_comes_early_and_the_others_every_five_seconds(self) -> None:
        """RFC 3550 §6.2, §6.3: half the interval first, 0.5 to 1.5 times, and no rhythm."""
        first, intervals = [], []
        for seed in range(200):
            bench = Bench(chance=random.Random(seed))
            times = [START]
            for _ in range(6):
                bench.report()
                times.append(bench.now)
            first.append(times[1] - START)
            intervals += [later - earlier for earlier, later in pairwise(times[1:])]
        assert min(first) >= 2.5 * 0.5 / 1.21829
        assert max(first) <= 2.5 * 1.5 / 1.21828
        assert min(intervals) >= 5 * 0.5 / 1.21829
        assert max(intervals) <= 5 * 1.5 / 1.21828 * 1.001
        mean = sum(intervals) / len(intervals)
        assert mean == pytest.approx(5.0, rel=0.06)  # what the compensation is for
        assert len({round(interval, 3) for interval in intervals}) > 500

    def test_asked_too_early_nothing_is_sent(self) -> None:
        draws = iter([0.0, 1.0, 1.0, 1.0])
        session = RtcpSession(OURS, b"c", START, clock_rate=8000, wall_time=WALL, chance=lambda: next(draws))
        early = session.due_at
        assert session.report(early, Sent(1, 160, 0), None) is None  # drawn again: later
        assert session.due_at == pytest.approx(START + 2.5 * 1.5 / 1.21828)
        assert session.report(session.due_at, Sent(1, 160, 0), None) is not None


class TestOurReports:
    def test_a_sender_report_with_what_was_heard(self) -> None:
        bench = Bench()
        bench.speak(100)
        bench.hear(95, lose=5)
        bench.hear(1)
        report, description = bench.report()
        assert isinstance(report, SenderReport)
        assert (report.ssrc, report.packets, report.octets) == (OURS, 100, 16000)
        assert report.rtp_timestamp == bench.sent.rtp_timestamp
        assert report.ntp / 2**32 - 2_208_988_800 == pytest.approx(WALL + bench.now - START, abs=1e-4)
        (block,) = report.reports
        assert (block.ssrc, block.lost, block.extended_highest) == (THEIRS, 5, 100)
        assert block.fraction_lost == 5 * 256 // 101
        assert (block.lsr, block.dlsr) == (0, 0)
        assert description == SourceDescription(((OURS, ((rtcp.CNAME, b"cname"),)),))

    def test_fraction_lost_is_of_the_time_since_the_last_report(self) -> None:
        bench = Bench()
        bench.hear(90, lose=10)
        bench.hear(1)
        assert bench.report()[0].reports[0].fraction_lost == 10 * 256 // 101  # type: ignore[union-attr]
        bench.hear(100)
        second = bench.report()[0]
        assert isinstance(second, ReceiverReport)
        assert (second.reports[0].fraction_lost, second.reports[0].lost) == (0, 10)

    def test_the_highest_number_counts_the_wraps(self) -> None:
        bench = Bench()
        bench.number = 65530
        bench.hear(20)
        assert bench.report()[0].reports[0].extended_highest == 65536 + 13  # type: ignore[union-attr]

    def test_who_has_not_sent_for_two_reports_is_a_receiver(self) -> None:
        """RFC 3550 §6.4."""
        bench = Bench()
        kinds = []
        for speaks in (False, True, False, False, False, True):
            if speaks:
                bench.speak()
            kinds.append(type(bench.report()[0]))
        assert kinds == [
            ReceiverReport,
            SenderReport,
            SenderReport,
            ReceiverReport,
            ReceiverReport,
            SenderReport,
        ]

    def test_a_source_that_is_silent_has_no_block(self) -> None:
        bench = Bench()
        bench.hear(10)
        assert len(bench.sender_report().reports) == 1
        assert bench.sender_report().reports == ()

    def test_lsr_and_dlsr(self) -> None:
        bench = Bench()
        bench.receive(SenderReport(THEIRS, 0x1122334455667788, 0, 1, 1))
        received = bench.now
        bench.hear(10)
        (block,) = bench.sender_report().reports
        assert block.lsr == 0x33445566
        assert block.dlsr == int((bench.now - received) * 65536)

    def test_the_report_of_another_source_is_not_taken_for_this_ones(self) -> None:
        bench = Bench()
        bench.receive(SenderReport(99, 0x1122334455667788, 0, 1, 1))
        bench.hear(10)
        assert bench.sender_report().reports[0].lsr == 0

    def test_another_ssrc_of_ours_is_another_stream(self) -> None:
        bench = Bench()
        before = bench.sender_report()
        bench.receive(ReceiverReport(THEIRS, (bench.block(lost=7),)))
        bench.session.renew(0xBEEF, bench.sent)
        assert bench.session.remote_lost is None
        bench.speak(20)
        report, description = bench.report()
        assert isinstance(report, SenderReport)
        assert (before.packets, report.ssrc, report.packets, report.octets) == (50, 0xBEEF, 20, 3200)
        assert isinstance(description, SourceDescription)
        assert description.chunks[0][0] == 0xBEEF

    def test_bye(self) -> None:
        bench = Bench()
        bench.speak()
        data = bench.session.bye(bench.now, bench.sent, None, b"caller_hung_up")
        assert data is not None
        report, description, bye = rtcp.parse(data)
        assert isinstance(report, SenderReport)
        assert isinstance(description, SourceDescription)
        assert bye == Bye((OURS,), b"caller_hung_up")

    def test_who_has_never_sent_anything_does_not_say_bye(self) -> None:
        """RFC 3550 §6.3.7."""
        bench = Bench()
        assert bench.session.bye(bench.now, bench.sent, bench.heard) is None


class TestTheirReports:
    def answer(self, bench: Bench, report: SenderReport, seconds: float, *, held: float = 0.0, **fields: int) -> None:
        """Their block about our report, `seconds` after it, of which they kept it for `held`."""
        bench.now += seconds
        lsr = report.ntp >> 16 & 0xFFFFFFFF
        bench.receive(ReceiverReport(THEIRS, (bench.block(lsr=lsr, dlsr=int(held * 65536), **fields),)))

    def test_loss_and_jitter_as_they_report_it(self) -> None:
        bench = Bench()
        assert bench.session.remote_lost is None
        self.answer(bench, bench.sender_report(), 0.1, lost=7, fraction_lost=64, jitter=400)
        session = bench.session
        assert (session.remote_lost, session.remote_fraction, session.remote_jitter_ms) == (7, 0.25, 50.0)
        self.answer(bench, bench.sender_report(), 0.1, lost=7, jitter=80)
        assert (session.remote_jitter_ms, session.remote_jitter_max_ms) == (10.0, 50.0)

    def test_the_round_trip(self) -> None:
        bench = Bench()
        self.answer(bench, bench.sender_report(), 2.08, held=2.0)
        assert bench.session.round_trip_ms == pytest.approx(80, abs=0.1)

    def test_the_example_of_the_rfc(self) -> None:
        """RFC 3550 figure 2: LSR b705.2000 (46853.125 s), DLSR 5.25 s, received at b710:8000: 6.125 s. That is no
        telephone call, so with a delay of 5.25 + 4 s instead: 2.125 s."""
        bench = Bench()
        report = bench.sender_report()
        self.answer(bench, report, 11.375, held=9.25)
        assert bench.session.round_trip_ms == pytest.approx(2125, abs=0.1)

    @pytest.mark.parametrize("held", [3.0, 60.0, 65535.9])
    def test_a_clock_of_theirs_that_was_set_is_no_round_trip(self, held: float) -> None:
        bench = Bench()
        self.answer(bench, bench.sender_report(), 2.08, held=held)
        assert bench.session.round_trip_ms is None
        assert bench.session.implausible == 1

    def test_one_wrong_measurement_among_right_ones_does_not_show(self) -> None:
        bench = Bench()
        for held in (1.9, 1.9, 0.5, 1.9):
            self.answer(bench, bench.sender_report(), 2.0, held=held)
        assert bench.session.round_trip_ms == pytest.approx(100, abs=0.1)

    def test_a_report_that_we_never_sent_says_nothing(self) -> None:
        bench = Bench()
        report = bench.sender_report()
        self.answer(bench, replace(report, ntp=report.ntp - (1 << 30)), 0.1)
        assert bench.session.round_trip_ms is None
        assert bench.session.implausible == 1

    def test_jitter_of_hours_is_not_believed(self) -> None:
        bench = Bench()
        bench.receive(ReceiverReport(THEIRS, (bench.block(jitter=0xFFFFFFFF),)))
        assert bench.session.remote_jitter_ms is None

    def test_blocks_about_others_are_passed_over(self) -> None:
        bench = Bench()
        bench.receive(ReceiverReport(THEIRS, (bench.block(ssrc=5, lost=9),)))
        assert bench.session.remote_lost is None

    def test_our_own_reports_that_come_back_say_nothing(self) -> None:
        bench = Bench()
        bench.receive(SenderReport(OURS, 1, 2, 3, 4, (bench.block(lost=3),)))
        assert bench.session.remote_lost is None
        assert bench.session.implausible == 1

    def test_what_is_broken_is_counted(self) -> None:
        bench = Bench()
        bench.session.receive(b"\x81\xc9", bench.now)
        assert (bench.session.malformed, bench.session.received) == (1, 0)

    def test_a_bye_ends_their_stream(self) -> None:
        bench = Bench()
        bench.receive(SenderReport(THEIRS, 0x1122334455667788, 0, 1, 1))
        bench.receive(Bye((THEIRS,)))
        bench.hear(10)
        assert bench.session.byes == 1
        assert bench.sender_report().reports[0].lsr == 0


class TestSignsOfLife:
    """Only who says that it sends nothing may be silent: packets that were sent and do not come are a fault."""

    def test_a_receiver_report(self) -> None:
        bench = Bench()
        bench.receive(ReceiverReport(THEIRS))
        assert bench.session.silent_at == bench.now

    def test_a_sender_report_whose_count_stands_still(self) -> None:
        bench = Bench()
        bench.receive(SenderReport(THEIRS, 1, 1, 500, 1))
        assert bench.session.silent_at is None
        bench.now += 5
        bench.receive(SenderReport(THEIRS, 2, 1, 500, 1))
        assert bench.session.silent_at == bench.now

    def test_a_sender_report_whose_count_goes_on(self) -> None:
        bench = Bench()
        for count in (500, 750, 1000):
            bench.receive(SenderReport(THEIRS, 1, 1, count, 1))
        assert bench.session.silent_at is None

    def test_neither_bye_nor_feedback(self) -> None:
        bench = Bench()
        bench.receive(Bye((THEIRS,)))
        bench.receive(rtcp.OtherPacket(206, 1, b"\0" * 8))
        assert bench.session.silent_at is None
