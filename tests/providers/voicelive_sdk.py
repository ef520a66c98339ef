"""The judge of the Voice Live wire: the types of the vendor's SDK (azure-ai-voicelive), made strict.

The SDK's models keep whatever they are given, so here every member is held against the annotations: known, not
missing, of the type it states. An enumeration that the SDK calls open is closed here.
"""

from __future__ import annotations

import datetime
import types
import typing
from base64 import b64decode
from collections.abc import Mapping
from enum import Enum
from functools import cache
from typing import Any, Literal, Union

from azure.ai.voicelive import _unions, models
from azure.ai.voicelive.models import _models

_NAMES = {**vars(typing), **vars(_models), "_models": models, "_unions": _unions, "datetime": datetime}


def check_client_event(message: Mapping[str, Any]) -> None:
    """Raises where the vendor's SDK has no such thing to send."""
    assert message.get("type") in models.ClientEvent.__mapping__, f"unknown to the SDK: {message.get('type')}"
    _check(message, models.ClientEvent, "")


def check_server_event(message: Mapping[str, Any]) -> None:
    """Raises where the vendor's SDK would not understand this fully."""
    assert message.get("type") in models.ServerEvent.__mapping__, f"unknown to the SDK: {message.get('type')}"
    _check(message, models.ServerEvent, "")


@cache
def _members(model: Any) -> dict[str, tuple[Any, Any]]:
    """Name on the wire -> its type and the SDK's field."""
    hints = typing.get_type_hints(model, globalns=_NAMES)
    model({})  # the SDK gathers a class's fields when it is first made
    return {field._rest_name: (hints[name], field) for name, field in model._attr_to_rest_field.items()}


def _check(value: Any, wanted: Any, path: str, fmt: str | None = None) -> None:
    """`wanted`: an annotation, resolved."""
    if wanted is Any:
        return
    if isinstance(wanted, type) and getattr(wanted, "_is_model", False):
        _check_model(value, wanted, path)
        return
    origin, arguments = typing.get_origin(wanted), typing.get_args(wanted)
    if origin in (Union, types.UnionType):
        _check_union(value, arguments, path, fmt)
    elif origin is list:
        assert isinstance(value, list), f"{path}: not a list"
        for number, entry in enumerate(value):
            _check(entry, arguments[0], f"{path}[{number}]")
    elif origin is dict:
        assert isinstance(value, Mapping), f"{path}: not an object"
        for key, entry in value.items():
            _check(entry, arguments[1], f"{path}.{key}")
    elif origin is Literal:
        allowed = [entry.value if isinstance(entry, Enum) else entry for entry in arguments]
        assert value in allowed, f"{path}: {value!r} is not of {allowed}"
    elif issubclass(wanted, Enum):
        assert value in [entry.value for entry in wanted], f"{path}: {value!r} is no {wanted.__name__}"
    else:
        _check_scalar(value, wanted, path, fmt)


def _check_scalar(value: Any, wanted: type, path: str, fmt: str | None) -> None:
    if wanted is bytes:
        b64decode(value, validate=True)
    elif wanted is datetime.datetime:
        assert isinstance(value, int if fmt == "unix-timestamp" else str), f"{path}: {value!r} is no time"
    elif wanted is float:
        assert type(value) in (int, float), f"{path}: {value!r} is no number"
    else:
        assert type(value) is wanted, f"{path}: {value!r} is no {wanted.__name__}"


def _check_union(value: Any, choices: tuple[Any, ...], path: str, fmt: str | None) -> None:
    enums = [choice for choice in choices if isinstance(choice, type) and issubclass(choice, Enum)]
    problems = []
    for choice in choices:
        if choice is str and enums:
            continue
        if choice is type(None):
            if value is None:
                return
            continue
        try:
            _check(value, choice, path, fmt)
        except (AssertionError, TypeError, ValueError) as error:
            problems.append(str(error))
        else:
            return
    raise AssertionError("; or ".join(problems) or f"{path}: {value!r} fits nothing")


def _check_model(value: Any, model: Any, path: str) -> None:
    assert isinstance(value, Mapping), f"{path}: not an object"
    model = _concrete(value, model, path)
    members = _members(model)
    unknown = [f"{path}.{key}" for key in value if key not in members]
    assert not unknown, f"unknown to the SDK's {model.__name__}: {unknown}"
    for name, (wanted, field) in members.items():
        if name in value:
            _check(value[name], wanted, f"{path}.{name}", field._format)
        else:
            optional = type(None) in typing.get_args(wanted)
            assert optional, f"{path}: {model.__name__} without {name}"


def _concrete(value: Mapping[str, Any], model: Any, path: str) -> Any:
    """The model for this very object, down the SDK's discriminators: a message is told by its type, then its role."""
    seen: list[str] = []
    while model.__dict__.get("__mapping__"):
        name = model._get_discriminator(seen)._rest_name
        kind = value.get(name)
        assert kind in model.__mapping__, f"{path}.{name}: {kind!r} is none of {sorted(model.__mapping__)}"
        model = model.__mapping__[kind]
        seen.append(name)
    return model
