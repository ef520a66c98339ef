"""The words of Gemini Live: who speaks which version of it, the setup message, the other messages, usage, closes.

Source: the vendor's SDK google-genai 3.4 (`LiveClientMessage`, and what its converters send for the Developer API and
for Vertex), and the vendor's documentation where the SDK leaves a choice. Every client frame has exactly one field;
unknown names close the socket.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any, Literal

from pydantic_core import from_json

from sipbridge.agent import AgentOptions, Capabilities, HistoryItem, Said, ToolDeclaration, TurnDetection
from sipbridge.providers.wire import Json, encode_audio, merged, number_of, parameters_of, text_of

DEFAULT_MODEL = "gemini-3.8-live"
VOICES = (
    "Puck",
    "Zephyr",
    "Charon",
    "Kore",
    "Fenrir",
    "Leda",
    "Orus",
    "Aoede",
    "Callirrhoe",
    "Autonoe",
    "Enceladus",
    "Iapetus",
    "Umbriel",
    "Algieba",
    "Despina",
    "Erinome",
    "Algenib",
    "Rasalgethi",
    "Laomedeia",
    "Achernar",
    "Alnilam",
    "Schedar",
    "Gacrux",
    "Pulcherrima",
    "Achird",
    "Zubenelgenubi",
    "Vindemiatrix",
    "Sadachbia",
    "Sadaltager",
    "Sulafat",
)
"""The default first."""
CAPABILITIES = Capabilities(
    speech_events=False,
    can_leave_interrupting=True,
    can_resume=True,
    takes_temperature=(0.0, 2.0),
    takes_images=True,
    takes_language=True,
    transcribes_interim=True,
    voices=VOICES,
    successor_overlaps=False,  # resuming while the old socket is still open is answered with 1011
)
_TOOL_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.:-]{0,127}")
_VERSION = re.compile(r"gemini-(?:live-)?(\d+)(?:\.(\d+))?")


# --- which model can do what ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Family:
    """Where the models and the two APIs differ."""

    content: Literal["always", "history"]
    """When `clientContent` may be sent: all session long, or for the history at the start only (3.1)."""
    instructions: Literal["contextUpdate", "clientContent", ""]
    """How instructions are changed in mid-call; "": they can't be."""
    non_blocking: bool
    """Calls do not hold up the talk unless they are declared as blocking."""
    only_non_blocking: bool
    names_language: bool
    """Takes `speechConfig.languageCode`: native-audio models find the language themselves and refuse it."""
    hints_language: bool
    """Takes `inputAudioTranscription.languageCodes`."""
    ends_audio_stream: bool
    """Takes `audioStreamEnd`: the SDK sends it to the Developer API only."""


def family_of(model: str, *, vertex: bool) -> Family:
    """A name without a version is taken for the newest."""
    found = _VERSION.search(model)
    version = (int(found[1]), int(found[2] or 0)) if found else (99, 0)
    new = version >= (3, 8)
    return Family(
        content="history" if (3, 0) <= version < (3, 8) else "always",
        instructions="contextUpdate" if new else "clientContent" if vertex and version < (3, 0) else "",
        non_blocking=new,
        only_non_blocking="extended-thinking" in model,
        names_language="native-audio" not in model,
        hints_language=new,
        ends_audio_stream=not vertex,
    )


def bad_tool_name(tools: Sequence[ToolDeclaration]) -> str:
    """The first name that the service would refuse, or ""."""
    return next((tool.name for tool in tools if not _TOOL_NAME.fullmatch(tool.name)), "")


# --- the setup --------------------------------------------------------------------------------------------------------


def declarations(tools: Sequence[ToolDeclaration], behavior: str = "") -> list[Json]:
    """One `Tool` with all functions; their JSON Schema goes over verbatim."""
    functions = []
    for tool in tools:
        function: Json = {
            "name": tool.name,
            "description": tool.description,
            "parametersJsonSchema": parameters_of(tool),
        }
        if behavior:
            function["behavior"] = behavior
        functions.append(function)
    return [{"functionDeclarations": functions}] if functions else []


def setup(model: str, options: AgentOptions, family: Family, behavior: str) -> Json:
    """The first message. What is not asked for is not sent; `options.extra` lies over it."""
    generation: Json = {"responseModalities": ["AUDIO"]}
    if options.temperature is not None:
        generation["temperature"] = options.temperature
    if speech := _speech(options, family):
        generation["speechConfig"] = speech
    message: Json = {"model": model, "generationConfig": generation}
    if options.instructions:
        message["systemInstruction"] = _content(options.instructions)
    if tools := declarations(options.tools, behavior):
        message["tools"] = tools
    if heard := _realtime_input(options.turn_detection):
        message["realtimeInputConfig"] = heard
    if options.transcription:
        hints = {"languageCodes": [options.language]} if options.language and family.hints_language else {}
        message["inputAudioTranscription"] = hints
    message["outputAudioTranscription"] = {}
    message["sessionResumption"] = {"handle": options.resume_handle} if options.resume_handle else {}
    message["contextWindowCompression"] = {"slidingWindow": {}}
    if options.history and not options.resume_handle and family.content == "history":
        message["historyConfig"] = {"initialHistoryInClientContent": True}
    return {"setup": merged(message, options.extra)}


def _speech(options: AgentOptions, family: Family) -> Json:
    speech: Json = {}
    if options.voice:
        speech["voiceConfig"] = {"prebuiltVoiceConfig": {"voiceName": options.voice}}
    if options.language and family.names_language:
        speech["languageCode"] = options.language
    return speech


def _realtime_input(detection: TurnDetection) -> Json:
    config: Json = {}
    if detection.type == "none":
        config["automaticActivityDetection"] = {"disabled": True}
    elif detection.type == "server_vad" and (settings := _activity_detection(detection)):
        config["automaticActivityDetection"] = settings
    if not detection.interrupt_response:
        config["activityHandling"] = "NO_INTERRUPTION"
    return config


def _activity_detection(detection: TurnDetection) -> Json:
    """The service knows two sensitivities: from half the scale upwards only what is clearly speech counts."""
    settings: Json = {}
    if detection.threshold is not None:
        level = "LOW" if detection.threshold >= 0.5 else "HIGH"
        settings["startOfSpeechSensitivity"] = f"START_SENSITIVITY_{level}"
    if detection.prefix_ms is not None:
        settings["prefixPaddingMs"] = detection.prefix_ms
    if detection.silence_ms is not None:
        settings["silenceDurationMs"] = detection.silence_ms
    return settings


# --- the other messages -----------------------------------------------------------------------------------------------

GO_ON: Json = {"clientContent": {"turnComplete": True}}
"""Begin to generate with what has accumulated."""
GO_ON_TEXT = "(Go on with the conversation: answer what was said last.)"
"""The same in words, for a model that takes no `clientContent`."""


def text_input(text: str) -> Json:
    return {"realtimeInput": {"text": text}}


def image_input(data: bytes, media_type: str) -> Json:
    return {"realtimeInput": {"video": {"data": encode_audio(data).decode("ascii"), "mimeType": media_type}}}


def words_to_say(text: str) -> str:
    """The wire knows no such thing as "say this": the model is asked to."""
    return (
        "Say the following text aloud, word for word, in the language it is written in. "
        f"Add nothing, leave nothing out, do not answer it and call no function:\n\n{text}"
    )


def turns(*contents: Json, complete: bool = False) -> Json:
    return {"clientContent": {"turns": list(contents), "turnComplete": complete}}


def user_turn(text: str) -> Json:
    return _content(text, "user")


def system_turn(text: str) -> Json:
    return _content(text, "system")


def context_update(text: str) -> Json:
    return {"contextUpdate": {"systemInstruction": _content(text)}}


def tool_response(call_id: str, name: str, output: str, scheduling: str = "") -> Json:
    """`call_id` "": a call that came without one (Vertex), answered by its name. A call that had no name is answered,
    too, but not by none: the service takes that for an invalid message, and closes."""
    response: Json = {"id": call_id} if call_id else {}
    response |= {"name": name or "unknown", "response": _result(output)}
    if scheduling:
        response["scheduling"] = scheduling
    return {"toolResponse": {"functionResponses": [response]}}


_DEEPEST = 64
"""Of values within values; protobuf reads 100, the message around them included."""


def _is_sendable(value: object, room: int = _DEEPEST) -> bool:
    """NaN and infinity, which Python reads and writes, are not JSON: the message would be none."""
    if isinstance(value, dict | list):
        inner = value.values() if isinstance(value, dict) else value
        return room > 0 and all(_is_sendable(each, room - 1) for each in inner)
    return not isinstance(value, float) or isfinite(value)


def _result(output: str) -> Json:
    """An object, as the wire wants it: what went wrong under `error`, else under `output`."""
    try:
        value = from_json(output)
    except ValueError:
        value = output
    if not _is_sendable(value):
        value = output
    if isinstance(value, dict) and set(value) == {"error"}:
        return {"error": value["error"]}
    return {"output": value}


def history(items: Sequence[HistoryItem], family: Family) -> Json:
    """The conversation so far, which asks for no answer: where the setup announced it `turnComplete` ends it, elsewhere
    that would ask for one. Tool calls are told in words: call ids of another session mean nothing here."""
    contents: list[Json] = []
    for item in items:
        if isinstance(item, Said):
            role, text = "model" if item.role == "assistant" else "user", item.text
        else:
            role, text = (
                "user",
                f"(Function {item.name}, called with {item.arguments}: {item.output or 'no result yet'})",
            )
        if contents and contents[-1]["role"] == role:
            contents[-1]["parts"].append({"text": text})
        else:
            contents.append(_content(text, role))
    return turns(*contents, complete=family.content == "history")


def _content(text: str, role: str = "") -> Json:
    content: Json = {"role": role} if role else {}
    return content | {"parts": [{"text": text}]}


# --- reading ----------------------------------------------------------------------------------------------------------


def seconds_of(duration: object) -> float | None:
    """A protobuf duration as JSON has it: "50s", "1.5s"."""
    found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)s", duration) if isinstance(duration, str) else None
    return float(found[1]) if found else None


_COUNTS = (
    ("promptTokenCount", "input_tokens"),
    ("toolUsePromptTokenCount", "input_tokens"),
    ("cachedContentTokenCount", "input_cached_tokens"),
    ("responseTokenCount", "output_tokens"),
    ("candidatesTokenCount", "output_tokens"),
    ("thoughtsTokenCount", "output_tokens"),
    ("thoughtsTokenCount", "output_text_tokens"),
)
_DETAILS = (
    ("promptTokensDetails", "input"),
    ("toolUsePromptTokensDetails", "input"),
    ("cacheTokensDetails", "input_cached"),
    ("responseTokensDetails", "output"),
    ("candidatesTokensDetails", "output"),
)


def usage_counts(usage: Json) -> dict[str, int]:
    """Vertex says "candidates" where the Developer API says "response". What was thought is charged as text output."""
    counts: dict[str, int] = {}
    for name, ours in _COUNTS:
        if count := number_of(usage, name):
            counts[ours] = counts.get(ours, 0) + count
    for name, side in _DETAILS:
        for detail in usage.get(name) or ():
            count = number_of(detail, "tokenCount")
            if count and (modality := text_of(detail, "modality")):
                key = f"{side}_{modality.lower()}_tokens"
                counts[key] = counts.get(key, 0) + count
    return counts


@dataclass(frozen=True, slots=True)
class Close:
    code: str
    again: bool


_REASONS: tuple[tuple[str, Close], ...] = (
    ("api key not valid", Close("invalid_api_key", again=False)),
    ("api key expired", Close("invalid_api_key", again=False)),
    ("api_key_invalid", Close("invalid_api_key", again=False)),
    ("authentication credential", Close("invalid_api_key", again=False)),
    ("unauthenticated", Close("invalid_api_key", again=False)),
    ("denied", Close("permission_denied", again=False)),
    ("quota", Close("insufficient_quota", again=False)),
    ("billing", Close("insufficient_quota", again=False)),
    ("not found for api version", Close("model_not_found", again=False)),
    ("not supported for bidigeneratecontent", Close("model_not_found", again=False)),
    ("publisher model", Close("model_not_found", again=False)),
    ("deadline expired", Close("session_expired", again=True)),
)


def close_of(code: int, reason: str, *, in_setup: bool, resuming: bool) -> Close:
    """What a close means: this service has no other way to report an error. The text decides, then the code: a refused
    setup will be refused again, unless it was the handle that was; in mid-call a new session has a chance."""
    lowered = reason.lower()
    for words, close in _REASONS:
        if words in lowered:
            return close
    if in_setup and code in (1007, 1008):
        return Close("resume_refused", again=True) if resuming else Close("invalid_argument", again=False)
    return Close("closed", again=True)


HARMLESS = frozenset({"", "turn_complete_reason_unspecified", "need_more_input"})
FAILURES = frozenset({"malformed_function_call", "response_rejected", "max_regeneration_reached"})
"""Why a turn ended; the other reasons are words that a filter has found."""


def usage_difference(counts: Mapping[str, int], before: Mapping[str, int]) -> dict[str, float]:
    return {name: count - before.get(name, 0) for name, count in counts.items() if count > before.get(name, 0)}


def detail(value: Any) -> str:
    """A vendor's word as a code of ours."""
    return value.lower() if isinstance(value, str) else ""
