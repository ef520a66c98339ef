"""`check`, `route` and a call of ours, with tenants of a backend."""

from __future__ import annotations

import asyncio
from pathlib import Path

import yaml
from typer.testing import CliRunner

from sipbridge.cli import app
from sipbridge.commands.tenants import rollback
from sipbridge.config import load_config
from sipbridge.errors import SipbridgeError
from sipbridge.tenant_source.backend import TenantBackend
from sipbridge.tenant_source.versions import Text, Versions
from tests.tenant_source.fake_backend import Asked, FakeBackend, document, http


async def sipbridge(*words: str) -> tuple[int, str]:
    """In a loop of its own, as in a process."""
    done = await asyncio.to_thread(CliRunner().invoke, app, words)
    return done.exit_code, done.output + (str(done.exception) if isinstance(done.exception, SipbridgeError) else "")


def configured(folder: Path, url: str, **more: object) -> Path:
    path = folder / "sipbridge.yaml"
    config = {"sip": {"listen": ["udp://127.0.0.1:0"]}, "tenants": {"url": url, "timeout_seconds": 2, **more}}
    path.write_text(yaml.safe_dump(config))
    return path


def by_number(asked: Asked) -> bytes:
    return http(200, document(version=3)) if asked.query.get("to", "").startswith("+1555") else http(404)


async def test_route_says_what_the_backend_says(tmp_path: Path) -> None:
    async with FakeBackend(by_number) as server:
        path = configured(tmp_path, f"{server.url}?key=hush")
        status, said = await sipbridge("route", "-c", str(path), "--to", "+15550100", "--header", "X-Member: 42")
        assert (status, said) == (0, f"acme: chosen: {server.url} says so (version 3)\n")
        assert server.asked[-1].query["header.x-member"] == "42"
        assert server.asked[-1].query["key"] == "hush"
        status, said = await sipbridge("route", "-c", str(path), "--to", "7")
        assert (status, said) == (1, f"{server.url}: nobody's\n")
    status, said = await sipbridge("route", "-c", str(path), "--to", "7")
    assert status == 1
    assert "All connection attempts failed" in said
    assert not (tmp_path / "var").exists()  # nothing is kept of looking


def test_a_file_that_is_wrong_or_gone_goes_back_to_what_is_in_force(tmp_path: Path) -> None:
    (tmp_path / "tenants").mkdir()
    config, path = tmp_path / "sipbridge.yaml", tmp_path / "tenants" / "t.yaml"
    config.write_text("{}\n")
    texts = [f"agent: {{provider: offline, greeting: v{number}}}\n" for number in (1, 2, 3)]
    for text in texts:
        Versions(tmp_path / "var" / "tenants").keep([Text("t", text, text)])
    path.write_text("agent: [\n")
    rollback("t", None, config)
    assert path.read_text() == texts[2]
    rollback("t", None, config)
    assert path.read_text() == texts[1]
    path.unlink()
    rollback("t", None, config)
    assert path.read_text() == texts[1]


async def test_route_goes_on_in_the_directory(tmp_path: Path) -> None:
    (tmp_path / "tenants").mkdir()
    (tmp_path / "tenants" / "desk.yaml").write_text("match: {to: '7'}\nagent: {provider: offline}\n")
    async with FakeBackend(by_number) as server:
        path = configured(tmp_path, server.url)
        status, said = await sipbridge("route", "-c", str(path), "--to", "7")
        assert status == 0
        assert said.splitlines() == [f"{server.url}: nobody's", "desk: chosen: the most specific match"]
        path = configured(tmp_path, server.url, source="http")
        assert (await sipbridge("route", "-c", str(path), "--to", "7"))[0] == 1
        path = configured(tmp_path, server.url, source="directory")
        assert (await sipbridge("route", "-c", str(path), "--to", "+15550100"))[0] == 1


async def test_check_asks_it(tmp_path: Path) -> None:
    async with FakeBackend(by_number) as server:
        path = configured(tmp_path, server.url)
        _, said = await sipbridge("check", "-c", str(path))
        assert f"tenants {server.url}: answers" in said
        server.answer = lambda asked: http(200, b"<html>")
        status, said = await sipbridge("check", "-c", str(path))
        assert status == 1
        assert f"tenants {server.url}: {server.url}: no JSON" in said
        server.answer = lambda asked: http(401)
        assert "answers 401" in (await sipbridge("check", "-c", str(path)))[1]


async def test_a_tenant_is_asked_for_by_its_name(tmp_path: Path) -> None:
    async with FakeBackend(lambda asked: http(200, document(asked.query.get("tenant", "none")))) as server:
        config = load_config(configured(tmp_path, server.url))
        async with TenantBackend(config, tmp_path / "tenants") as source:
            found = await source.fetch("acme")
            assert found is not None
            assert found.id == "acme"
            assert source.get("acme") is found
            assert set(server.asked[0].query) == {"tenant", "node"}
