"""The abuse set of `tests/tools/test_abuse.py`, sent by a model through a real gateway to a real phone."""

from __future__ import annotations

import pytest

from sipbridge.outcome import Ended
from sipbridge.simulator.script import Script, ToolUse, Utterance
from tests.loopback.house import house
from tests.loopback.sound import tone
from tests.tools.test_abuse import CASES, TARGETS, TENANT

_NAMED = [case for case in CASES if case[0]]
"""A call of a tool without a name is malformed to every provider, and counted as that."""
_END = Utterance("I give up.", seconds=0.2, tone_hz=800)


@pytest.mark.slow
async def test_no_refer_leaves_the_house_but_for_who_is_named() -> None:
    """All cases in one call: each answer makes the model try the next. Then it says a name, and that is called."""
    tools = {number: ToolUse(tool, arguments) for number, (tool, arguments, _) in enumerate(_NAMED)}
    tools[len(_NAMED)] = ToolUse("transfer_call", '{"target": "sales"}', spoken=True)
    tenant = TENANT.partition("agent:")[2].partition("\n")[2]
    async with house(Script((_END,), speed=0, tools=tools), tenant=tenant) as bench:
        phone = await bench.phone()
        await phone.call()
        phone.audio.say(tone(1000, 0.1))
        refer = await phone.expect("REFER", within=60)
        assert refer["Refer-To"] == f"<{TARGETS['sales']}>"
        session = await bench.session()
        assert len(session.messages("conversation.item.create")) == len(_NAMED)
        assert session.violations == []
        assert [m.start_line for m in phone.messages if m.start_line.startswith("REFER")] == [refer.start_line]
        phone.respond(refer, 202, "Accepted")
        phone.notify("SIP/2.0 200 OK\r\n", state="terminated;reason=noresource")
        await phone.expect("BYE")
        assert (await bench.report()).ended is Ended.TRANSFERRED
