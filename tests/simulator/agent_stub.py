"""A callee for the simulated caller: it greets, answers, gives way and names keys by tones, over real sockets."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from sipbridge.audio import PCM_8K
from sipbridge.media import sdp
from sipbridge.media.engine import MediaEngine
from sipbridge.media.events import Audio, KeyPressed, MediaEvent
from sipbridge.media.params import MediaParams, MediaSettings
from sipbridge.media.vad import SpeechStarted, Vad, VadSettings
from sipbridge.sip.events import Acknowledged, CallEnded, InviteReceived, SipEvent
from sipbridge.sip.invite import Invite
from sipbridge.sip.transport import SipTransport
from sipbridge.sip.user_agent import UserAgent
from tests.media.test_vad import silence, tone


@dataclass(frozen=True, slots=True)
class Manners:
    status: int = 200
    """Anything but 200 refuses, 0 lets it ring."""
    greeting_ms: int = 400
    answer_ms: int = 500
    gives_way: bool = True
    hangs_up_at: str = "#"
    codecs: tuple[str, ...] = ("PCMU", "PCMA")
    keys: bool = True
    silence_ms: int = 300


class AgentStub:
    def __init__(self, manners: Manners) -> None:
        self.manners = manners
        self.engine = MediaEngine(MediaSettings("127.0.0.1", range(31000, 31200), media_timeout_seconds=None))
        self.user_agent = UserAgent(new_token=lambda: secrets.token_hex(16))
        self.keys = ""
        self.heard = bytearray()
        self.ended: list[CallEnded] = []
        self.handle: int | None = None
        self.transport: SipTransport
        self._call: Invite
        self._vad = Vad(8000, VadSettings(silence_ms=manners.silence_ms))
        self._items = 0

    def on_sip(self, event: SipEvent) -> None:
        now = self.transport.now()
        match event:
            case InviteReceived(call=call, offer=offer):
                self._call = call
                call.ring(now)
                if self.manners.status == 200:
                    assert offer is not None
                    call.answer(self._start(offer), now)
                elif self.manners.status:
                    call.reject(self.manners.status, now=now)
            case Acknowledged():
                self._play(self.manners.greeting_ms)
            case CallEnded():
                self.ended.append(event)
                if self.handle is not None:
                    self.engine.close(self.handle)
            case _:
                pass

    def _start(self, offer: bytes) -> bytes:
        port = self.engine.reserve()
        local = sdp.LocalAudio(
            "127.0.0.1", port.port, self.manners.codecs, session_id="1", telephone_event=self.manners.keys
        )
        agreed = sdp.answer(offer, local)
        self.handle = self.engine.start(port, MediaParams.agreed(agreed, uplink=PCM_8K, downlink=PCM_8K))
        return agreed.sdp

    def on_media(self, event: MediaEvent) -> None:
        match event:
            case Audio(pcm=pcm):
                self.heard += pcm
                for speech in self._vad.feed(pcm):
                    if not isinstance(speech, SpeechStarted):
                        self._play(self.manners.answer_ms)
                    elif self.manners.gives_way:
                        self.engine.discard(event.handle)
            case KeyPressed(digit=digit):
                self.keys += digit
                if digit == self.manners.hangs_up_at:
                    self._call.hang_up(self.transport.now())
                else:
                    self._play(200)
            case _:
                pass

    def _play(self, ms: int) -> None:
        if ms:
            assert self.handle is not None
            self._items += 1
            self.engine.push(self.handle, tone(ms, rate=8000) + silence(100, rate=8000), "agent", str(self._items))
            self.engine.finish(self.handle, str(self._items))


@asynccontextmanager
async def agent_stub(manners: Manners, transport: str = "udp") -> AsyncIterator[tuple[AgentStub, str]]:
    """The callee and the URI to call it at."""
    stub = AgentStub(manners)
    stub.transport = await SipTransport.open(stub.user_agent, [f"{transport}://127.0.0.1:0"], on_event=stub.on_sip)
    clock = asyncio.create_task(stub.engine.run(stub.on_media))
    try:
        host, port = stub.transport.addresses[0][1]
        yield stub, f"sip:agent@{host}:{port}"
    finally:
        clock.cancel()
        await asyncio.gather(clock, return_exceptions=True)
        await stub.transport.close()
        stub.engine.shut_down()
