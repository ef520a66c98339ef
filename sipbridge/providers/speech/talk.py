"""A transcriber and a language model as one model that hears and writes: a dialect for a voice to be put behind.

The caller's turn, written down, is a question to the language model; its answer is a reply, its tools are called, and
what was really heard of it is what it is told the next time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sipbridge.agent import (
    AgentOptions,
    Capabilities,
    ToolUsed,
    Usage,
)
from sipbridge.audio import Played
from sipbridge.providers import Endpoint, Lifetime, Outgoing
from sipbridge.providers.base import BaseDialect, Status
from sipbridge.providers.speech.chat import Called, ChatModel, Finished, NotAnswered, Wrote
from sipbridge.providers.speech.history import ChatHistory
from sipbridge.providers.speech.part import PartFailed
from sipbridge.providers.speech.transcriber import (
    Ready,
    SpeechBegan,
    SpeechOver,
    Transcriber,
    TranscriberEvent,
    Words,
    transcriber_class,
)

STT, LLM = "stt", "llm"
RETRIES = 2
RETRY_AFTER = 0.5
_ROTATE = 0.9
"""Of a transcriber's longest session, when another one is looked for."""


def talk_capabilities(ear: type[Transcriber]) -> Capabilities:
    return Capabilities(
        has_session=ear.has_session,
        input_format=ear.input_format,
        input_rates=ear.input_rates,
        native_formats=ear.native_formats,
        interrupts_by_itself=False,
        can_leave_interrupting=True,
        can_leave_answering=True,
        can_truncate=True,
        can_write=True,
        takes_temperature=(0.0, 2.0),
        takes_language=True,
        transcribes_interim=ear.tells_interim,
        says_verbatim=True,
        takes_late_results=True,
        turn_detection=ear.turn_detection,
        turn_settings=ear.turn_settings,
    )


class TalkDialect(BaseDialect):
    """See `sipbridge.providers.Dialect` for the verbs. Two channels, one for each part."""

    call_ids_recur = True  # some servers count them anew in every answer

    def __init__(self, credential: Mapping[str, Any], options: AgentOptions) -> None:
        super().__init__(credential, options)
        self._ear = transcriber_class(credential[STT])(credential[STT], options)
        self._model = ChatModel(credential[LLM], options)
        self._ear.counters = self._model.counters = self.counters
        self._history = ChatHistory(options.history)
        for item in options.history:
            if isinstance(item, ToolUsed) and item.output is None:
                self._owed[item.call_id] = "earlier"
        self._instructions = options.instructions
        self._said: list[str] = []
        """What the model has written in the reply under way."""
        self._calls: list[Called] = []
        self._to_say: list[str] = []
        self._wanted = False
        """A reply is asked for as soon as the one under way is over."""
        self._committed = False
        """The caller's turn is over by our word; what he said is not written down yet."""
        self._unwritten = False
        """He speaks, or has, and the words of it are still to come."""
        self._wanted_then = False
        """An answer is asked for when they have come, if there are any."""
        self._attempts = 0
        self._retry_at: float | None = None
        self._lifetime: Lifetime | None = None
        self._heard_bytes = 0

    @classmethod
    def capabilities_for(cls, credential: Mapping[str, Any]) -> Capabilities:
        return talk_capabilities(transcriber_class(credential[STT]))

    # --- verbs of the driver ------------------------------------------------------------------------------------------

    def endpoints(self) -> Mapping[str, Endpoint]:
        return {STT: self._ear.endpoint(), LLM: self._model.endpoint()}

    @property
    def lifetime(self) -> Lifetime | None:
        return self._lifetime

    def channel_opened(self, channel: str, now: float) -> None:
        (self._ear if channel == STT else self._model).opened(now)
        if channel == STT and (seconds := self._ear.session_seconds) is not None:
            self._lifetime = Lifetime(now + _ROTATE * seconds, now + seconds)
        self._pump(now)

    def receive(self, channel: str, message: str | bytes, now: float) -> None:
        if self._state != "closed":
            (self._ear if channel == STT else self._model).receive(message, now)
            self._pump(now)

    def channel_closed(self, channel: str, code: int, reason: str, now: float) -> None:
        if self._state != "closed":
            (self._ear if channel == STT else self._model).closed(code, reason, now)
            self._pump(now)

    def messages_to_send(self) -> list[Outgoing]:
        messages = [message._replace(channel=STT) for message in self._ear.messages_to_send()]
        messages += [message._replace(channel=LLM) for message in self._model.messages_to_send()]
        return messages if self._state != "closed" or self._expected else []

    def get_timer(self) -> float | None:
        return self._retry_at if self._state == "open" else None

    def handle_timer(self, now: float) -> None:
        if self._retry_at is not None and self._retry_at <= now:
            self._retry_at = None
            self._ask()

    def close(self, now: float) -> None:
        if self._state != "closed":
            self._count_hearing()
            self._ear.finish()
            self._model.cancel()
        super().close(now)

    # --- what the parts tell ------------------------------------------------------------------------------------------

    def _pump(self, now: float) -> None:
        while self._state != "closed" and (heard := self._ear.next_event()) is not None:
            self._on_heard(heard, now)
        while self._state != "closed" and (told := self._model.next_event()) is not None:
            match told:
                case Wrote(text):
                    self._said.append(text)
                    self._text(text)
                case Called():
                    self._calls.append(told)
                case Finished(whole, counts):
                    if counts:
                        self._events.append(Usage(self._reply_id, counts, self._model.model))
                    self._answered("completed" if whole else "incomplete", now)
                case NotAnswered():
                    self._not_answered(told, now)
                case PartFailed(message, code, again):
                    self._failed(message, code, now, again=again)
        if self._state == "connecting":
            self._forget_what_came_early()

    def _on_heard(self, event: TranscriberEvent | PartFailed, now: float) -> None:
        if self._state == "connecting" and not isinstance(event, Ready | PartFailed):
            self.counters["too_early"] += 1
            return
        match event:
            case Ready(session_id):
                self._opened(session_id)
            case SpeechBegan(at_ms):
                if self._ear.finds_turns:
                    self._unwritten = True
                    self._caller_began(at_ms)
            case SpeechOver(at_ms):
                if self._ear.finds_turns:
                    self._caller_stopped(at_ms)
            case Words(text, False, item_id):
                self._caller_said(text, final=False, item_id=item_id)
            case Words(text, _, item_id):
                self._on_turn(text, item_id, now)
            case PartFailed(message, code, again):
                self._failed(message, code, now, again=again)

    def _on_turn(self, text: str, item_id: str, now: float) -> None:
        """What was not understood is no turn, unless somebody else has found it."""
        self._unwritten = False
        self._count_hearing()
        self._caller_said(text, item_id=item_id)
        if text:
            self._history.said_by_caller(text)
        by_itself = self._ear.finds_turns and self._options.turn_detection.create_response
        if self._committed or (text and (by_itself or self._wanted_then)):
            self._committed = self._wanted_then = False
            self.create_response(now)

    def _count_hearing(self) -> None:
        if self._heard_bytes:
            seconds = self._heard_bytes / self._options.input_format.bytes_per_ms / 1000
            self._events.append(Usage("", {"input_audio_seconds": seconds}, self._ear.model))
            self._heard_bytes = 0

    # --- a reply ------------------------------------------------------------------------------------------------------

    def create_response(self, now: float) -> None:
        if self._state != "open":
            return
        if self._unwritten and not self._options.turn_detection.create_response:
            self._wanted_then = True  # the language model only sees what is written down
            return
        if self._reply_id:
            self._wanted = True
            return
        self._reply_began()
        self._attempts = 0
        self._ask()

    def _ask(self) -> None:
        self._model.ask(self._history.messages(self._instructions))

    def _not_answered(self, told: NotAnswered, now: float) -> None:
        """Asked again while nothing was said; then another session has to try."""
        if told.again and not self._said and self._attempts < RETRIES:
            self._attempts += 1
            self._retry_at = now + RETRY_AFTER * self._attempts
            self.counters["llm_retried"] += 1
            return
        self._failed(f"llm: {told.message}", told.code, now, again=told.again)

    def _answered(self, status: Status, now: float) -> None:
        """The model has finished, or was cut: what it said and called is remembered."""
        reply_id, text = self._reply_id, "".join(self._said)
        calls, self._calls, self._said = self._calls, [], []
        self._history.said_by_agent(reply_id, text)
        for call in calls:
            self._history.called(reply_id, call.call_id, call.name, call.arguments)
            self._tool_called(call.call_id, call.name, call.arguments)
        self._reply_ended(status)
        self._next(now)

    def _next(self, now: float) -> None:
        """What had to wait for the end of a reply."""
        while self._to_say and not self._reply_id:
            self.say(self._to_say.pop(0), now)
        if self._wanted and not self._reply_id:
            self._wanted = False
            self.create_response(now)

    # --- commands -----------------------------------------------------------------------------------------------------

    def push_audio(self, pcm: bytes, now: float) -> None:
        self._heard_bytes += len(pcm)
        self._ear.push(pcm, now)
        self._pump(now)

    def commit_input_audio(self, now: float) -> None:
        if not self._ear.finds_turns:
            self._committed = True
            self._ear.commit(now)
            self._pump(now)

    def cancel(self, played: Sequence[Played], now: float) -> None:
        super().cancel(played, now)
        self._wanted = False
        self._to_say.clear()
        if self._reply_id:
            self._model.cancel()
            self._retry_at = None
            self._calls.clear()  # not whole
            self._answered("cancelled", now)

    def heard(self, reply_id: str, text: str, now: float) -> None:
        """Of all that this reply wrote, only these words were heard. To be given after `cancel`."""
        self._history.heard(reply_id, text)

    def update_instructions(self, text: str, now: float) -> None:
        self._instructions = text

    def send_text(self, text: str, now: float) -> None:
        if text.strip():
            self._history.said_by_caller(text)

    def say(self, text: str, now: float) -> None:
        """The very words; the model is told that it has said them."""
        if self._state != "open" or not text.strip():
            return
        if self._reply_id:
            self._to_say.append(text)
            return
        reply_id = self._reply_began()
        self._text(text)
        self._history.said_by_agent(reply_id, text)
        self._reply_ended("completed")

    def send_tool_result(self, call_id: str, output: str, now: float) -> None:
        """When all calls of its reply are answered the model goes on."""
        reply_id = self._owed.get(call_id)
        super().send_tool_result(call_id, output, now)
        if reply_id is not None and reply_id not in self._owed.values():
            self.create_response(now)

    def answer_tool(self, call_id: str, output: str, now: float) -> None:
        self._history.answered(call_id, output)
