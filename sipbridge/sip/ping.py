"""OPTIONS as a question whether somebody is there (RFC 3261 §11)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sipbridge.sip.client_request import ClientRequest
from sipbridge.sip.flow import Flow
from sipbridge.sip.message import Request, Response


@dataclass(frozen=True, slots=True)
class PingResult:
    """Any response but a 408 or a 503 says that somebody is there; what it means for a trunk is not known here."""

    status: int
    """408: no answer; 503: not reachable, or it was the answer."""
    reason: str
    seconds: float
    """From asking to the outcome, look-ups and failed attempts included."""
    flow: Flow | None
    """By which it was answered; None: it was not."""
    response: Response | None

    @property
    def answered(self) -> bool:
        return self.response is not None


class Ping:
    """The user of one OPTIONS request. `sending` must be set as soon as there is one."""

    def __init__(self, on_result: Callable[[PingResult], None], now: float) -> None:
        self.sending: ClientRequest | None = None
        self._on_result = on_result
        self._begun = now

    def receive_response(self, request: Request, response: Response, now: float) -> None:
        if response.status >= 200:
            flow = None if self.sending is None else self.sending.flow
            self._on_result(PingResult(response.status, response.reason, now - self._begun, flow, response))

    def request_failed(self, request: Request, status: int, now: float) -> None:
        trouble = "" if self.sending is None else self.sending.trouble
        reason = "no answer" if status == 408 else f"not reachable{': ' if trouble else ''}{trouble}"
        self._on_result(PingResult(status, reason, now - self._begun, None, None))
