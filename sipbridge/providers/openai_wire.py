"""The words of the OpenAI Realtime family: names of events, messages to send, the session object, error codes.

Many vendors speak dialects of this protocol. What differs between them is gathered in a `Shape`; the state machine in
`openai.py` never spells a name that a relative of the protocol spells otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sipbridge.agent import AgentOptions, Capabilities, HistoryItem, Said, ToolDeclaration, ToolUsed, TurnDetection
from sipbridge.audio import PCM_24K, PCMA, PCMU, AudioFormat
from sipbridge.providers.phrases import SAY_THIS
from sipbridge.providers.wire import Json, encode_audio, parameters_of

GA_CAPABILITIES = Capabilities(
    input_format=PCM_24K,
    output_format=PCM_24K,
    native_formats=frozenset({PCMU, PCMA}),
    can_leave_interrupting=True,
    can_leave_answering=True,
    can_truncate=True,
    can_write=True,
    takes_images=True,
    turn_detection=frozenset({"server_vad", "semantic_vad", "none"}),
    voices=("marin", "cedar", "alloy", "ash", "ballad", "coral", "echo", "sage", "shimmer", "verse"),
    transcribes_interim=True,
    takes_language=True,
    takes_late_results=True,
)
"""Voices as in the vendor's SDK 3.54; marin and cedar are those it recommends."""

# Names of the beta shape -> names of GA. A tolerant reader accepts both.
EVENT_ALIASES = {
    "conversation.item.created": "conversation.item.added",
    "response.audio.delta": "response.output_audio.delta",
    "response.audio.done": "response.output_audio.done",
    "response.audio_transcript.delta": "response.output_audio_transcript.delta",
    "response.audio_transcript.done": "response.output_audio_transcript.done",
    "response.text.delta": "response.output_text.delta",
    "response.text.done": "response.output_text.done",
}

# Events that say nothing we need: not "unknown", so never logged.
IGNORED_EVENTS = frozenset(
    {
        "conversation.item.deleted",
        "conversation.item.input_audio_transcription.failed",
        "conversation.item.input_audio_transcription.segment",
        "conversation.item.retrieved",
        "conversation.item.truncated",
        "input_audio_buffer.cleared",
        "input_audio_buffer.committed",
        "input_audio_buffer.dtmf_event_received",
        "input_audio_buffer.timeout_triggered",
        "mcp_list_tools.completed",
        "mcp_list_tools.failed",
        "mcp_list_tools.in_progress",
        "output_audio_buffer.cleared",
        "output_audio_buffer.started",
        "output_audio_buffer.stopped",
        "ping",
        "rate_limits.updated",
        "response.content_part.added",
        "response.content_part.done",
        "response.mcp_call.completed",
        "response.mcp_call.failed",
        "response.mcp_call.in_progress",
        "response.mcp_call_arguments.delta",
        "response.mcp_call_arguments.done",
        "response.output_audio.done",
    }
)

# Errors after which the session is of no more use, by code or by type.
FATAL_CODES = frozenset(
    {
        "account_deactivated",
        "beta_api_shape_disabled",
        "billing_hard_limit_reached",
        "credit_balance_exhausted",
        "insufficient_quota",
        "invalid_api_key",
        "session_expired",
    }
)
ACTIVE_RESPONSE = "conversation_already_has_active_response"
NOTHING_TO_CANCEL = "response_cancel_not_active"

_DETAILS = {
    "input_token_details": "input_",
    "output_token_details": "output_",
    "input_tokens_details": "input_",
    "output_tokens_details": "output_",
}

_APPEND_HEAD = b'{"type":"input_audio_buffer.append","audio":"'
_APPEND_TAIL = b'"}'


# --- reading ----------------------------------------------------------------------------------------------------------


def usage_counts(usage: Json, prefix: str = "") -> dict[str, int]:
    """`{"input_tokens": 9, "input_token_details": {"audio_tokens": 7}}` -> input_tokens 9, input_audio_tokens 7."""
    counts: dict[str, int] = {}
    for key, value in usage.items():
        if isinstance(value, int) and not isinstance(value, bool):
            counts[prefix + key] = value
        elif isinstance(value, dict) and key in _DETAILS:
            counts |= usage_counts(value, prefix + _DETAILS[key])
    return counts


def transcription_counts(usage: Json) -> dict[str, float]:
    """What writing down the caller's words cost: by the second, or in tokens."""
    seconds = usage.get("seconds")
    if isinstance(seconds, (int, float)) and not isinstance(seconds, bool) and 0 < seconds < 1e6:
        return {"input_audio_seconds": float(seconds)}
    counts: dict[str, float] = dict(usage_counts(usage))
    return counts


# --- what the connection is opened with -------------------------------------------------------------------------------


def account_headers(credential: Mapping[str, Any]) -> dict[str, str]:
    """Whom OpenAI charges, where the key alone does not say it."""
    names = {"organization": "OpenAI-Organization", "project": "OpenAI-Project"}
    return {header: str(credential[key]) for key, header in names.items() if credential.get(key)}


# --- messages ---------------------------------------------------------------------------------------------------------


def append_audio(data: bytes) -> bytes:
    """The hot one, fifty times a second and call: no JSON encoder needed, base64 has nothing to escape."""
    return _APPEND_HEAD + encode_audio(data) + _APPEND_TAIL


def response_create(event_id: str, response: Json | None) -> Json:
    message: Json = {"type": "response.create", "event_id": event_id}
    if response:
        message["response"] = response
    return message


def say_response(text: str) -> Json:
    """A response of its own that speaks `text`. The wire knows no such thing as "say this": the model is asked to.

    These instructions replace the session's for this one response, and no tool may be called instead of speaking.
    """
    return {"instructions": SAY_THIS + text, "tool_choice": "none"}


def response_cancel(event_id: str, response_id: str) -> Json:
    message: Json = {"type": "response.cancel", "event_id": event_id}
    if response_id:
        message["response_id"] = response_id
    return message


def truncate(event_id: str, item_id: str, content_index: int, audio_end_ms: int) -> Json:
    return {
        "type": "conversation.item.truncate",
        "event_id": event_id,
        "item_id": item_id,
        "content_index": content_index,
        "audio_end_ms": audio_end_ms,
    }


def item_create(event_id: str, item: Json, *, after: str = "") -> Json:
    """Without `after`, at the end of the conversation."""
    message: Json = {"type": "conversation.item.create", "event_id": event_id, "item": item}
    if after:
        message["previous_item_id"] = after
    return message


def item_delete(event_id: str, item_id: str) -> Json:
    return {"type": "conversation.item.delete", "event_id": event_id, "item_id": item_id}


def user_text(text: str) -> Json:
    return {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}


def system_text(text: str) -> Json:
    return {"type": "message", "role": "system", "content": [{"type": "input_text", "text": text}]}


def user_image(data: bytes, media_type: str) -> Json:
    url = f"data:{media_type};base64,{encode_audio(data).decode('ascii')}"
    return {"type": "message", "role": "user", "content": [{"type": "input_image", "image_url": url}]}


def tool_output(call_id: str, output: str) -> Json:
    return {"type": "function_call_output", "call_id": call_id, "output": output}


def said(item: Said, text_type: str) -> Json:
    """A message of the conversation so far. `text_type`: what the shape calls an assistant's words."""
    kind = "input_text" if item.role == "user" else text_type
    return {"type": "message", "role": item.role, "content": [{"type": kind, "text": item.text}]}


def tool_call(call_id: str, name: str, arguments: str) -> Json:
    return {"type": "function_call", "call_id": call_id, "name": name, "arguments": arguments}


def history_items(history: Sequence[HistoryItem], text_type: str) -> list[Json]:
    """The conversation so far as items to create, oldest first. They are given no ids: the server makes its own."""
    items = []
    for item in history:
        if isinstance(item, Said):
            if item.text.strip():
                items.append(said(item, text_type))
        else:
            items.append(tool_call(item.call_id, item.name, item.arguments))
            if item.output is not None:
                items.append(tool_output(item.call_id, item.output))
    return items


def unanswered(history: Sequence[HistoryItem]) -> list[str]:
    """Calls in it whose result may still come."""
    return [item.call_id for item in history if isinstance(item, ToolUsed) and item.output is None]


# --- the session object, GA shape -------------------------------------------------------------------------------------


def ga_format(audio: AudioFormat) -> Json:
    """24000 is the only PCM rate that may be named (a server of one's own may have another), and G.711 has none."""
    if audio.encoding == "pcm16":
        return {"type": "audio/pcm", "rate": 24000} if audio.rate == 24000 else {"type": "audio/pcm"}
    return {"type": f"audio/{audio.encoding}"}


def turn_detection(detection: TurnDetection) -> Json | None:
    """None (JSON null): nobody but us ends a turn."""
    found = turn_finding(detection)
    return found and found | {
        "create_response": detection.create_response,
        "interrupt_response": detection.interrupt_response,
    }


def turn_finding(detection: TurnDetection) -> Json | None:
    """The same of a session that only listens: nothing follows from a turn."""
    if detection.type == "server_vad":
        settings: Json = {
            "type": "server_vad",
            "threshold": detection.threshold,
            "prefix_padding_ms": detection.prefix_ms,
            "silence_duration_ms": detection.silence_ms,
        }
    elif detection.type == "semantic_vad":
        settings = {"type": "semantic_vad", "eagerness": detection.eagerness}
    else:
        return None
    return {key: value for key, value in settings.items() if value is not None}


def flat_tools(tools: Sequence[ToolDeclaration]) -> list[Json]:
    return [
        {
            "type": "function",
            "name": tool.name,
            "description": tool.description,
            "parameters": parameters_of(tool),
        }
        for tool in tools
    ]


def transcription(options: AgentOptions, model: str) -> Json | None:
    """Of what the caller says. None: not wanted, which is the service's own default: it is not sent, since the SDK's
    parameter types know no null there."""
    if not options.transcription:
        return None
    wanted: Json = {"model": model}
    if options.language:
        wanted["language"] = options.language.partition("-")[0].lower()  # ISO 639-1
    return wanted


def ga_voice(voice: str) -> str | Json:
    """One of one's own is named by its id, `voice_...`."""
    return {"id": voice} if voice.startswith("voice_") else voice


def ga_session(options: AgentOptions) -> Json:
    """What `session.update` carries at the start. There is no temperature in GA: sending one drops the whole update."""
    speaks = "audio" in options.modalities
    heard: Json = {
        "format": ga_format(options.input_format),
        "turn_detection": turn_detection(options.turn_detection),
    }
    if wanted := transcription(options, "gpt-transcribe"):
        heard["transcription"] = wanted
    audio: Json = {"input": heard}
    if speaks:
        audio["output"] = {"format": ga_format(options.output_format)}
        if options.voice:
            audio["output"]["voice"] = ga_voice(options.voice)
    session: Json = {
        "type": "realtime",
        "instructions": options.instructions,
        "output_modalities": ["audio"] if speaks else ["text"],
        "audio": audio,
        "tools": flat_tools(options.tools),
    }
    if options.tools:
        session["tool_choice"] = "auto"
    return session


def ga_transcription(session: Json) -> Any:
    return session["audio"]["input"].get("transcription")


def ga_instructions(text: str) -> Json:
    return {"type": "realtime", "instructions": text}


@dataclass(frozen=True, slots=True)
class Shape:
    """Where the members of the family differ, as data; what needs the credential is a method of the dialect."""

    default_url: str
    """The vendor's own endpoint; "": there is none, the operator has to name one."""
    default_model: str
    session: Callable[[AgentOptions], Json] = ga_session
    """What the first `session.update` carries, without `AgentOptions.extra`."""
    instructions: Callable[[str], Json] = ga_instructions
    """What a later one carries that changes the instructions and nothing else."""
    tools: Callable[[Sequence[ToolDeclaration]], list[Json]] = flat_tools
    say: Callable[[str], Json] = say_response
    """`response.create.response` to have a text spoken."""
    text_type: str = "output_text"
    """The content type of an assistant's words."""
    takes_history: bool = True
    """`conversation.item.create` takes messages and calls of the past; else they go behind the instructions."""
    model_parameter: str = "model"
    """What the URL's query calls the model."""
    key_header: str = "Authorization"
    key_prefix: str = "Bearer "
    cancel_names_response: bool = True
    can_truncate: bool = True
    can_delete: bool = True
    """Items of the conversation can be deleted, and others made in their place."""
    transcription: Callable[[Json], Any] = ga_transcription
    """The part of a session object that says who writes down what the caller says."""
    session_seconds: float | None = 3600.0
    """How long the server lets a session live; None: not known."""
    ignored_events: frozenset[str] = frozenset()
    """Of this vendor, beside `IGNORED_EVENTS`."""
    fatal_codes: frozenset[str] = FATAL_CODES
    """Errors, by code or by type, after which the session is of no more use and another one would fare no better."""
    rate_codes: tuple[str, ...] = ("rate_limit_exceeded",)
    """How the codes begin that say: too much at once, ask again."""
    passing_codes: tuple[str, ...] = ("session_expired", "server_error")
    """And those of what ends a session, or keeps one from beginning, where the next one may fare better."""

    def passes(self, code: str, kind: str = "") -> bool:
        """Whether a new session has a chance after this error."""
        words = self.rate_codes + self.passing_codes
        if code in self.fatal_codes and not code.startswith(words):
            return False  # whatever kind of error the server takes it for
        return code.startswith(words) or kind.startswith(words)


OPENAI_GA = Shape(default_url="wss://api.openai.com/v1/realtime", default_model="gpt-realtime-2.1")
