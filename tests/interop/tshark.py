"""tshark's analysis of RTP: a second opinion on our own figures.

It works on files, which need no right to capture. Payload types above 95 and their clock rates it knows from the SDP
of an answered call, so a file begins with one.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.interop.peers import require
from tests.pcap import Address, Datagram, write_pcap


@dataclass(frozen=True)
class Stream:
    """A line of `-z rtp,streams`; times in milliseconds."""

    ssrc: int
    payloads: frozenset[str]
    packets: int
    lost: int
    mean_delta: float
    max_delta: float
    mean_jitter: float
    max_jitter: float
    problems: bool
    """Wrong sequence numbers or timestamps, whatever they come from."""


@dataclass(frozen=True)
class Packet:
    ssrc: int
    payload_type: int
    sequence_number: int
    timestamp: int
    marker: bool
    event: int | None
    """Of a telephone-event."""


def analyse(capture: Path) -> tuple[list[Stream], list[Packet]]:
    """The streams in it, and all RTP packets in the order of the file."""
    fields = ("rtp.ssrc", "rtp.p_type", "rtp.seq", "rtp.timestamp", "rtp.marker", "rtpevent.event_id")
    options = [option for name in fields for option in ("-e", name)]
    output = _tshark(capture, "-Y", "rtp", "-T", "fields", *options, "-z", "rtp,streams")
    rows, table = output.split("=" * 10, 1)
    streams = [line.rsplit("%)", 1) for line in table.splitlines() if "%)" in line]
    return (
        [_stream(left.split(), right.split()) for left, right in streams],
        [_packet(row.split("\t")) for row in rows.splitlines()],
    )


def write_call(path: Path, datagrams: Sequence[Datagram], formats: str) -> Path:
    """A file of these packets, after the SDP of a call between the two ends of the first one. `formats`: what is after
    RTP/AVP in its m= line, and its attributes (each `a=` on a line of its own)."""
    caller, callee = datagrams[0].source, datagrams[0].target
    begin = datagrams[0].at
    said = (("INVITE sip:b@example.com SIP/2.0", caller, callee), ("SIP/2.0 200 OK", callee, caller))
    return write_pcap(path, [*(_sip(*what, formats, begin) for what in said), *datagrams])


def _sip(first: str, source: Address, target: Address, formats: str, at: float) -> Datagram:
    head, *attributes = formats.splitlines()
    sdp = ("v=0", f"o=- 1 1 IN IP4 {source[0]}", "s=-", f"c=IN IP4 {source[0]}", "t=0 0")
    body = "".join(f"{line}\r\n" for line in (*sdp, f"m=audio {source[1]} RTP/AVP {head}", *attributes))
    lines = (
        first,
        "Via: SIP/2.0/UDP 127.0.0.1;branch=z9hG4bK1",
        "From: <sip:a@example.com>;tag=1",
        "To: <sip:b@example.com>;tag=2",
        "Call-ID: 1",
        "CSeq: 1 INVITE",
        "Content-Type: application/sdp",
        f"Content-Length: {len(body)}",
    )
    return Datagram(at, (source[0], 5060), (target[0], 5060), ("\r\n".join((*lines, "", "")) + body).encode())


def _stream(left: list[str], right: list[str]) -> Stream:
    # start end source port target port SSRC payload[, payload...] packets lost (share%) | six times [X]
    *payloads, packets, lost, _ = left[7:]
    _, mean_delta, max_delta, _, mean_jitter, max_jitter = (float(word) for word in right[:6])
    return Stream(
        ssrc=int(left[6], 16),
        payloads=frozenset(name.rstrip(",") for name in payloads),
        packets=int(packets),
        lost=int(lost),
        mean_delta=mean_delta,
        max_delta=max_delta,
        mean_jitter=mean_jitter,
        max_jitter=max_jitter,
        problems=right[6:] == ["X"],
    )


def _packet(fields: list[str]) -> Packet:
    ssrc, kind, number, timestamp, marker, event = fields
    return Packet(
        ssrc=int(ssrc, 16),
        payload_type=int(kind),
        sequence_number=int(number),
        timestamp=int(timestamp),
        marker=marker in ("1", "True"),
        event=int(event) if event else None,
    )


def _tshark(capture: Path, *options: str) -> str:
    done = subprocess.run(
        [require("tshark"), "-n", "-r", str(capture), *options], capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
