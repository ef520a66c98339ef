"""`sipbridge dial`: a process of its own calls a telephone, on the embedded model."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.loopback.callee import Callee

ROOT = Path(__file__).parents[2]
TENANT = "agent: {provider: offline, greeting: Goodbye.}\n"


class Dialling:
    def __init__(self, callee: Callee, process: asyncio.subprocess.Process) -> None:
        self.callee = callee
        self.process = process

    async def over(self) -> tuple[int | None, dict[str, Any], str]:
        """Exit status, report, and what was said beside it."""
        async with asyncio.timeout(20):
            out, said = await self.process.communicate()
        return self.process.returncode, json.loads(out) if out else {}, said.decode()


@asynccontextmanager
async def dialling(
    folder: Path, *arguments: str, tenant: str = TENANT, outbound: str = "", listen: str = "udp://127.0.0.1:5060"
) -> AsyncIterator[Dialling]:
    callee = await Callee.listen()
    (folder / "tenants").mkdir()
    (folder / "tenants" / "acme.yaml").write_text(tenant)
    path = folder / "sipbridge.yaml"
    path.write_text(
        f"sip: {{listen: ['{listen}']}}\n"
        f"trunks: [{{name: pbx, sources: [127.0.0.1], register: {{server: '{callee.trunk}', username: '7000', "
        f"password: secret}}, outbound: {{proxy: '{callee.trunk}', ping_seconds: 0, {outbound}}}}}]\n"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "sipbridge", "dial", *(arguments or ("acme", "+15550100")), "-c", str(path),
        cwd=ROOT, env={**os.environ, "NO_COLOR": "1", "COLUMNS": "200"},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        yield Dialling(callee, process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        await callee.close()


async def test_a_conversation_is_status_0(tmp_path: Path) -> None:
    arguments = ("acme", "+15550100", "--trunk", "pbx", "--from", "+15550199")
    async with dialling(tmp_path, *arguments) as bench:
        callee = bench.callee
        invite = await callee.expect("INVITE", within=10)
        assert invite.start_line.startswith("INVITE sip:+15550100@127.0.0.1:")
        assert invite["From"].startswith("<sip:+15550199@")
        assert ":5060" not in invite["Contact"], "a gateway that serves may have that port"
        callee.reply(invite, 180)
        await callee.answer(invite)
        await callee.audio.hear_sound(20)
        await callee.hang_up()
        status, report, _ = await bench.over()
        assert status == 0
        assert (report["ended"], report["tenant"], report["trunk"]) == ("callee_hung_up", "acme", "pbx")
        assert report["direction"] == "outbound"
        assert {message.start_line.split()[0] for message in callee.messages if not message.status} == {
            "INVITE",
            "ACK",
        }, "and nobody is registered"


async def test_a_call_that_came_to_nothing_is_status_1(tmp_path: Path) -> None:
    async with dialling(tmp_path) as bench:
        invite = await bench.callee.expect("INVITE", within=10)
        bench.callee.reply(invite, 486)
        status, report, _ = await bench.over()
        assert (status, report["ended"], report["status"]) == (1, "busy", 486)


async def test_nobody_answers(tmp_path: Path) -> None:
    async with dialling(tmp_path, outbound="ring_seconds: 0.5") as bench:
        callee = bench.callee
        invite = await callee.expect("INVITE", within=10)
        callee.reply(invite, 180)
        callee.respond(await callee.expect("CANCEL"), 200)
        callee.reply(invite, 487)
        status, report, _ = await bench.over()
        assert (status, report["ended"]) == (1, "no_answer")


async def test_a_machine_is_hung_up_on_where_the_tenant_wants_that(tmp_path: Path) -> None:
    async with dialling(tmp_path, tenant=f"{TENANT}machine: hang_up\n") as bench:
        callee = bench.callee
        invite = await callee.expect("INVITE", within=10)
        await callee.answer(invite, contact=f'<sip:box@{callee.here}>;actor="msg-taker";automata')
        bye = await callee.expect("BYE")
        assert "answering_machine" in bye["Reason"]
        status, report, _ = await bench.over()
        assert (status, report["ended"], report["machine"]) == (1, "answering_machine", "voicemail")


async def test_ctrl_c_takes_it_back(tmp_path: Path) -> None:
    async with dialling(tmp_path) as bench:
        callee = bench.callee
        invite = await callee.expect("INVITE", within=10)
        callee.reply(invite, 180)
        bench.process.send_signal(signal.SIGINT)
        callee.respond(await callee.expect("CANCEL"), 200)
        callee.reply(invite, 487)
        status, report, _ = await bench.over()
        assert (status, report["ended"]) == (1, "cancelled")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("nobody", "100"), "there is no tenant 'nobody'"),
        (("acme", "100", "--trunk", "other"), "there is no trunk 'other'"),
        (("acme", "http://example.com"), "neither a number nor a name"),
        (("acme",), "Missing argument"),
    ],
)
async def test_what_cannot_be_dialled_is_status_2(tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    async with dialling(tmp_path, *arguments) as bench:
        status, report, words = await bench.over()
        assert (status, report) == (2, {})
        assert said in words
        assert "Traceback" not in words
        assert bench.callee.messages == []
