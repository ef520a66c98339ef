"""The older shape of the OpenAI Realtime protocol: a flat session object, other names for formats and contents.

OpenAI has switched it off; Azure's preview, Voice Live, DashScope and several servers that people run themselves speak
it for good. Names and ranges: OpenAI's reference of the beta, Azure's of the preview. The events that differ in name
only are `openai_wire.EVENT_ALIASES`: one reader takes both shapes.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sipbridge.agent import AgentOptions
from sipbridge.audio import AudioFormat
from sipbridge.providers import openai_wire as wire
from sipbridge.providers.wire import Json

_FORMATS = {"pcm16": "pcm16", "pcmu": "g711_ulaw", "pcma": "g711_alaw"}

BETA_CAPABILITIES = replace(
    wire.GA_CAPABILITIES,
    takes_temperature=(0.6, 1.2),
    takes_images=False,
    voices=tuple(voice for voice in wire.GA_CAPABILITIES.voices if voice not in ("marin", "cedar")),
)


def beta_format(audio: AudioFormat) -> str:
    """Named without a rate: PCM is at 24 kHz."""
    return _FORMATS[audio.encoding]


def clamped(value: float, limits: tuple[float, float]) -> float:
    return min(max(value, limits[0]), limits[1])


def beta_session(options: AgentOptions) -> Json:
    """What `session.update` carries at the start. There is no `type`, and audio comes with text or not at all."""
    session: Json = {
        "modalities": ["text", "audio"] if "audio" in options.modalities else ["text"],
        "instructions": options.instructions,
        "input_audio_format": beta_format(options.input_format),
        "output_audio_format": beta_format(options.output_format),
        "turn_detection": wire.turn_detection(options.turn_detection),
        "tools": wire.flat_tools(options.tools),
    }
    if wanted := wire.transcription(options, "whisper-1"):
        session["input_audio_transcription"] = wanted
    if options.voice:
        session["voice"] = options.voice
    if options.tools:
        session["tool_choice"] = "auto"
    if options.temperature is not None and BETA_CAPABILITIES.takes_temperature:
        session["temperature"] = clamped(options.temperature, BETA_CAPABILITIES.takes_temperature)
    return session


def beta_instructions(text: str) -> Json:
    return {"instructions": text}


def beta_transcription(session: Json) -> Any:
    return session.get("input_audio_transcription")


OPENAI_BETA = wire.Shape(
    default_url="",
    default_model="",
    session=beta_session,
    instructions=beta_instructions,
    text_type="text",
    transcription=beta_transcription,
)
"""What relatives of this shape are made of, with `dataclasses.replace`."""
