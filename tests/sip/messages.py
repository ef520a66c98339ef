"""An ordinary INVITE to take apart, and to spoil."""

from __future__ import annotations

from sipbridge.sip.message import Request, parse_message

BODY = b"v=0\r\n"
FIELDS = (
    (b"Via", b"SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK1;rport"),
    (b"Via", b"SIP/2.0/TCP 192.0.2.2;branch=z9hG4bK2"),
    (b"Record-Route", b"<sip:192.0.2.1;lr>, <sip:192.0.2.2;lr>"),
    (b"Record-Route", b"<sip:192.0.2.3;lr>"),
    (b"Max-Forwards", b"70"),
    (b"From", b'"Alice, A." <sip:alice@example.com>;tag=a1'),
    (b"To", b"<sip:+15550100@gw.example.com>"),
    (b"Call-ID", b"abc@192.0.2.2"),
    (b"CSeq", b"7 INVITE"),
    (b"Contact", b"<sip:alice@192.0.2.2>"),
    (b"Supported", b"timer, 100rel"),
    (b"Timestamp", b"54.2"),
    (b"X-Trunk", b"  one two\t"),
    (b"Content-Type", b"application/sdp ; charset=utf-8"),
    (b"Content-Length", b"5"),
)


def build(
    *extra: bytes,
    start: bytes = b"INVITE sip:+15550100@gw.example.com SIP/2.0",
    body: bytes = BODY,
    **changed: bytes | None,
) -> bytes:
    """The INVITE above with a header field's value changed (None: left out), and with extra lines."""
    values = {name.replace("_", "-").encode().lower(): value for name, value in changed.items()}
    lines = [start]
    for name, value in FIELDS:
        new = values.get(name.lower(), value)
        if new is not None:
            lines.append(name + b": " + new)
    return b"\r\n".join([*lines, *extra]) + b"\r\n\r\n" + body


INVITE = build()


def parse_request(data: bytes) -> Request:
    message = parse_message(data)
    assert isinstance(message, Request)
    return message
