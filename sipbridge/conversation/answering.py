"""Answering: from the INVITE to where both can talk.

180 while the model connects, 200 when it can hear, 480 when it cannot: never a 200 followed by silence. Where we call,
the model is made ready while it rings, so that it speaks as soon as somebody answers.
"""

from __future__ import annotations

from sipbridge.conversation.context import CallContext
from sipbridge.conversation.failure import Failure
from sipbridge.errors import AgentStartError, CallNotAnsweredError, SipbridgeError
from sipbridge.outcome import Ended, reason_header, unanswered


class Answering:
    def __init__(self, call: CallContext, failure: Failure) -> None:
        self._call = call
        self._failure = failure

    async def answer(self) -> bool:
        """Whether the call is up and an agent has the line; else it has been ended."""
        call, leg = self._call, self._call.legs.current
        try:
            leg.negotiate()
            leg.begin(*call.tenant.formats(leg.likely_codec))
        except SipbridgeError as error:
            self._refuse(error.sip_status, Ended.REFUSED, str(error), error.label)
            return False
        try:
            await self._failure.open_first()
        except SipbridgeError as error:
            code = error.code if isinstance(error, AgentStartError) else error.label
            self._refuse(480, Ended.AGENT_NOT_READY, str(error), code)
            return False
        try:
            await leg.answer()
        except CallNotAnsweredError as error:
            call.end(unanswered(error), str(error), status=error.sip_status)
            return False
        call.record.answered()
        await leg.media_open.wait()
        return True

    def _refuse(self, status: int, ended: Ended, detail: str, code: str) -> None:
        leg = self._call.legs.current
        leg.reject(status, reason_header(ended, code))
        self._call.end(ended, detail, status=None if leg.outbound else status)
