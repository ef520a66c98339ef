"""What a tenant asks of its agent, held against what the agent's model can do: options mean the same everywhere.

Everything is judged when the configuration is read, for the model that is configured. What can only be a mistake is an
error; what will not happen, or not as it is written, is a warning. In a call nothing is left out that nobody was told
of: a dialect is only given what its model takes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from difflib import get_close_matches
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

from sipbridge import turn_taking
from sipbridge.agent import AgentOptions, Capabilities
from sipbridge.configfile import Place, Section, dotted
from sipbridge.errors import ConfigError, UnknownProviderError
from sipbridge.logins import Secret
from sipbridge.providers import BUILT_IN, capabilities_of, new_dialect
from sipbridge.tenant_config import TenantConfig
from sipbridge.tenant_file.agent import AgentConfig

_OPTIONS = frozenset(
    {
        "description",
        "tools",
        "greet",
        "voice",
        "temperature",
        "instructions",
        "greeting",
        "farewell",
        "language",
        "turn_detection",
        "transcripts",
        "native_audio",
        "extra",
    }
)
"""Keys of `agent` that say how the model is to talk (`AgentOptions`) or what the call does; the rest is the credential:
who and where it is."""

_AZURE = ("azure_openai", "azure_voice_live")
_WHOSE: Mapping[str, tuple[str, ...]] = {
    "agent_id": ("elevenlabs",),
    "agent_name": ("azure_voice_live",),
    "agent_project": ("azure_voice_live",),
    "api_version": _AZURE,
    "aws": ("nova_sonic",),
    "delegation": ("openai_live",),
    "entra": _AZURE,
    "g711": ("openai_compatible",),
    "input_rate": ("openai_compatible",),
    "key_header": ("openai_compatible",),
    "llm": ("cascade",),
    "organization": ("openai", "openai_live"),
    "output_rate": ("openai_compatible",),
    "project": ("openai", "openai_live"),
    "region": ("dashscope",),
    "shape": ("openai_compatible",),
    "stt": ("cascade",),
    "think": ("deepgram",),
    "token": _AZURE,
    "tool_behavior": ("gemini",),
    "transcription_model": ("azure_openai", "azure_voice_live", "deepgram", "openai", "openai_compatible", "xai"),
    "tts": ("cascade",),
    "vertex": ("gemini",),
    "workspace": ("dashscope",),
}
"""Keys of the credential that only these providers read. Of one from outside nothing is known."""

# --- the credential ---------------------------------------------------------------------------------------------------


def credential_of(agent: AgentConfig, reveal: Callable[[Secret], str] = Secret.reveal) -> dict[str, Any]:
    """What `new_agent_from_credential` is given. Raises `ConfigError` where a secret that is needed is missing."""
    credential = _plain_section(agent, reveal, _OPTIONS)
    for name in ("voice_provider", "tts"):
        if credential.get(name) and credential[name].get("voice"):
            known = capabilities_of(agent.provider, credential).voices
            credential[name]["voice"] = spelled(credential[name]["voice"], known)
    return credential


def hidden(secret: Secret) -> str:
    """In a secret's place, where all that matters is that there is one."""
    return "hidden"


def capabilities(agent: AgentConfig) -> Capabilities:
    """What the agent's model can do; no secret has to be there for that. Raises `UnknownProviderError`."""
    return capabilities_of(agent.provider, credential_of(agent, hidden))


def _plain_section(
    section: Section, reveal: Callable[[Secret], str], left_out: frozenset[str] = frozenset()
) -> dict[str, Any]:
    return {name: _plain(value, reveal) for name, value in section if name not in left_out}


def _plain(value: Any, reveal: Callable[[Secret], str]) -> Any:
    if isinstance(value, Secret):
        return reveal(value)
    return _plain_section(value, reveal) if isinstance(value, Section) else value


def secrets_in(section: Section, place: str) -> Iterator[tuple[str, Secret]]:
    """All of them, each with its place."""
    for name, value in section:
        if isinstance(value, Secret):
            yield f"{place}.{name}", value
        elif isinstance(value, Section):
            yield from secrets_in(value, f"{place}.{name}")


def secrets_of_agents(config: TenantConfig) -> Iterator[tuple[str, Secret]]:
    """Those of every agent of a tenant's, and of who sums its calls up, each with its place."""
    for at, agent in config.places_of_agents():
        yield from secrets_in(agent, dotted(at))
    if config.summary is not None:
        yield from secrets_in(config.summary, "summary")


# --- what is sent -----------------------------------------------------------------------------------------------------


def temperature(agent: AgentConfig, can: Capabilities) -> float | None:
    """None where the model takes no temperature, else within its range."""
    limits = can.takes_temperature
    if agent.temperature is None or limits is None:
        return None
    return min(max(agent.temperature, limits[0]), limits[1])


def voice(agent: AgentConfig, can: Capabilities) -> str | None:
    """As the vendor spells it."""
    return None if agent.voice is None else spelled(agent.voice, can.voices)


def spelled(name: str, voices: tuple[str, ...]) -> str:
    return name if name in voices else next((other for other in voices if other.lower() == name.lower()), name)


# --- what the operator is told ----------------------------------------------------------------------------------------


_AGENT: Place = ("agent",)


def problems(agent: AgentConfig, at: Place = _AGENT) -> Iterator[tuple[Place, str]]:
    """What can only be a mistake, each with its place in the tenant's file; the agent stands `at` this one."""
    return _below(at, _problems(agent))


def _below(at: Place, found: Iterable[tuple[Place, str]]) -> Iterator[tuple[Place, str]]:
    return (((*at, *place), words) for place, words in found)


def _problems(agent: AgentConfig) -> Iterator[tuple[Place, str]]:
    """Of an agent, wherever it stands, as the following ones: their places are below it."""
    try:
        can = capabilities(agent)
    except UnknownProviderError as error:
        yield _placed(str(error)) or (("provider",), str(error))
        return
    for place, name, whose in _voices(agent):
        if near := _near_miss(name, can.voices):
            yield place, f"{whose} has no voice {name!r}; did you mean {near!r}?"
    if (problem := _placed(_put_together(agent, can)[1])) is not None:
        yield problem
    if agent.vertex is not None and (path := agent.vertex.service_account) and (words := _no_key_file(Path(path))):
        yield ("vertex", "service_account"), words


def _voices(agent: AgentConfig) -> Iterator[tuple[Place, str, str]]:
    """Every name of a voice: where it is, and whose voice it is to be. A voice of its own has a list of its own, and
    `capabilities` has that."""
    apart = {name: part for name in ("voice_provider", "tts") if (part := getattr(agent, name)) is not None}
    speaker = next(iter(apart.values()), agent).provider
    if agent.voice is not None:
        yield ("voice",), agent.voice, speaker
    for name, part in apart.items():
        if part.voice is not None:
            yield (name, "voice"), part.voice, speaker


def lacking(agent: AgentConfig, at: Place = _AGENT) -> list[tuple[Place, str]]:
    """Keys (`api_key`) that the vendors need and that nothing is said of: this tenant's calls fail without, as they do
    where a secret is missing, and nobody else's. Raises `UnknownProviderError`."""
    return list(_below(at, _put_together(agent, capabilities(agent))[0]))


def _put_together(agent: AgentConfig, can: Capabilities) -> tuple[list[tuple[Place, str]], str]:
    """Once, as for a call: the keys that lack, and why it can't be done even with them ("": it can)."""
    credential = credential_of(agent, hidden)
    keys: list[tuple[Place, str]] = []
    options = AgentOptions(input_format=can.input_format, output_format=can.output_format, voice=voice(agent, can))
    while True:
        try:
            new_dialect(credential, options)
        except (ConfigError, UnknownProviderError) as error:
            placed = _placed(str(error))
            if placed is None or placed[0][-1] != "api_key" or placed in keys:
                return keys, str(error)
            keys.append(placed)
            section = reduce(getitem, map(str, placed[0][:-1]), credential)
            section["api_key"] = "hidden"
        else:
            return keys, ""


def _no_key_file(path: Path) -> str:
    """What is wrong with a service account's key file, which is never quoted. "": nothing."""
    try:
        account = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        return f"{path} cannot be read: {error.strerror}"
    except ValueError:
        account = None
    if not isinstance(account, dict) or not {"client_email", "private_key", "token_uri"} <= account.keys():
        return f"{path} is no key file of a service account"
    return ""


_KEYS = re.compile(r"(?P<key>[a-z_.]+)(?:, [a-z_.]+)*: (?P<words>.*)", re.DOTALL)


def _placed(text: str) -> tuple[Place, str] | None:
    """What a dialect says of a key ("stt.url: must begin with wss://"), with its place. None: it is of no key."""
    if (found := _KEYS.fullmatch(text)) is None:
        return None
    place = tuple(found["key"].split("."))
    return (place, found["words"]) if place[0] in AgentConfig.model_fields else None


def _near_miss(name: str | None, voices: tuple[str, ...]) -> str | None:
    """The voice that was probably meant. None: the name is right, or so different that it may be a custom voice's."""
    if name is None or spelled(name, voices) in voices:
        return None
    by_lower = {other.lower(): other for other in voices}
    near = get_close_matches(name.lower(), by_lower, n=1, cutoff=0.75)
    return by_lower[near[0]] if near else None


def cautions(config: TenantConfig) -> Iterator[str]:
    """What will not happen, or not as it is written."""
    of_tenant: list[str] = []
    for at, agent in config.places_of_agents():
        try:
            can = capabilities(agent)
        except UnknownProviderError:
            continue  # an error already
        for key, words in _of_agent(agent, can, config):
            yield f"{dotted((*at, *key.split('.')))}{words}"
        of_tenant += _of_tenant(agent, can, config)
    yield from dict.fromkeys(of_tenant)  # the same of two agents of one vendor


def _of_agent(agent: AgentConfig, can: Capabilities, config: TenantConfig) -> Iterator[tuple[str, str]]:
    """Each with the key that it is about, as the following ones: below wherever the agent stands."""
    keys, problem = _put_together(agent, can)
    for place, words in keys:
        yield dotted(place), f" {words}: without it calls are refused with 480"
    if problem and _placed(problem) is None:
        yield "provider", f": {problem}"  # the file is right, this installation is not
    yield from _about_keys_of_others(agent)
    yield from _about_voice(agent, can)
    yield from _about_temperature(agent, can)
    yield from turn_taking.about_turns(agent, can)
    name = agent.provider
    if agent.language is not None and not can.takes_language:
        yield "language", f" is not sent: {name} takes none; say in the instructions which language to speak"
    if agent.transcripts.interim and not can.transcribes_interim:
        yield "transcripts.interim", f" has no effect: {name} tells only whole sentences"
    if len(config.agents) > 1 and not can.takes_tools:
        yield "provider", f": {name} calls no tools here, so this agent hands over to nobody"
    if agent.greet and agent.greeting is None:
        yield "greet", " has no effect: there is no greeting to say"
    if not can.can_say:
        for key in ("greeting", "farewell"):
            if getattr(agent, key) is not None:
                yield key, _not_spoken(agent)


def _of_tenant(agent: AgentConfig, can: Capabilities, config: TenantConfig) -> Iterator[str]:
    """Keys of the whole tenant that one of its agents does not heed."""
    name = agent.provider
    if not can.takes_tools and not config.phrases.given and config.tools.names() != frozenset():
        yield f"tools: {name} calls none here, so none of them is ever used; `phrases` may stand in for them"
    if not can.can_say and config.recording.enabled and config.recording.notice_text and agent is config.agent:
        yield f"recording.notice{_not_spoken(agent)}"
    yield from turn_taking.about_barge_in(agent, config.barge_in, can)


def _not_spoken(agent: AgentConfig) -> str:
    return f" is not spoken: {agent.provider} says nothing that it is not asked by the caller"


def _about_keys_of_others(agent: AgentConfig) -> Iterator[tuple[str, str]]:
    """What is left in the file, say, when another provider is put into it."""
    slug = agent.provider.lower()
    for key, slugs in _WHOSE.items():
        if slug in BUILT_IN and slug not in slugs and getattr(agent, key) != AgentConfig.model_fields[key].default:
            yield key, f" has no effect: {slug} does not know it, {' and '.join(slugs)} would"


def _about_voice(agent: AgentConfig, can: Capabilities) -> Iterator[tuple[str, str]]:
    names = list(_voices(agent))
    for place, name, whose in names if can.voices else ():
        right = spelled(name, can.voices)
        if right not in can.voices:
            known = f"{', '.join(can.voices[:5])}{', ...' if len(can.voices) > 5 else ''}"
            yield dotted(place), f": {name!r} is not among the voices known of {whose} ({known}); it is sent as it is"
        elif right != name:
            yield dotted(place), f": {name!r} is spelled {right!r} by {whose}, and is sent so"
    if len(names) > 1:
        yield "voice", f" has no effect: {dotted(names[1][0])} speaks"


def _about_temperature(agent: AgentConfig, can: Capabilities) -> Iterator[tuple[str, str]]:
    if agent.temperature is None:
        return
    limits = can.takes_temperature
    if limits is None:
        yield "temperature", f" is not sent: {_named(agent)} takes none"
    elif not limits[0] <= agent.temperature <= limits[1]:
        yield "temperature", f" is clamped to {limits[0]}..{limits[1]}, the range of {_named(agent)}"


def _named(agent: AgentConfig) -> str:
    return f"{agent.provider} {agent.model}" if agent.model else agent.provider
