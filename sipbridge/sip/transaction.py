"""The four transaction machines of RFC 3261 §17, with the Accepted state of RFC 6026, as tables.

A transaction is fed messages and time and leaves two things behind, which whoever fed it must collect: `to_send`, bytes
for the peer, and `to_user`, what its transaction user (TU) has to hear. What it means that a call was answered or
refused is not known here (`invite.py`); neither is how a message finds its transaction (`transaction_layer.py`).

A table maps a state and an input to the next state and an action, the name of one of the methods at the end of the
class. An input that has no entry is ignored where it came from the network, and is a `LocalProtocolError` where our own
TU asked for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import ClassVar, TypeAlias

from sipbridge.errors import LocalProtocolError
from sipbridge.sip.message import Headers, Request, Response
from sipbridge.sip.timers import RULES, Timer, Timers


class State(Enum):
    CALLING = "calling"
    TRYING = "trying"
    PROCEEDING = "proceeding"
    ACCEPTED = "accepted"
    COMPLETED = "completed"
    CONFIRMED = "confirmed"
    TERMINATED = "terminated"


class Input(Enum):
    # from the network
    REQUEST = "request"  # a repetition of the request that began it
    ACK = "ACK"
    RECEIVE_1XX = "1xx"
    RECEIVE_2XX = "2xx"
    RECEIVE_FAILURE = "300-699"
    TRANSPORT_ERROR = "transport error"
    # from the TU
    SEND_1XX = "send 1xx"
    SEND_2XX = "send 2xx"
    SEND_FAILURE = "send 300-699"
    # from the clock
    TIMER_A = "Timer A"
    TIMER_B = "Timer B"
    TIMER_D = "Timer D"
    TIMER_E = "Timer E"
    TIMER_F = "Timer F"
    TIMER_G = "Timer G"
    TIMER_H = "Timer H"
    TIMER_I = "Timer I"
    TIMER_J = "Timer J"
    TIMER_K = "Timer K"
    TIMER_L = "Timer L"
    TIMER_M = "Timer M"


Table: TypeAlias = dict[State, dict[Input, tuple[State, str]]]
Running: TypeAlias = dict[State, frozenset[Timer]]

# RFC 3261 §17.1.1, figure 5, with the Accepted state of RFC 6026 §7.2. One thing is not as §17.1.4 would have it: when
# its connection is gone the TU is told, but the transaction lives on. The INVITE has been sent, and whoever has it
# answers it by a connection of his own (§18.2.2); a 2xx must not find that nobody is there to acknowledge it.
INVITE_CLIENT: Table = {
    State.CALLING: {
        Input.TIMER_A: (State.CALLING, "send_request"),
        Input.TIMER_B: (State.TERMINATED, "time_out"),
        Input.TRANSPORT_ERROR: (State.CALLING, "fail"),
        Input.RECEIVE_1XX: (State.PROCEEDING, "deliver"),
        Input.RECEIVE_2XX: (State.ACCEPTED, "deliver"),
        Input.RECEIVE_FAILURE: (State.COMPLETED, "acknowledge_and_deliver"),
    },
    State.PROCEEDING: {
        Input.TRANSPORT_ERROR: (State.PROCEEDING, "fail"),
        Input.RECEIVE_1XX: (State.PROCEEDING, "deliver"),
        Input.RECEIVE_2XX: (State.ACCEPTED, "deliver"),
        Input.RECEIVE_FAILURE: (State.COMPLETED, "acknowledge_and_deliver"),
    },
    State.ACCEPTED: {
        Input.RECEIVE_2XX: (State.ACCEPTED, "deliver"),  # repeated or forked: the UAC core acknowledges each
        Input.TIMER_M: (State.TERMINATED, "nothing"),
    },
    State.COMPLETED: {
        Input.RECEIVE_FAILURE: (State.COMPLETED, "acknowledge"),
        Input.TIMER_D: (State.TERMINATED, "nothing"),
    },
}

# RFC 3261 §17.1.2, figure 6.
NON_INVITE_CLIENT: Table = {
    State.TRYING: {
        Input.TIMER_E: (State.TRYING, "send_request"),
        Input.TIMER_F: (State.TERMINATED, "time_out"),
        Input.TRANSPORT_ERROR: (State.TERMINATED, "fail"),
        Input.RECEIVE_1XX: (State.PROCEEDING, "deliver"),
        Input.RECEIVE_2XX: (State.COMPLETED, "deliver"),
        Input.RECEIVE_FAILURE: (State.COMPLETED, "deliver"),
    },
    State.PROCEEDING: {
        Input.TIMER_E: (State.PROCEEDING, "send_request"),
        Input.TIMER_F: (State.TERMINATED, "time_out"),
        Input.TRANSPORT_ERROR: (State.TERMINATED, "fail"),
        Input.RECEIVE_1XX: (State.PROCEEDING, "deliver"),
        Input.RECEIVE_2XX: (State.COMPLETED, "deliver"),
        Input.RECEIVE_FAILURE: (State.COMPLETED, "deliver"),
    },
    State.COMPLETED: {
        Input.TIMER_K: (State.TERMINATED, "nothing"),
    },
}

# RFC 3261 §17.2.1, figure 7, with the Accepted state of RFC 6026 §7.1.
INVITE_SERVER: Table = {
    State.PROCEEDING: {
        Input.REQUEST: (State.PROCEEDING, "send_response_again"),
        Input.SEND_1XX: (State.PROCEEDING, "send_response"),
        Input.SEND_2XX: (State.ACCEPTED, "send_response"),
        Input.SEND_FAILURE: (State.COMPLETED, "send_response"),
    },
    State.ACCEPTED: {
        Input.REQUEST: (State.ACCEPTED, "nothing"),  # absorbed: the TU repeats its 2xx by itself
        Input.ACK: (State.ACCEPTED, "deliver_ack"),
        Input.SEND_2XX: (State.ACCEPTED, "send_response"),
        Input.TIMER_L: (State.TERMINATED, "nothing"),
    },
    State.COMPLETED: {
        Input.REQUEST: (State.COMPLETED, "send_response_again"),
        Input.TIMER_G: (State.COMPLETED, "send_response_again"),
        Input.ACK: (State.CONFIRMED, "nothing"),
        Input.TIMER_H: (State.TERMINATED, "time_out"),
    },
    State.CONFIRMED: {
        Input.REQUEST: (State.CONFIRMED, "nothing"),
        Input.ACK: (State.CONFIRMED, "nothing"),
        Input.TIMER_I: (State.TERMINATED, "nothing"),
    },
}

# RFC 3261 §17.2.2, figure 8.
NON_INVITE_SERVER: Table = {
    State.TRYING: {
        Input.REQUEST: (State.TRYING, "nothing"),
        Input.SEND_1XX: (State.PROCEEDING, "send_response"),
        Input.SEND_2XX: (State.COMPLETED, "send_response"),
        Input.SEND_FAILURE: (State.COMPLETED, "send_response"),
    },
    State.PROCEEDING: {
        Input.REQUEST: (State.PROCEEDING, "send_response_again"),
        Input.SEND_1XX: (State.PROCEEDING, "send_response"),
        Input.SEND_2XX: (State.COMPLETED, "send_response"),
        Input.SEND_FAILURE: (State.COMPLETED, "send_response"),
    },
    State.COMPLETED: {
        Input.REQUEST: (State.COMPLETED, "send_response_again"),
        Input.TIMER_J: (State.TERMINATED, "nothing"),
    },
}

INVITE_CLIENT_TIMERS: Running = {
    State.CALLING: frozenset({Timer.A, Timer.B}),
    State.ACCEPTED: frozenset({Timer.M}),
    State.COMPLETED: frozenset({Timer.D}),
}
NON_INVITE_CLIENT_TIMERS: Running = {
    State.TRYING: frozenset({Timer.E, Timer.F}),
    State.PROCEEDING: frozenset({Timer.E, Timer.F}),
    State.COMPLETED: frozenset({Timer.K}),
}
INVITE_SERVER_TIMERS: Running = {
    State.ACCEPTED: frozenset({Timer.L}),
    State.COMPLETED: frozenset({Timer.G, Timer.H}),
    State.CONFIRMED: frozenset({Timer.I}),
}
NON_INVITE_SERVER_TIMERS: Running = {
    State.COMPLETED: frozenset({Timer.J}),
}

_TIMER_INPUT = {timer: Input[f"TIMER_{timer.value}"] for timer in Timer}
_REPEATING = frozenset({Timer.A, Timer.E, Timer.G})


@dataclass(frozen=True, slots=True)
class ResponseReceived:
    response: Response


@dataclass(frozen=True, slots=True)
class AckReceived:
    """An ACK that matched an accepted INVITE (it happens where a peer uses one branch for both)."""

    request: Request


@dataclass(frozen=True, slots=True)
class TimedOut:
    """No answer (Timers B and F), or no ACK for a failure (Timer H)."""


@dataclass(frozen=True, slots=True)
class TransportFailed:
    """The connection is gone: the request may not have arrived. It ends every transaction but that of an INVITE."""


UserEvent: TypeAlias = ResponseReceived | AckReceived | TimedOut | TransportFailed


class Transaction:
    """What the four have in common: a state, its timers, and one step."""

    table: Table
    running: Running

    def __init__(self, request: Request, state: State, *, timers: Timers, reliable: bool) -> None:
        self.request = request
        self.to_send: list[bytes] = []
        """Collect and clear after every call."""
        self.to_user: list[UserEvent] = []
        self.state = state
        self._timers = timers
        self._reliable = reliable
        self._deadlines: dict[Timer, float] = {}
        self._intervals: dict[Timer, float] = {}

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.request.method} {self.state.value}>"

    def get_timer(self) -> float | None:
        return min(self._deadlines.values(), default=None)

    def handle_timer(self, now: float) -> None:
        """Fire every timer that is due, each with its own time, so that a late clock does not stretch intervals."""
        while self._deadlines:
            timer, deadline = min(self._deadlines.items(), key=lambda item: item[1])
            if deadline > now:
                return
            self._fire(timer, deadline, now)

    def _fire(self, timer: Timer, deadline: float, now: float) -> None:
        if timer in _REPEATING:
            self._intervals[timer] = self._next_interval(timer)
            following = deadline + self._intervals[timer]
            # After a long stall one repetition is enough: never a burst of them.
            self._deadlines[timer] = following if following > now else now + self._intervals[timer]
        else:
            del self._deadlines[timer]
        self._step(_TIMER_INPUT[timer], now)

    def _next_interval(self, timer: Timer) -> float:
        doubled = 2 * self._intervals[timer]
        if timer is Timer.A:
            return doubled
        if timer is Timer.E and self.state is State.PROCEEDING:
            return self._timers.t2
        return min(doubled, self._timers.t2)

    def _step(self, received: Input, now: float) -> bool:
        """Do what the table says; False where it says nothing."""
        entry = self.table.get(self.state, {}).get(received)
        if entry is None:
            return False
        state, action = entry
        changed = state is not self.state
        self.state = state
        getattr(self, f"_{action}")()
        if changed:
            self._set_timers(now)
        return True

    def _set_timers(self, now: float) -> None:
        wanted = self.running.get(self.state, frozenset())
        for timer in [timer for timer in self._deadlines if timer not in wanted]:
            del self._deadlines[timer]
        for timer in wanted:
            if timer in self._deadlines:
                continue
            rule = RULES[timer]
            interval = rule.reliable(self._timers) if self._reliable else rule.unreliable(self._timers)
            if interval == 0:
                self._step(_TIMER_INPUT[timer], now)
            elif interval is not None:
                self._intervals[timer] = interval
                self._deadlines[timer] = now + interval

    # actions

    def _nothing(self) -> None:
        """The change of state is all there is to do."""

    def _time_out(self) -> None:
        self.to_user.append(TimedOut())


class ClientTransaction(Transaction):
    """A request of ours. It is in `to_send` from the beginning; its top Via must already carry the branch."""

    initial: ClassVar[State]

    def __init__(self, request: Request, now: float, *, timers: Timers, reliable: bool) -> None:
        super().__init__(request, self.initial, timers=timers, reliable=reliable)
        self._wire = request.serialize()
        self._response: Response | None = None
        self._send_request()
        self._set_timers(now)

    def receive_response(self, response: Response, now: float) -> None:
        self._response = response
        if response.status < 200:
            self._step(Input.RECEIVE_1XX, now)
        elif response.status < 300:
            self._step(Input.RECEIVE_2XX, now)
        else:
            self._step(Input.RECEIVE_FAILURE, now)

    def transport_failed(self, now: float) -> None:
        self._step(Input.TRANSPORT_ERROR, now)

    def _send_request(self) -> None:
        self.to_send.append(self._wire)

    def _deliver(self) -> None:
        assert self._response is not None
        self.to_user.append(ResponseReceived(self._response))

    def _fail(self) -> None:
        self.to_user.append(TransportFailed())


class InviteClientTransaction(ClientTransaction):
    table = INVITE_CLIENT
    running = INVITE_CLIENT_TIMERS
    initial = State.CALLING

    def _acknowledge(self) -> None:
        assert self._response is not None
        self.to_send.append(ack_for_failure(self.request, self._response).serialize())

    def _acknowledge_and_deliver(self) -> None:
        self._acknowledge()
        self._deliver()


class NonInviteClientTransaction(ClientTransaction):
    table = NON_INVITE_CLIENT
    running = NON_INVITE_CLIENT_TIMERS
    initial = State.TRYING


SPENT = Request("", "")
"""Stands for a request that has had its final answer: what is kept of it for half a minute should be little."""


class ServerTransaction(Transaction):
    """A request of the peer's that has been received and is to be answered; then `request` is `SPENT`."""

    initial: ClassVar[State]

    def __init__(self, request: Request, *, timers: Timers, reliable: bool) -> None:
        super().__init__(request, self.initial, timers=timers, reliable=reliable)
        self._wire: bytes | None = None
        self._ack: Request | None = None
        self._method = request.method

    def receive_request(self, request: Request, now: float) -> None:
        """A repetition of the request, or the ACK that matches it."""
        if request.method == "ACK":
            self._ack = request
            self._step(Input.ACK, now)
        else:
            self._step(Input.REQUEST, now)

    def send_response(self, response: Response, now: float) -> None:
        """Raises LocalProtocolError where a final response has already been given (a repeated 2xx apart)."""
        if response.status < 200:
            received = Input.SEND_1XX
        elif response.status < 300:
            received = Input.SEND_2XX
        else:
            received = Input.SEND_FAILURE
        if received not in self.table.get(self.state, {}):
            raise LocalProtocolError(f"{response.status} to {self._method} in state {self.state.value}")
        self._wire = response.serialize()
        self._step(received, now)
        if response.status >= 200:
            self.request = SPENT
        if self.state is State.ACCEPTED:
            self._wire = None  # the TU has it, and repeats it

    def _send_response(self) -> None:
        assert self._wire is not None
        self.to_send.append(self._wire)

    def _send_response_again(self) -> None:
        if self._wire is not None:
            self.to_send.append(self._wire)

    def _deliver_ack(self) -> None:
        assert self._ack is not None
        self.to_user.append(AckReceived(self._ack))


class InviteServerTransaction(ServerTransaction):
    table = INVITE_SERVER
    running = INVITE_SERVER_TIMERS
    initial = State.PROCEEDING


class NonInviteServerTransaction(ServerTransaction):
    table = NON_INVITE_SERVER
    running = NON_INVITE_SERVER_TIMERS
    initial = State.TRYING


def ack_for_failure(invite: Request, response: Response) -> Request:
    """The ACK of a 3xx-6xx: the INVITE's own branch, Request-URI and Route, and the To of the response (§17.1.1.3)."""
    headers = Headers()
    headers.add("Via", invite.headers.get_all("Via")[0])
    for name in ("From", "Call-ID"):
        headers.add(name, invite.headers.get(name) or "")
    headers.add("To", response.headers.get("To") or "")
    headers.add("CSeq", f"{invite.cseq.number} ACK")
    headers.add("Max-Forwards", "70")
    for route in invite.headers.get_all("Route"):
        headers.add("Route", route)
    return Request("ACK", invite.uri, headers, b"")
