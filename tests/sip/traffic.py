"""Two user agents that use everything they can over a bad network: by name with a dead server first, by TCP whose
connections break, with passwords, early media, late offers, changes of the session from both sides at once, refreshes
and transfers. What each side does, and when, is decided by a seed."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from sipbridge.errors import LocalProtocolError
from sipbridge.sip.digest import Credentials
from sipbridge.sip.digest_server import DigestServer
from sipbridge.sip.dns_cache import Srv
from sipbridge.sip.events import (
    Acknowledged,
    Answered,
    CallEnded,
    CredentialsNeeded,
    EndCause,
    InviteReceived,
    Progress,
    ReinviteReceived,
    SessionAnswered,
    SessionRefused,
    SipEvent,
)
from sipbridge.sip.invite import CallState, Invite
from sipbridge.sip.uac import OutgoingInvite
from sipbridge.sip.uas import IncomingInvite
from tests.sip.network import Endpoint, Network
from tests.sip.wire import ANSWER, OFFER, counting_tokens

ALICE, BOB = ("192.0.2.1", 5060), ("192.0.2.2", 5060)
NOBODY = "192.0.2.99"
PASSWORD = Credentials("alice", "secret")
REFUSALS = (302, 404, 480, 486, 488, 500, 603)


@dataclass
class Outcome:
    caller: EndCause | None = None
    callee: EndCause | None = None
    answered: bool = False
    tcp: bool = False
    named: bool = False
    """The callee was called by a name, with more than one server."""


class Traffic:
    def __init__(self, network: Network, seed: int, *, tcp: float = 0.2, cuts: float = 0.0) -> None:
        self.network = network
        self.random = random.Random(seed)
        self.tcp = tcp
        self.cuts = cuts
        self.ends = (network.add("a", ALICE), network.add("b", BOB))
        self.outcomes: dict[str, Outcome] = {}
        self.told: Counter[str] = Counter()
        self.ended: set[Invite] = set()
        for name, (host, port) in (("a.example.com", ALICE), ("b.example.com", BOB)):
            network.zone[f"_sip._udp.{name}", "SRV"] = [Srv(1, 0, 5060, f"dead.{name}"), Srv(2, 0, port, f"up.{name}")]
            network.zone[f"_sip._tcp.{name}", "SRV"] = network.zone[f"_sip._udp.{name}", "SRV"]
            network.zone[f"dead.{name}", "A"] = [NOBODY]
            network.zone[f"up.{name}", "A"] = [host]
        for endpoint in self.ends:
            endpoint.on_event = lambda event, endpoint=endpoint: self.handle(endpoint, event)  # type: ignore[misc]
            server = DigestServer("example.com", b"k" * 32, counting_tokens(f"n{endpoint.address[0][-1]}"))
            endpoint.user_agent.require_authentication(
                server, lambda request, flow: "locked" in request.uri and request.method == "INVITE"
            )

    # --- what happens -----------------------------------------------------------------------------

    def run(self, calls: int, *, every: float = 0.2) -> None:
        for number in range(calls):
            caller, callee = self.ends[number % 2], self.ends[1 - number % 2]
            self.network.at(number * every, lambda caller=caller, callee=callee: self.call(caller, callee))  # type: ignore[misc]
        if self.cuts:
            for number in range(int(calls * every * self.cuts)):
                self.network.at(number / self.cuts, lambda: self.network.break_connection(self.random))
        self.network.run()

    def call(self, caller: Endpoint, callee: Endpoint) -> None:
        host, port = callee.address
        tcp = self.chance(self.tcp)
        user = "locked" if self.chance(0.2) else "agent"
        where = f"{host}:{port}"
        named = self.chance(0.1)
        if named:
            where = "a.example.com" if callee is self.ends[0] else "b.example.com"
        call = caller.user_agent.invite(
            f"sip:{user}@{where}" + (";transport=tcp" if tcp else ""),
            from_="<sip:caller@example.com>",
            offer=b"" if self.chance(0.15) else OFFER,
            now=self.network.now,
            credentials=PASSWORD if user == "locked" else None,
        )
        self.outcomes[call.call_id] = Outcome(tcp=tcp, named=named)
        if self.chance(0.25):  # gives up early, or crosses the answer
            self.later(0.0, 4.0, lambda: call.hang_up(self.network.now))

    def handle(self, endpoint: Endpoint, event: SipEvent) -> None:
        now = self.network.now
        self.told[type(event).__name__] += 1
        call = getattr(event, "call", None)
        assert call not in self.ended, f"{event} after CallEnded"
        match event:
            case CredentialsNeeded():
                found = PASSWORD.password if event.username == PASSWORD.username else None
                self.later(0.0, 0.5, lambda: endpoint.user_agent.credentials_found(event, found, self.network.now))
            case InviteReceived():
                self.invited(event.call, event.offer)
            case Progress(call=call, needs_answer=True) | SessionAnswered(call=call, needs_answer=True):
                call.acknowledge(ANSWER, now)
            case Answered(call=call, needs_answer=needs_answer):
                if needs_answer:
                    call.acknowledge(ANSWER, now)
                self.outcomes[call.call_id].answered = True
                self.live(call)
            case Acknowledged(call=call) if isinstance(call, IncomingInvite):
                self.changes(call)
            case ReinviteReceived(call=call, offer=offer):
                self.changed(call, offer)
            case SessionRefused(call=call, status=status):
                self.told[f"refused {status}"] += 1
            case CallEnded():
                self.end(event.call, event.cause)

    def invited(self, call: IncomingInvite, offer: bytes | None) -> None:
        body = ANSWER if offer is not None else OFFER
        early = self.chance(0.3) and call.takes_reliable
        if early or self.chance(0.5):
            self.later(0.0, 1.0, lambda: self.ring(call, body if early else b""))
        if self.chance(0.2):
            self.later(0.0, 3.0, lambda: self.refuse(call))
            return
        # Offer and answer are exchanged once: where that was in the 183, the 200 has none.
        self.later(1.0, 4.0, lambda: self.answer(call, b"" if early else body))
        self.later(4.0, 25.0 if self.chance(0.95) else 200.0, lambda: call.hang_up(self.network.now))

    def ring(self, call: IncomingInvite, body: bytes) -> None:
        if call.state is CallState.INVITED:
            call.ring(self.network.now, 183 if body else 180, body)

    def answer(self, call: IncomingInvite, body: bytes) -> None:
        if call.state in (CallState.INVITED, CallState.RINGING):
            call.answer(body, self.network.now)

    def refuse(self, call: IncomingInvite) -> None:
        if call.state in (CallState.INVITED, CallState.RINGING):
            call.reject(self.random.choice(REFUSALS), now=self.network.now)

    def live(self, call: OutgoingInvite) -> None:
        if self.chance(0.5):
            self.later(0.0, 20.0 if self.chance(0.95) else 200.0, lambda: call.hang_up(self.network.now))
        self.changes(call)

    def changes(self, call: Invite) -> None:
        """Both sides have this chance, often at the same moment."""
        if self.chance(0.2):
            self.later(0.0, 2.0, lambda: self.change(call))
        if self.chance(0.05):
            self.later(0.0, 5.0, lambda: self.refer(call))

    def change(self, call: Invite) -> None:
        if call.state is not CallState.CONFIRMED or call.has_pending_offer:
            return
        assert call.dialog is not None
        with suppress(LocalProtocolError):  # an earlier change is still under way
            if self.chance(0.3) and call.dialog.allows_update:
                call.update(lambda: OFFER, self.network.now)
            else:
                call.reinvite((lambda: OFFER) if self.chance(0.8) else b"", self.network.now)

    def changed(self, call: Invite, offer: bytes | None) -> None:
        if self.chance(0.2):
            self.later(0.0, 0.5, lambda: call.reject_reinvite(488, self.network.now))
        else:
            self.later(0.0, 0.5, lambda: call.accept_reinvite(ANSWER if offer is not None else OFFER, self.network.now))

    def refer(self, call: Invite) -> None:
        if call.state is CallState.CONFIRMED:
            call.refer("sip:desk@example.com", self.network.now)

    def end(self, call: Invite, cause: EndCause) -> None:
        self.ended.add(call)
        outcome = self.outcomes[call.call_id]
        if isinstance(call, OutgoingInvite):
            outcome.caller = cause
        else:
            assert outcome.callee is None, "one INVITE was two calls"
            outcome.callee = cause

    # --- chance -----------------------------------------------------------------------------------

    def chance(self, probability: float) -> bool:
        return self.random.random() < probability

    def later(self, earliest: float, latest: float, action: Callable[[], None]) -> None:
        self.network.at(self.network.now + self.random.uniform(earliest, latest), action)
