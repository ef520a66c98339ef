"""Referring: a REFER of ours, from asking until it is known what became of it (RFC 3515), for a leg.

What far ends do in answer differs more than the RFC lets one hope: they refuse, or take it on and never say another
word, end their reports before there is anything to report, or hang up instead. All of it ends in a `Referred`, in time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from sipbridge.sip.events import ReferAccepted, ReferFailed, ReferProgress
from sipbridge.sip.invite import CallState, Invite

_A_WORD_S = 10.0
"""How long the far end may say nothing: no answer to the REFER, no NOTIFY after it. Both are due at once (RFC 3515
§2.4.2, §2.4.4), and somebody waits."""
_INABILITY = frozenset({403, 405, 501})
"""Of a call that the far end has made, or not: what was refused there is the way, not the target."""


@dataclass(frozen=True, slots=True)
class Referred:
    """What became of it."""

    failure: str = ""
    """Empty: the far end talks to somebody else now."""
    by_target: bool = False
    """Whom we named has been asked, or may have been: to call there ourselves would be no better."""


class Referring:
    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._outcome: asyncio.Future[Referred] | None = None
        self._patience: asyncio.Timeout | None = None
        self._told_by = 0.0
        self._calls = False
        self.accepted = False
        """The far end has taken it on, and what becomes of it is not known yet."""

    async def ask(self, invite: Invite, target: str, seconds: float, replaces: Invite | None) -> Referred:
        """See `SipLeg.refer`."""
        if self._outcome is not None:
            return Referred("another transfer is under way", by_target=True)
        if invite.state is not CallState.CONFIRMED:
            return Referred("the caller's side has not confirmed the call")
        dialog = invite.dialog
        if dialog is not None and (dialog.allows_refer is False or replaces and not dialog.supports_replaces):
            return Referred("the caller's side takes no such transfers")
        loop = asyncio.get_running_loop()
        self._outcome, self._calls = loop.create_future(), False
        self._told_by = loop.time() + seconds
        try:
            if replaces is None:
                invite.refer(target, self._clock())
            else:
                invite.refer(None, self._clock(), replaces=replaces)
            async with asyncio.timeout(_A_WORD_S) as self._patience:
                return await self._outcome
        except TimeoutError:
            # Once it has told that it calls, that call may still be going on.
            return Referred("no answer", by_target=loop.time() >= self._told_by)
        finally:
            self._outcome = self._patience = None
            # A far end that hangs up later does so for reasons of its own.
            self.accepted = self.accepted and invite.is_over

    def sip_event(self, event: ReferAccepted | ReferProgress | ReferFailed) -> None:
        match event:
            case ReferAccepted(subscribed=subscribed):
                self.accepted = True
                if not subscribed:
                    self._over(Referred())  # RFC 4488: it says no more, and takes it from here
                elif not self._calls:  # a NOTIFY may have been quicker than the 202 (RFC 3515 §2.4.4)
                    self._wait_for_a_word()
            case ReferProgress():
                self._goes_on(event)
            case ReferFailed(status=status):
                self._over(Referred(f"refused with {status}"))

    def _wait_for_a_word(self) -> None:
        if self._patience is not None:
            self._patience.reschedule(asyncio.get_running_loop().time() + _A_WORD_S)

    def _goes_on(self, progress: ReferProgress) -> None:
        status = progress.status
        if progress.final and status >= 200:
            failure = f"{status} {progress.reason}".strip()
            self._over(Referred() if status < 300 else Referred(failure, status not in _INABILITY))
        elif progress.final:
            self._wait_for_a_word()  # how it goes will not be told: a BYE would say it
        elif self._patience is not None:
            self._calls = True
            self._patience.reschedule(self._told_by)

    def _over(self, outcome: Referred) -> None:
        if self._outcome is not None and not self._outcome.done():
            self._outcome.set_result(outcome)
