"""Keys of ours, told by INFO (RFC 6086, and 2976 before it) to a peer that takes none in the sound: in order, each sent
when the one before has been answered."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from sipbridge.errors import LocalProtocolError
from sipbridge.sip.events import KeyTold
from sipbridge.sip.info import DTMF_RELAY, told_key
from sipbridge.sip.message import Request
from sipbridge.sip.part import CallPart
from sipbridge.sip.usage import ends_call

if TYPE_CHECKING:
    from sipbridge.sip.core import Core
    from sipbridge.sip.invite import Invite


class SentKeys(CallPart):
    """Those of one call."""

    def __init__(self, core: Core, call: Invite) -> None:
        super().__init__(core, call)
        self._waiting: deque[bytes] = deque()
        self._asked: Request | None = None

    def send(self, key: str, now: float) -> None:
        """See `Invite.send_key`."""
        if self._call.is_over:
            return
        if not self._call.is_confirmed:
            raise LocalProtocolError(f"INFO in a call that is {self._call.state.value}")
        self._waiting.append(told_key(key))
        self._next(now)

    def answered(self, request: Request, status: int, now: float) -> bool:
        """A final response, or none that ever comes. False: it is no request of ours here."""
        if request is not self._asked:
            return False
        self._asked = None
        self._core.emit(KeyTold(self._call, status))
        if ends_call("INFO", status):
            self._call.lose(status, now)
        elif status >= 300:
            self._give_up(status)
        else:
            self._next(now)
        return True

    def stop(self) -> None:
        """The call is over."""
        self._asked = None
        self._waiting.clear()

    def _give_up(self, status: int) -> None:
        """Who refuses one key refuses all."""
        while self._waiting:
            self._waiting.popleft()
            self._core.emit(KeyTold(self._call, status))

    def _next(self, now: float) -> None:
        dialog = self._call.dialog
        if self._asked is not None or not self._waiting or dialog is None:
            return
        request = dialog.request("INFO")
        request.headers.add("Content-Type", DTMF_RELAY)
        request.body = self._waiting.popleft()
        self._asked = request
        self._core.send_in_dialog(dialog, request, self._call, now, beside=self._call.flow)
