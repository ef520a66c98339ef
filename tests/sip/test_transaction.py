"""The four transaction machines: RFC 3261 §17 and RFC 6026, their timers as numbers."""

from __future__ import annotations

import pytest

from sipbridge.errors import LocalProtocolError
from sipbridge.sip.message import Request, Response, parse_message
from sipbridge.sip.timers import RULES, Timer, Timers
from sipbridge.sip.transaction import (
    INVITE_CLIENT,
    INVITE_CLIENT_TIMERS,
    INVITE_SERVER,
    INVITE_SERVER_TIMERS,
    NON_INVITE_CLIENT,
    NON_INVITE_CLIENT_TIMERS,
    NON_INVITE_SERVER,
    NON_INVITE_SERVER_TIMERS,
    AckReceived,
    ClientTransaction,
    Input,
    InviteClientTransaction,
    InviteServerTransaction,
    NonInviteClientTransaction,
    NonInviteServerTransaction,
    ResponseReceived,
    Running,
    ServerTransaction,
    State,
    Table,
    TimedOut,
    Transaction,
    TransportFailed,
)
from tests.sip.wire import request

TIMERS = Timers()
MACHINES = [
    pytest.param(INVITE_CLIENT, INVITE_CLIENT_TIMERS, InviteClientTransaction, id="invite-client"),
    pytest.param(NON_INVITE_CLIENT, NON_INVITE_CLIENT_TIMERS, NonInviteClientTransaction, id="non-invite-client"),
    pytest.param(INVITE_SERVER, INVITE_SERVER_TIMERS, InviteServerTransaction, id="invite-server"),
    pytest.param(NON_INVITE_SERVER, NON_INVITE_SERVER_TIMERS, NonInviteServerTransaction, id="non-invite-server"),
]


def message(method: str, **changes: str) -> Request:
    parsed = parse_message(request(method, **changes))  # type: ignore[arg-type]
    assert isinstance(parsed, Request)
    return parsed


def client(method: str, *, reliable: bool = False) -> ClientTransaction:
    machine = InviteClientTransaction if method == "INVITE" else NonInviteClientTransaction
    transaction: ClientTransaction = machine(message(method), 0.0, timers=TIMERS, reliable=reliable)
    transaction.to_send.clear()
    return transaction


def server(method: str, *, reliable: bool = False) -> ServerTransaction:
    machine = InviteServerTransaction if method == "INVITE" else NonInviteServerTransaction
    transaction: ServerTransaction = machine(message(method), timers=TIMERS, reliable=reliable)
    return transaction


def answer(transaction: Transaction, status: int) -> Response:
    return transaction.request.response(status, to_tag="b1")


def fire_timers(transaction: Transaction, until: float) -> list[float]:
    """Let time pass; the times at which something was sent."""
    times = []
    while (deadline := transaction.get_timer()) is not None and deadline <= until:
        transaction.handle_timer(deadline)
        times += [deadline] * len(transaction.to_send)
        transaction.to_send.clear()
    return times


def lifetime(transaction: Transaction, since: float) -> float:
    """How long until it has ended by itself."""
    last = since
    while (deadline := transaction.get_timer()) is not None:
        transaction.handle_timer(deadline)
        last = deadline
    assert transaction.state is State.TERMINATED
    return last - since


@pytest.mark.parametrize(("table", "running", "machine"), MACHINES)
class TestTables:
    def test_every_action_exists(self, table: Table, running: Running, machine: type[Transaction]) -> None:
        actions = {action for entries in table.values() for _, action in entries.values()}
        assert all(hasattr(machine, f"_{action}") for action in actions)

    def test_a_state_waits_for_its_timers_and_no_others(
        self, table: Table, running: Running, machine: type[Transaction]
    ) -> None:
        for state, entries in table.items():
            waited_for = {entry for entry in entries if entry.name.startswith("TIMER_")}
            assert waited_for == {Input[f"TIMER_{timer.value}"] for timer in running.get(state, ())}, state

    def test_every_state_can_be_reached_and_left(
        self, table: Table, running: Running, machine: type[Transaction]
    ) -> None:
        reached = {state for entries in table.values() for state, _ in entries.values()}
        assert State.TERMINATED in reached
        assert set(table) - reached <= {State.CALLING, State.TRYING, State.PROCEEDING}
        assert reached - set(table) == {State.TERMINATED}


def test_timer_durations_are_those_of_table_4() -> None:
    names = "ABDEFGHIJKLM"
    unreliable = [RULES[Timer(name)].unreliable(TIMERS) for name in names]
    reliable = [RULES[Timer(name)].reliable(TIMERS) for name in names]
    assert unreliable == [0.5, 32, 32, 0.5, 32, 0.5, 32, 5, 32, 5, 32, 32]
    assert reliable == [None, 32, 0, None, 32, None, 32, 0, 0, 0, 32, 32]


class TestInviteClient:
    def test_the_request_is_sent_at_once(self) -> None:
        transaction = InviteClientTransaction(message("INVITE"), 0.0, timers=TIMERS, reliable=False)
        assert transaction.to_send == [transaction.request.serialize()]

    def test_timer_a_doubles_until_timer_b(self) -> None:
        transaction = client("INVITE")
        assert fire_timers(transaction, until=100) == [0.5, 1.5, 3.5, 7.5, 15.5, 31.5]
        assert transaction.state is State.TERMINATED
        assert transaction.to_user == [TimedOut()]

    def test_over_tcp_nothing_is_repeated(self) -> None:
        transaction = client("INVITE", reliable=True)
        assert fire_timers(transaction, until=31.9) == []
        assert lifetime(transaction, since=0.0) == 32
        assert transaction.to_user == [TimedOut()]

    def test_a_provisional_response_ends_the_repetitions(self) -> None:
        transaction = client("INVITE")
        transaction.receive_response(answer(transaction, 100), 0.4)
        assert transaction.get_timer() is None
        assert transaction.state is State.PROCEEDING

    def test_a_2xx_is_accepted_and_each_further_one_delivered_until_timer_m(self) -> None:
        transaction = client("INVITE")
        for now in (1.0, 1.5, 2.5):
            transaction.receive_response(answer(transaction, 200), now)
        assert transaction.state is State.ACCEPTED
        assert transaction.to_send == []  # its ACK is the UAC core's
        assert len(transaction.to_user) == 3
        assert lifetime(transaction, since=1.0) == 32

    @pytest.mark.parametrize("status", [302, 486, 604])
    def test_each_copy_of_a_failure_is_acknowledged_and_only_one_delivered(self, status: int) -> None:
        transaction = client("INVITE")
        for now in (1.0, 1.5, 2.5):
            transaction.receive_response(answer(transaction, status), now)
        assert [isinstance(event, ResponseReceived) for event in transaction.to_user] == [True]
        assert len(transaction.to_send) == 3
        ack = parse_message(transaction.to_send[2])
        assert isinstance(ack, Request)
        assert (ack.method, ack.uri) == ("ACK", transaction.request.uri)
        assert ack.via == transaction.request.via
        assert ack.to.tag == "b1"
        assert str(ack.cseq) == "1 ACK"
        assert lifetime(transaction, since=1.0) == 32  # Timer D

    def test_a_failure_over_tcp_ends_it_at_once(self) -> None:
        transaction = client("INVITE", reliable=True)
        transaction.receive_response(answer(transaction, 486), 1.0)
        assert transaction.state is State.TERMINATED
        assert len(transaction.to_send) == 1

    def test_the_ack_goes_by_the_route_of_its_invite(self) -> None:
        invite = message("INVITE")
        invite.headers.add("Route", "<sip:proxy.example.com;lr>")
        transaction = InviteClientTransaction(invite, 0.0, timers=TIMERS, reliable=False)
        transaction.receive_response(answer(transaction, 486), 1.0)
        ack = parse_message(transaction.to_send[-1])
        assert ack.headers.get_all("Route") == ["<sip:proxy.example.com;lr>"]

    @pytest.mark.parametrize("rings", [False, True])
    def test_a_transport_error_is_told_and_the_answer_may_still_come(self, rings: bool) -> None:
        transaction = client("INVITE", reliable=True)
        if rings:
            transaction.receive_response(answer(transaction, 180), 0.1)
            transaction.to_user.clear()
        transaction.transport_failed(0.2)
        assert transaction.to_user == [TransportFailed()]
        transaction.receive_response(answer(transaction, 200), 20.0)
        assert isinstance(transaction.to_user[-1], ResponseReceived)
        assert transaction.state is State.ACCEPTED

    def test_after_a_transport_error_no_answer_is_waited_for_longer_than_without(self) -> None:
        transaction = client("INVITE", reliable=True)
        transaction.transport_failed(0.2)
        assert lifetime(transaction, since=0.0) == 32  # Timer B


class TestNonInviteClient:
    def test_a_transport_error_ends_it(self) -> None:
        transaction = client("BYE", reliable=True)
        transaction.transport_failed(0.1)
        assert transaction.to_user == [TransportFailed()]
        assert transaction.state is State.TERMINATED

    def test_timer_e_doubles_up_to_t2_until_timer_f(self) -> None:
        transaction = client("BYE")
        assert fire_timers(transaction, until=100) == [0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5]
        assert transaction.to_user == [TimedOut()]

    def test_after_a_provisional_response_it_is_repeated_every_t2(self) -> None:
        transaction = client("BYE")
        transaction.receive_response(answer(transaction, 100), 0.4)
        assert fire_timers(transaction, until=13) == [0.5, 4.5, 8.5, 12.5]
        assert lifetime(transaction, since=0.0) == 32  # Timer F goes on running

    def test_repeated_final_responses_are_absorbed_until_timer_k(self) -> None:
        transaction = client("BYE")
        for now in (1.0, 2.0):
            transaction.receive_response(answer(transaction, 200), now)
        assert len(transaction.to_user) == 1
        assert lifetime(transaction, since=1.0) == 5

    def test_over_tcp_the_final_response_ends_it(self) -> None:
        transaction = client("BYE", reliable=True)
        transaction.receive_response(answer(transaction, 200), 1.0)
        assert transaction.state is State.TERMINATED


class TestInviteServer:
    def test_busy_is_repeated_until_acknowledged(self) -> None:
        transaction = server("INVITE")
        transaction.send_response(answer(transaction, 486), 0.0)
        transaction.to_send.clear()
        assert fire_timers(transaction, until=4.0) == [0.5, 1.5, 3.5]
        transaction.receive_request(message("ACK"), 4.0)
        assert transaction.state is State.CONFIRMED
        assert fire_timers(transaction, until=8.9) == []
        assert lifetime(transaction, since=4.0) == 5  # Timer I

    def test_timer_g_goes_up_to_t2_and_timer_h_gives_up(self) -> None:
        transaction = server("INVITE")
        transaction.send_response(answer(transaction, 486), 0.0)
        transaction.to_send.clear()
        assert fire_timers(transaction, until=100) == [0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5]
        assert transaction.to_user == [TimedOut()]

    def test_over_tcp_busy_is_sent_once_and_the_ack_ends_it(self) -> None:
        transaction = server("INVITE", reliable=True)
        transaction.send_response(answer(transaction, 486), 0.0)
        transaction.to_send.clear()
        assert fire_timers(transaction, until=31) == []
        transaction.receive_request(message("ACK"), 31.0)
        assert transaction.state is State.TERMINATED

    def test_a_repeated_invite_gets_the_last_response_again(self) -> None:
        transaction = server("INVITE")
        transaction.receive_request(message("INVITE"), 0.1)
        assert transaction.to_send == []
        for status in (100, 180):
            transaction.send_response(answer(transaction, status), 0.2)
        transaction.to_send.clear()
        transaction.receive_request(message("INVITE"), 0.5)
        assert [parse_message(data).status for data in transaction.to_send] == [180]  # type: ignore[union-attr]

    def test_after_a_2xx_repeated_invites_are_absorbed_until_timer_l(self) -> None:
        transaction = server("INVITE")
        transaction.send_response(answer(transaction, 200), 1.0)
        transaction.to_send.clear()
        for now in (1.5, 2.5):
            transaction.receive_request(message("INVITE"), now)
        assert transaction.state is State.ACCEPTED
        assert (transaction.to_send, transaction.to_user) == ([], [])
        assert lifetime(transaction, since=1.0) == 32

    def test_a_2xx_can_be_repeated_by_the_tu_and_nothing_else_said(self) -> None:
        transaction = server("INVITE")
        ok, busy = answer(transaction, 200), answer(transaction, 486)
        for now in (1.0, 1.5):
            transaction.send_response(ok, now)
        assert len(transaction.to_send) == 2
        with pytest.raises(LocalProtocolError):
            transaction.send_response(busy, 2.0)

    def test_an_ack_with_the_branch_of_the_invite_reaches_the_tu(self) -> None:
        transaction = server("INVITE")
        transaction.send_response(answer(transaction, 200), 1.0)
        ack = message("ACK")
        transaction.receive_request(ack, 1.1)
        assert transaction.to_user == [AckReceived(ack)]


class TestNonInviteServer:
    def test_repetitions_are_absorbed_then_answered_again_until_timer_j(self) -> None:
        transaction = server("BYE")
        transaction.receive_request(message("BYE"), 0.1)
        assert transaction.to_send == []
        transaction.send_response(answer(transaction, 200), 0.2)
        transaction.receive_request(message("BYE"), 0.5)
        assert len(transaction.to_send) == 2
        assert lifetime(transaction, since=0.2) == 32

    def test_over_tcp_the_final_response_ends_it(self) -> None:
        transaction = server("BYE", reliable=True)
        transaction.send_response(answer(transaction, 200), 0.2)
        assert transaction.state is State.TERMINATED
        assert len(transaction.to_send) == 1

    def test_a_second_final_response_is_our_bug(self) -> None:
        transaction = server("BYE")
        ok, error = answer(transaction, 200), answer(transaction, 500)
        transaction.send_response(ok, 0.2)
        with pytest.raises(LocalProtocolError):
            transaction.send_response(error, 0.3)


def test_a_clock_that_stood_still_makes_no_burst() -> None:
    transaction = client("INVITE")
    transaction.handle_timer(20.0)
    assert len(transaction.to_send) == 1
    transaction.to_send.clear()
    assert fire_timers(transaction, until=30) == [21.0, 23.0, 27.0]
