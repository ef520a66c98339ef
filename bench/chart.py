"""Curves as SVG, without a library: axes with round numbers, a legend, nothing else. Pure."""

from __future__ import annotations

from html import escape
from math import ceil, floor, log10

from bench.results import Chart, Line

_WIDTH, _HEIGHT = 720, 360
_LEFT, _RIGHT, _TOP, _BOTTOM = 60, 16, 34, 44
_COLOURS = ("#1f6fb4", "#d1592a", "#2a8a4a", "#8250a8", "#a07818", "#4a4a4a", "#b03060", "#208890")
_DASHES = ("", "7 3", "2 3", "9 3 2 3")


def svg(chart: Chart) -> str:
    xs = [x for line in chart.lines for x, _ in line.points]
    ys = [y for line in chart.lines for _, y in line.points]
    x_marks = marks(min(0.0, *xs), max(xs))
    low, high = chart.y_range or (0.0, max(*ys, chart.limit or 0.0) * 1.02)
    y_marks = marks(low, high)
    frame = _Frame(x_marks[0], max(xs), y_marks[0], y_marks[-1])
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif"'
        ' font-size="12">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
        _text(_LEFT, 20, chart.title, size=14),
        *_grid(frame, x_marks, y_marks),
        _text((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 8, chart.x_label, anchor="middle"),
        f'<g transform="translate(14 {(_TOP + _HEIGHT - _BOTTOM) / 2}) rotate(-90)">'
        + _text(0, 0, chart.y_label, anchor="middle")
        + "</g>",
    ]
    if chart.limit is not None:
        y = frame.y(chart.limit)
        ends = f'x1="{_LEFT}" y1="{y:.1f}" x2="{_WIDTH - _RIGHT}" y2="{y:.1f}"'
        parts.append(f'<line {ends} stroke="#c00" stroke-dasharray="4 3"/>')
    for number, line in enumerate(chart.lines):
        parts += _curve(frame, line, number)
    return "\n".join([*parts, "</svg>", ""])


def marks(low: float, high: float) -> list[float]:
    """Round numbers, about six, from at most `low` to at least `high`."""
    rough = max(high - low, 1e-9) / 6
    unit: float = 10 ** floor(log10(rough))
    step = next(unit * factor for factor in (1, 2, 2.5, 5, 10) if unit * factor >= rough * 0.999)
    return [step * n for n in range(floor(low / step), ceil(high / step - 1e-9) + 1)]


class _Frame:
    """Values -> places on the paper. What is above or below lies on the edge."""

    def __init__(self, left: float, right: float, bottom: float, top: float) -> None:
        self._left, self._bottom, self._top = left, bottom, top
        self._across = (_WIDTH - _LEFT - _RIGHT) / ((right - left) or 1)
        self._up = (_HEIGHT - _TOP - _BOTTOM) / ((top - bottom) or 1)

    def x(self, value: float) -> float:
        return _LEFT + (value - self._left) * self._across

    def y(self, value: float) -> float:
        return _HEIGHT - _BOTTOM - (min(max(value, self._bottom), self._top) - self._bottom) * self._up


def _grid(frame: _Frame, x_marks: list[float], y_marks: list[float]) -> list[str]:
    parts = []
    for value in y_marks:
        y = frame.y(value)
        parts.append(f'<line x1="{_LEFT}" y1="{y:.1f}" x2="{_WIDTH - _RIGHT}" y2="{y:.1f}" stroke="#ddd"/>')
        parts.append(_text(_LEFT - 6, y + 4, f"{value:g}", anchor="end"))
    for value in x_marks:
        x = frame.x(value)
        if x <= _WIDTH - _RIGHT + 0.5:
            parts.append(f'<line x1="{x:.1f}" y1="{_TOP}" x2="{x:.1f}" y2="{_HEIGHT - _BOTTOM}" stroke="#eee"/>')
            parts.append(_text(x, _HEIGHT - _BOTTOM + 16, f"{value:g}", anchor="middle"))
    return parts


def _curve(frame: _Frame, line: Line, number: int) -> list[str]:
    colour, dash = _COLOURS[number % len(_COLOURS)], _DASHES[number // len(_COLOURS) % len(_DASHES)]
    places = [(frame.x(x), frame.y(y)) for x, y in line.points]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    dashes = f' stroke-dasharray="{dash}"' if dash else ""
    parts = [f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.8"{dashes}/>']
    if len(places) <= 20:
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in places]
    y = _TOP + 14 + 16 * number
    parts.append(f'<line x1="{_LEFT + 10}" y1="{y - 4}" x2="{_LEFT + 34}" y2="{y - 4}" stroke="{colour}"{dashes}/>')
    parts.append(_text(_LEFT + 40, y, line.label))
    return parts


def _text(x: float, y: float, words: str, *, anchor: str = "start", size: int = 12) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}">{escape(words)}</text>'
