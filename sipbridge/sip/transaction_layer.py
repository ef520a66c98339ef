"""The transaction layer (RFC 3261 §17): which transaction a message belongs to, and the upkeep of all of them.

It sits between the transport below (`transmit`) and the transaction users above. Whatever a transaction leaves in
`to_send` and `to_user` is collected here after every step, so nobody else has to think of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable
from typing import Any, Generic, Protocol, TypeAlias, TypeVar
from weakref import ref

from sipbridge.sip.flow import Flow
from sipbridge.sip.headers import MAGIC_COOKIE, Via
from sipbridge.sip.message import Request, Response
from sipbridge.sip.timers import Schedule, Timers
from sipbridge.sip.transaction import (
    AckReceived,
    ClientTransaction,
    InviteClientTransaction,
    InviteServerTransaction,
    NonInviteClientTransaction,
    NonInviteServerTransaction,
    ResponseReceived,
    ServerTransaction,
    State,
    TimedOut,
    Transaction,
    TransportFailed,
)

MAX_SERVED = 20_000
"""Requests of others, of which each is kept with its answer for half a minute: three hundred calls a second."""

Key: TypeAlias = Hashable
Transmit: TypeAlias = Callable[[Flow, bytes, Via | None, float], None]
"""Flow, bytes, the top Via where it is a response, now."""


class RequestUser(Protocol):
    """Who has sent a request. Requests are told apart by identity."""

    def receive_response(self, request: Request, response: Response, now: float) -> None: ...

    def request_failed(self, request: Request, status: int, now: float) -> None:
        """No answer came (408) or the request could not be sent (503), §8.1.3.1. After the 503 an INVITE may still be
        answered."""


class TransactionUser(RequestUser, Protocol):
    """Who serves requests, too: a call."""

    def receive_ack(self, ack: Request, now: float) -> None: ...

    def receive_cancel(self, cancel: Request, now: float) -> None: ...

    @property
    def local_tag(self) -> str | None:
        """The To tag of our responses."""


def is_modern(via: Via) -> bool:
    """The branch identifies a transaction, as RFC 3261 wants it (§8.1.1.7); RFC 2543 knew no such thing."""
    return via.branch is not None and via.branch.startswith(MAGIC_COOKIE) and len(via.branch) > len(MAGIC_COOKIE)


def server_key(request: Request, method: str | None = None) -> Key:
    """§17.2.3; with `method`, the key of the other request of the same branch, which a CANCEL means. An ACK has the key
    of its INVITE. Without the magic cookie the rules of RFC 2543 hold, without the To tag, which an ACK has and its
    INVITE had not."""
    via = request.via
    method = method or ("INVITE" if request.method == "ACK" else request.method)
    if is_modern(via):
        return via.branch, via.host.lower(), via.port, method
    number = request.cseq.number
    return request.uri, request.from_.tag, request.call_id, number, via.host, via.port, via.branch, method


def _client_key(transaction: ClientTransaction) -> Key:
    return transaction.request.via.branch, transaction.request.method


def merge_key(request: Request) -> Key:
    return request.call_id, request.from_.tag, request.cseq.number, request.method


U = TypeVar("U", bound=RequestUser)


class _Entry(Generic[U]):
    """A transaction in its place: its key, its flow and its user."""

    __slots__ = (
        "broken",
        "call_id",
        "flow",
        "key",
        "layer",
        "merge_key",
        "number",
        "tag",
        "transaction",
        "user",
        "via",
    )

    def __init__(
        self,
        layer: TransactionLayer,
        transaction: Transaction,
        key: Key,
        flow: Flow,
        user: Callable[[], U | None],
    ) -> None:
        self.layer = layer
        self.transaction = transaction
        self.key = key
        self.flow = flow
        self.user = user
        self.merge_key: Key = None
        self.broken = False
        """The connection that our request was sent by is gone."""
        self.via: Via | None = None
        """Where a response goes if the connection of its request is gone."""
        self.tag: str | None = None
        """The To tag of our responses."""
        self.number = transaction.request.cseq.number
        self.call_id = transaction.request.call_id

    def get_timer(self) -> float | None:
        return self.transaction.get_timer()

    def handle_timer(self, now: float) -> None:
        self.transaction.handle_timer(now)
        self.layer.collect(self, now)


class TransactionLayer:
    def __init__(self, timers: Timers, transmit: Transmit, schedule: Schedule, counters: Counter[str]) -> None:
        self._timers = timers
        self._transmit = transmit
        self._schedule = schedule
        self._counters = counters
        self._servers: dict[Key, _Entry[TransactionUser]] = {}
        self._entries: dict[ServerTransaction, _Entry[TransactionUser]] = {}
        self._clients: dict[Key, _Entry[RequestUser]] = {}
        self._merged: dict[Key, Key] = {}

    def __len__(self) -> int:
        return len(self._servers) + len(self._clients)

    # client side

    def request(self, request: Request, flow: Flow, user: RequestUser, now: float) -> ClientTransaction:
        """Send a request whose top Via carries a branch of ours."""
        machine = InviteClientTransaction if request.method == "INVITE" else NonInviteClientTransaction
        transaction: ClientTransaction = machine(request, now, timers=self._timers, reliable=flow.reliable)
        key = _client_key(transaction)
        entry = _Entry(self, transaction, key, flow, lambda: user)
        self._clients[key] = entry
        self.collect(entry, now)
        return transaction

    def receive_response(self, response: Response, flow: Flow, now: float) -> bool:
        """False: it belongs to no transaction of ours (§17.1.3).

        Where the transaction's connection is gone and the peer answers by one of its own, that takes its place: what
        is still to be sent goes to the same peer, which has shown by our branch that it has the request."""
        entry = self._clients.get((response.via.branch, response.cseq.method))
        if entry is None:
            return False
        assert isinstance(entry.transaction, ClientTransaction)
        if entry.broken and flow.transport == entry.flow.transport:
            entry.flow, entry.broken = flow, False
        entry.transaction.receive_response(response, now)
        self.collect(entry, now)
        return True

    def flow_of(self, transaction: ClientTransaction) -> Flow | None:
        """By which its request was sent, or where its responses come by now; None: it has ended."""
        entry = self._clients.get(_client_key(transaction))
        return None if entry is None else entry.flow

    def abandon(self, transaction: ClientTransaction) -> None:
        """Wait no longer for an answer (§9.1: 64*T1 after CANCEL)."""
        entry = self._clients.pop(_client_key(transaction), None)
        if entry is not None:
            self._remove(entry)

    def flow_closed(self, flow: Flow, now: float) -> None:
        """A connection is gone: no answer can come by it (§17.1.4)."""
        for entry in [entry for entry in self._clients.values() if entry.flow == flow]:
            assert isinstance(entry.transaction, ClientTransaction)
            entry.broken = True
            entry.transaction.transport_failed(now)
            self.collect(entry, now)

    # server side

    def receive_request(self, request: Request, now: float) -> bool:
        """True: it repeats a request, or acknowledges a response, of a transaction we know, and is done with."""
        entry = self._servers.get(server_key(request))
        if entry is None:
            return False
        assert isinstance(entry.transaction, ServerTransaction)
        if request.method == "ACK" and entry.transaction.state is State.PROCEEDING:
            return False
        if request.method != "ACK" and request.cseq.number != entry.number:
            # Some clients give the branch of a refused request to the one that follows, with credentials or without.
            self._counters["branch_used_again"] += 1
            return False
        entry.transaction.receive_request(request, now)
        self.collect(entry, now)
        return True

    @property
    def is_full(self) -> bool:
        """No request should be served any more; the memory of answers is what a peer that may speak could fill."""
        return len(self._servers) >= MAX_SERVED

    def is_merged(self, request: Request) -> bool:
        """The same request came by another path and is being served already (§8.2.2.2)."""
        return request.to.tag is None and merge_key(request) in self._merged

    def cancelled_by(self, cancel: Request) -> tuple[str | None, TransactionUser | None] | None:
        """The To tag and the user, if it still cares, of the INVITE that a CANCEL means (§9.2); None: there is none.

        Nobody can be asked who he is that sends one, and not every client's branches are hard to guess: what else the
        two have in common (§9.1) has to be the same, too."""
        entry = self._servers.get(server_key(cancel, "INVITE"))
        if entry is None or (entry.call_id, entry.number) != (cancel.call_id, cancel.cseq.number):
            return None
        return entry.tag, entry.user()

    def serve(self, request: Request, flow: Flow, user: TransactionUser, now: float) -> ServerTransaction:
        """Begin to serve a request that `receive_request` did not know. The transaction outlives its user, who is
        therefore not kept alive by it."""
        machine = InviteServerTransaction if request.method == "INVITE" else NonInviteServerTransaction
        transaction: ServerTransaction = machine(request, timers=self._timers, reliable=flow.reliable)
        key = server_key(request)
        entry = _Entry(self, transaction, key, flow, ref(user))
        entry.tag = user.local_tag
        if flow.reliable:
            entry.via = request.via
        self._servers[key] = self._entries[transaction] = entry
        if request.to.tag is None:
            entry.merge_key = merge_key(request)
            self._merged[entry.merge_key] = key
        return transaction

    def respond(self, transaction: ServerTransaction, response: Response, now: float) -> None:
        """Send a response through its transaction; nothing happens where that has ended meanwhile."""
        entry = self._entries.get(transaction)
        if entry is None:
            self._counters["response_too_late"] += 1
            return
        transaction.send_response(response, now)
        self.collect(entry, now)

    # upkeep

    def collect(self, entry: _Entry[Any], now: float) -> None:
        """Pass on what a transaction left, drop it when it has ended, and note its next timer."""
        transaction = entry.transaction
        while transaction.to_send or transaction.to_user:
            messages, transaction.to_send = transaction.to_send, []
            events, transaction.to_user = transaction.to_user, []
            for data in messages:
                self._transmit(entry.flow, data, entry.via, now)
            for event in events:
                self._tell(entry, event, now)
        if transaction.state is State.TERMINATED:
            self._remove(entry)
        else:
            self._schedule.update(entry)

    def _tell(self, entry: _Entry[Any], event: object, now: float) -> None:
        user, request = entry.user(), entry.transaction.request
        match event:
            case TimedOut() if isinstance(entry.transaction, ServerTransaction):
                self._counters["failure_not_acknowledged"] += 1
            case _ if user is None:
                pass
            case ResponseReceived(response):
                user.receive_response(request, response, now)
            case AckReceived(ack):
                user.receive_ack(ack, now)
            case TimedOut():
                user.request_failed(request, 408, now)
            case TransportFailed():
                user.request_failed(request, 503, now)

    def _remove(self, entry: _Entry[Any]) -> None:
        table: dict[Key, _Entry[Any]] = self._clients
        if isinstance(entry.transaction, ServerTransaction):
            table = self._servers
            self._entries.pop(entry.transaction, None)
            if self._merged.get(entry.merge_key) == entry.key:
                del self._merged[entry.merge_key]
        if table.get(entry.key) is entry:
            del table[entry.key]
        self._schedule.cancel(entry)
