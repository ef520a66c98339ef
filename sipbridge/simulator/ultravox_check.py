"""What Ultravox takes, by its documentation (OpenAPI schema of `POST /api/calls`, data messages): fields and types."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

Check: TypeAlias = Callable[[Any], str]
"""What is wrong, or ""."""


def _of(*types: type) -> Check:
    def check(value: Any) -> str:
        # bool is an int of Python's, not of JSON's
        fits = isinstance(value, types) and not (isinstance(value, bool) and bool not in types)
        return "" if fits else f"{value!r:.40} is of the wrong type"

    return check


def _one_of(*words: str) -> Check:
    return lambda value: "" if value in words else f"{value!r:.40} is none of {words}"


def _matching(pattern: str) -> Check:
    return lambda value: (
        "" if isinstance(value, str) and re.fullmatch(pattern, value) else f"{value!r:.40} does not fit"
    )


def _all(check: Check) -> Check:
    def each(value: Any) -> str:
        return "; ".join(filter(None, map(check, value))) if isinstance(value, list) else "is no list"

    return each


def _object(needed: str, /, **fields: Check) -> Check:
    def check(value: Any) -> str:
        if not isinstance(value, Mapping):
            return "is no object"
        wrong = [f"{name}: unknown" for name in value.keys() - fields.keys()]
        wrong += [f"{name}: missing" for name in needed.split() if name not in value]
        wrong += [f"{name}: {words}" for name in value.keys() & fields.keys() if (words := fields[name](value[name]))]
        return "; ".join(sorted(wrong))

    return check


TEXT, FLAG, NUMBER, OBJECT = _of(str), _of(bool), _of(int, float), _of(dict)
DURATION = _matching(r"(0|[1-9][0-9]{0,11})(\.[0-9]{1,9})?s")
RATE = _of(int)
MESSAGE = _object(
    "role text",
    role=_matching("MESSAGE_ROLE_(USER|AGENT|TOOL_CALL|TOOL_RESULT)"),
    text=TEXT,
    invocationId=TEXT,
    toolName=TEXT,
    errorDetails=TEXT,
    medium=TEXT,
)
PARAMETER = _object(
    "name location schema", name=TEXT, location=_one_of("PARAMETER_LOCATION_BODY"), schema=OBJECT, required=FLAG
)
CLIENT_TOOL = _object(
    "modelToolName description client",
    modelToolName=_matching(r"[a-zA-Z0-9_-]{1,64}"),
    description=TEXT,
    dynamicParameters=_all(PARAMETER),
    timeout=DURATION,
    client=_object(""),
)
AGENT_FIRST = _object("", text=TEXT, prompt=TEXT, delay=DURATION, uninterruptible=FLAG)
VAD = _object(
    "",
    turnEndpointDelay=DURATION,
    minimumTurnDuration=DURATION,
    minimumInterruptionDuration=DURATION,
    frameActivationThreshold=NUMBER,
)
WEBSOCKET = _object("inputSampleRate", inputSampleRate=RATE, outputSampleRate=RATE, clientBufferSizeMs=RATE)
CALL = _object(
    "medium",
    systemPrompt=TEXT,
    model=TEXT,
    voice=TEXT,
    temperature=lambda value: NUMBER(value) or ("" if 0 <= value <= 1 else "not from 0 to 1"),
    languageHint=TEXT,
    initialMessages=_all(MESSAGE),
    joinTimeout=DURATION,
    maxDuration=DURATION,
    timeExceededMessage=TEXT,
    inactivityMessages=_all(OBJECT),
    selectedTools=_all(_object("temporaryTool", temporaryTool=CLIENT_TOOL)),
    medium=_object("serverWebSocket", serverWebSocket=WEBSOCKET),
    recordingEnabled=FLAG,
    firstSpeakerSettings=lambda value: _object("", user=OBJECT, agent=AGENT_FIRST)(value) or _single(value),
    transcriptOptional=FLAG,
    vadSettings=VAD,
    metadata=OBJECT,
    experimentalSettings=OBJECT,
)
MESSAGES: dict[str, Check] = {
    "ping": _object("timestamp", type=TEXT, timestamp=NUMBER),
    "user_text_message": _object("text", type=TEXT, text=TEXT, urgency=_one_of("immediate", "soon", "later")),
    "set_output_medium": _object("medium", type=TEXT, medium=_one_of("voice", "text")),
    "client_tool_result": _object(
        "invocationId",
        type=TEXT,
        invocationId=TEXT,
        result=TEXT,
        responseType=TEXT,
        agentReaction=_one_of("speaks", "listens", "speaks-once"),
        errorType=_one_of("undefined", "implementation-error"),
        errorMessage=TEXT,
        updateCallState=OBJECT,
    ),
    "forced_agent_message": _object(
        "", type=TEXT, content=TEXT, toolCalls=_all(OBJECT), uninterruptible=FLAG, urgency=_one_of("immediate", "soon")
    ),
    "hang_up": _object("", type=TEXT, message=TEXT),
}


def _single(value: Mapping[str, Any]) -> str:
    return "" if len(value) == 1 else "either user or agent"


def check_call(call: Any) -> str:
    """Of the body that creates a call."""
    return CALL(call)


def check_message(message: Any) -> str:
    """Of a text frame of the client's."""
    kind = message.get("type") if isinstance(message, dict) else None
    check = MESSAGES.get(str(kind))
    return check(message) if check else f"{kind!r:.40}: no such message"
