"""RTCP packets (RFC 3550 §6), held against those of aiortc."""

from __future__ import annotations

import random
import struct

import pytest
from aiortc import rtp as oracle
from hypothesis import given, settings
from hypothesis import strategies as st

from sipbridge.errors import RtpError
from sipbridge.media.rtcp import (
    CNAME,
    Bye,
    OtherPacket,
    ReceiverReport,
    ReportBlock,
    RtcpPacket,
    SenderReport,
    SourceDescription,
    parse,
    serialize,
)

WORD = st.integers(0, 0xFFFFFFFF)
BLOCKS = st.builds(
    ReportBlock,
    ssrc=WORD,
    fraction_lost=st.integers(0, 255),
    lost=st.integers(-0x800000, 0x7FFFFF),
    extended_highest=WORD,
    jitter=WORD,
    lsr=WORD,
    dlsr=WORD,
)
REPORTS = st.lists(BLOCKS, max_size=3).map(tuple)
WORDS = st.lists(st.binary(min_size=4, max_size=4), max_size=3).map(b"".join)
ITEMS = st.lists(st.tuples(st.integers(1, 255), st.binary(max_size=20)), max_size=3).map(tuple)
CHUNKS = st.lists(st.tuples(WORD, ITEMS), max_size=3).map(tuple)
PACKETS: st.SearchStrategy[RtcpPacket] = st.one_of(
    st.builds(SenderReport, WORD, st.integers(0, 2**64 - 1), WORD, WORD, WORD, REPORTS, WORDS),
    st.builds(ReceiverReport, WORD, REPORTS, WORDS),
    st.builds(SourceDescription, CHUNKS),
    st.builds(Bye, st.lists(WORD, max_size=4).map(tuple), st.binary(max_size=40)),
    st.builds(OtherPacket, st.sampled_from([192, 204, 205, 206, 207, 223]), st.integers(0, 31), WORDS),
)

# What libavformat sends before its first packet: a sender report without a source description.
LIBAVFORMAT = bytes.fromhex("80c80006bde5fdf6eeac3c95d3f7ced99130deba0000000000000000")


@settings(derandomize=True, max_examples=200, deadline=None)
@given(st.lists(PACKETS, min_size=1, max_size=4).map(tuple))
def test_parse_and_serialize_are_inverse(packets: tuple[RtcpPacket, ...]) -> None:
    data = serialize(packets)
    assert len(data) % 4 == 0
    assert parse(data) == packets


def test_a_captured_sender_report() -> None:
    (report,) = parse(LIBAVFORMAT)
    assert report == SenderReport(0xBDE5FDF6, 0xEEAC3C95D3F7CED9, 0x9130DEBA, 0, 0)
    assert serialize((report,)) == LIBAVFORMAT


def test_a_compound_packet_octet_by_octet() -> None:
    """RFC 3550 §6.4.2, §6.5, §6.6."""
    data = bytes.fromhex(
        "81c90007 00000001 00000002 40ffffff 00010005 00000050 12345678 00010000"  # RR of one source
        "81ca0003 00000001 01056140 622e6300"  # SDES: CNAME of five octets, and the null that ends the items
        "81cb0003 00000001 03627965 00000000"  # BYE: a reason of three octets, and a word of nothing
    )
    report, description, bye = parse(data)
    assert report == ReceiverReport(1, (ReportBlock(2, 64, -1, 0x10005, 80, 0x12345678, 65536),))
    assert description == SourceDescription(((1, ((CNAME, b"a@b.c"),)),))
    assert bye == Bye((1,), b"bye")


class TestAgainstAiortc:
    @settings(derandomize=True, max_examples=100, deadline=None)
    @given(REPORTS, WORD, st.integers(0, 2**64 - 1), st.text(min_size=1, max_size=20))
    def test_it_reads_what_we_write(self, reports: tuple[ReportBlock, ...], ssrc: int, ntp: int, name: str) -> None:
        cname = name.encode()[:255]
        data = serialize(
            (
                SenderReport(ssrc, ntp, 160, 7, 1120, reports),
                SourceDescription(((ssrc, ((CNAME, cname),)),)),
                Bye((ssrc,), b"call ended"),
            )
        )
        sender, description, bye = oracle.RtcpPacket.parse(data)
        assert isinstance(sender, oracle.RtcpSrPacket)
        assert isinstance(description, oracle.RtcpSdesPacket)
        assert isinstance(bye, oracle.RtcpByePacket)
        info = sender.sender_info
        assert (sender.ssrc, info.ntp_timestamp, info.rtp_timestamp) == (ssrc, ntp, 160)
        assert (info.packet_count, info.octet_count) == (7, 1120)
        assert [self._block(report) for report in sender.reports] == list(reports)
        assert [(chunk.ssrc, chunk.items) for chunk in description.chunks] == [(ssrc, [(CNAME, cname)])]
        assert bye.sources == [ssrc]

    @settings(derandomize=True, max_examples=100, deadline=None)
    @given(REPORTS, WORD, ITEMS)
    def test_we_read_what_it_writes(
        self, reports: tuple[ReportBlock, ...], ssrc: int, items: tuple[tuple[int, bytes], ...]
    ) -> None:
        theirs = [
            oracle.RtcpReceiverInfo(
                ssrc=block.ssrc,
                fraction_lost=block.fraction_lost,
                packets_lost=block.lost,
                highest_sequence=block.extended_highest,
                jitter=block.jitter,
                lsr=block.lsr,
                dlsr=block.dlsr,
            )
            for block in reports
        ]
        description = oracle.RtcpSdesPacket([oracle.RtcpSourceInfo(ssrc, [(kind, text) for kind, text in items])])
        data = (
            bytes(oracle.RtcpRrPacket(ssrc, theirs))
            + bytes(description)
            + bytes(oracle.RtcpPsfbPacket(fmt=1, ssrc=ssrc, media_ssrc=2))
            + bytes(oracle.RtcpByePacket([ssrc, 5]))
        )
        report, chunk, feedback, bye = parse(data)
        assert report == ReceiverReport(ssrc, reports)
        assert chunk == SourceDescription(((ssrc, items),))
        assert feedback == OtherPacket(206, 1, struct.pack("!II", ssrc, 2))
        assert bye == Bye((ssrc, 5))

    def test_what_we_take_of_damaged_packets_it_takes_too(self) -> None:
        """Where both take one they say the same of its reports."""
        chance = random.Random(7)
        block = ReportBlock(2, 3, 4, 5, 6, 7, 8)
        whole = serialize(
            (
                SenderReport(1, 2, 3, 4, 5, (block,)),
                SourceDescription(((1, ((CNAME, b"c"),)),)),
                OtherPacket(205, 15, b"\0" * 12),
                Bye((1,), b"why"),
            )
        )
        both = 0
        for _ in range(3000):
            data = bytearray(whole)
            for _ in range(chance.randrange(1, 3)):
                data[chance.randrange(len(data))] = chance.randrange(256)
            try:
                ours = parse(bytes(data))
                theirs = oracle.RtcpPacket.parse(bytes(data))
            except (RtpError, ValueError):
                continue
            both += 1
            mine = [report for packet in ours if isinstance(packet, SenderReport) for report in packet.reports]
            other = [
                report for packet in theirs if isinstance(packet, oracle.RtcpSrPacket) for report in packet.reports
            ]
            assert [self._block(report) for report in other] == mine
        assert both > 500

    @staticmethod
    def _block(info: oracle.RtcpReceiverInfo) -> ReportBlock:
        return ReportBlock(
            info.ssrc,
            info.fraction_lost,
            info.packets_lost,
            info.highest_sequence,
            info.jitter,
            info.lsr,
            info.dlsr,
        )


RR = bytes.fromhex("80c9000100000001")

BROKEN = {
    "empty": b"",
    "a header that is cut off": b"\x80\xc9\x00",
    "version 1": b"\x40" + RR[1:],
    "longer than it is": b"\x80\xc9\x00\x02" + RR[4:],
    "octets left over": RR + b"\0",
    "no packet type of RTCP": b"\x80\x00" + RR[2:],
    "a second packet of version 0": RR + b"\0" * 4,
    "a report without an SSRC": bytes.fromhex("80c90000"),
    "a report block that is missing": b"\x81" + RR[1:],
    "a sender report without its figures": bytes.fromhex("80c8000100000001"),
    "padding before the last packet": bytes.fromhex("a0c900020000000100000004") + RR,
    "no octets of padding": bytes.fromhex("a0c900020000000100000000"),
    "padding beyond its packet": bytes.fromhex("a0c9000200000001000000ff"),
    "padding that is no whole word": bytes.fromhex("a0c900020000000100000003"),
    "padding in a packet without a body": bytes.fromhex("a0c90000"),
    "an SDES chunk that is missing": bytes.fromhex("82ca00020000000101000000"),
    "an SDES item that is cut off": bytes.fromhex("81ca00020000000101ff6161"),
    "a BYE without its sources": bytes.fromhex("82cb000100000001"),
    "a reason that is cut off": bytes.fromhex("81cb00020000000109616161"),
}


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN.keys())
def test_what_is_broken_is_refused(data: bytes) -> None:
    with pytest.raises(RtpError):
        parse(data)


@settings(derandomize=True, max_examples=1000, deadline=None)
@given(st.binary(max_size=60) | st.binary(max_size=60).map(lambda tail: b"\x81\xca" + tail))
def test_whatever_comes_is_parsed_or_refused(data: bytes) -> None:
    try:
        packets = parse(data)
    except RtpError:
        return
    assert packets
    assert parse(serialize(packets)) == packets


def test_a_datagram_with_hundreds_of_packets_is_refused() -> None:
    byes = [Bye(())] * 33
    assert len(parse(serialize(byes[:32]))) == 32
    with pytest.raises(RtpError, match="too many"):
        parse(serialize(byes))


def test_padding_of_the_last_packet_is_taken_off() -> None:
    """RFC 3550 §6.4.1: encryption may need it."""
    assert parse(RR + bytes.fromhex("a0c900030000000200000000 00000008")) == (ReceiverReport(1), ReceiverReport(2))


def test_reduced_size_packets_are_taken() -> None:
    """RFC 5506: no report comes first."""
    assert parse(bytes.fromhex("81cb000100000001")) == (Bye((1,)),)
    assert parse(bytes.fromhex("81ce00020000000100000002")) == (OtherPacket(206, 1, bytes.fromhex("0000000100000002")),)


def test_a_source_description_without_the_last_null() -> None:
    """Its item fills the word; where the packet ends the list of items does, too."""
    assert parse(bytes.fromhex("81ca00020000000101026162")) == (SourceDescription(((1, ((CNAME, b"ab"),)),)),)


@pytest.mark.parametrize(
    "packet",
    [
        ReceiverReport(-1),
        ReceiverReport(1, (ReportBlock(2, 256, 0, 0, 0, 0, 0),)),
        ReceiverReport(1, (ReportBlock(2, 0, 0x800000, 0, 0, 0, 0),)),
        ReceiverReport(1, (ReportBlock(2, 0, 0, 0, 0, 0, 0),) * 32),
        ReceiverReport(1, extension=b"abc"),
        SenderReport(1, 2**64, 0, 0, 0),
        SourceDescription(((1, ((CNAME, b"x" * 256),)),)),
        SourceDescription(((1, ((0, b"x"),)),)),
        Bye((1,), b"x" * 256),
        OtherPacket(205, 1, b"abc"),
    ],
)
def test_what_does_not_fit_is_not_written(packet: RtcpPacket) -> None:
    with pytest.raises(RtpError):
        serialize((packet,))
