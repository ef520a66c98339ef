"""Ultravox: a call is created over HTTP with all that it is to know, then joined by a WebSocket.

Sources: the vendor's documentation (protocol and data messages, WebSocket integration, `POST /api/calls` with its
OpenAPI schema). What is peculiar:

* Binary frames are PCM16 in both directions, at the rates that the call was created with; text frames are JSON.
* It sends ahead of what is heard, since the call is created with room for that; when the caller interrupts, it says
  `playback_clear_buffer`, and what was sent before is void.
* A reply is over when the state leaves `speaking`. No message cancels one.
* What the agent is to do is fixed with the call; only another stage, by a tool of the vendor's, changes it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar
from urllib.parse import urlsplit

from sipbridge.agent import (
    AgentOptions,
    Capabilities,
    HistoryItem,
    Said,
    ToolDeclaration,
)
from sipbridge.audio import PCM_16K, PCM_24K
from sipbridge.errors import AgentStartError, ConfigError
from sipbridge.providers import Endpoint, Lifetime, Outgoing, WebSocketEndpoint
from sipbridge.providers.base import REFUSALS
from sipbridge.providers.fetch import fetch_json
from sipbridge.providers.phrases import CANCELLED_OUTPUT
from sipbridge.providers.silence import SilenceDialect
from sipbridge.providers.wire import Json, merged, number_of, parameters_of, text_of

API = "https://api.ultravox.ai"
CALLS = "/api/calls"
RATES = (8000, 16000, 24000, 48000)
ROOM_MS = 30_000
"""How far it may send ahead: `clientBufferSizeMs`."""
LONGEST = "3600s"
"""A call's time, where `extra` asks for no other; the vendor's own default."""
BEFORE_THE_END = 60.0
"""Seconds before its time is up from which on the call is handed to another one."""
QUIET = 1.0
"""Seconds without sound after which a reply is over that came while the state was not `speaking`."""
NO_SOUND = 3.0
"""The same where its words have come and no sound yet."""

_PASSED_OVER = frozenset({"call_started", "debug", "pong"})


class UltravoxDialect(SilenceDialect):
    """Keys of the credential: `api_key`, `model`, `url`: the API's address (`https:`), or the join URL of a call that
    was created elsewhere (`wss:`, opened as it is; then no option reaches the model, and its rates have to fit)."""

    capabilities = Capabilities(
        input_format=PCM_16K,
        output_format=PCM_24K,
        speech_events=False,
        takes_temperature=(0.0, 1.0),
        takes_instructions=False,
        says_verbatim=True,
        transcribes_interim=True,
        takes_language=True,
        turn_detection=frozenset({"server_vad"}),
        turn_settings=frozenset({("server_vad", "threshold"), ("server_vad", "silence_ms")}),
        input_rates=RATES,
        output_rates=RATES,
    )
    channel: ClassVar[str] = "call"

    def __init__(self, credential: Mapping[str, Any], options: AgentOptions) -> None:
        super().__init__(credential, options)
        url = str(credential.get("url") or "")
        self._join_url = url if urlsplit(url).scheme in ("ws", "wss") else ""
        self._api = url or API
        self._key = str(credential.get("api_key") or "")
        if not self._key and not url:
            raise ConfigError("api_key: is needed for the vendor's own endpoint")
        self._call = self._request()
        self._expires_at: float | None = None
        self._state_named = ""
        """The agent's, as last told."""
        self._ordinal = -1
        """Of the last words of the agent's."""

    # --- the call -----------------------------------------------------------------------------------------------------

    @classmethod
    def tools_for_session(cls, tools: Sequence[ToolDeclaration]) -> list[Json]:
        return [{"temporaryTool": _client_tool(tool)} for tool in tools]

    def _request(self) -> Json:
        """What the call is created with."""
        options, turns = self._options, self._options.turn_detection
        medium = {
            "inputSampleRate": options.input_format.rate,
            "outputSampleRate": options.output_format.rate,
            "clientBufferSizeMs": ROOM_MS,
        }
        first = {"agent": {"text": self._first_words}} if self._first_words else {"user": {}}
        call: Json = {
            "systemPrompt": options.instructions,
            "medium": {"serverWebSocket": medium},
            "firstSpeakerSettings": first,
            "maxDuration": LONGEST,
        }
        wanted = {
            "model": self._credential.get("model"),
            "voice": options.voice,
            "languageHint": options.language,
            "temperature": None if options.temperature is None else min(max(options.temperature, 0.0), 1.0),
            "selectedTools": self.tools_for_session(options.tools),
            "initialMessages": [message for item in options.history for message in _messages(item)],
        }
        call |= {key: value for key, value in wanted.items() if value not in (None, [], "")}
        vad: Json = {}
        if turns.silence_ms is not None:
            vad["turnEndpointDelay"] = f"{turns.silence_ms / 1000:g}s"
        if turns.threshold is not None:
            vad["frameActivationThreshold"] = turns.threshold
        if vad:
            call["vadSettings"] = vad
        return merged(call, options.extra)

    async def prepare(self) -> None:
        """Creates the call."""
        if self._join_url:
            return
        where = urlsplit(self._api)
        url = self._api if where.path.strip("/") else f"{self._api.rstrip('/')}{CALLS}"
        answer = await fetch_json("POST", url, headers={"X-API-Key": self._key}, json=self._call)
        self._join_url = text_of(answer, "joinUrl")
        if urlsplit(self._join_url).scheme not in ("ws", "wss"):
            raise AgentStartError(f"{where.scheme}://{where.netloc}: the call has no URL to join it", code="answer")

    def endpoints(self) -> Mapping[str, Endpoint]:
        return {self.channel: WebSocketEndpoint(self._join_url)}

    def channel_opened(self, channel: str, now: float) -> None:
        """It tells when the call has begun."""
        longest = re.fullmatch(r"([0-9.]+)s", str(self._call.get("maxDuration")))
        self._expires_at = now + float(longest[1]) if longest else None

    @property
    def lifetime(self) -> Lifetime | None:
        if self._expires_at is None:
            return None
        return Lifetime(self._expires_at - BEFORE_THE_END, self._expires_at - 5.0)

    def channel_closed(self, channel: str, code: int, reason: str, now: float) -> None:
        """1000: the agent has hung up."""
        why = f"{code} {reason}".strip()
        if code == 1000 and self._state == "open":
            self._end(why, now, status="completed")
        else:
            again = code not in REFUSALS
            self._failed(f"the call's connection closed: {why}", "closed", now, reason=why, again=again)

    # --- what the vendor says -----------------------------------------------------------------------------------------

    def _is_binary(self, channel: str, message: bytes) -> bool:
        return True

    def on_binary(self, channel: str, data: bytes, now: float) -> None:
        self._opened(charged_from=now)
        self._audio(data)
        if self._state_named != "speaking":
            self._over_at = now + QUIET

    def on_message(self, channel: str, message: Json, now: float) -> None:
        kind = message["type"]
        # Whatever it says, the call has begun; that it begins may be lost.
        self._opened(text_of(message, "callId") if kind == "call_started" else "", charged_from=now)
        if kind == "state":
            self._on_state(text_of(message, "state"), now)
        elif kind == "transcript":
            self._on_transcript(message, now)
        elif kind == "playback_clear_buffer":
            self._on_interruption()
        elif kind == "client_tool_invocation":
            self._on_tool(message)
        elif kind not in _PASSED_OVER:
            self._unknown(kind)

    def _on_state(self, state: str, now: float) -> None:
        before, self._state_named = self._state_named, state
        if state == "speaking":
            self._in_reply()
            self._over_at = None
        elif before == "speaking":
            self._over()

    def _on_transcript(self, message: Json, now: float) -> None:
        text, delta, final = text_of(message, "text"), text_of(message, "delta"), message.get("final") is True
        if message["role"] == "user":
            self._on_caller(text or delta, final)
            return
        ordinal = number_of(message, "ordinal")
        again = ordinal is not None and ordinal <= self._ordinal
        self._ordinal = max(self._ordinal, ordinal or 0)
        if again and not self._reply_id:
            return  # the last word about a reply that is over
        if self._state_named != "speaking":
            self._over_at = now + (QUIET if final else NO_SOUND)
        self._text(delta or ("" if final else text[len("".join(self._texts)) :]))
        if final:
            self._text_done(text)

    def _on_caller(self, text: str, final: bool) -> None:
        if final:
            self._caller_stopped()
        self._caller_said(text.strip(), final=final)

    def _on_interruption(self) -> None:
        self._caller_began()
        self._interrupted()
        self._over()

    def _on_tool(self, message: Json) -> None:
        self._tool_called_between(message["invocationId"], message["toolName"], message.get("parameters") or {})
        if not self._reply_id:
            self._over()

    def _tell_unasked(self, text: str) -> None:
        self._write(text, "later")

    # --- commands -----------------------------------------------------------------------------------------------------

    def push_audio(self, pcm: bytes, now: float) -> None:
        if self._state == "open":
            self._outbox.append(Outgoing(self.channel, pcm, self._options.input_format.duration_ms(pcm)))

    def create_response(self, now: float) -> None:
        self._write(self._to_answer(), "soon")

    def say(self, text: str, now: float) -> None:
        if not self._is_greeting(text):
            self._send({"type": "forced_agent_message", "content": text, "urgency": "soon"})

    def answer_tool(self, call_id: str, output: str, now: float) -> None:
        """About a call that went with its reply the agent says nothing."""
        self._send(
            {
                "type": "client_tool_result",
                "invocationId": call_id,
                "result": output,
                "responseType": "tool-response",
                "agentReaction": "listens" if output == CANCELLED_OUTPUT else "speaks",
            }
        )

    def close(self, now: float) -> None:
        if self._state == "open":
            self._send({"type": "hang_up"})
        super().close(now)

    def _write(self, text: str, urgency: str) -> None:
        self._send({"type": "user_text_message", "text": text, "urgency": urgency})


def _client_tool(tool: ToolDeclaration) -> Json:
    """The properties of the schema, one by one: the vendor has no schema of the whole."""
    schema = parameters_of(tool)
    properties, required = schema.get("properties"), schema.get("required")
    return {
        "modelToolName": tool.name,
        "description": tool.description,
        "dynamicParameters": [
            {
                "name": name,
                "location": "PARAMETER_LOCATION_BODY",
                "schema": of,
                "required": isinstance(required, list | tuple) and name in required,
            }
            for name, of in (properties.items() if isinstance(properties, Mapping) else ())
        ],
        "client": {},
    }


def _messages(item: HistoryItem) -> list[Json]:
    if isinstance(item, Said):
        role = "MESSAGE_ROLE_USER" if item.role == "user" else "MESSAGE_ROLE_AGENT"
        return [{"role": role, "text": item.text}]
    place = {"toolName": item.name, "invocationId": item.call_id}
    output = json.dumps(None) if item.output is None else item.output
    return [
        {"role": "MESSAGE_ROLE_TOOL_CALL", "text": item.arguments, **place},
        {"role": "MESSAGE_ROLE_TOOL_RESULT", "text": output, **place},
    ]
