"""Texts of a tenant's with what is known of a call filled in: instructions, greetings. Pure, but for a line in the log.

`call` has the names of `CALL`, `header` the call's header fields. What a text names beside that is found when the file
is read (`faults`); what a call lacks is left out when it is filled in, for a caller is never to hear `{{ ... }}`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from functools import lru_cache
from typing import Any

import structlog
from jinja2 import StrictUndefined, Template, TemplateError, Undefined, meta, nodes
from jinja2.filters import do_default
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

log = structlog.get_logger(__name__)

CALL = (
    "from", "to", "id", "trunk", "machine", "display", "asserted", "diversion", "history", "dialled", "verstat",
    "referred_by", "privacy",
)  # fmt: skip
"""What a template may name of `call`; see docs/configuration.md."""

_MOST = 10_000
"""Characters, or a number's size, that one multiplication makes."""


def _or_default(value: Any, default_value: Any = "", boolean: bool = True) -> Any:
    """What a call lacks is mostly empty, not undefined: a default stands in for that, too."""
    return do_default(value, default_value, boolean)


class _Environment(ImmutableSandboxedEnvironment):
    """Texts are filled in where the calls' sound lives: what could take long there is not to be had."""

    intercepted_binops = frozenset(("*", "**", "%"))  # which also keeps them from being computed while compiling

    def __init__(self, undefined: type[Undefined]) -> None:
        super().__init__(undefined=undefined, autoescape=False, keep_trailing_newline=True)
        self.globals.clear()
        for name in ("batch", "center", "format", "indent", "slice"):  # a few characters make as many as they like
            del self.filters[name]
        self.filters["default"] = self.filters["d"] = _or_default

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        numbers = [abs(each) for each in (left, right) if isinstance(each, (int, float))]
        long = max((len(each) for each in (left, right) if hasattr(each, "__len__")), default=0)
        if max(numbers, default=0) > _MOST or (operator == "**" and max(numbers, default=0) > 100):
            raise ValueError(f"too large a number for {operator}")
        if long and (operator != "*" or long * max(numbers, default=0) > _MOST):
            raise ValueError(f"too long a text for {operator}")
        return super().call_binop(context, operator, left, right)


_STRICT, _LENIENT = _Environment(StrictUndefined), _Environment(Undefined)
_CONSTRUCT = re.compile(r"\{[{%#].*?[}%#]\}", re.DOTALL)


def render(text: str, names: Mapping[str, Any], call_id: str) -> str:
    """Never raises: what this call lacks, or cannot be computed of it, is left out."""
    if "{" not in text:
        return text
    for environment in (_STRICT, _LENIENT):
        try:
            return _compiled(environment, text).render(**names)
        except Exception as error:  # a template computes: whatever an expression may raise
            log.warning("template not filled in", error=str(error), call_id=call_id)
    return _CONSTRUCT.sub("", text)


@lru_cache(maxsize=512)
def _compiled(environment: ImmutableSandboxedEnvironment, text: str) -> Template:
    """Compiling takes longer than everything else that setting up a call does, and leaves a circle of objects."""
    return environment.from_string(text)


def faults(text: str) -> Iterator[str]:
    """What is wrong with it for every call."""
    try:
        tree = _STRICT.parse(text)
        if any(loop.recursive or loop.find(nodes.For) for loop in tree.find_all(nodes.For)):
            yield "a loop in a loop may take too long"
            return
        if tree.find(nodes.Macro) or tree.find(nodes.CallBlock):
            yield "macros are not known here"
            return
        unknown = sorted(meta.find_undeclared_variables(tree) - {"call", "header"})
    except TemplateError as error:
        yield f"not a valid template: {error}"
        return
    if unknown:
        yield f"unknown names {', '.join(unknown)}; 'call' and 'header' exist"
    yield from unknown_of_call(tree)
    for name in sorted(set(_lacking(tree, frozenset()))):
        yield f'{name}: a call may come without it; give a default: {{{{ {name} | default("unknown") }}}}'


def _lacking(node: nodes.Node, sure: frozenset[str]) -> Iterator[str]:
    """The header fields that a text takes for granted: named without a default (or another value, `or`), and not looked
    for before (`sure`)."""
    if (name := _header(node)) is not None:
        if name not in sure:
            yield name
        return
    children = list(node.iter_child_nodes())
    if (isinstance(node, nodes.Filter) and node.name in ("default", "d")) or isinstance(node, nodes.Test):
        children.remove(node.node)  # type: ignore[arg-type]
    elif isinstance(node, nodes.If | nodes.CondExpr):
        children.remove(node.test)
        sure |= _headers(node.test)
    elif isinstance(node, nodes.And | nodes.Or):
        children.remove(node.left)
        sure |= _headers(node.left)
    for child in children:
        yield from _lacking(child, sure)


def _headers(node: nodes.Node) -> frozenset[str]:
    """Those that an expression looks for."""
    whole = [node, *node.find_all((nodes.Getattr, nodes.Getitem))]
    return frozenset(name for each in whole if (name := _header(each)) is not None)


def _header(node: nodes.Node) -> str | None:
    """As people write it, if that is what it is."""
    if not isinstance(node, nodes.Getattr | nodes.Getitem):
        return None
    if not isinstance(node.node, nodes.Name) or node.node.name != "header":
        return None
    if isinstance(node, nodes.Getattr):
        return None if node.attr in dir(dict) else f"header.{node.attr}"  # header.get("X", "")
    key = getattr(node.arg, "value", None)
    return f'header["{key}"]' if isinstance(key, str) else "header[...]"


def unknown_of_call(tree: nodes.Template) -> Iterator[str]:
    """Names of `call` that no call has."""
    for name in sorted(named_of(tree, "call") - set(CALL)):
        near = get_close_matches(name, CALL, n=1)
        yield f"call.{name}: " + (f"did you mean 'call.{near[0]}'?" if near else f"call has {', '.join(sorted(CALL))}")


def named_of(tree: nodes.Template, whole: str) -> frozenset[str]:
    """The parts of `whole` that a template names, as attributes or by a literal key."""
    found: set[str] = set()
    accesses: list[nodes.Getattr | nodes.Getitem] = [*tree.find_all(nodes.Getattr), *tree.find_all(nodes.Getitem)]
    for access in accesses:
        if isinstance(access.node, nodes.Name) and access.node.name == whole:
            name = access.attr if isinstance(access, nodes.Getattr) else getattr(access.arg, "value", None)
            found |= {name} if isinstance(name, str) else set()
    return frozenset(found)
