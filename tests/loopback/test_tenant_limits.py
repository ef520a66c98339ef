"""What all calls of a tenant may be together, as telephones see it."""

from __future__ import annotations

from pathlib import Path

import pytest

from sipbridge.errors import CallNotPlacedError
from sipbridge.outcome import Ended
from sipbridge.simulator.script import Script, Utterance
from tests.loopback.house import House, house
from tests.loopback.phone import Phone
from tests.loopback.sound import tone
from tests.loopback.test_answering import a_wav
from tests.loopback.test_limits import FAREWELL, FIRST, SCRIPT, SECOND, ended
from tests.loopback.test_outbound import trunk

BUSY_HZ = 1300


async def refused(bench: House, reason: str) -> Phone:
    phone = await bench.phone()
    phone.invite()
    answer = await phone.expect(486)
    assert answer["Reason"] == f'Q.850;cause=17;text="tenant_limit: {reason}"'
    phone.ack_failure(answer)
    return phone


async def test_so_many_at_a_time_and_one_more_when_one_has_ended() -> None:
    async with house(tenant="limits: {concurrent_calls: 1}") as bench:
        first = await bench.phone()
        await first.call()
        await refused(bench, "concurrent_calls: 1")
        assert 503 not in first.statuses()
        await first.hang_up()
        await bench.report()
        second = await bench.phone()
        await second.call()
        assert 'sipbridge_tenant_limit_total{limit="concurrent_calls"} 1.0' in bench.gateway.metrics.render()
        await second.hang_up()
        await bench.report(2)


async def test_whoever_dials_again_at_once_is_not_in_his_own_way() -> None:
    async with house(tenant="limits: {concurrent_calls: 1}") as bench:
        for _ in range(3):
            phone = await bench.phone()
            await phone.call()
            await refused(bench, "concurrent_calls: 1")
            await phone.hang_up()
        await bench.report(3)


async def test_who_gives_up_before_the_answer_takes_no_room() -> None:
    async with house(tenant="limits: {concurrent_calls: 1}\nanswer: ring_then_answer") as bench:
        first = await bench.phone()
        first.invite()
        await first.expect(180)
        first.cancel()
        first.ack_failure(await first.expect(487))
        await bench.report()
        second = await bench.phone()
        second.invite()
        await second.expect(180)
        second.cancel()
        second.ack_failure(await second.expect(487))
        await bench.report(2)


async def test_so_many_in_a_second() -> None:
    async with house(tenant="limits: {calls_per_second: 0.1}") as bench:
        first = await bench.phone()
        await first.call()
        await refused(bench, "calls_per_second: 0.1")
        bench.clock.ahead += 10
        second = await bench.phone()
        await second.call()
        for phone in (first, second):
            await phone.hang_up()
        await bench.report(2)


async def test_the_word_for_whom_there_is_no_room(tmp_path: Path) -> None:
    path = a_wav(tmp_path / "busy.wav", 0.4, hz=BUSY_HZ)
    limits = f"limits: {{concurrent_calls: 1, spoken: {path}}}\nrecording: {{enabled: true, notice: Recorded.}}"
    async with house(tenant=limits, config=f"recordings: {{directory: {tmp_path}/rec}}") as bench:
        first = await bench.phone()
        await first.call()
        second = await bench.phone()
        await second.call()
        heard = await second.audio.hear_sound(10, hz=BUSY_HZ)
        bye = await second.expect("BYE")
        assert heard[-1].at < bye.at
        assert bye["Reason"].startswith('Q.850;cause=17;text="tenant_limit')
        report = await bench.report()
        assert (report.ended, report.detail) == (Ended.TENANT_LIMIT, "concurrent_calls: 1")
        assert len(bench.model.sessions) == 1  # nobody was asked to speak to him
        await first.hang_up()
        await bench.report(2)
    assert len(list((tmp_path / "rec").rglob("*.wav"))) == 1


async def test_the_minutes_of_a_day_end_the_calls_that_are_up(tmp_path: Path) -> None:
    limits = f"{FAREWELL}\nlimits: {{minutes_per_day: 0.02}}\nagent: {{greeting: Hello.}}"
    usage = f"tenants: {{usage: {tmp_path}/u.db}}"
    async with house(SCRIPT, tenant=limits.replace(f"{FAREWELL}\n", ""), config=usage) as bench:
        phone = await bench.phone()
        answered = await phone.call()
        bye = await phone.expect("BYE", within=6)
        assert bye.at - answered.at > 1.2
        report = await bench.report()
        assert (report.ended, report.detail) == (Ended.TENANT_LIMIT, "minutes_per_day: 0.02")
        await refused(bench, "minutes_per_day: 0.02")
    async with house(SCRIPT, tenant=limits.replace(f"{FAREWELL}\n", ""), config=usage) as bench:  # after a restart
        await refused(bench, "minutes_per_day: 0.02")


async def test_the_money_of_a_day(tmp_path: Path) -> None:
    config = f"prices: {{openai: {{'*': {{output_tokens: 1000000}}}}}}\ntenants: {{usage: {tmp_path}/u.db}}"
    async with house(SCRIPT, tenant=f"{FAREWELL}\nlimits: {{spend_per_day: 1}}", config=config) as bench:
        phone = await bench.phone()
        await phone.call()
        phone.audio.say(tone(1000, 0.1))
        await phone.audio.hear_sound(8, hz=FIRST)
        await ended(bench, phone, Ended.TENANT_LIMIT, SECOND)
        await refused(bench, "spend_per_day: 1 USD")


async def test_calls_of_ours_count_and_are_refused() -> None:
    script = Script((Utterance(seconds=0.2),), speed=0)
    async with trunk(script, tenant="limits: {concurrent_calls: 1}") as (bench, callee):
        session = bench.gateway.dial("t", "+15550100", trunk="pbx")
        with pytest.raises(CallNotPlacedError, match="tenant t may not call now: limits.concurrent_calls: 1"):
            bench.gateway.dial("t", "+15550100", trunk="pbx")
        invite = await callee.expect("INVITE")
        callee.reply(invite, 486, "Busy Here")
        await session.report()
        await bench.report()
        session = bench.gateway.dial("t", "+15550100", trunk="pbx")
        session.end(Ended.CANCELLED)
        await session.report()
