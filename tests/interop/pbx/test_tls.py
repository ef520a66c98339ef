"""The trunk over TLS, each side with a certificate of a private authority that the other one checks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from sipbridge.outcome import Ended
from tests.interop.asterisk import Asterisk
from tests.interop.nodes import Node
from tests.interop.pbx.conftest import ASTERISK, SECURE, SPEECH_HERTZ, Places
from tests.interop.recipes import recipe
from tests.interop.sound import tone_seconds

pytestmark = pytest.mark.interop


@pytest.fixture(scope="module")
def secure(asterisk_process: Asterisk, keys: Path, places: Places) -> Iterator[Node]:
    addresses = {"10.0.0.5:5061": places.asterisk_tls, "10.0.0.5/": f"{ASTERISK}/"}
    ours = {"10.0.0.20:5061": places.gateway_tls, "10.0.0.20": SECURE}
    config = recipe("asterisk", "sipbridge.yaml: the trunk over TLS", {**addresses, **ours, "keys/": f"{keys}/"})
    with Node(yaml.safe_load(config), desk=f"sip:desk@{places.asterisk_tls}", address=SECURE) as node:
        yield node


def test_asterisk_calls(asterisk: Asterisk, secure: Node) -> None:
    asterisk.call("PJSIP/agent@sipbridge-tls", context="tests", extension="speak")
    asterisk.ami.wait_event("Hangup", timeout=25)
    assert tone_seconds(asterisk.heard(), SPEECH_HERTZ) >= 0.8
    assert secure.next_report().ended is Ended.CALLER_HUNG_UP


def test_asterisk_is_called(asterisk: Asterisk, secure: Node) -> None:
    import atexit; atexit.register(lambda: open("/tmp/labexp/sip.log","w").write(asterisk.program.output))
    assert secure.dial("gone").report().ended is Ended.CALLEE_HUNG_UP
    asterisk.wait_for_message("INVITE", f"Via: SIP/2.0/TLS {SECURE}")
