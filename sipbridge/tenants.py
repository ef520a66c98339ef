"""Which tenant a call is for, and the tenant's texts with the call's fields filled in.

A tenant's `match` names patterns for the dialled user part, the caller, the trunk and headers; all that are given must
hold. Among several that do, the most specific wins: more conditions first, then the longer literal part of the pattern.
Two tenants that are equally specific for one number are an error when they are loaded, not a coin toss per call.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sipbridge import call_templates, tenant_checks
from sipbridge.agent import AgentOptions, Capabilities, HistoryItem, ToolDeclaration
from sipbridge.agent_settings import (
    capabilities,
    credential_of,
    temperature,
    voice,
)
from sipbridge.audio import AudioFormat
from sipbridge.codecs import Codec
from sipbridge.config import Config
from sipbridge.configfile import located
from sipbridge.errors import ConfigError
from sipbridge.prompts import PROMPT_RATE, load_wav, music
from sipbridge.sip.headers import readable
from sipbridge.sip.identity import CallerIdentity, Party
from sipbridge.sip.message import Request
from sipbridge.tenant_config import Match, TenantConfig, load_tenant
from sipbridge.tenant_file.agent import AgentConfig
from sipbridge.turn_taking import TurnTaking, turn_taking


@dataclass(frozen=True, slots=True)
class CallFields:
    """What is known about a call when it arrives; what templates see as `call` and `header`."""

    to: str
    """The dialled number or user part."""
    caller: str = ""
    """Who calls, as well as it is known: for choosing the tenant. See `templated` for what a model may be told."""
    trunk: str | None = None
    call_id: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    identity: CallerIdentity | None = None
    """Of a call that came in."""
    machine: str = ""
    """What has answered a call that we made, where it is said to be no person."""

    @classmethod
    def of(
        cls, request: Request, trunk: str | None, *, trusted: bool = False, account: str | None = None
    ) -> CallFields:
        """What an INVITE says. Not `trusted`: what only a network may say of a caller is left out. `account` is who the
        caller has proven to be, which counts for more than what is said."""
        identity = CallerIdentity.of(request, trusted=trusted)
        left_out = _SECRET if trusted else _SECRET | _NETWORKS_WORD
        headers: dict[str, str] = {}
        for name, value in request.headers:
            if name.lower() not in left_out:
                headers.setdefault(name, readable(value))
        return cls(
            to=identity.dialled.user,
            caller=account or str(identity.caller),
            trunk=trunk,
            call_id=readable(request.call_id),
            headers=headers,
            identity=identity,
        )

    def template_names(self) -> dict[str, Any]:
        """All that a template may name."""
        return {"call": self.templated(), "header": _AnyCase(self.headers)}

    @property
    def answered_by(self) -> str:
        """`machine` as a sentence, for an agent."""
        return f"The telephone network says that a machine has answered this call ({self.machine})."

    def templated(self) -> dict[str, str]:
        """What templates see as `call`: text, empty where it is not known, and nothing that the caller has hidden."""
        call = {
            "from": self.caller,
            "to": self.to,
            "id": self.call_id,
            "trunk": self.trunk or "",
            "machine": self.machine,
        }
        names = ("display", "asserted", "diversion", "history", "dialled", "verstat", "referred_by", "privacy")
        call |= dict.fromkeys(names, "")
        identity = self.identity
        if identity is None:
            return call
        call |= {
            "privacy": ", ".join(sorted(identity.privacy)),
            "verstat": identity.verstat,
            "dialled": identity.to.user,
            "referred_by": str(identity.referred_by or ""),
        }
        if identity.is_private:
            call["from"] = "anonymous"
        else:
            call |= {"display": identity.display, "asserted": ", ".join(map(str, identity.asserted))}
        if identity.trusted:
            call |= {
                "dialled": str(identity.first_dialled),
                "diversion": ", ".join(str(Party.of(entry.party)) for entry in identity.diversions),
                "history": ", ".join(str(Party.of(entry.party)) for entry in identity.history),
            }
        return call


_SECRET = frozenset({"authorization", "proxy-authorization"})
_NETWORKS_WORD = frozenset({"p-asserted-identity", "remote-party-id", "diversion", "history-info", "p-charging-vector"})


class _AnyCase(dict[str, str]):
    """Header fields by name, in any case (RFC 3261 §7.3.1)."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        super().__init__({name.lower(): value for name, value in headers.items()})

    def __getitem__(self, name: str) -> str:
        return super().__getitem__(name.lower())


@dataclass(frozen=True, slots=True)
class Tenant:
    id: str
    config: TenantConfig

    def with_agent(self, agent: AgentConfig) -> Tenant:
        """The same tenant where another agent speaks."""
        return Tenant(self.id, self.config.model_copy(update={"single": agent, "several": {}}))

    def instructions(self, fields: CallFields) -> str:
        """Where they say nothing of a machine that has answered, a sentence of ours does."""
        template = self.config.agent.instructions
        text = call_templates.render(template, fields.template_names(), fields.call_id)
        if fields.machine and text == call_templates.render(
            template, replace(fields, machine="").template_names(), fields.call_id
        ):
            return f"{text.rstrip()}\n\n{fields.answered_by}".lstrip()
        return text

    def greeting(self, fields: CallFields) -> str | None:
        greeting = self.config.agent.greeting
        return None if greeting is None else call_templates.render(greeting, fields.template_names(), fields.call_id)

    def first_words(self, fields: CallFields) -> str | None:
        """What the agent says first of all: that the call is recorded, where it is to say so, and the greeting."""
        recording = self.config.recording
        notice = recording.notice_text if recording.enabled else None
        return " ".join(text for text in (notice, self.greeting(fields)) if text) or None

    def hold_music(self, rate: int) -> bytes:
        """What is heard on hold, PCM at `rate`."""
        path = self.config.hold_music
        return music.hold_music(rate) if path is None else load_wav(Path(path), rate)

    def notice(self, rate: int) -> bytes | None:
        """The same as speech, PCM at `rate`, where it is a file."""
        recording = self.config.recording
        path = recording.notice_file if recording.enabled else None
        return None if path is None else load_wav(path, rate)

    @property
    def protect_greeting_ms(self) -> int:
        """How long what is heard first cannot be interrupted: such a notice is heard to its end."""
        notice = self.notice(PROMPT_RATE) or b""
        return max(self.config.barge_in.protect_greeting_ms, len(notice) * 1000 // (2 * PROMPT_RATE))

    def credential(self) -> dict[str, Any]:
        """What `new_agent_from_credential` is given. Raises `ConfigError` where a secret that is needed is missing."""
        return credential_of(self.config.agent)

    @property
    def capabilities(self) -> Capabilities:
        """What the agent's model can do; no secret has to be there for that. Raises `UnknownProviderError`."""
        return capabilities(self.config.agent)

    @property
    def turns(self) -> TurnTaking:
        """Who finds the caller's turns with this agent, and what interrupts it."""
        return turn_taking(self.config.agent, self.config.barge_in, self.capabilities, self.protect_greeting_ms)

    def formats(self, codec: Codec | None) -> tuple[AudioFormat, AudioFormat]:
        """(up, down) between this agent and a leg that speaks `codec`: at most one conversion of the rate each way.
        None: nobody knows yet what the leg will speak."""
        if codec is None:
            return self.capabilities.input_format, self.capabilities.output_format
        native = codec.audio_format if self.config.agent.native_audio else None
        return self.capabilities.formats_for(native, min(codec.sample_rate, _HIGHEST_RATE))

    def agent_options(
        self,
        fields: CallFields,
        uplink: AudioFormat,
        downlink: AudioFormat,
        tools: tuple[ToolDeclaration, ...],
        *,
        history: Sequence[HistoryItem] = (),
    ) -> AgentOptions:
        """`history`: what the agent goes on with; it greets nobody then."""
        agent, can, turns = self.config.agent, self.capabilities, self.turns
        return AgentOptions(
            instructions=self.instructions(fields),
            voice=voice(agent, can),
            temperature=temperature(agent, can),
            language=agent.language,
            input_format=uplink,
            output_format=downlink,
            turn_detection=turns.detection,
            tools=tools,
            interim_transcripts=turns.interim,
            extra=agent.extra,
            # Where we call, nobody knows when somebody will be there to hear it.
            greeting="" if fields.identity is None or history else self.first_words(fields) or "",
            history=tuple(history),
        )


_HIGHEST_RATE = 24000
"""Of speech: no model hears or says more. A codec with more (Opus: 48 kHz) can be coded at this rate as well."""


class TenantDirectory:
    """All tenants of one gateway."""

    def __init__(self, tenants: Sequence[Tenant]) -> None:
        self.tenants = tuple(tenants)
        _refuse_ties(self.tenants)

    @classmethod
    def load(cls, config: Config, base: Path) -> TenantDirectory:
        """Read every `*.yaml` of the tenants' directory. Raises `ConfigError` with everything that is wrong."""
        directory = base / config.tenants.directory
        if not directory.is_dir():
            raise ConfigError(f"{directory}: the tenants' directory does not exist (tenants.directory)")
        tenants: list[Tenant] = []
        problems: list[str] = []
        for path in sorted((*directory.glob("*.yaml"), *directory.glob("*.yml"))):
            try:
                tenant = Tenant(path.stem, load_tenant(path))
                problems.extend(
                    located(path, place, problem) for place, problem in tenant_checks.faults(tenant.config, config)
                )
                tenants.append(tenant)
            except ConfigError as error:
                problems.append(str(error))
        if not tenants and not problems:
            raise ConfigError(f"{directory}: there is no tenant, so nobody could be answered")
        if problems:
            raise ConfigError("\n".join(problems))
        return cls(tenants)

    def get(self, tenant_id: str) -> Tenant | None:
        return next((tenant for tenant in self.tenants if tenant.id == tenant_id), None)

    def resolve(self, fields: CallFields) -> Tenant | None:
        """The tenant that a call is for, or None."""
        fitting = [
            (specificity, tenant)
            for tenant in self.tenants
            if (specificity := _specificity(tenant.config.match, fields)) is not None
        ]
        return max(fitting, key=lambda found: found[0])[1] if fitting else None

    def explain(self, fields: CallFields) -> Iterator[tuple[str, str]]:
        """Per tenant, why it was or was not chosen: (id, reason), the chosen one first."""
        chosen = self.resolve(fields)
        if chosen:
            yield chosen.id, "chosen: the most specific match"
        for tenant in self.tenants:
            if tenant is not chosen:
                mismatch = _mismatch(tenant.config.match, fields)
                yield tenant.id, mismatch or "matches, but is less specific"


# --- matching ---------------------------------------------------------------------------------------------------------

Specificity = tuple[int, int]


def _mismatch(match: Match, fields: CallFields) -> str | None:
    """Why `match` does not hold, or None."""
    headers = _AnyCase(fields.headers)
    if not any(_fits(fields.to, pattern) for pattern in match.to):
        return f"to: {fields.to!r} is none of {', '.join(match.to)}"
    if match.caller and not any(_fits(fields.caller, pattern) for pattern in match.caller):
        return f"from: {fields.caller!r} is none of {', '.join(match.caller)}"
    if match.trunk is not None and match.trunk != fields.trunk:
        return f"trunk: came by {fields.trunk or 'none'}, not {match.trunk}"
    for name, value in match.header.items():
        if headers.get(name.lower()) != value:
            return f"header {name}: {headers.get(name.lower())!r} is not {value!r}"
    return None


def _specificity(match: Match, fields: CallFields) -> Specificity | None:
    if _mismatch(match, fields) is not None:
        return None
    return max(_weight(match, pattern) for pattern in match.to if _fits(fields.to, pattern))


def _weight(match: Match, pattern: str) -> Specificity:
    conditions = (pattern != "*") + bool(match.caller) + (match.trunk is not None) + len(match.header)
    literal = len(pattern) - pattern.count("*") - pattern.count("?") + (0 if _has_wildcard(pattern) else 1000)
    return conditions, literal


def _has_wildcard(pattern: str) -> bool:
    return any(character in pattern for character in "*?[")


def _fits(value: str, pattern: str) -> bool:
    return fnmatch.fnmatchcase(value, pattern)


def _refuse_ties(tenants: Sequence[Tenant]) -> None:
    """Equally specific patterns that some number satisfies both of, under conditions that can hold together."""
    for position, one in enumerate(tenants):
        for other in tenants[position + 1 :]:
            if _conditions(one) != _conditions(other):
                continue
            for a in one.config.match.to:
                for b in other.config.match.to:
                    same_weight = _weight(one.config.match, a) == _weight(other.config.match, b)
                    if same_weight and _overlap(a, b):
                        raise ConfigError(
                            f"tenants {one.id} and {other.id}: match.to {a!r} and {b!r} overlap and are equally"
                            " specific, so a call may be for either"
                        )


def _conditions(tenant: Tenant) -> tuple[Any, ...]:
    match = tenant.config.match
    return match.caller, match.trunk, tuple(sorted(match.header.items()))


def _overlap(a: str, b: str) -> bool:
    """Whether some text fits both globs. Character classes count as '?': too careful rather than too lax."""
    if not a or not b:
        return not (a or b).strip("*")
    if a[0] == "*":
        return _overlap(a[1:], b) or _overlap(a, b[1:])
    if b[0] == "*":
        return _overlap(b, a)
    return (a[0] == b[0] or "?" in (a[0], b[0])) and _overlap(a[1:], b[1:])
