"""All connections of one transport layer: listeners, those that came, those that we make (RFC 3261 §18, RFC 5923).

Which connection a request goes by is the core's choice (`flow.py`): it names the flow, and asks for one where there is
none. Here they are counted, admitted and closed.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from functools import partial
from ipaddress import ip_address

from sipbridge.errors import TlsError
from sipbridge.sip.admission import Admission
from sipbridge.sip.connection import StreamConnection, StreamLimits
from sipbridge.sip.flow import Address, Flow, Target, Transport, is_secure
from sipbridge.sip.tls import TlsContexts
from sipbridge.sip.tls_stream import TlsStream

_CLOSE_SECONDS = 1.0
_BUFFER = 16_384
_OCTETS = 512
"""So many cost as much of a source's budget as a message: pings and empty frames are no messages, but work."""


class Streams:
    """`receive` is given messages as they come, `closed` every flow that is gone; `needed` tells whether somebody
    still lives by a flow that has long been silent."""

    def __init__(
        self,
        limits: StreamLimits,
        counters: Counter[str],
        admission: Admission,
        tls: TlsContexts,
        clock: Callable[[], float],
        *,
        receive: Callable[[Flow, list[bytes]], None],
        closed: Callable[[Flow], None],
        needed: Callable[[Flow], bool],
    ) -> None:
        self.limits = limits
        self.counters = counters
        self.buffer = bytearray(_BUFFER)
        self._admission = admission
        self._tls = tls
        self._clock = clock
        self._receive = receive
        self._report_closed = closed
        self._needed = needed
        self._loop = asyncio.get_running_loop()
        self._servers: list[asyncio.Server] = []
        self._listening: list[tuple[Transport, str]] = []
        self._connections: dict[Flow, StreamConnection] = {}
        self._handshakes = 0
        self._closing = False

    def __len__(self) -> int:
        """How many connections there are, both ways, those whose handshake is under way included."""
        return len(self._connections)

    @property
    def handshakes(self) -> int:
        """TLS handshakes under way."""
        return self._handshakes

    async def listen(self, transport: Transport, address: Address) -> Address:
        """Raises OSError where the address can't be bound, TlsError where TLS is asked for and no certificate is
        there."""
        if is_secure(transport):
            self._tls.server()
        server = await self._loop.create_server(partial(self._accepted, transport), *address)
        self._servers.append(server)
        host, port = server.sockets[0].getsockname()[:2]
        self._listening.append((transport, host))
        return host, port

    async def connect(self, target: Target) -> Flow:
        """Open a connection. Raises OSError: nobody there, no room, or TLS that proves nothing; it bears the reason."""
        transport: Transport
        if target.transport == "tcp":
            transport = "tcp"
        elif target.transport == "tls":
            transport = "tls"
        else:
            raise OSError(f"no connection can be made by {target.transport}")
        connection = None
        try:
            async with asyncio.timeout(self.limits.connect_seconds):
                _, connection = await self._loop.create_connection(
                    partial(self._own, transport, target.server_name or target.host),
                    target.host,
                    target.port,
                    local_addr=self._source(transport, target.host),
                )
                await connection.ready
        except TlsError as error:
            raise ConnectionAbortedError(str(error)) from None
        except TimeoutError:
            if connection is not None:
                connection.abort()
            raise
        if connection.flow not in self._connections:
            raise ConnectionAbortedError("it is gone already")
        return connection.flow

    def send(self, flow: Flow, message: bytes) -> None:
        connection = self._connections.get(flow)
        if connection is None:
            self.counters[f"{flow.transport}_send_failed"] += 1
        else:
            connection.send(message)

    async def close(self) -> None:
        """Send what waits, then close everything."""
        self._closing = True
        for server in self._servers:
            server.close()
        connections = list(self._connections.values())
        for connection in connections:
            connection.close()
        if connections:
            await asyncio.wait([connection.closed for connection in connections], timeout=_CLOSE_SECONDS)
        for connection in list(self._connections.values()):
            connection.abort()

    # what connections ask and tell

    def begun(self, connection: StreamConnection) -> bool:
        if len(self._connections) >= self.limits.connections or self._closing:
            self.counters["too_many_connections"] += 1
            return False
        if connection.handshaking and self._handshakes >= self.limits.handshakes and not connection.ours:
            self.counters["too_many_handshakes"] += 1
            return False
        if not connection.ours and not self._admission.connect(connection.flow.remote[0], self._clock()):
            return False
        self._connections[connection.flow] = connection
        self._handshakes += connection.handshaking
        return True

    def established(self, connection: StreamConnection) -> None:
        if is_secure(connection.name):
            self._handshakes -= 1

    def received(self, connection: StreamConnection, messages: list[bytes], octets: int) -> float | None:
        pause = 0.0
        cost = max(len(messages), octets // _OCTETS)
        if cost and not connection.ours:
            charged = self._admission.charge(connection.flow.remote[0], cost, self._clock())
            if charged is None:
                return None
            pause = charged
        if messages:
            self._receive(connection.flow, messages)
        return pause

    def needed(self, flow: Flow) -> bool:
        return self._needed(flow)

    def ended(self, connection: StreamConnection) -> None:
        del self._connections[connection.flow]
        self._handshakes -= connection.handshaking
        if not connection.ours:
            self._admission.disconnect(connection.flow.remote[0])
        self._report_closed(connection.flow)

    # private

    def _accepted(self, transport: Transport) -> StreamConnection:
        tls = TlsStream(self._tls) if is_secure(transport) else None
        return StreamConnection(self, transport, tls, ours=False)

    def _source(self, transport: Transport, remote: str) -> tuple[str, int] | None:
        """Connections leave from the address that we listen on: peers know their trunks by it. None: by the route."""
        towards = ip_address(remote)
        for listening, host in self._listening:
            local = ip_address(host)
            reaches = local.version == towards.version and local.is_loopback == towards.is_loopback
            if listening == transport and reaches and not local.is_unspecified:
                return host, 0
        return None

    def _own(self, transport: Transport, name: str) -> StreamConnection:
        tls = TlsStream(self._tls, server_name=name) if is_secure(transport) else None
        return StreamConnection(self, transport, tls, ours=True)
