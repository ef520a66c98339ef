"""A telephone that is called: bound before there is a gateway, so that a trunk's configuration can name it."""

from __future__ import annotations

import asyncio
from typing import Self

from tests.loopback.earpiece import Address, Earpiece
from tests.loopback.phone import Headers, Line, Message, Phone, describe


class _Open(asyncio.DatagramProtocol):
    def __init__(self, callee: Callee) -> None:
        self._callee = callee

    def datagram_received(self, data: bytes, addr: Address) -> None:
        self._callee.arrived(data, addr)


class _OpenLine(Line):
    """UDP to whoever was heard last."""

    peer: Address | None = None

    def send(self, data: bytes) -> None:
        self._transport.sendto(data, self.peer)


class Callee(Phone):
    """`await Callee.listen()`; then `await callee.expect("INVITE")` and what is to be answered."""

    _line: _OpenLine

    @classmethod
    async def listen(cls, host: str = "127.0.0.1") -> Self:
        callee = cls(await Earpiece.open(host), "callee")
        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: _Open(callee), local_addr=(host, 0)
        )
        callee._line = _OpenLine(transport)
        return callee

    def towards(self, gateway: Address) -> None:
        """Before it calls itself: whom."""
        self._line.peer = gateway

    def arrived(self, data: bytes, source: Address) -> None:
        self._line.peer = source
        if data.startswith(b"OPTIONS "):
            self.respond(Message.parse(data), 200)
        else:
            self._received(data)

    @property
    def trunk(self) -> str:
        """This telephone as a trunk's proxy."""
        return f"sip:{self.here}"

    def reply(
        self,
        invite: Message,
        status: int,
        reason: str = "Whatever",
        *,
        body: bytes = b"",
        headers: Headers = (),
        contact: str = "",
    ) -> None:
        """To an INVITE, with a tag of ours; from then on requests of ours are of its dialog."""
        self.call_id = invite["Call-ID"]
        self.tag = self.tag if self.to == invite["From"] else f"callee-{self.call_id[:8]}"
        self.to = invite["From"]
        self.target = invite["Contact"].partition("<")[2].partition(">")[0]
        copied = [(n, v) for n, v in invite.headers if n.lower() in ("via", "from", "call-id", "cseq")]
        fields = [
            *copied,
            ("To", f"{invite['To']};tag={self.tag}"),
            ("Contact", contact or f"<sip:phone@{self.here}>"),
            *headers,
            *([("Content-Type", "application/sdp")] if body else []),
            ("Content-Length", str(len(body))),
        ]
        text = f"SIP/2.0 {status} {reason}\r\n" + "".join(f"{name}: {value}\r\n" for name, value in fields)
        self.send(text.encode() + b"\r\n" + body)

    async def answer(self, invite: Message, body: bytes | None = None, *, contact: str = "") -> None:
        """200 with a description, and its ACK; then audio is sent to where the offer wants it."""
        body = describe(self.audio.address) if body is None else body
        self.reply(invite, 200, "OK", body=body, contact=contact)
        await self.expect("ACK")
        self.audio.connect(invite.rtp)
