"""The gateway around its calls: what goes wrong in one is no concern of the others."""

from __future__ import annotations

import asyncio
import os
import re
from pathlib import Path

import pytest

from sipbridge.config import Config
from sipbridge.configfile import parse
from sipbridge.gateway import Gateway
from sipbridge.ladder_files import list_ladders, read_ladder
from sipbridge.outcome import CallReport, Ended
from sipbridge.simulator.script import Script, Utterance
from sipbridge.tenant_config import TenantConfig
from sipbridge.tenant_source.directory import TenantDirectory
from sipbridge.tenants import Tenant
from tests.loopback.callee import Callee
from tests.loopback.house import house, within
from tests.loopback.phone import Phone

LOOPBACK = "sip: {listen: ['udp://127.0.0.1:0']}\nmedia: {ports: 28500-28599}"


def tenants(provider: str = "offline") -> TenantDirectory:
    return TenantDirectory([Tenant("t", parse(f"agent: {{provider: {provider}}}", TenantConfig, "t.yaml"))])


def config(text: str = LOOPBACK) -> Config:
    return parse(text, Config, "sipbridge.yaml")


async def test_a_report_that_cannot_be_delivered_harms_no_other_call() -> None:
    reports: list[CallReport] = []

    def fail_once(report: CallReport) -> None:
        reports.append(report)
        if len(reports) == 1:
            raise RuntimeError("the disk is full")

    async with Gateway(config(), tenants(), on_report=fail_once) as gateway:
        phone = await Phone.open(gateway.transport.address("udp"))
        for _ in range(2):
            await phone.call()
            await phone.audio.hear(2)
            await phone.hang_up()
            await within(2.0, gateway.calls.all_over)
        await phone.close()
    assert [report.ended for report in reports] == [Ended.CALLER_HUNG_UP] * 2


async def test_a_provider_that_does_not_exist_is_that_tenants_trouble() -> None:
    """It is found when tenants are loaded; this one slipped through."""
    async with Gateway(config(), tenants("no-such-provider")) as gateway:
        phone = await Phone.open(gateway.transport.address("udp"))
        phone.invite()
        phone.ack_failure(await phone.expect(480))
        await within(2.0, gateway.calls.all_over)
        await phone.close()


async def test_a_call_that_cannot_be_begun_is_500(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object) -> None:
        raise RuntimeError("a fault of ours")

    async with Gateway(config(), tenants()) as gateway:
        monkeypatch.setattr(gateway.calls, "answer", fail)
        phone = await Phone.open(gateway.transport.address("udp"))
        phone.invite()
        phone.ack_failure(await phone.expect(500))
        assert len(gateway.calls) == 0
        await phone.close()


async def test_a_listener_that_cannot_be_had_leaves_nothing_open() -> None:
    async with Gateway(config(), tenants()) as gateway:
        port = gateway.transport.address("udp")[1]
        await asyncio.sleep(0)  # its clock opens an alarm when it starts
        before = len(os.listdir("/proc/self/fd"))
        with pytest.raises(OSError, match="in use"):
            async with Gateway(config(LOOPBACK.replace(":0", f":{port}")), tenants()):
                pass
        assert len(os.listdir("/proc/self/fd")) == before


async def test_who_is_being_called_when_it_closes_gets_his_ack() -> None:
    callee = await Callee.listen()
    trunk = f"trunks: [{{name: pbx, sources: ['127.0.0.1'], outbound: {{proxy: '{callee.trunk}', ping_seconds: 0}}}}]"
    gateway = await Gateway(config(f"{LOOPBACK}\n{trunk}"), tenants()).__aenter__()
    gateway.dial("t", "+15550100")
    invite = await callee.expect("INVITE")
    callee.reply(invite, 180)
    closing = asyncio.create_task(gateway.__aexit__(None, None, None))
    callee.respond(await callee.expect("CANCEL"), 200)
    await gateway.calls.all_over.wait()
    callee.reply(invite, 487)
    await callee.expect("ACK")
    await closing
    await callee.close()


async def test_closing_ends_calls_and_takes_no_new_ones() -> None:
    reports: list[CallReport] = []
    async with Gateway(config(), tenants(), on_report=reports.append) as gateway:
        phone, late = [await Phone.open(gateway.transport.address("udp")) for _ in range(2)]
        await phone.call()
        await phone.audio.hear(2)
        late.invite()  # lies in the socket's buffer when the gateway begins to close
    await phone.expect("BYE")
    assert [report.ended for report in reports if report.setup_ms is not None][:1] == [Ended.SHUTDOWN]
    assert 200 not in late.statuses()
    for each in (phone, late):
        await each.close()
    await asyncio.sleep(0)


async def test_many_short_calls_leave_nothing() -> None:
    """Thirty calls, five at a time, hung up at different moments; `house` looks at what is left."""
    async with house(Script((Utterance(seconds=3),), speed=0), tenant="agent: {greeting: Hello.}") as bench:

        async def call(number: int) -> None:
            phone = await bench.phone()
            phone.invite()
            if number % 5 == 0:
                phone.cancel()
            await phone.until(lambda: phone.statuses()[-1:] in ([200], [487]) and phone.statuses("INVITE")[-1] >= 200)
            final = next(message for message in phone.messages if message.method == "INVITE" and message.status >= 200)
            if final.status == 487:
                phone.ack_failure(final)
                return
            phone.ack(final)
            if number % 5 > 1:
                phone.audio.connect(final.rtp)
                await phone.audio.hear(number % 5)
            await phone.hang_up()

        for first in range(0, 30, 5):
            await asyncio.gather(*(call(number) for number in range(first, first + 5)))
        await bench.report(30)
        assert len(bench.reports) == 30
        engine = bench.gateway._engine
        assert engine.legs == 0
        assert not bench.gateway.calls._by_handle


async def test_the_ladder_of_a_call_is_a_file_once_it_is_over(tmp_path: Path) -> None:
    directory = tmp_path / "ladders"
    async with house(config=f"sip: {{ladders: '{directory}'}}") as bench:
        phone = await bench.phone()
        await phone.call()
        await phone.audio.hear(2)
        await phone.hang_up()
        await bench.report()
        stranger = await bench.phone(user="nobody")
        stranger.invite()
        stranger.ack_failure(await stranger.expect(404))
    text = read_ladder(directory, phone.call_id)
    assert text is not None
    arrows = [re.sub(r"[-<>|]+", " ", line[10:]).strip() for line in text.split("\n\n")[1].splitlines()[1:]]
    assert arrows == [
        "INVITE +sdp",
        "100 Trying (INVITE)",
        "180 Ringing (INVITE)",
        "200 OK (INVITE) +sdp",
        "ACK",
        "BYE",
        "200 OK (BYE)",
    ]
    assert [name for _, name in list_ladders(directory)] == [phone.call_id], "a call that was refused is in memory only"
    assert bench.gateway.ladders.get(stranger.call_id) is not None
