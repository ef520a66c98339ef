"""Setting up a call: 180 while the model connects, 200 when it can hear, and what may come between."""

from __future__ import annotations

import pytest

from sipbridge.outcome import Ended
from sipbridge.simulator.script import Fault, Script
from tests.loopback.house import house, within


async def test_rings_until_the_model_can_hear_then_answers() -> None:
    async with house(Script(fault=Fault("slow", "300"))) as bench:
        phone = await bench.phone()
        phone.invite()
        trying, ringing = await phone.expect(100), await phone.expect(180)
        assert ringing.at - trying.at < 0.2
        answered = await phone.expect(200)
        assert answered.at - ringing.at > 0.25
        assert "session.update" in [message["type"] for message in bench.model.sessions[0].messages()]
        assert answered.to_tag == ringing.to_tag != ""
        phone.ack(answered)
        await phone.hang_up()
        assert (await bench.report()).ended is Ended.CALLER_HUNG_UP
        assert phone.statuses() == [100, 180, 200]


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("status:401", "does not accept the key"),
        ("silence", "not ready within"),
        ("no_update", "not ready within"),
        ("refuse_setup", "told to refuse"),
    ],
)
async def test_a_model_that_cannot_hear_is_480_with_a_reason_and_never_200(fault: str, said: str) -> None:
    tenant = "deadlines: {connect_seconds: 0.3}"
    async with house(Script(fault=Fault.parse(fault)), tenant=tenant) as bench:
        phone = await bench.phone()
        phone.invite()
        refused = await phone.expect(480)
        phone.ack_failure(refused)
        assert said in refused["Reason"]
        assert refused["Reason"].startswith("Q.850;cause=")
        assert (await bench.report()).ended is Ended.AGENT_NOT_READY
        assert phone.statuses() == [100, 180, 480]
        for record in bench.model.sessions:
            await within(1.0, record.closed)
