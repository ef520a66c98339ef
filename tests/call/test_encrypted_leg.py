"""A leg whose sound is encrypted: what goes into its SDP, what it refuses, what it warns of. Without a socket."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from sipbridge.audio import PCM_8K
from sipbridge.errors import CallNotAnsweredError, EncryptionError
from sipbridge.inbound_leg import InboundLeg
from sipbridge.leg import LegParts, MediaChoices
from sipbridge.media import sdp
from sipbridge.media.keying import DtlsParams, Fingerprint, LocalSecurity, Offers, Policy, SdesParams
from sipbridge.media.params import MediaParams
from sipbridge.media.stream import MediaStream
from sipbridge.outbound_leg import OutboundLeg
from sipbridge.sip.events import Answered, Progress, ReinviteReceived
from sipbridge.sip.flow import Flow
from sipbridge.sip.invite import CallState
from sipbridge.sip.message import Response

FAR, NEAR = Fingerprint("sha-256", bytes(32)), Fingerprint("sha-256", bytes(range(32)))
CLEAR = Flow("udp", ("192.0.2.1", 5060), ("192.0.2.9", 5060))


def security(policy: Policy = "optional", offers: Offers = "plain", fill: int = 1) -> LocalSecurity:
    return LocalSecurity(policy, bytes([fill]) * 32, FAR if fill == 9 else NEAR, offers)


def phone(offers: Offers = "plain", fill: int = 9) -> sdp.LocalAudio:
    keys = replace(security("optional", offers, fill), fingerprint=FAR)
    return sdp.LocalAudio("192.0.2.9", 4000, ("PCMU",), session_id="2", security=keys)


class FakeStream:
    def __init__(self, params: MediaParams) -> None:
        self.updates = [params]

    def update(self, params: MediaParams) -> None:
        self.updates.append(params)

    def confirm(self) -> None:
        pass


class FakeCall:
    """What a leg asks of its INVITE."""

    call_id = "a"
    state = CallState.INVITED

    def __init__(self, flow: Flow = CLEAR) -> None:
        self.flow = flow
        self.said: list[tuple[str, object]] = []

    def ring(self, now: float) -> None:
        pass

    def answer(self, body: bytes, now: float) -> None:
        self.said.append(("answer", body))

    def reject(self, status: int, *, now: float, headers: tuple[tuple[str, str], ...] = ()) -> None:
        self.said.append((str(status), dict(headers)))

    def accept_reinvite(self, body: bytes, now: float) -> None:
        self.said.append(("accept", body))

    def reject_reinvite(self, status: int, now: float, *, reason: str | None = None) -> None:
        self.said.append((str(status), reason))


class Made:
    """A leg's parts, and the stream that it has opened."""

    def __init__(self, local: LocalSecurity) -> None:
        engine = SimpleNamespace(reserve=lambda: SimpleNamespace(address="192.0.2.1", port=3000))
        self.parts = LegParts(
            engine=cast(Any, engine),
            open_stream=self.open,
            choices=MediaChoices(codecs=("PCMU",), security=local),
            session_id="1",
            clock=lambda: 0.0,
        )
        self.stream: FakeStream

    def open(self, port: object, params: MediaParams) -> MediaStream:
        self.stream = FakeStream(params)
        return cast(MediaStream, self.stream)

    def inbound(self, offer: bytes, call: FakeCall) -> InboundLeg:
        leg = InboundLeg(cast(Any, call), offer, self.parts)
        leg.negotiate()
        leg.pick_up(PCM_8K, PCM_8K)
        return leg


def test_a_refusal_says_why() -> None:
    call = FakeCall()
    leg = InboundLeg(cast(Any, call), sdp.offer(phone()), Made(security("required")).parts)
    with pytest.raises(EncryptionError) as raised:
        leg.negotiate()
    leg.reject(raised.value.sip_status, "Q.850;cause=88")
    ((status, headers),) = call.said
    assert status == "488"
    assert headers == {
        "Reason": "Q.850;cause=88",
        "Warning": '399 sipbridge "SRTP is required here, and the other side wants none"',
    }


@pytest.mark.parametrize(
    ("flow", "offers", "warnings"),
    [
        (CLEAR, "sdes", 1),
        (replace(CLEAR, transport="tls"), "sdes", 0),
        (CLEAR, "dtls", 0),
        (CLEAR, "plain", 0),
    ],
)
def test_keys_that_can_be_read_are_warned_of_once(flow: Flow, offers: Offers, warnings: int) -> None:
    made, call = Made(security()), FakeCall(flow)
    with capture_logs() as logs:
        leg = made.inbound(sdp.offer(phone(offers)), call)
        leg.sip_event(ReinviteReceived(cast(Any, call), cast(Any, None), sdp.offer(phone(offers, fill=8))))
    assert [entry["event"] for entry in logs].count(
        "SRTP keys travel in the clear: the signalling is not TLS"
    ) == warnings


def test_new_keys_in_a_new_offer() -> None:
    made, call = Made(security()), FakeCall()
    leg = made.inbound(sdp.offer(phone("sdes")), call)
    leg.sip_event(ReinviteReceived(cast(Any, call), cast(Any, None), sdp.offer(phone("sdes"))))
    assert len(made.stream.updates) == 1, "a refresh"
    leg.sip_event(ReinviteReceived(cast(Any, call), cast(Any, None), sdp.offer(phone("sdes", fill=8))))
    before, after = (params.security for params in made.stream.updates)
    assert isinstance(before, SdesParams)
    assert isinstance(after, SdesParams)
    assert before.send == after.send
    assert before.receive != after.receive


def test_what_is_required_stays_required() -> None:
    made, call = Made(security("required")), FakeCall()
    leg = made.inbound(sdp.offer(phone("sdes")), call)
    leg.sip_event(ReinviteReceived(cast(Any, call), cast(Any, None), sdp.offer(phone())))
    assert call.said[-1][0] == "488"
    assert len(made.stream.updates) == 1
    leg.sip_event(ReinviteReceived(cast(Any, call), cast(Any, None), None))
    kind, body = call.said[-1]
    assert kind == "accept"
    assert isinstance(body, bytes)
    assert b"RTP/SAVP" in body


def calling(made: Made, call: FakeCall) -> tuple[OutboundLeg, bytes]:
    offered: list[bytes] = []

    def place(offer: bytes) -> Any:
        offered.append(offer)
        return call

    leg = OutboundLeg(place, made.parts, ring_seconds=5)
    leg.negotiate()
    leg.begin(PCM_8K, PCM_8K)
    return leg, offered[0]


def answered(call: FakeCall, body: bytes) -> Answered:
    return Answered(cast(Any, call), Response(200, "OK"), body)


@pytest.mark.parametrize("offers", ["sdes", "dtls"])
def test_an_answer_without_keys_is_none(offers: Offers) -> None:
    async def scenario() -> None:
        call = FakeCall()
        leg, _ = calling(Made(security("required", offers)), call)
        leg.sip_event(answered(call, sdp.offer(phone())))
        with pytest.raises(CallNotAnsweredError, match="SRTP is required") as raised:
            await leg.answer()
        assert raised.value.sip_status == 488

    asyncio.run(scenario())


def test_who_leaves_the_keys_is_spoken_to_in_the_clear() -> None:
    async def scenario() -> None:
        made, call = Made(security("optional", "try_sdes")), FakeCall()
        leg, offer = calling(made, call)
        assert b"RTP/AVP 0" in offer
        assert offer.count(b"a=crypto") == 3
        leg.sip_event(answered(call, sdp.offer(phone())))
        await leg.answer()
        assert made.stream.updates[0].security is None

    asyncio.run(scenario())


def test_who_makes_no_handshake_while_it_rings_has_time_when_he_answers() -> None:
    async def scenario() -> None:
        made, call = Made(security("required", "dtls")), FakeCall()
        leg, offer = calling(made, call)
        answer = sdp.answer(offer, phone()).sdp
        ringing = SimpleNamespace(status=183, reason="Session Progress")
        leg.sip_event(Progress(cast(Any, call), cast(Any, ringing), answer))
        assert isinstance(made.stream.updates[0].security, DtlsParams)
        leg.sip_event(answered(call, answer))
        await leg.answer()
        assert made.stream.updates == made.stream.updates[:1] * 2

    asyncio.run(scenario())
