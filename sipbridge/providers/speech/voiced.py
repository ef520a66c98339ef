"""A model that writes, with another vendor's voice: a dialect that wraps a dialect (modality text) and a `Voice`.

What the model writes goes to the voice in phrases while it still writes, and comes out as `AssistantAudio`. Every text
item is one context of the voice and one item of speech. A reply has ended when the voice has spoken it; replies that
the model begins meanwhile wait, so that they are heard one after another. After an interruption the model is told what
was heard in words: `heard(reply_id, text, now)`, where its dialect has that.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from sipbridge.agent import (
    AgentError,
    AgentEvent,
    AgentOptions,
    AssistantAudio,
    AssistantInterrupted,
    AssistantText,
    AssistantTurnEnd,
    AssistantTurnStarted,
    Capabilities,
    SessionClosed,
    ToolCall,
    ToolCallCancelled,
    Usage,
)
from sipbridge.audio import Played
from sipbridge.errors import ConfigError
from sipbridge.providers import Dialect, Endpoint, Lifetime, Outgoing, Provider
from sipbridge.providers.base import Status
from sipbridge.providers.speech.part import PartFailed
from sipbridge.providers.speech.spoken_reply import Reply, Speech
from sipbridge.providers.speech.voice import (
    Voice,
    VoiceAudio,
    VoiceDone,
    VoiceEvent,
    VoiceFailed,
    VoiceWords,
    voice_class,
)

VOICE_CHANNEL = "voice"
HUNG_AFTER = 8.0
"""Seconds without a sound from a voice that has something to say, until it is taken to be lost."""
_LINE = 32
"""Replies that may wait to be spoken."""
_REPLIES_KEPT = 16
"""Replies that are over and may still be heard, so that they may be cut."""


def capabilities_with_voice(capabilities: Capabilities, voice: type[Voice]) -> Capabilities:
    return replace(
        capabilities,
        output_format=voice.output_format,
        output_rates=voice.output_rates,
        native_formats=capabilities.native_formats & voice.native_formats,
        voices=voice.voices,
        can_truncate=True,
    )


def with_voice(inner: Provider, credential: Mapping[str, Any], options: AgentOptions) -> VoicedDialect:
    """The model of the credential, which only writes, and the voice of its `voice_provider`. Raises `ConfigError`."""
    section, capabilities = credential["voice_provider"], inner.capabilities_for(credential)
    check_writes(capabilities, str(credential.get("provider")))
    voice = voice_class(section)(section, options)
    return VoicedDialect(inner(credential, written(options, capabilities)), voice, options)


def written(options: AgentOptions, capabilities: Capabilities) -> AgentOptions:
    """What is asked of a model that writes, where a voice is asked for the sound."""
    return replace(options, modalities=("text",), voice=None, output_format=capabilities.output_format)


def check_writes(capabilities: Capabilities, slug: str) -> None:
    """Raises `ConfigError` where a model can only speak itself."""
    if not capabilities.can_write:
        raise ConfigError(f"voice_provider: models of {slug!r} only speak themselves, they write nothing for a voice")


class VoicedDialect:
    """See `sipbridge.providers.Dialect` for the verbs."""

    def __init__(self, inner: Dialect, voice: Voice, options: AgentOptions) -> None:
        self.inner = inner
        self.capabilities = capabilities_with_voice(inner.capabilities, type(voice))
        self._voice = voice
        voice.counters = inner.counters
        self._format = options.output_format
        self._events: deque[AgentEvent] = deque()
        self._line: deque[Reply] = deque()
        """Replies that have not ended, in order; the first is the one that is heard."""
        self._over: deque[Reply] = deque(maxlen=_REPLIES_KEPT)
        self._by_context: dict[str, tuple[Reply, Speech]] = {}
        self._contexts = 0
        self._alive_at = 0.0
        """When the voice was last given something, or gave something."""
        self._closed = False

    # --- verbs of the driver ------------------------------------------------------------------------------------------

    @property
    def counters(self) -> Counter[str]:
        return self.inner.counters

    @property
    def lifetime(self) -> Lifetime | None:
        return self.inner.lifetime

    @property
    def resume_handle(self) -> str:
        return self.inner.resume_handle

    async def prepare(self) -> None:
        await self.inner.prepare()

    def start(self, now: float) -> None:
        self.inner.start(now)
        self._pump(now)

    def endpoints(self) -> Mapping[str, Endpoint]:
        return {**self.inner.endpoints(), VOICE_CHANNEL: self._voice.endpoint()}

    def channel_opened(self, channel: str, now: float) -> None:
        if channel == VOICE_CHANNEL:
            self._voice.opened(now)
        else:
            self.inner.channel_opened(channel, now)
        self._pump(now)

    def receive(self, channel: str, message: str | bytes, now: float) -> None:
        if channel == VOICE_CHANNEL:
            self._voice.receive(message, now)
        else:
            self.inner.receive(channel, message, now)
        self._pump(now)

    def channel_closed(self, channel: str, code: int, reason: str, now: float) -> None:
        if channel == VOICE_CHANNEL:
            self._voice.closed(code, reason, now)
        else:
            self.inner.channel_closed(channel, code, reason, now)
        self._pump(now)

    def messages_to_send(self) -> list[Outgoing]:
        voice = [message._replace(channel=VOICE_CHANNEL) for message in self._voice.messages_to_send()]
        return self.inner.messages_to_send() + ([] if self._closed else voice)

    def get_timer(self) -> float | None:
        if self._closed:
            return None
        timers = (self.inner.get_timer(), self._voice.get_timer(), self._hung_at())
        return min((timer for timer in timers if timer is not None), default=None)

    def handle_timer(self, now: float) -> None:
        for part in (self.inner, self._voice):
            timer = part.get_timer()
            if timer is not None and timer <= now:
                part.handle_timer(now)
        self._pump(now)
        hung_at = self._hung_at()
        if hung_at is not None and hung_at <= now and not self._closed:
            words = f"{self._voice.name}: says nothing any more"
            self._on_voice(PartFailed(words, "timeout", again=True), now)

    def _hung_at(self) -> float | None:
        """Nothing is due while the model still writes and all of that has been spoken, perhaps."""
        speech = self._line[0].speaking if self._line else None
        due = speech is not None and speech.spoken.text and (speech.written or not speech.received)
        return self._alive_at + HUNG_AFTER if due else None

    def next_event(self) -> AgentEvent | None:
        return self._events.popleft() if self._events else None

    # --- commands -----------------------------------------------------------------------------------------------------

    def push_audio(self, pcm: bytes, now: float) -> None:
        self.inner.push_audio(pcm, now)
        self._pump(now)

    def commit_input_audio(self, now: float) -> None:
        self.inner.commit_input_audio(now)
        self._pump(now)

    def cancel(self, played: Sequence[Played], now: float) -> None:
        self._take_back()
        heard = self._heard(played)
        for reply in self._line:
            self._cut(reply, now)
        self.inner.cancel(played, now)
        for reply_id, text in heard:
            self.inner.heard(reply_id, text, now)
        self._pump(now)  # first: calls that were never told of are forgotten
        self._advance()

    def heard(self, reply_id: str, text: str, now: float) -> None:
        """It speaks itself."""

    def update_instructions(self, text: str, now: float) -> None:
        self.inner.update_instructions(text, now)
        self._pump(now)

    def send_text(self, text: str, now: float) -> None:
        self.inner.send_text(text, now)
        self._pump(now)

    def send_image(self, data: bytes, media_type: str, now: float) -> None:
        self.inner.send_image(data, media_type, now)
        self._pump(now)

    def say(self, text: str, now: float) -> None:
        self.inner.say(text, now)
        self._pump(now)

    def create_response(self, now: float) -> None:
        self.inner.create_response(now)
        self._pump(now)

    def send_tool_result(self, call_id: str, output: str, now: float) -> None:
        self.inner.send_tool_result(call_id, output, now)
        self._pump(now)

    def close(self, now: float) -> None:
        self.inner.close(now)
        self._pump(now)

    # --- what the two of them tell ------------------------------------------------------------------------------------

    def _pump(self, now: float) -> None:
        while (event := self.inner.next_event()) is not None:
            if not self._closed:
                self._on_inner(event, now)
        while (told := self._voice.next_event()) is not None:
            if not self._closed:
                self._on_voice(told, now)

    def _on_inner(self, event: AgentEvent, now: float) -> None:
        match event:
            case AssistantTurnStarted() if len(self._line) >= _LINE:
                words = f"{self._voice.name}: can't keep up with the model"
                self._on_voice(PartFailed(words, "timeout", again=True), now)
            case AssistantTurnStarted(reply_id):
                self._line.append(Reply(reply_id))
                self._tell(self._line[-1], event)
            case AssistantText(reply_id, text, final) if reply := self._find(reply_id):
                self._tell(reply, event)
                self._write(reply, text, final, now)
            case AssistantInterrupted(reply_id) if reply := self._find(reply_id):
                self._tell(reply, event)
                self._cut(reply, now)
            case AssistantTurnEnd(reply_id, status) if reply := self._find(reply_id):
                if status in ("cancelled", "failed"):
                    self._cut(reply, now)
                elif not reply.cut:
                    self._finish(reply, now)
                reply.status = status
                self._advance()
            case ToolCall(reply_id=reply_id) | Usage(reply_id=reply_id) if reply := self._find(reply_id):
                self._tell(reply, event)
            case ToolCallCancelled(call_id) if self._forget_call(call_id):
                pass  # the call was never told of
            case SessionClosed():
                self._close(event)
            case AssistantAudio(pcm=pcm):
                self.counters["speech_of_a_writer"] += len(pcm)
            case _:
                self._events.append(event)

    def _on_voice(self, event: VoiceEvent | PartFailed, now: float) -> None:
        if isinstance(event, PartFailed):
            self._events.append(AgentError(event.message, event.code, fatal=True))
            for unspoken in self._line:
                unspoken.failed = True
            self._close(SessionClosed(event.message, again=event.again))
            return
        self._alive_at = now
        if event.context not in self._by_context:
            return
        reply, speech = self._by_context[event.context]
        match event:
            case VoiceAudio(_, pcm):
                speech.received += len(pcm)
                speech.waiting.append(pcm)
            case VoiceWords(_, words):
                speech.spoken.time(words)
            case VoiceDone():
                speech.complete = True
                self._spoken(reply, speech)
            case VoiceFailed(_, message, code):
                self._events.append(AgentError(f"{self._voice.name}: {message}", code, fatal=False))
                reply.failed = True
                self._spoken(reply, speech)
        self._advance()

    def _forget_call(self, call_id: str) -> bool:
        for reply in self._line:
            for event in reply.pending:
                if isinstance(event, ToolCall) and event.call_id == call_id:
                    reply.pending.remove(event)
                    return True
        return False

    def _find(self, reply_id: str) -> Reply | None:
        return next((reply for reply in self._line if reply.id == reply_id), None)

    def _tell(self, reply: Reply, event: AgentEvent) -> None:
        (self._events if self._line[0] is reply else reply.pending).append(event)

    # --- from text to the voice ---------------------------------------------------------------------------------------

    def _write(self, reply: Reply, text: str, final: bool, now: float) -> None:
        if reply.cut:
            return
        speech = reply.speeches[-1] if reply.speeches and not reply.speeches[-1].written else None
        if speech is None:
            self._contexts += 1
            speech = Speech(f"speech-{self._contexts}")
            reply.speeches.append(speech)
            self._by_context[speech.context] = reply, speech
        elif final:
            text = ""  # its deltas have said it
        self._alive_at = now
        pieces = speech.sentences.feed(text)
        if final:
            pieces.append(speech.sentences.flush())
        for piece in pieces:
            if piece and (piece.strip() or speech.spoken.text):
                speech.spoken.add(piece)
                self._voice.speak(speech.context, piece, now)
        if final:
            self._finish(reply, now)

    def _finish(self, reply: Reply, now: float) -> None:
        """The model writes no more of the item that it was writing."""
        speech = reply.speeches[-1] if reply.speeches else None
        if speech is None or speech.written:
            return
        speech.written = True
        if rest := speech.sentences.flush().rstrip():
            speech.spoken.add(rest)
            self._voice.speak(speech.context, rest, now)
        if speech.spoken.text:
            self._voice.finish(speech.context, now)
        else:
            self._spoken(reply, speech)

    def _spoken(self, reply: Reply, speech: Speech) -> None:
        """The voice has done all that it will do of this; what it costs is known."""
        if speech.done:
            return
        speech.done = True
        del self._by_context[speech.context]
        if speech.spoken.text:
            seconds = speech.received / self._format.bytes_per_ms / 1000
            counts = {"characters": len(speech.spoken.text), "output_audio_seconds": seconds}
            self._tell(reply, Usage(reply.id, counts, self._voice.model))

    # --- one reply after another --------------------------------------------------------------------------------------

    def _advance(self) -> None:
        """Hand on what may be heard now, end what is over."""
        while self._line:
            reply = self._line[0]
            self._events.extend(reply.pending)
            reply.pending.clear()
            self._hand_on(reply)
            if reply.status is None or reply.speaking is not None:
                return
            self._end_first("cancelled" if reply.cut and reply.status == "completed" else reply.status)

    def _hand_on(self, reply: Reply) -> None:
        for speech in reply.speeches:
            if not reply.cut:
                for pcm in speech.waiting:
                    speech.handed_on += len(pcm)
                    self._events.append(AssistantAudio(reply.id, speech.context, pcm))
            speech.waiting.clear()
            if not speech.done:
                return

    def _end_first(self, status: Status) -> None:
        reply = self._line.popleft()
        self._over.append(reply)
        self._events.append(AssistantTurnEnd(reply.id, "failed" if reply.failed else status))

    def _close(self, event: SessionClosed) -> None:
        self._closed = True
        ended: Status = "cancelled" if event.expected else "failed"
        while self._line:
            reply = self._line[0]
            self._events.extend(reply.pending)
            for speech in reply.speeches:
                self._spoken(reply, speech)
            self._end_first(ended)
        self._events.append(event)

    # --- barge-in -----------------------------------------------------------------------------------------------------

    def _cut(self, reply: Reply, now: float) -> None:
        """Nothing more of it is spoken. Its end comes when the model has ended it."""
        reply.cut = True
        for speech in reply.speeches:
            self.counters["late_audio_bytes"] += sum(map(len, speech.waiting))
            speech.waiting.clear()
            if not speech.done:
                speech.written = True
                self._voice.cancel(speech.context, now)
                self._spoken(reply, speech)

    def _take_back(self) -> None:
        """Speech that was never fetched was never heard."""
        for _ in range(len(self._events)):
            event = self._events.popleft()
            if isinstance(event, AssistantAudio):
                self.counters["late_audio_bytes"] += len(event.pcm)
                for reply in (*self._over, *self._line):
                    for speech in reply.speeches:
                        speech.handed_on -= len(event.pcm) if speech.context == event.item_id else 0
            else:
                self._events.append(event)

    def _heard(self, played: Sequence[Played]) -> list[tuple[str, str]]:
        """Of the replies that were cut off: what was heard of each, in words."""
        at = {heard.item_id: heard.played_ms for heard in played}
        told = []
        for reply in (*self._over, *self._line):
            named = any(speech.context in at for speech in reply.speeches)
            open_still = reply.cut or reply in self._line
            if reply.speeches and (named or (open_still and not reply.told)):
                words, whole = reply.heard(at, self._format.bytes_per_ms)
                if not whole:
                    reply.told = True
                    told.append((reply.id, words))
        return told
