"""The embedded model: no key, no network. It greets, hears the caller by voice activity and repeats what it heard.

It understands no words. Its speech is the prompts that ship with the package, the caller's own voice and, for any
other text, the program `espeak-ng` where there is one. Keys that the caller presses reach it as text ("The caller
pressed 5."): it names them, says goodbye and hangs up at `#`, and asks for a transfer at `*`, each where the tenant has
that tool. Everything else of `sipbridge.agent` it does as a vendor's model would: speech comes faster than it is
played, it can be interrupted, and it knows how much of itself was heard.
"""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from sipbridge.agent import (
    AgentEvent,
    AgentOptions,
    AssistantInterrupted,
    Capabilities,
    SessionClosed,
    SessionOpen,
    ToolDeclaration,
    UserSpeechEnded,
    UserSpeechStarted,
    UserTranscript,
)
from sipbridge.audio import Played
from sipbridge.errors import ConfigError
from sipbridge.prompts import DEFAULT_GREETING, PROMPTS, find_prompt, key_prompt, load_prompt
from sipbridge.providers import Endpoint, Lifetime, Outgoing, ProgramEndpoint
from sipbridge.providers.offline_ear import Ear, Utterance
from sipbridge.providers.offline_voice import CallTool, Part, Plan, Speech, Voice, read_wav, recorded

VOICE_CHANNEL = "voice"
SYNTHESISER = "espeak-ng"

_LONGEST_TEXT = 2000
_PRESSED = re.compile(r"\bpressed\s+((?:[0-9*#A-D][\s,]*)+)(?![a-z0-9])")
_WORD_FOR_WORD = re.compile(r"\bword for word: (.+)", re.DOTALL)
_ESPEAK_VOICE = re.compile(r"[a-z]{2,3}(-[a-z0-9]+)*(\+[a-z0-9]+)?", re.IGNORECASE)


class OfflineDialect:
    """A `sipbridge.providers.Dialect`. The credential needs no key but `provider`; `synthesiser: null` leaves the
    program out."""

    capabilities: ClassVar[Capabilities] = Capabilities(
        takes_language=True,
        can_leave_interrupting=True,
        can_leave_answering=True,
        transcribes=False,  # it tells how long somebody spoke, but not what
        can_truncate=True,
    )

    def __init__(self, credential: Mapping[str, Any], options: AgentOptions) -> None:
        if options.input_format.encoding != "pcm16" or options.output_format.encoding != "pcm16":
            raise ConfigError("the provider 'offline' hears and speaks PCM16 only")
        self._options = options
        self._synthesiser: str | None = credential.get("synthesiser", SYNTHESISER)
        self._ear = Ear(options.input_format.rate, options.turn_detection)
        self._voice = Voice(options.output_format)
        self._tools = {tool.name: tool for tool in options.tools}
        self._events: deque[AgentEvent] = deque()
        self._outgoing: list[Outgoing] = []
        self._state = "new"
        self._has_program = False
        self._synthesising = 0
        self.counters: Counter[str] = Counter()
        self._pending: list[Utterance | str] = []  # what the caller said by hand-committed audio, text and keys
        self._was_cut_short = False

    @classmethod
    def capabilities_for(cls, credential: Mapping[str, Any]) -> Capabilities:
        return cls.capabilities

    @classmethod
    def tools_for_session(cls, tools: Sequence[ToolDeclaration]) -> list[dict[str, Any]]:
        return [{"name": tool.name, "description": tool.description, "parameters": tool.parameters} for tool in tools]

    # --- the session -------------------------------------------------------------------------------------------------

    async def prepare(self) -> None:
        """Finds the synthesiser."""
        self._has_program = self._synthesiser is not None and shutil.which(self._synthesiser) is not None

    def start(self, now: float) -> None:
        if not self._has_program:
            self._open()

    def endpoints(self) -> Mapping[str, Endpoint]:
        if not self._has_program or self._synthesiser is None:
            return {}
        return {VOICE_CHANNEL: ProgramEndpoint(synthesiser_arguments(self._options, self._synthesiser))}

    def channel_opened(self, channel: str, now: float) -> None:
        self._open()

    def channel_closed(self, channel: str, code: int, reason: str, now: float) -> None:
        """Without its synthesiser it goes on with the prompts."""
        self._has_program = False
        self._open()
        for _ in range(self._synthesising):
            self.receive(channel, b"", now)

    def receive(self, channel: str, message: str | bytes, now: float) -> None:
        if not self._synthesising:
            return
        self._synthesising -= 1
        pcm = read_wav(message, self._options.output_format.rate) if isinstance(message, bytes) else b""
        self._voice.synthesised(pcm or None, self._substitute())
        self._speak(now)

    @property
    def lifetime(self) -> Lifetime | None:
        return None

    @property
    def resume_handle(self) -> str:
        return ""

    def messages_to_send(self) -> list[Outgoing]:
        outgoing, self._outgoing = self._outgoing, []
        return outgoing

    def get_timer(self) -> float | None:
        return self._voice.due if self._state == "open" else None

    def handle_timer(self, now: float) -> None:
        if self._state == "open":
            self._speak(now)

    def next_event(self) -> AgentEvent | None:
        return self._events.popleft() if self._events else None

    def close(self, now: float) -> None:
        if self._state == "closed":
            return
        self._events += self._voice.stop()
        self._state = "closed"
        self._events.append(SessionClosed("closed", expected=True))

    def _open(self) -> None:
        if self._state == "new":
            self._state = "open"
            self._events.append(SessionOpen("offline"))

    # --- hearing ------------------------------------------------------------------------------------------------------

    def push_audio(self, pcm: bytes, now: float) -> None:
        if self._state != "open":
            return
        for heard in self._ear.feed(pcm):
            if isinstance(heard, Utterance):
                self._events.append(UserSpeechEnded(heard.ended_ms))
                self._understand(heard)
                if not self._leaving and self._options.turn_detection.create_response:
                    self.create_response(now)
            else:
                self._events.append(UserSpeechStarted(heard.at_ms))
                self._interrupt()
        self._speak(now)

    def commit_input_audio(self, now: float) -> None:
        if self._state != "open" or self._ear.finds_turns:
            return
        utterance = self._ear.take()
        if utterance is not None:
            self._understand(utterance)
            self.create_response(now)

    def cancel(self, played: Sequence[Played], now: float) -> None:
        if self._state != "open":
            return
        self._was_cut_short |= self._voice.cut_short(played)
        self._events += self._voice.stop_current()
        self._speak(now)

    def send_text(self, text: str, now: float) -> None:
        if self._state == "open" and text.strip():
            self._pending.append(text)

    def heard(self, reply_id: str, text: str, now: float) -> None:
        """It speaks itself."""

    def update_instructions(self, text: str, now: float) -> None:
        """It follows none."""

    def send_image(self, data: bytes, media_type: str, now: float) -> None:
        """It sees none (`Capabilities.takes_images`)."""

    @property
    def _leaving(self) -> bool:
        """It has said goodbye: from now on it neither answers nor gives way."""
        return self._voice.will_call("hang_up")

    def _understand(self, utterance: Utterance) -> None:
        self._pending.append(utterance)
        if self._options.transcription:
            self._events.append(UserTranscript(f"(speech, {utterance.seconds:.1f} s)", final=True))

    def _interrupt(self) -> None:
        reply_id = self._voice.current_reply
        if reply_id is None or self._leaving or not self._options.turn_detection.interrupt_response:
            return
        self._was_cut_short = True
        self._events.append(AssistantInterrupted(reply_id))
        self._events += self._voice.stop_current()

    # --- speaking -----------------------------------------------------------------------------------------------------

    def say(self, text: str, now: float) -> None:
        if self._state == "open" and text.strip():
            self._voice.add(Plan([self._part(text)]))
            self._speak(now)

    def create_response(self, now: float) -> None:
        """Answers everything that it was told since its last answer; asked without a reason, it says what it does."""
        if self._state != "open":
            return
        pending, self._pending = self._pending, []
        plan = Plan([])
        for told in pending:
            self._answer(told, plan)
        if not pending:
            plan.parts.append(self._part(DEFAULT_GREETING))
        self._voice.add(plan)
        self._speak(now)

    def send_tool_result(self, call_id: str, output: str, now: float) -> None:
        name = self._voice.tool_calls.pop(call_id, None)
        if name is None or self._state != "open":
            return
        failure = "transfer-failed" if name == "transfer_call" else "tool-failed"
        wanted = _WORD_FOR_WORD.search(output)
        part = self._prompt(failure if _failed(output) else "tool-done") if wanted is None else self._part(wanted[1])
        self._voice.add(Plan([part]))
        self._speak(now)

    def _answer(self, told: Utterance | str, plan: Plan) -> None:
        if isinstance(told, Utterance):
            lead_in, self._was_cut_short = "interrupted" if self._was_cut_short else "you-said", False
            words = f"({told.seconds:.1f} s of the caller's own speech)"
            echo = recorded(told.pcm, self._options.input_format.rate, words, self._options.output_format.rate)
            plan.parts += [self._prompt(lead_in), echo]
            return
        pressed = _PRESSED.search(told)
        if pressed is None:
            plan.parts.append(self._part(told))
            return
        for key in re.sub(r"[\s,]", "", pressed[1]):
            self._answer_key(key, plan)

    def _answer_key(self, key: str, plan: Plan) -> None:
        target = self._transfer_target()
        if key == "#":
            plan.parts.append(self._prompt("goodbye"))
            if "hang_up" in self._tools:
                plan.tool = CallTool("hang_up", json.dumps({"reason": "the caller pressed pound"}))
        elif key == "*" and target is not None:
            plan.parts.append(self._prompt("transferring"))
            plan.tool = CallTool("transfer_call", json.dumps({"target": target}))
        else:
            prompt = key_prompt(key)
            plan.parts.append(self._part(f"You pressed {key}.") if prompt is None else self._prompt(prompt))

    def _transfer_target(self) -> str | None:
        """The first of the names that the tenant's `transfer_call` allows."""
        tool = self._tools.get("transfer_call")
        if tool is None:
            return None
        names = tool.parameters.get("properties", {}).get("target", {}).get("enum") or [None]
        return None if names[0] is None else str(names[0])

    def _prompt(self, name: str) -> Speech:
        return Speech(PROMPTS[name], load_prompt(name, self._options.output_format.rate))

    def _part(self, text: str) -> Part:
        """The text as speech, or left as text where it must be synthesised first."""
        name = find_prompt(text)
        if name is not None:
            return self._prompt(name)
        return text[:_LONGEST_TEXT] if self._has_program else self._substitute()

    def _substitute(self) -> Speech:
        """For text that has no voice. A conversation that begins with that begins with a greeting all the same."""
        return self._prompt("cannot-speak" if self._voice.has_spoken else "greeting")

    def _speak(self, now: float) -> None:
        self._events += self._voice.speak(now)
        while texts := self._voice.texts_to_synthesise():
            if self._has_program:
                self._outgoing += [Outgoing(VOICE_CHANNEL, text.encode()) for text in texts]
                self._synthesising += len(texts)
                return
            for _ in texts:
                self._voice.synthesised(None, self._substitute())
            self._events += self._voice.speak(now)


def synthesiser_arguments(options: AgentOptions, program: str = SYNTHESISER) -> tuple[str, ...]:
    """`options.voice` where it looks like a voice of espeak-ng's ("en-gb", "de+f2"), else one for the language."""
    voice = options.voice
    if voice is None or not _ESPEAK_VOICE.fullmatch(voice):
        language = re.match(r"[A-Za-z]{2,3}", options.language or "")
        voice = "en-us+f3" if language is None or language[0].lower() == "en" else f"{language[0].lower()}+f3"
    return (program, "--stdout", "--stdin", "-b", "1", "-s", "150", "-v", voice)


def _failed(output: str) -> bool:
    try:
        result = json.loads(output)
    except ValueError:
        return False
    return isinstance(result, dict) and "error" in result
