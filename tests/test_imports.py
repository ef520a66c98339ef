"""The import rules of docs/architecture.md: which package may know which, and who does no I/O and keeps no time."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "sipbridge"
OUTSIDE = {"asyncio", "socket", "ssl", "time", "random"}
KNOWS = {
    "sip": {"errors", "sip"},
    "codecs": {"errors", "audio", "codecs"},
    "media": {"errors", "audio", "codecs", "media"},
}


def imported(path: Path) -> set[str]:
    """Modules that a file imports, but for those that only its types need, and those imported at first use."""
    found: set[str] = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def adapters(folder: str) -> set[str]:
    """The files of a folder that the tree marks with a dot: they do I/O or keep time."""
    _, *sections = re.split(r"^  (\w+)/ ", (ROOT / "docs" / "architecture.md").read_text(), flags=re.MULTILINE)
    lines = dict(zip(sections[::2], sections[1::2], strict=True))[folder].splitlines()
    return {name for line in lines if "●" in line for name in re.findall(r"\w+\.py", line.partition("●")[0])}


def modules(folder: str) -> Iterator[Path]:
    return (PACKAGE / folder).rglob("*.py")


@pytest.mark.parametrize("folder", KNOWS)
def test_a_package_knows_only_what_is_below_it(folder: str) -> None:
    wrong = [
        (str(path.relative_to(PACKAGE)), name)
        for path in modules(folder)
        for name in imported(path)
        if name.startswith("sipbridge.") and name.split(".")[1] not in KNOWS[folder]
    ]
    assert wrong == []


@pytest.mark.parametrize("folder", ["sip", "media"])
def test_only_adapters_touch_the_outside(folder: str) -> None:
    assert adapters(folder)
    touching = {path.name for path in modules(folder) if {name.split(".")[0] for name in imported(path)} & OUTSIDE}
    assert touching - adapters(folder) == set()
