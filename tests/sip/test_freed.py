"""A call that is over is freed at once, by its last reference: nothing of it waits for a full garbage collection, which
would be a pause in the sound of all other calls."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from weakref import ref

import pytest

from sipbridge.sip.events import InviteReceived
from tests.sip import wire
from tests.sip.wire import ANSWER, OFFER, UDP, Wire, answer_to


@pytest.fixture(autouse=True)
def without_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def in_dialog(method: str, tag: str | None, cseq: int) -> bytes:
    return wire.request(method, branch=f"z9hG4bK{method}{cseq}", to=f"<sip:agent@192.0.2.1>;tag={tag}", cseq=cseq)


def test_one_that_came_in() -> None:
    peer = Wire()
    agent = peer.user_agent
    agent.receive(wire.request(), UDP, 0.0)
    call = peer.event(InviteReceived).call
    call.ring(0.0)
    call.answer(ANSWER, 0.0)
    agent.receive(in_dialog("ACK", call.local_tag, 1), UDP, 0.1)
    peer.sent()
    call.refer("sip:desk@example.com", 0.2)
    peer.receive(answer_to(peer.sent_request("REFER"), 603))
    agent.receive(in_dialog("INVITE", call.local_tag, 2), UDP, 0.3)
    call.accept_reinvite(ANSWER, 0.3)
    agent.receive(in_dialog("ACK", call.local_tag, 2), UDP, 0.4)
    agent.receive(in_dialog("BYE", call.local_tag, 3), UDP, 0.5)
    peer.events()
    last = ref(call)
    del call
    agent.handle_timer(40.0)
    assert agent.idle
    assert last() is None


def test_one_of_ours() -> None:
    peer = Wire()
    agent = peer.user_agent
    call = agent.invite("sip:bob@192.0.2.2", from_="<sip:agent@example.com>", offer=OFFER, now=0.0)
    invite = peer.sent_request("INVITE")
    peer.receive(answer_to(invite, 180))
    peer.receive(answer_to(invite, 200, body=ANSWER))
    call.hang_up(1.0)
    peer.receive(answer_to(peer.sent_request("BYE"), 200))
    peer.events()
    last = ref(call)
    del call
    agent.handle_timer(40.0)
    agent.handle_timer(80.0)
    assert agent.idle
    assert last() is None
