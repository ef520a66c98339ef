"""What the figures are turned into, and that they go where they belong and nowhere else."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from bench import report
from bench.chart import marks, svg
from bench.measurements import MEASUREMENTS
from bench.results import Chart, Line, Row, Table

_CHART = Chart("cost", "Cost & load", "calls", "%", (Line("a", ((1.0, 2.0), (10.0, 20.0))),), limit=15.0)
_DOCUMENT = "Before.\n\n<!-- measured: one -->\nold\n<!-- end -->\n\nBetween.\n\n<!-- measured: two -->\n<!-- end -->\n"


def test_each_kind_of_finding_has_its_markdown() -> None:
    text = report.markdown(
        [Row("gap", "<= 22 ms", "20.1 ms", True), Table("load", ("calls", "CPU"), (("1", "0.5"),)), _CHART]
    )
    assert "| gap | <= 22 ms | 20.1 ms | met |" in text
    assert "**load**\n\n| calls | CPU |\n|---|---|\n| 1 | 0.5 |" in text
    assert "![Cost & load](plots/cost.svg)" in text


def test_a_missed_target_is_said() -> None:
    assert report.row_line(Row("gap", "<= 22 ms", "25 ms", False)).endswith("| **missed** |")
    assert report.row_line(Row("gap", "", "25 ms")).endswith("| 25 ms |  |")


def test_only_the_place_of_the_measurement_is_written(tmp_path: Path) -> None:
    document = tmp_path / "performance.md"
    document.write_text(_DOCUMENT)
    report.write("one", [Row("gap", "", "20 ms"), _CHART], "today", document)
    text = document.read_text()
    assert text.startswith("Before.\n\n<!-- measured: one -->\n\n*today*\n")
    assert "old" not in text
    assert text.endswith(_DOCUMENT.partition("old\n")[2])
    assert (tmp_path / "plots" / "cost.svg").exists()


def test_a_measurement_without_a_place_is_said() -> None:
    with pytest.raises(ValueError, match="0 places for the measurement three"):
        report.placed(_DOCUMENT, "three", "")


def test_every_measurement_has_its_place() -> None:
    text = report.DOCUMENT.read_text()
    for name in MEASUREMENTS:
        report.placed(text, name, "")


def test_a_chart_is_drawing() -> None:
    root = ElementTree.fromstring(svg(_CHART))
    [curve] = root.iter("{http://www.w3.org/2000/svg}polyline")
    places = [tuple(map(float, place.split(","))) for place in curve.attrib["points"].split()]
    assert places[0][0] < places[1][0]
    assert places[0][1] > places[1][1]  # upwards is less


def test_axes_have_round_numbers() -> None:
    assert marks(0, 97) == [0, 20, 40, 60, 80, 100]
    assert marks(-120, 5)[0] <= -120
    assert marks(0, 0)[0] == 0
