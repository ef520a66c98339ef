"""What mutations begin with: the torture messages, and messages and descriptions of our own."""

from __future__ import annotations

from pathlib import Path

from tests.sip.messages import INVITE
from tests.sip.wire import in_dialog, request

DATA = Path(__file__).parent.parent / "data"

OFFER = (
    b"v=0\r\no=- 3747 1 IN IP4 192.0.2.2\r\ns=-\r\nc=IN IP4 192.0.2.2\r\nb=AS:64\r\nt=0 0\r\na=sendrecv\r\n"
    b"m=audio 49170/2 RTP/AVP 0 8 9 96 101\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:96 opus/48000/2\r\n"
    b"a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\na=ptime:20\r\na=maxptime:60\r\n"
    b"a=rtcp:49180 IN IP4 192.0.2.3\r\n"
    b"m=video 0 RTP/AVP 31\r\n"
)
DESCRIPTIONS = [
    OFFER,
    b"v=0\r\no=- 1 2 IN IP6 2001:db8::2\r\ns=-\r\nc=IN IP6 2001:db8::2\r\nt=0 0\r\nm=audio 4000 RTP/AVP 8\r\n"
    b"a=sendonly\r\n",
    b"v=0\no=- 1 2 IN IP4 0.0.0.0\ns=-\nt=0 0\nm=audio 4000 RTP/AVP 0\nc=IN IP4 0.0.0.0\na=inactive\n"
    b"m=image 4002 udptl t38\n",
    b"v=0\r\no=- 1 2 IN IP4 h\r\ns=-\r\nt=0 0\r\nm=audio 4000 RTP/SAVP 0\r\n"
    b"a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:a\r\n",
]

REQUESTS = [
    INVITE,
    request("OPTIONS"),
    request("ACK"),
    request("CANCEL"),
    request("REGISTER", headers=("Contact: <sip:a@192.0.2.2>;expires=60;q=0.5", "Path: <sip:p;lr>", "Expires: 60")),
    request(
        "INVITE", body=OFFER, headers=("Supported: 100rel, timer", "Session-Expires: 90;refresher=uac", "Min-SE: 90")
    ),
    request("INVITE", headers=("Replaces: call2;to-tag=1;from-tag=2;early-only", "Require: replaces")),
    request("INVITE", uri="tel:+15550100;phone-context=example.com", from_="<tel:5550101>;tag=t"),
    request("INVITE", via="SIP/2.0/TCP [2001:db8::2]:5060;branch=z9hG4bK6;rport;received=2001:db8::3"),
    in_dialog("BYE", "t2", headers=('Reason: Q.850;cause=16;text="normal", SIP;cause=200',)),
    in_dialog("UPDATE", "t2", body=OFFER, content_type="application/sdp"),
    in_dialog("PRACK", "t2", headers=("RAck: 1 1 INVITE",)),
    in_dialog("INFO", "t2", body=b"Signal=5\r\nDuration=160\r\n", content_type="application/dtmf-relay"),
    in_dialog("REFER", "t2", headers=("Refer-To: <sip:c@h?Replaces=a%3Bto-tag%3Db>", "Referred-By: <sip:b@h>")),
    in_dialog(
        "NOTIFY",
        "t2",
        headers=("Event: refer;id=2", "Subscription-State: terminated;reason=noresource"),
        body=b"SIP/2.0 200 OK\r\n",
        content_type="message/sipfrag;version=2.0",
    ),
    request(
        "INVITE",
        headers=('v: SIP/2.0/UDP a;branch=z9hG4bK2, SIP/2.0/TLS b;branch="z9"', "Record-Route: <sip:a;lr>,<sip:b;lr>"),
        body=b"--x\r\nContent-Type: application/sdp\r\n\r\nv=0\r\n"
        b"--x\r\nContent-Disposition: x;handling=optional\r\n\r\n--x--",
        content_type='multipart/mixed;boundary="x"',
    ),
]
RESPONSES = [
    b"SIP/2.0 183 Session Progress\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKt1;rport=5060;received=192.0.2.1\r\n"
    b"From: <sip:a@h>;tag=t1\r\nTo: <sip:b@h>;tag=b1\r\nCall-ID: t2\r\nCSeq: 1 INVITE\r\nContact: <sip:b@192.0.2.2>\r\n"
    b"Require: 100rel\r\nRSeq: 7\r\nRecord-Route: <sip:p;lr>\r\nContent-Type: application/sdp\r\n"
    b"Content-Length: 5\r\n\r\nv=0\r\n",
    b"SIP/2.0 401 Unauthorized\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKt1\r\nFrom: <sip:a@h>;tag=t1\r\n"
    b'To: <sip:b@h>;tag=b1\r\nCall-ID: t2\r\nCSeq: 1 INVITE\r\nWWW-Authenticate: Digest realm="r", nonce="n",'
    b' qop="auth,auth-int", algorithm=SHA-256, stale=true, opaque="o"\r\nRetry-After: 5 (busy);duration=60\r\n\r\n',
]
TORTURE = [path.read_bytes() for rfc in ("rfc4475", "rfc5118") for path in sorted((DATA / rfc).glob("*.dat"))]
MESSAGES = [*REQUESTS, *RESPONSES, *TORTURE]

SIP_WORDS = [
    b"SIP/2.0", b"sip:", b"sips:", b"tel:", b"<sip:a@h>", b";tag=x", b";branch=z9hG4bK", b";lr", b";rport", b";maddr=h",
    b"Via: ", b"v: ", b"From: ", b"f: ", b"To: ", b"Call-ID: ", b"CSeq: ", b"Contact: ", b"m: ", b"Content-Length: ",
    b"l: ", b"Content-Type: ", b"Max-Forwards: ", b"Route: ", b"Record-Route: ", b"Require: ", b"Supported: ",
    b"Reason: ", b"Session-Expires: ", b"Replaces: ", b"RAck: ", b"Event: ", b"Accept: ",
    b"Content-Encoding: gzip", b"Expires: ",
    b"INVITE", b"ACK", b"BYE", b"CANCEL", b"100rel", b"timer", b"replaces", b"[::1]", b"[2001:db8:::192.0.2.1]",
]  # fmt: skip
