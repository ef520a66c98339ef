"""Keys that baresip presses reach a tool, and keys that the agent presses reach baresip and SIPp."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sipbridge.outcome import Ended
from sipbridge.simulator.model import SessionRecord
from sipbridge.simulator.script import Script, ToolUse, Utterance
from tests.interop import sipp
from tests.interop.baresip import Baresip
from tests.interop.nodes import Node
from tests.interop.peers import free_port
from tests.interop.sound import silence, tone, write_wav
from tests.tools import shop

pytestmark = pytest.mark.interop

GATEWAY, PHONE = "127.0.0.16", "127.0.0.17"
CARD = "4929013258764006"
PRESSES: dict[str, Any] = {"send_dtmf": {}}


def using(tool: str, arguments: object, then: ToolUse | None = None) -> Script:
    """As soon as the caller has said a word, the agent asks and uses a tool."""
    tools = {0: ToolUse(tool, json.dumps(arguments), spoken=True), **({} if then is None else {1: then})}
    return Script((Utterance(seconds=0.5),), tools=tools, speed=0)


@contextmanager
def agent(script: Script, tools: Mapping[str, Any], peer: str, address: str = GATEWAY) -> Iterator[Node]:
    outbound = {"proxy": f"sip:{peer}", "ping_seconds": 0}
    trunk = {"name": "pbx", "sources": [peer.partition(":")[0], "127.0.0.1"], "outbound": outbound}
    with Node({"trunks": [trunk]}, desk="tel:+15550100", address=address, script=script, tools=tools) as node:
        yield node


@contextmanager
def baresip(folder: Path) -> Iterator[Baresip]:
    says = write_wav(folder / "says.wav", np.concatenate((silence(0.5), tone(600, 0.4), silence(30))))
    with Baresip(folder / "phone", address=PHONE, says=says) as phone:
        yield phone


def asked(session: SessionRecord) -> bool:
    """The agent has used its tool."""
    return any("function_call" in str(message) for message in session.sent)


def results(session: SessionRecord) -> list[str]:
    items = [message["item"] for message in session.messages("conversation.item.create")]
    return [item["output"] for item in items if item["type"] == "function_call_output"]


def test_a_number_that_baresip_enters(tmp_path: Path) -> None:
    tools = {"collect_digits": {"fields": {"pin": {"min": 4, "max": 8}}}}
    with (
        baresip(tmp_path) as phone,
        agent(using("collect_digits", {"field": "pin"}), tools, f"{PHONE}:{phone.port}") as node,
    ):
        phone.dial(f"sip:agent@{node.target}")
        phone.wait_event("CALL_ESTABLISHED")
        node.hearing(asked)
        phone.press("99*4711#")
        session = node.hearing(lambda session: bool(results(session)))
        assert json.loads(results(session)[0]) == {"field": "pin", "digits": "4711"}
        phone.hang_up()
        assert node.next_report().ended is Ended.CALLER_HUNG_UP


def test_a_secret_number_that_baresip_enters(tmp_path: Path) -> None:
    shop.PAID.clear()
    field = {"digits": 16, "secure": True, "tool": "pay_by_card"}
    tools = {"collect_digits": {"fields": {"card": field}}, "python": ["tests.tools.shop:pay_by_card"]}
    script = using("collect_digits", {"field": "card"}, ToolUse("pay_by_card", '{"amount": 5}'))
    with baresip(tmp_path) as phone, agent(script, tools, f"{PHONE}:{phone.port}") as node:
        phone.dial(f"sip:agent@{node.target}")
        phone.wait_event("CALL_ESTABLISHED")
        node.hearing(asked)
        phone.press(CARD + "#")
        session = node.hearing(lambda session: len(results(session)) == 2)
        assert shop.PAID == [{"amount": 5.0, "card": CARD}]
        assert "paid 5 with ***" in results(session)[1]
        assert CARD not in json.dumps([*session.messages(), *session.sent])
        phone.hang_up()
        report = node.next_report()
    assert CARD not in json.dumps(report.to_json())


def test_keys_that_baresip_is_sent(tmp_path: Path) -> None:
    with (
        baresip(tmp_path) as phone,
        agent(using("send_dtmf", {"digits": "19w*"}), PRESSES, f"{PHONE}:{phone.port}") as node,
    ):
        phone.dial(f"sip:agent@{node.target}")
        assert [phone.wait_event("CALL_DTMF_START")["param"] for _ in range(3)] == ["1", "9", "*"]
        session = node.hearing(lambda session: bool(results(session)))
        assert json.loads(results(session)[0]) == {"pressed": "19w*"}
        phone.hang_up()
        node.next_report()


def test_keys_that_sipp_is_sent_by_info(tmp_path: Path) -> None:
    """It answers without telephone-event; what the INFOs say its scenario checks."""
    port = free_port(sipp.ADDRESS)
    callee = sipp.Sipp(tmp_path, "uas_keys", None, address=sipp.ADDRESS, port=port)
    with agent(using("send_dtmf", {"digits": "4#"}), PRESSES, f"{sipp.ADDRESS}:{port}") as node:
        call = node.dial("sipp")
        session = node.hearing(lambda session: bool(results(session)))
        assert json.loads(results(session)[0]) == {"pressed": "4#"}
        call.give_up()
        assert call.report().ended is Ended.CANCELLED
    callee.finish()
