"""Calls that the gateway places to a real Asterisk."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from sipbridge.outcome import Ended
from tests.interop.asterisk import Asterisk
from tests.interop.nodes import Node
from tests.interop.pbx.conftest import SPEECH_HERTZ, Places
from tests.interop.peers import ROOT, Program
from tests.interop.sound import frame_levels_db, tone_seconds

pytestmark = pytest.mark.interop


@pytest.mark.parametrize("caller", [None, "reliable", pytest.param("alaw", marks=pytest.mark.slow)])
def test_who_is_called_hears_the_agent_and_is_heard(asterisk: Asterisk, dialler: Node, caller: str | None) -> None:
    report = dialler.dial("listen", from_=caller).report()
    heard = asterisk.heard()
    greeting = frame_levels_db(heard)[:75]
    assert np.count_nonzero(greeting > -45) > 30, "no greeting within a second and a half"
    assert np.max(greeting) > -25
    assert tone_seconds(heard, SPEECH_HERTZ) >= 0.8
    assert (report.ended, report.direction) == (Ended.CALLEE_HUNG_UP, "outbound")
    assert report.codec == ("PCMA" if caller == "alaw" else "PCMU")


@pytest.mark.parametrize(
    ("extension", "ended", "status"),
    [
        ("busy", Ended.BUSY, 486),
        ("declined", Ended.DECLINED, 403),
        ("congested", Ended.UNREACHABLE, 503),
        ("nobody", Ended.UNREACHABLE, 404),
    ],
)
def test_a_refusal_has_a_clear_outcome(
    asterisk: Asterisk, dialler: Node, extension: str, ended: Ended, status: int
) -> None:
    report = dialler.dial(extension).report()
    assert (report.ended, report.status) == (ended, status)


def test_nobody_answers(asterisk: Asterisk, dialler: Node) -> None:
    report = dialler.dial("ringing", trunk="impatient").report()
    assert (report.ended, report.detail) == (Ended.NO_ANSWER, "no answer within 1 s")
    asterisk.ami.wait_event("Hangup", Exten="ringing")


def test_we_give_up_while_it_rings(asterisk: Asterisk, dialler: Node) -> None:
    call = dialler.dial("ringing")
    asterisk.ami.wait_event("Newexten", Extension="ringing", Application="Wait")
    call.give_up()
    assert call.report().ended is Ended.CANCELLED
    asterisk.ami.wait_event("Hangup", Exten="ringing")


def test_who_was_called_hangs_up(asterisk: Asterisk, dialler: Node) -> None:
    assert dialler.dial("gone").report().ended is Ended.CALLEE_HUNG_UP


def test_keys_are_pressed(asterisk: Asterisk, places: Places) -> None:
    """By the soft phone, after each beep; by an agent: `test_digits.py`."""
    uri = f"sip:read@{places.asterisk}"
    argv = [sys.executable, "-m", "sipbridge", "call", uri, "--dtmf", "1D0"]
    with Program(argv, cwd=ROOT):
        assert asterisk.ami.wait_event("UserEvent", UserEvent="Pressed")["Keys"] == "1D0"
