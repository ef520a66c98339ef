"""What requests are answered with, and answers without a transaction (RFC 3261 §8.2.7), the same each time.

Refusals, challenges, OPTIONS: what strangers ask leaves nothing behind.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sipbridge.errors import SipParseError
from sipbridge.sip.flow import Flow
from sipbridge.sip.message import Request, Response, refusal
from sipbridge.sip.nat import stamp

if TYPE_CHECKING:
    from sipbridge.sip.core import Core


@dataclass(frozen=True, slots=True)
class Reply:
    """What a request is answered with."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    reason: str | None = None
    fault: str | None = None
    """Of a 400: what was wrong, one of `faults.py`."""


class Replies:
    def __init__(self, core: Core) -> None:
        self._core = core

    def refuse_malformed(self, error: SipParseError, flow: Flow, now: float) -> None:
        """Answer what could not be parsed, or drop it where nothing can be answered."""
        self._core.counters[f"malformed_{error.fault}"] += 1
        tag = self._core.stateless_tag(*(value for _, value in error.reply_headers))
        response = refusal(error, to_tag=tag)
        if response is None:
            self._core.counters["dropped_malformed"] += 1
            return
        self._core.counters["refused_malformed"] += 1
        with suppress(SipParseError):  # it may be the Via that is malformed: then it goes back as it came
            stamp(response.headers, response.via, flow)
        self._core.sign(response)
        self._core.transmit(flow, response.serialize(), None, now)

    def drop_malformed(self, error: SipParseError) -> None:
        """An optional header field that nobody screened. The message is as if it had never come."""
        self._core.counters["dropped_malformed"] += 1
        self._core.counters[f"malformed_{error.fault}"] += 1

    def reply(self, request: Request, reply: Reply, flow: Flow, now: float) -> None:
        """Answer without a transaction (§8.2.7)."""
        if reply.status >= 300:
            self._core.counters[f"refused_{reply.status}"] += 1
        if reply.fault is not None:
            self._core.counters[f"malformed_{reply.fault}"] += 1
        tag = self.tag(request)
        self.send(request.response(reply.status, reply.reason, to_tag=tag, headers=reply.headers), flow, now)

    def send(self, response: Response, flow: Flow, now: float) -> None:
        self._core.sign(response)
        self._core.transmit(flow, response.serialize(), response.via, now)

    def tag(self, request: Request) -> str:
        """The To tag: the same for each repetition of the request."""
        return self._core.stateless_tag(
            request.via.branch or "", request.call_id, request.from_.tag or "", str(request.cseq.number)
        )
