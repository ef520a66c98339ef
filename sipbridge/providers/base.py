"""What every dialect does alike, so that a new vendor's file holds only that vendor: queues, order, ends, bad input.

Derive from `BaseDialect`, implement `endpoints`, `on_message` (and `on_binary`), `push_audio` and what else the vendor
knows of the commands; tell what happens with `_opened`, `_reply_began`, `_audio`, `_text`, `_tool_called`,
`_interrupted`, `_reply_ended`, `_failed`. The order of events that `sipbridge.agent` promises is kept here: a reply is
begun where the vendor did not announce it and ended once; after `cancel` nothing of it is heard.

This base is for vendors with one reply at a time. The OpenAI family has its own (`openai.py`): there replies have items
that can be truncated, and requests that have to wait for their turn.
"""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, TypeAlias

import structlog

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
    SessionOpen,
    ToolCall,
    ToolCallCancelled,
    ToolDeclaration,
    Usage,
    UserSpeechEnded,
    UserSpeechStarted,
    UserTranscript,
)
from sipbridge.audio import AudioFormat, Played
from sipbridge.errors import ConfigError
from sipbridge.providers import Lifetime, Outgoing
from sipbridge.providers.phrases import CANCELLED_OUTPUT
from sipbridge.providers.wire import UNREADABLE, Json, Recent, WholeSamples, encode, json_object, parameters_of

log = structlog.get_logger(__name__)

Status: TypeAlias = Literal["completed", "cancelled", "incomplete", "failed"]

REFUSALS = frozenset({1002, 1003, 1007, 1008, 1009, 1010})
"""Close codes (RFC 6455 §7.4.1) that say that we did wrong: the same again would fare no better."""

MOST_CALLS = 100
"""Tool calls that may wait for their results; more are not handed out."""
MOST_DELTAS = 20_000
"""Of one text, that are kept to be told as a whole."""


class BaseDialect:
    """See `sipbridge.providers.Dialect` for the verbs."""

    capabilities: Capabilities = Capabilities()
    channel: ClassVar[str] = "realtime"
    """The channel that the session can't live without, and that `_send` means when it is given none."""
    call_ids_recur: ClassVar[bool] = False  # an id names another tool call once the first was answered

    def __init__(self, credential: Mapping[str, Any], options: AgentOptions) -> None:
        self.capabilities = self.capabilities_for(credential)
        check_formats(self.capabilities, options)
        self._credential = credential
        self._options = options
        self.counters: Counter[str] = Counter()
        self._events: deque[AgentEvent] = deque()
        self._outbox: list[Outgoing] = []
        self._state: Literal["connecting", "open", "closed"] = "connecting"
        self._expected = False
        self._reply_id = ""
        """The reply under way, "" between replies."""
        self._cut = False
        """The caller has cut the reply under way: what still comes of it is not heard."""
        self._speaking = False
        """The caller, as far as it was told."""
        self._texts: list[str] = []
        self._samples = WholeSamples(options.output_format.bytes_per_sample)
        self._replies = 0
        self._greeted = False
        self._charged_from: float | None = None
        self._owed: dict[str, str] = {}
        """Tool calls handed out and not answered: call id -> its reply."""
        self._calls_known = Recent()
        self._logged: set[str] = set()

    @classmethod
    def capabilities_for(cls, credential: Mapping[str, Any]) -> Capabilities:
        """Overridden where it depends on the model."""
        return cls.capabilities

    @classmethod
    def tools_for_session(cls, tools: Sequence[ToolDeclaration]) -> list[Json]:
        """Overridden where the vendor's shape is another one."""
        return [
            {"name": tool.name, "description": tool.description, "parameters": parameters_of(tool)} for tool in tools
        ]

    # --- verbs of the driver ------------------------------------------------------------------------------------------

    async def prepare(self) -> None:
        """Nothing has to be fetched first."""

    def start(self, now: float) -> None:
        """Nothing happens before the channels are open."""

    def channel_opened(self, channel: str, now: float) -> None:
        """Overridden where the client speaks first."""

    def channel_closed(self, channel: str, code: int, reason: str, now: float) -> None:
        """Overridden where the session goes on without some channel, or where codes mean something else."""
        why = f"{code} {reason}".strip()
        self._failed(f"the model's connection closed: {why}", "closed", now, reason=why, again=code not in REFUSALS)

    def receive(self, channel: str, message: str | bytes, now: float) -> None:
        """Whatever can't be read is counted, logged once and passed over."""
        if self._state == "closed":
            return
        try:
            if isinstance(message, bytes) and self._is_binary(channel, message):
                self.on_binary(channel, message, now)
            else:
                self.on_message(channel, json_object(message), now)
        except UNREADABLE as error:
            self.counters["malformed"] += 1
            self._log_once("malformed", "malformed message passed over", error=type(error).__name__)
        if self._state == "connecting":
            self._forget_what_came_early()

    def _forget_what_came_early(self) -> None:
        """Before the session is open nothing is told but its end: `SessionOpen` is the first event."""
        if self._events:
            self.counters["too_early"] += len(self._events)
            self._log_once(
                "too_early", "passed over: the session was not open yet", type=type(self._events[0]).__name__
            )
            self._events.clear()
            self._reply_id, self._cut, self._speaking, self._texts = "", False, False, []
            self._owed.clear()

    def _is_binary(self, channel: str, message: bytes) -> bool:
        """Whether bytes are no JSON; overridden where a vendor sends sound in binary frames."""
        return False

    def on_message(self, channel: str, message: Json, now: float) -> None:
        """A JSON object came in. May raise what reading it wrongly raises: it is counted as malformed."""
        raise NotImplementedError

    def on_binary(self, channel: str, data: bytes, now: float) -> None:
        raise NotImplementedError

    @property
    def lifetime(self) -> Lifetime | None:
        return None

    @property
    def resume_handle(self) -> str:
        return ""

    def messages_to_send(self) -> list[Outgoing]:
        """Nothing but our goodbye once the session is over: to send more would be to open the channel again."""
        messages, self._outbox = self._outbox, []
        return messages if self._state != "closed" or self._expected else []

    def get_timer(self) -> float | None:
        return None

    def handle_timer(self, now: float) -> None:
        """Overridden with `get_timer`."""

    def next_event(self) -> AgentEvent | None:
        return self._events.popleft() if self._events else None

    # --- commands -----------------------------------------------------------------------------------------------------

    def push_audio(self, pcm: bytes, now: float) -> None:
        raise NotImplementedError

    def commit_input_audio(self, now: float) -> None:
        """Overridden where the vendor leaves turns to us."""

    def cancel(self, played: Sequence[Played], now: float) -> None:
        """Nothing more of the reply under way is heard. Overridden (and called) where the vendor wants to be told."""
        for _ in range(len(self._events)):
            event = self._events.popleft()
            if isinstance(event, AssistantAudio):
                self.counters["late_audio_bytes"] += len(event.pcm)
            else:
                self._events.append(event)
        self._cancel_calls({self._reply_id, *(heard.reply_id for heard in played)}, now)
        self._cut = bool(self._reply_id)

    def heard(self, reply_id: str, text: str, now: float) -> None:
        """Overridden where the vendor can be told what was heard of its words."""

    def update_instructions(self, text: str, now: float) -> None:
        self._unsupported("update_instructions")

    def send_text(self, text: str, now: float) -> None:
        self._unsupported("send_text")

    def send_image(self, data: bytes, media_type: str, now: float) -> None:
        self._unsupported("send_image")

    def say(self, text: str, now: float) -> None:
        self._unsupported("say")

    def create_response(self, now: float) -> None:
        """Overridden where the vendor has to be asked."""

    def send_tool_result(self, call_id: str, output: str, now: float) -> None:
        """A result nobody asked for, or a second one, is dropped and counted."""
        if self._owed.pop(call_id, None) is None:
            self.counters["tool_result_unexpected"] += 1
        else:
            self.answer_tool(call_id, output, now)

    def answer_tool(self, call_id: str, output: str, now: float) -> None:
        """Tell the vendor the result of a call that waits for it; also of one that we cancelled, where it would wait
        for ever."""

    def close(self, now: float) -> None:
        """Overridden (and called last) where the vendor knows a goodbye."""
        self._end("closed", now, status="cancelled", expected=True)

    # --- the first words ----------------------------------------------------------------------------------------------

    @property
    def _first_words(self) -> str:
        """What a vendor that is told with its setup is to say first: nothing where a conversation goes on."""
        options = self._options
        return "" if options.goes_on or options.history or options.resume_handle else options.greeting

    def _is_greeting(self, text: str) -> bool:
        """Whether this `say` is what went with the setup as `_first_words`: true once."""
        known, self._greeted = text == self._first_words and not self._greeted, True
        return known

    # --- telling what happens -----------------------------------------------------------------------------------------

    def _caller_began(self, at_ms: int | None = None) -> None:
        self._speaking = True
        self._events.append(UserSpeechStarted(at_ms))

    def _caller_stopped(self, at_ms: int | None = None) -> None:
        """Nothing where that is known, or where they never began."""
        if self._speaking:
            self._speaking = False
            self._events.append(UserSpeechEnded(at_ms))

    def _caller_said(self, text: str, *, final: bool = True, item_id: str = "") -> None:
        """Passed on where the options want it."""
        wanted = self._options.transcription and (final or self._options.interim_transcripts)
        if text and wanted:
            self._events.append(UserTranscript(text, final, item_id))

    def _opened(self, session_id: str = "", *, charged_from: float | None = None) -> None:
        """`charged_from`: now, where the vendor charges for a session's time."""
        if self._state == "connecting":
            self._forget_what_came_early()
            self._state = "open"
            self._charged_from = charged_from
            self._events.append(SessionOpen(session_id))

    def _reply_began(self, reply_id: str = "") -> str:
        """A new reply; one that is open still is ended. Without an id of the vendor's it gets one of ours."""
        if self._reply_id:
            self._reply_ended()
        self._replies += 1
        self._reply_id = reply_id or f"reply-{self._replies}"
        self._cut = False
        self._events.append(AssistantTurnStarted(self._reply_id))
        return self._reply_id

    def _in_reply(self) -> str:
        """The reply under way; where the vendor never announced one, it begins here."""
        return self._reply_id or self._reply_began()

    def _audio(self, pcm: bytes, item_id: str = "") -> None:
        """Speech in the output format; half a sample at its end waits for the other half."""
        if not (pcm := self._samples.feed(pcm)):
            return
        reply_id = self._in_reply()
        if self._cut:
            self.counters["late_audio_bytes"] += len(pcm)
        else:
            self._events.append(AssistantAudio(reply_id, item_id or f"{reply_id}-item", pcm))

    def _text(self, delta: str) -> None:
        if delta:
            reply_id = self._in_reply()
            if len(self._texts) < MOST_DELTAS:
                self._texts.append(delta)
            self._events.append(AssistantText(reply_id, delta, final=False))

    def _text_done(self, text: str = "") -> None:
        """The whole text: the vendor's, else what the deltas make together."""
        text, self._texts = text or "".join(self._texts), []
        if text:
            self._events.append(AssistantText(self._in_reply(), text, final=True))

    def _tool_called(self, call_id: str, name: str, arguments: str | Mapping[str, Any]) -> None:
        """A whole call; one that is known is passed over, also when it was answered: nothing is done twice."""
        if self._knows_call(call_id):
            return
        if len(self._owed) >= MOST_CALLS:
            self.counters["too_many_calls"] += 1
            return
        reply_id = self._in_reply()
        self._owed[call_id] = reply_id
        self._calls_known.add(call_id)
        text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
        self._events.append(ToolCall(call_id, name, text, reply_id))

    def _tool_called_between(self, call_id: object, name: object, arguments: str | Mapping[str, Any]) -> bool:
        """A call that may come while the model is quiet. True: it did, and is a reply of its own, which is over at
        once; what is said of it comes in another one."""
        if not (isinstance(call_id, str) and isinstance(name, str)):
            raise TypeError("a call's id and name are strings")
        quiet = not self._reply_id
        self._tool_called(call_id, name, arguments)
        alone = quiet and bool(self._reply_id)
        if alone:
            self._reply_ended()
        return alone

    def _knows_call(self, call_id: str) -> bool:
        return call_id in (self._owed if self.call_ids_recur else self._calls_known)

    def _tool_cancelled(self, call_id: str) -> None:
        """The vendor takes a call back: it waits for no answer."""
        if self._owed.pop(call_id, None) is not None:
            self._events.append(ToolCallCancelled(call_id))

    def _cancel_calls(self, reply_ids: set[str], now: float) -> None:
        """What a reply asked for goes with it when the caller cuts it."""
        for call_id in [call_id for call_id, reply_id in self._owed.items() if reply_id in reply_ids]:
            self._tool_cancelled(call_id)
            self.answer_tool(call_id, CANCELLED_OUTPUT, now)

    def _interrupted(self) -> None:
        """The vendor has cut the reply under way by itself."""
        if self._reply_id and not self._cut:
            self._events.append(AssistantInterrupted(self._reply_id))
        self._cut = bool(self._reply_id)

    def _reply_ended(self, status: Status | None = None) -> None:
        """Nothing where none is open. Without a status: cancelled where the caller cut it, else completed."""
        if self._reply_id:
            self._text_done()
            reply_id, self._reply_id = self._reply_id, ""
            self._samples.forget()
            self._events.append(AssistantTurnEnd(reply_id, status or ("cancelled" if self._cut else "completed")))
        self._cut = False

    def _failed(self, message: str, code: str, now: float, *, reason: str = "", again: bool = False) -> None:
        """The session is of no more use."""
        if self._state != "closed":
            self._events.append(AgentError(message, code, fatal=True))
            self._end(reason or code, now, status="failed", again=again)

    def _end(self, reason: str, now: float, *, status: Status, expected: bool = False, again: bool = False) -> None:
        if self._state == "closed":
            return
        self._reply_ended(status)
        if self._charged_from is not None:
            self._events.append(Usage("", {"session_seconds": round(now - self._charged_from, 3)}))
        self._events.append(SessionClosed(reason, expected, again))
        self._state, self._expected = "closed", expected

    # --- sending and logging ------------------------------------------------------------------------------------------

    def _send(self, message: Json, channel: str = "") -> None:
        if self._state != "closed":
            self._outbox.append(Outgoing(channel or self.channel, encode(message)))

    def _unsupported(self, command: str) -> None:
        """The vendor has no such thing; `Capabilities` say so."""
        self.counters[f"unsupported_{command}"] += 1
        self._log_once(command, "the provider does not know this command", command=command)

    def _unknown(self, kind: object) -> None:
        """An event that we do not know: counted, logged once for each kind."""
        self.counters["unknown"] += 1
        self._log_once(str(kind), "unknown event passed over", type=str(kind)[:80])

    def _log_once(self, key: str, text: str, **values: str) -> None:
        if key not in self._logged and len(self._logged) < 100:
            self._logged.add(key)
            log.warning(text, **values)


def earliest(*times: float | None) -> float | None:
    """For `get_timer`, of several."""
    return min((time for time in times if time is not None), default=None)


def check_formats(capabilities: Capabilities, options: AgentOptions) -> None:
    """Raises `ConfigError` where audio is to be pushed or asked for in a format that the model does not know."""
    takes = _pcm(capabilities.input_format, capabilities.input_rates) | capabilities.native_formats
    gives = _pcm(capabilities.output_format, capabilities.output_rates) | capabilities.native_formats
    if options.input_format not in takes or options.output_format not in gives:
        raise ConfigError(
            f"this provider takes {_names(takes)} and gives {_names(gives)}, not "
            f"{_names({options.input_format})} and {_names({options.output_format})}"
        )


def check_output_format(
    usual: AudioFormat, rates: tuple[int, ...], native: frozenset[AudioFormat], wanted: AudioFormat
) -> None:
    """The same for a separate voice, which takes no audio."""
    gives = _pcm(usual, rates) | native
    if wanted not in gives:
        raise ConfigError(f"this voice gives {_names(gives)}, not {_names({wanted})}")


def _pcm(usual: AudioFormat, rates: tuple[int, ...]) -> frozenset[AudioFormat]:
    return frozenset({usual, *(AudioFormat("pcm16", rate) for rate in rates)})


def _names(formats: frozenset[AudioFormat] | set[AudioFormat]) -> str:
    return " or ".join(sorted(f"{audio.encoding} at {audio.rate} Hz" for audio in formats))
