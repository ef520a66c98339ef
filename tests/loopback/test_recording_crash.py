"""A node that records is killed, started again, and asked to forget a caller: real processes, calls and files."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import soundfile

from sipbridge.simulator.model import ModelServer
from sipbridge.simulator.script import Script, Utterance
from tests.loopback.node import ROOT, Node
from tests.loopback.phone import Phone

KEY = "ab" * 32


async def sipbridge(node: Node, *words: str) -> tuple[int, str]:
    """A command, beside the node."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "sipbridge", *words, "-c", str(node.folder / "sipbridge.yaml")),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, said.decode()


def tenant(model: ModelServer) -> dict[str, Any]:
    agent = {"provider": "openai", "api_key": "none", "url": model.url, "greeting": "Hello."}
    return {"match": {"to": "agent"}, "agent": agent, "recording": {"enabled": True}}


async def crash_and_erase(folder: Path) -> None:
    keys, ladders = folder / "key", folder / "ladders"
    keys.write_text(KEY)
    config = {
        "recordings": {"directory": "recordings", "key": f"file:{keys}"},
        "sip": {"listen": ["udp://127.0.0.1:0"], "ladders": str(ladders)},
    }
    script = Script(utterances=(Utterance("Hello, my canary.", 3.0),), speed=0)
    async with ModelServer(script, wire="openai") as model:
        node = Node(folder, config, tenant(model))
        await node.start()
        phones = [await Phone.open(node.address) for _ in range(3)]
        for phone in phones:
            await phone.call()
        for phone in phones:
            await phone.audio.until(lambda phone=phone: len(phone.audio.packets) > 100)  # type: ignore[misc]
        await phones[0].hang_up()
        await node.until(lambda: bool(node.said("recording finished")), within=10)
        await node.kill()
        directory = folder / "recordings" / "t"
        assert sum(".part." in path.name for path in directory.iterdir()) == 2
        await node.start()
        await node.until(lambda: len(node.said("recording finished after a crash")) == 2, within=10)
        assert len(list(directory.glob("*.wav.sealed"))) == 3
        assert all(found["seconds"] > 1.0 for found in node.said("recording finished after a crash"))
        status, said = await sipbridge(node, "recordings", "verify")
        assert status == 0, said
        assert said.count("closed after a crash") == 2
        _, said = await sipbridge(node, "recordings", "list", "--json")
        rows = [json.loads(line) for line in said.splitlines()]
        for number, row in enumerate(rows):
            status, said = await sipbridge(
                node, "recordings", "export", row["path"], "--to", str(folder / f"{number}.wav")
            )
            assert status == 0, said
            assert soundfile.info(folder / f"{number}.wav").duration > 1.0
        await forgotten(node, rows[0]["caller"], folder)
        for phone in phones:
            await phone.close()
        assert await node.stop() == 0
    assert set(node.stored("SELECT caller FROM calls")) <= {("",)}


async def forgotten(node: Node, caller: str, folder: Path) -> None:
    assert caller
    status, said = await sipbridge(node, "erase", "--caller", caller, "--dry-run")
    assert status == 0, said
    assert "there is: 3 calls" in said
    assert "3 recordings" in said
    status, said = await sipbridge(node, "erase", "--caller", caller, "--yes")
    assert status == 0, said
    assert "removed: 3 calls" in said
    assert node.stored() == []
    assert not list((folder / "recordings" / "t").iterdir())
    left = [path for path in (folder / "var").rglob("*") if path.is_file() and b"canary" in path.read_bytes()]
    assert left == []


@pytest.mark.slow
def test_recordings_survive_a_kill_and_a_caller_does_not_survive_being_erased(tmp_path: Path) -> None:
    asyncio.run(asyncio.wait_for(crash_and_erase(tmp_path), 90))
