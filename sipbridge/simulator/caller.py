"""A soft phone: it dials, says a WAV, presses keys, records what it hears, and tells how the call went.

Built from the gateway's own parts: `UserAgent` and `SipTransport` for the signalling, `MediaEngine` for the sound. What
it does when is `caller_script`, what it measures `caller_stopwatch`; here they are connected.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Literal

from sipbridge.audio import AudioFormat
from sipbridge.errors import MediaError, SdpError
from sipbridge.media import sdp
from sipbridge.media.dtls import DtlsIdentity
from sipbridge.media.engine import MediaEngine
from sipbridge.media.events import Audio, Drained, EncryptionFailed, Handle, MediaEvent, MediaStats
from sipbridge.media.keying import LocalSecurity, Offers, Policy
from sipbridge.media.params import MediaParams, MediaSettings
from sipbridge.media.ports import LocalPort
from sipbridge.media.vad import SpeechStarted
from sipbridge.simulator.caller_options import (
    LISTEN_SECONDS,
    LONGEST_SECONDS,
    CallOptions,
    Srtp,
    address_towards,
    parse_target,
    transport_for,
)
from sipbridge.simulator.caller_recording import Recording, read_speech, sound_of
from sipbridge.simulator.caller_report import CallReport, TimelineEntry
from sipbridge.simulator.caller_script import HangUp, Press, Say, Script, steps_for
from sipbridge.simulator.caller_speech import speak
from sipbridge.simulator.caller_stopwatch import Stopwatch
from sipbridge.sip.events import Answered, CallEnded, EndCause, Progress, ReinviteReceived, SipEvent
from sipbridge.sip.flow import Flow
from sipbridge.sip.headers import Uri
from sipbridge.sip.ladder import Ladders, draw
from sipbridge.sip.own_addresses import Identity
from sipbridge.sip.transport import SipTransport
from sipbridge.sip.uac import OutgoingInvite
from sipbridge.sip.user_agent import UserAgent

__all__ = ["CallOptions", "CallReport", "SoftPhone", "TimelineEntry", "place_call"]

_LINGER_SECONDS = 2.0
_ENCRYPTION: dict[Srtp, tuple[Policy, Offers]] = {
    "off": ("off", "plain"),
    "optional": ("optional", "try_sdes"),
    "sdes": ("required", "sdes"),
    "dtls": ("required", "dtls"),
}


def ignore_entry(entry: TimelineEntry) -> None:
    pass


async def place_call(options: CallOptions, on_entry: Callable[[TimelineEntry], None] = ignore_entry) -> CallReport:
    """Make one call and return how it went, once it is over. `on_entry` is told the time line while it happens.

    What happens in the call, or prevents it, is in the report. Raises `ConfigError` where the options can't be used.
    """
    options.check()
    uri = parse_target(options.target)
    speech = b""
    if options.wav is not None:
        speech = read_speech(options.wav, options.rate)
    elif options.say is not None:
        speech = await speak(options.say, options.rate)
    report = CallReport(expected=options.expect)
    try:
        local = options.local_address or await address_towards(uri)
        identity = None
        if options.srtp == "dtls":
            identity = await asyncio.to_thread(DtlsIdentity.make, datetime.now(UTC))
        phone = SoftPhone(options, uri, speech, local, report, on_entry, identity)
        await phone.call()
    except (OSError, MediaError) as error:
        report.error = str(error)
    return report


class SoftPhone:
    """One phone for one call: `await call()`, once."""

    def __init__(
        self,
        options: CallOptions,
        uri: Uri,
        speech: bytes,
        local: str,
        report: CallReport,
        on_entry: Callable[[TimelineEntry], None],
        identity: DtlsIdentity | None = None,
    ) -> None:
        self._options = options
        self._uri = uri
        self._speech = speech
        self._local = local
        self._host = f"[{local}]" if ":" in local else local
        self._report = report
        self._on_entry = on_entry
        self._loop = asyncio.get_running_loop()
        self._over = asyncio.Event()
        self._user_agent = _PhoneAgent(new_token=_token, identity=Identity(user="caller"))
        self._ladders = Ladders(calls=1)
        self._user_agent.trace = lambda flow, sent, data: self._ladders.trace(flow, sent, data, self._transport.now())
        self._engine = MediaEngine(MediaSettings(local, options.ports, media_timeout_seconds=None), identity=identity)
        self._recording = Recording(options.rate)
        self._script = Script(
            steps_for(
                speaks=bool(speech),
                keys=options.dtmf,
                interrupt_after_s=options.barge_in_after_s if options.barge_in else None,
                greeting_within_s=options.greeting_within_s,
                reply_within_s=options.reply_within_s,
            ),
            seconds=options.seconds or (LONGEST_SECONDS if speech or options.dtmf else LISTEN_SECONDS),
            turn_gap_s=options.turn_gap_s,
        )
        self._timer: asyncio.TimerHandle | None = None
        self._handle: Handle | None = None
        self._negotiated: sdp.Negotiated | None = None
        self._answered_at = 0.0
        self._said = 0
        self._call: OutgoingInvite | None = None
        # Set by call():
        self._transport: SipTransport
        self._stopwatch: Stopwatch
        self._port: LocalPort
        self._audio: sdp.LocalAudio

    async def call(self) -> None:
        """Returns when the call is over and its end is known to the other side. Cancelled, it hangs up first."""
        transport = transport_for(self._uri, self._options.transport)
        # Over TLS nobody listens: the other side's requests come back by the connection, and there is no certificate.
        listen = [f"{'tcp' if transport == 'tls' else transport}://{self._host}:0"]
        self._transport = await SipTransport.open(
            self._user_agent, listen, on_event=self._on_sip, tls=self._options.tls
        )
        try:
            self._invite(transport)
            async with asyncio.TaskGroup() as group:
                clock = group.create_task(self._engine.run(self._on_media))
                try:
                    await self._over.wait()
                finally:
                    clock.cancel()
        finally:
            await self._leave()

    # --- the call -----------------------------------------------------------------------------------------------------

    def _invite(self, transport: Literal["udp", "tcp", "tls"]) -> None:
        options, now = self._options, self._transport.now()
        self._port = self._engine.reserve()
        policy, offers = _ENCRYPTION[options.srtp]
        self._audio = sdp.LocalAudio(
            self._local,
            self._port.port,
            options.codecs,
            session_id=str(secrets.randbits(62)),
            security=LocalSecurity(
                policy,
                secret=secrets.token_bytes(32),
                fingerprint=self._engine.fingerprint,
                offers=offers,
            ),
        )
        self._stopwatch = Stopwatch(self._report, now, self._on_entry)
        self._stopwatch.note(f"INVITE {self._uri}", now)
        self._call = self._user_agent.invite(
            self._uri,
            from_=f"<{options.from_ or f'sip:caller@{self._host}'}>",
            offer=sdp.offer(self._audio),
            now=now,
            headers=options.headers,
            transport=transport,
        )
        self._arm(now + options.ring_seconds)

    def _on_sip(self, event: SipEvent) -> None:
        now = self._transport.now()
        match event:
            case Progress(response=response):
                self._stopwatch.ringing(response.status, response.reason, now)
            case Answered(response=response, answer=answer):
                self._stopwatch.answered(response.status, response.reason, now)
                self._start_media(answer, now)
            case ReinviteReceived():
                self._renegotiate(event, now)
            case CallEnded():
                self._ended(event, now)
            case _:
                pass  # REFER and what only a callee sees: nothing that this phone asked for

    def _start_media(self, answer: bytes, now: float) -> None:
        try:
            negotiated = sdp.accept(answer, self._audio)
        except SdpError as error:
            self._fail(f"the answer's session description can't be used: {error}", now)
            return
        self._negotiated = negotiated
        self._report.codec = negotiated.codec.name
        self._handle = self._engine.start(self._port, self._params(negotiated))
        self._answered_at = now
        self._script.start(now)
        self._act(now)

    def _params(self, negotiated: sdp.Negotiated) -> MediaParams:
        audio = AudioFormat("pcm16", self._options.rate)
        return MediaParams.agreed(negotiated, uplink=audio, downlink=audio)

    def _renegotiate(self, event: ReinviteReceived, now: float) -> None:
        try:
            if event.offer is None or self._handle is None or self._negotiated is None:
                raise SdpError("nothing to answer")
            negotiated = sdp.answer(event.offer, self._audio, previous=self._negotiated)
        except SdpError as error:
            event.call.reject_reinvite(error.sip_status, now)
            return
        self._negotiated = negotiated
        self._engine.update(self._handle, self._params(negotiated))
        event.call.accept_reinvite(negotiated.sdp, now)
        self._stopwatch.note(f"re-INVITE: {negotiated.direction}, {negotiated.codec.name}", now)

    def _fail(self, error: str, now: float) -> None:
        self._report.error = error
        self._hang_up(now)

    def _hang_up(self, now: float) -> None:
        """As the call's state asks; nothing where it is over."""
        if self._call is not None:
            self._call.hang_up(now)

    def _ended(self, event: CallEnded, now: float) -> None:
        report = self._report
        report.cause = event.cause.value
        report.ended_by_them = event.cause is EndCause.REMOTE_BYE
        if event.cause is EndCause.REJECTED:
            report.status, report.reason = event.status or 0, event.reason
        match event.cause:
            case EndCause.LOCAL_BYE:
                text = "hang up"
            case EndCause.REMOTE_BYE:
                text = "BYE received"
            case EndCause.REJECTED:
                text = f"{event.status} {event.reason}"
            case _:
                text = event.reason
        if event.reason_header:
            text += f" (Reason: {event.reason_header})"
        self._recording.finish()
        self._stopwatch.ended(text, self._recording.heard_ms, now)
        self._over.set()

    async def _leave(self) -> None:
        """Hang up if that was not done, wait a little for the BYE's answer, keep what was recorded."""
        if self._timer is not None:
            self._timer.cancel()
        self._hang_up(self._transport.now())
        try:
            async with asyncio.timeout(_LINGER_SECONDS):
                await self._user_agent.until_idle()
        except TimeoutError:
            pass  # they don't answer our BYE: that is theirs to clean up
        finally:
            await self._transport.close()
            ladder = None if self._call is None else self._ladders.get(self._call.call_id)
            self._report.ladder = [] if ladder is None else draw(ladder.steps, us="phone", left_out=ladder.left_out)
            stats = None if self._handle is None else self._engine.close(self._handle)
            self._engine.shut_down()
        if stats is not None:
            self._keep(stats)

    def _keep(self, stats: MediaStats) -> None:
        report, options = self._report, self._options
        report.encryption = stats.encryption
        report.packets = {"sent": stats.packets_sent, "received": stats.packets_received, "lost": stats.lost}
        if options.record is not None:
            self._recording.write(options.record, stereo=options.stereo)
            report.recording = options.record

    # --- the conversation ---------------------------------------------------------------------------------------------

    def _on_media(self, event: MediaEvent) -> None:
        if self._handle is None or event.handle != self._handle or self._over.is_set():
            return
        now = self._transport.now()
        match event:
            case Audio(pcm=pcm):
                self._hear(pcm, now)
            case Drained():
                self._script.done(now)
                self._act(now)
            case EncryptionFailed(reason=reason):
                self._fail(reason, now)
            case _:
                pass

    def _hear(self, pcm: bytes, now: float) -> None:
        for event in self._recording.hear(pcm, now - self._answered_at):
            at = self._answered_at + event.at_ms / 1000
            if isinstance(event, SpeechStarted):
                self._stopwatch.speech_started(event.at_ms)
                self._script.speech_started(at, now)
            else:
                self._stopwatch.speech_ended(event.at_ms)
                self._script.speech_ended(at, now)
            self._act(now)

    def _act(self, now: float) -> None:
        """Do what the script wants done now, and be called again when it wants to be."""
        while (action := self._script.next_action()) is not None:
            match action:
                case Say(interrupting=interrupting):
                    self._say(now, over=interrupting and self._recording.speaking)
                case Press(key=key):
                    self._press(key, now)
                case HangUp():
                    self._hang_up(now)
        self._arm(self._script.get_timer())

    def _say(self, now: float, *, over: bool) -> None:
        assert self._handle is not None
        self._said += 1
        item = f"sentence-{self._said}"
        at = now - self._answered_at
        self._stopwatch.says(at * 1000, sound_of(self._speech, self._options.rate), over=over)
        self._recording.say(self._speech, at)
        self._engine.push(self._handle, self._speech, "caller", item)
        self._engine.finish(self._handle, item)

    def _press(self, key: str, now: float) -> None:
        assert self._handle is not None
        self._stopwatch.presses(key, (now - self._answered_at) * 1000)
        if not self._engine.send_key(self._handle, key):
            self._stopwatch.note("the other side takes no keys (no telephone-event in its answer)", now)
        self._script.done(now)

    def _arm(self, deadline: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if deadline is not None:
            self._timer = self._loop.call_later(max(0.0, deadline - self._transport.now()), self._ring)

    def _ring(self) -> None:
        now = self._transport.now()
        self._timer = None
        if self._handle is None:
            self._hang_up(now)  # nobody has answered
            return
        self._script.handle_timer(now)
        self._act(now)


class _PhoneAgent(UserAgent):
    """A user agent that can be waited for until its call is cleared up, BYE answered and all."""

    _cleared: asyncio.Event | None = None

    def receive(self, data: bytes, flow: Flow, now: float) -> None:
        super().receive(data, flow, now)
        if self._cleared is not None and not self.calls:
            self._cleared.set()

    async def until_idle(self) -> None:
        self._cleared = asyncio.Event()
        if self.calls:
            await self._cleared.wait()


def _token() -> str:
    return secrets.token_hex(16)
