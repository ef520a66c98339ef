"""The PRACKs that we send (RFC 3262 §4): one for each reliable provisional response, in its early dialog."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sipbridge.sip.body import SDP
from sipbridge.sip.dialog import Dialog
from sipbridge.sip.message import Request, Response
from sipbridge.sip.reliable import RAck, rseq_of

if TYPE_CHECKING:
    from sipbridge.sip.core import Core
    from sipbridge.sip.invite import Invite


_MAX_WAITING = 64
"""Of one call. A callee waits for each PRACK before it goes on; one that does not may wait for ever."""


class SentPracks:
    """Those of one call that wait for their response."""

    def __init__(self, core: Core, call: Invite) -> None:
        self._core = core
        self._call = call
        self._waiting: list[tuple[Request, Dialog]] = []

    @property
    def are_too_many(self) -> bool:
        return len(self._waiting) >= _MAX_WAITING

    def send(self, dialog: Dialog, response: Response, sdp: bytes, now: float) -> None:
        """Acknowledge a response that is new; `sdp` is the answer, where it makes an offer."""
        prack = dialog.request("PRACK")
        cseq = response.cseq
        prack.headers.add("RAck", str(RAck(rseq_of(response) or 0, cseq.number, cseq.method)))
        if sdp:
            prack.headers.add("Content-Type", SDP)
            prack.body = sdp
        self._waiting.append((prack, dialog))
        self._core.send_in_dialog(dialog, prack, self._call, now, beside=self._call.flow)

    def answered(self, prack: Request) -> None:
        """However it was answered, or not at all: the INVITE's own response tells what that came to."""
        self._waiting = [(request, dialog) for request, dialog in self._waiting if request is not prack]

    def are_waiting(self, dialog: Dialog) -> bool:
        """A request that overtook one of them would make it one out of order (RFC 3261 §12.2.2)."""
        return any(pracked is dialog for _, pracked in self._waiting)
