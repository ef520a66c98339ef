"""What a tool takes: a pydantic model of ours, or a JSON Schema from elsewhere; and a model's words held against it.

Nothing here trusts the words: they may be no JSON, too long, nested without end. Of a schema from elsewhere no `$ref`
is followed out of it. Pure.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches
from functools import lru_cache
from itertools import islice
from math import isfinite
from typing import Any, NoReturn, TypeAlias

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, ValidationError, best_match
from jsonschema.validators import extend
from pydantic import BaseModel
from pydantic import ValidationError as ModelError
from pydantic_core import SchemaError as PatternError
from pydantic_core import SchemaValidator, core_schema
from referencing import Registry
from referencing.exceptions import Unresolvable

Schema: TypeAlias = Mapping[str, Any]
Parameters: TypeAlias = type[BaseModel] | Schema

MAX_ARGUMENT_CHARACTERS = 32_000
_MAX_SHOWN = 2_000
_MOST_PROBLEMS = 10
"""Of which the best is told; to look for thousands would hold up everybody's sound."""
_LARGEST_SCHEMA = 64_000
_HIDDEN = "***"


class ArgumentError(ValueError):
    """The arguments don't fit; the message is for the model, and quotes no value that is secret."""


def schema_of(parameters: Parameters) -> dict[str, Any]:
    """As the model sees it. Definitions are put where they are meant: not every vendor follows a `$ref`."""
    if not isinstance(parameters, type):
        return _inlined(dict(parameters))
    schema = parameters.model_json_schema()
    schema.pop("title", None)
    schema.pop("description", None)
    return _inlined(schema)


def _inlined(schema: dict[str, Any]) -> dict[str, Any]:
    definitions = schema.get("$defs")
    if not isinstance(definitions, dict):
        return schema

    def put(value: object, within: tuple[str, ...]) -> Any:
        if isinstance(value, list):
            return [put(inner, within) for inner in value]
        if not isinstance(value, dict):
            return value
        name = str(value.get("$ref", "")).removeprefix("#/$defs/")
        if name in definitions:
            if name in within:
                raise RecursionError
            return put({**definitions[name], **_without(value, "$ref")}, (*within, name))
        return {key: put(inner, within) for key, inner in value.items()}

    try:
        inlined: dict[str, Any] = put(_without(schema, "$defs"), ())
    except RecursionError:  # one that contains itself has no other form
        return schema
    return inlined if len(str(inlined)) <= _LARGEST_SCHEMA else schema


def _without(schema: Mapping[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in schema.items() if name != key}


def fault_of(schema: Schema) -> str | None:
    """Why it cannot be the schema of a tool's parameters, or None."""
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        return f"no JSON Schema: {'.'.join(map(str, error.path)) or 'top'}: {error.message}"
    if schema.get("type") != "object":
        return "type: object is expected: a tool takes arguments by name"
    for key, value in schema.items():
        # JSON Schema passes over what it does not know. A mapping was meant to be something.
        if isinstance(value, Mapping) and key not in _KEYWORDS and not key.startswith("x-"):
            near = get_close_matches(key, _KEYWORDS, n=1, cutoff=0.7)
            return f"{key}: no keyword of JSON Schema; " + (
                f"did you mean {near[0]!r}?" if near else "arguments stand under properties"
            )
    return None


_KEYWORDS = frozenset(Draft202012Validator.VALIDATORS) | {"$defs", "definitions", "default", "$vocabulary", "if"}


def checked(parameters: Parameters, text: str) -> Any:
    """What a tool's `run` is given: an instance of the model, or a dictionary. Raises `ArgumentError`."""
    if len(text) > MAX_ARGUMENT_CHARACTERS:
        raise ArgumentError(f"the arguments are longer than {MAX_ARGUMENT_CHARACTERS} characters")
    if isinstance(parameters, type):
        try:
            return parameters.model_validate_json(text or "{}")
        except ModelError as error:
            raise ArgumentError("; ".join(_explained(error))) from None
    data = _object(text or "{}")
    try:
        problem = best_match(islice(_validator(parameters).iter_errors(data), _MOST_PROBLEMS))
    except (Unresolvable, RecursionError):
        raise ArgumentError("this tool's parameters cannot be checked: its schema leads nowhere") from None
    except ArithmeticError:  # `multipleOf` of an integer beyond all floats
        raise ArgumentError("a number is too large") from None
    if problem is not None:
        raise ArgumentError(_told(problem))
    return data


def shown(schema: Schema, text: str) -> str:
    """Arguments for the record: what the schema calls secret (`writeOnly`, `format: password`) is not in it, and it is
    no longer than it has to be."""
    try:
        text = json.dumps(_without_secrets(_object(text or "{}"), schema), ensure_ascii=False)
    except (ArgumentError, RecursionError):
        text = _HIDDEN if _has_secrets(schema) else text
    return text if len(text) <= _MAX_SHOWN else text[:_MAX_SHOWN] + "..."


def _object(text: str) -> dict[str, Any]:
    try:
        data = json.loads(text, parse_constant=_refuse, parse_float=_finite)
        json.dumps(data, ensure_ascii=False).encode()  # half a surrogate pair is no character
    except (ValueError, RecursionError) as error:
        raise ArgumentError(f"the arguments are no JSON: {error}") from None
    if not isinstance(data, dict):
        raise ArgumentError("the arguments are no JSON object")
    return data


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number")  # NaN and Infinity are Python's, not JSON's


def _finite(number: str) -> float:
    if not isfinite(value := float(number)):
        raise ValueError(f"{number[:32]} is too large")
    return value


@lru_cache(maxsize=256)
def _matcher(pattern: str) -> Callable[[str], object]:
    """In linear time, where the pattern allows it: what a caller can talk a model into must not compute for minutes."""
    try:
        return SchemaValidator(core_schema.str_schema(pattern=pattern, regex_engine="rust-regex")).isinstance_python
    except PatternError:  # looks ahead or back
        return re.compile(pattern).search


def _pattern(validator: object, pattern: str, instance: object, schema: object) -> Iterator[ValidationError]:
    if isinstance(instance, str) and not _matcher(pattern)(instance):
        yield ValidationError(f"{instance!r} does not match {pattern!r}")


_Validator = extend(Draft202012Validator, {"pattern": _pattern})  # type: ignore[no-untyped-call]


def _validator(schema: Schema) -> Any:
    # An empty registry: the default one would fetch a remote `$ref` from wherever it points to.
    return _Validator(dict(schema), registry=Registry())


def _told(problem: ValidationError) -> str:
    place = ".".join(str(part) for part in problem.absolute_path)
    message = problem.message if not _is_secret(problem.schema) else "does not fit"
    return f"{place}: {message}"[:_MAX_SHOWN] if place else message[:_MAX_SHOWN]


def _explained(error: ModelError) -> list[str]:
    told = []
    for problem in error.errors(include_url=False, include_input=False):
        place = ".".join(str(part) for part in problem["loc"])
        told.append(f"{place}: {problem['msg']}" if place else problem["msg"])
    return told


# --- what is secret ---------------------------------------------------------------------------------------------------


def _is_secret(schema: object) -> bool:
    return isinstance(schema, Mapping) and (schema.get("writeOnly") is True or schema.get("format") == "password")


def _properties(schema: object) -> Mapping[str, Any]:
    properties = schema.get("properties") if isinstance(schema, Mapping) else None
    return properties if isinstance(properties, Mapping) else {}


def _has_secrets(schema: object) -> bool:
    return _is_secret(schema) or any(_has_secrets(inner) for inner in _properties(schema).values())


def _without_secrets(value: object, schema: object) -> object:
    if _is_secret(schema):
        return _HIDDEN
    if isinstance(value, dict):
        known = _properties(schema)
        return {key: _without_secrets(inner, known.get(key)) for key, inner in value.items()}
    if isinstance(value, list) and isinstance(schema, Mapping):
        return [_without_secrets(inner, schema.get("items")) for inner in value]
    return value
