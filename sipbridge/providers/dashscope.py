"""Qwen-Omni-Realtime and Qwen-Audio-Realtime of Alibaba Cloud Model Studio (DashScope), as a dialect.

The older shape of the OpenAI Realtime protocol with gaps: nothing can be truncated (the model believes that it said all
it generated), tools are nested as in Chat Completions, and what a session may ask for depends on the model's `Family`.
Sources: the vendor's references of client and server events (2026-09) and its SDK (dashscope 2.0.2); "observed" is what
other clients report of the service.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf, isfinite
from typing import Any

from sipbridge.agent import (
    AgentOptions,
    Capabilities,
    ToolDeclaration,
    TurnDetection,
    TurnDetectionType,
    UserTranscript,
)
from sipbridge.audio import PCM_16K, PCM_24K
from sipbridge.errors import ConfigError
from sipbridge.providers import openai_wire as wire
from sipbridge.providers.openai import OpenAIDialect
from sipbridge.providers.openai_beta import OPENAI_BETA, clamped
from sipbridge.providers.wire import Json, encode_audio, text_of

_HOSTS = {"cn": "dashscope.aliyuncs.com", "intl": "dashscope-intl.aliyuncs.com"}
_WORKSPACE_HOSTS = {"cn": "cn-beijing.maas.aliyuncs.com", "intl": "ap-southeast-1.maas.aliyuncs.com"}
_PATH = "/api-ws/v1/realtime"
_ONLY_BY_WORKSPACE = "qwen3.8-"
_TEMPERATURES = (0.0, 1.99)
"""The vendor's range ends below 2."""
_SILENCE_MS = (200, 6000)
_LARGEST_IMAGE = 196_608
"""Octets: 256 KiB in base64."""
_IMAGES_WAITING = 4
_TURN_SETTINGS: tuple[str, ...] = ("threshold", "prefix_ms", "silence_ms")
_ANSWER_WAIT = 2.0
"""Seconds for which we ask for nothing after the caller has spoken: the service answers him by itself."""
_HARMLESS = (wire.NOTHING_TO_CANCEL, wire.ACTIVE_RESPONSE)
_CANCEL_WAIT = 1.5
"""Seconds after which a reply that was cut is taken for done: of some models it was observed that no
`response.done` follows a cancel."""


# --- what the models can do -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Family:
    """What the models of one generation have in common."""

    voices: tuple[str, ...]
    """Its default first. One is always sent: what the service takes without is not in every model."""
    semantic_vad: str = ""
    """What it calls turn detection by meaning; "": it has none."""
    tools: bool = False
    texts: bool = False
    """Takes the user's words in writing."""
    images: bool = True
    temperature: bool = True
    format_objects: bool = False
    """Formats as objects under `audio`; else by name. Never both."""
    instructs_responses: bool = True
    """`response.create` takes instructions; else what is to be said goes into the conversation."""


_OMNI_VOICES = (
    "Tina", "Cindy", "Liora Mira", "Sunnybobi", "Raymond", "Ethan", "Theo Calm", "Serena", "Harvey", "Maia", "Evan",
    "Qiao", "Momo", "Wil", "Angel", "Li Cassian", "Mia", "Joyner", "Gold", "Katerina", "Ryan", "Jennifer", "Aiden",
    "Mione", "Sunny", "Dylan", "Eric", "Peter", "Joseph Chen", "Marcus", "Li", "Kiki", "Rocky", "Sohee", "Lenn",
    "Ono Anna", "Sonrisa", "Bodega", "Emilien", "Andre", "Radio Gol", "Alek", "Rizky", "Roya", "Arda", "Hana", "Dolce",
    "Jakub", "Griet", "Eliška", "Marina", "Siiri", "Ingrid", "Sigga", "Bea", "Chloe",
)  # fmt: skip
_OMNI_3_VOICES = (
    "Cherry", "Ethan", "Serena", "Nofish", "Jennifer", "Ryan", "Katerina", "Elias", "Jada", "Dylan", "Sunny", "Li",
    "Marcus", "Roy", "Peter", "Rocky", "Kiki", "Eric",
)  # fmt: skip
_AUDIO_VOICES = ("longanqian", "longanlingxin", "longanlingxi", "longanxiaoxin", "longanlufeng")

_OMNI = Family(_OMNI_VOICES, "semantic_vad", tools=True, texts=True, format_objects=True)
_FAMILIES = {
    "qwen-omni-turbo": Family(("Cherry", "Serena", "Ethan", "Chelsie"), temperature=False),
    "qwen3-omni-flash": Family(_OMNI_3_VOICES),
    "qwen-audio": Family(
        _AUDIO_VOICES,
        "smart_turn",
        tools=True,
        texts=True,
        images=False,
        temperature=False,
        instructs_responses=False,
    ),
}
"""How a model's name begins -> what it can do; all others are of the line from 3.5 on."""


def family_of(model: str) -> Family:
    return next((family for name, family in _FAMILIES.items() if model.startswith(name)), _OMNI)


# --- messages ---------------------------------------------------------------------------------------------------------


def nested_tools(tools: Sequence[ToolDeclaration]) -> list[Json]:
    """As in Chat Completions."""
    return [
        {"type": "function", "function": {key: value for key, value in tool.items() if key != "type"}}
        for tool in wire.flat_tools(tools)
    ]


def turn_detection(detection: TurnDetection, family: Family) -> Json | None:
    """None (JSON null): nobody but us ends a turn."""
    if detection.type == "none":
        return None
    kind = family.semantic_vad if detection.type == "semantic_vad" else "server_vad"
    settings: Json = {"type": kind}
    if kind != "smart_turn":  # which has no settings
        settings["threshold"] = detection.threshold
        settings["prefix_padding_ms"] = detection.prefix_ms
        if detection.silence_ms is not None:
            settings["silence_duration_ms"] = int(clamped(detection.silence_ms, _SILENCE_MS))
    if not detection.interrupt_response:
        settings["interrupt_response"] = False
    if not detection.create_response:
        settings["create_response"] = False
    return {key: value for key, value in settings.items() if value is not None}


def session(options: AgentOptions, family: Family) -> Json:
    """What the first `session.update` carries. Transcription is on unless told otherwise, its model is the service's;
    there is no field for the language."""
    wanted: Json = {
        "modalities": ["text", "audio"] if "audio" in options.modalities else ["text"],
        "voice": options.voice or family.voices[0],
        "instructions": options.instructions,
        "turn_detection": turn_detection(options.turn_detection, family),
    }
    if family.format_objects:
        wanted["audio"] = {
            "input": {"format": {"type": "pcm", "sample_rate": options.input_format.rate}},
            "output": {"format": {"type": "pcm", "sample_rate": options.output_format.rate}},
        }
    else:
        wanted |= {"input_audio_format": "pcm", "output_audio_format": "pcm"}
    if not options.transcription:
        wanted["input_audio_transcription"] = None
    if options.temperature is not None and family.temperature:
        wanted["temperature"] = clamped(options.temperature, _TEMPERATURES)
    if options.tools and family.tools:
        wanted["tools"] = nested_tools(options.tools)
    return wanted


def say_response(text: str) -> Json:
    """A response knows no `tool_choice` here."""
    return {"instructions": wire.say_response(text)["instructions"]}


# --- the dialect ------------------------------------------------------------------------------------------------------


class DashScopeDialect(OpenAIDialect):
    """One session. Beside the usual keys the credential may hold `region` (`cn`, `intl`) and `workspace`."""

    shape = replace(
        OPENAI_BETA,
        default_model="qwen3.5-omni-flash-realtime",
        tools=nested_tools,
        say=say_response,
        takes_history=False,
        session_seconds=7200.0,
        cancel_names_response=False,
        can_truncate=False,
        can_delete=False,
        ignored_events=frozenset(
            {
                "conversation.item.ambient_audio_transcription.completed",  # sounds that were found to be no turn
                "conversation.item.ambient_audio_transcription.delta",
                "session.finished",
            }
        ),
        fatal_codes=wire.FATAL_CODES
        | {"InvalidApiKey", "Arrearage", "AccessDenied", "AccessDenied.Unpurchased", "ModelNotFound"},
        rate_codes=("Throttling", "rate_limit_exceeded"),
        passing_codes=("session_expired", "server_error", "COMMON_ERROR", "InternalError"),
    )
    capabilities = Capabilities(
        input_format=PCM_16K,
        output_format=PCM_24K,
        can_leave_interrupting=True,
        can_leave_answering=True,
        can_write=True,
        transcribes_interim=True,
        takes_temperature=_TEMPERATURES,
        takes_images=True,
        turn_detection=frozenset({"server_vad", "semantic_vad", "none"}),
        voices=_OMNI_VOICES,
    )

    def __init__(self, credential: Mapping[str, Any], options: AgentOptions) -> None:
        self._family = family_of(str(credential.get("model") or self.shape.default_model))
        self._workspace = str(credential.get("workspace") or "")
        self._heard = False
        self._images: list[bytes] = []
        self._done_at: float | None = None
        """When a reply that was cut is taken for done, at the latest."""
        super().__init__(credential, options)

    @classmethod
    def capabilities_for(cls, credential: Mapping[str, Any]) -> Capabilities:
        family = family_of(str(credential.get("model") or cls.shape.default_model))
        known: set[TurnDetectionType] = {"server_vad", "none"}
        with_settings: set[TurnDetectionType] = {"server_vad"}
        if family.semantic_vad == "semantic_vad":
            with_settings.add("semantic_vad")
        return replace(
            cls.capabilities,
            takes_tools=family.tools,
            takes_text=family.texts,
            takes_images=family.images,
            takes_temperature=_TEMPERATURES if family.temperature else None,
            turn_detection=frozenset(known | {"semantic_vad"} if family.semantic_vad else known),
            turn_settings=frozenset((kind, name) for kind in with_settings for name in _TURN_SETTINGS),
            voices=family.voices,
        )

    def default_url(self, credential: Mapping[str, Any]) -> str:
        region = str(credential.get("region") or "cn")
        if region not in _HOSTS:
            raise ConfigError(f"region: {region!r} is none of {', '.join(_HOSTS)}")
        if self._workspace:
            return f"wss://{self._workspace}.{_WORKSPACE_HOSTS[region]}{_PATH}"
        model = str(credential.get("model") or "")
        if model.startswith(_ONLY_BY_WORKSPACE):
            raise ConfigError(f"workspace: is needed for {model}, which the regions' common hosts do not serve")
        return f"wss://{_HOSTS[region]}{_PATH}"

    def headers(self) -> dict[str, str]:
        headers = super().headers()
        if self._workspace:
            headers["X-DashScope-WorkSpace"] = self._workspace
        return headers

    def session_object(self) -> Json:
        return session(self._options, self._family)

    # --- commands -----------------------------------------------------------------------------------------------------

    def push_audio(self, pcm: bytes, now: float) -> None:
        super().push_audio(pcm, now)
        self._heard = True
        if self._images:
            images, self._images = self._images, []
            for image in images:
                self._send_frame(image)

    def send_text(self, text: str, now: float) -> None:
        if self._family.texts:
            super().send_text(text, now)
        else:
            self._left_out("text_unsupported")

    def send_image(self, data: bytes, media_type: str, now: float) -> None:
        """One frame of the video that the service sees with the sound; it takes none before some sound."""
        if not self._family.images or media_type not in ("image/jpeg", "image/jpg") or len(data) > _LARGEST_IMAGE:
            self._left_out("image_unsupported")
        elif self._heard:
            self._send_frame(data)
        else:
            self._images = [*self._images, data][-_IMAGES_WAITING:]

    def _send_frame(self, data: bytes) -> None:
        image = encode_audio(data).decode("ascii")
        self._send({"type": "input_image_buffer.append", "event_id": self._new_id(), "image": image})

    def say(self, text: str, now: float) -> None:
        if self._family.instructs_responses:
            super().say(text, now)
            return
        self._send(wire.item_create(self._new_id(), wire.system_text(say_response(text)["instructions"])))
        self.create_response(now)

    def close(self, now: float) -> None:
        if self._state == "open":
            self._send({"type": "session.finish", "event_id": self._new_id()})
        super().close(now)

    def _left_out(self, what: str) -> None:
        self.counters[what] += 1
        self._log_once(what, "the model does not take this", what=what)

    # --- a reply that was cut -----------------------------------------------------------------------------------------

    def get_timer(self) -> float | None:
        timers = [due for due in (super().get_timer(), self._done_at) if due is not None]
        return min(timers, default=None)

    def handle_timer(self, now: float) -> None:
        reply = self._replies.active
        if self._done_at is not None and self._done_at <= now and reply is not None:
            self.counters["done_missing"] += 1
            self._reader.end(reply, "cancelled", now)
        super().handle_timer(now)

    def _settle(self, now: float) -> None:
        reply = self._replies.active
        if reply is not None and not reply.cancelled and reply.cut_at is None and isfinite(self._replies.held_until):
            self._replies.held_until = 0.0  # the service's answer has begun
        super()._settle(now)
        reply = self._replies.active
        if reply is None or not reply.cancelled:
            self._done_at = None
        elif self._done_at is None:
            self._done_at = now + _CANCEL_WAIT

    # --- the caller's turn: no response can be asked for --------------------------------------------------------------

    def _on_speech_started(self, event: Json, now: float) -> None:
        self._replies.held_until = inf
        super()._on_speech_started(event, now)

    def _on_speech_stopped(self, event: Json, now: float) -> None:
        """`turn_invalid`: it was no speech after all (`smart_turn`), and nothing follows."""
        self._replies.held_until = now if event.get("reason") == "turn_invalid" else now + _ANSWER_WAIT
        super()._on_speech_stopped(event, now)

    # --- what it words otherwise --------------------------------------------------------------------------------------

    def _on_error(self, event: Json, now: float) -> None:
        """Codes say little here (`invalid_value`), and no error names the event that it is about."""
        error = event["error"]
        code, words = text_of(error, "code"), text_of(error, "message").lower()
        if "no active response" in words:
            code = wire.NOTHING_TO_CANCEL
        elif words.startswith("cannot create response while"):
            code = wire.ACTIVE_RESPONSE
        super()._on_error({**event, "error": {**error, "code": code}}, now)
        if code.startswith(self.shape.rate_codes):
            self._replies.refused("", now)
        elif text_of(error, "param").startswith("response.") and code not in _HARMLESS:
            self._replies.rejected("")

    def _on_user_delta(self, event: Json, now: float) -> None:
        """What is certain of this turn's words so far, and what may change yet."""
        if self._options.interim_transcripts and (text := text_of(event, "text") + text_of(event, "stash")):
            self._events.append(UserTranscript(text, final=False, item_id=text_of(event, "item_id")))
