"""Reads the OpenAI family's events about replies: turns them into `AgentEvent`s in the order that `agent.py` promises.

Per reply: its start, then audio, text, tool calls and usage, then its end, once. What the model's side repeats, sends
late or leaves out is settled here; what has to be sent in consequence is noted in `Replies`.
"""

from __future__ import annotations

from collections import Counter, deque
from typing import Any, Literal

from sipbridge.agent import (
    AgentError,
    AgentEvent,
    AssistantAudio,
    AssistantInterrupted,
    AssistantText,
    AssistantTurnEnd,
    AssistantTurnStarted,
    ToolCall,
    ToolCallCancelled,
    ToolCallDelta,
    Usage,
)
from sipbridge.audio import AudioFormat
from sipbridge.providers.openai_replies import CALLS_KEPT, TEXT_KEPT, Replies, Reply
from sipbridge.providers.openai_wire import Shape, usage_counts
from sipbridge.providers.wire import Json, WholeSamples, decode_audio, is_object, number_of, text_of

CUT_GRACE = 1.0
"""Seconds of late audio after which we no longer believe that the server cuts the reply by itself, and cancel it."""

Status = Literal["completed", "cancelled", "incomplete", "failed"]
_STATUSES: dict[Any, Status] = {"cancelled": "cancelled", "incomplete": "incomplete", "failed": "failed"}


class ReplyReader:
    def __init__(
        self,
        replies: Replies,
        events: deque[AgentEvent],
        counters: Counter[str],
        output_format: AudioFormat,
        shape: Shape,
    ) -> None:
        self._replies = replies
        self._events = events
        self._counters = counters
        self._samples = WholeSamples(output_format.bytes_per_sample)
        self._nameless = 0
        self._shape = shape
        self.broken = ""
        """The code with which a reply failed that says that no other will go better."""

    # --- begin and end ------------------------------------------------------------------------------------------------

    def on_response_created(self, event: Json, now: float) -> None:
        reply_id = text_of(event["response"], "id")
        if not reply_id or self._replies.find(reply_id) is None:
            self._begin(reply_id, now)

    def _begin(self, reply_id: str, now: float) -> Reply:
        for stale in self._replies.open_replies():
            self.end(stale, "cancelled", now)
        if not reply_id:
            self._nameless += 1
            reply_id = f"reply-{self._nameless}"
        self._events.append(AssistantTurnStarted(reply_id))
        return self._replies.created(reply_id)

    def _reply_of(self, event: Json, now: float) -> Reply:
        """The reply an event belongs to; where the server never announced it, it begins here."""
        reply_id = text_of(event, "response_id")
        return self._replies.find(reply_id) or self._begin(reply_id, now)

    def on_response_done(self, event: Json, now: float) -> None:
        response = event["response"]
        reply = self._replies.find(text_of(response, "id"))
        if reply is None or reply.done:
            return
        status = _STATUSES.get(response.get("status"), "completed")
        for item in response.get("output") or ():
            self._on_call_item(item, reply, whole=status == "completed")
        details = response.get("status_details") or {}
        # Not every relative says who cancelled: then it was the server if it heard the caller and we asked for nothing.
        unsaid = "reason" not in details and reply.cut_at is not None and not reply.cancel_sent
        if status == "cancelled" and (unsaid or details.get("reason") == "turn_detected"):
            self._events.append(AssistantInterrupted(reply.id))
        if status == "failed":
            self._on_failure(reply, details.get("error") or {}, now)
        if counts := usage_counts(response.get("usage") or {}):
            self._events.append(Usage(reply.id, counts))
        self.end(reply, status, now)

    def _on_failure(self, reply: Reply, error: Json, now: float) -> None:
        code = text_of(error, "code") or text_of(error, "type") or "failed"
        if code.startswith(self._shape.rate_codes) and self._replies.retry(reply, now):
            self._counters["rate_limited"] += 1
        fatal = code in self._shape.fatal_codes or text_of(error, "type") in self._shape.fatal_codes
        self._events.append(AgentError(text_of(error, "message") or code, code, fatal))
        if fatal:
            self.broken = code

    def end(self, reply: Reply, status: Status, now: float) -> None:
        """Everything of the reply comes before its end: words whose last form never came, calls that were cut short."""
        for item_id, pieces in reply.texts.items():
            reply.written[item_id] = "".join(pieces)
            self._events.append(AssistantText(reply.id, reply.written[item_id], final=True))
        reply.texts.clear()
        for call_id, arguments in reply.nameless.items():
            self._call(reply, call_id, "", arguments)
        for call_id in sorted(reply.announced):
            self._events.append(ToolCallCancelled(call_id))
        self._replies.done(reply, now, went_well=status in ("completed", "incomplete"))
        self._events.append(AssistantTurnEnd(reply.id, status))

    # --- speech and text ----------------------------------------------------------------------------------------------

    def on_audio(self, event: Json, now: float) -> None:
        named = text_of(event, "item_id")
        pcm = self._samples.feed(decode_audio(event["delta"]), named)
        if not pcm:
            return
        reply = self._reply_of(event, now)
        item_id = named or f"{reply.id}-item"
        if self._replies.audio(reply, item_id, number_of(event, "content_index") or 0, len(pcm), named != ""):
            self._events.append(AssistantAudio(reply.id, item_id, pcm))
            return
        self._counters["late_audio"] += 1
        self._counters["late_audio_bytes"] += len(pcm)
        if reply.cut_at is not None and now - reply.cut_at > CUT_GRACE and not reply.done:
            self._replies.cancel(reply)

    def on_text_delta(self, event: Json, now: float) -> None:
        reply = self._reply_of(event, now)
        if (text := text_of(event, "delta")) and not reply.done:
            reply.text_kept += len(text)
            if reply.text_kept <= TEXT_KEPT:
                reply.texts.setdefault(text_of(event, "item_id"), []).append(text)
            self._events.append(AssistantText(reply.id, text, final=False))

    def on_text_done(self, event: Json, now: float) -> None:
        reply = self._reply_of(event, now)
        pieces = reply.texts.pop(text_of(event, "item_id"), [])
        text = text_of(event, "transcript") or text_of(event, "text") or "".join(pieces)
        if text and not reply.done:
            self._events.append(AssistantText(reply.id, text, final=True))
            written = event["type"] == "response.output_text.done" or event["type"] == "response.text.done"
            if written and reply.text_kept <= TEXT_KEPT:
                reply.written[text_of(event, "item_id")] = text

    # --- tool calls ---------------------------------------------------------------------------------------------------

    def on_item_added(self, event: Json, now: float) -> None:
        """For the tool's name: the beta shape does not repeat it."""
        item = event["item"]
        if item.get("type") == "function_call":
            reply = self._reply_of(event, now)
            if len(reply.names) < CALLS_KEPT:
                reply.names[text_of(item, "call_id")] = text_of(item, "name")

    def on_conversation_item(self, event: Json, now: float) -> None:
        if event["item"].get("type") == "function_call_output":
            self._replies.confirmed(text_of(event["item"], "call_id"))

    def on_arguments_delta(self, event: Json, now: float) -> None:
        reply, call_id = self._reply_of(event, now), text_of(event, "call_id")
        if not reply.done and not reply.cancelled and len(reply.announced) < CALLS_KEPT:
            reply.announced.add(call_id)
            self._events.append(ToolCallDelta(call_id, text_of(event, "delta")))

    def on_arguments_done(self, event: Json, now: float) -> None:
        """Comes for a call that was cut short as well: here only arguments that are whole make a call."""
        arguments, reply, call_id = text_of(event, "arguments"), self._reply_of(event, now), text_of(event, "call_id")
        name = text_of(event, "name") or reply.names.get(call_id, "")
        if name and is_object(arguments):
            self._call(reply, call_id, name, arguments)
        elif is_object(arguments) and len(reply.nameless) < CALLS_KEPT:
            reply.nameless[call_id] = arguments

    def on_item_done(self, event: Json, now: float) -> None:
        self._on_call_item(event["item"], self._reply_of(event, now), whole=True)

    def _on_call_item(self, item: Json, reply: Reply, *, whole: bool) -> None:
        """`whole`: what to believe of an item that states no status of its own."""
        if item.get("type") != "function_call":
            return
        arguments, status = text_of(item, "arguments"), item.get("status")
        if status == "completed" or is_object(arguments) or (status is None and whole):
            self._call(reply, text_of(item, "call_id"), text_of(item, "name"), arguments)

    def _call(self, reply: Reply, call_id: str, name: str, arguments: str) -> None:
        """One that names no tool is handed out, too: it has to be answered, or the model waits."""
        name = name or reply.names.get(call_id, "")
        if call_id and not reply.done and self._replies.called(reply, call_id):
            reply.announced.discard(call_id)
            self._events.append(ToolCall(call_id, name, arguments, reply.id))
