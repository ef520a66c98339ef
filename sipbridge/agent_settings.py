"""What a tenant asks of its agent, held against what the agent's model can do: options mean the same everywhere.

Everything is judged when the configuration is read, for the model that is configured. What can only be a mistake is an
error; what will not happen, or not as it is written, is a warning. In a call nothing is left out that nobody was told
of: a dialect is only given what its model takes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from difflib import get_close_matches
from typing import Any

from sipbridge.agent import AgentOptions, Capabilities, TurnDetection
from sipbridge.configfile import Place, Section, dotted
from sipbridge.errors import ConfigError, UnknownProviderError
from sipbridge.logins import Secret
from sipbridge.providers import capabilities_of, new_dialect
from sipbridge.tenant_config import AgentConfig, TenantConfig

_OPTIONS = frozenset(
    {
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


# --- what is sent -----------------------------------------------------------------------------------------------------


def temperature(agent: AgentConfig) -> float | None:
    """None where the model takes no temperature, else within its range."""
    limits = capabilities(agent).takes_temperature
    if agent.temperature is None or limits is None:
        return None
    return min(max(agent.temperature, limits[0]), limits[1])


def voice(agent: AgentConfig) -> str | None:
    """As the vendor spells it."""
    return None if agent.voice is None else spelled(agent.voice, capabilities(agent).voices)


def spelled(name: str, voices: tuple[str, ...]) -> str:
    return name if name in voices else next((other for other in voices if other.lower() == name.lower()), name)


def turn_detection(agent: AgentConfig, *, interrupt: bool) -> TurnDetection:
    """What the model knows of it; else its own way, without settings that belong to another."""
    asked = agent.turn_detection
    if asked.type not in capabilities(agent).turn_detection:
        return TurnDetection(interrupt_response=interrupt)
    return TurnDetection(
        type=asked.type,
        threshold=asked.threshold,
        prefix_ms=asked.prefix_ms,
        silence_ms=asked.silence_ms,
        eagerness=asked.eagerness,
        interrupt_response=interrupt,
    )


# --- what the operator is told ----------------------------------------------------------------------------------------


def problems(agent: AgentConfig) -> Iterator[tuple[Place, str]]:
    """What can only be a mistake, each with its place in the tenant's file."""
    try:
        can = capabilities(agent)
    except UnknownProviderError as error:
        yield ("agent", "provider"), str(error)
        return
    if agent.url is not None and agent.url.startswith("http") and not can.takes_http_url:
        yield ("agent", "url"), f"{agent.provider} speaks over a WebSocket: wss://HOST[:PORT]/PATH is expected"
    for place, name, whose in _voices(agent):
        if near := _near_miss(name, can.voices):
            yield place, f"{whose} has no voice {name!r}; did you mean {near!r}?"
    yield from _about_parts(agent, can)


def _voices(agent: AgentConfig) -> Iterator[tuple[Place, str, str]]:
    """Every name of a voice: where it is, and whose voice it is to be. A voice of its own has a list of its own, and
    `capabilities` has that."""
    apart = {name: part for name in ("voice_provider", "tts") if (part := getattr(agent, name)) is not None}
    speaker = next(iter(apart.values()), agent).provider
    if agent.voice is not None:
        yield ("agent", "voice"), agent.voice, speaker
    for name, part in apart.items():
        if part.voice is not None:
            yield ("agent", name, "voice"), part.voice, speaker


def _about_parts(agent: AgentConfig, can: Capabilities) -> Iterator[tuple[Place, str]]:
    """What is made of several services is put together once, to see whether it can be. A key that is not there is told
    where it is needed, as everywhere."""
    if not any((agent.voice_provider, agent.stt, agent.llm, agent.tts)):
        return
    credential = credential_of(agent, hidden)
    for section in (credential, *(part for part in credential.values() if isinstance(part, dict))):
        section["api_key"] = section.get("api_key") or "hidden"
    options = AgentOptions(input_format=can.input_format, output_format=can.output_format, voice=agent.voice)
    try:
        new_dialect(credential, options)
    except ConfigError as error:
        part = str(error).partition(":")[0].partition(".")[0]
        yield ("agent", part if part in AgentConfig.model_fields else "provider"), str(error)


def _near_miss(name: str | None, voices: tuple[str, ...]) -> str | None:
    """The voice that was probably meant. None: the name is right, or so different that it may be a custom voice's."""
    if name is None or spelled(name, voices) in voices:
        return None
    by_lower = {other.lower(): other for other in voices}
    near = get_close_matches(name.lower(), by_lower, n=1, cutoff=0.75)
    return by_lower[near[0]] if near else None


def cautions(config: TenantConfig) -> Iterator[str]:
    """What will not happen, or not as it is written."""
    agent = config.agent
    try:
        can = capabilities(agent)
    except UnknownProviderError:
        return  # an error already
    yield from _about_voice(agent, can)
    yield from _about_temperature(agent, can)
    yield from _about_turns(agent, can, interrupt=config.barge_in.enabled)
    name = agent.provider
    if agent.language is not None and not can.takes_language:
        yield f"agent.language is not sent: {name} takes none; say in the instructions which language to speak"
    if agent.transcripts.interim and not can.transcribes_interim:
        yield f"agent.transcripts.interim has no effect: {name} tells only whole sentences"
    if not can.takes_tools and (config.tools.hang_up is not None or config.tools.transfer_call is not None):
        yield f"tools: {name} calls none here, so none of them is ever used"
    if not can.can_say:
        spoken = {"agent.greeting": agent.greeting, "agent.farewell": agent.farewell}
        spoken["recording.notice"] = config.recording.notice_text if config.recording.enabled else None
        for key, text in spoken.items():
            if text is not None:
                yield f"{key} is not spoken: {name} says nothing that it is not asked by the caller"


def _about_voice(agent: AgentConfig, can: Capabilities) -> Iterator[str]:
    names = list(_voices(agent))
    for place, name, whose in names if can.voices else ():
        right = spelled(name, can.voices)
        if right not in can.voices:
            known = f"{', '.join(can.voices[:5])}{', ...' if len(can.voices) > 5 else ''}"
            yield f"{dotted(place)}: {name!r} is not among the voices known of {whose} ({known}); it is sent as it is"
        elif right != name:
            yield f"{dotted(place)}: {name!r} is spelled {right!r} by {whose}, and is sent so"
    if len(names) > 1:
        yield f"agent.voice has no effect: {dotted(names[1][0])} speaks"


def _about_temperature(agent: AgentConfig, can: Capabilities) -> Iterator[str]:
    if agent.temperature is None:
        return
    limits = can.takes_temperature
    if limits is None:
        yield f"agent.temperature is not sent: {_named(agent)} takes none"
    elif not limits[0] <= agent.temperature <= limits[1]:
        yield f"agent.temperature is clamped to {limits[0]}..{limits[1]}, the range of {_named(agent)}"


def _named(agent: AgentConfig) -> str:
    return f"{agent.provider} {agent.model}" if agent.model else agent.provider


_SETTINGS = ("threshold", "prefix_ms", "silence_ms", "eagerness")


def _about_turns(agent: AgentConfig, can: Capabilities, *, interrupt: bool) -> Iterator[str]:
    turns = agent.turn_detection
    if turns.type not in can.turn_detection:
        if "turn_detection" in agent.model_fields_set:
            yield (
                f"agent.turn_detection: {_named(agent)} knows no {turns.type}; it finds turns in its own way, and the"
                " other settings there are not sent"
            )
    elif turns.type in ("none", "local_vad"):
        yield f"agent.turn_detection.type {turns.type}: nothing here ends the caller's turns yet, so none is answered"
    else:
        for name in _SETTINGS:
            if getattr(turns, name) is not None and (turns.type, name) not in can.turn_settings:
                yield f"agent.turn_detection.{name} is not sent: {_named(agent)} has none for {turns.type}"
    if not interrupt and can.interrupts_by_itself and not can.can_leave_interrupting:
        yield f"barge_in.enabled: {agent.provider} stops by itself when the caller speaks, and can't be told not to"
