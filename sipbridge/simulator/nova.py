"""Amazon Nova Sonic, simulated: its events over a WebSocket, or over whatever carries them.

Takes the client's events in the order that the vendor's guide gives, names and fields as they are there; what is not is
a violation, and ends the stream as a `ValidationException` does.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Callable
from typing import Any, ClassVar

from sipbridge.audio import AudioFormat
from sipbridge.simulator.model import Connection, Opening
from sipbridge.simulator.script import Fault, Script, ToolUse
from sipbridge.simulator.talker import Talk, Talker

Json = dict[str, Any]

_SPECULATIVE, _FINAL = '{"generationStage":"SPECULATIVE"}', '{"generationStage":"FINAL"}'
_LPCM = {
    "mediaType": "audio/lpcm",
    "sampleSizeBits": 16,
    "channelCount": 1,
    "encoding": "base64",
    "audioType": "SPEECH",
}
_TEXT = {"mediaType": "text/plain"}
_RATES = (8000, 16000, 24000)
_CONFIGURATION = {
    "TEXT": "textInputConfiguration",
    "AUDIO": "audioInputConfiguration",
    "TOOL": "toolResultInputConfiguration",
}
_CONTENT = {"TEXT": "textInput", "AUDIO": "audioInput", "TOOL": "toolResult"}


class NovaModel(Talker):
    path: ClassVar[str] = "/nova-sonic"

    def __init__(self, connection: Connection, script: Script, opening: Opening) -> None:
        super().__init__(connection, script)
        self._prompt = ""
        self._state = "new"
        """new, session, prompt, system (its block was there), talking (the sound has begun), ended."""
        self._blocks: dict[str, Json] = {}
        """The client's, while they are open, by name."""
        self._names: set[str] = set()
        self._texts: dict[str, str] = {}
        self._last_role = ""
        self._output = AudioFormat("pcm16", 24000)
        self._last_content = 0
        self._sound = ""
        """The content id of the sound that is being sent."""

    # --- the client ---------------------------------------------------------------------------------------------------

    def opened(self) -> None:
        """The client speaks first."""

    def receive(self, data: str | bytes) -> None:
        try:
            ((kind, event),) = json.loads(data)["event"].items()
            assert isinstance(event, dict)
        except (ValueError, TypeError, KeyError, AttributeError, AssertionError):
            return self.refuse("ValidationException", "not an event")
        self.connection.record.add({"type": kind, **event})
        handlers: dict[str, Callable[[Json], str]] = {
            "sessionStart": self._on_session,
            "promptStart": self._on_prompt,
            "contentStart": self._on_block,
            "textInput": self._on_content,
            "audioInput": self._on_content,
            "toolResult": self._on_content,
            "contentEnd": self._on_block_end,
            "promptEnd": self._on_prompt_end,
            "sessionEnd": self._on_session_end,
        }
        handler = handlers.get(kind)
        wrong = handler(event | {"": kind}) if handler else "no such event"
        if wrong:
            self.refuse("ValidationException", f"{kind}: {wrong}")
        return None

    def _on_session(self, event: Json) -> str:
        inference = event.get("inferenceConfiguration", {})
        turns = event.get("turnDetectionConfiguration", {}).get("endpointingSensitivity", "HIGH")
        known = {"", "inferenceConfiguration", "turnDetectionConfiguration", "endpointingSensitivity"}
        if self._state != "new" or event.keys() - known or turns not in ("HIGH", "MEDIUM", "LOW"):
            return "not now, or not with these fields"
        if not {"maxTokens"} <= inference.keys() <= {"maxTokens", "topP", "temperature"}:
            return "inferenceConfiguration"
        self._state = "session"
        return "" if 0 <= inference.get("temperature", 0.7) <= 1 else "temperature"

    def _on_prompt(self, event: Json) -> str:
        audio = dict(event.get("audioOutputConfiguration", {}))
        rate, voice = audio.pop("sampleRateHertz", 0), audio.pop("voiceId", "")
        if self._state != "session" or audio != _LPCM or rate not in _RATES or not voice:
            return "not now, or audioOutputConfiguration"
        if event.get("textOutputConfiguration") != _TEXT or not event.get("promptName"):
            return "textOutputConfiguration or promptName"
        for tool in event.get("toolConfiguration", {}).get("tools", []):
            schema = json.loads(tool["toolSpec"]["inputSchema"]["json"])
            if tool["toolSpec"].keys() != {"name", "description", "inputSchema"} or schema.get("type") != "object":
                return "toolConfiguration"
        self._output, self._prompt, self._state = AudioFormat("pcm16", rate), event["promptName"], "prompt"
        return ""

    def _on_block(self, event: Json) -> str:
        kind, role, name = event.get("type"), event.get("role"), event.get("contentName")
        configuration = _CONFIGURATION.get(str(kind), "")
        fields = {"", "promptName", "contentName", "type", "interactive", "role", configuration}
        if event.keys() != fields or event["promptName"] != self._prompt or name in self._names:
            return "fields or names"
        if not self._in_order(str(kind), str(role), bool(event["interactive"])):
            return f"{kind} of {role} in the state {self._state!r}"
        if kind == "AUDIO":
            audio = dict(event[configuration])
            rate = audio.pop("sampleRateHertz", 0)
            if audio != _LPCM or rate not in _RATES:
                return configuration
            self.listen(AudioFormat("pcm16", rate))
            self._begin()
        elif kind == "TOOL" and event[configuration]["toolUseId"] not in self.connection.record.open_calls:
            return "no such tool use waits"
        self._last_role = str(role)
        self._names.add(str(name))
        self._blocks[str(name)] = event
        return ""

    def _in_order(self, kind: str, role: str, interactive: bool) -> bool:
        before, self._state = self._state, self._state
        match (kind, role, interactive):
            case ("TEXT", "SYSTEM", False):
                self._state = "system"
                return before == "prompt"
            case ("TEXT", "USER" | "ASSISTANT", False):  # history
                return before == "system" and not (role == "ASSISTANT" and self._last_role == "SYSTEM")
            case ("AUDIO", "USER", True):
                self._state = "talking"
                return before == "system"
            case ("TEXT", "USER", True) | ("TOOL", "TOOL", False):
                return before == "talking"
        return False

    def _begin(self) -> None:
        fault = self.script.fault
        if fault and fault.name == "refuse_setup":
            self.connection.close_soon(Fault("close", "1008"))
        elif fault and fault.name == "stall":
            self.connection.stall()

    def _on_content(self, event: Json) -> str:
        block = self._blocks.get(str(event.get("contentName")))
        if block is None or event.keys() != {"", "promptName", "contentName", "content"}:
            return "no such block, or other fields"
        if _CONTENT[block["type"]] != event[""] or not isinstance(event["content"], str) or not event["content"]:
            return "not what the block is of"
        if block["type"] != "AUDIO":
            self._texts[event["contentName"]] = self._texts.get(event["contentName"], "") + event["content"]
            return ""
        try:
            self.hear(b64decode(event["content"], validate=True))
        except Base64Error:
            return "not base64"
        return ""

    def _on_block_end(self, event: Json) -> str:
        name = str(event.get("contentName"))
        block, text = self._blocks.pop(name, None), self._texts.pop(name, "")
        if block is None or event.keys() != {"", "promptName", "contentName"}:
            return "no such block"
        if block["type"] == "TOOL":
            self.tool_said(block["toolResultInputConfiguration"]["toolUseId"], text)
        elif block["type"] == "TEXT" and block["interactive"]:
            before, _, words = text.rpartition("\n\n")  # "say this:", an empty line, and this
            self.ask("" if before else text)
            self.answer(words if before else "")
        return ""

    def _on_prompt_end(self, event: Json) -> str:
        self.cut()
        self._state = "ended" if not self._blocks else self._state
        return "" if self._state == "ended" else f"blocks are open: {sorted(self._blocks)}"

    def _on_session_end(self, event: Json) -> str:
        if self._state != "ended":
            return "before promptEnd"
        self.connection.close_soon(Fault("close", "1000"))
        return ""

    # --- what it tells ------------------------------------------------------------------------------------------------

    def _tell(self, kind: str, **event: Any) -> None:
        place = {"sessionId": "session-1", "promptName": self._prompt, "completionId": "completion-1"}
        self.connection.send({"event": {kind: place | event}})

    def _start(self, kind: str, role: str, fields: str = "") -> str:
        self._last_content += 1
        content_id = f"content-{self._last_content}"
        more = {"additionalModelFields": fields} if fields else {}
        self._tell("contentStart", contentId=content_id, type=kind, role=role, **more)
        return content_id

    def _end(self, content_id: str, kind: str, stop: str) -> None:
        self._tell("contentEnd", contentId=content_id, type=kind, stopReason=stop)

    def _say(self, role: str, stage: str, text: str, stop: str) -> None:
        content_id = self._start("TEXT", role, stage)
        self._tell("textOutput", contentId=content_id, role=role, content=text)
        self._end(content_id, "TEXT", stop)

    def voice_format(self) -> AudioFormat:
        return self._output

    def tell_heard(self, text: str) -> None:
        self._say("USER", _FINAL, text, "PARTIAL_TURN")

    def tell_reply(self, talk: Talk) -> None:
        self._tell("completionStart")

    def tell_words(self, talk: Talk, words: str, audio: bytes) -> None:
        if not self._sound:
            self._say("ASSISTANT", _SPECULATIVE, talk.text, "PARTIAL_TURN")
            self._sound = self._start("AUDIO", "ASSISTANT")
        self._tell("audioOutput", contentId=self._sound, content=b64encode(audio).decode("ascii"))

    def tell_spoken(self, talk: Talk) -> None:
        self._sound_ends("PARTIAL_TURN" if talk.tool else "END_TURN")
        self._say("ASSISTANT", _FINAL, talk.said, "PARTIAL_TURN" if talk.tool else "END_TURN")

    def tell_call(self, talk: Talk, call_id: str, tool: ToolUse) -> None:
        content_id = self._start("TOOL", "TOOL")
        self._tell("toolUse", contentId=content_id, toolName=tool.name, toolUseId=call_id, content=tool.arguments)
        self._end(content_id, "TOOL", "TOOL_USE")

    def tell_end(self, talk: Talk, *, cut: bool) -> None:
        if cut:
            self._sound_ends("INTERRUPTED")
            self.tell_late_cut()
        speech = {"speechTokens": 40, "textTokens": 10}
        details = {"delta": {"input": speech, "output": speech}, "total": {"input": speech, "output": speech}}
        self._tell("usageEvent", details=details, totalInputTokens=50, totalOutputTokens=50, totalTokens=100)

    def tell_late_cut(self) -> None:
        self._say("ASSISTANT", _FINAL, '{ "interrupted" : true }', "INTERRUPTED")

    def _sound_ends(self, stop: str) -> None:
        if self._sound:
            self._end(self._sound, "AUDIO", stop)
            self._sound = ""

    def tell_error(self, code: str) -> None:
        self.connection.close_soon(Fault("close", "1011"))
