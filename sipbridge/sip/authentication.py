"""Who has to prove who they are, and how that goes (RFC 3261 §22.2-3, RFC 8760): the user agent's server side.

A request is challenged with 401, whether it is a REGISTER or an INVITE: for both we are the one whom it is for, the
registrar or the callee. 407 is a proxy's, which passes requests on; clients answer either.

Challenges are given without a transaction (§8.2.7), so that strangers leave nothing behind, and so that the request
that comes back with credentials is a new one, even where a client gives it the old branch: there is nothing that it
could be taken for. ACK and CANCEL are never challenged (§22.1): nobody can send them again. A request inside a dialog
was let in with its dialog.

Passwords are not kept here: `CredentialsNeeded` asks for one, `found` is told. Meanwhile the request waits, in a table
that is bounded in number and time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from sipbridge.sip.digest_server import Claim, DigestServer, Ha1, Verdict
from sipbridge.sip.events import Authenticated, AuthenticationFailed, CredentialsNeeded
from sipbridge.sip.flow import Flow
from sipbridge.sip.message import Request
from sipbridge.sip.replies import Reply
from sipbridge.sip.transaction_layer import Key, server_key

if TYPE_CHECKING:
    from sipbridge.sip.core import Core

Policy: TypeAlias = Callable[[Request, Flow], bool]
"""Does this request need credentials? False: its source is proof enough."""
Answer: TypeAlias = Callable[[Request, Reply, Flow, float], None]
Serve: TypeAlias = Callable[[Request, Flow, str | None, float], None]
"""With the name that was proven; None where nobody asked for one."""

_BUSY = Reply(500, (("Retry-After", "5"),))
"""We cannot find out now who that is. Not 503: a proxy would take the whole node for full."""


class _Pending:
    def __init__(self, needed: CredentialsNeeded, claim: Claim, key: Key, deadline: float) -> None:
        self.needed = needed
        self.claim = claim
        self.key = key
        self.deadline = deadline


class Authentication:
    def __init__(
        self,
        core: Core,
        server: DigestServer,
        policy: Policy,
        *,
        reply: Answer,
        serve: Serve,
        in_dialog: bool = False,
        max_pending: int = 256,
        lookup_seconds: float = 5.0,
    ) -> None:
        self._core = core
        self._server = server
        self._policy = policy
        self._reply = reply
        self._serve = serve
        self._in_dialog = in_dialog
        self._max_pending = max_pending
        self._lookup_seconds = lookup_seconds
        self._pending: dict[Key, _Pending] = {}

    def __len__(self) -> int:
        """How many requests wait for a look-up."""
        return len(self._pending)

    def receive(self, request: Request, flow: Flow, now: float) -> None:
        """A request that is no repetition, no ACK and no CANCEL: serve it, refuse it, or ask about it first."""
        if self._is_exempt(request) or not self._policy(request, flow):
            self._serve(request, flow, None, now)
            return
        key = server_key(request)
        if key in self._pending:
            return  # repeated, while its look-up goes on
        claim = self._server.claim(request)
        if isinstance(claim, Verdict):
            self._judge(claim, request, flow, "", now)
        elif not self._server.is_fresh(claim, flow.remote[0], now):
            self._judge(Verdict.STALE, request, flow, claim.username, now)
        elif len(self._pending) >= self._max_pending:
            self._core.counters["authentication_busy"] += 1
            self._reply(request, _BUSY, flow, now)
        else:
            needed = CredentialsNeeded(claim.username, self._server.realm, request, flow)
            self._pending[key] = _Pending(needed, claim, key, now + self._lookup_seconds)
            self._core.schedule.update(self)
            self._core.emit(needed)

    def found(self, needed: CredentialsNeeded, password: str | Ha1 | None, now: float) -> None:
        """The answer to `CredentialsNeeded`; None: there is no such user, or not for this request. An answer that comes
        too late changes nothing."""
        pending = self._take(needed.request)
        if pending is None:
            return
        verdict = self._server.check_claim(pending.claim, needed.request.method, password, now)
        self._judge(verdict, needed.request, needed.flow, needed.username, now)

    def cancel(self, cancel: Request, now: float) -> bool:
        """The CANCEL of an INVITE that waits here: it is answered 487. False: there is none."""
        key = server_key(cancel, "INVITE")
        if key not in self._pending:
            return False
        pending = self._take(self._pending[key].needed.request)
        assert pending is not None
        self._reply(pending.needed.request, Reply(487), pending.needed.flow, now)
        return True

    # time

    def get_timer(self) -> float | None:
        return next(iter(self._pending.values())).deadline if self._pending else None

    def handle_timer(self, now: float) -> None:
        """Nobody has answered for the oldest ones."""
        for pending in [pending for pending in self._pending.values() if pending.deadline <= now]:
            self._core.counters["authentication_timeout"] += 1
            self._take(pending.needed.request)
            self._reply(pending.needed.request, _BUSY, pending.needed.flow, now)

    # private

    def _is_exempt(self, request: Request) -> bool:
        return request.to.tag is not None and request.method != "REGISTER" and not self._in_dialog

    def _take(self, request: Request) -> _Pending | None:
        key = server_key(request)
        pending = self._pending.get(key)
        if pending is None or pending.needed.request is not request:
            return None
        del self._pending[key]
        self._core.schedule.update(self)
        return pending

    def _judge(self, verdict: Verdict, request: Request, flow: Flow, username: str, now: float) -> None:
        self._core.counters[f"authentication_{verdict.value}"] += 1
        if verdict is Verdict.OK:
            self._core.emit(Authenticated(flow, username))
            self._serve(request, flow, username, now)
        elif verdict is Verdict.MALFORMED:
            self._reply(request, Reply(400, reason="Bad Request: malformed credentials"), flow, now)
        else:
            if verdict is Verdict.WRONG:
                self._core.emit(AuthenticationFailed(flow, username))
            challenges = self._server.challenge(now, source=flow.remote[0], stale=verdict is Verdict.STALE)
            headers = tuple(("WWW-Authenticate", challenge) for challenge in challenges)
            self._reply(request, Reply(401, headers), flow, now)
