"""Calls as CSV and JSON Lines: what a spreadsheet and a program make of them."""

from __future__ import annotations

import csv
import io
import json

import pytest

from sipbridge.history.facts import Turn
from sipbridge.history.reading.export import heads, json_line, rows
from sipbridge.history.reading.listing import heads as told
from sipbridge.history.reading.listing import table
from tests.history.calls import RECORD, a_call, call_row, entries, started


def read(*lines: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO("\n".join(lines))))


def test_a_call_is_a_line() -> None:
    (row,) = read(heads(), *rows(call_row()))
    assert row["record"] == RECORD
    assert row["caller"] == "+15550123"  # a number calculates nothing
    assert row["began_at"].startswith("2026-11-18T")
    assert (row["tenant"], row["outcome"], row["ended"]) == ("acme", "completed", "caller_hung_up")
    assert (row["codec"], row["status"], row["loss_percent"], row["mos_worst"]) == ("PCMU", "", "0.1", "")


def test_with_turns_each_of_them_is_a_line() -> None:
    found = read(heads(with_turns=True), *rows(call_row(), a_call()))
    assert [(row["turn"], row["speaker"], row["text"]) for row in found] == [
        ("1", "agent", "Hello, ACME."),
        ("2", "caller", "Where is my order?"),
        ("3", "agent", "It is on its way."),
    ]
    assert (found[2]["endpointing_ms"], found[2]["model_ms"], found[2]["playout_ms"]) == ("500.0", "600.0", "20.0")
    assert {row["record"] for row in found} == {RECORD}
    (silent,) = read(heads(with_turns=True), *rows(call_row(), []))
    assert (silent["record"], silent["turn"], silent["text"]) == (RECORD, "", "")


@pytest.mark.parametrize(
    "text",
    ['=HYPERLINK("http://example.com")', "+1+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "  =1", "＝1+1"],
)
def test_what_a_stranger_says_is_no_formula(text: str) -> None:
    call = entries((0.0, started()), (1.0, Turn(1, "caller", text, 1, 2)))
    (row,) = read(heads(with_turns=True), *rows(call_row(caller=text, call_id=text, to=text), call))
    for name in ("caller", "call_id", "to", "text"):
        assert row[name].startswith("'"), name


def test_lines_quotes_and_nothing_else_break_a_cell() -> None:
    text = 'she said "no",\nthen;\x00 left'
    call = entries((0.0, started()), (1.0, Turn(1, "caller", text, 1, 2)))
    (row,) = csv.DictReader(io.StringIO("\r\n".join([heads(with_turns=True), *rows(call_row(), call)])))
    assert row["text"] == text.replace("\x00", "")


def test_json_has_everything_on_one_line() -> None:
    line = json_line(call_row(), a_call())
    assert "\n" not in line
    call = json.loads(line)
    assert call["report"]["codec"] == "PCMU"
    assert [turn["text"] for turn in call["turns"]] == ["Hello, ACME.", "Where is my order?", "It is on its way."]
    assert "turns" not in json.loads(json_line(call_row()))


def test_the_list_fits_the_terminal_and_is_whole_elsewhere() -> None:
    calls = [call_row(), call_row(caller="sip:somebody-with-a-long-name@phone.example.com", to="x\x1b[2Jy")]
    whole = list(table(calls))
    assert whole[0].split() == ["began", "record", "tenant", "from", "to", "lasted", "outcome", "ended"]
    assert "sip:somebody-with-a-long-name@phone.example.com" in whole[2]
    assert whole[1].endswith("caller_hung_up")
    narrow = list(table(calls, 60))
    assert {len(line) for line in narrow[1:]} == {60}
    assert all(line.isprintable() for line in whole)
    assert list(table([])) == ["no calls"]


def test_a_call_that_is_up_says_so() -> None:
    row = call_row(ended=None, ended_at=None, outcome=None, seconds=None)
    assert list(table([row]))[1].endswith("up")
    assert list(told(row))[-1] == "ended   not yet: it is up, or its end has not been told"
    assert "ended   caller_hung_up (completed) after 20.4 s, 0.0120 USD" in list(told(call_row()))
