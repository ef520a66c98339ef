"""Amazon Nova Sonic: JSON events over one bidirectional stream of Bedrock (`nova_channel.py`), or, where `url` says so,
over a WebSocket that carries the same events.

Sources: the vendor's user guides of Nova Sonic and Nova 2 Sonic (input and output events, cross-modal input, tools,
conversation history) and the SDK `aws_sdk_bedrock_runtime` 0.12. What is peculiar:

* The client builds the conversation of named blocks: `contentStart`, contents, `contentEnd`. The caller's sound is one
  block that lasts as long as the session. Nothing is acknowledged.
* What the agent will say comes as text first (SPECULATIVE), then as sound, then as text again as far as it was said
  (FINAL). We tell the first; how far it was heard we know ourselves.
* A text of the user's (Nova 2) is answered at once. That is also the only way to have it speak first.
* A stream lives for eight minutes: the conversation goes on in another one.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, NamedTuple
from urllib.parse import urlsplit

from pydantic_core import from_json

from sipbridge.agent import (
    AgentOptions,
    Capabilities,
    HistoryItem,
    Said,
    ToolDeclaration,
    Usage,
)
from sipbridge.audio import PCM_16K, PCM_24K
from sipbridge.errors import ConfigError
from sipbridge.providers import BedrockEndpoint, Endpoint, Lifetime, Outgoing, WebSocketEndpoint
from sipbridge.providers.nova_channel import MISSING, sdk_is_there
from sipbridge.providers.phrases import SAY_THIS, history_as_text
from sipbridge.providers.silence import SilenceDialect
from sipbridge.providers.wire import Json, decode_audio, encode_audio, merged, number_of, parameters_of, text_of

DEFAULT_MODEL = "amazon.nova-2-sonic-v1:0"
DEFAULT_REGION = "us-east-1"
FIRST_GENERATION = "amazon.nova-sonic"
RATES = (8000, 16000, 24000)
VOICES = (
    *("matthew", "tiffany", "amy", "olivia", "lupe", "carlos", "ambre", "florian", "tina", "lennart"),
    *("beatrice", "lorenzo", "carolina", "leo", "arjun", "kiara"),
)
FIRST_VOICES = (
    *("matthew", "tiffany", "amy", "lupe", "carlos", "ambre", "florian", "greta", "lennart"),
    *("beatrice", "lorenzo"),
)
ROTATE, EXPIRE = 360.0, 470.0
"""Seconds after which another stream is to be opened, and after which this one is taken to be over (it is at 480)."""
ACCEPTED = 1.0
"""Seconds after which a stream that nobody refused is taken to be open."""
QUIET = 2.0
"""Seconds after a block of the agent's, without another one, after which its reply is over."""
HISTORY_TEXT, HISTORY_ALL = 1000, 40_000
"""Most octets of one text, and of all, that are taken as history."""
MOST_BLOCKS = 100

_PROMPT, _SOUND = "prompt-1", "sound-1"
_NO_INSTRUCTIONS = "You are talking to a caller on the telephone."
_AUDIO_HEAD = f'{{"event":{{"audioInput":{{"promptName":"{_PROMPT}","contentName":"{_SOUND}","content":"'.encode()
_AUDIO_TAIL = b'"}}}'
_SENSITIVITY = {"low": "LOW", "medium": "MEDIUM", "high": "HIGH"}
_TEXT = {"mediaType": "text/plain"}
_PCM = {"mediaType": "audio/lpcm", "sampleSizeBits": 16, "channelCount": 1, "encoding": "base64", "audioType": "SPEECH"}
_LIMITED = frozenset({408, 424, 429})
"""Statuses below 500 after which a new stream has a chance."""


class Block(NamedTuple):
    """A block of the service's that is open."""

    type: str
    role: str
    final: bool


class NovaSonicDialect(SilenceDialect):
    """Keys of the credential: `model`, `aws: {region, access_key_id, secret_access_key, session_token}` (or these
    directly), `url`: another address of the service (`https:`), or a WebSocket with the same events (`wss:`)."""

    capabilities = Capabilities(
        input_format=PCM_16K,
        output_format=PCM_24K,
        speech_events=False,
        takes_temperature=(0.0, 1.0),
        takes_instructions=False,
        turn_detection=frozenset({"server_vad", "semantic_vad"}),
        turn_settings=frozenset({("semantic_vad", "eagerness")}),
        voices=VOICES,
        input_rates=RATES,
        output_rates=RATES,
    )
    channel: ClassVar[str] = "stream"

    def __init__(self, credential: Mapping[str, Any], options: AgentOptions) -> None:
        super().__init__(credential, options)
        self._account = {**credential, **(credential.get("aws") or {})}
        self._model = str(credential.get("model") or DEFAULT_MODEL)
        self._url = str(credential.get("url") or "")
        self._by_socket = urlsplit(self._url).scheme in ("ws", "wss")
        if bool(self._secret("access_key_id")) != bool(self._secret("secret_access_key")):
            raise ConfigError("aws: access_key_id and secret_access_key are needed together, or neither")
        if not self._by_socket and not sdk_is_there():
            raise ConfigError(MISSING)
        self._blocks: dict[str, Block] = {}
        self._last_block = 0
        self._open_at: float | None = None
        self._began = 0.0

    def _secret(self, key: str) -> str:
        return str(self._account.get(key) or "")

    @classmethod
    def capabilities_for(cls, credential: Mapping[str, Any]) -> Capabilities:
        if not str(credential.get("model") or DEFAULT_MODEL).startswith(FIRST_GENERATION):
            return cls.capabilities
        return replace(cls.capabilities, takes_text=False, can_say=False, voices=FIRST_VOICES)

    @classmethod
    def tools_for_session(cls, tools: Sequence[ToolDeclaration]) -> list[Json]:
        """The schema is JSON in JSON."""
        return [
            {
                "toolSpec": {
                    "name": tool.name,
                    "description": tool.description,
                    "inputSchema": {"json": json.dumps(parameters_of(tool), ensure_ascii=False)},
                }
            }
            for tool in tools
        ]

    # --- the stream ---------------------------------------------------------------------------------------------------

    def endpoints(self) -> Mapping[str, Endpoint]:
        if self._by_socket:
            return {self.channel: WebSocketEndpoint(self._url, text=True)}
        region = str(self._account.get("region") or DEFAULT_REGION)
        keys = [self._secret(key) for key in ("access_key_id", "secret_access_key", "session_token")]
        return {self.channel: BedrockEndpoint(region, self._model, self._url, *keys)}

    def channel_opened(self, channel: str, now: float) -> None:
        """Everything up to the caller's sound, in the order that the service wants."""
        options = self._options
        self._began = now
        self._event("sessionStart", **self._session())
        self._event("promptStart", promptName=_PROMPT, **self._prompt())
        self._block("SYSTEM", (options.instructions or _NO_INSTRUCTIONS) + history_as_text(_untold(options.history)))
        for role, text in _told(options.history):
            self._block(role, text)
        sound = {**_PCM, "sampleRateHertz": options.input_format.rate}
        self._start_block(_SOUND, "AUDIO", "USER", interactive=True, audioInputConfiguration=sound)
        if self._by_socket:
            self._opened()  # that it is refused would be known
        else:
            self._open_at = now + ACCEPTED

    def _session(self) -> Json:
        options = self._options
        inference: Json = {"maxTokens": 1024, "topP": 0.9}
        if options.temperature is not None:
            inference["temperature"] = min(max(options.temperature, 0.0), 1.0)
        session: Json = {"inferenceConfiguration": inference}
        if sensitivity := _SENSITIVITY.get(options.turn_detection.eagerness or ""):
            turns = {"endpointingSensitivity": sensitivity}
            session |= turns if self._model.startswith(FIRST_GENERATION) else {"turnDetectionConfiguration": turns}
        return merged(session, options.extra)

    def _prompt(self) -> Json:
        options = self._options
        voice = options.voice or self.capabilities.voices[0]
        prompt: Json = {
            "textOutputConfiguration": _TEXT,
            "audioOutputConfiguration": {**_PCM, "sampleRateHertz": options.output_format.rate, "voiceId": voice},
        }
        if options.tools:
            prompt["toolUseOutputConfiguration"] = {"mediaType": "application/json"}
            prompt["toolConfiguration"] = {"tools": self.tools_for_session(options.tools)}
        return prompt

    @property
    def lifetime(self) -> Lifetime | None:
        return Lifetime(self._began + ROTATE, self._began + EXPIRE) if self._state == "open" else None

    def channel_closed(self, channel: str, code: int, reason: str, now: float) -> None:
        """Below 1000 it is the HTTP status of the service's error."""
        if code >= 1000:
            super().channel_closed(channel, code, reason, now)
        else:
            again = code in _LIMITED or code >= 500
            self._failed(f"Bedrock: {reason}", str(code), now, reason=reason or str(code), again=again)

    # --- what the service says ----------------------------------------------------------------------------------------

    def receive(self, channel: str, message: str | bytes, now: float) -> None:
        if not message:
            self._opened()  # the stream was taken
        else:
            super().receive(channel, message, now)

    def on_message(self, channel: str, message: Json, now: float) -> None:
        self._opened()
        ((kind, event),) = message["event"].items()
        if kind == "audioOutput":
            self._over_at = None
            self._audio(decode_audio(event["content"]))
        elif kind == "contentStart":
            self._on_start(event)
        elif kind == "textOutput":
            self._on_text(event)
        elif kind == "toolUse":
            content = text_of(event, "content")
            self._tool_called(str(event["toolUseId"]), str(event["toolName"]), content or "{}")
        elif kind == "contentEnd":
            self._on_end(event, now)
        elif kind == "usageEvent":
            self._on_usage(event)
        elif kind == "completionEnd":
            self._over()
        elif kind != "completionStart":
            self._unknown(kind)

    def _on_start(self, event: Json) -> None:
        fields = from_json(text_of(event, "additionalModelFields") or "{}")
        stage = fields.get("generationStage") if isinstance(fields, dict) else None
        block = Block(text_of(event, "type"), text_of(event, "role"), stage == "FINAL")
        if len(self._blocks) < MOST_BLOCKS:
            self._blocks[str(event["contentId"])] = block
        if block.role == "ASSISTANT" and not block.final:
            self._over_at = None
            self._in_reply()

    def _on_text(self, event: Json) -> None:
        text = text_of(event, "content")
        block = self._blocks.get(str(event.get("contentId")), Block("TEXT", text_of(event, "role"), final=True))
        if _says_interrupted(text):
            self._on_interruption()
        elif block.role == "USER":
            self._on_caller(text.strip())
        elif block.role == "ASSISTANT" and not block.final:
            self._text(text if not self._texts or self._texts[-1].endswith(" ") else f" {text}")

    def _on_end(self, event: Json, now: float) -> None:
        block = self._blocks.pop(str(event.get("contentId")), None) or Block(text_of(event, "type"), "", final=False)
        stop = text_of(event, "stopReason")
        if stop == "INTERRUPTED":
            self._on_interruption()
        if not self._reply_id or block.role == "USER":
            return
        ends = block.type == "TOOL" or (stop == "END_TURN" and (block.type == "AUDIO" or block.final))
        if ends and not self._sounding():
            self._over()
        else:
            self._over_at = now + QUIET

    def _sounding(self) -> bool:
        return any(block.type == "AUDIO" for block in self._blocks.values())

    def _on_interruption(self) -> None:
        """Told twice, by the end of a block and in words."""
        if self._reply_id or not self._speaking:
            self._caller_began()
            self._interrupted()
            self._over()

    def _on_caller(self, text: str) -> None:
        self._caller_stopped()
        self._caller_said(text)

    def _on_usage(self, event: Json) -> None:
        """Differences, as they are wanted."""
        delta = event["details"]["delta"]
        counts: dict[str, float] = {}
        for side in ("input", "output"):
            for theirs, ours in (("speechTokens", "audio"), ("textTokens", "text")):
                if number := number_of(delta[side], theirs):
                    counts[f"{side}_{ours}_tokens"] = number
        if counts:
            self._events.append(Usage(self._reply_id, counts))

    def get_timer(self) -> float | None:
        if self._state == "connecting":
            return self._open_at
        return super().get_timer()

    def handle_timer(self, now: float) -> None:
        if self._open_at is not None and now >= self._open_at:
            self._open_at = None
            self._opened()
        super().handle_timer(now)

    def _tell_unasked(self, text: str) -> None:
        self._write(text)  # rather answered than never known

    # --- commands -----------------------------------------------------------------------------------------------------

    def push_audio(self, pcm: bytes, now: float) -> None:
        if self._state == "open":
            data = _AUDIO_HEAD + encode_audio(pcm) + _AUDIO_TAIL
            self._outbox.append(Outgoing(self.channel, data, self._options.input_format.duration_ms(pcm)))

    def send_text(self, text: str, now: float) -> None:
        if self.capabilities.takes_text:
            super().send_text(text, now)
        else:
            self._unsupported("send_text")

    def create_response(self, now: float) -> None:
        self._write(self._to_answer())

    def say(self, text: str, now: float) -> None:
        self._write(SAY_THIS + text)

    def answer_tool(self, call_id: str, output: str, now: float) -> None:
        name = self._new_block()
        wanted = {"toolUseId": call_id, "type": "TEXT", "textInputConfiguration": _TEXT}
        self._start_block(name, "TOOL", "TOOL", interactive=False, toolResultInputConfiguration=wanted)
        self._event("toolResult", promptName=_PROMPT, contentName=name, content=output)
        self._event("contentEnd", promptName=_PROMPT, contentName=name)

    def close(self, now: float) -> None:
        if self._state == "open":
            self._event("contentEnd", promptName=_PROMPT, contentName=_SOUND)
            self._event("promptEnd", promptName=_PROMPT)
            self._event("sessionEnd")
        super().close(now)

    # --- blocks -------------------------------------------------------------------------------------------------------

    def _event(self, kind: str, **fields: Any) -> None:
        self._send({"event": {kind: fields}})

    def _new_block(self) -> str:
        self._last_block += 1
        return f"block-{self._last_block}"

    def _start_block(self, name: str, kind: str, role: str, *, interactive: bool, **configuration: Any) -> None:
        place = {"promptName": _PROMPT, "contentName": name}
        self._event("contentStart", **place, type=kind, interactive=interactive, role=role, **configuration)

    def _block(self, role: str, text: str, *, interactive: bool = False) -> None:
        """A whole block of text."""
        name = self._new_block()
        self._start_block(name, "TEXT", role, interactive=interactive, textInputConfiguration=_TEXT)
        self._event("textInput", promptName=_PROMPT, contentName=name, content=text)
        self._event("contentEnd", promptName=_PROMPT, contentName=name)

    def _write(self, text: str) -> None:
        """As the user, who is answered at once."""
        if self.capabilities.takes_text:
            self._block("USER", text, interactive=True)
        else:
            self._unsupported("create_response")


def _says_interrupted(text: str) -> bool:
    if not text.lstrip().startswith("{"):
        return False
    try:
        content = from_json(text)
    except ValueError:
        return False
    return isinstance(content, dict) and content.get("interrupted") is True


def _untold(history: Sequence[HistoryItem]) -> list[HistoryItem]:
    """What goes behind the instructions: the blocks of history know no tools, and the first is not the agent's."""
    first = next((index for index, item in enumerate(history) if _is_users(item)), len(history))
    return [item for index, item in enumerate(history) if index < first or not isinstance(item, Said)]


def _told(history: Sequence[HistoryItem]) -> Iterator[tuple[str, str]]:
    """(role, text) of the rest, the newest that there is room for."""
    first = next((index for index, item in enumerate(history) if _is_users(item)), len(history))
    texts = [(item.role.upper(), _shortened(item.text)) for item in history[first:] if isinstance(item, Said)]
    room = HISTORY_ALL
    kept = 0
    for _, text in reversed(texts):
        room -= len(text.encode())
        if room < 0:
            break
        kept += 1
    texts = texts[len(texts) - kept :]
    while texts and texts[0][0] != "USER":
        texts.pop(0)
    yield from texts


def _is_users(item: HistoryItem) -> bool:
    return isinstance(item, Said) and item.role == "user"


def _shortened(text: str) -> str:
    return text.encode()[:HISTORY_TEXT].decode("utf-8", "ignore")
