"""YAML files whose errors name file, line and key.

`load(path, Model)` parses one file into a pydantic model. What is wrong with it is collected, each with its place, and
raised as one `ConfigError`: syntax errors, keys given twice, unknown keys (with the nearest known one) and values that
do not fit. Nothing here knows what the keys mean.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Self, TypeAlias, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    ModelWrapValidatorHandler,
    ValidationError,
    ValidationInfo,
    model_validator,
)
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError

from sipbridge.errors import ConfigError
from sipbridge.overrides import Override, put
from sipbridge.yamltext import Place as Place
from sipbridge.yamltext import YamlTextError, read

Lines: TypeAlias = Mapping[Place, int | str]
"""Where each key and position stands: the line, or `environment:VARIABLE`."""

M = TypeVar("M", bound="Section")


def _as_list(value: object) -> object:
    if not isinstance(value, (str, list, tuple)):
        raise ValueError("text, or a list of texts, is expected; a number is text in quotes only")
    return [value] if isinstance(value, str) else value


Patterns = Annotated[tuple[str, ...], BeforeValidator(_as_list, json_schema_input_type=str | list[str])]
"""One text or several."""


class Section(BaseModel):
    """A mapping of the configuration: unknown keys are refused, values never change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, allow_inf_nan=False)

    @model_validator(mode="wrap")
    @classmethod
    def _refuse_unknown_keys(cls, data: object, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Beside what is wrong with the known ones: all of it is said at once."""
        if not isinstance(data, Mapping):
            return handler(data)
        known = {field.alias or name for name, field in cls.model_fields.items()}
        unknown = [key for key in data if key not in known and key not in cls.model_fields]
        if not unknown:
            return _no_number_of_yes(data, handler(data))
        keys = {"keys": [str(key) for key in unknown], "known": sorted(known)}
        problems = [InitErrorDetails(type=PydanticCustomError("unknown_keys", "unknown keys", keys), input=None)]
        try:
            handler({key: value for key, value in data.items() if key not in unknown})
        except ValidationError as error:
            problems += map(_raised_again, error.errors(include_url=False))
        raise ValidationError.from_exception_data(cls.__name__, problems)


def _no_number_of_yes(data: Mapping[Any, Any], section: M) -> M:
    """`rings: yes` is a mistake, though Python counts with truth."""
    for name, field in type(section).model_fields.items():
        given = data.get(field.alias or name, data.get(name))
        if isinstance(given, bool) and type(getattr(section, name)) in (int, float):
            raise error_at((field.alias or name,), "a number is expected")
    return section


def _raised_again(problem: ErrorDetails) -> InitErrorDetails:
    context = {**problem.get("ctx", {}), "text": problem["msg"]}
    kind = PydanticCustomError(problem["type"], "{text}", context)
    return InitErrorDetails(type=kind, loc=problem["loc"], input=problem["input"])


def load(path: Path, model: type[M], overrides: Sequence[Override] = ()) -> M:
    """Read `path` as `model`. Raises `ConfigError` naming file, line and key of everything that is wrong."""
    return parse(text_of(path), model, str(path), directory=path.parent, overrides=overrides)


def text_of(path: Path) -> str:
    """Raises `ConfigError`."""
    try:
        if path.stat().st_size > _LONGEST or not path.is_file():
            raise ConfigError(f"{path}: cannot be read: it is no file, or longer than {_LONGEST // 1_000_000} MB")
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error


_LONGEST = 8_000_000


def parse(
    text: str, model: type[M], name: str, *, directory: Path | None = None, overrides: Sequence[Override] = ()
) -> M:
    """Like `load`, for a text that is already there; `name` stands for the file in messages, and relative paths in it
    start at `directory`."""
    return parse_with_lines(text, model, name, directory=directory, overrides=overrides)[0]


def parse_with_lines(
    text: str, model: type[M], name: str, *, directory: Path | None = None, overrides: Sequence[Override] = ()
) -> tuple[M, Lines]:
    """Also where everything that is not left to its default stands."""
    try:
        document = read(text)
    except YamlTextError as error:
        raise ConfigError(f"{name}:{error.line}: not valid YAML: {error}") from error
    data, lines = document.data, dict[Place, int | str](document.lines)
    if document.twice:
        told = (f"{name}:{line}: {dotted(place)}: key given twice" for place, line in document.twice[:_MOST_TOLD])
        raise ConfigError("\n".join(told))
    if not isinstance(data, dict):
        raise ConfigError(f"{name}:1: a mapping of keys is expected, not {type(data).__name__}")
    texts = _override(data, lines, overrides) if overrides else {}
    context = {"directory": directory or Path()}
    try:
        return model.model_validate(data, context=context), lines
    except ValidationError as error:
        # Text that looks like a number or a truth value needs its quotes in a file; in a variable nobody would think
        # of them.
        bare = {problem["loc"] for problem in error.errors(include_url=False) if problem["type"] in _TEXT_EXPECTED}
        again = [override for place, override in texts.items() if place in bare]
        if not again:
            raise ConfigError("\n".join(_describe(error, lines, name))) from None
    for override in again:
        put(data, override.parts, override.text)
    return _validated(data, lines, model, name, context), lines


_MOST_TOLD = 100
_TEXT_EXPECTED = ("string_type", "path_type")


def _override(
    data: dict[str, Any], lines: dict[Place, int | str], overrides: Sequence[Override]
) -> dict[Place, Override]:
    """What the environment says is in `data` then, and in `lines` by which variable. Those whose value is a plain one,
    by their places."""
    plain: dict[Place, Override] = {}
    problems = []
    for override in overrides:
        try:
            value = read(override.text).data if override.text.strip() else None
            place = put(data, override.parts, value)
        except (YamlTextError, ValueError) as error:
            problems.append(f"environment:{override.variable}: {'.'.join(override.parts)}: {error}")
            continue
        for there in [there for there in lines if there[: len(place)] == place]:
            del lines[there]
        variable = f"environment:{override.variable}"
        lines |= dict.fromkeys([place, *_places(value, place)], variable)
        for end in range(1, len(place)):  # sections that the file does not have
            lines.setdefault(place[:end], variable)
        if value is not None and not isinstance(value, (dict, list)):
            plain[place] = override
    if problems:
        raise ConfigError("\n".join(problems))
    return plain


def validated(data: dict[str, Any], model: type[M], name: str, context: Mapping[str, Any]) -> M:
    """Like `parse`, for what is no file's: without lines."""
    return _validated(data, dict.fromkeys([(), *_places(data, ())], 0), model, name, context)


def _validated(data: dict[str, Any], lines: Lines, model: type[M], name: str, context: Mapping[str, Any]) -> M:
    try:
        return model.model_validate(data, context=dict(context))
    except ValidationError as error:
        raise ConfigError("\n".join(_describe(error, lines, name))) from None


def _places(value: object, place: Place) -> Iterator[Place]:
    """Of all keys and positions below."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for part, each in inner:
        yield (*place, part)
        yield from _places(each, (*place, part))


def beside(name: str, info: ValidationInfo) -> Path:
    """The path of a file that a tenant names, from where the tenant's own is. Raises `ValueError` where it lies outside
    and may not."""
    context = info.context or {}
    path = Path(context.get("directory", ""), name)
    if context.get("confined") and not path.resolve().is_relative_to(Path(context["directory"]).resolve()):
        raise ValueError(f"{name!r} does not lie in the tenants' directory")
    return path


STATE = "SIPBRIDGE_STATE"


def state_directory(beside_file: Path) -> Path:
    """Where relative paths of what the gateway itself writes start: beside sipbridge.yaml, or where the environment
    says, for a configuration that may only be read (a container's)."""
    return Path(os.environ.get(STATE) or beside_file)


def written(path: Path | None, info: ValidationInfo) -> Path | None:
    """A `field_validator` for such a path."""
    return path if path is None else state_directory((info.context or {}).get("directory", Path())) / path


def error_at(place: Place, message: str) -> ValidationError:
    """What a validator of a whole section may raise, to name the key that is wrong."""
    kind = PydanticCustomError("value_error", "{text}", {"text": message})
    return ValidationError.from_exception_data("", [InitErrorDetails(type=kind, loc=place, input=None)])


def located(path: Path, place: Place, message: str) -> str:
    """What is wrong at a place of a file that was loaded before: with its line, or that of what is around it."""
    return located_in(text_of(path), str(path), place, message)


def located_in(text: str, name: str, place: Place, message: str) -> str:
    """The same of a text that was parsed before."""
    lines = read(text).lines
    nearest = next((place[:end] for end in range(len(place), 0, -1) if place[:end] in lines), place)
    return f"{name}:{lines.get(nearest, 1)}: {dotted(place)}: {message}"


def dotted(place: Place) -> str:
    """`("tools", "http", 0, "url")` -> `tools.http[0].url`."""
    text = ""
    for part in place:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text or "(top)"


def _describe(error: ValidationError, lines: Lines, name: str) -> Iterator[str]:
    for problem in error.errors(include_url=False):
        place = _in_document(problem["loc"], lines)
        if problem["type"] == "unknown_keys":
            context: dict[str, Any] = problem["ctx"]
            for key in context["keys"]:
                where = (*place, key)
                near = difflib.get_close_matches(key, context["known"], n=1, cutoff=0.5)
                known = "known are " + ", ".join(context["known"]) if context["known"] else "nothing can be set here"
                hint = f"did you mean {near[0]!r}?" if near else known
                yield f"{_line(name, lines, where)}: {dotted(where)}: unknown key; {hint}"
        else:
            message = _in_plain_words(problem)
            yield f"{_line(name, lines, place)}: {dotted(place)}: {message}"


def _line(name: str, lines: Lines, place: Place) -> str:
    """`FILE:LINE`, or the variable; what has no lines is named alone."""
    nearest = next((place[:end] for end in range(len(place), 0, -1) if place[:end] in lines), place)
    line = lines.get(nearest, 1 if any(lines.values()) or not lines else 0)
    return line if isinstance(line, str) else f"{name}:{line}" if line else name


_EXPECTED = {
    "dict_type": "a mapping (key: value) is expected",
    "model_type": "a mapping (key: value) is expected",
    "tuple_type": "a list is expected",
    "list_type": "a list is expected",
    "string_type": "text is expected; numbers, dates, yes, no, on and off are text in quotes only",
}
"""Instead of pydantic's words, which speak of Python."""


def _in_plain_words(problem: ErrorDetails) -> str:
    message = _EXPECTED.get(problem["type"], problem["msg"].removeprefix("Value error, "))
    if problem["type"] == "literal_error":
        allowed = re.findall(r"'([^']*)'", problem["ctx"]["expected"])
        near = difflib.get_close_matches(str(problem["input"]), allowed, n=1)
        message += f"; did you mean {near[0]!r}?" if near else ""
    return message


def _in_document(location: Place, lines: Lines) -> Place:
    """pydantic's location without what it adds of its own, such as the names of a union's members."""
    place: Place = ()
    for part in location:
        if (*place, part) in lines:
            place = (*place, part)
        elif (*place, str(part)) in lines:  # a key that is a number
            place = (*place, str(part))
    if location and location[-1] == "[key]":  # it is the key itself that is wrong
        return place
    missing = location[-1] if location else None
    return (*place, missing) if isinstance(missing, str) and location[:-1] == place else place
