"""The transport over real sockets on 127.0.0.1: two user agents calling each other, and raw sockets that misbehave."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from typing import TypeVar

import pytest

from sipbridge.sip.events import Acknowledged, Answered, CallEnded, EndCause, InviteReceived, Progress, SipEvent
from sipbridge.sip.flow import Flow, Transport
from sipbridge.sip.sockets import StreamLimits
from sipbridge.sip.transport import SipTransport, admit_all
from sipbridge.sip.user_agent import UserAgent

OFFER, ANSWER = b"v=0\r\no=offer\r\n", b"v=0\r\no=answer\r\n"
LISTEN = ("udp://127.0.0.1:0", "tcp://127.0.0.1:0")
E = TypeVar("E", bound=SipEvent)


class Endpoint:
    """A user agent on real sockets, with its events for the test to wait for."""

    def __init__(self) -> None:
        self.user_agent = UserAgent(new_token=lambda: secrets.token_hex(8))
        self.events: asyncio.Queue[SipEvent] = asyncio.Queue()
        self.transport: SipTransport

    async def expect(self, kind: type[E]) -> E:
        event = await asyncio.wait_for(self.events.get(), 5)
        assert isinstance(event, kind), event
        return event

    def now(self) -> float:
        return self.transport.now()

    def uri(self, transport: Transport) -> str:
        host, port = self.transport.address(transport)
        return f"sip:agent@{host}:{port}" + (";transport=tcp" if transport == "tcp" else "")


async def endpoint(
    stack: AsyncExitStack,
    listen: Sequence[str] = LISTEN,
    *,
    admit: Callable[[Flow], bool] = admit_all,
    limits: StreamLimits | None = None,
) -> Endpoint:
    made = Endpoint()
    made.transport = await SipTransport.open(
        made.user_agent, listen, on_event=made.events.put_nowait, admit=admit, limits=limits
    )
    stack.push_async_callback(made.transport.close)
    return made


def run(scenario: Callable[[AsyncExitStack], asyncio.Future[None]] | Callable[[AsyncExitStack], object]) -> None:
    async def main() -> None:
        async with asyncio.timeout(20), AsyncExitStack() as stack:
            await scenario(stack)  # type: ignore[misc]

    asyncio.run(main())


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_a_call_from_ring_to_bye(transport: Transport) -> None:
    async def scenario(stack: AsyncExitStack) -> None:
        caller, callee = await endpoint(stack), await endpoint(stack)
        outgoing = caller.user_agent.invite(
            callee.uri(transport), from_="<sip:alice@example.com>", offer=OFFER, now=caller.now(), transport=transport
        )
        invited = await callee.expect(InviteReceived)
        assert invited.offer == OFFER
        assert invited.flow.transport == transport
        invited.call.ring(callee.now())
        assert (await caller.expect(Progress)).response.status == 180
        invited.call.answer(ANSWER, callee.now())
        answered = await caller.expect(Answered)
        assert answered.answer == ANSWER
        assert answered.call is outgoing
        await callee.expect(Acknowledged)
        invited.call.hang_up(callee.now())
        assert (await callee.expect(CallEnded)).cause is EndCause.LOCAL_BYE
        assert (await caller.expect(CallEnded)).cause is EndCause.REMOTE_BYE

    run(scenario)
