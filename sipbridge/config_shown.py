"""`sipbridge config show`: every value that is in force, as YAML, and where each comes from. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from sipbridge.configfile import Lines, Section
from sipbridge.yamltext import Place

_NOTHING = "\x00nothing"
"""Stands where a value is null until its line is made a comment: to be there at all means something for some keys."""


def shown(section: Section, name: str = "", lines: Lines | None = None) -> str:
    """The section as YAML, with its defaults. With the `lines` of the file `name` each value says where it is from.

    A type that is no plain value is written as `str` has it; what is secret by its key's name alone (in sections that
    this version only accepts, in `extra`) is not written.
    """
    plain = _plain(section.model_dump(by_alias=True, warnings=False))
    text = yaml.dump(plain, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10**9)
    comments = dict(_comments(yaml.compose(text, Loader=yaml.SafeLoader), (), name, lines))
    return "".join(_commented(line, comments.get(number)) for number, line in enumerate(text.splitlines(keepends=True)))


class _Dumper(yaml.SafeDumper):
    """Text of several lines stands as such."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


def _comments(node: yaml.Node | None, place: Place, name: str, lines: Lines | None) -> Iterator[tuple[int, str]]:
    """(line of the text, where its value is from) of everything that is no section."""
    if isinstance(node, yaml.MappingNode) and node.value:
        for key, value in node.value:
            yield from _comment(key.start_mark.line, value, (*place, key.value), name, lines)
    elif isinstance(node, yaml.SequenceNode) and node.value:
        for position, value in enumerate(node.value):
            yield from _comment(value.start_mark.line, value, (*place, position), name, lines)


def _comment(line: int, value: yaml.Node, place: Place, name: str, lines: Lines | None) -> Iterator[tuple[int, str]]:
    if isinstance(value, yaml.CollectionNode) and value.value:
        yield from _comments(value, place, name, lines)
    elif lines is not None:
        yield line, _source(place, name, lines)


def _source(place: Place, name: str, lines: Lines) -> str:
    """Where it stands; one text that is a list by itself stands where the list is."""
    if isinstance(place[-1], int) and place not in lines and not any(there[:-1] == place[:-1] for there in lines):
        place = place[:-1]
    if place not in lines:
        return "default"
    line = lines[place]
    return line if isinstance(line, str) else f"{name}:{line}"


def _commented(line: str, comment: str | None) -> str:
    bare = line.rstrip("\n")
    if _MARK.search(bare):
        indent = len(bare) - len(bare.lstrip())
        head = "- " if bare.lstrip().startswith("- ") else ""
        bare = f"{' ' * indent}{head}# {_MARK.sub('null', bare.lstrip().removeprefix('- '))}"
        return f"{bare}  ({comment})\n" if comment else f"{bare}\n"
    return f"{bare}  # {comment}\n" if comment else f"{bare}\n"


_MARK = re.compile(r'"\\0nothing"')


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        found = {str(key): _hidden(str(key), _plain(inner)) for key, inner in value.items()}
        # A section where nothing is set is written as one.
        return {} if found and all(inner == _NOTHING for inner in found.values()) else found
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(inner) for inner in value]
    if value is None:
        return _NOTHING
    return value if isinstance(value, (str, int, float, bool)) else str(value)


def _hidden(key: str, value: object) -> object:
    if not isinstance(value, str) or value == _NOTHING or value.startswith("file:") or "${" in value:
        return value
    secret = re.search(r"secret|token|password|api_?key|authorization", key, re.IGNORECASE)
    return "***" if secret else re.sub(r"//[^/@\s]*@", "//***@", value)
