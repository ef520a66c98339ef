"""Deepgram's Voice Agent, simulated: one connection's conversation.

Takes what the vendor's SDK 7.17 sends (`deepgram.agent.v1`), sound in binary frames, and refuses everything else with
an `Error` and a close. It stops by itself when the caller speaks, and tells nothing of the end of a reply that was cut.
"""

from __future__ import annotations

import json
from typing import Any, ClassVar

from sipbridge.audio import PCM_24K, PCMA, PCMU, AudioFormat
from sipbridge.simulator.model import Connection, Opening
from sipbridge.simulator.openai_check import ANY, NUMBER, Refusal, check_value
from sipbridge.simulator.script import Script, ToolUse
from sipbridge.simulator.talker import Talk, Talker

Json = dict[str, Any]

_ENCODINGS = frozenset({"linear16", "mulaw", "alaw"})
_LISTEN = {
    "v1": {"version": str, "type": str, "model": str, "language": str, "keyterms": [str], "smart_format": bool},
    "v2": {
        "version": str,
        "type": str,
        "model": str,
        "language_hints": [str],
        "eot_threshold": NUMBER,
        "eager_eot_threshold": NUMBER,
        "eot_timeout_ms": int,
        "keyterms": [str],
    },
}
_THINK = {
    "provider": {
        "type": frozenset({"open_ai", "aws_bedrock", "anthropic", "google", "groq", "deepgram"}),
        "version": str,
        "model": str,
        "temperature": NUMBER,
        "reasoning_mode": str,
        "credentials": ANY,
        "voice_prompt_opt_out": bool,
    },
    "endpoint": {"url": str, "headers": dict},
    "functions": [{"name": str, "description": str, "parameters": dict, "defer_until_eot": bool, "endpoint": ANY}],
    "prompt": str,
    "context_length": (str, int, float),
}
_CALL = {"id": str, "name": str, "client_side": bool, "arguments": str, "response": str, "thought_signature": str}
_SETTINGS = {
    "type": str,
    "tags": [str],
    "experimental": bool,
    "flags": {"history": bool},
    "mip_opt_out": bool,
    "audio": {
        "input": {"encoding": _ENCODINGS, "sample_rate": int},
        "output": {"encoding": _ENCODINGS, "sample_rate": int, "container": frozenset({"none"}), "bitrate": int},
    },
    "agent": {
        "context": {
            "messages": [
                {
                    "type": frozenset({"History"}),
                    "role": frozenset({"user", "assistant"}),
                    "content": str,
                    "function_calls": [_CALL],
                }
            ]
        },
        "listen": {"provider": ANY},  # checked by its version
        "think": _THINK,
        "speak": {"provider": ANY, "endpoint": ANY},
        "greeting": str,
    },
}
_FIELDS: dict[str, dict[str, Any]] = {
    "KeepAlive": {},
    "ForceEndTurn": {},
    "UpdatePrompt": {"prompt": str},
    "UpdateSpeak": {"speak": dict},
    "UpdateThink": {"think": dict},
    "UpdateListen": {"listen": dict},
    "InjectUserMessage": {"content": str},
    "InjectAgentMessage": {"message": str, "behavior": frozenset({"default", "queue", "interrupt"})},
    "FunctionCallResponse": {"id": str, "name": str, "content": str},
}
_OPTIONAL = frozenset({"behavior"})
_ANSWERS = {
    "UpdatePrompt": "PromptUpdated",
    "UpdateSpeak": "SpeakUpdated",
    "UpdateThink": "ThinkUpdated",
    "UpdateListen": "ListenUpdated",
}


class DeepgramModel(Talker):
    path: ClassVar[str] = "/v1/agent/converse"

    def __init__(self, connection: Connection, script: Script, opening: Opening) -> None:
        super().__init__(connection, script)
        self._applied = False
        self._speaking = False
        self._announced = False
        """The words of the reply under way."""
        self._voice = PCM_24K
        self._later: list[str] = []
        self._functions: list[Json] = []
        self._names: dict[str, str] = {}

    def _tell(self, kind: str, **fields: Any) -> None:
        self.connection.send({"type": kind, **fields})

    # --- the wire -----------------------------------------------------------------------------------------------------

    def opened(self) -> None:
        self._tell("Welcome", request_id="request_sim")

    def _wrong(self, code: str, words: str) -> None:
        self._tell("Error", code=code, description=words)
        self.refuse(code, words)

    def receive(self, data: str | bytes) -> None:
        if isinstance(data, bytes):
            if self._applied:
                return self.hear(data)
            return self._wrong("BINARY_MESSAGE_RECEIVED_BEFORE_SETTINGS", "sound came before the settings")
        try:
            message = json.loads(data)
        except ValueError:
            message = None
        if not isinstance(message, dict):
            return self._wrong("UNPARSABLE_CLIENT_MESSAGE", "not a JSON object")
        self.connection.record.add(message)
        kind = message.get("type")
        if kind == "Settings":
            return self._on_settings(message)
        fields = _FIELDS.get(str(kind))
        if not self._applied or fields is None:
            return self._wrong("UNPARSABLE_CLIENT_MESSAGE", f"{kind}: not known, or not now")
        missing = fields.keys() - message.keys() - _OPTIONAL
        if missing or check_value(message, {"type": str, **fields}, ""):
            return self._wrong("UNPARSABLE_CLIENT_MESSAGE", f"{kind}: not with these fields")
        if kind in _ANSWERS:
            self._tell(_ANSWERS[kind])
        elif kind == "InjectUserMessage":
            self._on_user_message(message["content"])
        elif kind == "InjectAgentMessage":
            self._on_agent_message(message["message"], message.get("behavior", "default"))
        elif kind == "FunctionCallResponse" and not self._answered(message):
            self._wrong("UNKNOWN_FUNCTION_CALL", f"no such call waits: {message['id']}")
        return None

    def _answered(self, message: Json) -> bool:
        call_id = message["id"]
        return self._names.get(call_id) == message["name"] and self.tool_said(call_id, message["content"])

    def _on_settings(self, message: Json) -> None:
        fault = self.script.fault
        if self._applied:
            return self._wrong("SETTINGS_ALREADY_APPLIED", "settings come once")
        if refusal := _check_settings(message):
            return self._wrong("INVALID_SETTINGS", f"{refusal.param}: {refusal.message}")
        if fault and fault.name == "refuse_setup":
            self._tell("Error", code="INVALID_SETTINGS", description="The simulator was told to refuse.")
            return None
        if fault and fault.name == "no_update":
            return None
        self._applied = True
        audio, agent = message["audio"], message["agent"]
        self.listen(_format(audio["input"]))
        self._voice = _format(audio["output"])
        self._tell("SettingsApplied")
        if greeting := agent.get("greeting"):
            self.answer(greeting)
        if fault and fault.name == "stall":
            self.connection.stall()
        return None

    def _on_user_message(self, content: str) -> None:
        if self.talk is not None or self._speaking:
            return self._tell("InjectionRefused", message="Somebody is speaking.")
        self._tell("ConversationText", role="user", content=content, conversational_behavior="default")
        self.ask(content)
        return self.answer()

    def _on_agent_message(self, text: str, behavior: str) -> None:
        if behavior == "default" and (self.talk is not None or self._speaking):
            self._tell("InjectionRefused", message="Somebody is speaking.")
        elif behavior == "queue" and self.talk is not None:
            self._later.append(text)
        else:
            self.answer(text)

    # --- what the talker tells ----------------------------------------------------------------------------------------

    def voice_format(self) -> AudioFormat:
        return self._voice

    def tell_speech(self, speaking: bool) -> None:
        self._speaking = speaking
        if speaking:
            self._later.clear()
            self._tell("UserStartedSpeaking")

    def tell_heard(self, text: str) -> None:
        self._tell("ConversationText", role="user", content=text, conversational_behavior="default")

    def tell_reply(self, talk: Talk) -> None:
        self._announced = False
        self._tell("AgentThinking", content="What shall I say?")

    def tell_words(self, talk: Talk, words: str, audio: bytes) -> None:
        if not self._announced:
            self._announced = True
            self._tell("ConversationText", role="assistant", content=talk.text, conversational_behavior="default")
            self._tell("AgentStartedSpeaking", total_latency=0.3, tts_latency=0.1, ttt_latency=0.2)
        self.connection.send_raw(audio)
        self.connection.record.notify()

    def tell_call(self, talk: Talk, call_id: str, tool: ToolUse) -> None:
        self._names[call_id] = tool.name
        function = {"id": call_id, "name": tool.name, "arguments": tool.arguments, "client_side": True}
        self._functions.append(function)

    def tell_end(self, talk: Talk, *, cut: bool) -> None:
        functions, self._functions = self._functions, []
        if cut:
            return
        if functions:  # the language model has done before its words are spoken
            self._tell("FunctionCallRequest", functions=functions)
        if talk.text:
            self._tell("AgentAudioDone")
        if self._later and not functions:
            self.answer(self._later.pop(0))

    def tell_error(self, code: str) -> None:
        self._tell("Error", code=code, description="The simulator was told to fail.")


def _format(sound: Json) -> AudioFormat:
    g711 = {"mulaw": PCMU, "alaw": PCMA}
    return g711.get(sound["encoding"]) or AudioFormat("pcm16", sound["sample_rate"])


def _check_settings(message: Json) -> Refusal | None:
    if refusal := check_value(message, _SETTINGS, ""):
        return refusal
    agent, audio = message.get("agent", {}), message.get("audio", {})
    for way in ("input", "output"):
        if audio.get(way, {}).keys() < {"encoding", "sample_rate"}:
            return Refusal("missing", "encoding and sample_rate are needed", f"audio.{way}")
    listen = agent.get("listen", {}).get("provider", {})
    if refusal := check_value(listen, _LISTEN.get(listen.get("version", "v1"), {}), "agent.listen.provider."):
        return refusal
    if "model" not in agent.get("think", {}).get("provider", {}):
        return Refusal("missing", "a model is needed", "agent.think.provider")
    voice = agent.get("speak", {}).get("provider", {})
    if voice.get("type") == "deepgram" and voice.get("model", "").startswith("flux-") != (voice.get("version") == "v2"):
        return Refusal("invalid", "flux voices are v2", "agent.speak.provider.version")
    return None
