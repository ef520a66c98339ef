"""OpenAI's Live protocol (GPT-Live) as a dialect: one WebSocket, JSON text both ways, full duplex.

The client speaks first (`session.start`); after `session.started` sound flows both ways without end. The model listens
while it speaks and decides by itself when to be quiet: there are no turns, no cancel, no truncation. So turns are found
here. A *reply* is a stretch of the model's speech: it begins where its sound (or its transcript) does and ends after
0.8 s of silence; the silence between replies is not passed on. The caller's turn is a run of transcript fragments.

Tools belong to a text model behind the voice, whose events come wrapped in `response.event`. A call that is made while
the model is quiet is a reply of its own, which is over at once: whatever is said of it comes in another one.

Source: the types of the vendor's SDK (`openai.types.live`, 3.54).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sipbridge.agent import (
    AgentError,
    AgentOptions,
    ToolDeclaration,
    Usage,
)
from sipbridge.audio import Played
from sipbridge.errors import ConfigError
from sipbridge.providers import Endpoint, Lifetime, Outgoing, WebSocketEndpoint
from sipbridge.providers import openai_live_wire as wire
from sipbridge.providers.access import authorization, url_and_key
from sipbridge.providers.base import BaseDialect
from sipbridge.providers.openai_live_turns import QUIET_MS, SpeechFinder, rms
from sipbridge.providers.openai_wire import account_headers, flat_tools
from sipbridge.providers.wire import Json, WholeSamples, decode_audio, number_of, seconds_until, text_of

_QUIET_S = QUIET_MS / 1000
_CALLER_RMS = 200  # of 16-bit samples: the caller is still speaking,
_UNTRANSCRIBED_S = 3.0  # but with no new word for so long, it is not speech
_MOST_WORDS = 20_000  # characters of one turn of the caller's
_ROTATE_BEFORE_S = 300.0
_NEVER = 2**40  # in Unix time; larger numbers are no floats
_MOST_RESPONSES = 100
_SAY_TOKENS = 80  # what asks for a text to be spoken takes less


class OpenAILiveDialect(BaseDialect):
    """See `sipbridge.providers.Dialect` for the verbs."""

    capabilities = wire.CAPABILITIES

    def __init__(self, credential: Mapping[str, Any], options: AgentOptions) -> None:
        super().__init__(credential, options)
        if options.input_format != options.output_format:
            raise ConfigError("this provider has one format for both ways")
        self._url, self._key = url_and_key(credential, wire.DEFAULT_URL)
        self._model = str(credential.get("model") or wire.DEFAULT_MODEL)
        self._stream = WholeSamples(options.output_format.bytes_per_sample)
        self._finder = SpeechFinder(options.output_format)
        self._sounds_until = 0.0  # what came of the reply under way would have been heard by then
        self._words: list[str] = []  # the caller's, since the turn under way began
        self._word_at: float | None = None  # None: the caller is not speaking
        self._loud_at = 0.0
        self._turns = 0
        self._responses: set[str] = set()  # of the text model, under way
        self._results_sent = False
        self._create_id = ""  # of the last `response.create`
        self._session_seconds = 0.0
        self._lifetime: Lifetime | None = None
        self._last_id = 0

    @classmethod
    def tools_for_session(cls, tools: Sequence[ToolDeclaration]) -> list[Json]:
        return flat_tools(tools)

    # --- verbs of the driver ------------------------------------------------------------------------------------------

    def endpoints(self) -> Mapping[str, Endpoint]:
        headers = account_headers(self._credential) | authorization(self._key)
        return {self.channel: WebSocketEndpoint(self._url, headers, text=True)}

    def channel_opened(self, channel: str, now: float) -> None:
        wanted = self._credential.get("delegation") or {}
        self._command("session.start", session=wire.session_object(self._options, self._model, wanted))

    @property
    def lifetime(self) -> Lifetime | None:
        return self._lifetime

    def get_timer(self) -> float | None:
        due = [self._reply_due] if self._reply_id else []
        if self._word_at is not None:
            due.append(self._turn_due)
        return min(due, default=None)

    def handle_timer(self, now: float) -> None:
        if self._reply_id and now >= self._reply_due:
            self._end_reply()
        if self._word_at is not None and now >= self._turn_due:
            self._end_turn()

    @property
    def _reply_due(self) -> float:
        """When the reply under way is over at the latest, where nothing comes any more, not even silence."""
        return self._sounds_until + _QUIET_S

    @property
    def _turn_due(self) -> float:
        assert self._word_at is not None
        return min(max(self._word_at, self._loud_at) + _QUIET_S, self._word_at + _UNTRANSCRIBED_S)

    def on_message(self, channel: str, message: Json, now: float) -> None:
        kind = message["type"]
        name = _EVENTS.get(kind)
        if name is not None and (self._state == "open" or kind in _SETUP_EVENTS):
            getattr(self, name)(message, now)
        elif name is None and kind not in wire.IGNORED_EVENTS:
            self._unknown(kind)

    # --- commands -----------------------------------------------------------------------------------------------------

    def _command(self, kind: str, **fields: Any) -> None:
        self._last_id += 1
        self._send({"type": kind, "event_id": f"c{self._last_id}", **fields})

    def _append(self, what: str, text: str) -> None:
        """Add to the session's timeline, in as many messages as the limit on one asks for."""
        parts = wire.pieces(text)
        if len(parts) > 1:
            self.counters["text_split"] += 1
        for part in parts:
            self._command(f"session.{what}.append", content=part, delegation_id=None)

    def push_audio(self, pcm: bytes, now: float) -> None:
        audio = self._options.input_format
        if self._word_at is not None and rms(pcm[: len(pcm) // 2 * 2], audio) >= _CALLER_RMS:
            self._loud_at = now
        self._outbox.append(Outgoing(self.channel, wire.append_audio(pcm), len(pcm) / audio.bytes_per_ms))

    def cancel(self, played: Sequence[Played], now: float) -> None:
        """The model is told nothing: it hears the caller, and there is no such message. What it still says of this
        reply is not passed on."""
        super().cancel(played, now)
        self._go_on()

    def update_instructions(self, text: str, now: float) -> None:
        self._append("instructions", wire.new_instructions(text))

    def send_text(self, text: str, now: float) -> None:
        self._append("thinking", text)

    def say(self, text: str, now: float) -> None:
        for part in wire.pieces(text, wire.MOST_TOKENS - _SAY_TOKENS):
            self._append("commentary", wire.say_commentary(part))

    def create_response(self, now: float) -> None:
        self._append("commentary", wire.GO_ON)

    def send_tool_result(self, call_id: str, output: str, now: float) -> None:
        self._results_sent = self._results_sent or call_id in self._owed
        super().send_tool_result(call_id, output, now)
        self._go_on()

    def answer_tool(self, call_id: str, output: str, now: float) -> None:
        item = {"type": "function_call_output", "call_id": call_id, "output": output}
        self._command("response.item.create", item=item)

    def _go_on(self) -> None:
        """The text model goes on when all that it asked for is answered and its response is done; asked sooner, it
        would refuse."""
        if self._results_sent and not self._owed and not self._responses:
            self._results_sent = False
            self._command("response.create")
            self._create_id = f"c{self._last_id}"

    def close(self, now: float) -> None:
        if self._state == "open":
            self._command("session.close")
        self._end_turn()
        super().close(now)

    # --- the session --------------------------------------------------------------------------------------------------

    def _on_started(self, event: Json, now: float) -> None:
        session = event.get("session")
        session = session if isinstance(session, dict) else {}
        expires_at = number_of(session, "expires_at")
        left = seconds_until(min(expires_at, _NEVER)) if expires_at is not None else 0.0
        if left > 0:
            self._lifetime = Lifetime(now + left - min(_ROTATE_BEFORE_S, left / 10), now + left)
        self._opened(text_of(session, "id"))

    def _on_error(self, event: Json, now: float) -> None:
        error = event["error"]
        kind, code = text_of(error, "type"), text_of(error, "code")
        message = text_of(error, "message") or code or kind or "an error without a word"
        if self._state != "open" or code in wire.FATAL_CODES or kind in wire.FATAL_CODES:
            again = code in _PASSING or kind in _PASSING
            self._failed(message, code or kind or "error", now, again=again)
        else:
            # Asked too soon after all: again with what happens next.
            self._results_sent = self._results_sent or text_of(error, "client_event_id") == self._create_id != ""
            self._events.append(AgentError(message, code or kind, fatal=False))

    def _on_closed(self, event: Json, now: float) -> None:
        if isinstance(event.get("usage"), dict):
            self._on_usage(event, now)
        reason = text_of(event, "reason") or "closed"
        self._failed(f"the model ended the session: {reason}", reason, now, again=reason in _PASSING)

    def _failed(self, message: str, code: str, now: float, *, reason: str = "", again: bool = False) -> None:
        self._end_turn()
        super()._failed(message, code, now, reason=reason, again=again)

    def _on_usage(self, event: Json, now: float) -> None:
        seconds = event["usage"]["seconds"]  # so far
        if isinstance(seconds, int | float) and seconds > self._session_seconds:
            counts = {"session_seconds": seconds - self._session_seconds}
            self._session_seconds = seconds
            self._events.append(Usage("", counts))

    # --- the model's voice --------------------------------------------------------------------------------------------

    def _on_audio(self, event: Json, now: float) -> None:
        audio = self._options.output_format
        speech = self._finder.feed(self._stream.feed(decode_audio(event["delta"])))
        if not speech:
            return
        self._sounds_until = max(self._sounds_until, now) + audio.duration_ms(speech) / 1000
        self._audio(speech)
        if self._finder.over:
            self._end_reply()

    def _on_text(self, event: Json, now: float) -> None:
        if not (delta := text_of(event, "delta")):
            return
        if not self._finder.speaking and (held := self._finder.begin()):
            self._audio(held)
        self._sounds_until = max(self._sounds_until, now)
        self._finder.quiet_ms = 0.0
        self._text(delta)

    def _end_reply(self) -> None:
        self._finder.end()
        self._reply_ended()

    # --- the caller ---------------------------------------------------------------------------------------------------

    def _on_word(self, event: Json, now: float) -> None:
        delta = text_of(event, "delta")
        if not delta:
            return
        if self._word_at is None:
            self._turns += 1
            self._loud_at = now
            self._caller_began(number_of(event, "start_ms"))
        self._word_at = now
        self._words.append(delta)
        self._caller_said(delta, final=False, item_id=f"user-{self._turns}")
        if sum(map(len, self._words)) > _MOST_WORDS:
            self._end_turn()

    def _end_turn(self) -> None:
        if self._word_at is None or self._state == "closed":
            return
        text, self._words, self._word_at = "".join(self._words).strip(), [], None
        self._caller_stopped()
        self._caller_said(text, item_id=f"user-{self._turns}")

    def _reply_began(self, reply_id: str = "") -> str:
        """What the caller said comes before the answer to it, though his last words may be written down after it."""
        self._caller_stopped()
        return super()._reply_began(reply_id)

    # --- delegated work -----------------------------------------------------------------------------------------------

    def _on_delegation(self, event: Json, now: float) -> None:
        """Work for us, where no text model is there to do it. We are not told what it is."""
        delegation = event["delegation"]
        if delegation["target"] == "client":
            content = wire.NOBODY_THERE
            self._command("session.commentary.append", content=content, delegation_id=str(delegation["id"]))

    def _on_response_event(self, event: Json, now: float) -> None:
        inner = event["event"]
        kind = inner["type"]
        if kind == "response.created" and len(self._responses) < _MOST_RESPONSES:
            self._responses.add(text_of(inner["response"], "id"))
        elif kind == "response.output_item.done" and inner["item"]["type"] == "function_call":
            item = inner["item"]
            self._tool_called_between(item["call_id"], item["name"], text_of(item, "arguments"))
        elif kind in _RESPONSE_ENDS:
            self._on_response_end(inner["response"])

    def _on_response_end(self, response: Json) -> None:
        self._responses.discard(text_of(response, "id"))
        usage, error = response.get("usage"), response.get("error")
        if isinstance(usage, dict):
            cached = usage.get("input_tokens_details")
            counts = {
                "input_tokens": number_of(usage, "input_tokens"),
                "output_tokens": number_of(usage, "output_tokens"),
                "input_cached_tokens": number_of(cached, "cached_tokens") if isinstance(cached, dict) else None,
            }
            told = {key: count for key, count in counts.items() if count}
            self._events.append(Usage("", told, model=text_of(response, "model")))
        if isinstance(error, dict):
            message = text_of(error, "message") or "a delegated task failed"
            self._events.append(AgentError(message, text_of(error, "code"), fatal=False))
        self._go_on()


_EVENTS = {
    "session.started": "_on_started",
    "session.closed": "_on_closed",
    "error": "_on_error",
    "session.output_audio.delta": "_on_audio",
    "session.output_transcript.delta": "_on_text",
    "session.input_transcript.delta": "_on_word",
    "session.delegation.created": "_on_delegation",
    "response.event": "_on_response_event",
    "session.usage.updated": "_on_usage",
}
_SETUP_EVENTS = frozenset({"session.started", "session.closed", "error"})
"""The only ones that mean anything before the session is open."""
_RESPONSE_ENDS = frozenset({"response.completed", "response.failed", "response.incomplete", "response.cancelled"})
_PASSING = frozenset({"expired", "connection_lost", "session_expired", "server_error", "rate_limit_exceeded"})
"""After these a new session has a chance."""
