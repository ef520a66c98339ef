"""What we acknowledge responses to an INVITE with: ACK for a 2xx (RFC 3261 §13.2.2.4), PRACK for a reliable 1xx.

An ACK belongs to no transaction, so whoever sends it repeats it; a PRACK (RFC 3262 §4) is a request like any other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sipbridge.sip.body import describe_session
from sipbridge.sip.dialog import Dialog
from sipbridge.sip.flow import Flow
from sipbridge.sip.message import Request, Response
from sipbridge.sip.part import CallPart
from sipbridge.sip.reliable import RAck, rseq_of

if TYPE_CHECKING:
    from sipbridge.sip.core import Core
    from sipbridge.sip.invite import Invite

_MAX_REMEMBERED = 64
"""ACKs of one call; a peer that answers at more places than that gets no repetition of the first ones."""
_MAX_WAITING = 64
"""PRACKs of one call. A callee waits for each of them before it goes on; one that does not may wait for ever."""


@dataclass(slots=True)
class _Ack:
    dialog: Dialog
    request: Request
    flow: Flow | None = None
    """None while there is none yet to send it by."""
    data: bytes = b""

    def went(self, flow: Flow, data: bytes) -> None:
        self.flow, self.data = flow, data


class SentAcks:
    """Those of one call: one for each dialog and INVITE, the same each time its 2xx comes again."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._sent: dict[tuple[str, int], _Ack] = {}
        """By the peer's tag and CSeq number."""

    def send(self, dialog: Dialog, invite: Request, sdp: bytes, now: float, *, beside: Flow | None) -> None:
        """`sdp` is the answer, where the 2xx carried the offer."""
        number = invite.cseq.number
        key = (dialog.id.remote_tag, number)
        ack = dialog.request("ACK", sequence=number)
        for name in ("Authorization", "Proxy-Authorization"):  # §22.1: the same credentials as its INVITE
            for value in invite.headers.get_all(name):
                ack.headers.add(name, value)
        describe_session(ack, sdp)
        if len(self._sent) >= _MAX_REMEMBERED:
            del self._sent[next(iter(self._sent))]
        self._sent[key] = _Ack(dialog, ack)
        self._core.send_ack(dialog, ack, self._sent[key].went, now, beside=beside)

    def repeat(self, response: Response, now: float, *, beside: Flow | None) -> bool:
        """Whether this 2xx has been acknowledged before; if so, that is done again."""
        known = self._sent.get((response.to.tag or "", response.cseq.number))
        if known is None:
            return False
        self._core.counters["ack_repeated"] += 1
        if known.flow is not None and self._core.flows.is_open(known.flow):
            self._core.transmit(known.flow, known.data, None, now)
        elif known.flow is not None:
            # Lost with its connection, perhaps: the same ACK, by another one.
            self._core.send_ack(known.dialog, known.request, known.went, now, beside=beside)
        return True


class SentPracks(CallPart):
    """Those of one call that wait for their response."""

    def __init__(self, core: Core, call: Invite) -> None:
        super().__init__(core, call)
        self._waiting: list[tuple[Request, Dialog]] = []

    @property
    def are_too_many(self) -> bool:
        return len(self._waiting) >= _MAX_WAITING

    def send(self, dialog: Dialog, response: Response, sdp: bytes, now: float) -> None:
        """Acknowledge a response that is new; `sdp` is the answer, where it makes an offer."""
        prack = dialog.request("PRACK")
        cseq = response.cseq
        prack.headers.add("RAck", str(RAck(rseq_of(response) or 0, cseq.number, cseq.method)))
        describe_session(prack, sdp)
        self._waiting.append((prack, dialog))
        self._core.send_in_dialog(dialog, prack, self._call, now, beside=self._call.flow)

    def answered(self, prack: Request) -> None:
        """However it was answered, or not at all: the INVITE's own response tells what that came to."""
        self._waiting = [(request, dialog) for request, dialog in self._waiting if request is not prack]

    def are_waiting(self, dialog: Dialog) -> bool:
        """A request that overtook one of them would make it one out of order (RFC 3261 §12.2.2)."""
        return any(pracked is dialog for _, pracked in self._waiting)
