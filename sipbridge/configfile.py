"""YAML files whose errors name file, line and key.

`load(path, Model)` parses one file into a pydantic model. What is wrong with it is collected, each with its place, and
raised as one `ConfigError`: syntax errors, keys given twice, unknown keys (with the nearest known one) and values that
do not fit. Nothing here knows what the keys mean.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar

import yaml
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

Place = tuple[str | int, ...]
"""Where in the document: keys and list positions, from the root."""

M = TypeVar("M", bound="Section")


def _as_list(value: object) -> object:
    if not isinstance(value, (str, list, tuple)):
        raise ValueError("text, or a list of texts, is expected; a number is text in quotes only")
    return [value] if isinstance(value, str) else value


Patterns = Annotated[tuple[str, ...], BeforeValidator(_as_list)]
"""One text or several."""


class Section(BaseModel):
    """A mapping of the configuration: unknown keys are refused, values never change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

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


def load(path: Path, model: type[M]) -> M:
    """Read `path` as `model`. Raises `ConfigError` naming file, line and key of everything that is wrong."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    return parse(text, model, str(path), directory=path.parent)


def parse(text: str, model: type[M], name: str, *, directory: Path | None = None) -> M:
    """Like `load`, for a text that is already there; `name` stands for the file in messages, and relative paths in it
    start at `directory`."""
    try:
        root, data = read_document(text)
        lines: dict[Place, int] = {}
        twice = [] if root is None else list(_walk(root, (), lines))
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigError(f"{name}:{line}: not valid YAML: {error.problem or error.context}") from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise ConfigError(f"{name}:1: not valid YAML: {error}") from error
    if twice:
        raise ConfigError("\n".join(f"{name}:{line}: {dotted(place)}: key given twice" for place, line in twice))
    if not isinstance(data, dict):
        raise ConfigError(f"{name}:1: a mapping of keys is expected, not {type(data).__name__}")
    return _validated(data, lines, model, name, {"directory": directory or Path()})


def validated(data: dict[str, Any], model: type[M], name: str, context: Mapping[str, Any]) -> M:
    """Like `parse`, for what is no file's: without lines."""
    return _validated(data, dict.fromkeys([(), *_places(data, ())], 0), model, name, context)


def _validated(
    data: dict[str, Any], lines: Mapping[Place, int], model: type[M], name: str, context: Mapping[str, Any]
) -> M:
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


_CLoader: type[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""Ten times as fast, where PyYAML was built with it."""
_DEEPEST = 100
_LONGEST_SLOW = 100_000
"""Above it a fault is told in the fast loader's words, which are the poorer ones."""


def read_document(text: str) -> tuple[yaml.Node | None, Any]:
    """The document as nodes, and what it says. Raises `yaml.YAMLError`, `RecursionError`, `ValueError`."""
    try:
        depth = 0
        for event in yaml.parse(
            text, _CLoader
        ):  # composing is recursive, and in C nothing stops it but the stack's end
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > _DEEPEST:
                mark: Any = event.start_mark
                raise yaml.MarkedYAMLError(problem="it is nested too deeply", problem_mark=mark)
        return _loaded(text, _CLoader)
    except yaml.MarkedYAMLError:
        if len(text) > _LONGEST_SLOW or _CLoader is yaml.SafeLoader or depth > _DEEPEST:
            raise
        return _loaded(text, yaml.SafeLoader)


def _loaded(text: str, kind: type[yaml.SafeLoader]) -> tuple[yaml.Node | None, Any]:
    loader = kind(text)
    try:
        root = loader.get_single_node()
        if root is None:
            return None, {}
        # Constructing flattens what `<<` merges into the nodes themselves, and the lines are those of the file.
        return yaml.compose(text, Loader=kind), loader.construct_document(root)
    finally:
        loader.dispose()


def error_at(place: Place, message: str) -> ValidationError:
    """What a validator of a whole section may raise, to name the key that is wrong."""
    kind = PydanticCustomError("value_error", "{text}", {"text": message})
    return ValidationError.from_exception_data("", [InitErrorDetails(type=kind, loc=place, input=None)])


def located(path: Path, place: Place, message: str) -> str:
    """What is wrong at a place of a file that was loaded before: with its line, or that of what is around it."""
    return located_in(path.read_text(encoding="utf-8"), str(path), place, message)


def located_in(text: str, name: str, place: Place, message: str) -> str:
    """The same of a text that was parsed before."""
    lines: dict[Place, int] = {}
    root, _ = read_document(text)
    if root is not None:
        list(_walk(root, (), lines))
    nearest = next((place[:end] for end in range(len(place), 0, -1) if place[:end] in lines), place)
    return f"{name}:{lines.get(nearest, 1)}: {dotted(place)}: {message}"


def shown(section: Section) -> str:
    """The section as YAML, with its defaults. A type that is no plain value is written as `str` has it; what is secret
    by its key's name alone (in sections that this version only accepts, in `extra`) is not written."""
    return yaml.safe_dump(
        _plain(section.model_dump(by_alias=True, warnings=False)), sort_keys=False, allow_unicode=True, width=120
    )


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        # What is None was left out, or is left out by saying so: a tool that is not there is not `hang_up:`.
        return {str(key): _hidden(str(key), _plain(inner)) for key, inner in value.items() if inner is not None}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(inner) for inner in value]
    return value if isinstance(value, (str, int, float, bool)) else str(value)


def _hidden(key: str, value: object) -> object:
    if not isinstance(value, str) or value.startswith("file:") or "${" in value:
        return value
    secret = re.search(r"secret|token|password|api_?key|authorization", key, re.IGNORECASE)
    return "***" if secret else re.sub(r"//[^/@\s]*@", "//***@", value)


def dotted(place: Place) -> str:
    """`("tools", "http", 0, "url")` -> `tools.http[0].url`."""
    text = ""
    for part in place:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text or "(top)"


def _walk(node: yaml.Node, place: Place, lines: dict[Place, int]) -> Iterator[tuple[Place, int]]:
    """Note the line of every key below `node`; yield those that stand twice."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            here = (*place, str(key.value))
            line = key.start_mark.line + 1
            if here in lines:
                yield here, line
            lines[here] = line
            yield from _walk(value, here, lines)
    elif isinstance(node, yaml.SequenceNode):
        for position, value in enumerate(node.value):
            lines[(*place, position)] = value.start_mark.line + 1
            yield from _walk(value, (*place, position), lines)


def _describe(error: ValidationError, lines: Mapping[Place, int], name: str) -> Iterator[str]:
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
            nearest = next((place[:end] for end in range(len(place), 0, -1) if place[:end] in lines), place)
            yield f"{_line(name, lines, nearest)}: {dotted(place)}: {message}"


def _line(name: str, lines: Mapping[Place, int], place: Place) -> str:
    """`FILE:LINE`; what has no lines is named alone."""
    line = lines.get(place, 1 if any(lines.values()) or not lines else 0)
    return f"{name}:{line}" if line else name


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


def _in_document(location: Place, lines: Mapping[Place, int]) -> Place:
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
