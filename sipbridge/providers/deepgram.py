"""Deepgram's Voice Agent as a dialect: one WebSocket, sound in binary frames both ways, everything else in JSON text.

The server speaks first (`Welcome`), we say what the agent is (`Settings`), and when it has agreed (`SettingsApplied`)
sound may flow. Transcriber, language model and voice are the vendor's, each of them named in the settings. It finds the
caller's turns and stops by itself when he speaks; nobody tells it how much was heard, and there is no cancel.

It says that the caller began to speak and never that he stopped: his words are taken for that. Of a reply that he cut,
all that still comes is dropped until it says something that belongs to the next one.

Source: the types of the vendor's SDK (`deepgram.agent.v1`, 7.17); what is marked as assumed is not said there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sipbridge.agent import (
    AgentError,
    AgentOptions,
    Capabilities,
    HistoryItem,
    Said,
    Usage,
)
from sipbridge.audio import PCM_16K, PCM_24K, PCMA, PCMU, AudioFormat
from sipbridge.providers import Endpoint, Outgoing, WebSocketEndpoint
from sipbridge.providers.access import authorization, url_and_key
from sipbridge.providers.base import BaseDialect, Status
from sipbridge.providers.deepgram_names import ENCODINGS, VOICES
from sipbridge.providers.phrases import GO_ON
from sipbridge.providers.wire import Json, merged, text_of

DEFAULT_URL = "wss://agent.deepgram.com/v1/agent/converse"
_KEEP_ALIVE_S = 8.0
_AGAIN_S = 1.0
_TRIES = 5
_MOST_TEXTS = 20
_HOPELESS = frozenset({"INVALID_SETTINGS", "INVALID_AUTH", "INSUFFICIENT_PERMISSIONS", "UNPARSABLE_CLIENT_MESSAGE"})
"""Errors after which the same again would fare no better."""
_RATES = (8000, 16000, 24000, 48000)


class DeepgramDialect(BaseDialect):
    """See `sipbridge.providers.Dialect` for the verbs."""

    capabilities = Capabilities(
        input_format=PCM_16K,
        output_format=PCM_24K,
        native_formats=frozenset({PCMU, PCMA}),
        input_rates=_RATES,
        output_rates=_RATES,
        takes_temperature=(0.0, 2.0),
        takes_language=True,
        says_verbatim=True,
        # Flux finds the end of a turn in what is said; there is nothing of ours to be set.
        turn_detection=frozenset(),
        voices=VOICES,
    )

    def __init__(self, credential: Mapping[str, Any], options: AgentOptions) -> None:
        super().__init__(credential, options)
        self._url, self._key = url_and_key(credential, DEFAULT_URL)
        self._session_id = ""
        self._silent_since = 0.0  # nothing was sent
        self._charged_until = 0.0
        self._texts_waiting: list[str] = []  # of the user's, to be sent when a reply is asked for
        self._asked = ""  # the user's words that were sent last, until something follows from them
        self._tries = 0
        self._again_at: float | None = None
        self._said = ""  # what the agent was asked to say last
        self._last_reply = ""  # that ended since the caller spoke
        self._cut_there = False  # the vendor has stopped the reply under way, too
        self._names: dict[str, str] = {}
        self._trouble = ("", "")  # code and words of the last error

    # --- verbs of the driver ------------------------------------------------------------------------------------------

    def endpoints(self) -> Mapping[str, Endpoint]:
        return {self.channel: WebSocketEndpoint(self._url, authorization(self._key, "Token"))}

    def channel_closed(self, channel: str, code: int, reason: str, now: float) -> None:
        kind, words = self._trouble
        if kind:  # an error came before
            self._failed(words, kind, now, again=kind not in _HOPELESS)
        else:
            super().channel_closed(channel, code, reason, now)

    def get_timer(self) -> float | None:
        if self._state != "open":
            return None
        keep_alive = self._silent_since + _KEEP_ALIVE_S
        return keep_alive if self._again_at is None else min(keep_alive, self._again_at)

    def handle_timer(self, now: float) -> None:
        if self._state != "open":
            return
        if self._again_at is not None and now >= self._again_at:
            self._again_at = None
            self._tell("InjectUserMessage", now, content=self._asked)
        if now >= self._silent_since + _KEEP_ALIVE_S:
            self._tell("KeepAlive", now)

    def _is_binary(self, channel: str, message: bytes) -> bool:
        return True

    def on_binary(self, channel: str, data: bytes, now: float) -> None:
        if self._state == "open":
            if not self._cut:
                self._caller_stopped()
            self._audio(data)

    def on_message(self, channel: str, message: Json, now: float) -> None:
        kind = message["type"]
        name = _EVENTS.get(kind)
        if name is not None and (self._state == "open" or kind in _SETUP_EVENTS):
            getattr(self, name)(message, now)
        elif name is None and kind not in _IGNORED_EVENTS:
            self._unknown(kind)

    # --- commands -----------------------------------------------------------------------------------------------------

    def _tell(self, kind: str, now: float, **fields: Any) -> None:
        self._silent_since = now
        self._send({"type": kind, **fields})

    def push_audio(self, pcm: bytes, now: float) -> None:
        self._silent_since = now
        self._outbox.append(Outgoing(self.channel, pcm, len(pcm) / self._options.input_format.bytes_per_ms))

    def update_instructions(self, text: str, now: float) -> None:
        self._tell("UpdatePrompt", now, prompt=text)

    def send_text(self, text: str, now: float) -> None:
        """The vendor answers at once to what a user says in words, so it is told when an answer is asked for."""
        self._texts_waiting = [*self._texts_waiting, text][-_MOST_TEXTS:]

    def create_response(self, now: float) -> None:
        self._asked, self._texts_waiting = "\n".join(self._texts_waiting) or GO_ON, []
        self._tries, self._again_at = 0, None
        self._tell("InjectUserMessage", now, content=self._asked)

    def say(self, text: str, now: float) -> None:
        """The greeting goes with the settings. What we have cut and the vendor has not is put an end to."""
        if not self._is_greeting(text):
            self._said = text
            behavior = "interrupt" if self._cut and not self._cut_there else "queue"
            self._tell("InjectAgentMessage", now, message=text, behavior=behavior)

    def answer_tool(self, call_id: str, output: str, now: float) -> None:
        name = self._names.pop(call_id, "")
        self._tell("FunctionCallResponse", now, id=call_id, name=name, content=output)

    # --- the session --------------------------------------------------------------------------------------------------

    def _on_welcome(self, message: Json, now: float) -> None:
        if not self._session_id:
            self._session_id = text_of(message, "request_id") or "deepgram"
            self._tell("Settings", now, **self._settings())

    def _settings(self) -> Json:
        options = self._options
        agent: Json = {"listen": {"provider": self._listen()}, "think": self._think()}
        agent["speak"] = {"provider": self._speak()}
        if self._first_words:
            agent["greeting"] = self._first_words
        if options.history:
            agent["context"] = {"messages": [_remembered(item) for item in options.history]}
        sound = {"input": _sound(options.input_format), "output": _sound(options.output_format) | {"container": "none"}}
        return merged({"audio": sound, "agent": agent}, options.extra)

    @property
    def _language(self) -> str:
        return (self._options.language or "en").partition("-")[0].lower()

    def _listen(self) -> Json:
        """Flux knows by what is said whether the caller has finished; it is asked for unless another is named."""
        default = "flux-general-en" if self._language == "en" else "flux-general-multi"
        model = str(self._credential.get("transcription_model") or default)
        provider: Json = {"type": "deepgram", "version": "v2" if model.startswith("flux") else "v1", "model": model}
        if self._options.language and model == "flux-general-multi":
            provider["language_hints"] = [self._options.language]
        elif self._options.language and provider["version"] == "v1":
            provider["language"] = self._options.language
        return provider

    def _think(self) -> Json:
        options, wanted = self._options, self._credential.get("think") or {}
        model = wanted.get("model") or self._credential.get("model") or "gpt-4.1-mini"
        provider: Json = {"type": wanted.get("provider") or "open_ai", "model": model}
        if options.temperature is not None:
            provider["temperature"] = options.temperature
        think: Json = {"provider": provider}
        if options.instructions:
            think["prompt"] = options.instructions
        if options.tools:
            think["functions"] = self.tools_for_session(options.tools)
        return think

    def _speak(self) -> Json:
        in_language = next((voice for voice in VOICES if voice.endswith(f"-{self._language}")), VOICES[0])
        voice = self._options.voice or in_language
        return {"type": "deepgram", "model": voice} | ({"version": "v2"} if voice.startswith("flux-") else {})

    def _on_applied(self, message: Json, now: float) -> None:
        self._charged_until = self._silent_since = now
        self._opened(self._session_id)

    def _on_error(self, message: Json, now: float) -> None:
        """The vendor closes the connection after those that it does not survive."""
        code = text_of(message, "code") or "error"
        words = text_of(message, "description") or code
        if self._state != "open":
            self._failed(words, code, now, again=code not in _HOPELESS)
        else:
            self._trouble = code, words
            self._events.append(AgentError(words, code, fatal=False))

    def _on_warning(self, message: Json, now: float) -> None:
        self.counters["warnings"] += 1
        code, words = text_of(message, "code"), text_of(message, "description")
        self._log_once(f"warning {code}", "the provider warns", code=code[:80], words=words[:200])

    def _charge(self, now: float) -> None:
        """The vendor tells no usage and charges by the time that the connection is up."""
        if now > self._charged_until:
            self._events.append(Usage("", {"session_seconds": now - self._charged_until}))
            self._charged_until = now

    def _end(self, reason: str, now: float, *, status: Status, expected: bool = False, again: bool = False) -> None:
        if self._state == "open":
            self._caller_stopped()
            self._charge(now)
        super()._end(reason, now, status=status, expected=expected, again=again)

    # --- the caller ---------------------------------------------------------------------------------------------------

    def _on_speech(self, message: Json, now: float) -> None:
        self._caller_stopped()
        self._last_reply = ""
        self._caller_began()
        self._interrupted()
        self._cut_there = self._cut

    def _on_conversation(self, message: Json, now: float) -> None:
        role, content = message["role"], text_of(message, "content")
        if role == "user":
            self._next_reply()
            if self._asked and content == self._asked:
                return  # our own words, told back (assumed)
            self._caller_stopped()
            self._caller_said(content.strip())
        elif role == "assistant":
            if content == self._said:
                self._next_reply()
            if self._cut:
                return
            if self._again_at is None:  # else this answers something else: ours were not taken yet
                self._asked = ""
            self._text(f" {content}" if self._texts else content)

    # --- the agent ----------------------------------------------------------------------------------------------------

    def _next_reply(self) -> None:
        """What comes now is none of a reply that the caller has cut."""
        if self._cut:
            self._reply_ended("cancelled")
        self._cut_there = False

    def _on_next(self, message: Json, now: float) -> None:
        self._next_reply()
        self._caller_stopped()

    def _on_done(self, message: Json, now: float) -> None:
        self._last_reply = self._reply_id
        self._reply_ended()
        self._cut_there = False
        self._charge(now)
        if self._again_at is not None:
            self._again_at = now

    def _on_refused(self, message: Json, now: float) -> None:
        """Somebody was speaking, so that the user's words in text were not taken: tried again a little later."""
        self.counters["injection_refused"] += 1
        if self._asked and self._tries < _TRIES:
            self._tries += 1
            self._again_at = now + _AGAIN_S

    def _on_calls(self, message: Json, now: float) -> None:
        self._next_reply()
        self._caller_stopped()
        for function in message["functions"]:
            if function.get("client_side") is not False:
                self._on_call(function)

    def _on_call(self, function: Json) -> None:
        call_id, name = function["id"], function["name"]
        alone = self._tool_called_between(call_id, name, text_of(function, "arguments"))
        if call_id in self._owed:
            self._names[call_id] = name
        if alone and self._last_reply:  # said and done just before: cut with it, if the caller cuts it
            self._owed[call_id] = self._last_reply

    def _on_calls_cancelled(self, message: Json, now: float) -> None:
        for function in message["functions"]:
            self._names.pop(function["id"], None)
            self._tool_cancelled(function["id"])


def _sound(audio: AudioFormat) -> Json:
    return {"encoding": ENCODINGS[audio.encoding], "sample_rate": audio.rate}


def _remembered(item: HistoryItem) -> Json:
    if isinstance(item, Said):
        return {"type": "History", "role": item.role, "content": item.text}
    call = {"id": item.call_id, "name": item.name, "client_side": True, "arguments": item.arguments}
    return {"type": "History", "function_calls": [call | {"response": item.output or ""}]}


_EVENTS = {
    "Welcome": "_on_welcome",
    "SettingsApplied": "_on_applied",
    "Error": "_on_error",
    "Warning": "_on_warning",
    "UserStartedSpeaking": "_on_speech",
    "ConversationText": "_on_conversation",
    "AgentThinking": "_on_next",
    "AgentStartedSpeaking": "_on_next",
    "AgentAudioDone": "_on_done",
    "FunctionCallRequest": "_on_calls",
    "FunctionCallCancelled": "_on_calls_cancelled",
    "InjectionRefused": "_on_refused",
}
_SETUP_EVENTS = frozenset({"Welcome", "SettingsApplied", "Error", "Warning"})
"""The only ones that mean anything before the session is open."""
_IGNORED_EVENTS = frozenset(
    {
        "FrustrationDetected",
        "FunctionCallResponse",
        "History",
        "LatencyReport",
        "ListenUpdated",
        "PromptUpdated",
        "SpeakUpdated",
        "ThinkLiveUpdated",
        "ThinkUpdated",
    }
)
"""They tell us nothing we need: not "unknown", so never logged."""
