"""Templates of what is asked over HTTP: a URL, in which every value is percent-encoded, and a body of JSON.

`arguments` are the model's, `call` and `header` the same as in instructions. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from jinja2 import StrictUndefined, Template, TemplateError, Undefined, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

from sipbridge.call_templates import named_of, unknown_of_call

NAMES = frozenset({"arguments", "call", "header"})


class TemplateFault(ValueError):
    """It cannot be filled in with these values; the message is for the model."""


def _percent_encoded(value: object) -> str:
    text = str(value).lower() if isinstance(value, bool) else "" if value is None else str(value)
    return quote(text, safe="")


_URL = ImmutableSandboxedEnvironment(undefined=StrictUndefined, autoescape=False, finalize=_percent_encoded)
_JSON = ImmutableSandboxedEnvironment(undefined=StrictUndefined, autoescape=False)


def faults(text: str, known: Collection[str]) -> Iterator[str]:
    """What is wrong with a template, where the arguments have these names."""
    try:
        tree = _JSON.parse(text)
    except TemplateError as error:
        yield f"not a valid template: {error}"
        return
    for name in tree.find_all(nodes.Name):
        if name.ctx == "load" and name.name not in NAMES:
            yield f"unknown name {name.name!r}; 'arguments', 'call' and 'header' exist"
    yield from unknown_of_call(tree)
    for argument in sorted(named_of(tree, "arguments") - set(known)):
        yield f"arguments.{argument}: parameters has no such property"


def fill_url(text: str, values: Mapping[str, Any]) -> str:
    """Raises `TemplateFault` where a value is missing, or would lead to another place than the template says."""
    try:
        url = _filled(_URL, text, values)
    except UnicodeEncodeError:
        raise TemplateFault("a value is no text") from None
    path, template = urlsplit(url).path, urlsplit(text).path
    # "." and ".." are never percent-encoded, and mean the same if they are (RFC 3986 §5.2.4, WHATWG URL); many servers
    # take %2F and %5C for the slashes that they stand for.
    if _climbs(path) and not _climbs(template):
        raise TemplateFault("'.' and '..' are no values for a path")
    if any(part.startswith("{{") for part in template.split("/")) and "//" in f"{path}/" and "default" not in template:
        raise TemplateFault("an empty text is no value for a path")  # /orders/ is not one order but all of them
    return url


def _climbs(path: str) -> bool:
    return any(part in (".", "..") for part in re.split(r"[/\\]", unquote(path)))


def fill_json(value: object, values: Mapping[str, Any]) -> Any:
    """The same value with its texts filled in. A text that is one expression keeps the type of what it stands for."""
    if isinstance(value, str):
        return _filled_value(value, values) if "{" in value else value
    if isinstance(value, dict):
        return {key: fill_json(inner, values) for key, inner in value.items()}
    if isinstance(value, list):
        return [fill_json(inner, values) for inner in value]
    return value


def arguments_in(text: str) -> frozenset[str]:
    """The arguments that a template names."""
    return named_of(_JSON.parse(text), "arguments")


def _filled_value(text: str, values: Mapping[str, Any]) -> Any:
    inner = text.strip().removeprefix("{{").removesuffix("}}")
    if len(inner) != len(text.strip()) - 4 or "{{" in inner:
        return _filled(_JSON, text, values)
    try:
        value = _expression(inner.strip())(**values)
    except TemplateError as error:
        raise TemplateFault(f"a value is missing: {error}") from None
    if isinstance(value, Undefined):
        raise TemplateFault(f"a value is missing: {inner.strip()}")
    return value


@lru_cache(maxsize=256)
def _compiled(environment: ImmutableSandboxedEnvironment, text: str) -> Template:
    return environment.from_string(text)


@lru_cache(maxsize=256)
def _expression(text: str) -> Any:
    return _JSON.compile_expression(text, undefined_to_none=False)


def _filled(environment: ImmutableSandboxedEnvironment, text: str, values: Mapping[str, Any]) -> str:
    try:
        return _compiled(environment, text).render(**values)
    except TemplateError as error:
        raise TemplateFault(f"a value is missing: {error}") from None
