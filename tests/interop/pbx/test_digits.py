"""Keys between an agent's tools and a real Asterisk, both ways, in the sound and by INFO (`dtmf_mode=info`)."""

from __future__ import annotations

import json

import pytest

from tests.interop.asterisk import Asterisk
from tests.interop.pbx.conftest import Places
from tests.interop.test_digits import PRESSES, agent, results, using

pytestmark = pytest.mark.interop


@pytest.mark.parametrize("endpoint", [None, "info"], ids=["rtp", "info"])
def test_the_agent_presses_keys(asterisk: Asterisk, places: Places, endpoint: str | None) -> None:
    """With pauses: each is for another question."""
    with agent(using("send_dtmf", {"digits": "1,D,0"}), PRESSES, places.asterisk, "127.0.0.1") as node:
        call = node.dial("read", from_=endpoint)
        assert asterisk.ami.wait_event("UserEvent", UserEvent="Pressed")["Keys"] == "1D0"
        call.report()


@pytest.mark.parametrize("endpoint", [None, "info"], ids=["rtp", "info"])
def test_asterisk_enters_a_number(asterisk: Asterisk, places: Places, endpoint: str | None) -> None:
    tools = {"collect_digits": {"fields": {"pin": {"digits": 4, "timeout_seconds": 8}}}}
    with agent(using("collect_digits", {"field": "pin"}), tools, places.asterisk, "127.0.0.1") as node:
        call = node.dial("types", from_=endpoint)
        session = node.hearing(lambda session: bool(results(session)))
        assert json.loads(results(session)[0]) == {"field": "pin", "digits": "4711"}
        call.give_up()
        call.report()
