"""ElevenLabs Agents: a conversation with an agent that was made, with its voice, tools and formats, at the vendor's.

Sources: the vendor's SDK 2.78 (`conversational_ai/conversation.py`: what its client sends and reads) and its page of
events; what is marked [O] was seen in other clients only, and nothing depends on it. What is peculiar:

* Who the agent is decides nearly everything; we may override its prompt, first message, language and voice, where the
  agent's settings permit that. What is not set here is not sent.
* The agent's formats are told when the conversation begins, and they stand. What the call has asked for is brought to
  them here, by the one conversion on the way: the rates are all offered, so that the leg makes none.
* No event ends a reply. It is over when its words were told and no more sound came for `QUIET`, or when the caller's
  next words come. `is_final` [O] says so earlier.
* No event cancels one either. What comes after our cut, of that reply, is not handed on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar
from urllib.parse import urlsplit

from sipbridge.agent import (
    AgentOptions,
    Capabilities,
    ToolDeclaration,
)
from sipbridge.audio import PCM_16K, PCMU, AudioFormat
from sipbridge.errors import ConfigError
from sipbridge.media.convert import Converter
from sipbridge.providers import Endpoint, Outgoing, WebSocketEndpoint
from sipbridge.providers.access import SOCKET, with_query
from sipbridge.providers.base import REFUSALS
from sipbridge.providers.fetch import fetch_json
from sipbridge.providers.phrases import SAY_THIS, history_as_text
from sipbridge.providers.silence import SilenceDialect
from sipbridge.providers.wire import Json, decode_audio, encode_audio, merged, number_of, parameters_of, text_of

API = "https://api.elevenlabs.io"
CONVERSATION = "/v1/convai/conversation"
RATES = (8000, 16000, 24000, 48000)

QUIET = 0.8
"""Seconds without sound after which a reply whose words are known is over."""
NO_SOUND = 3.0
"""The same, where its sound or its words have not come yet."""

_AUDIO_HEAD, _AUDIO_TAIL = b'{"user_audio_chunk":"', b'"}'
_NOT_ACCEPTED = 3000
"""The close code of a key or signature that is not accepted [O]."""
_FORMATS = {f"pcm_{rate}": AudioFormat("pcm16", rate) for rate in RATES} | {"ulaw_8000": PCMU}
_PASSED_OVER = frozenset(
    {
        "agent_response_complete",
        "agent_response_correction",  # what was heard of a reply we know better, by what was played
        "agent_response_metadata",
        "agent_tool_request",
        "agent_tool_response",
        "agent_tool_response_full_payload",
        "asr_initiation_metadata",
        "context_usage",
        "internal_tentative_agent_response",
        "internal_turn_probability",
        "mcp_connection_status",
        "mcp_tool_call",
        "vad_score",
    }
)


class ElevenLabsDialect(SilenceDialect):
    """Keys of the credential: `agent_id` (or `model`), `api_key` (for agents that are not public), `url`: the socket's
    (`wss:`, opened as it is, with the key as a header) or the API's (`https:`, asked for a signed one)."""

    capabilities = Capabilities(
        input_format=PCM_16K,
        output_format=PCM_16K,
        native_formats=frozenset({PCMU}),
        speech_events=False,
        transcribes_interim=True,
        takes_language=True,
        turn_detection=frozenset({"server_vad"}),
        turn_settings=frozenset(),
        input_rates=RATES,
        output_rates=RATES,
    )
    channel: ClassVar[str] = "conversation"

    def __init__(self, credential: Mapping[str, Any], options: AgentOptions) -> None:
        super().__init__(credential, options)
        self._agent_id = str(credential.get("agent_id") or credential.get("model") or "")
        self._key = str(credential.get("api_key") or "")
        self._url = str(credential.get("url") or "")
        if not self._agent_id and not self._url:
            raise ConfigError("agent_id: is needed; it is on the agent's page")
        self._signed_url = ""
        self._up = Converter(options.input_format, options.input_format)
        self._down = Converter(options.output_format, options.output_format)
        self._words = "none"
        """What was told of the reply's words: none, some, or all."""
        self._sounded = False
        self._interrupted_id = -1
        """Sound up to this event belongs to a reply that the vendor has cut."""

    @classmethod
    def tools_for_session(cls, tools: Sequence[ToolDeclaration]) -> list[Json]:
        """As they have to be added to the agent: they cannot be declared by the caller."""
        return [
            {
                "type": "client",
                "name": tool.name,
                "description": tool.description,
                "parameters": parameters_of(tool),
                "expects_response": True,
            }
            for tool in tools
        ]

    # --- the connection -----------------------------------------------------------------------------------------------

    async def prepare(self) -> None:
        """A signed URL, where the agent asks for proof of who is calling."""
        if not self._key or urlsplit(self._url).scheme in SOCKET:
            return
        answer = await fetch_json(
            "GET",
            f"{(self._url or API).rstrip('/')}{CONVERSATION}/get-signed-url",
            headers={"xi-api-key": self._key},
            params={"agent_id": self._agent_id},
        )
        self._signed_url = text_of(answer, "signed_url")

    def endpoints(self) -> Mapping[str, Endpoint]:
        if self._signed_url:
            return {self.channel: WebSocketEndpoint(self._signed_url, text=True)}
        where = urlsplit(self._url or API)
        url, headers = self._url, {}
        if where.scheme in ("http", "https"):
            url = f"{'ws' if where.scheme == 'http' else 'wss'}://{where.netloc}{where.path.rstrip('/')}{CONVERSATION}"
        if not url:
            url = f"wss://{where.netloc}{CONVERSATION}"
        elif self._key:
            headers["xi-api-key"] = self._key
        return {self.channel: WebSocketEndpoint(with_query(url, {"agent_id": self._agent_id}), headers, text=True)}

    def channel_opened(self, channel: str, now: float) -> None:
        options = self._options
        agent: Json = {}
        instructions = options.instructions + history_as_text(options.history)
        if instructions:
            agent["prompt"] = {"prompt": instructions}
        if options.goes_on or options.history:
            agent["first_message"] = ""  # it has greeted already
        elif self._first_words:
            agent["first_message"] = self._first_words
        if options.language:
            agent["language"] = options.language.partition("-")[0].lower()
        override: Json = {"agent": agent} if agent else {}
        if options.voice:
            override["tts"] = {"voice_id": options.voice}
        setup: Json = {"type": "conversation_initiation_client_data"}
        if override:
            setup["conversation_config_override"] = override
        self._send(merged(setup, options.extra))

    def channel_closed(self, channel: str, code: int, reason: str, now: float) -> None:
        """1000 is the agent's own goodbye: it has hung up, or its time is over."""
        why = f"{code} {reason}".strip()
        if code == 1000 and self._state == "open":
            self._end(why, now, status="completed")
        else:
            again = code not in REFUSALS and code != _NOT_ACCEPTED
            name = "401" if code == _NOT_ACCEPTED else "closed"
            self._failed(f"the agent's connection closed: {why}", name, now, reason=why, again=again)

    # --- what the vendor says -----------------------------------------------------------------------------------------

    def on_message(self, channel: str, message: Json, now: float) -> None:
        kind = message["type"]
        if self._state == "connecting" and kind not in ("conversation_initiation_metadata", "ping"):
            self.counters["too_early"] += 1
        elif kind == "audio":
            self._on_audio(message["audio_event"], now)
        elif kind == "ping":
            self._send({"type": "pong", "event_id": message["ping_event"]["event_id"]})
        elif kind == "conversation_initiation_metadata":
            self._on_metadata(message["conversation_initiation_metadata_event"], now)
        elif kind == "interruption":
            self._on_interruption(message["interruption_event"])
        elif kind == "agent_response":
            self._on_words(text_of(message["agent_response_event"], "agent_response").strip(), now)
        elif kind == "agent_chat_response_part":
            self._on_part(message["text_response_part"], now)
        elif kind == "user_transcript":
            self._on_caller(text_of(message["user_transcription_event"], "user_transcript").strip())
        elif kind == "tentative_user_transcript":
            self._on_interim(message["tentative_user_transcription_event"])
        elif kind == "client_tool_call":
            self._on_tool(message["client_tool_call"], now)
        elif kind not in _PASSED_OVER:
            self._unknown(kind)

    def _on_metadata(self, event: Json, now: float) -> None:
        if self._state != "connecting":
            return
        names = [text_of(event, key) or "pcm_16000" for key in ("user_input_audio_format", "agent_output_audio_format")]
        if unknown := [name for name in names if name not in _FORMATS]:
            self._failed(
                f"the agent is set to {unknown[0][:40]}: set its input and output format to {', '.join(_FORMATS)}",
                "format",
                now,
            )
            return
        self._up = Converter(self._options.input_format, _FORMATS[names[0]])
        self._down = Converter(_FORMATS[names[1]], self._options.output_format)
        self._opened(text_of(event, "conversation_id"), charged_from=now)

    def _on_audio(self, event: Json, now: float) -> None:
        audio = decode_audio(event["audio_base_64"])
        if (_event_id(event) or 0) <= self._interrupted_id:
            self.counters["late_audio_bytes"] += len(audio)
            return
        self._sounded = True
        self._audio(self._down.process(audio))
        self._wait_for_more(now)
        if event.get("is_final") is True:
            self._over()

    def _on_words(self, text: str, now: float) -> None:
        if self._words == "all":
            self._over()
        self._text_done(text)
        self._words = "all"
        self._wait_for_more(now)

    def _on_part(self, part: Json, now: float) -> None:
        kind = part.get("type", "delta")
        if self._words == "all" or (kind == "start" and self._words == "some"):
            self._over()
        if kind == "delta" and (text := text_of(part, "text")):
            self._text(text)
            self._words = "some"
            self._wait_for_more(now)

    def _on_tool(self, call: Json, now: float) -> None:
        self._tool_called_between(call["tool_call_id"], call["tool_name"], call.get("parameters") or {})
        if self._reply_id:
            self._wait_for_more(now)
        else:
            self._over()

    def _on_interruption(self, event: Json) -> None:
        self._interrupted_id = max(self._interrupted_id, _event_id(event) or -1)
        self._caller_began()
        self._interrupted()
        self._over()

    def _on_caller(self, text: str) -> None:
        """What is said from now on is another answer."""
        self._over()
        self._caller_stopped()
        self._caller_said(text)

    def _on_interim(self, event: Json) -> None:
        self._caller_said(text_of(event, "user_transcript").strip(), final=False)

    # --- the end of a reply -------------------------------------------------------------------------------------------

    def _wait_for_more(self, now: float) -> None:
        self._over_at = now + (QUIET if self._sounded and self._words != "none" else NO_SOUND)

    def _over(self) -> None:
        """Nothing more of the reply under way comes, if there is one."""
        self._audio_ends()
        self._words, self._sounded = "none", False
        super()._over()

    def _audio_ends(self) -> None:
        """What the conversion holds back is still of this reply."""
        rest = self._down.flush()
        if self._sounded and self._reply_id and not self._cut:
            self._audio(rest)

    def _tell_unasked(self, text: str) -> None:
        self._send({"type": "contextual_update", "text": text})

    # --- commands -----------------------------------------------------------------------------------------------------

    def push_audio(self, pcm: bytes, now: float) -> None:
        audio_ms = self._options.input_format.duration_ms(pcm)
        audio = self._up.process(pcm)
        if audio and self._state == "open":
            data = _AUDIO_HEAD + encode_audio(audio) + _AUDIO_TAIL
            self._outbox.append(Outgoing(self.channel, data, audio_ms))

    def update_instructions(self, text: str, now: float) -> None:
        """The nearest there is: the agent is told, and its own prompt stands behind it."""
        self._send({"type": "contextual_update", "text": f"From now on these instructions apply:\n{text}"})

    def create_response(self, now: float) -> None:
        self._send({"type": "user_message", "text": self._to_answer()})

    def say(self, text: str, now: float) -> None:
        """The greeting goes with the setup. Anything else the agent is asked to say."""
        if not self._is_greeting(text):
            self._send({"type": "user_message", "text": SAY_THIS + text})

    def answer_tool(self, call_id: str, output: str, now: float) -> None:
        self._send({"type": "client_tool_result", "tool_call_id": call_id, "result": output, "is_error": False})


def _event_id(event: Json) -> int | None:
    """Sometimes they are digits in a string."""
    value = event.get("event_id")
    return int(value) if isinstance(value, str) and value.isdecimal() else number_of(event, "event_id")
