"""A name server on 127.0.0.1 that knows what the test tells it, and can be slow, silent or broken."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import AsyncExitStack

import dns.flags
import dns.message
import dns.rcode
import dns.rrset


class NameServer(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.zone: dict[tuple[str, str], list[str]] = {}
        """By name and kind, as in a zone file: `("_sip._udp.example.com", "SRV"): ["0 0 5060 node1.example.com."]`."""
        self.ttl = 60
        self.delay = 0.0
        self.silent = False
        self.broken = False
        """SERVFAIL to everything."""
        self.asked: Counter[tuple[str, str]] = Counter()
        self.address = ""
        """As `DnsResolver` takes it."""
        self._transport: asyncio.DatagramTransport

    @classmethod
    async def start(cls, stack: AsyncExitStack, host: str = "127.0.0.1") -> NameServer:
        loop = asyncio.get_running_loop()
        transport, server = await loop.create_datagram_endpoint(cls, local_addr=(host, 0))
        stack.callback(transport.close)
        server._transport = transport
        server.address = f"{host}:{transport.get_extra_info('sockname')[1]}"
        return server

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        query = dns.message.from_wire(data)
        (question,) = query.question
        key = (question.name.to_text(omit_final_dot=True).lower(), question.rdtype.name)
        self.asked[key] += 1
        if self.silent:
            return
        response = dns.message.make_response(query)
        response.flags |= dns.flags.RA
        if self.broken:
            response.set_rcode(dns.rcode.SERVFAIL)
        elif key in self.zone:
            response.answer.append(dns.rrset.from_text(question.name, self.ttl, "IN", key[1], *self.zone[key]))
        elif not any(name == key[0] for name, _ in self.zone):
            response.set_rcode(dns.rcode.NXDOMAIN)
        asyncio.get_running_loop().call_later(self.delay, self._answer, response.to_wire(), addr)

    def _answer(self, data: bytes, addr: tuple[str, int]) -> None:
        if not self._transport.is_closing():
            self._transport.sendto(data, addr)
