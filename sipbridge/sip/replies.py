"""Answers without a transaction (RFC 3261 §8.2.7): a repetition of the request is answered in the same words.

Refusals, challenges, OPTIONS: what strangers ask leaves nothing behind.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from sipbridge.errors import SipParseError
from sipbridge.sip.flow import Flow
from sipbridge.sip.message import Request, Response, refusal
from sipbridge.sip.nat import stamp
from sipbridge.sip.screening import Refusal

if TYPE_CHECKING:
    from sipbridge.sip.core import Core


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

    def reply(self, request: Request, refusal: Refusal, flow: Flow, now: float) -> None:
        """Answer without a transaction (§8.2.7)."""
        if refusal.status >= 300:
            self._core.counters[f"refused_{refusal.status}"] += 1
        if refusal.fault is not None:
            self._core.counters[f"malformed_{refusal.fault}"] += 1
        tag = self.tag(request)
        self.send(request.response(refusal.status, refusal.reason, to_tag=tag, headers=refusal.headers), flow, now)

    def send(self, response: Response, flow: Flow, now: float) -> None:
        self._core.sign(response)
        self._core.transmit(flow, response.serialize(), response.via, now)

    def tag(self, request: Request) -> str:
        """The To tag: the same for each repetition of the request."""
        return self._core.stateless_tag(
            request.via.branch or "", request.call_id, request.from_.tag or "", str(request.cseq.number)
        )
