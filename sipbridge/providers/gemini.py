"""Gemini Live as a dialect: one WebSocket, JSON in text frames up and in binary frames down.

We speak first (`setup`), and nothing else may be sent before `setupComplete`. The service detects the caller's turns.
Its own turn has three phases: it generates, then plays (it waits for as long as its speech should take to be heard, and
may still be interrupted), then is idle. A reply of ours is over when it is generated, or when it calls a tool: what the
model says with the result is another one, as with every other vendor. Errors are closes.

Without a server that finds turns (`TurnDetection.type` "none") the caller's activity is bracketed by us: it begins with
the first audio after the model's turn, or with `cancel`, and ends with `commit_input_audio`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal, NamedTuple

from sipbridge.agent import AgentError, AgentOptions, Capabilities, ToolDeclaration, Usage
from sipbridge.audio import Played
from sipbridge.errors import ConfigError
from sipbridge.providers import Endpoint, Lifetime
from sipbridge.providers import gemini_wire as wire
from sipbridge.providers.base import BaseDialect, Status
from sipbridge.providers.gemini_access import Access
from sipbridge.providers.gemini_caller import CallerTurn
from sipbridge.providers.gemini_calls import Calls
from sipbridge.providers.gemini_uplink import Uplink
from sipbridge.providers.phrases import CANCELLED_OUTPUT
from sipbridge.providers.wire import Json, decode_audio, text_of

_LATE_TEXT_S = 0.2
"""A reply that was generated is kept open for the last words of its transcript, which come in no promised order."""
_TAKEN_BACK_S = 1.0
"""So long may the service take to take back itself a call that was cut: answering such a one ends the session."""
_FLOOR_S = 10.0
"""After this the model, which may choose to say nothing, has not answered what it was asked."""
_HOLD_S = 15.0
"""What we want to say waits for the model's turn to be over, but not longer."""
_MOST_WAITING = 20
_OLD_S, _OLDEST_S = 55 * 60.0, 58 * 60.0
"""Connections live about ten minutes, which `goAway` announces; those it does not come for have ended after 58."""
_NO_TIME_S, _AT_LEAST_S = 10.0, 10.0


class Request(NamedTuple):
    """Something that we have to say to the model, and that would interrupt it."""

    message: Json
    asks: bool = False
    """For an answer."""
    instructs: bool = False


class GeminiDialect(BaseDialect):
    """The credential: `api_key` (or an ephemeral token in it), or `vertex`; see docs/providers/gemini.md."""

    capabilities = wire.CAPABILITIES
    channel: ClassVar[str] = "live"

    def __init__(self, credential: Mapping[str, Any], options: AgentOptions) -> None:
        super().__init__(credential, options)
        self._access = Access(credential)
        self._family = self._access.family
        self._check()
        self._by_hand = options.turn_detection.type == "none"
        server_cuts = not self._by_hand and options.turn_detection.interrupt_response
        self.capabilities = replace(self.capabilities, interrupts_by_itself=server_cuts)
        self._uplink = Uplink(
            self.channel,
            options.input_format,
            self.counters,
            by_hand=self._by_hand,
            tells_pauses=self._family.ends_audio_stream,
        )
        self._caller = CallerTurn(self._events, interim=options.interim_transcripts)
        self._phase: Literal["idle", "generating", "playing"] = "idle"
        self._muted = False
        """Cut while it generates: what it still says is dropped."""
        self._unheard = False
        """Nobody listens to its turn any more, so we may interrupt it."""
        self._we_interrupt = False
        """What interrupts the model next is a message of ours, not the caller."""
        self._was_interrupted = False
        """This turn of the model's was; `turnComplete` is still to come."""
        self._early_text: list[str] = []
        self._calls = Calls()
        self._waiting: deque[Request] = deque()
        self._unasked: deque[str] = deque(maxlen=_MOST_WAITING)
        """Texts for a model that answers whatever text it is sent: they wait until an answer is wanted."""
        self._handle = ""
        self._opened_at = 0.0
        self._lifetime: Lifetime | None = None
        self._counted: dict[str, int] = {}
        self._timers: dict[str, float] = {}

    def _check(self) -> None:
        if "audio" not in self._options.modalities:
            raise ConfigError("gemini: these models only speak; text output is not available")
        if name := wire.bad_tool_name(self._options.tools):
            raise ConfigError(f"gemini: {name!r} can't be a tool's name there (letters, digits, _ . : -; at most 128)")
        if self._credential.get("tool_behavior") not in (None, "blocking", "non_blocking"):
            raise ConfigError("tool_behavior: blocking or non_blocking")

    @classmethod
    def capabilities_for(cls, credential: Mapping[str, Any]) -> Capabilities:
        model = str(credential.get("model") or wire.DEFAULT_MODEL)
        family = wire.family_of(model, vertex=bool(credential.get("vertex")))
        return replace(
            cls.capabilities,
            takes_instructions=bool(family.instructions),
            takes_language=family.names_language or family.hints_language,
        )

    @classmethod
    def tools_for_session(cls, tools: Sequence[ToolDeclaration]) -> list[Json]:
        return wire.declarations(tools)

    @property
    def _non_blocking(self) -> bool:
        wanted = self._credential.get("tool_behavior")
        return wanted == "non_blocking" or self._family.only_non_blocking

    # --- the session --------------------------------------------------------------------------------------------------

    async def prepare(self) -> None:
        await self._access.prepare()

    def endpoints(self) -> Mapping[str, Endpoint]:
        return {self.channel: self._access.endpoint()}

    def channel_opened(self, channel: str, now: float) -> None:
        behavior = ""
        if self._non_blocking != self._family.non_blocking and not self._family.only_non_blocking:
            behavior = "NON_BLOCKING" if self._non_blocking else "BLOCKING"
        self._send(wire.setup(self._access.model_path, self._options, self._family, behavior))

    def channel_closed(self, channel: str, code: int, reason: str, now: float) -> None:
        reason = self._access.redacted(reason)
        why = f"{code} {reason}".strip()
        resuming = bool(self._options.resume_handle)
        close = wire.close_of(code, reason, in_setup=self._state == "connecting", resuming=resuming)
        self._failed(f"the model's connection closed: {why}", close.code, now, reason=why, again=close.again)

    @property
    def lifetime(self) -> Lifetime | None:
        return self._lifetime

    @property
    def resume_handle(self) -> str:
        """Of a moment at which nothing is under way: resuming at another one loses what came since."""
        return "" if self._phase == "generating" or self._calls else self._handle

    # --- time ---------------------------------------------------------------------------------------------------------

    def get_timer(self) -> float | None:
        pause = self._uplink.pause_due
        return min([*self._timers.values(), *([] if pause is None else [pause])], default=None)

    def handle_timer(self, now: float) -> None:
        if self._uplink.pause_due is not None and self._uplink.pause_due <= now:
            self._outbox += self._uplink.look_for_pause(now)
        for name in [name for name, due in self._timers.items() if due <= now]:
            del self._timers[name]
            if name == "text":
                self._reply_ended()
            elif name == "cut":
                self._send_results(self._calls.answers_to_cut(scheduling="SILENT" if self._non_blocking else ""))
            self._send_waiting(now, at_any_rate=name == "hold")

    # --- commands -----------------------------------------------------------------------------------------------------

    def push_audio(self, pcm: bytes, now: float) -> None:
        self._outbox += self._uplink.push(pcm, now, models_floor=self._models_floor)

    def commit_input_audio(self, now: float) -> None:
        if self._by_hand and (ended := self._uplink.end()):
            self._outbox += ended
            self._timers["floor"] = now + _FLOOR_S

    @property
    def _models_floor(self) -> bool:
        """It speaks, or was asked to and has not begun."""
        return self._phase != "idle" or "floor" in self._timers

    def cancel(self, played: Sequence[Played], now: float) -> None:
        """No message says it. By hand the caller's activity begins, which interrupts; else the model is left to finish
        what is not heard any more."""
        speaking = bool(self._reply_id)
        super().cancel(played, now)
        self._muted = self._phase == "generating" and (speaking or not self._owed)
        self._unheard = self._muted or self._phase == "playing"
        if self._by_hand and self._models_floor and (begun := self._uplink.begin()):
            self._we_interrupt = self._phase != "idle"
            self._outbox += begun

    def update_instructions(self, text: str, now: float) -> None:
        if self._family.instructions == "contextUpdate":
            self._send(wire.context_update(text))
        elif self._family.instructions == "clientContent":
            self._request(Request(wire.turns(wire.system_turn(text)), instructs=True), now)
        else:
            self._unsupported("update_instructions")

    def send_text(self, text: str, now: float) -> None:
        if self._family.content == "always":
            self._request(Request(wire.turns(wire.user_turn(text))), now)
        else:
            self._unasked.append(text)

    def send_image(self, data: bytes, media_type: str, now: float) -> None:
        self._send(wire.image_input(data, media_type))

    def create_response(self, now: float) -> None:
        if self._family.content == "always":
            self._request(Request(wire.GO_ON, asks=True), now)
        else:
            text = "\n".join(self._unasked) or wire.GO_ON_TEXT
            self._unasked.clear()
            self._ask(text, now)

    def say(self, text: str, now: float) -> None:
        self._ask(wire.words_to_say(text), now)

    def _ask(self, text: str, now: float) -> None:
        self._request(Request(wire.text_input(text), asks=True), now)

    def _request(self, request: Request, now: float) -> None:
        """Any of these interrupts the model, so it waits for a moment that suits it."""
        if len(self._waiting) >= _MOST_WAITING:
            self.counters["requests_dropped"] += 1
        elif request.message is not wire.GO_ON or request not in self._waiting:
            self._waiting.append(request)
        self._send_waiting(now)

    def _suits(self, request: Request) -> bool:
        """Not while the model has the floor, unless nobody listens to it any more. What asks for no answer must not get
        between the caller and theirs either; but new instructions may cut short the playing: what was generated is
        heard all the same."""
        free = self._unheard or not self._models_floor
        if any(waiting.asks for waiting in self._waiting):
            return free
        playing = request.instructs and self._phase == "playing" and not self._reply_id
        return (free or playing) and not self._caller.speaking

    def _send_waiting(self, now: float, *, at_any_rate: bool = False) -> None:
        """In order, as far as the first one that asks for an answer: the rest waits for that."""
        while self._waiting and (at_any_rate or self._suits(self._waiting[0])):
            request = self._waiting.popleft()
            self._we_interrupt = self._we_interrupt or self._phase != "idle"
            spoken = self._by_hand and "realtimeInput" in request.message  # as if by the caller: in their activity
            if spoken:
                self._outbox += self._uplink.begin()
            self._send(request.message)
            if spoken:
                self._outbox += self._uplink.end()
            if request.asks:
                self._timers["floor"] = now + _FLOOR_S
                break
        if not self._waiting:
            self._timers.pop("hold", None)
        elif "hold" not in self._timers:
            self._timers["hold"] = now + _HOLD_S

    # --- tools --------------------------------------------------------------------------------------------------------

    def answer_tool(self, call_id: str, output: str, now: float) -> None:
        if output == CANCELLED_OUTPUT:
            self._calls.cut(call_id)
            self._timers["cut"] = now + _TAKEN_BACK_S
        else:
            scheduling = "WHEN_IDLE" if self._non_blocking else ""
            self._send_results(self._calls.answer(call_id, output, scheduling=scheduling))

    def _send_results(self, messages: list[Json]) -> None:
        for message in messages:
            self._counted.clear()  # another generation
            self._send(message)

    def _on_tool_call(self, call: Json, now: float) -> None:
        if not (functions := [told for told in call["functionCalls"] if not self._knows_call(text_of(told, "id"))]):
            return
        before = self._phase
        self._model_began(now)
        for function in functions:
            call_id = self._calls.add(function)
            if not call_id:
                self.counters["tool_calls_dropped"] += 1
            elif self._muted:
                self._calls_known.add(call_id)
                self.answer_tool(call_id, CANCELLED_OUTPUT, now)
            else:
                self._tool_called(call_id, text_of(function, "name"), function.get("args") or {})
        self._end_reply()
        if self._non_blocking:  # it does not wait for the result: that it has called says nothing about its turn
            self._phase = before

    def _on_taken_back(self, cancellation: Json, now: float) -> None:
        for call_id in cancellation.get("ids") or ():
            self._calls.taken_back(call_id)
            self._tool_cancelled(call_id)
        if not self._reply_id and not self._calls and not self._was_interrupted:
            self._turn_over(now)  # it had nothing else to do than to wait for them

    # --- what comes in ------------------------------------------------------------------------------------------------

    def on_message(self, channel: str, message: Json, now: float) -> None:
        for field in message.keys() - _HANDLERS.keys():
            self._unknown(field)
        for field, handler in _HANDLERS.items():
            if field in message and (self._state == "open" or field == "setupComplete"):
                getattr(self, handler)(message[field], now)

    def _on_setup_complete(self, complete: Json, now: float) -> None:
        if self._state != "connecting":
            return
        options = self._options
        if options.history and not options.resume_handle:
            self._send(wire.history(options.history, self._family))
        self._handle = options.resume_handle
        self._opened_at = now
        self._lifetime = Lifetime(now + _OLD_S, now + _OLDEST_S)
        self._opened(text_of(complete, "sessionId"))

    def _on_content(self, content: Json, now: float) -> None:
        idle = self._phase == "idle"
        if heard := content.get("inputTranscription"):
            self._caller.heard(text_of(heard, "text"), idle=idle, finished=bool(heard.get("finished")))
        if heard := content.get("interimInputTranscription"):
            self._caller.guessed(text_of(heard, "text"), idle=idle)
        if content.get("interrupted"):
            self._on_interrupted(now)
        for part in (content.get("modelTurn") or {}).get("parts") or ():
            self._on_part(part, now)
        if said := content.get("outputTranscription"):
            self._on_said(text_of(said, "text"), finished=bool(said.get("finished")))
        if content.get("generationComplete"):
            self._on_generated(now)
        if content.get("turnComplete"):
            self._on_turn_complete(wire.detail(content.get("turnCompleteReason")), now)

    def _on_interrupted(self, now: float) -> None:
        ours, self._we_interrupt = self._we_interrupt, False
        if not ours:
            self._caller.began()
        self._interrupted()
        self._was_interrupted = True
        self._unheard = self._phase != "idle"
        self._muted = self._phase == "generating"

    def _on_part(self, part: Json, now: float) -> None:
        """Thoughts, text and code are not for the caller."""
        inline = part.get("inlineData")
        if not inline or part.get("thought") or not text_of(inline, "mimeType").startswith("audio/pcm"):
            return
        pcm = decode_audio(inline["data"])
        self._model_began(now)
        if self._muted:
            self.counters["late_audio_bytes"] += len(pcm)
            return
        self._audio(pcm)
        early, self._early_text = self._early_text, []
        for text in early:
            self._text(text)

    def _model_began(self, now: float) -> None:
        """It answers, or speaks by itself."""
        if self._phase == "generating":
            return
        if self._phase == "playing":
            self._end_reply()
        self._phase = "generating"
        self._we_interrupt = self._was_interrupted = self._unheard = False
        self._counted.clear()
        self._timers.pop("floor", None)
        self._caller.over()

    def _on_said(self, text: str, *, finished: bool) -> None:
        """Increments in no promised order: what comes before the sound waits for it, what comes after a reply was cut,
        or is long over, belongs to nothing."""
        if self._reply_id:
            self._text(text)
            if finished and self._phase == "playing":
                self._end_reply()
        elif text and self._phase == "playing":
            self.counters["late_text"] += 1
        elif text and not self._caller.speaking and len(self._early_text) < _MOST_WAITING:
            self._early_text.append(text)

    def _on_generated(self, now: float) -> None:
        self._phase = "playing"
        self._muted = False
        if self._reply_id:
            self._timers["text"] = now + _LATE_TEXT_S

    def _on_turn_complete(self, reason: str, now: float) -> None:
        if reason in wire.HARMLESS:
            self._end_reply()
        else:
            self._end_reply("cancelled" if self._cut else "failed" if reason in wire.FAILURES else "incomplete")
            self._events.append(AgentError(f"the model ended its turn: {reason}", reason, fatal=False))
        if not self._was_interrupted:
            self._caller.over()  # nothing was said to them, or they have not spoken since
        self._turn_over(now)

    def _turn_over(self, now: float) -> None:
        self._phase = "idle"
        self._muted = self._unheard = self._we_interrupt = self._was_interrupted = False
        self._early_text.clear()
        self._timers.pop("floor", None)
        self._send_waiting(now)

    def _end_reply(self, status: Status | None = None) -> None:
        self._timers.pop("text", None)
        self._reply_ended(status)

    def _on_activity(self, activity: Json, now: float) -> None:
        self._caller.activity(activity)

    def _on_go_away(self, notice: Json, now: float) -> None:
        """A service that says so at once, to every connection, is not to be asked for one after the other."""
        left = wire.seconds_of(notice.get("timeLeft"))
        expires_at = now + (_NO_TIME_S if left is None else left)
        self._lifetime = Lifetime(min(max(now, self._opened_at + _AT_LEAST_S), (now + expires_at) / 2), expires_at)

    def _on_handle(self, update: Json, now: float) -> None:
        self._handle = text_of(update, "newHandle") if update.get("resumable") else ""

    def _on_usage(self, usage: Json, now: float) -> None:
        """Each generation is charged for by itself; within one the counts run on."""
        counts = wire.usage_counts(usage)
        fresh = wire.usage_difference(counts, self._counted)
        self._counted |= counts
        if fresh:
            reply_id = self._reply_id or (f"reply-{self._replies}" if self._replies else "")
            self._events.append(Usage(reply_id, fresh))


_HANDLERS = {
    "setupComplete": "_on_setup_complete",
    "voiceActivity": "_on_activity",
    "voiceActivityDetectionSignal": "_on_activity",
    "serverContent": "_on_content",
    "toolCall": "_on_tool_call",
    "toolCallCancellation": "_on_taken_back",
    "sessionResumptionUpdate": "_on_handle",
    "usageMetadata": "_on_usage",
    "goAway": "_on_go_away",
}
"""A frame may carry several of these; they are taken in this order."""
