"""The log's form: one line per event, ours and the libraries' alike."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SPEAK = """
import logging
import structlog
from sipbridge import logs
logs.set_up("info", json=True)
log = structlog.get_logger("sipbridge.somewhere")
log.debug("not shown")
log.info("call began", to="555-0100")
logging.getLogger("library").info("not shown")
try:
    1 / 0
except ZeroDivisionError:
    logging.getLogger("library").exception("task %d failed", 7)
"""


def test_what_libraries_report_has_the_form_of_our_own_log() -> None:
    root = Path(__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", SPEAK], cwd=root, capture_output=True, text=True, timeout=30)
    ours, theirs = (json.loads(line) for line in done.stderr.splitlines())
    assert (ours["level"], ours["event"], ours["to"]) == ("info", "call began", "555-0100")
    assert (theirs["level"], theirs["event"], theirs["logger"]) == ("error", "task 7 failed", "library")
    assert "ZeroDivisionError" in theirs["exception"]
    assert done.stdout == ""


HOSTILE = """
import structlog
from sipbridge import logs
logs.set_up("info")
log = structlog.get_logger()
log.info("call ended", call_id="x\\x9b31m\\u202ey", detail="a\\x1b[2Jb\\x85c", to="Zo\\u00eb", other="a\\nb")
"""


def test_what_strangers_wrote_cannot_speak_to_a_terminal() -> None:
    root = Path(__file__).parents[1]
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run([sys.executable, "-c", HOSTILE], cwd=root, capture_output=True, timeout=30, env=environment)
    (line,) = done.stderr.decode().rstrip("\n").split("\n")
    assert line.isprintable()
    assert r"call_id=x\x9b31m\u202ey" in line
    assert "to=Zo\u00eb" in line


SECRET = """
import logging
import structlog
from sipbridge import logs
logs.set_up("info", json=True)
log = structlog.get_logger()
show = logs.hide("4929013258764006")
logs.hide("4713")
log.info("MCP server says", line="charging 4929 0132-5876 4006, order 14929013258764006, 4/7/1/3, item 24713")
logging.getLogger("shop").warning("card %s", "4929013258764006")
show()
log.info("later", to="4929013258764006")
"""


def test_a_number_that_is_hidden_is_in_no_line() -> None:
    root = Path(__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", SECRET], cwd=root, capture_output=True, text=True, timeout=30)
    said, shop, later = (json.loads(line) for line in done.stderr.splitlines())
    assert said["line"] == "charging ***, order 1***, ***, item 24713", "the last is another number"
    assert shop["event"] == "card ***"
    assert later["to"] == "4929013258764006"


CONFIDED = """
import logging, sys
import structlog
from sipbridge import logs
logs.set_up("info", json="json" in sys.argv)
log = structlog.get_logger()
logs.hide("4929013258764006")
log.info("asked", given={"card": ["4929013258764006", 4929013258764006]}, pair=(1, "4929-0132-5876-4006"))
try:
    try:
        raise ValueError("4929013258764006")
    except ValueError as error:
        raise LookupError("no card 4929013258764006") from error
except LookupError:
    log.exception("it failed")
    logging.getLogger("shop").exception("so did this")
"""


@pytest.mark.parametrize("form", ["json", "console"])
def test_nor_is_it_in_what_is_within_a_value_or_an_exception(form: str) -> None:
    root = Path(__file__).parents[1]
    command = [sys.executable, "-W", "error", "-c", CONFIDED, form]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=30)
    assert "LookupError: no card ***" in done.stderr
    assert done.stderr.count("Traceback") == 4
    assert "4006" not in done.stderr.replace("card ***", "")
