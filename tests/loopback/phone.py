"""A telephone for tests: SIP written by hand over a real socket, RTP by `earpiece`.

Nothing of sipbridge is in it, so that what it sends and expects is a second opinion.

It does what it is told and nothing by itself, no retransmission, no automatic answer, but 200 to a BYE.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, Self

from tests.loopback.earpiece import Address, Earpiece
from tests.loopback.waiting import Watched

Headers = tuple[tuple[str, str], ...]
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Message:
    """A request or a response as it came, and when."""

    at: float
    start_line: str
    headers: Headers
    body: bytes

    @classmethod
    def parse(cls, data: bytes) -> Self:
        head, _, body = data.partition(b"\r\n\r\n")
        start_line, *lines = head.decode().split("\r\n")
        headers = []
        for line in lines:
            name, _, value = line.partition(":")
            headers.append((name.strip(), value.strip()))
        return cls(time.monotonic(), start_line, tuple(headers), body)

    def __getitem__(self, name: str) -> str:
        return next(value for key, value in self.headers if key.lower() == name.lower())

    def __contains__(self, name: str) -> bool:
        return any(key.lower() == name.lower() for key, _ in self.headers)

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name.lower()]

    @property
    def status(self) -> int:
        """0 for a request."""
        return int(self.start_line.split()[1]) if self.start_line.startswith("SIP/2.0 ") else 0

    @property
    def method(self) -> str:
        """Of a request, or of the request that a response answers."""
        return self["CSeq"].split()[1]

    @property
    def to_tag(self) -> str:
        return self["To"].partition("tag=")[2].partition(";")[0]

    @property
    def rtp(self) -> Address:
        """Where the first audio line wants its packets."""
        text = self.body.decode()
        host = text.partition("c=IN IP4 ")[2].split()[0]
        return host, int(text.partition("m=audio ")[2].split()[0])

    @property
    def version(self) -> int:
        """Of the o= line."""
        return int(self.body.decode().partition("o=")[2].split()[2])

    @property
    def media_lines(self) -> list[str]:
        return [line[2:] for line in self.body.decode().splitlines() if line.startswith("m=")]

    @property
    def direction(self) -> str:
        names = ("sendrecv", "sendonly", "recvonly", "inactive")
        return next(name for name in names if f"a={name}\r\n" in self.body.decode())


def describe(
    rtp: Address,
    *,
    formats: Iterable[int] = (0, 8, 101),
    direction: str = "sendrecv",
    more: str = "",
    version: int = 1,
) -> bytes:
    """An SDP: static types need no rtpmap; 101 is telephone-event, 18 G.729."""
    host, port = rtp
    numbers = list(formats)
    lines = [
        "v=0",
        f"o=phone 7 {version} IN IP4 {host}",
        "s=-",
        f"c=IN IP4 {host}",
        "t=0 0",
        f"m=audio {port} RTP/AVP {' '.join(map(str, numbers))}",
        *(["a=rtpmap:101 telephone-event/8000", "a=fmtp:101 0-15"] if 101 in numbers else []),
        f"a={direction}",
    ]
    return "".join(f"{line}\r\n" for line in lines).encode() + more.encode()


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, received: Callable[[bytes], None]) -> None:
        self._received = received

    def datagram_received(self, data: bytes, addr: Address) -> None:
        self._received(data)


class Line:
    """UDP to one address."""

    via = "UDP"

    def __init__(self, transport: asyncio.DatagramTransport) -> None:
        self._transport = transport
        self.local: Address = transport.get_extra_info("sockname")[:2]

    def send(self, data: bytes) -> None:
        self._transport.sendto(data)

    async def close(self) -> None:
        self._transport.close()


class _Stream:
    """TCP, cut into messages by Content-Length."""

    via = "TCP"

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, received: Callable[[bytes], None]
    ) -> None:
        self._writer = writer
        self.local: Address = writer.get_extra_info("sockname")[:2]
        self._reading = asyncio.create_task(self._read(reader, received))

    async def _read(self, reader: asyncio.StreamReader, received: Callable[[bytes], None]) -> None:
        while True:
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError:
                return
            head = head.lstrip(b"\r\n")  # answers to keep-alives
            if not head:
                continue
            length = int(head.lower().partition(b"content-length:")[2].split()[0])
            received(head + await reader.readexactly(length))

    def send(self, data: bytes) -> None:
        self._writer.write(data)

    async def close(self) -> None:
        self._reading.cancel()
        self._writer.close()
        await asyncio.gather(self._reading, self._writer.wait_closed(), return_exceptions=True)


class Phone(Watched):
    """One phone with one call at a time. `await Phone.open(...)`, then `invite()` and so on; end with `close()`."""

    def __init__(self, earpiece: Earpiece, user: str) -> None:
        super().__init__()
        self.audio = earpiece
        self.user = user
        self.messages: list[Message] = []
        """Everything that came."""
        self._unread: list[Message] = []
        self._line: Line | _Stream
        self.call_id = ""
        self.tag = ""
        self.to = ""
        self.target = ""
        self.routes: list[str] = []
        self.sequence = 0
        self.branch = ""
        self.invite_text = b""

    @classmethod
    async def open(
        cls, gateway: Address, *, transport: Literal["udp", "tcp"] = "udp", host: str = "127.0.0.1", user: str = "agent"
    ) -> Self:
        phone = cls(await Earpiece.open(host), user)
        if transport == "udp":
            loop = asyncio.get_running_loop()
            udp, _ = await loop.create_datagram_endpoint(
                lambda: _Datagrams(phone._received), local_addr=(host, 0), remote_addr=gateway
            )
            phone._line = Line(udp)
        else:
            reader, writer = await asyncio.open_connection(*gateway, local_addr=(host, 0))
            phone._line = _Stream(reader, writer, phone._received)
        return phone

    async def close(self) -> None:
        await self._line.close()
        self.audio.close()

    # --- receiving ----------------------------------------------------------------------------------------------------

    def _received(self, data: bytes) -> None:
        message = Message.parse(data)
        self.messages.append(message)
        self._unread.append(message)
        if message.start_line.startswith("BYE "):
            self.respond(message, 200)
        self.changed()

    async def expect(
        self, what: int | str, method: str | None = None, *, within: float = 3.0, reading: Message | None = None
    ) -> Message:
        """The next response with this status, or the next request with this method; others are left unread."""

        def find() -> Message | None:
            for message in self._unread:
                wanted = message.status == what if isinstance(what, int) else message.start_line.startswith(f"{what} ")
                if wanted and (method is None or message.method == method):
                    return message
            return None

        try:
            await self.until(lambda: find() is not None, within=within)
        except TimeoutError:
            seen = [message.start_line for message in self.messages]
            raise AssertionError(f"no {what} within {within:g} s, but {seen}") from None
        message = find()
        assert message is not None
        self._unread.remove(message)
        return message

    def statuses(self, method: str = "INVITE") -> list[int]:
        """Of all responses to such requests so far, in order."""
        return [message.status for message in self.messages if message.status and message.method == method]

    # --- sending ------------------------------------------------------------------------------------------------------

    def send(self, data: bytes) -> None:
        self._line.send(data)

    @property
    def here(self) -> str:
        host, port = self._line.local
        return f"{host}:{port}"

    def request(
        self,
        method: str,
        *,
        uri: str | None = None,
        body: bytes = b"",
        headers: Headers = (),
        sequence: int | None = None,
        branch: str | None = None,
    ) -> bytes:
        """The text of a request in the dialog as it stands (before one there is only our half of it)."""
        if sequence is None:
            self.sequence += 1
            sequence = self.sequence
        if branch is None:
            branch = f"z9hG4bK-{next(_numbers)}"
        fields = [
            ("Via", f"SIP/2.0/{self._line.via} {self.here};branch={branch};rport"),
            ("Max-Forwards", "70"),
            ("From", f'"A Caller" <sip:555-0123@{self.here}>;tag={self.tag}'),
            ("To", self.to),
            ("Call-ID", self.call_id),
            ("CSeq", f"{sequence} {method}"),
            ("Contact", f"<sip:phone@{self.here}{';transport=tcp' if self._line.via == 'TCP' else ''}>"),
            *(("Route", route) for route in self.routes),
            *headers,
            *([("Content-Type", "application/sdp")] if body else []),
            ("Content-Length", str(len(body))),
        ]
        head = f"{method} {uri or self.target} SIP/2.0\r\n" + "".join(f"{name}: {value}\r\n" for name, value in fields)
        return head.encode(errors="surrogateescape") + b"\r\n" + body

    def new_call(self) -> None:
        number = next(_numbers)
        self.call_id = f"call-{number}@phone.example.com"
        self.tag = f"tag-{number}"
        self.target = f"sip:{self.user}@gateway.example.com"
        self.to = f"<{self.target}>"
        self.routes = []
        self.sequence = 0

    def invite(self, offer: bytes | None = None, *, headers: Headers = ()) -> None:
        """Begin a call. `offer`: ours if None, none at all if empty."""
        self.new_call()
        self.branch = f"z9hG4bK-{next(_numbers)}"
        body = describe(self.audio.address) if offer is None else offer
        self.invite_text = self.request("INVITE", body=body, headers=headers, branch=self.branch)
        self.send(self.invite_text)

    def ack(self, answered: Message, *, body: bytes = b"") -> None:
        """Of a 2xx: take over its tag, target and routes, and send the ACK."""
        self.to = answered["To"]
        self.target = answered["Contact"].partition("<")[2].partition(">")[0]
        self.routes = answered.all("Record-Route")[::-1]
        self.send(self.request("ACK", body=body, sequence=int(answered["CSeq"].split()[0])))

    def ack_failure(self, refused: Message) -> None:
        """Of any other final response: in the INVITE's own transaction."""
        to, self.to = self.to, refused["To"]
        self.send(self.request("ACK", sequence=int(refused["CSeq"].split()[0]), branch=self.branch))
        self.to = to

    def cancel(self) -> None:
        self.send(self.request("CANCEL", sequence=self.sequence, branch=self.branch))

    def bye(self, *, to: str | None = None) -> None:
        if to is not None:
            self.to = to
        self.send(self.request("BYE"))

    def reinvite(self, offer: bytes) -> None:
        self.send(self.request("INVITE", body=offer))

    def notify(self, fragment: str, *, state: str = "active;expires=60") -> None:
        """Tell how a transfer goes (RFC 3515)."""
        text = self.request(
            "NOTIFY",
            headers=(
                ("Event", "refer"),
                ("Subscription-State", state),
                ("Content-Type", "message/sipfrag;version=2.0"),
            ),
        ).replace(b"Content-Length: 0", b"Content-Length: %d" % len(fragment))
        self.send(text + fragment.encode())

    def respond(self, request: Message, status: int, reason: str = "OK", *, headers: Headers = ()) -> None:
        copied = [(n, v) for n, v in request.headers if n.lower() in ("via", "from", "to", "call-id", "cseq")]
        fields = (*copied, ("Contact", f"<sip:phone@{self.here}>"), *headers, ("Content-Length", "0"))
        text = f"SIP/2.0 {status} {reason}\r\n" + "".join(f"{name}: {value}\r\n" for name, value in fields)
        self.send(text.encode() + b"\r\n")

    # --- whole steps --------------------------------------------------------------------------------------------------

    async def call(self, offer: bytes | None = None) -> Message:
        """INVITE, 200, ACK; from then on audio is sent to where the answer wants it. Returns the 200."""
        self.invite(offer)
        answered = await self.expect(200, "INVITE")
        self.ack(answered)
        self.audio.connect(answered.rtp)
        return answered

    async def hang_up(self) -> None:
        self.bye()
        await self.expect(200, "BYE")
        self.audio.hush()
