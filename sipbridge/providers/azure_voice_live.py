"""Azure Voice Live as a dialect: the older shape of the OpenAI Realtime protocol, with Azure's voices and ears.

Sources: the types of the vendor's SDK (azure-ai-voicelive 1.3.1) and Microsoft's "How to use the Voice Live API".
The service can truncate by itself what the caller cut (`auto_truncate`); it stays off: we know what was played.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sipbridge.agent import AgentOptions, TurnDetection, TurnDetectionType
from sipbridge.audio import PCM_24K, AudioFormat
from sipbridge.errors import ConfigError
from sipbridge.providers import openai_wire as wire
from sipbridge.providers.azure_openai import AzureDialect
from sipbridge.providers.openai_beta import BETA_CAPABILITIES, OPENAI_BETA, beta_format, beta_session, clamped
from sipbridge.providers.wire import Json, text_of

_PATH = "/voice-live/realtime"
_API_VERSION = "2026-07-15"
_TEMPERATURES = (0.0, 1.0)
_FINDS_TURNS: tuple[TurnDetectionType, ...] = ("server_vad", "semantic_vad")
_TRANSCRIBER = "azure-speech"
_OPENAI_VOICES = frozenset(
    {"alloy", "ash", "ballad", "coral", "echo", "sage", "shimmer", "verse", "marin", "cedar"}
)  # the SDK's OpenAIVoiceName
_NATIVE_VOICES = frozenset(
    {"aarti", "andrew", "ava", "denise", "diya", "elsa", "florian", "francisca", "meera", "xiaoxiao", "yunxi", "ximena"}
)  # its AzureRealtimeNativeVoiceName
_AZURE_VOICE = re.compile(r"[a-z]{2,3}-\w+-.*Neural$")
"""`en-US-AvaNeural`, `en-US-Ava:DragonHDLatestNeural`."""
_IGNORED = frozenset(
    {
        "response.animation_blendshapes.delta",
        "response.animation_blendshapes.done",
        "response.animation_viseme.delta",
        "response.animation_viseme.done",
        "response.audio_timestamp.delta",
        "response.audio_timestamp.done",
        "response.audio_transcript.annotation.added",
        "response.file_search_call.completed",
        "response.file_search_call.in_progress",
        "response.file_search_call.searching",
        "response.invocation.delta",
        "response.video.delta",
        "response.web_search_call.completed",
        "response.web_search_call.in_progress",
        "response.web_search_call.searching",
        "session.avatar.connecting",
        "session.avatar.switch_to_idle",
        "session.avatar.switch_to_speaking",
    }
)


def voice(name: str) -> str | Json:
    """The model's own voices go by name, Azure's are objects; others still (`azure-custom`) come by `extra`."""
    if name in _OPENAI_VOICES:
        return name
    if name in _NATIVE_VOICES:
        return {"type": "azure-realtime-native", "name": name}
    return {"type": "azure-standard", "name": name} if _AZURE_VOICE.match(name) else name


def output_format(audio: AudioFormat) -> str:
    """The rate is part of the name, except the usual one."""
    if audio.encoding == "pcm16" and audio.rate != PCM_24K.rate:
        return f"pcm16_{audio.rate}hz"
    return beta_format(audio)


def turn_detection(detection: TurnDetection) -> Json | None:
    """By meaning it is Azure's own, with the settings of the other one."""
    if detection.type != "semantic_vad":
        return wire.turn_detection(detection)
    told = wire.turn_detection(replace(detection, type="server_vad"))
    return told and told | {"type": "azure_semantic_vad"}


def session(options: AgentOptions) -> Json:
    wanted = beta_session(replace(options, temperature=None, voice=None)) | {
        "input_audio_sampling_rate": options.input_format.rate,
        "output_audio_format": output_format(options.output_format),
        "input_audio_transcription": None,
        "turn_detection": turn_detection(options.turn_detection),
    }
    if options.transcription:
        wanted["input_audio_transcription"] = {"model": _TRANSCRIBER}
        if options.language:
            wanted["input_audio_transcription"]["language"] = options.language
    if options.voice:
        wanted["voice"] = voice(options.voice)
    if options.temperature is not None:
        wanted["temperature"] = clamped(options.temperature, _TEMPERATURES)
    return wanted


def say_response(text: str) -> Json:
    """Spoken as it stands: no model is asked."""
    content = [{"type": "text", "text": text}]
    return {"pre_generated_assistant_message": {"type": "message", "role": "assistant", "content": content}}


class VoiceLiveDialect(AzureDialect):
    """With a model of one's choice, or (`agent_name`, `agent_project`) with an agent that was made in Azure."""

    shape = replace(
        OPENAI_BETA,
        default_model="gpt-realtime",
        session=session,
        say=say_response,
        key_header="api-key",
        key_prefix="",
        ignored_events=_IGNORED,
    )
    capabilities = replace(
        BETA_CAPABILITIES,
        input_rates=(8000, 16000),
        output_rates=(8000, 16000),
        takes_temperature=_TEMPERATURES,
        says_verbatim=True,
        turn_settings=frozenset(
            (kind, name) for kind in _FINDS_TURNS for name in ("threshold", "prefix_ms", "silence_ms")
        ),
        voices=(),
    )
    path = _PATH

    def __init__(self, credential: Mapping[str, Any], options: AgentOptions) -> None:
        self._api_version = str(credential.get("api_version") or _API_VERSION)
        self._agent = {
            "agent-name": str(credential.get("agent_name") or ""),
            "agent-project-name": str(credential.get("agent_project") or ""),
        }
        self._written_by = str(credential.get("transcription_model") or _TRANSCRIBER)
        super().__init__(credential, options)
        if any(self._agent.values()) and not all(self._agent.values()):
            raise ConfigError("agent_name, agent_project: an agent is named by both")

    def default_url(self, credential: Mapping[str, Any]) -> str:
        raise ConfigError(f"url: is needed, e.g. wss://RESOURCE.services.ai.azure.com{_PATH}")

    def query(self) -> dict[str, str]:
        asked = self._agent if all(self._agent.values()) else {"model": self._model}
        return {"api-version": self._api_version} | asked

    def session_object(self) -> Json:
        """An agent made in Azure has instructions and tools of its own, unless it is given others."""
        wanted = super().session_object()
        if wanted["input_audio_transcription"]:
            wanted["input_audio_transcription"]["model"] = self._written_by
        if all(self._agent.values()):
            wanted = {key: value for key, value in wanted.items() if value or key not in ("instructions", "tools")}
        return wanted

    def send_image(self, data: bytes, media_type: str, now: float) -> None:
        """Its messages have no such content."""
        self.counters["image_unsupported"] += 1

    def _on_other(self, event: Json, now: float) -> None:
        if event["type"] == "warning":
            detail = event.get("warning")
            words = text_of(detail, "message") if isinstance(detail, dict) else ""
            self._log_once(f"warning {words}"[:200], "the service warns", words=words[:200])
        else:
            super()._on_other(event, now)
