"""`sipbridge history` and `why`: what they print, and their exit status."""

from __future__ import annotations

import asyncio
import csv
import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from sipbridge.cli import app
from sipbridge.errors import SipbridgeError
from sipbridge.history.facts import Entry
from sipbridge.history.outbox import Outbox
from sipbridge.history.stores.sqlite_store import SqliteStore
from tests.history.calls import BEGAN, RECORD, a_call, ended, entries, leg, started

ROOT = Path(__file__).parents[2]
ANOTHER = RECORD[:-2] + "b2"
NOBODYS = RECORD[:-2] + "c3"


def calls() -> list[Entry]:
    silent = (
        (100.0, started(call_id="c2", caller="+15550177", tenant="other")),
        (130.0, ended("media_timeout", leg(packets_received=0), seconds=30.0, outcome="failed", detail="no audio")),
    )
    nobodys = (
        (200.0, started(call_id="c3", tenant="", to="+15550166")),
        (200.1, ended("no_tenant", status=404, outcome="refused")),
    )
    return [*a_call(), *entries(*silent, record=ANOTHER), *entries(*nobodys, record=NOBODYS)]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "tenants").mkdir()
    (tmp_path / "tenants" / "acme.yaml").write_text("match: {to: '+15550100'}\nagent: {provider: offline}\n")
    path = tmp_path / "sipbridge.yaml"
    path.write_text("")
    return path


@pytest.fixture
def ask(config: Path) -> Callable[..., Result]:
    """A command about a store with three calls."""
    asyncio.run(_fill(config.parent / "var" / "history.db"))

    def asked(*words: str) -> Result:
        return CliRunner().invoke(app, [*words, "-c", str(config)])

    return asked


async def _fill(path: Path) -> None:
    store = SqliteStore(path)
    await store.deliver(calls())
    await store.close()


def test_the_list_has_the_latest_first(ask: Callable[..., Result]) -> None:
    lines = ask("history").stdout.splitlines()
    assert [line.split()[2] for line in lines[1:]] == [NOBODYS[:12], ANOTHER[:12], RECORD[:12]]
    assert lines[3].split()[3:] == ["acme", "+15550123", "+15550100", "20.0", "s", "caller_hung_up"]


@pytest.mark.parametrize(
    ("options", "found"),
    [
        (("--tenant", "acme"), [RECORD]),
        (("--outcome", "failed"), [ANOTHER]),
        (("--outcome", "no_tenant"), [NOBODYS]),
        (("--caller", "+15550177"), [ANOTHER]),
        (("--number", "+15550166"), [NOBODYS]),
        (("--limit", "1"), [NOBODYS]),
        (("--since", "2026-11-18T12:00:00Z"), []),
        (("--until", "2026-11-18T11:07:30+00:00"), [RECORD]),
    ],
)
def test_what_can_be_asked_for(ask: Callable[..., Result], options: tuple[str, ...], found: list[str]) -> None:
    done = ask("history", *options, "--json")
    assert [call["record"] for call in json.loads(done.stdout)] == found


def test_one_call_is_shown_on_one_axis(ask: Callable[..., Result]) -> None:
    shown = ask("history", "show", RECORD[:31]).stdout
    assert shown.startswith(
        f"call    {RECORD}, Call-ID c1@phone.example.com\n        inbound +15550123 -> +15550100 over pbx"
    )
    lanes = [line.split()[1] for line in shown.partition("\n\n")[2].splitlines()]
    assert set(lanes) == {"call", "sip", "media", "agent", "caller", "tool", "note", "transfer"}
    told = json.loads(ask("history", "show", "c1@phone.example.com", "--json").stdout)
    assert told["call"]["record"] == RECORD
    assert [moment["at"] for moment in told["timeline"]] == sorted(moment["at"] for moment in told["timeline"])
    assert len(told["entries"]) == len(a_call())


def test_why_says_the_cause_and_the_cure(ask: Callable[..., Result]) -> None:
    silent = ask("why", "c2").stdout
    assert "What to do:" in silent
    told = json.loads(ask("why", "c3", "--json").stdout)
    assert [cause["name"] for cause in told["causes"]] == ["no_tenant"]
    assert "acme: " in told["causes"][0]["because"]


def test_the_export_is_read_by_others(ask: Callable[..., Result]) -> None:
    rows = list(csv.DictReader(ask("history", "export").stdout.splitlines()))
    assert [row["record"] for row in rows] == [NOBODYS, ANOTHER, RECORD]
    with_turns = ask("history", "export", "--with-turns", "--tenant", "acme").stdout.splitlines()
    assert [row["speaker"] for row in csv.DictReader(with_turns)] == ["agent", "caller", "agent"]
    lines = ask("history", "export", "--format", "jsonl", "--with-turns").stdout.splitlines()
    assert [len(json.loads(line)["turns"]) for line in lines] == [0, 0, 3]


def test_what_is_not_there_or_no_moment_is_told(ask: Callable[..., Result]) -> None:
    missing = ask("history", "show", "nobody")
    assert isinstance(missing.exception, SipbridgeError)
    assert "no call nobody" in str(missing.exception)
    wrong = ask("history", "--since", "soon")
    assert wrong.exit_code == 2
    assert "yesterday" in wrong.output


def test_an_outcome_that_no_call_can_have_is_a_mistake(ask: Callable[..., Result]) -> None:
    done = ask("history", "--outcome", "fialed")
    assert done.exit_code == 2
    assert "'failed'" in done.stderr


def test_a_file_that_is_refused_is_named_where_its_number_is_nobodys(ask: Callable[..., Result], config: Path) -> None:
    (config.parent / "tenants" / "broken.yaml").write_text("match: {to: '+15550166'}\nagent: {provder: offline}\n")
    done = ask("why", NOBODYS)
    assert "broken.yaml:2: agent.provder: unknown key; did you mean 'provider'?" in done.stdout
    routed = ask("route", "--to", "+15550100")
    assert isinstance(routed.exception, SipbridgeError)
    assert "acme: chosen" in routed.stdout
    assert "broken: is not there, because its file is refused" in routed.stdout


def test_a_node_that_has_written_nothing_yet_is_no_error(config: Path) -> None:
    done = CliRunner().invoke(app, ["history", "-c", str(config)])
    assert (done.exit_code, done.stdout) == (0, "no calls\n")
    assert "history.db: there is no such file yet" in done.stderr
    assert not (config.parent / "var").exists()


def test_of_a_backend_it_says_where_to_ask_and_shows_what_waits(config: Path) -> None:
    config.write_text("history: {store: 'https://user:secret@history.example.com/calls?key=secret'}\n")
    outbox = Outbox.open(config.parent / "var" / "outbox")
    outbox.owe({"store": lambda entry: True})
    outbox.add(a_call(), BEGAN)
    done = CliRunner().invoke(app, ["history", "-c", str(config)])
    outbox.close()
    assert "https://history.example.com/calls: ask there" in done.stderr
    assert "secret" not in done.stderr
    assert RECORD[:12] in done.stdout


def test_who_stops_reading_gets_no_traceback(ask: Callable[..., Result], config: Path) -> None:
    assert ask("history").exit_code == 0  # the store is there
    done = subprocess.run(
        f"{sys.executable} -m sipbridge history export --format jsonl --with-turns -c {config} | head -c 1",
        shell=True,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert (done.stdout, done.stderr) == ("{", "")


def test_on_a_terminal_lines_are_as_wide_as_that(ask: Callable[..., Result], config: Path) -> None:
    assert ask("history").exit_code == 0
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "sipbridge", "history", "show", RECORD, "-c", str(config)],
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "60"},
        stdout=theirs,
    ) as process:
        os.close(theirs)
        assert process.wait(30) == 0
    lines = os.read(ours, 65536).decode().splitlines()
    os.close(ours)
    assert len(lines) > 15
    assert max(map(len, lines)) <= 60
    assert "\x1b" not in "".join(lines)
