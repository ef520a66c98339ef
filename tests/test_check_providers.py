"""`sipbridge check` of the tenants' agents: what a call would be refused for, and what to do about it."""

from __future__ import annotations

import asyncio
import time

import pytest

from sipbridge.check_providers import CURES, look_at_providers
from sipbridge.configfile import parse
from sipbridge.finding import Finding
from sipbridge.simulator.model import ModelServer
from sipbridge.simulator.script import Fault, Script
from sipbridge.tenant_config import TenantConfig
from sipbridge.tenants import Tenant

KEY = "sk-test-0123456789abcdef"


def tenant(id: str, agent: str, more: str = "") -> Tenant:
    return Tenant(id, parse(f"agent: {{provider: openai, {agent}}}\n{more}", TenantConfig, "t.yaml"))


def look(fault: str | None, more: str = "") -> tuple[Finding, ModelServer]:
    async def scenario() -> tuple[Finding, ModelServer]:
        async with ModelServer(Script(fault=Fault.parse(fault) if fault else None)) as server:
            one = tenant("one", f"url: '{server.url}', api_key: {KEY}, model: m, greeting: Hello.", more)
            (finding,) = await look_at_providers([one])
            return finding, server

    return asyncio.run(scenario())


def test_a_session_is_configured_as_for_a_call_and_closed() -> None:
    finding, server = look(None, "tools: {hang_up: {}}")
    assert (finding.verdict, finding.subject) == ("ok", "tenant one: openai m")
    record = server.sessions[0]
    assert record.violations == []
    assert [message["type"] for message in record.messages()] == ["session.update"], "nobody is greeted"
    assert record.messages()[0]["session"]["tools"][0]["name"] == "hang_up"
    assert record.close_code == 1000


def test_each_of_several_agents_is_looked_at() -> None:
    async def scenario() -> tuple[list[Finding], ModelServer]:
        async with ModelServer() as server:
            there = f"{{provider: openai, url: '{server.url}', tools: [hang_up]}}"
            gone = "{provider: openai, url: 'ws://127.0.0.1:1/v1'}"
            text = f"agents: {{triage: {there}, billing: {gone}}}\ntools: {{hang_up: {{}}, hold: {{}}}}"
            tenants = [Tenant("one", parse(text, TenantConfig, "t.yaml"))]
            return await look_at_providers(tenants), server

    found, server = asyncio.run(scenario())
    assert [(finding.verdict, finding.subject) for finding in found] == [
        ("ok", "tenant one, agents.triage: openai"),
        ("failed", "tenant one, agents.billing: openai"),
    ]
    tools = server.sessions[0].messages()[0]["session"]["tools"]
    assert [tool["name"] for tool in tools] == ["hang_up", "switch_agent"]


def test_encrypted_to_who_speaks_in_the_clear() -> None:
    async def scenario() -> Finding:
        async with ModelServer() as server:
            (finding,) = await look_at_providers([tenant("one", f"url: '{server.url.replace('ws:', 'wss:')}'")])
            return finding

    finding = asyncio.run(scenario())
    assert (finding.verdict, finding.cure) == ("failed", CURES["closed"])


@pytest.mark.parametrize(
    ("fault", "cure"),
    [
        ("status:401", CURES["401"]),
        ("status:403", CURES["403"]),
        ("status:404", CURES["404"]),
        ("status:429", CURES["429"]),
        ("status:503", "the vendor has trouble"),
        ("refuse_setup", "the vendor refuses what it is asked for"),
    ],
)
def test_what_a_call_would_be_refused_for(fault: str, cure: str) -> None:
    finding, _ = look(fault)
    assert finding.verdict == "failed"
    assert finding.cure.startswith(cure)
    assert KEY not in str(finding)


def test_a_model_that_says_nothing_is_given_up_within_the_tenants_deadline() -> None:
    began = time.monotonic()
    finding, _ = look("silence", "deadlines: {connect_seconds: 0.2}")
    assert time.monotonic() - began < 2
    assert (finding.verdict, finding.cure) == ("failed", CURES["timeout"])


def test_a_model_that_takes_most_of_the_deadline_is_warned_of() -> None:
    finding, _ = look("slow:400", "deadlines: {connect_seconds: 0.7}")
    assert finding.verdict == "warning"
    assert "deadlines.connect_seconds (0.7 s)" in finding.cure


def test_where_a_secret_is_missing_nobody_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    assert asyncio.run(look_at_providers([tenant("one", "api_key: '${NO_SUCH_KEY}'")])) == []


def test_nothing_listens_there() -> None:
    (finding,) = asyncio.run(look_at_providers([tenant("one", "url: 'ws://127.0.0.1:1/v1'")]))
    assert (finding.verdict, finding.cure) == ("failed", CURES["refused"])
