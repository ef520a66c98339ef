"""The OpenAI Realtime protocol, GA shape, as a dialect: one WebSocket, JSON text both ways.

The server speaks first (`session.created`), we configure (`session.update`), and when it has answered
(`session.updated`) audio may flow. It detects the caller's turns and answers them by itself; what we ask for beyond
that (a greeting, the reply after a tool result) waits for its turn in `Replies`.

Relatives of this protocol are a `Shape` (`openai_wire.py`) and, where their behaviour differs, a subclass.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import structlog

from sipbridge.agent import (
    AgentError,
    AgentEvent,
    AgentOptions,
    AssistantAudio,
    Capabilities,
    Said,
    SessionClosed,
    SessionOpen,
    ToolCallCancelled,
    ToolDeclaration,
    Usage,
    UserSpeechEnded,
    UserSpeechStarted,
    UserTranscript,
)
from sipbridge.audio import Played
from sipbridge.providers import Endpoint, Lifetime, Outgoing, WebSocketEndpoint
from sipbridge.providers import openai_wire as wire
from sipbridge.providers.access import url_and_key, with_query
from sipbridge.providers.base import REFUSALS, check_formats
from sipbridge.providers.openai_events import REPLY_EVENTS, SESSION_EVENTS, SETUP_EVENTS
from sipbridge.providers.openai_reader import ReplyReader, Status
from sipbridge.providers.openai_replies import Replies, Request
from sipbridge.providers.phrases import CANCELLED_OUTPUT, history_as_text
from sipbridge.providers.wire import Json, encode, merged, number_of, read_json, text_of

log = structlog.get_logger(__name__)

CHANNEL = "realtime"
_LEAST_COMMIT_MS = 100
_ROTATE_BEFORE = 300.0
_MARGIN = 30.0
"""Seconds before a session's end: from where its successor is looked for, and when that must have taken over."""


class OpenAIDialect:
    """One session of the GA protocol. See `sipbridge.providers.Dialect` for the verbs."""

    shape: wire.Shape = wire.OPENAI_GA
    """A relative's own; where it depends on the credential, set before `__init__` here."""
    capabilities = wire.GA_CAPABILITIES

    def __init__(self, credential: Mapping[str, Any], options: AgentOptions) -> None:
        possible = self.capabilities_for(credential)
        self._past = "" if self.shape.takes_history else history_as_text(options.history)
        self._options = options = _within(possible, options, self._past)
        default_url = "" if credential.get("url") else self.default_url(credential)
        self._url, self._key = url_and_key(credential, default_url)
        self._model = str(credential.get("model") or self.shape.default_model)
        self._transcription_model = str(credential.get("transcription_model") or "")
        self._account = wire.account_headers(credential)
        self._detects_turns = options.turn_detection.type != "none"
        may_cut = options.turn_detection.interrupt_response or not possible.can_leave_interrupting
        self._server_cuts = self._detects_turns and may_cut
        self.capabilities = replace(
            possible,
            speech_events=self._detects_turns,
            interrupts_by_itself=self._server_cuts,
            takes_late_results=possible.takes_late_results and self.shape.takes_history,
        )
        check_formats(self.capabilities, options)
        self.counters: Counter[str] = Counter()
        self._events: deque[AgentEvent] = deque()
        self._replies = Replies(options.output_format.rate * options.output_format.bytes_per_sample)
        self._outbox: list[Outgoing] = []
        self._reader = ReplyReader(self._replies, self._events, self.counters, options.output_format, self.shape)
        self._state: Literal["connecting", "updating", "open", "closed"] = "connecting"
        self._session_id = ""
        self._began: float | None = None
        self._transcriber = ""
        """The model that writes down what the caller says: it is charged for apart."""
        self._uncommitted_ms = 0.0
        self._setup_id = ""
        """The event id of the first `session.update`."""
        self._cut_id = ""
        """And of the newest truncation."""
        self._last_id = 0
        self._logged: set[str] = set()

    @classmethod
    def capabilities_for(cls, credential: Mapping[str, Any]) -> Capabilities:
        return cls.capabilities

    @classmethod
    def tools_for_session(cls, tools: Sequence[ToolDeclaration]) -> list[Json]:
        return cls.shape.tools(tools)

    # --- verbs of the driver ------------------------------------------------------------------------------------------

    async def prepare(self) -> None:
        """Nothing has to be fetched first."""

    def start(self, now: float) -> None:
        """The server speaks first."""

    def endpoints(self) -> Mapping[str, Endpoint]:
        url = with_query(self._url, {name: value for name, value in self.query().items() if value})
        return {CHANNEL: WebSocketEndpoint(url, self.headers(), text=True)}

    # What a relative overrides where data in its `Shape` do not say it:

    def default_url(self, credential: Mapping[str, Any]) -> str:
        """The vendor's own endpoint, where the operator names none; may raise `ConfigError`."""
        return self.shape.default_url

    def query(self) -> dict[str, str]:
        """The URL's query; what is empty is left out."""
        return {self.shape.model_parameter: self._model}

    def headers(self) -> dict[str, str]:
        headers = dict(self._account)
        if self._key:
            headers[self.shape.key_header] = self.shape.key_prefix + self._key
        return headers

    def session_object(self) -> Json:
        """The whole configuration, for the first `session.update`; `AgentOptions.extra` is merged into it."""
        session = self.shape.session(self._options)
        wanted = self.shape.transcription(session)
        if wanted is not None and self._transcription_model:
            wanted["model"] = self._transcription_model
        return session

    def configuration(self) -> Json:
        """The same with the operator's own members; his tools (`mcp`, `web_search`, ...) come beside ours."""
        extra = dict(self._options.extra)
        tools = extra.pop("tools", None)
        session = merged(self.session_object(), extra)
        if isinstance(tools, (list, tuple)):
            session["tools"] = [*session.get("tools", ()), *tools]
        return session

    def channel_opened(self, channel: str, now: float) -> None:
        """`session.created` comes by itself."""

    def channel_closed(self, channel: str, code: int, reason: str, now: float) -> None:
        if self._state == "closed":
            return
        why = f"{code} {reason}".strip()
        self._events.append(AgentError(f"the model's connection closed: {why}", "closed", fatal=True))
        for_good = any(word in reason for word in self.shape.fatal_codes if not self.shape.passes(word))
        self._end(why, "failed", now, again=code not in REFUSALS and not for_good)

    @property
    def lifetime(self) -> Lifetime | None:
        """From the server's first word. It names the end as well (`expires_at`), on a clock that is not ours."""
        if self._began is None or self.shape.session_seconds is None:
            return None
        end = self._began + self.shape.session_seconds
        return Lifetime(end - _ROTATE_BEFORE, end - _MARGIN)

    @property
    def resume_handle(self) -> str:
        return ""

    def messages_to_send(self) -> list[Outgoing]:
        messages, self._outbox = self._outbox, []
        return messages

    def get_timer(self) -> float | None:
        return self._replies.get_timer() if self._state == "open" else None

    def handle_timer(self, now: float) -> None:
        self._settle(now)

    def next_event(self) -> AgentEvent | None:
        return self._events.popleft() if self._events else None

    def _handler(self, kind: str) -> Callable[[Json, float], None]:
        """Looked up each time: kept, bound methods would make each call's dialect a circle for the collector."""
        handler: Callable[[Json, float], None] = self._on_other
        if kind in SESSION_EVENTS:
            handler = getattr(self, SESSION_EVENTS[kind])
        elif kind in REPLY_EVENTS:
            handler = getattr(self._reader, REPLY_EVENTS[kind])
        return handler

    def receive(self, channel: str, message: str | bytes, now: float) -> None:
        """Whatever is no JSON object of the shape we expect is counted, logged once and passed over."""
        if self._state == "closed":
            return
        try:
            event = read_json(message)
            if "type" not in event and "code" in event:  # a vendor's gateway, before or behind the model
                event = {"type": "error", "error": event}
            kind = wire.EVENT_ALIASES.get(event["type"], event["type"])
            if self._state == "open" or kind in SETUP_EVENTS:
                self._handler(kind)(event, now)
                self._settle(now)
        except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError) as error:
            self.counters["malformed"] += 1
            self._log_once("malformed", "malformed message passed over", error=type(error).__name__)

    # --- commands -----------------------------------------------------------------------------------------------------

    def push_audio(self, pcm: bytes, now: float) -> None:
        if self._state == "closed":
            return
        audio_ms = len(pcm) / self._options.input_format.bytes_per_ms
        self._uncommitted_ms += audio_ms
        self._outbox.append(Outgoing(CHANNEL, wire.append_audio(pcm), audio_ms))

    def commit_input_audio(self, now: float) -> None:
        """What is shorter than the server takes is nobody's turn."""
        if self._detects_turns:
            return
        if self._uncommitted_ms < _LEAST_COMMIT_MS:
            self.counters["commit_too_short"] += 1
            return
        self._uncommitted_ms = 0.0
        self._send({"type": "input_audio_buffer.commit", "event_id": self._new_id()})
        self.create_response(now)

    def cancel(self, played: Sequence[Played], now: float) -> None:
        for _ in range(len(self._events)):
            event = self._events.popleft()
            if isinstance(event, AssistantAudio):
                self._replies.taken_back(event.item_id, len(event.pcm))
                self.counters["late_audio_bytes"] += len(event.pcm)
            else:
                self._events.append(event)
        for call_id in self._replies.interrupt(played):
            self._events.append(ToolCallCancelled(call_id))
        self._settle(now)

    def heard(self, reply_id: str, text: str, now: float) -> None:
        if self.shape.can_delete:
            self._replies.heard(reply_id, text)
            self._settle(now)

    def update_instructions(self, text: str, now: float) -> None:
        self._update(self.shape.instructions(text + self._past))

    def send_text(self, text: str, now: float) -> None:
        self._send(wire.item_create(self._new_id(), wire.user_text(text)))

    def send_image(self, data: bytes, media_type: str, now: float) -> None:
        self._send(wire.item_create(self._new_id(), wire.user_image(data, media_type)))

    def say(self, text: str, now: float) -> None:
        self._replies.want(Request(self.shape.say(text)))
        self._settle(now)

    def create_response(self, now: float) -> None:
        self._replies.want(Request())
        self._settle(now)

    def send_tool_result(self, call_id: str, output: str, now: float) -> None:
        """A result nobody asked for, or a second one, would be an error on the wire: dropped and counted."""
        if not self._replies.answered(call_id):
            self.counters["tool_result_unexpected"] += 1
            return
        self._send(wire.item_create(self._new_id(), wire.tool_output(call_id, output)))
        self._settle(now)

    def close(self, now: float) -> None:
        if self._state != "closed":
            self._end("closed", "cancelled", now, expected=True)

    # --- sending ------------------------------------------------------------------------------------------------------

    def _new_id(self) -> str:
        self._last_id += 1
        return f"c{self._last_id}"

    def _send(self, message: Json) -> None:
        if self._state != "closed":
            self._outbox.append(Outgoing(CHANNEL, encode(message)))

    def _update(self, session: Json) -> str:
        event_id = self._new_id()
        self._send({"type": "session.update", "event_id": event_id, "session": session})
        return event_id

    def _settle(self, now: float) -> None:
        """Send what follows from the state of the replies: cancels, truncations, the next `response.create`."""
        replies = self._replies
        for reply_id in replies.to_cancel:
            named = reply_id if self.shape.cancel_names_response else ""
            self._send(wire.response_cancel(self._new_id(), named))
        replies.to_cancel.clear()
        for cut in replies.to_cut if self.shape.can_truncate else ():
            self._cut_id = self._new_id()
            self._send(wire.truncate(self._cut_id, cut.item_id, cut.content_index, cut.audio_end_ms))
        replies.to_cut.clear()
        for call_id in replies.to_revoke:
            self._send(wire.item_create(self._new_id(), wire.tool_output(call_id, CANCELLED_OUTPUT)))
        replies.to_revoke.clear()
        for item_id, text in replies.to_replace:
            if text:
                part = wire.said(Said("assistant", text), self.shape.text_type)
                self._send(wire.item_create(self._new_id(), part, after=item_id))
            self._send(wire.item_delete(self._new_id(), item_id))
        replies.to_replace.clear()
        if self._state == "open" and (request := replies.next_request(now)):
            request.event_id = self._new_id()
            self._send(wire.response_create(request.event_id, request.response))

    # --- the session --------------------------------------------------------------------------------------------------

    def _on_session_created(self, event: Json, now: float) -> None:
        self._session_id = text_of(event["session"], "id")
        self._configure(now)

    def _on_conversation_created(self, event: Json, now: float) -> None:
        """Some relatives begin with it."""

    def _configure(self, now: float) -> None:
        if self._state == "connecting":
            self._began = now
            self._state = "updating"
            session = self.configuration()
            transcription = self.shape.transcription(session)
            self._transcriber = text_of(transcription, "model") if isinstance(transcription, dict) else ""
            self._setup_id = self._update(session)

    def _on_session_updated(self, event: Json, now: float) -> None:
        if self._state == "updating":
            self._open()

    def _open(self) -> None:
        """Configured: what was said before in this conversation is put back first."""
        self._state = "open"
        if self.shape.takes_history:
            for item in wire.history_items(self._options.history, self.shape.text_type):
                self._send(wire.item_create(self._new_id(), item))
            self._replies.called_before(wire.unanswered(self._options.history))
        self._events.append(SessionOpen(self._session_id))

    def _on_error(self, event: Json, now: float) -> None:
        error = event["error"]
        kind, code, ours = text_of(error, "type"), text_of(error, "code"), text_of(error, "event_id")
        message = text_of(error, "message") or code or kind
        if code == wire.NOTHING_TO_CANCEL:
            self.counters["cancel_too_late"] += 1
            return
        if code == wire.ACTIVE_RESPONSE:
            self.counters["response_refused"] += 1
            self._replies.refused(ours, now)
            return
        fatal = self._state != "open" or code in self.shape.fatal_codes or kind in self.shape.fatal_codes
        self._events.append(AgentError(message, code or kind, fatal))
        if fatal:
            self._end(code or kind or "error", "failed", now, again=self.shape.passes(code, kind))
        elif ours and (request := self._replies.rejected(ours)) and code.startswith(self.shape.rate_codes):
            self.counters["rate_limited"] += self._replies.ask_again(request, now)

    def _on_response_done(self, event: Json, now: float) -> None:
        self._reader.on_response_done(event, now)
        if self._reader.broken:
            self._end(self._reader.broken, "failed", now, again=self.shape.passes(self._reader.broken))

    def _end(self, reason: str, status: Status, now: float, *, expected: bool = False, again: bool = False) -> None:
        for reply in self._replies.open_replies():
            self._reader.end(reply, status, now)
        self._events.append(SessionClosed(reason, expected, again))
        if not expected:
            self._outbox.clear()
        self._state = "closed"

    # --- the caller ---------------------------------------------------------------------------------------------------

    def _on_speech_started(self, event: Json, now: float) -> None:
        if self._server_cuts and self._replies.active is not None:
            self._replies.active.cut_at = now
        self._events.append(UserSpeechStarted(number_of(event, "audio_start_ms"), text_of(event, "item_id")))

    def _on_speech_stopped(self, event: Json, now: float) -> None:
        self._events.append(UserSpeechEnded(number_of(event, "audio_end_ms")))

    def _on_user_delta(self, event: Json, now: float) -> None:
        if self._options.interim_transcripts and (text := text_of(event, "delta")):
            self._events.append(UserTranscript(text, final=False, item_id=text_of(event, "item_id")))

    def _on_user_transcript(self, event: Json, now: float) -> None:
        transcript = text_of(event, "transcript").strip()
        self._events.append(UserTranscript(transcript, final=True, item_id=text_of(event, "item_id")))
        if counts := wire.transcription_counts(event.get("usage") or {}):
            self._events.append(Usage("", counts, self._transcriber))

    # --- the rest -----------------------------------------------------------------------------------------------------

    def _on_other(self, event: Json, now: float) -> None:
        kind = event["type"]
        if not isinstance(kind, str):
            raise TypeError("an event's type is a string")
        if wire.EVENT_ALIASES.get(kind, kind) not in wire.IGNORED_EVENTS | self.shape.ignored_events:
            self.counters["unknown"] += 1
            self._log_once(kind, "unknown event passed over", type=kind[:80])

    def _log_once(self, key: str, text: str, **values: str) -> None:
        if key not in self._logged and len(self._logged) < 100:
            self._logged.add(key)
            log.warning(text, **values)


def _within(possible: Capabilities, options: AgentOptions, past: str) -> AgentOptions:
    """What is asked for, as far as it exists: who else's turn detection was wanted gets the server's."""
    if past:
        options = replace(options, instructions=options.instructions + past)
    if options.turn_detection.type not in possible.turn_detection:
        options = replace(options, turn_detection=replace(options.turn_detection, type="server_vad"))
    return options
