"""Is this client message one that Gemini Live would take? As strict as the service, or stricter.

Names and types after the vendor's SDK google-genai 3.4, as far as a voice call can need them; what only one of the two
APIs takes is refused by the other. Described as in `openai_check`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from sipbridge.simulator.openai_check import NUMBER, Refusal, check_value

_VOICES = frozenset(
    {"Zephyr", "Puck", "Charon", "Kore", "Fenrir", "Leda", "Orus", "Aoede", "Callirrhoe", "Autonoe", "Enceladus"}
    | {"Iapetus", "Umbriel", "Algieba", "Despina", "Erinome", "Algenib", "Rasalgethi", "Laomedeia", "Achernar"}
    | {"Alnilam", "Schedar", "Gacrux", "Pulcherrima", "Achird", "Zubenelgenubi", "Vindemiatrix", "Sadachbia"}
    | {"Sadaltager", "Sulafat"}
)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.:-]{0,127}")

_BLOB = {"data": str, "mimeType": str}
_PART = {"text": str, "inlineData": _BLOB}
_CONTENT = {"role": str, "parts": [_PART]}
_INSTRUCTION = {"role": str, "parts": [{"text": str}]}
_TRANSCRIPTION = {"languageCodes": [str], "customVocabulary": [str]}
_TOOL = {
    "functionDeclarations": [
        {
            "name": str,
            "description": str,
            "parameters": dict,
            "parametersJsonSchema": dict,
            "behavior": frozenset({"BLOCKING", "NON_BLOCKING"}),
        }
    ],
    "googleSearch": dict,
    "codeExecution": dict,
}
_GENERATION = {
    "responseModalities": [frozenset({"AUDIO"})],
    "temperature": NUMBER,
    "topP": NUMBER,
    "topK": NUMBER,
    "maxOutputTokens": int,
    "seed": int,
    "mediaResolution": str,
    "speechConfig": {"voiceConfig": {"prebuiltVoiceConfig": {"voiceName": _VOICES}}, "languageCode": str},
    "thinkingConfig": {"thinkingBudget": int, "includeThoughts": bool, "thinkingLevel": str},
    "enableAffectiveDialog": bool,
}
_SENSITIVITY = frozenset({"SENSITIVITY_HIGH", "SENSITIVITY_LOW"})
_HEARING = {
    "automaticActivityDetection": {
        "disabled": bool,
        "startOfSpeechSensitivity": frozenset(f"START_{level}" for level in _SENSITIVITY),
        "endOfSpeechSensitivity": frozenset(f"END_{level}" for level in _SENSITIVITY),
        "prefixPaddingMs": int,
        "silenceDurationMs": int,
    },
    "activityHandling": frozenset({"START_OF_ACTIVITY_INTERRUPTS", "NO_INTERRUPTION"}),
    "turnCoverage": frozenset(
        {"TURN_INCLUDES_ONLY_ACTIVITY", "TURN_INCLUDES_ALL_INPUT", "TURN_INCLUDES_AUDIO_ACTIVITY_AND_ALL_VIDEO"}
    ),
}
_SETUP = {
    "model": str,
    "generationConfig": _GENERATION,
    "systemInstruction": _INSTRUCTION,
    "tools": [_TOOL],
    "realtimeInputConfig": _HEARING,
    "inputAudioTranscription": _TRANSCRIPTION,
    "outputAudioTranscription": _TRANSCRIPTION,
    "contextWindowCompression": {"triggerTokens": int, "slidingWindow": {"targetTokens": int}},
    "proactivity": {"proactiveAudio": bool},
    "historyConfig": {"initialHistoryInClientContent": bool},
    "safetySettings": [dict],
}
_RESPONSE = {
    "id": str,
    "name": str,
    "response": dict,
    "scheduling": frozenset({"WHEN_IDLE", "INTERRUPT", "SILENT"}),
}
_REALTIME = {
    "audio": _BLOB,
    "video": _BLOB,
    "text": str,
    "activityStart": {},
    "activityEnd": {},
}
_DEVELOPER: dict[str, Any] = {
    "setup": _SETUP | {"sessionResumption": {"handle": str}, "labels": dict},
    "realtimeInput": _REALTIME | {"audioStreamEnd": bool},
    "toolResponse": {"functionResponses": [_RESPONSE | {"willContinue": bool}]},
}
_VERTEX: dict[str, Any] = {
    "setup": _SETUP | {"sessionResumption": {"handle": str, "transparent": bool}, "explicitVadSignal": bool},
    "realtimeInput": _REALTIME,
    "toolResponse": {"functionResponses": [_RESPONSE]},
}
_BOTH: dict[str, Any] = {
    "clientContent": {"turns": [_CONTENT], "turnComplete": bool},
    "contextUpdate": {"systemInstruction": _INSTRUCTION, "tools": {"tools": [_TOOL]}},
}


@dataclass(slots=True)
class Session:
    """What the setup settled, as far as later messages depend on it."""

    vertex: bool
    version: tuple[int, int] = (99, 0)
    setup: Mapping[str, Any] = field(default_factory=dict)
    history: Literal["", "expected", "given"] = ""
    """Initial history in `clientContent`, where the setup announced it."""
    active: bool = False
    """Between `activityStart` and `activityEnd`."""

    @property
    def by_hand(self) -> bool:
        heard = self.setup.get("realtimeInputConfig", {})
        return bool(heard.get("automaticActivityDetection", {}).get("disabled"))

    @property
    def new(self) -> bool:
        return self.version >= (3, 8)

    def took(self, message: Mapping[str, Any]) -> None:
        """What follows from a message that was checked, for those after it."""
        kind, body = next(iter(message.items()))
        if kind == "setup":
            self.setup = body
            if body.get("historyConfig", {}).get("initialHistoryInClientContent"):
                self.history = "expected"
        elif kind == "clientContent" and body.get("turnComplete") and self.history == "expected":
            self.history = "given"
        elif kind == "realtimeInput" and ("activityStart" in body or "activityEnd" in body):
            self.active = "activityStart" in body


def check_message(message: Mapping[str, Any], session: Session) -> Refusal | None:
    """The first thing wrong with it. What it refers to (a call, a handle) is not looked at here."""
    if len(message) != 1:
        return _invalid(f"one field is expected, not {len(message)}")
    kind = next(iter(message))
    fields = (_VERTEX if session.vertex else _DEVELOPER) | _BOTH
    if kind not in fields:
        return _invalid(f'Unknown name "{kind}": Cannot find field.')
    if (kind == "setup") == bool(session.setup):
        return _invalid("setup must be the first message, and only that")
    if refusal := check_value(message, fields, ""):
        return refusal
    body = message[kind]
    rules = {
        "setup": _check_setup,
        "realtimeInput": _check_realtime,
        "clientContent": _check_content,
        "toolResponse": _check_responses,
        "contextUpdate": _check_update,
    }
    return rules[kind](body, session)


def _check_setup(setup: Mapping[str, Any], session: Session) -> Refusal | None:
    model = setup.get("model", "")
    prefix = r"projects/[^/]+/locations/[^/]+/publishers/google/models/" if session.vertex else "models/"
    if not re.fullmatch(prefix + r"gemini-[a-z0-9.-]+", model):
        words = f"{model} is not found for API version v1beta, or is not supported for bidiGenerateContent."
        return Refusal("model_not_found", words)
    if version := re.search(r"gemini-(?:live-)?(\d+)\.(\d+)", model):
        session.version = int(version[1]), int(version[2])
    generation = setup.get("generationConfig", {})
    if len(generation.get("responseModalities", ("AUDIO",))) != 1:
        return _invalid("exactly one response modality")
    if session.new and not session.vertex and "thinkingLevel" in generation.get("thinkingConfig", {}):
        return _invalid("thinkingLevel is not supported by this model")
    if session.new and setup.get("proactivity", {}).get("proactiveAudio") is False:
        return _invalid("proactiveAudio can't be turned off")
    if "native-audio" in model and "languageCode" in generation.get("speechConfig", {}):
        return _invalid("Unsupported language code")
    if not 0 <= generation.get("temperature", 0) <= 2:
        return _invalid("temperature is out of range")
    for tool in setup.get("tools", ()):
        for function in tool.get("functionDeclarations", ()):
            if not _NAME.fullmatch(function.get("name", "")):
                return _invalid("Invalid function name.")
            if "parameters" in function and "parametersJsonSchema" in function:
                return _invalid("parameters and parametersJsonSchema are mutually exclusive")
            if "extended-thinking" in model and function.get("behavior") == "BLOCKING":
                return _invalid("BLOCKING functions are not supported by this model")
    return None


def _check_realtime(realtime: Mapping[str, Any], session: Session) -> Refusal | None:
    if len(realtime) != 1:
        return _invalid("realtimeInput has one field")
    kind = next(iter(realtime))
    if session.history == "expected":
        return _invalid("the initial history is not complete")
    if kind in ("activityStart", "activityEnd"):
        if not session.by_hand:
            return _invalid("Explicit activity control is not supported when automatic activity detection is enabled.")
        if session.active == (kind == "activityStart"):
            return _invalid(f"{kind} at the wrong time")
    if kind == "audioStreamEnd" and session.by_hand:
        return _invalid("audioStreamEnd is for automatic activity detection")
    if kind in ("audio", "text") and session.by_hand and not session.active:
        return _invalid(f"{kind} outside of an activity")
    if kind == "audio" and not re.fullmatch(r"audio/pcm;rate=\d+", realtime["audio"].get("mimeType", "")):
        return _invalid("audio must be audio/pcm with its rate")
    if kind == "video" and not realtime["video"].get("mimeType", "").startswith("image/"):
        return _invalid("video is images")
    return None


def _check_content(content: Mapping[str, Any], session: Session) -> Refusal | None:
    if (3, 0) <= session.version < (3, 8) and session.history != "expected":
        return _invalid("clientContent is only for the initial history with this model")
    for turn in content.get("turns", ()):
        role = turn.get("role")
        system = role == "system" and session.vertex and session.version < (3, 0)
        if role not in ("user", "model") and not system:
            return _invalid("Please use a valid role: user, model.")
    return None


def _check_responses(answer: Mapping[str, Any], session: Session) -> Refusal | None:
    for response in answer.get("functionResponses", ()):
        if not response.get("name") or "response" not in response:
            return _invalid("a function response has a name and a response")
        if not response.get("id") and not session.vertex:
            return _invalid("a function response has the id of its call")
    return None


def _check_update(update: Mapping[str, Any], session: Session) -> Refusal | None:
    return None if session.new else _invalid("contextUpdate is not supported by this model")


def _invalid(words: str) -> Refusal:
    return Refusal("invalid_argument", f"Request contains an invalid argument. {words}", None)


_FREE = frozenset({"parametersJsonSchema", "parameters", "response", "labels"})


def camel_case(value: Any) -> Any:
    """The service takes its names in snake_case as well, which the SDK's client makes use of."""
    if isinstance(value, list):
        return [camel_case(entry) for entry in value]
    if not isinstance(value, dict):
        return value
    named = {re.sub(r"_([a-z])", lambda found: found[1].upper(), key): member for key, member in value.items()}
    return {key: member if key in _FREE else camel_case(member) for key, member in named.items()}
