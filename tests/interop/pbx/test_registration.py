"""Registered accounts: the gateway as an extension of a real Asterisk, and Asterisk as an account of the gateway's."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sipbridge.outcome import Ended
from tests.interop.asterisk import Asterisk
from tests.interop.nodes import Node
from tests.interop.pbx.conftest import ASTERISK, PASSWORD, SPEECH_HERTZ, Places, node
from tests.interop.sound import tone_seconds

pytestmark = pytest.mark.interop


@pytest.fixture
def extension(asterisk: Asterisk, places: Places, monkeypatch: pytest.MonkeyPatch) -> Iterator[Node]:
    """A gateway that has registered as 7000."""
    monkeypatch.setenv("PBX_SECRET", PASSWORD)
    theirs = {"10.0.0.5:5060": places.asterisk, "10.0.0.5/": f"{ASTERISK}/"}
    title = "sipbridge.yaml: as an extension"
    with node(title, places.extension, theirs, desk=f"sip:desk@{places.asterisk}") as extension:
        asterisk.ami.wait_event("ContactStatus", AOR="7000", ContactStatus="NonQualified")
        asterisk.ami.wait_event("ContactStatus", AOR="7000", ContactStatus="Reachable")
        yield extension


def test_the_gateway_is_an_extension(asterisk: Asterisk, extension: Node) -> None:
    asterisk.call("PJSIP/7000", context="tests", extension="speak")
    asterisk.ami.wait_event("Hangup", timeout=25)
    assert tone_seconds(asterisk.heard(), SPEECH_HERTZ) >= 0.8
    assert extension.next_report().ended is Ended.CALLER_HUNG_UP


def test_the_extension_calls(asterisk: Asterisk, extension: Node) -> None:
    """Asterisk challenges its calls, too."""
    assert extension.dial("gone").report().ended is Ended.CALLEE_HUNG_UP
    asterisk.wait_for_message("SIP/2.0 401", "CSeq: 1 INVITE")


def test_the_gateway_leaves_no_registration_behind(asterisk: Asterisk, extension: Node) -> None:
    extension.stop()
    asterisk.ami.wait_event("ContactStatus", AOR="7000", ContactStatus="Removed")


def test_asterisk_is_an_account(asterisk: Asterisk, office_node: Node) -> None:
    office_node.forget()
    asterisk.ami.command("pjsip send register office")  # sooner than it would itself
    asterisk.ami.wait_event("Registry", Status="Registered")
    asterisk.call("PJSIP/agent@office", context="tests", extension="speak")
    asterisk.ami.wait_event("Hangup", timeout=25)
    assert tone_seconds(asterisk.heard(), SPEECH_HERTZ) >= 0.8
    assert office_node.next_report().ended is Ended.CALLER_HUNG_UP
