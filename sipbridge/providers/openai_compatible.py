"""Any server that speaks the OpenAI Realtime protocol, in the GA or the older shape: LocalAI, speaches, vLLM-Omni, ...

What is known of such servers is little, so little is assumed: which shape it is says the first message; a configuration
that it refuses is tried once more with only what a call can't do without; an answer that does not come is not waited
for; what it does not know (to truncate, to be told how to respond) is not asked of it a second time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sipbridge.agent import AgentOptions, Capabilities
from sipbridge.audio import PCMA, PCMU, AudioFormat
from sipbridge.errors import ConfigError
from sipbridge.providers import openai_wire as wire
from sipbridge.providers.openai import OpenAIDialect
from sipbridge.providers.openai_beta import BETA_CAPABILITIES, OPENAI_BETA
from sipbridge.providers.openai_replies import Request
from sipbridge.providers.wire import Json, text_of

CREATED_WAIT = 1.0
"""Seconds for `session.created`, before we configure a server that may be waiting for us."""
UPDATED_WAIT = 2.0
"""Seconds for `session.updated`, before we go on without it."""
START_WAIT = 2.5
"""Both together: less than a call's deadline for connecting."""

_GA = replace(wire.OPENAI_GA, default_url="", default_model="", session_seconds=None)
_SHAPES = {"ga": _GA, "beta": replace(OPENAI_BETA, session_seconds=None)}
_CAPABILITIES = replace(
    BETA_CAPABILITIES,
    native_formats=frozenset(),
    takes_images=False,
    takes_language=False,
    can_leave_answering=False,  # one that takes no notice would answer every turn twice
    voices=(),
)
_RATES = (8000, 16000, 22050, 24000, 44100, 48000)


class CompatibleDialect(OpenAIDialect):
    """`shape: auto | ga | beta`, `input_rate`, `output_rate`, `g711`, `key_header` are this provider's own keys."""

    shape = _GA
    capabilities = _CAPABILITIES

    def __init__(self, credential: Mapping[str, Any], options: AgentOptions) -> None:
        wanted = str(credential.get("shape") or "auto")
        if wanted not in ("auto", *_SHAPES):
            raise ConfigError("shape: must be auto, ga or beta")
        for key in ("input_rate", "output_rate"):
            if credential.get(key) not in (None, *_RATES):
                raise ConfigError(f"{key}: must be one of {', '.join(map(str, _RATES))}")
        self._shape_is_known = wanted != "auto"
        self.shape = _SHAPES.get(wanted, _GA)
        self._key_header = str(credential.get("key_header") or "")
        super().__init__(credential, options)
        self._opened_at = 0.0
        self._due: float | None = None
        """While the session is set up: until when we wait for the server's next word."""
        self._reduced = False
        self._later: list[Json] = []
        """What was left out of a configuration that was refused as a whole: told piece by piece."""
        self._plain_responses = False

    @classmethod
    def capabilities_for(cls, credential: Mapping[str, Any]) -> Capabilities:
        return replace(
            cls.capabilities,
            input_format=_pcm(credential.get("input_rate")),
            output_format=_pcm(credential.get("output_rate")),
            native_formats=frozenset({PCMU, PCMA} if credential.get("g711") else ()),
            takes_temperature=cls.capabilities.takes_temperature if credential.get("shape") == "beta" else None,
            takes_language=bool(credential.get("transcription_model")),
        )

    def default_url(self, credential: Mapping[str, Any]) -> str:
        raise ConfigError("url: is needed, e.g. ws://127.0.0.1:8080/v1/realtime")

    def headers(self) -> dict[str, str]:
        """A key that says itself how it is to be used (`Basic ...`) is sent as it is."""
        if self._key and self._key_header:
            return {self._key_header: self._key}
        if " " in self._key:
            return {"Authorization": self._key}
        return super().headers()

    def session_object(self) -> Json:
        """Without `transcription_model`, nothing is said of transcription: its models have names of their own. Where
        it is not wanted that is said: such a server may transcribe unasked."""
        session = super().session_object()
        ga = "audio" in session
        place, name = (session["audio"]["input"], "transcription") if ga else (session, "input_audio_transcription")
        if not self._options.transcription:
            place[name] = None
        elif not self._transcription_model:
            place.pop(name, None)
        return session

    # --- set-up -------------------------------------------------------------------------------------------------------

    def channel_opened(self, channel: str, now: float) -> None:
        self._opened_at, self._due = now, now + CREATED_WAIT

    def get_timer(self) -> float | None:
        return self._due if self._state in ("connecting", "updating") else super().get_timer()

    def handle_timer(self, now: float) -> None:
        if self._state in ("connecting", "updating") and self._due is not None and now >= self._due:
            waiting_for = "session.created" if self._state == "connecting" else "session.updated"
            self.counters["setup_unanswered"] += 1
            self._log_once(waiting_for, "no answer in the set-up, going on", waiting_for=waiting_for)
            if self._state == "connecting":
                self._configure(now)
            else:
                self._open()
        super().handle_timer(now)

    def _on_session_created(self, event: Json, now: float) -> None:
        session = event.get("session")
        described = session if isinstance(session, dict) else {}
        if self._state == "connecting" and not self._shape_is_known:
            self.shape = _SHAPES[shape_of(described)]
        self._session_id = text_of(described, "id")
        self._configure(now)

    def _configure(self, now: float) -> None:
        super()._configure(now)
        self._due = min(now + UPDATED_WAIT, self._opened_at + START_WAIT)

    def _open(self) -> None:
        self._tell_later()
        super()._open()

    # --- what it does not know ----------------------------------------------------------------------------------------

    def _on_error(self, event: Json, now: float) -> None:
        error = event["error"]
        code, kind, ours = text_of(error, "code"), text_of(error, "type"), text_of(error, "event_id")
        no_lack = not self.shape.fatal_codes.isdisjoint((code, kind)) or self.shape.passes(code, kind)
        if no_lack or code in (wire.NOTHING_TO_CANCEL, wire.ACTIVE_RESPONSE):
            super()._on_error(event, now)
        elif self._setup_id and (ours == self._setup_id or (self._state == "updating" and not self._reduced)):
            self._reduce(text_of(error, "message") or code, now)
        elif ours and ours == self._cut_id:
            self.shape = replace(self.shape, can_truncate=False)
            self._unknown_to_it("truncate_refused", "the server can't truncate: it believes that all was heard")
        elif not self._say_otherwise(ours):
            super()._on_error(event, now)

    def _reduce(self, message: str, now: float) -> None:
        """The whole configuration was refused for one field: only what a call can't do without, then the rest."""
        self._setup_id, self._reduced = "", True
        self._unknown_to_it("setup_refused", "configuration refused, trying with less", message=message[:200])
        least, self._later = apart(self.configuration())
        self._update(least)
        if self._state == "updating":
            self._due = max(now, min(now + UPDATED_WAIT, self._opened_at + START_WAIT))
        else:
            self._tell_later()

    def _tell_later(self) -> None:
        for part in self._later:
            self._update(part)
        self._later = []

    def _say_otherwise(self, event_id: str) -> bool:
        """Some take no word about how to respond: then it is put before the model, which is asked plainly."""
        in_flight = self._replies.in_flight
        if in_flight is None or not in_flight.response or event_id not in ("", in_flight.event_id):
            return False
        self._replies.rejected(in_flight.event_id)
        self._plain_responses = True
        self._unknown_to_it("response_refused", "the server takes no instructions for one response")
        self._ask(in_flight.response)
        return True

    def say(self, text: str, now: float) -> None:
        if self._plain_responses:
            self._ask(self.shape.say(text))
            self._settle(now)
        else:
            super().say(text, now)

    def _ask(self, response: Json) -> None:
        self._send(wire.item_create(self._new_id(), wire.system_text(text_of(response, "instructions"))))
        self._replies.want(Request())

    def _unknown_to_it(self, counter: str, words: str, **values: str) -> None:
        self.counters[counter] += 1
        self._log_once(counter, words, **values)


def _pcm(rate: object) -> AudioFormat:
    return AudioFormat("pcm16", rate if isinstance(rate, int) and rate > 0 else 24000)


def shape_of(session: Mapping[str, Any]) -> str:
    """By the names in the session that a server says it begins with. Where it says nothing, the newer one."""
    older = {"modalities", "input_audio_format", "output_audio_format", "input_audio_transcription"}
    return "ga" if older.isdisjoint(session) or "audio" in session else "beta"


def apart(session: Json) -> tuple[Json, list[Json]]:
    """A session object as what every server must know (instructions, modalities, voice, formats), and the rest in
    pieces that may be refused one by one."""
    kind = {"type": session["type"]} if "type" in session else {}
    least = {key: session[key] for key in _LEAST if key in session}
    rest = [
        kind | {key: value} for key, value in session.items() if key not in (*_LEAST, "audio", "tools", "tool_choice")
    ]
    if session.get("tools"):
        rest.append(kind | {key: session[key] for key in ("tools", "tool_choice") if key in session})
    if "audio" in session:
        least["audio"] = {
            side: {key: part[key] for key in ("format", "voice") if key in part}
            for side, part in session["audio"].items()
        }
        rest += [
            kind | {"audio": {side: {key: value}}}
            for side, part in session["audio"].items()
            for key, value in part.items()
            if key not in ("format", "voice")
        ]
    return least, rest


_LEAST = (
    "type",
    "instructions",
    "output_modalities",
    "modalities",
    "voice",
    "input_audio_format",
    "output_audio_format",
)
