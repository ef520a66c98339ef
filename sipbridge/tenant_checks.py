"""What is wrong with a tenant's file that no key shows by itself, for it takes the rest of the file, sipbridge.yaml or
what is installed to see it; and the operator's warnings: what is right, but will not happen as it is written."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from ipaddress import ip_address
from urllib.parse import urlsplit

from sipbridge import call_templates
from sipbridge.agent_settings import cautions, problems, secrets_of_agents
from sipbridge.config import Config, not_in_use, secrets_of
from sipbridge.configfile import Place, dotted
from sipbridge.prices import Prices
from sipbridge.tenant_config import TenantConfig
from sipbridge.tenant_file.agent import AgentConfig
from sipbridge.tenant_file.tools import OWN_TOOLS, ToolsConfig
from sipbridge.tools import services


def warnings(config: Config | TenantConfig) -> Iterator[str]:
    """What a configuration asks for that will not happen, in words for the operator."""
    for key in not_in_use(config):
        yield f"{key} has no effect in this version"
    for place, secret in secrets_of(config) if isinstance(config, Config) else secrets_of_agents(config):
        if secret.in_plain_sight:
            yield f"{place} is written out in the file; ${{NAME}} or file:PATH would keep it out"
    if isinstance(config, TenantConfig):
        for at, why in _without_effect(config):
            yield f"{dotted(at)} has no effect: {why}"
        yield from _misunderstood(config)
        yield from cautions(config)
        for at in config.tools.secrets_in_plain_sight():
            yield f"{dotted(('tools', *at))} is written out in the file; ${{NAME}} or file:PATH would keep it out"


def _without_effect(config: TenantConfig) -> Iterator[tuple[Place, str]]:
    """Keys that were set and that another one makes meaningless."""
    given, silence, barge_in = config.model_fields_set, config.silence, config.barge_in
    if config.early_media and (config.answer == "immediately" or config.waiting_sound is None):
        why = "answer is 'immediately'" if config.answer == "immediately" else "there is no waiting_sound"
        yield ("early_media",), why
    if "rings" in given and config.answer != "ring_then_answer":
        yield ("rings",), "answer is not 'ring_then_answer'"
    if silence.seconds is None and silence.model_fields_set & {"prompts", "hang_up"}:
        yield ("silence",), "seconds is missing"
    if silence.seconds is not None and silence.prompts == () and not silence.hang_up:
        yield ("silence",), "there is nothing to say, and hang_up is false"
    if barge_in.backchannels is not None and not barge_in.recover_false_alarms:
        yield ("barge_in", "backchannels"), "recover_false_alarms is false, so nothing is judged"
    if not barge_in.enabled and barge_in.recover_false_alarms:
        yield ("barge_in", "recover_false_alarms"), "enabled is false"
    if config.recording.enabled and config.storage != "everything":
        yield ("recording", "enabled"), f"storage is {config.storage}: a voice says who it is, so nothing is recorded"
    if len(config.agents) == 1:
        only = next(at for at, _ in config.places_of_agents())
        for key in ("description", "greet"):
            if key in config.agent.model_fields_set and getattr(config.agent, key):
                yield (*only, key), "there is no other agent to hand over to this one"
        if config.tools.switch_agent is not None:
            yield ("tools", "switch_agent"), "there is no other agent to switch to"
    if config.summary is not None and config.storage == "attributes":
        yield ("summary",), "storage is 'attributes', so nothing that was said is kept"
    for name in config.tools.model_fields_set:
        if name in OWN_TOOLS and getattr(config.tools, name) is None:
            yield ("tools", name), "it is empty; {} lets the agent use it"


_LIKE_A_PATTERN = re.compile(r"[\\|^$\[\]{}<>]|\.[*+?]|\w\*|^/.*/\w*$|\(\?")


def _misunderstood(config: TenantConfig) -> Iterator[str]:
    """Words that are taken as they stand, and look as if they were meant otherwise."""
    phrases = [("phrases.hang_up", phrase) for phrase in config.phrases.hang_up]
    for name, several in config.phrases.transfer.items():
        phrases += [(f"phrases.transfer.{name}", phrase) for phrase in several]
    for key, phrase in phrases:
        if _LIKE_A_PATTERN.search(phrase):
            yield f"{key}: {phrase!r} is looked for word by word; it is no pattern"
    words = [("limits.warning", config.limits.warning or "")]
    words += [(f"silence.prompts[{number}]", text) for number, text in enumerate(config.silence.prompts or ())]
    words += [(dotted((*at, "farewell")), agent.farewell or "") for at, agent in config.places_of_agents()]
    for key, text in words:
        if "{{" in text or "{%" in text:
            yield f"{key} is said as it stands; it is no template"
        if text.lower().endswith(".wav"):
            yield f"{key} is for the agent to say; it is no sound file"
    for number, tool in enumerate(config.tools.http):
        if not tool.allow_private and _is_private(tool.url):
            yield f"tools.http[{number}].url is no public address: it is never asked without allow_private: true"


def _is_private(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return not ip_address(host).is_global
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def faults(tenant: TenantConfig, config: Config) -> Iterator[tuple[Place, str]]:
    """What can only be judged beside the rest: provider names, trunks, names in templates; each with its place."""
    match = tenant.match
    for at, agent in tenant.places_of_agents():
        yield from problems(agent, at)
        yield from _template_problems(agent, at)
        yield from _tool_problems(agent, tenant.tools, at)
    for place, words in services.faults(tenant.tools):
        yield ("tools", *place), words
    trunks = [trunk.name for trunk in config.trunks]
    if match.trunk is not None and match.trunk not in trunks:
        yield ("match", "trunk"), f"no trunk is called {match.trunk!r}; known are {', '.join(trunks) or 'none'}"
    yield from _way_problems(tenant, {trunk.name: trunk.outbound is not None for trunk in config.trunks})
    if tenant.recording.enabled and config.recordings.directory is None:
        yield ("recording", "enabled"), "there is no recordings.directory in sipbridge.yaml to record to"
    for key in ("spend_per_call", "spend_per_day"):
        if getattr(tenant.limits, key) is None:
            continue
        for _, agent in tenant.places_of_agents():
            if not _has_prices(agent, config.prices):
                yield ("limits", key), f"sipbridge.yaml has no prices for {agent.provider}, so nothing would hold it"


def _way_problems(config: TenantConfig, trunks: Mapping[str, bool]) -> Iterator[tuple[Place, str]]:
    """`trunks`: name -> calls can be placed over it."""
    name, transfers = config.outbound_trunk, config.tools.transfer_call
    if name is not None and name not in trunks:
        yield ("outbound_trunk",), f"no trunk is called {name!r}; known are {', '.join(trunks) or 'none'}"
    elif name is not None and not trunks[name]:
        yield ("outbound_trunk",), f"trunk {name!r} has no 'outbound', so no call can be placed over it"
    elif transfers is not None and transfers.needs_a_way_out:
        key = "mode" if transfers.mode == "attended" else "via"
        if name is None and not any(trunks.values()):
            words = "the target is called by us, and no trunk of this tenant's has 'outbound'"
            yield ("tools", "transfer_call", key), words


def _tool_problems(agent: AgentConfig, tools: ToolsConfig, at: Place) -> Iterator[tuple[Place, str]]:
    if (names := tools.names()) is None:
        return
    known = sorted(names | {"switch_agent"})  # which they have where there are several, named or not
    for number, name in enumerate(agent.tools or ()):
        if name not in known:
            there = ", ".join(known)
            near = get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are: {there}"
            yield (*at, "tools", number), f"the tenant has no tool {name!r}; {hint}"


def _template_problems(agent: AgentConfig, at: Place) -> Iterator[tuple[Place, str]]:
    for key, text in (("instructions", agent.instructions), ("greeting", agent.greeting or "")):
        for fault in call_templates.faults(text):
            yield (*at, key), fault


def _has_prices(agent: AgentConfig, prices: Prices) -> bool:
    """For the agent's provider, or for one of those that it is made of."""
    parts = (part for part in (agent.voice_provider, agent.stt, agent.llm, agent.tts) if part is not None)
    return any(provider in prices.root for provider in (agent.provider, *(part.provider for part in parts)))
