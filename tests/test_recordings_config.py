"""Where recordings go, and what they are sealed with."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path

import pytest

from sipbridge.config import Config, secrets_of
from sipbridge.configfile import parse
from sipbridge.errors import ConfigError
from sipbridge.gateway import Gateway
from sipbridge.tenant_source.directory import TenantDirectory


def recordings(text: str) -> Config:
    return parse(f"recordings: {{directory: d, {text}}}\n", Config, "s.yaml")


def test_keys_come_from_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEW_KEY", base64.b64encode(bytes(32)).decode())
    (tmp_path / "old").write_text(f"{bytes(range(32)).hex()}\n")
    config = recordings(f'key: "${{NEW_KEY}}", old_keys: ["file:{tmp_path}/old"]')
    ring = config.recordings.key_ring()
    assert ring is not None
    assert ring.current.secret == bytes(32)
    assert [place for place, _ in secrets_of(config)] == ["recordings.key", "recordings.old_keys[0]"]
    assert parse("{}", Config, "s.yaml").recordings.key_ring() is None


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('key: "${NO_SUCH_KEY}"', "recordings.key: the environment variable NO_SUCH_KEY is not set"),
        ('key: "file:/nowhere/key"', "recordings.key: the secret file /nowhere/key cannot be read"),
        ('key: "${SHORT}"', "recordings.key: a key is 32 bytes in base64 or hexadecimal"),
        ('key: "${GOOD}", old_keys: ["${SHORT}"]', r"recordings.old_keys\[0\]: a key is 32 bytes"),
    ],
)
def test_without_its_key_no_gateway_starts(text: str, complaint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or it would have to choose between recording in clear and not at all, with nobody there who could know."""
    monkeypatch.setenv("SHORT", "c2VjcmV0LXRoYXQtaXMtc2hvcnQ=")
    monkeypatch.setenv("GOOD", bytes(32).hex())
    sip = "sip: {listen: ['udp://127.0.0.1:0']}"
    config = parse(f"{sip}\nrecordings: {{directory: d, {text}}}\n", Config, "s.yaml")

    async def scenario() -> None:
        async with Gateway(config, TenantDirectory(())):
            pytest.fail("it has started")

    with pytest.raises(ConfigError, match=complaint) as raised:
        asyncio.run(scenario())
    assert "c2VjcmV0" not in str(raised.value)


def test_old_keys_without_a_new_one() -> None:
    with pytest.raises(ConfigError, match=r"s.yaml:1: recordings.old_keys: without recordings.key"):
        recordings('old_keys: ["${OLD}"]')
