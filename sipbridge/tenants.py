"""A tenant: its configuration, and its texts with a call's fields filled in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sipbridge import call_templates
from sipbridge.agent import AgentOptions, Capabilities, HistoryItem, ToolDeclaration
from sipbridge.agent_settings import (
    capabilities,
    credential_of,
    temperature,
    voice,
)
from sipbridge.audio import AudioFormat
from sipbridge.call_fields import CallFields
from sipbridge.codecs import Codec
from sipbridge.conversation.sounds import sound_of
from sipbridge.prompts import PROMPT_RATE, load_wav, music
from sipbridge.tenant_config import RecordingConfig, TenantConfig
from sipbridge.tenant_file.agent import AgentConfig
from sipbridge.turn_taking import TurnTaking, turn_taking


@dataclass(frozen=True, slots=True)
class Tenant:
    id: str
    config: TenantConfig
    version: int = 0
    """Of its configuration; 0: it has no number."""

    def with_agent(self, agent: AgentConfig) -> Tenant:
        """The same tenant where another agent speaks."""
        return replace(self, config=self.config.model_copy(update={"single": agent, "several": {}}))

    @property
    def unrecorded(self) -> Tenant:
        """The same tenant, whose calls are not recorded."""
        return replace(self, config=self.config.model_copy(update={"recording": RecordingConfig()}))

    def with_instructions_of(self, newer: Tenant) -> Tenant:
        """The same tenant whose agents are told what a newer version says; itself, where that is the same."""
        config, theirs = self.config, newer.config.agents
        changed = {
            name: agent.model_copy(update={"instructions": theirs[name].instructions})
            for name, agent in config.agents.items()
            if name in theirs and theirs[name].instructions != agent.instructions
        }
        if not changed:
            return self
        update = {"several": config.several | changed} if config.single is None else {"single": changed["main"]}
        return replace(self, config=config.model_copy(update=update))

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
        notice = self.config.recording.notice_text if self.config.records else None
        return " ".join(text for text in (notice, self.greeting(fields)) if text) or None

    def hold_music(self, rate: int) -> bytes:
        """What is heard on hold, PCM at `rate`."""
        path = self.config.hold_music
        return music.hold_music(rate) if path is None else load_wav(Path(path), rate)

    def notice(self, rate: int) -> bytes | None:
        """The same as speech, PCM at `rate`, where it is a file."""
        path = self.config.recording.notice_file if self.config.records else None
        return None if path is None else load_wav(path, rate)

    @property
    def sound_files(self) -> frozenset[Path]:
        """Files of the operator's that its callers hear."""
        config = self.config
        named = [config.hold_music, config.waiting_sound, config.recording.notice]
        named.append(None if config.tools.waiting is None else config.tools.waiting.sound)
        named += [step.prompt or step.goodbye for step in config.fallback]
        return frozenset(Path(name) for name in named if name is not None and Path(name).suffix.lower() == ".wav")

    def load_sounds(self) -> None:
        """What is read at first use: no caller should wait for it, nor the sound of the others."""
        for rate in (8000, 16000, 24000):
            self.notice(rate)
            if self.config.tools.transfer_call is not None or self.config.tools.hold is not None:
                self.hold_music(rate)
            if (waiting := self.config.waiting_sound) is not None:
                sound_of(waiting)(rate)

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
