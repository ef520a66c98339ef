"""The judges of the parts' wires: the vendors' own types, made strict.

OpenAI's requests are typed dictionaries, whose unknown members are an error here; Deepgram's messages are models.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NotRequired, Required, TypeVar, get_args, get_origin

from deepgram.listen.v1.types import ListenV1Finalize, ListenV1Results, ListenV1SpeechStarted
from deepgram.listen.v2.types import ListenV2CloseStream, ListenV2Connected, ListenV2ForceEndTurn, ListenV2TurnInfo
from deepgram.speak.v1.types import (
    SpeakV1Clear,
    SpeakV1Cleared,
    SpeakV1Close,
    SpeakV1Flush,
    SpeakV1Flushed,
    SpeakV1Metadata,
    SpeakV1Text,
)
from openai.types.audio.speech_create_params import SpeechCreateParams
from openai.types.audio.transcription_create_params import TranscriptionCreateParamsNonStreaming
from openai.types.chat import ChatCompletionChunk
from openai.types.chat.completion_create_params import CompletionCreateParamsStreaming
from typing_extensions import get_type_hints, is_typeddict

from tests.providers.strict import nothing_unknown

_SPEAK: dict[str, Any] = {"Speak": SpeakV1Text, "Flush": SpeakV1Flush, "Clear": SpeakV1Clear, "Close": SpeakV1Close}
_SPOKEN: dict[str, Any] = {"Flushed": SpeakV1Flushed, "Cleared": SpeakV1Cleared, "Metadata": SpeakV1Metadata}
_LISTEN: dict[str, Any] = {
    "CloseStream": ListenV2CloseStream,
    "ForceEndTurn": ListenV2ForceEndTurn,
    "Finalize": ListenV1Finalize,
}
_HEARD: dict[str, Any] = {
    "Connected": ListenV2Connected,
    "TurnInfo": ListenV2TurnInfo,
    "Results": ListenV1Results,
    "SpeechStarted": ListenV1SpeechStarted,
}


def check_chat(body: Mapping[str, Any]) -> None:
    _typed(body, CompletionCreateParamsStreaming, "")


def check_speech(body: Mapping[str, Any]) -> None:
    _typed(body, SpeechCreateParams, "")
    assert len(body["input"]) <= 4096


def check_transcription_form(fields: Mapping[str, Any]) -> None:
    _typed(fields, TranscriptionCreateParamsNonStreaming, "")


def check_chunk(chunk: Mapping[str, Any]) -> None:
    nothing_unknown(ChatCompletionChunk.model_validate(chunk, strict=True))


def check_speak(message: Mapping[str, Any]) -> None:
    nothing_unknown(_SPEAK[message["type"]].model_validate(message))


def check_spoken(message: Mapping[str, Any]) -> None:
    nothing_unknown(_SPOKEN[message["type"]].model_validate(message))


def check_listen(message: Mapping[str, Any]) -> None:
    nothing_unknown(_LISTEN[message["type"]].model_validate(message))


def check_heard(message: Mapping[str, Any]) -> None:
    nothing_unknown(_HEARD[message["type"]].model_validate(message))


def _typed(value: Any, wanted: Any, path: str) -> None:
    """A value against a type as the SDK writes them; raises `AssertionError`."""
    origin = get_origin(wanted)
    if origin in (Required, NotRequired):
        return _typed(value, get_args(wanted)[0], path)
    if wanted in (Any, object) or isinstance(wanted, TypeVar):
        return None
    if is_typeddict(wanted):
        return _dictionary(value, wanted, path)
    if origin in (typing.Union, types.UnionType):
        return _one_of(value, get_args(wanted), path)
    if origin is Literal:
        assert value in get_args(wanted), f"{path}: {value!r}"
    elif origin in (list, Sequence, Iterable) or getattr(origin, "__name__", "") == "SequenceNotStr":
        assert isinstance(value, list), path
        for number, entry in enumerate(value):
            _typed(entry, get_args(wanted)[0], f"{path}[{number}]")
    elif origin in (dict, Mapping):
        assert isinstance(value, Mapping), path
    elif wanted is float:
        assert isinstance(value, int | float), path
    else:
        kind = type(None) if wanted is None else (origin or wanted)
        assert isinstance(value, kind), f"{path}: {value!r} is no {wanted}"
    return None


def _dictionary(value: Any, wanted: Any, path: str) -> None:
    assert isinstance(value, Mapping), f"{path}: no object"
    members = get_type_hints(wanted, include_extras=True)
    assert value.keys() <= members.keys(), f"unknown to the SDK: {path}{sorted(value.keys() - members.keys())}"
    missing = {name for name, kind in members.items() if get_origin(kind) is Required} - value.keys()  # type: ignore[comparison-overlap]
    assert not missing, f"missing: {path}{sorted(missing)}"
    for name, entry in value.items():
        _typed(entry, members[name], f"{path}{name}.")


def _one_of(value: Any, choices: tuple[Any, ...], path: str) -> None:
    problems = []
    for choice in choices:
        try:
            return _typed(value, choice, path)
        except (AssertionError, TypeError) as problem:
            problems.append(str(problem))
    raise AssertionError(f"{path}: none of {problems}")
