"""The ACKs of 2xx responses (RFC 3261 §13.2.2.4): they belong to no transaction, so whoever sends them repeats them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sipbridge.sip.body import SDP
from sipbridge.sip.dialog import Dialog
from sipbridge.sip.flow import Flow
from sipbridge.sip.message import Request, Response

if TYPE_CHECKING:
    from sipbridge.sip.core import Core

_MAX_REMEMBERED = 64
"""Of one call; a peer that answers at more places than that gets no repetition of the first ones."""


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
        if sdp:
            ack.headers.add("Content-Type", SDP)
            ack.body = sdp
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
