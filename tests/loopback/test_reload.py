"""Tenants' files change while calls are up: the real files, the real process that reads them, telephones."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from pathlib import Path

import pytest

from sipbridge.simulator.script import Script, Utterance
from tests.loopback.house import House, house
from tests.loopback.phone import Phone

SPEECH = Script((Utterance("One moment.", 0.4),))


def told(message: dict[str, object]) -> str:
    session = message["session"]
    assert isinstance(session, dict)
    return str(session["instructions"])


class Files:
    def __init__(self, base: Path, bench: House) -> None:
        self.path = base / "tenants" / "t.yaml"
        self.bench = bench

    @property
    def text(self) -> str:
        return self.path.read_text()

    def say(self, words: str) -> None:
        new = self.path.with_suffix(".tmp")
        new.write_text(re.sub(r"instructions: .*", f"instructions: {words}", self.text))
        new.replace(self.path)

    async def in_force(self, words: str, *, within: float = 10.0) -> None:
        """The first time the reader has to start: that takes a second or two."""
        await self.bench.until(lambda: words in self.instructions, within=within)

    @property
    def instructions(self) -> str:
        tenant = self.bench.tenants.get("t")
        return "" if tenant is None else tenant.config.agent.instructions


async def test_new_calls_get_the_new_version_and_calls_that_are_up_keep_theirs(tmp_path: Path) -> None:
    async with house(SPEECH, files=tmp_path) as bench:
        files = Files(tmp_path, bench)
        first = await bench.phone()
        await first.call()
        before = await bench.session(1)
        files.say("You are new.")
        await files.in_force("You are new.")
        second = await bench.phone()
        await second.call()
        after = await bench.session(2)
        assert told(await before.wait_for("session.update")) == "You are a test."
        assert told(await after.wait_for("session.update")) == "You are new."
        assert len(before.messages("session.update")) == 1
        assert not before.closed.is_set()
        tenant = bench.tenants.get("t")
        assert tenant is not None
        assert tenant.version == 2
        await first.hang_up()
        await second.hang_up()


async def test_calls_that_are_up_take_instructions_where_the_tenant_wants_that(tmp_path: Path) -> None:
    async with house(SPEECH, files=tmp_path, tenant="apply_changes: instructions") as bench:
        files = Files(tmp_path, bench)
        phone = await bench.phone()
        await phone.call()
        record = await bench.session()
        await record.wait_for("session.update")
        files.say("For {{ call.to }}, anew.")
        update = await asyncio.wait_for(record.wait_for("session.update", 2), 10)
        assert told(update) == "For agent, anew."
        await phone.hang_up()


async def test_a_broken_file_keeps_the_old_version_and_is_counted(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    async with house(SPEECH, files=tmp_path) as bench:
        files = Files(tmp_path, bench)
        good = files.text
        files.path.write_text(good + "rings: many\nfallbak: []\n")
        await bench.until(lambda: bool(bench.tenants.refused), within=10)
        why = bench.tenants.refused["t"]
        line = good.count("\n") + 1
        assert f"t.yaml:{line}: rings: " in why
        assert f"t.yaml:{line + 1}: fallbak: unknown key; did you mean 'fallback'?" in why
        assert "sipbridge_tenants_broken 1.0" in bench.gateway.metrics.render()
        phone = await bench.phone()
        await phone.call()
        assert told(await (await bench.session()).wait_for("session.update")) == "You are a test."
        files.path.write_text(good)
        await bench.until(lambda: not bench.tenants.refused, within=10)
        assert "sipbridge_tenants_broken 0.0" in bench.gateway.metrics.render()
        await phone.hang_up()


async def test_a_file_that_is_gone_is_a_tenant_less_for_new_calls(tmp_path: Path) -> None:
    async with house(SPEECH, files=tmp_path) as bench:
        files = Files(tmp_path, bench)
        up, late = await bench.phone(), await bench.phone()
        await up.call()
        files.path.unlink()
        await bench.until(lambda: not bench.tenants.tenants, within=10)
        late.invite()
        refused = await late.expect(404)
        late.ack_failure(refused)
        await up.hang_up()
        assert (await bench.report()).ended.value == "caller_hung_up"


def _readers() -> list[int]:
    """The processes that read files for this one."""
    here = Path("/proc/self/task")
    children = {int(pid) for task in here.iterdir() for pid in (task / "children").read_text().split()}
    return [pid for pid in children if b"watching" in Path(f"/proc/{pid}/cmdline").read_bytes()]


async def test_a_reader_that_dies_is_followed_by_another(tmp_path: Path) -> None:
    async with house(SPEECH, files=tmp_path) as bench:
        files = Files(tmp_path, bench)
        files.say("One.")
        await files.in_force("One.")
        (reader,) = _readers()
        os.kill(reader, signal.SIGKILL)
        files.say("Two.")
        await files.in_force("Two.", within=15)
        (other,) = _readers()
        assert other != reader
    assert _readers() == []


async def test_the_directory_may_go_and_come_back(tmp_path: Path) -> None:
    async with house(SPEECH, files=tmp_path, config="tenants: {rescan_seconds: 0.5}") as bench:
        files = Files(tmp_path, bench)
        files.say("One.")
        await files.in_force("One.")
        away = tmp_path / "away"
        (tmp_path / "tenants").rename(away)
        (away / "t.yaml").write_text(files_text := (away / "t.yaml").read_text().replace("One.", "Two."))
        phone = await bench.phone()
        await phone.call()
        assert told(await (await bench.session()).wait_for("session.update")) == "One."
        away.rename(tmp_path / "tenants")
        await files.in_force("Two.")
        assert files.text == files_text
        files.say("Three.")  # it is watched again
        await files.in_force("Three.")
        await phone.hang_up()


async def _storm(tmp_path: Path, calls: int, reloads: int) -> None:
    """`reloads` versions, each in force before the next is written, while `calls` are up: none of them notices."""
    async with house(Script((Utterance("Listen.", 30.0),)), files=tmp_path) as bench:
        files = Files(tmp_path, bench)
        phones: list[Phone] = [await bench.phone() for _ in range(calls)]
        for phone in phones:
            await phone.call()
        await bench.session(calls)
        for number in range(reloads):
            files.say(f"Version {number} of it.")
            await files.in_force(f"Version {number} of it.", within=20)
        assert bench.tenants.changes == reloads
        assert len(bench.gateway.calls) == calls
        assert [record.closed.is_set() for record in bench.model.sessions] == [False] * calls
        for phone in phones:
            await phone.hang_up()
        reports = [await bench.report(number + 1) for number in range(calls)]
        assert {report.ended.value for report in reports} == {"caller_hung_up"}
        tenant = bench.tenants.get("t")
        assert tenant is not None
        assert tenant.version == reloads + 1


async def test_reloads_touch_no_call(tmp_path: Path) -> None:
    await _storm(tmp_path, 3, 10)


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_a_thousand_reloads_touch_none_of_twenty_calls(tmp_path: Path) -> None:
    await _storm(tmp_path, 20, 1000)
