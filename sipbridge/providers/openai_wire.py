"""The words of the OpenAI Realtime family: names of events, messages to send, the session object, error codes.

Many vendors speak dialects of this protocol. What differs between them is gathered in a `Shape`; the state machine in
`openai.py` never spells a name that a relative of the protocol spells otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sipbridge.agent import AgentOptions, Capabilities, ToolDeclaration, TurnDetection
from sipbridge.audio import PCM_24K, PCMA, PCMU, AudioFormat
from sipbridge.providers.wire import Json, encode_audio, merged, parameters_of

GA_CAPABILITIES = Capabilities(
    input_format=PCM_24K,
    output_format=PCM_24K,
    native_formats=frozenset({PCMU, PCMA}),
    can_leave_interrupting=True,
    can_truncate=True,
    takes_images=True,
    transcribes_interim=True,
    takes_language=True,
)

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
        "conversation.created",
        "conversation.item.deleted",
        "conversation.item.input_audio_transcription.failed",
        "conversation.item.input_audio_transcription.segment",
        "conversation.item.retrieved",
        "conversation.item.truncated",
        "input_audio_buffer.cleared",
        "input_audio_buffer.committed",
        "input_audio_buffer.timeout_triggered",
        "ping",
        "rate_limits.updated",
        "response.content_part.added",
        "response.content_part.done",
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
EXPIRED = "session_expired"
ACTIVE_RESPONSE = "conversation_already_has_active_response"
NOTHING_TO_CANCEL = "response_cancel_not_active"
RATE_LIMITED = "rate_limit_exceeded"

_APPEND_HEAD = b'{"type":"input_audio_buffer.append","audio":"'
_APPEND_TAIL = b'"}'


# --- reading ----------------------------------------------------------------------------------------------------------


def usage_counts(usage: Json, prefix: str = "") -> dict[str, int]:
    """`{"input_tokens": 9, "input_token_details": {"audio_tokens": 7}}` -> input_tokens 9, input_audio_tokens 7."""
    counts: dict[str, int] = {}
    for key, value in usage.items():
        if isinstance(value, int) and not isinstance(value, bool):
            counts[prefix + key] = value
        elif isinstance(value, dict) and key.endswith("_token_details"):
            counts |= usage_counts(value, prefix + key.removesuffix("token_details"))
    return counts


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
    return {
        "instructions": "Say the following text aloud, word for word, in the language it is written in. "
        f"Add nothing, leave nothing out, and do not answer it:\n\n{text}",
        "tool_choice": "none",
    }


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


def item_create(event_id: str, item: Json) -> Json:
    return {"type": "conversation.item.create", "event_id": event_id, "item": item}


def user_text(text: str) -> Json:
    return {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}


def user_image(data: bytes, media_type: str) -> Json:
    url = f"data:{media_type};base64,{encode_audio(data).decode('ascii')}"
    return {"type": "message", "role": "user", "content": [{"type": "input_image", "image_url": url}]}


def tool_output(call_id: str, output: str) -> Json:
    return {"type": "function_call_output", "call_id": call_id, "output": output}


# --- the session object, GA shape -------------------------------------------------------------------------------------


def ga_format(audio: AudioFormat) -> Json:
    """24000 is the only PCM rate, and G.711 is named without one."""
    if audio.encoding == "pcm16":
        return {"type": "audio/pcm", "rate": audio.rate}
    return {"type": f"audio/{audio.encoding}"}


def ga_turn_detection(detection: TurnDetection) -> Json | None:
    """None (JSON null): nobody but us ends a turn."""
    if detection.type == "server_vad":
        settings = {
            "type": "server_vad",
            "threshold": detection.threshold,
            "prefix_padding_ms": detection.prefix_ms,
            "silence_duration_ms": detection.silence_ms,
        }
    elif detection.type == "semantic_vad":
        settings = {"type": "semantic_vad", "eagerness": detection.eagerness}
    else:
        return None
    told = {key: value for key, value in settings.items() if value is not None}
    return told | {"create_response": True, "interrupt_response": detection.interrupt_response}


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


def ga_session(options: AgentOptions) -> Json:
    """What `session.update` carries at the start. There is no temperature in GA: sending one drops the whole update."""
    transcription: Json | None = None
    if options.transcription:
        transcription = {"model": "gpt-transcribe"}
        if options.language:
            transcription["language"] = options.language.partition("-")[0].lower()  # ISO 639-1
    output: Json = {"format": ga_format(options.output_format)}
    if options.voice:
        output["voice"] = options.voice
    session: Json = {
        "type": "realtime",
        "instructions": options.instructions,
        "output_modalities": ["audio"] if "audio" in options.modalities else ["text"],
        "audio": {
            "input": {
                "format": ga_format(options.input_format),
                "transcription": transcription,
                "turn_detection": ga_turn_detection(options.turn_detection),
            },
            "output": output,
        },
        "tools": flat_tools(options.tools),
    }
    if options.tools:
        session["tool_choice"] = "auto"
    return merged(session, options.extra)


def ga_instructions(text: str) -> Json:
    return {"type": "realtime", "instructions": text}


@dataclass(frozen=True, slots=True)
class Shape:
    """Where the members of the family differ."""

    default_url: str
    default_model: str
    session: Callable[[AgentOptions], Json] = ga_session
    instructions: Callable[[str], Json] = ga_instructions
    tools: Callable[[Sequence[ToolDeclaration]], list[Json]] = flat_tools
    key_header: str = "Authorization"
    key_prefix: str = "Bearer "
    key_required: bool = True
    cancel_names_response: bool = True
    can_truncate: bool = True


OPENAI_GA = Shape(default_url="wss://api.openai.com/v1/realtime", default_model="gpt-realtime-2.1")
