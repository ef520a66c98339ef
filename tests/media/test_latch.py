"""Who is believed. Times are seconds, packets come every 20 ms unless a case says otherwise."""

from __future__ import annotations

import pytest

from sipbridge.media.addresses import Address
from sipbridge.media.latch import Latch, Verdict

SDP = ("192.0.2.1", 4000)
NAT = ("198.51.100.7", 31000)
STRANGER = ("203.0.113.66", 666)


class Feed:
    """Packets of several sources into one latch, each with its own numbering; the clock moves by 20 ms per call."""

    def __init__(self, latch: Latch) -> None:
        self.latch = latch
        self.now = 0.0
        self.numbers: dict[tuple[Address, int], int] = {}

    def send(self, source: Address, count: int = 1, *, ssrc: int = 1, step: float = 0.02) -> list[Verdict]:
        verdicts = []
        for _ in range(count):
            self.now += step
            number = self.numbers.get((source, ssrc), 65533)
            self.numbers[source, ssrc] = (number + 1) & 0xFFFF
            verdicts.append(self.latch.judge(source, ssrc, number, self.now))
        return verdicts


A, N, W = Verdict.ACCEPTED, Verdict.NEW_SOURCE, Verdict.WRONG_SOURCE


@pytest.fixture
def feed() -> Feed:
    return Feed(Latch(SDP))


def test_until_someone_speaks_we_send_to_the_address_of_sdp(feed: Feed) -> None:
    assert feed.latch.target == SDP
    assert feed.latch.source is None


def test_one_packet_of_the_sdp_address_is_enough(feed: Feed) -> None:
    assert feed.send(SDP, 3) == [N, A, A]
    assert feed.latch.source == SDP


def test_another_address_needs_five_in_a_row(feed: Feed) -> None:
    assert feed.send(NAT, 7) == [W, W, W, W, N, A, A]
    assert feed.latch.target == NAT


def test_the_sdp_address_wins_while_nothing_is_locked(feed: Feed) -> None:
    feed.send(NAT, 4)
    assert feed.send(SDP) == [N]
    assert feed.send(NAT, 20) == [W] * 20
    assert feed.latch.target == SDP


@pytest.mark.parametrize("numbers", [(1, 1, 1, 1, 1, 1), (1, 900, 20, 5000, 7, 40000), (9, 8, 7, 6, 5, 4)])
def test_packets_that_do_not_follow_each_other_prove_nothing(numbers: tuple[int, ...]) -> None:
    latch = Latch(SDP)
    assert [latch.judge(NAT, 1, number, 0.02 * n) for n, number in enumerate(numbers)] == [W] * 6


def test_a_lost_packet_is_forgiven_while_learning() -> None:
    latch = Latch(SDP)
    assert [latch.judge(NAT, 1, number, 0.02 * n) for n, number in enumerate((1, 2, 4, 5, 7))] == [W, W, W, W, N]


def test_five_packets_of_five_ssrcs_prove_nothing(feed: Feed) -> None:
    assert [verdict for ssrc in range(20) for verdict in feed.send(NAT, ssrc=ssrc)] == [W] * 20


def test_once_locked_a_stranger_is_never_believed(feed: Feed) -> None:
    feed.send(SDP)
    for _ in range(50):
        assert feed.send(STRANGER, 3, step=0.005) == [W] * 3
        assert feed.send(SDP, step=0.005) == [A]
    assert feed.latch.target == SDP


def test_a_stranger_with_our_ssrc_is_no_less_strange(feed: Feed) -> None:
    feed.send(SDP, ssrc=7)
    assert feed.send(STRANGER, 10, ssrc=7) == [W] * 10


def test_after_two_seconds_of_silence_another_may_be_learned(feed: Feed) -> None:
    feed.send(SDP)
    assert feed.send(NAT, 99) == [W] * 99  # 1.98 s
    feed.now += 0.01
    assert feed.send(NAT, 6) == [W, W, W, W, N, A]
    assert feed.latch.target == NAT
    assert feed.send(SDP) == [W]


def test_a_flood_between_two_packets_of_the_known_source_is_no_takeover() -> None:
    latch = Latch(SDP)
    feed = Feed(latch)
    feed.send(SDP)
    latch.update(SDP, feed.now)
    for _ in range(100):
        assert feed.send(STRANGER, 19, step=0.001) == [W] * 19
        assert feed.send(SDP, step=0.001) == [A]


class TestNewSsrc:
    def test_of_the_locked_address_after_five_in_a_row(self, feed: Feed) -> None:
        feed.send(SDP, 10, ssrc=1)
        assert feed.send(SDP, 7, ssrc=2) == [W, W, W, W, N, A, A]
        assert feed.send(SDP, 3, ssrc=1) == [W, W, W]

    def test_not_while_the_old_one_goes_on(self, feed: Feed) -> None:
        feed.send(SDP, 10, ssrc=1)
        for _ in range(30):
            assert feed.send(SDP, ssrc=2, step=0.01) == [W]
            assert feed.send(SDP, ssrc=1, step=0.01) == [A]


class TestUpdate:
    def test_a_new_address_in_sdp_is_sent_to_at_once_and_believed_at_once(self, feed: Feed) -> None:
        feed.send(SDP, 5)
        feed.latch.update(NAT, feed.now)
        assert feed.latch.target == NAT
        assert feed.send(SDP, 3) == [A, A, A]  # still on its way to the new one
        assert feed.send(NAT, 2) == [N, A]
        assert feed.send(SDP) == [W]

    def test_the_same_address_in_sdp_keeps_what_was_learned(self, feed: Feed) -> None:
        feed.send(NAT, 5)
        feed.latch.update(SDP, feed.now)
        assert feed.latch.target == NAT
        assert feed.send(NAT, 3) == [A, A, A]

    def test_another_source_may_take_over_once_the_known_one_has_stopped(self, feed: Feed) -> None:
        feed.send(NAT, 5)
        feed.latch.update(SDP, feed.now)
        other = (NAT[0], NAT[1] + 2)
        assert feed.send(other, 5) == [W, W, W, W, N]
        assert feed.latch.target == other

    def test_but_not_for_long(self, feed: Feed) -> None:
        feed.send(NAT, 5)
        feed.latch.update(SDP, feed.now)
        feed.send(NAT, 300)  # 6 s
        assert feed.send(STRANGER, 20) == [W] * 20


class TestWithoutLatching:
    def test_only_the_address_of_sdp_is_believed(self) -> None:
        latch = Latch(SDP, enabled=False)
        feed = Feed(latch)
        assert feed.send(NAT, 50) == [W] * 50
        assert feed.send(SDP, 2) == [N, A]
        feed.now += 10
        assert feed.send(NAT, 50) == [W] * 50
        assert latch.target == SDP


@pytest.mark.parametrize(
    "remote", [None, ("0.0.0.0", 4000), ("::", 4000), ("media.example.com", 4000), ("192.0.2.1", 0)]
)
def test_nothing_is_sent_to_what_is_no_address(remote: Address | None) -> None:
    latch = Latch(remote)
    assert latch.target is None
    feed = Feed(latch)
    assert feed.send(NAT, 5)[-1] is N
    assert latch.target == NAT


def test_an_offer_without_an_address_leaves_the_target_as_it_was() -> None:
    latch = Latch(SDP)
    latch.update(None, 1.0)
    assert latch.target == SDP


class TestUnconfirmed:
    def test_nothing_is_sent_before_it_is_confirmed(self) -> None:
        latch = Latch(SDP, confirmed=False)
        assert latch.target is None
        latch.update(NAT, 0.0)
        assert latch.target is None
        latch.confirm()
        assert latch.target == NAT

    @pytest.mark.parametrize("enabled", [True, False])
    def test_a_packet_that_is_believed_confirms(self, enabled: bool) -> None:
        feed = Feed(Latch(SDP, enabled=enabled, confirmed=False))
        feed.send(STRANGER, 4)
        assert feed.latch.target is None
        feed.send(SDP)
        assert feed.latch.target == SDP

    def test_a_late_ack_does_not_undo_what_was_learned(self) -> None:
        feed = Feed(Latch(SDP, confirmed=False))
        feed.send(NAT, 5)
        feed.latch.confirm()
        assert feed.latch.target == NAT


@pytest.mark.parametrize("muted", [False, True])
def test_the_sdp_address_takes_the_call_back_from_a_stranger_who_goes_on_sending(feed: Feed, muted: bool) -> None:
    """He was quicker than its first packet, or sent while it was mute for two seconds."""
    if muted:
        feed.send(SDP, 3)
        feed.send(STRANGER, 110, ssrc=9)
    feed.send(STRANGER, 5, ssrc=9, step=0.001)
    assert feed.latch.target == STRANGER
    verdicts = []
    for _ in range(10):
        verdicts += feed.send(SDP)
        feed.send(STRANGER, 3, ssrc=9, step=0.001)
    assert verdicts == [W] * 4 + [N] + [A] * 5
    assert feed.latch.target == SDP
    assert feed.send(STRANGER, 20, ssrc=9) == [W] * 20


def test_a_stray_packet_of_the_sdp_address_does_not_interrupt_somebody_behind_a_nat(feed: Feed) -> None:
    feed.send(NAT, 5)
    assert feed.send(SDP, 4) == [W] * 4
    assert feed.send(NAT, 3) == [A] * 3
    assert feed.latch.target == NAT
