"""Findings as Markdown: printed, and written into `docs/performance.md`, where each measurement has a place of its own
between two comments. What stands around those places is nobody's but the writer's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from bench.chart import svg
from bench.results import Chart, Finding, Row, Table

DOCUMENT = Path(__file__).parents[1] / "docs" / "performance.md"
_CHARTS = "plots"
_HEAD = "| figure | target | measured | |\n|---|---|---|---|"


def markdown(findings: Iterable[Finding]) -> str:
    """Rows first, then tables, then curves."""
    findings = list(findings)
    rows = [finding for finding in findings if isinstance(finding, Row)]
    parts = ["\n".join([_HEAD, *map(row_line, rows)])] if rows else []
    parts += [_table(finding) for finding in findings if isinstance(finding, Table)]
    parts += [f"![{chart.title}]({_CHARTS}/{chart.name}.svg)" for chart in findings if isinstance(chart, Chart)]
    return "\n\n".join(parts)


def row_line(row: Row) -> str:
    verdict = {True: "met", False: "**missed**", None: ""}[row.met]
    return f"| {row.figure} | {row.target} | {row.measured} | {verdict} |"


def _table(table: Table) -> str:
    rule = "|" + "---|" * len(table.columns)
    return "\n".join([f"**{table.title}**", "", _line(table.columns), rule, *(_line(line) for line in table.lines)])


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def write(name: str, findings: Iterable[Finding], circumstances: str, document: Path = DOCUMENT) -> None:
    """Into the place of that measurement; its charts beside the document.

    Raises ValueError where the document has no such place.
    """
    findings = list(findings)
    text = document.read_text(encoding="utf-8")
    changed = placed(text, name, f"*{circumstances}*\n\n{markdown(findings)}")
    document.write_text(changed, encoding="utf-8")
    for chart in findings:
        if isinstance(chart, Chart):
            path = document.parent / _CHARTS / f"{chart.name}.svg"
            path.parent.mkdir(exist_ok=True)
            path.write_text(svg(chart), encoding="utf-8")


def placed(text: str, name: str, block: str) -> str:
    begin, end = f"<!-- measured: {name} -->", "<!-- end -->"
    pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    changed, count = pattern.subn(lambda _: f"{begin}\n\n{block}\n\n{end}", text)
    if count != 1:
        raise ValueError(f"{count} places for the measurement {name}")
    return changed
