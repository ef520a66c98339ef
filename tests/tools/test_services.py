"""What tools share over all calls, while tenants change."""

from __future__ import annotations

import asyncio

from sipbridge.tenant_file.tools import ToolsConfig
from sipbridge.tools import toolbox_for
from sipbridge.tools.services import ToolServices


def tools(url: str, key: str = "${KEY}") -> ToolsConfig:
    tool = {"name": "t", "description": "d", "url": url, "headers": {"X-Key": key}}
    return ToolsConfig.model_validate({"http": [tool]})


def test_a_version_is_closed_when_its_last_call_is_over() -> None:
    async def run() -> None:
        services = ToolServices()
        old = services.borrow("a", tools("https://example.com/1"))
        assert services.borrow("a", tools("https://example.com/1")) is old  # read again, and the same
        closed: list[object] = []
        old.unused = closed.append
        new = services.of("a", tools("https://example.com/2"))
        assert new is not old
        old.give_back()
        assert not closed
        old.give_back()
        assert closed == [old]
        services.of("a", tools("https://example.com/2", key="${OTHER}"))
        assert new.retired
        services.forget("a")
        services.forget("a")
        await services.close()

    asyncio.run(run())


def test_a_call_gives_back_what_it_has_borrowed() -> None:
    async def run() -> None:
        services = ToolServices()
        toolbox = toolbox_for(tools("https://example.com/1"), timeout_seconds=1, tenant="a", services=services)
        shared = services.of("a", tools("https://example.com/1"))
        assert shared.borrowed == 1
        toolbox.close()
        assert shared.borrowed == 0
        await services.close()

    asyncio.run(run())
