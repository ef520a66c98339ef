"""SIP in WebSocket messages: a `websockets` client's octets against our framer, without a socket."""

from __future__ import annotations

import pytest
from websockets.client import ClientProtocol
from websockets.frames import Close, Frame, Opcode
from websockets.http11 import Response
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

from sipbridge.errors import StreamFramingError
from sipbridge.sip.framing import Keepalive
from sipbridge.sip.websocket import WebSocketFramer

MESSAGE = b"OPTIONS sip:a@b.invalid SIP/2.0\r\n\r\n"


class Client:
    def __init__(self, *subprotocols: str) -> None:
        offered = [Subprotocol(name) for name in subprotocols] or None
        self.protocol = ClientProtocol(parse_uri("ws://127.0.0.1/"), subprotocols=offered)
        self.protocol.send_request(self.protocol.connect())

    def sent(self) -> bytes:
        return b"".join(self.protocol.data_to_send())

    def receive(self, data: bytes) -> list[object]:
        self.protocol.receive_data(data)
        return list(self.protocol.events_received())


def connected(max_message: int = 1000) -> tuple[WebSocketFramer, Client]:
    framer, client = WebSocketFramer(max_message), Client("sip")
    assert framer.feed(client.sent()) == []
    (response,) = client.receive(framer.data_to_send())
    assert isinstance(response, Response)
    assert (response.status_code, response.headers["Sec-WebSocket-Protocol"]) == (101, "sip")
    assert not framer.pending
    return framer, client


def test_each_websocket_message_is_a_message_text_or_binary() -> None:
    framer, client = connected()
    client.protocol.send_text(MESSAGE)
    client.protocol.send_binary(MESSAGE + b"\xff")
    assert framer.feed(client.sent()) == [MESSAGE, MESSAGE + b"\xff"]


def test_octet_by_octet_it_is_the_same() -> None:
    framer, client = connected()
    client.protocol.send_text(MESSAGE)
    found = []
    for octet in client.sent():
        found += framer.feed(bytes([octet]))
        assert framer.pending is (not found)
    assert found == [MESSAGE]


def test_fragments_are_put_together_and_control_frames_may_stand_between() -> None:
    framer, client = connected()
    client.protocol.send_text(MESSAGE[:5], fin=False)
    client.protocol.send_ping(b"?")
    client.protocol.send_continuation(MESSAGE[5:9], fin=False)
    assert framer.feed(client.sent()) == []
    assert framer.pending
    client.protocol.send_continuation(MESSAGE[9:], fin=True)
    assert framer.feed(client.sent()) == [MESSAGE]
    assert not framer.pending
    assert client.receive(framer.data_to_send()), "the ping's pong"


def test_ours_goes_as_text_and_as_binary_where_it_is_none() -> None:
    framer, client = connected()
    (text,) = client.receive(framer.wrap(MESSAGE))
    (binary,) = client.receive(framer.wrap(b"\xff"))
    assert isinstance(text, Frame)
    assert isinstance(binary, Frame)
    assert (text.opcode is Opcode.TEXT, bytes(text.data)) == (True, MESSAGE)
    assert (binary.opcode is Opcode.TEXT, bytes(binary.data)) == (False, b"\xff")


def test_a_ping_of_crlf_is_told() -> None:
    framer, client = connected()
    for data in (b"\r\n\r\n", b"\r\n", b""):
        client.protocol.send_text(data)
    assert framer.feed(client.sent()) == [Keepalive.PING]


@pytest.mark.parametrize("offered", [[], ["chat"], ["mqtt", "chat"]])
def test_who_does_not_offer_sip_is_refused(offered: list[str]) -> None:
    framer, client = WebSocketFramer(1000), Client(*offered)
    with pytest.raises(StreamFramingError, match="subprotocol"):
        framer.feed(client.sent())
    (response,) = client.receive(framer.data_to_send())
    assert isinstance(response, Response)
    assert response.status_code == 400


@pytest.mark.parametrize(
    "data",
    [
        MESSAGE,
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\r\n\r\n",
        b"GET /" + b"a" * 20_000,
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 3000,
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 2,
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\nno upgrade\r\n\r\n",
    ],
    ids=["sip", "no upgrade", "post", "tls", "a long line", "many fields", "two", "and more"],
)
def test_what_is_no_handshake_is_refused(data: bytes) -> None:
    framer = WebSocketFramer(1000)
    with pytest.raises(StreamFramingError):
        framer.feed(data)
    with pytest.raises(StreamFramingError):
        framer.feed(b"more")
    assert framer.wrap(b"x") == b""


@pytest.mark.parametrize("fragments", [1, 50])
def test_a_message_that_is_too_long_ends_it(fragments: int) -> None:
    framer, client = connected(max_message=1000)
    part = b"x" * (1200 // fragments)
    client.protocol.send_text(part, fin=fragments == 1)
    for number in range(1, fragments):
        client.protocol.send_continuation(part, fin=number == fragments - 1)
    with pytest.raises(StreamFramingError):
        framer.feed(client.sent())
    client.receive(framer.data_to_send())
    assert client.protocol.close_rcvd is not None
    assert client.protocol.close_rcvd.code == 1009


@pytest.mark.parametrize("data", [b"\x81\x05hello", b"\xf1\x80abcd", b"\x80\x80abcd"], ids=["bare", "rsv", "alone"])
def test_frames_that_break_the_protocol_end_it(data: bytes) -> None:
    framer, _ = connected()
    with pytest.raises(StreamFramingError):
        framer.feed(data)


def test_messages_before_the_break_are_handed_out() -> None:
    framer, client = connected()
    client.protocol.send_text(MESSAGE)
    assert framer.feed(client.sent() + b"\x81\x05hello") == [MESSAGE]
    assert framer.broken is not None


def test_the_peer_s_good_bye_is_answered() -> None:
    framer, client = connected()
    client.protocol.send_close(1000)
    assert framer.feed(client.sent()) == []
    assert framer.ended
    assert framer.broken is None
    client.receive(framer.data_to_send())
    assert client.protocol.close_rcvd == Close(1000, "")
    assert framer.wrap(MESSAGE) == b""


def test_our_good_bye() -> None:
    framer, client = connected()
    framer.close()
    client.receive(framer.data_to_send())
    assert client.protocol.close_rcvd is not None
    assert client.protocol.close_rcvd.code == 1001
