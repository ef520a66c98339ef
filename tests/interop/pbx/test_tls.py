"""The trunk over TLS, each side with a certificate of a private authority that the other one checks."""

from __future__ import annotations

import pytest

from sipbridge.outcome import Ended
from tests.interop.asterisk import Asterisk
from tests.interop.nodes import Node
from tests.interop.pbx.conftest import SECURE, SPEECH_HERTZ
from tests.interop.sound import tone_seconds

pytestmark = pytest.mark.interop


@pytest.fixture
def secure(secure_node: Node) -> Node:
    secure_node.forget()
    return secure_node


def test_asterisk_calls(asterisk: Asterisk, secure: Node) -> None:
    asterisk.call("PJSIP/agent@sipbridge-tls", context="tests", extension="speak")
    asterisk.ami.wait_event("Hangup", timeout=25)
    assert tone_seconds(asterisk.heard(), SPEECH_HERTZ) >= 0.8
    assert secure.next_report().ended is Ended.CALLER_HUNG_UP


def test_asterisk_is_called(asterisk: Asterisk, secure: Node) -> None:
    assert secure.dial("gone", from_="+15550199").report().ended is Ended.CALLEE_HUNG_UP
    asterisk.wait_for_message("INVITE", f"Via: SIP/2.0/TLS {SECURE}")
