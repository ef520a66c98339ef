"""The gateway's side of a reader that dies."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sipbridge.config import Config
from sipbridge.configfile import parse
from sipbridge.tenant_config import TenantConfig
from sipbridge.tenant_source import child, watch
from sipbridge.tenant_source.directory import TenantDirectory
from sipbridge.tenant_source.news import Gone, Settled
from sipbridge.tenants import Tenant
from tests.virtual import pass_time, timed


@timed
async def test_what_a_reader_had_only_begun_to_say_is_not_in_force(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lives: Iterator[list[Any]] = iter([[Gone("acme")], [Settled(0.1)]])
    said: list[list[Any]] = []

    async def start(module: str) -> Any:
        said.append(next(lives))
        return None

    async def nothing(*args: object) -> None:
        pass

    async def receive(process: Any) -> Any:
        if said[-1]:
            return said[-1].pop(0)
        if len(said) == 1:
            raise EOFError
        await asyncio.Event().wait()

    for name, instead in {"start": start, "send": nothing, "receive": receive, "end": nothing}.items():
        monkeypatch.setattr(child, name, instead)
    tenant = Tenant("acme", TenantConfig.model_validate({"agent": {"provider": "offline"}}))
    directory = TenantDirectory([tenant])
    async with watch.TenantWatch(parse("", Config, "sipbridge.yaml"), tmp_path / "sipbridge.yaml", directory):
        await pass_time(5)
        assert len(said) == 2
        assert said[-1] == []
        assert directory.get("acme") is tenant
