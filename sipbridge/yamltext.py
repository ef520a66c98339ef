"""YAML as text: what it says, and in which line each key stands. Pure.

A text is a stranger's, or slipped from somebody's hand: it must not take more time and memory than its length, however
deep it is nested and however often its aliases repeat what they stand for.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import yaml

Place: TypeAlias = tuple[str | int, ...]
"""Where in the document: keys and list positions, from the root."""

_Loader: type[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""Ten times as fast, where PyYAML was built with it."""
_DEEPEST = 100
"""Composing is recursive, and in C nothing stops it but the stack's end."""
_LONGEST_SLOW = 100_000
"""Above it a fault is told in the fast loader's words, which are the poorer ones."""
_LONGEST_NUMBER = 400
_MOST = 200_000
"""Values with what aliases repeat, a long text counting for several."""
_OF_ONE = 256
"""Characters that count for one."""


class YamlTextError(Exception):
    def __init__(self, line: int, words: str) -> None:
        super().__init__(words)
        self.line = line


@dataclass(frozen=True, slots=True)
class Document:
    data: Any
    """`{}` where there is nothing."""
    root: yaml.Node | None
    """The same as it is written."""
    lines: dict[Place, int]
    """Of every key and position. Where `<<` merges a mapping, its keys have the lines that they were written in."""
    twice: list[tuple[Place, int]]
    """Keys that stand there already."""


def read(text: str) -> Document:
    """Raises `YamlTextError`."""
    try:
        _bounded(text)
        root, data = _loaded(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        words = error.problem or error.context or "something is missing"
        raise YamlTextError(mark.line + 1 if mark else 1, words) from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1 if isinstance(error.position, int) else 1
        raise YamlTextError(line, f"a character that cannot be: {error.reason}") from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise YamlTextError(1, str(error)) from error
    lines: dict[Place, int] = {}
    twice = [] if root is None else list(_walk(root, (), lines))
    return Document(data, root, lines, twice)


def _bounded(text: str) -> None:
    """Look at the whole of it before anything is made of it. Raises `yaml.YAMLError`, in good words where it is not
    too long to be read slowly."""
    try:
        _look(yaml.parse(text, _Loader))
    except yaml.MarkedYAMLError as error:
        if isinstance(error, _Refused) or len(text) > _LONGEST_SLOW or _Loader is yaml.SafeLoader:
            raise
        _look(yaml.parse(text, yaml.SafeLoader))
        raise


class _Refused(yaml.MarkedYAMLError):
    """By us."""


def _look(events: Iterator[Any]) -> None:
    weights: dict[str, int] = {}
    """Of each anchor's value, aliases in it counted as what they stand for."""
    around: list[tuple[str | None, int]] = [(None, 0)]
    """Anchor and weight so far of each collection that has not ended."""
    for event in events:
        weight, anchor = 0, getattr(event, "anchor", None)
        match event:
            case yaml.CollectionStartEvent():
                around.append((anchor, 1))
                if len(around) > _DEEPEST + 1:
                    raise _refused(event, "it is nested too deeply")
                continue
            case yaml.CollectionEndEvent():
                anchor, weight = around.pop()
            case yaml.AliasEvent():
                if any(anchor == outer for outer, _ in around):
                    raise _refused(event, f"*{anchor} is an alias of what it stands in")
                weight, anchor = weights.get(anchor or "", 1), None
            case yaml.ScalarEvent(value=value):
                weight = 1 + len(value) // _OF_ONE
                if event.implicit[0] and len(value) > _LONGEST_NUMBER and re.fullmatch(r"[-+]?[0-9_.:]+", value):
                    raise _refused(event, "too long a number; text stands in quotes")
        if anchor is not None:
            weights[anchor] = weight
        outer, so_far = around[-1]
        around[-1] = (outer, so_far + weight)
        if so_far + weight > _MOST:
            raise _refused(event, "there is too much in it, with what its aliases repeat")


def _refused(event: Any, words: str) -> _Refused:
    return _Refused(problem=words, problem_mark=event.start_mark)


def _loaded(text: str) -> tuple[yaml.Node | None, Any]:
    loader = _Loader(text)
    try:
        root = loader.get_single_node()
        if root is None:
            return None, {}
        # Constructing flattens what `<<` merges into the nodes themselves, and the lines are those of the file.
        try:
            return yaml.compose(text, Loader=_Loader), loader.construct_document(root)
        except ValueError as error:
            raise _of_value(root, error) from error
    finally:
        loader.dispose()


def _of_value(root: yaml.Node, error: ValueError) -> yaml.YAMLError:
    """Which of the values is it that looks like a date or a number, and is none?"""
    waiting = [root]
    while waiting:
        node = waiting.pop()
        if isinstance(node, yaml.ScalarNode):
            try:
                yaml.SafeLoader("").construct_object(node)
            except ValueError as fault:
                return yaml.MarkedYAMLError(problem=f"{node.value[:40]!r}: {fault}", problem_mark=node.start_mark)
        elif isinstance(node, yaml.SequenceNode):
            waiting.extend(node.value)
        elif isinstance(node, yaml.MappingNode):
            waiting.extend(each for pair in node.value for each in pair)
    return yaml.YAMLError(str(error))


def _walk(node: yaml.Node, place: Place, lines: dict[Place, int]) -> Iterator[tuple[Place, int]]:
    """Note the line of every key below `node`; yield those that stand twice."""
    if isinstance(node, yaml.MappingNode):
        merged = []
        for key, value in node.value:
            here = (*place, str(key.value))
            line = key.start_mark.line + 1
            if here in lines:
                yield here, line
            lines[here] = line
            if key.tag == "tag:yaml.org,2002:merge":
                merged.append(value)
            else:
                yield from _walk(value, here, lines)
        for value in merged:
            _note_merged(value, place, lines)
    elif isinstance(node, yaml.SequenceNode):
        for position, value in enumerate(node.value):
            lines[(*place, position)] = value.start_mark.line + 1
            yield from _walk(value, (*place, position), lines)


def _note_merged(node: yaml.Node, place: Place, lines: dict[Place, int]) -> None:
    """What is written beside `<<` counts, and of several that are merged the first."""
    for each in node.value if isinstance(node, yaml.SequenceNode) else [node]:
        within: dict[Place, int] = {}
        list(_walk(each, place, within))
        for here, line in within.items():
            lines.setdefault(here, line)
