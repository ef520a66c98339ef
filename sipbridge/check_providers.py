"""Can each tenant's agent be made ready? A part of `check`: a session is opened, configured as for a call, and closed.

That costs nothing at any vendor: nobody speaks. What a call would be refused for shows here, with what to do about it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from sipbridge.agent import AgentOptions
from sipbridge.agent_settings import capabilities, credential_of
from sipbridge.call_fields import CallFields
from sipbridge.configfile import Place, dotted
from sipbridge.errors import AgentStartError, ConfigError, SipbridgeError
from sipbridge.finding import Finding
from sipbridge.providers import new_agent_from_credential
from sipbridge.tenant_file.agent import AgentConfig
from sipbridge.tenants import Tenant
from sipbridge.tools import toolbox_for
from sipbridge.tools.switch_agent import declared_to

_AT_ONCE = 10
"""More would look like an attack to some vendors."""

CURES = {
    "400": "see agent.model, and agent.extra",
    "401": "see agent.api_key: is it of this vendor, this account, this region?",
    "403": "the account of agent.api_key may not use this model, or not from here",
    "404": "see agent.model and agent.url",
    "429": "the account is at its limit: raise that at the vendor, or try again later",
    "dns": "see agent.url; else /etc/resolv.conf, and whether a firewall stops DNS",
    "refused": "nothing listens there: see agent.url",
    "unreachable": "see agent.url, and whether a firewall stops outgoing connections",
    "tls": "see agent.url; is this machine's clock right, and are its authorities (SSL_CERT_FILE) the right ones?",
    "closed": "see agent.url: is a model's WebSocket there, and ws:// or wss:// right?",
    "google_auth": "pip install 'sipbridge[vertex]'",
    "service_account": "see agent.vertex.service_account",
    "timeout": "is the vendor up, and a firewall not in between? else raise deadlines.connect_seconds",
    "config": "see the page of this provider in docs/providers",
}
"""By `AgentStartError.code`."""
_SERVER = "the vendor has trouble: see its status page; calls are refused with 480 until it is over"
_OTHER = "the vendor refuses what it is asked for: see agent.model, agent.voice, agent.extra and the tools"


async def look_at_providers(tenants: Sequence[Tenant]) -> list[Finding]:
    """Each agent of each tenant, within its own deadline. Those whose secrets are missing are left out: that is said
    elsewhere."""
    limit = asyncio.Semaphore(_AT_ONCE)

    async def look(tenant: Tenant, agent: AgentConfig, at: Place) -> Finding:
        async with limit:
            return await _provider(tenant, agent, at)

    agents = [(tenant, agent, at) for tenant in tenants for at, agent in tenant.config.places_of_agents()]
    return list(await asyncio.gather(*(look(*each) for each in agents if _has_secrets(each[1]))))


def _has_secrets(agent: AgentConfig) -> bool:
    try:
        credential_of(agent)
    except ConfigError:
        return False
    return True


async def _provider(tenant: Tenant, config: AgentConfig, at: Place) -> Finding:
    seconds = tenant.config.deadlines.connect_seconds
    model = f" {config.model}" if config.model else ""
    place = "" if len(at) == 1 else f", {dotted(at)}"
    subject = f"tenant {tenant.id}{place}: {config.provider}{model}"
    began = time.monotonic()
    try:
        agent = new_agent_from_credential(credential_of(config), _options(tenant, config, at), connect_timeout=seconds)
        try:
            await agent.start()
        finally:
            await agent.close()
    except SipbridgeError as error:
        code = error.code if isinstance(error, AgentStartError) else error.label
        return Finding("failed", subject, str(error), _cure(code))
    taken = time.monotonic() - began
    if taken > seconds / 2:
        cure = f"callers hear it ring so long; near deadlines.connect_seconds ({seconds:g} s) calls fail"
        return Finding("warning", subject, f"ready, but only after {taken:.1f} s", cure)
    return Finding("ok", subject, f"ready to talk within {taken * 1000:.0f} ms")


def _options(tenant: Tenant, config: AgentConfig, at: Place) -> AgentOptions:
    """As for a call from a telephone that nobody knows."""
    can, agents = capabilities(config), tenant.config.agents
    toolbox = toolbox_for(tenant.config.tools, timeout_seconds=tenant.config.deadlines.tool_seconds)
    name = str(at[-1]) if at[0] == "agents" else next(iter(agents))
    fields = CallFields(to="", caller="anonymous")
    tools = declared_to(name, config, agents, toolbox)
    return tenant.with_agent(config).agent_options(fields, can.input_format, can.output_format, tools)


def _cure(code: str) -> str:
    if code.isdigit() and int(code) >= 500:
        return _SERVER
    return CURES.get(code, _OTHER)
