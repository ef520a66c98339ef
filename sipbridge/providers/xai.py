"""xAI's Grok voice agents: the GA shape of the OpenAI Realtime protocol with a session object of its own.

Voice and turn detection are at the top of the session, PCM has many rates, interim transcripts are cumulative, and the
first message may be `conversation.created`. `say` asks for a response like everybody's: of the vendor's `force_message`
item, which speaks without the model, only other clients' use is known. Sources: the vendor's "Voice Agent API", and
what those clients report.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from sipbridge.agent import AgentOptions, UserTranscript
from sipbridge.audio import AudioFormat
from sipbridge.providers import openai_wire as wire
from sipbridge.providers.openai import OpenAIDialect
from sipbridge.providers.openai_beta import clamped
from sipbridge.providers.wire import Json, text_of

_UPDATED = "conversation.item.input_audio_transcription.updated"
_THRESHOLDS = (0.1, 0.9)
_INTERIMS_KEPT = 8


def xai_format(audio: AudioFormat) -> Json:
    if audio.encoding == "pcm16":
        return {"type": "audio/pcm", "rate": audio.rate}
    return wire.ga_format(audio)


def xai_session(options: AgentOptions) -> Json:
    """There is no `type`, no modality and no temperature; `turn_detection` null: nobody but us ends a turn. Who answers
    one and who cuts a reply is no question here: the vendor documents no such member."""
    detection = wire.turn_detection(options.turn_detection)
    if detection is not None:
        del detection["create_response"], detection["interrupt_response"]
        if "threshold" in detection:
            detection["threshold"] = clamped(detection["threshold"], _THRESHOLDS)
    heard: Json = {"format": xai_format(options.input_format)}
    if options.transcription:
        heard["transcription"] = {"model": "grok-transcribe"}
        if options.language:
            heard["transcription"]["language_hint"] = options.language.partition("-")[0].lower()
    session: Json = {
        "instructions": options.instructions,
        "turn_detection": detection,
        "audio": {"input": heard, "output": {"format": xai_format(options.output_format)}},
        "tools": wire.flat_tools(options.tools),
    }
    if options.voice:
        session["voice"] = options.voice
    return session


def xai_instructions(text: str) -> Json:
    return {"instructions": text}


XAI = wire.Shape(
    default_url="wss://api.x.ai/v1/realtime",
    default_model="grok-voice-latest",
    session=xai_session,
    instructions=xai_instructions,
)


class XaiDialect(OpenAIDialect):
    """A session lives for an hour; the vendor's own resumption is left off, the conversation is replayed instead."""

    shape = XAI
    capabilities = replace(
        wire.GA_CAPABILITIES,
        can_leave_interrupting=False,
        can_leave_answering=False,
        takes_images=False,
        can_write=False,
        turn_detection=frozenset({"server_vad", "none"}),
        voices=("eve", "ara", "rex", "sal", "leo"),
        input_rates=(8000, 16000, 32000, 48000),
        output_rates=(8000, 16000, 32000, 48000),
    )

    def __init__(self, credential: Mapping[str, Any], options: AgentOptions) -> None:
        super().__init__(credential, options)
        self._interims: dict[str, str] = {}
        """Item -> what was told of its transcript so far."""

    def _handler(self, kind: str) -> Callable[[Json, float], None]:
        return self._on_user_update if kind == _UPDATED else super()._handler(kind)

    def _on_conversation_created(self, event: Json, now: float) -> None:
        self._configure(now)

    def _on_user_update(self, event: Json, now: float) -> None:
        """All that was understood so far: told is what is new. What it takes back the final transcript corrects."""
        item_id, text = text_of(event, "item_id"), text_of(event, "transcript")
        told = self._interims.get(item_id, "")
        if self._options.interim_transcripts and text.startswith(told) and text != told:
            self._interims[item_id] = text
            while len(self._interims) > _INTERIMS_KEPT:
                del self._interims[next(iter(self._interims))]
            self._events.append(UserTranscript(text[len(told) :], final=False, item_id=item_id))
