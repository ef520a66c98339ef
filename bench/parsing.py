"""What reading and writing one request takes, alone."""

from __future__ import annotations

import time

from sipbridge.sip.message import parse_message

# As a PBX sends it: two Vias, a route, an identity, a session description of three codecs.
_SDP = """v=0
o=- 1714 1714 IN IP4 192.0.2.10
s=PBX
c=IN IP4 192.0.2.10
t=0 0
m=audio 14022 RTP/AVP 0 8 101
a=rtpmap:0 PCMU/8000
a=rtpmap:8 PCMA/8000
a=rtpmap:101 telephone-event/8000
a=fmtp:101 0-16
a=ptime:20
a=maxptime:150
a=sendrecv
"""
_HEAD = """INVITE sip:+15550100@192.0.2.1:5060 SIP/2.0
Via: SIP/2.0/UDP 192.0.2.20:5060;branch=z9hG4bK1f2e3d4c5b6a;rport
Via: SIP/2.0/UDP 192.0.2.10:5060;branch=z9hG4bKPj1d2c3b4a59687766;received=192.0.2.10;rport=5060
Record-Route: <sip:192.0.2.20;lr;ftag=8d1c2b3a>
Max-Forwards: 69
From: "Alice Example" <sip:+15550142@pbx.example.com>;tag=8d1c2b3a
To: <sip:+15550100@sipbridge.example.com>
Contact: <sip:asterisk@192.0.2.10:5060>
Call-ID: 6f5e4d3c2b1a0918@192.0.2.10
CSeq: 20413 INVITE
Allow: OPTIONS, REGISTER, SUBSCRIBE, NOTIFY, PUBLISH, INVITE, ACK, BYE, CANCEL, UPDATE, PRACK, REFER, MESSAGE
Supported: 100rel, timer, replaces, norefersub
Session-Expires: 1800
Min-SE: 90
P-Asserted-Identity: "Alice Example" <sip:+15550142@pbx.example.com>
User-Agent: Example PBX 22.1
Content-Type: application/sdp
Content-Length: LENGTH
"""


def _invite() -> bytes:
    body = _SDP.replace("\n", "\r\n")
    return (_HEAD.replace("LENGTH", str(len(body))) + "\n").replace("\n", "\r\n").encode() + body.encode()


def microseconds_per_invite(rounds: int = 20_000) -> float:
    """Bytes -> request with the header fields read that every INVITE needs -> bytes."""
    data = _invite()
    began = time.perf_counter()
    for _ in range(rounds):
        request = parse_message(data)
        _ = request.via, request.from_, request.to, request.cseq, request.contacts, request.record_routes
        request.serialize()
    return (time.perf_counter() - began) / rounds * 1e6
