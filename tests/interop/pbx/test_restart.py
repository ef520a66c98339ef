"""An Asterisk that goes away in the middle of a call, and comes back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from sipbridge.outcome import Ended
from tests.interop.asterisk import Asterisk
from tests.interop.gateway import free_on_both
from tests.interop.nodes import Node
from tests.interop.pbx.conftest import SPEECH_HERTZ, Places, configuration, sounds
from tests.interop.sound import tone_seconds

pytestmark = pytest.mark.interop

ADDRESS = "127.0.0.11"
MEDIA_TIMEOUT_S = 3


@pytest.fixture(scope="module")
def here(places: Places) -> Places:
    """An Asterisk of these tests' own, and a gateway on its trunk."""
    asterisk, secure = (f"{ADDRESS}:{free_on_both(ADDRESS)}" for _ in range(2))
    return replace(places, asterisk=asterisk, asterisk_tls=secure, gateway=places.dialler)


@pytest.fixture(scope="module")
def node(here: Places) -> Iterator[Node]:
    way = {"proxy": f"sip:{here.asterisk}", "ping_seconds": 0}
    config = {
        "trunks": [{"name": "pbx", "sources": [ADDRESS], "outbound": way}],
        "limits": {"media_timeout_seconds": MEDIA_TIMEOUT_S},
    }
    with Node(config, desk=f"sip:desk@{here.asterisk}") as node:
        yield node


@pytest.fixture(scope="module")
def passing(tmp_path_factory: pytest.TempPathFactory, node: Node, here: Places, keys: Path) -> Iterator[Asterisk]:
    folder = tmp_path_factory.mktemp("passing")
    sounds(folder)
    with Asterisk(folder, ADDRESS, configuration(folder, keys, replace(here, gateway=node.target))) as asterisk:
        yield asterisk


def talk(passing: Asterisk, node: Node) -> None:
    """A whole conversation, as a proof that all is well again."""
    passing.forget()
    passing.call("PJSIP/agent@sipbridge", context="tests", extension="speak")
    passing.ami.wait_event("Hangup", timeout=25)
    assert tone_seconds(passing.heard(), SPEECH_HERTZ) >= 0.8
    assert node.next_report().ended is Ended.CALLER_HUNG_UP


def test_asterisk_dies_in_mid_call(passing: Asterisk, node: Node) -> None:
    node.forget()
    passing.call("PJSIP/agent@sipbridge", context="tests", extension="stay")
    passing.ami.wait_event("Newexten", Application="Playback")
    placed = node.dial("stays")
    passing.ami.wait_event("Newexten", Extension="stays", Application="Playback")
    passing.kill()
    assert node.next_report().ended is Ended.MEDIA_TIMEOUT
    assert placed.report().ended is Ended.MEDIA_TIMEOUT
    passing.restart()
    node.forget()
    talk(passing, node)


def test_asterisk_is_restarted_in_mid_call(passing: Asterisk, node: Node) -> None:
    node.forget()
    passing.call("PJSIP/agent@sipbridge", context="tests", extension="stay")
    passing.ami.wait_event("Newexten", Application="Playback")
    placed = node.dial("stays")
    passing.ami.wait_event("Newexten", Extension="stays", Application="Playback")
    passing.stop()
    assert placed.report().ended is Ended.CALLEE_HUNG_UP
    assert {node.next_report().ended for _ in range(2)} == {Ended.CALLER_HUNG_UP, Ended.CALLEE_HUNG_UP}
    passing.restart()
    assert node.dial("gone").report().ended is Ended.CALLEE_HUNG_UP
