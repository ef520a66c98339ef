"""JSON and base64 as the vendors' WebSockets carry them: reading what may be wrong, writing what must be right."""

from __future__ import annotations

import json
import time
from binascii import b2a_base64
from collections.abc import Mapping
from contextlib import suppress
from importlib import import_module
from math import isfinite
from typing import Any, TypeAlias

from pydantic_core import CoreConfig, SchemaValidator, core_schema, from_json

from sipbridge.agent import ToolDeclaration

Json: TypeAlias = dict[str, Any]

try:
    _quick: Any = import_module("pybase64")  # a tenth of the time, where it is installed (the extra "fast")
except ImportError:
    _quick = None


# --- reading ----------------------------------------------------------------------------------------------------------


# Twice as fast as the standard library, and already a dependency. It decides what is valid.
_BASE64 = SchemaValidator(core_schema.bytes_schema(), CoreConfig(val_json_bytes="base64"))


def decode_audio(text: str) -> bytes:
    """Raises `ValueError` or `TypeError`."""
    if _quick is not None:
        with suppress(ValueError):
            quickly: bytes = _quick.b64decode(text, validate=True)
            return quickly
    audio: bytes = _BASE64.validate_json('"' + text + '"')
    return audio


_LARGE = 256 * 1024
_MOST_VALUES = 50_000


def read_json(message: str | bytes) -> Any:
    """Raises `ValueError`; also where there are more values in it than in any vendor's message. What is long is sound,
    in one value; 16 MiB of brackets would stop all calls for seconds."""
    if len(message) > _LARGE:
        data = message.encode() if isinstance(message, str) else message
        if data.count(b",") + data.count(b"[") + data.count(b"{") > _MOST_VALUES:
            raise ValueError("too many values")
    return from_json(message)


UNREADABLE = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError)
"""What reading a message raises where that is not as it should be."""


def json_object(message: str | bytes) -> Json:
    """A whole message. Raises `ValueError` or `TypeError`."""
    content = read_json(message)
    if not isinstance(content, dict):
        raise TypeError("a message is a JSON object")
    return content


def text_of(message: Json, key: str) -> str:
    value = message.get(key)
    return value if isinstance(value, str) else ""


def number_of(message: Json, key: str) -> int | None:
    """None where it is no number, or none that can be counted with: JSON's 1e400 reads as infinity."""
    value = message.get(key)
    if isinstance(value, float):
        return int(value) if isfinite(value) else None
    return value if isinstance(value, int) else None


def seconds_until(unix_time: float) -> float:
    """Until a moment that a vendor names by the date; ours is another clock."""
    return unix_time - time.time()


def is_object(text: str) -> bool:
    """Whether this is a whole JSON object, as the arguments of a complete tool call are."""
    try:
        return isinstance(from_json(text), dict)
    except ValueError:
        return False


# --- writing ----------------------------------------------------------------------------------------------------------


def encode(message: Json) -> str:
    """Whatever text is in it. Half a surrogate pair is no text: the socket would take nothing of the message."""
    text = json.dumps(message, ensure_ascii=False, separators=(",", ":"))
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def encode_audio(data: bytes) -> bytes:
    """Base64, fifty times a second and call."""
    audio: bytes = b2a_base64(data, newline=False) if _quick is None else _quick.b64encode(data)
    return audio


def merged(base: Json, extra: Mapping[str, Any]) -> Json:
    """`extra` over `base`, object by object; anything that is no object replaces."""
    result = dict(base)
    for key, value in extra.items():
        old = result.get(key)
        result[key] = merged(old, value) if isinstance(old, dict) and isinstance(value, Mapping) else value
    return result


def parameters_of(tool: ToolDeclaration) -> Json:
    """A tool's JSON Schema; one without parameters still is an object."""
    return dict(tool.parameters) or {"type": "object", "properties": {}}


class WholeSamples:
    """Sound that comes in pieces, which need not end where a sample does: half a one waits for its other half."""

    def __init__(self, sample_size: int) -> None:
        self._sample_size = sample_size
        self._of = ""
        self._rest = b""

    def feed(self, piece: bytes, of: str = "") -> bytes:
        """`of`: what it is a piece of; the rest of anything else is forgotten."""
        if not piece:
            return b""
        if self._rest and self._of == of:
            piece = self._rest + piece
        whole = len(piece) - len(piece) % self._sample_size
        self._of, self._rest = of, piece[whole:]
        return piece[:whole]

    def forget(self) -> None:
        """What comes next has nothing to do with what came."""
        self._rest = b""


class Recent:
    """The newest strings that were added, not more than `most`."""

    def __init__(self, most: int = 256) -> None:
        self._most = most
        self._kept: dict[str, None] = {}

    def add(self, text: str) -> None:
        self._kept[text] = None
        if len(self._kept) > self._most:
            del self._kept[next(iter(self._kept))]

    def __contains__(self, text: str) -> bool:
        return text in self._kept
