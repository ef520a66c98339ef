"""The judge of the Gemini Live wire: the vendor's own types and converters (google-genai 3.4), made strict.

The SDK's models forbid unknown members, but take snake_case beside camelCase and any word for an enum; and `setup` is
built from other types than the one named after it (`realtimeInputConfig` is only in `LiveConnectConfig`). So the names
are checked here, level after level, and each message goes through the converter for its API, which raises where the SDK
does not support a field there.
"""

from __future__ import annotations

import base64
import enum
import types as python_types
import typing
from collections.abc import Mapping
from typing import Any

from google import genai
from google.genai import _live_converters as converters
from google.genai import types
from pydantic import BaseModel
from pydantic.alias_generators import to_camel

_FIELDS = frozenset({"setup", "clientContent", "realtimeInput", "toolResponse", "contextUpdate"})
_FREE = frozenset({"parametersJsonSchema", "responseJsonSchema", "args", "response", "labels", "partMetadata"})
"""Members whose content is the user's own."""
_RENAMED_BY_SERVER = {"type": "voiceActivityType", "candidatesTokenCount": "responseTokenCount"} | {
    "candidatesTokensDetails": "responseTokensDetails"
}
"""Names on the wire that the SDK's converters translate into other ones of its types."""


def check_client_event(message: Mapping[str, Any], *, vertex: bool = False) -> None:
    """Raises where the vendor's SDK would not send this, or not to this API."""
    assert len(message) == 1, f"a frame has exactly one field, not {sorted(message)}"
    field = next(iter(message))
    assert field in _FIELDS, f"unknown to the SDK: {field}"
    body = dict(message[field])
    if field == "setup":
        assert body.get("model"), "setup.model is missing"
        heard = body.pop("realtimeInputConfig", None)
        if heard is not None:
            _walk(heard, types.RealtimeInputConfig, "setup.realtimeInputConfig")
            types.RealtimeInputConfig.model_validate(heard)
        message = {"setup": body}
    elif field == "realtimeInput":
        assert len(body) == 1, f"realtimeInput has exactly one field, not {sorted(body)}"
        assert "mediaChunks" not in body, "mediaChunks is deprecated, and refused by 3.x"
    elif field == "toolResponse":
        for response in body["functionResponses"]:
            assert vertex or response.get("id"), "the Developer API wants the id of the call"
            assert response.get("name"), "a response has the function's name"
            assert isinstance(response.get("response"), dict), "a response is an object"
    _walk(message, types.LiveClientMessage, "")
    validated = types.LiveClientMessage.model_validate(message)
    client = _client()
    convert = converters._LiveClientMessage_to_vertex if vertex else converters._LiveClientMessage_to_mldev
    convert(client, validated)


def check_server_event(message: Mapping[str, Any], *, vertex: bool = False) -> None:
    """Raises where the vendor's SDK would not understand this fully."""
    _walk(message, types.LiveServerMessage, "", _RENAMED_BY_SERVER)
    convert = converters._LiveServerMessage_from_vertex if vertex else converters._LiveServerMessage_from_mldev
    types.LiveServerMessage.model_validate(convert(dict(message)))


_made: list[Any] = []


def _client() -> Any:
    """The converters ask it which API it is made for; it sends nothing."""
    if not _made:
        _made.append(genai.Client(api_key="not-a-key")._api_client)
    return _made[0]


def _walk(value: object, annotation: Any, path: str, renamed: Mapping[str, str] | None = None) -> None:
    """The value against the annotation of the SDK's field: camelCase names it knows, enums by their exact words, base64
    that decodes, numbers that are numbers."""
    options = _options(annotation)
    if isinstance(value, Mapping):
        models = [option for option in options if isinstance(option, type) and issubclass(option, BaseModel)]
        if path.rpartition(".")[2] in _FREE or (not models and any(_origin(option) is dict for option in options)):
            return
        assert models, f"{path}: no object is expected"
        _walk_object(value, models, path, renamed or {})
    elif isinstance(value, list):
        inner = [argument for option in options if _origin(option) is list for argument in typing.get_args(option)]
        assert inner, f"{path}: no array is expected"
        for number, entry in enumerate(value):
            _walk(entry, inner[0], f"{path}[{number}]", renamed)
    else:
        _check_plain(value, options, path)


def _walk_object(
    value: Mapping[str, Any], models: list[type[BaseModel]], path: str, renamed: Mapping[str, str]
) -> None:
    known = [{to_camel(name): field for name, field in model.model_fields.items()} for model in models]
    for name, member in value.items():
        fields = [names[renamed.get(name, name)] for names in known if renamed.get(name, name) in names]
        assert fields, f"unknown to the SDK: {path}.{name}"
        _walk(member, fields[0].annotation, f"{path}.{name}", renamed)


def _check_plain(value: object, options: list[Any], path: str) -> None:
    plain = [option for option in options if isinstance(option, type)]
    if Any in options:
        return
    assert value is not None, f"{path}: null is not sent"
    enums = [option for option in plain if issubclass(option, enum.Enum)]
    if isinstance(value, str) and enums:
        assert value in {member.value for option in enums for member in option}, f"{path}: {value!r} is unknown"
    elif isinstance(value, str) and bytes in plain and str not in plain:
        base64.b64decode(value, validate=True)
    else:
        allowed = tuple(option for option in plain if option in (str, bool, int, float))
        assert type(value) in allowed or (type(value) is int and float in allowed), f"{path}: {value!r}"


def _origin(annotation: Any) -> Any:
    return typing.get_origin(annotation)


def _options(annotation: Any) -> list[Any]:
    """The members of a union, flat. What the SDK takes from its users and makes a `Content` or list
    of `Tool` of, is that on the wire."""
    if isinstance(annotation, typing.ForwardRef):
        annotation = getattr(types, annotation.__forward_arg__)
    if annotation is list or types.Tool in typing.get_args(annotation):
        return [list[types.Tool]]
    if _origin(annotation) is typing.Annotated:
        return _options(typing.get_args(annotation)[0])
    if _origin(annotation) in (typing.Union, python_types.UnionType):
        options = [option for argument in typing.get_args(annotation) for option in _options(argument)]
        return [types.Content] if types.Content in options else options
    return [annotation]
