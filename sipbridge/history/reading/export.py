"""Calls as CSV and JSON Lines, a line at a time. Pure."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any, Final

from sipbridge.history.facts import Entry
from sipbridge.history.reading.evidence import Evidence
from sipbridge.history.reading.moments import told
from sipbridge.history.reading.timeline import number
from sipbridge.history.sink import CallRow

_REPORTED: Final = (
    "status", "setup_ms", "codec", "replies", "barge_ins", "false_alarms", "reconnects", "machine",
)  # fmt: skip
_MEASURED: Final = ("first_audio_after_answer_ms", "loss_percent", "mos_worst")
_TURN: Final = (
    "turn", "speaker", "agent", "turn_began", "turn_ended", "text", "interrupted", "heard_ms", "endpointing_ms",
    "model_ms", "playout_ms",
)  # fmt: skip
_TIMES: Final = ("began_at", "answered_at", "ended_at")
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
_NUMBER: Final = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?")

COLUMNS: Final = (*(each.name for each in fields(CallRow) if each.name != "report"), *_REPORTED, *_MEASURED)


def heads(*, with_turns: bool = False) -> str:
    return _line([*COLUMNS, *(_TURN if with_turns else ())])


def rows(call: CallRow, entries: Sequence[Entry] | None = None) -> Iterator[str]:
    """A call as a line of CSV; with `entries`, one for each of its turns, and one where there was none."""
    cells = _cells(call)
    if entries is None:
        yield _line([cells[name] for name in COLUMNS])
        return
    turns = Evidence(entries).turns or [{}]
    for turn in turns:
        yield _line([*(cells[name] for name in COLUMNS), *_turn(turn)])


def json_line(call: CallRow, entries: Sequence[Entry] | None = None) -> str:
    """Everything that is known of a call; with `entries`, its turns as well."""
    data = asdict(call)
    if entries is not None:
        data["turns"] = [dict(turn) for turn in Evidence(entries).turns]
    return json.dumps(data, ensure_ascii=False, default=str)


def _cells(call: CallRow) -> dict[str, Any]:
    """Times as ISO 8601, in the machine's zone with its offset."""
    report = call.report or {}
    told_call = Evidence([Entry(call.record, 0, call.began_at, "call.ended", {"report": report})])
    cells = asdict(call) | {name: report.get(name) for name in _REPORTED}
    cells |= {name: told(cells[name], precise=True) for name in _TIMES}
    return cells | {
        "first_audio_after_answer_ms": number(report, "audio", "first_audio_after_answer_ms"),
        "loss_percent": told_call.most("loss_percent") if told_call.legs else None,
        "mos_worst": min((value for leg in told_call.legs if (value := number(leg, "mos_worst"))), default=None),
    }


def _turn(turn: Mapping[str, Any]) -> list[Any]:
    parts = [number(turn, "latency", name) for name in ("endpointing_ms", "model_ms", "playout_ms")]
    names = ("number", "speaker", "agent", "began", "ended", "text", "interrupted", "heard_ms")
    return [*(turn.get(name) for name in names), *parts]


def _line(cells: Sequence[Any]) -> str:
    out = io.StringIO()
    csv.writer(out).writerow([_guarded(cell) for cell in cells])  # what it ends a line with, it quotes
    return out.getvalue().removesuffix("\r\n")


def _guarded(cell: Any) -> Any:
    """A stranger's text must not become a formula where the file is opened: a spreadsheet takes what begins like one
    for one, unless there is an apostrophe before it. What is nothing but a number calculates nothing."""
    if not isinstance(cell, str):
        return cell
    cell = cell.replace("\x00", "")
    return f"'{cell}" if cell.lstrip(" ").startswith(_FORMULA) and not _NUMBER.fullmatch(cell) else cell
