"""RTCP over real sockets, with a telephone written by hand. The engine's clock is moved, so nobody waits."""

from __future__ import annotations

import socket
from dataclasses import replace

import pytest

from sipbridge import codecs
from sipbridge.media import rtcp
from sipbridge.media.engine import MediaEngine
from sipbridge.media.params import MediaParams, MediaSettings
from sipbridge.media.rtcp import CNAME, Bye, ReceiverReport, ReportBlock, SenderReport, SourceDescription
from sipbridge.media.rtp import RtpPacket, is_rtcp
from tests.loopback.house import house
from tests.loopback.phone import describe

SSRC = 0x77
WALL = 1_800_000_000.0


class Telephone:
    """Sends SR, hears SR, RR and BYE: over its own port beside RTP's, or (`mux`) over RTP's."""

    def __init__(self, *, mux: bool, direction: str = "sendrecv") -> None:
        self.now = 500.0
        self.mux = mux
        self.engine = MediaEngine(
            MediaSettings(ports=range(42400, 42600)), clock=lambda: self.now, wall_clock=lambda: WALL
        )
        self.rtp, self.rtcp = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
        for sock in (self.rtp, self.rtcp):
            sock.bind(("127.0.0.1", 0))
            sock.setblocking(False)
        self.local = self.engine.reserve()
        params = MediaParams(codecs.PCMU, self.rtp.getsockname(), payload_type_send=0, payload_type_receive=0)
        params = replace(params, direction=direction, rtcp_mux=mux)  # type: ignore[arg-type]
        if not mux:
            params = replace(params, remote_rtcp=self.rtcp.getsockname())
        self.handle = self.engine.start(self.local, params)
        self.number = self.ticks = 0
        self.packets: list[RtpPacket] = []
        self.datagrams: list[tuple[rtcp.RtcpPacket, ...]] = []

    def talk(self, seconds: float) -> None:
        for _ in range(round(seconds / 0.005)):
            self.now += 0.005
            self.ticks += 1
            if self.ticks % 4 == 0:
                packet = RtpPacket(0, self.number, self.number * 160, SSRC, b"\xff" * 160)
                self.rtp.sendto(packet.serialize(), (self.local.address, self.local.port))
                self.number += 1
            self.engine.tick()
            self.engine.collect()
            self.listen()

    def listen(self) -> None:
        for sock in (self.rtp, self.rtcp):
            while True:
                try:
                    data = sock.recv(2048)
                except BlockingIOError:
                    break
                if is_rtcp(data):
                    assert (sock is self.rtp) == self.mux
                    self.datagrams.append(rtcp.parse(data))
                else:
                    self.packets.append(RtpPacket.parse(data))

    def send(self, *packets: rtcp.RtcpPacket) -> None:
        sock, port = (self.rtp, self.local.port) if self.mux else (self.rtcp, self.local.port + 1)
        sock.sendto(rtcp.serialize(packets), (self.local.address, port))

    def until_report(self) -> rtcp.RtcpPacket:
        count = len(self.datagrams)
        while len(self.datagrams) == count:
            self.talk(0.005)
        return self.datagrams[-1][0]

    def __enter__(self) -> Telephone:
        return self

    def __exit__(self, *_: object) -> None:
        self.engine.shut_down()
        self.rtp.close()
        self.rtcp.close()


@pytest.mark.parametrize("mux", [False, True])
def test_reports_both_ways_and_bye(mux: bool) -> None:
    with Telephone(mux=mux) as phone:
        first = phone.until_report()
        assert isinstance(first, SenderReport)
        assert 1.0 < phone.now - 500 < 3.2
        phone.send(
            SenderReport(SSRC, 0x0000AAAABBBB0000, 0, phone.number, phone.number * 160),
            SourceDescription(((SSRC, ((CNAME, b"phone"),)),)),
        )
        phone.number += 10  # lost
        second = phone.until_report()
        assert isinstance(second, SenderReport)
        assert second.ssrc == phone.packets[-1].ssrc
        assert second.packets == len(phone.packets)
        (block,) = second.reports
        assert (block.ssrc, block.lost, block.lsr) == (SSRC, 10, 0xAAAABBBB)
        assert 0 < block.dlsr / 65536 < 8
        assert second.ntp / 2**32 - 2_208_988_800 == pytest.approx(WALL + phone.now - 500, abs=0.001)
        phone.talk(1.0)
        held = ReportBlock(second.ssrc, 26, 3, 0, 160, second.ntp >> 16 & 0xFFFFFFFF, int(0.9 * 65536))
        phone.send(SenderReport(SSRC, 1 << 40, 0, 9, 9, (held,)))
        phone.talk(0.02)
        session = phone.engine._seats[phone.handle].leg.rtcp.session
        assert session is not None
        assert (session.remote_lost, session.remote_jitter_ms) == (3, 20.0)
        assert session.round_trip_ms == pytest.approx(100, abs=8)  # to the tick
        phone.engine.close(phone.handle, "caller_hung_up")
        phone.listen()
        report, description, bye = phone.datagrams[-1]
        assert isinstance(report, SenderReport)
        assert isinstance(description, SourceDescription)
        assert len(description.chunks[0][1][0][1]) == 16
        assert bye == Bye((second.ssrc,), b"caller_hung_up")


def test_while_we_may_not_send_it_is_receiver_reports() -> None:
    with Telephone(mux=False, direction="recvonly") as phone:
        report = phone.until_report()
        assert isinstance(report, ReceiverReport)
        assert report.reports[0].ssrc == SSRC
        assert phone.packets == []


def test_a_bye_of_theirs_is_not_the_end() -> None:
    with Telephone(mux=False) as phone:
        phone.talk(0.5)
        phone.send(ReceiverReport(SSRC), Bye((SSRC,), b"gone"))
        phone.talk(0.5)
        stats = phone.engine.stats(phone.handle)
        assert stats.packets_received == phone.number
        assert (stats.rtcp_received, stats.rtcp_ignored) == (1, 0)


async def test_a_call_that_agreed_on_one_port_for_both() -> None:
    """RFC 5761 §5.1.1: offered, answered, and used in both directions."""
    async with house() as bench:
        phone = await bench.phone()
        heard: list[bytes] = []
        hear = phone.audio.datagram_received

        def sort(data: bytes, addr: tuple[str, int]) -> None:
            if is_rtcp(data):
                heard.append(data)
                phone.audio.changed()
            else:
                hear(data, addr)

        phone.audio.datagram_received = sort  # type: ignore[method-assign]
        answer = await phone.call(describe(phone.audio.address, more="a=rtcp-mux\r\n"))
        assert b"a=rtcp-mux\r\n" in answer.body
        await phone.audio.hear(5)
        phone.audio.send_raw(rtcp.serialize((ReceiverReport(SSRC), SourceDescription(((SSRC, ((CNAME, b"p"),)),)))))
        await phone.audio.hear(5)
        await phone.hang_up()
        await phone.audio.until(lambda: len(heard) > 0)
        report, _, bye = rtcp.parse(heard[-1])
        assert isinstance(report, SenderReport)
        assert isinstance(bye, Bye)
        assert bye.reason == b"caller_hung_up"
        (leg,) = (await bench.report()).audio.legs
        assert (leg.stats.rtcp_received, leg.stats.rtcp_ignored) == (1, 0)
