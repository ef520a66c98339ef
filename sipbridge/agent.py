"""The agent interface: what a realtime speech model is to the rest of sipbridge.

A call holds one `Agent`, pushes the caller's audio into it and iterates over its events; which vendor answers, the call
never asks. It asks `Capabilities`, which are data. Providers (`sipbridge.providers`) implement this; nothing here does
I/O.

Order of events, whatever the vendor does: `SessionOpen` first; for each reply `AssistantTurnStarted`, then its audio,
text and tool calls, then exactly one `AssistantTurnEnd`, also after `cancel()` and after an interruption; after
`cancel()` no more audio of that reply; `UserTranscript(final=True)` may come at any time; `SessionClosed` last, once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, Self, TypeAlias

from sipbridge.audio import PCM_16K, PCM_24K, AudioFormat, Played

# --- what a model can do, and what is asked of it ---------------------------------------------------------------------


TurnDetectionType: TypeAlias = Literal["server_vad", "semantic_vad", "local_vad", "none"]


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a provider's models can do; the call asks this instead of asking which vendor it has."""

    input_format: AudioFormat = PCM_16K
    """The format it takes when nothing is said: PCM16 at this rate."""
    output_format: AudioFormat = PCM_24K
    native_formats: frozenset[AudioFormat] = frozenset()
    """Formats it takes and gives beside PCM16, so that a phone's G.711 may pass through untouched."""
    speech_events: bool = True
    """Reports that the caller started and stopped speaking."""
    interrupts_by_itself: bool = True
    """Its server cuts its own reply when the caller speaks, unless told otherwise."""
    can_leave_interrupting: bool = False
    """May be told not to interrupt by itself (`TurnDetection.interrupt_response`)."""
    can_leave_answering: bool = False
    """May be told not to answer the turns that it finds by itself (`TurnDetection.create_response`)."""
    can_truncate: bool = False
    """Can be told how much of an item was heard."""
    can_resume: bool = False
    """A session that ended may be gone on with by the vendor's own handle."""
    has_session: bool = True
    """The conversation is kept at the vendor's, in a session that may be lost or has to end. False: it is kept here,
    and nothing of it goes with a connection."""
    full_duplex: bool = False
    """It listens while it speaks, and the floor is its own."""
    takes_temperature: tuple[float, float] | None = None
    """The vendor's range, or None where no temperature may be sent."""
    takes_text: bool = True
    takes_images: bool = False
    takes_tools: bool = True
    can_write: bool = False
    """May be asked for words instead of speech (`AgentOptions.modalities`), for a separate voice to speak."""
    takes_instructions: bool = True
    """`update_instructions` has an effect in mid-call."""
    says_verbatim: bool = False
    """`say` speaks the very words; elsewhere the model is asked to."""
    transcribes: bool = True
    """Tells what the caller said, in words."""
    transcribes_interim: bool = False
    """Also while he speaks, where `AgentOptions.interim_transcripts` asks for it."""
    takes_language: bool = False
    """`AgentOptions.language` has an effect."""
    can_say: bool = True
    """`say` works: the agent may speak first, and by itself."""
    turn_detection: frozenset[TurnDetectionType] = frozenset({"server_vad", "none"})
    """What it knows of `TurnDetection.type`; of the rest the operator is warned, and the vendor's default is taken."""
    turn_settings: frozenset[tuple[TurnDetectionType, str]] = frozenset(
        {
            ("server_vad", "threshold"),
            ("server_vad", "prefix_ms"),
            ("server_vad", "silence_ms"),
            ("semantic_vad", "eagerness"),
        }
    )
    """Which fields of `TurnDetection` have a meaning beside which type."""
    voices: tuple[str, ...] = ()
    """The vendor's voices, its default first, as far as they are known; (): any name may be one."""
    input_rates: tuple[int, ...] = ()
    """PCM16 rates it takes beside `input_format`'s, so that a wideband phone's sound may pass unresampled."""
    output_rates: tuple[int, ...] = ()
    takes_late_results: bool = False
    """A tool call in `AgentOptions.history` that has no output may be answered with `send_tool_result`, by its name
    there; elsewhere the result is told in words."""
    successor_overlaps: bool = True
    """A session that goes on where this one has to end may be opened while this one is still up."""

    def formats_for(self, native: AudioFormat | None, rate: int) -> tuple[AudioFormat, AudioFormat]:
        """What to push into it and what to ask of it, for a leg whose codec is `native` on the wire (G.711, or None)
        and decodes to `rate`: the wire's own where it takes that, else the nearest PCM rate, rather above than below
        (what is above loses nothing)."""
        if native is not None and native in self.native_formats:
            return native, native
        return (
            AudioFormat("pcm16", _nearest(rate, {self.input_format.rate, *self.input_rates})),
            AudioFormat("pcm16", _nearest(rate, {self.output_format.rate, *self.output_rates})),
        )


def _nearest(rate: int, rates: set[int]) -> int:
    above = [other for other in rates if other >= rate]
    return min(above) if above else max(rates)


@dataclass(frozen=True, slots=True)
class TurnDetection:
    """Who decides that the caller's turn began and ended. None means: the vendor's default, nothing is sent."""

    type: TurnDetectionType = "server_vad"
    threshold: float | None = None
    prefix_ms: int | None = None
    silence_ms: int | None = None
    eagerness: Literal["low", "medium", "high", "auto"] | None = None
    interrupt_response: bool = True
    """Whether the server may cut its own reply when the caller speaks."""
    create_response: bool = True
    """Whether the server answers a turn by itself. False: it is asked to (`Agent.create_response`), by whoever judges
    what the caller said."""


@dataclass(frozen=True, slots=True)
class ToolDeclaration:
    """A tool as the model sees it; `parameters` is a JSON Schema object."""

    name: str
    description: str
    parameters: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Said:
    """Words of a conversation, as they were heard: an answer that was cut off ends where the caller cut it."""

    role: Literal["user", "assistant"]
    text: str


@dataclass(frozen=True, slots=True)
class ToolUsed:
    """A tool call of a conversation. `output` is None where no result had come yet."""

    call_id: str
    name: str
    arguments: str
    output: str | None = None


HistoryItem: TypeAlias = Said | ToolUsed


@dataclass(frozen=True, slots=True)
class AgentOptions:
    instructions: str = ""
    voice: str | None = None
    temperature: float | None = None
    """None: not sent. Clamped to the vendor's range, or dropped where it takes none, when the configuration is read."""
    language: str | None = None
    """BCP 47 or ISO 639-1, a hint for transcription and speech."""
    input_format: AudioFormat = PCM_16K
    """What `push_audio` will be given."""
    output_format: AudioFormat = PCM_24K
    """What `AssistantAudio` will carry."""
    turn_detection: TurnDetection = TurnDetection()
    modalities: tuple[Literal["audio", "text"], ...] = ("audio",)
    tools: tuple[ToolDeclaration, ...] = ()
    transcription: bool = True
    interim_transcripts: bool = False
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Vendor keys, merged into the vendor's session object as they are."""
    greeting: str = ""
    """The words of the first `say`, where they are known and may be said as soon as the session is open: for vendors
    that are told their first words with the setup. Such a dialect passes that `say` over; the others take no notice."""
    history: tuple[HistoryItem, ...] = ()
    """The conversation so far, oldest first, where this session goes on with one that was lost or had to end."""
    goes_on: bool = False
    """It goes on with a conversation, whether anything is known of that or not, and greets nobody."""
    resume_handle: str = ""
    """The vendor's own word for that conversation (`Dialect.resume_handle`); with it `history` is not sent."""


# --- events: one closed union -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SessionOpen:
    """The model is configured and can hear. Always the first event."""

    session_id: str = ""


@dataclass(frozen=True, slots=True)
class SessionClosed:
    """The last event, once. `reason` is 'closed' when we closed it, else the vendor's or the transport's word."""

    reason: str
    expected: bool = False
    """True when we closed it ourselves."""
    again: bool = False
    """Whether a new session has a chance: the connection broke, the vendor's time was up. Not where the key, the model
    or what we asked for was refused."""


@dataclass(frozen=True, slots=True)
class Reconnecting:
    """The session was lost in mid-call; another one is being opened. Replies that were open have been ended."""

    attempt: int


@dataclass(frozen=True, slots=True)
class Resumed:
    """The model can hear again. `context_kept`: it knows what was said before."""

    context_kept: bool


@dataclass(frozen=True, slots=True)
class UserSpeechStarted:
    """The model hears the caller speak; unplayed audio should stop now."""

    audio_ms: int | None = None
    """Where on the input stream the speech began, in the vendor's count, where it says so."""
    item_id: str = ""
    """What the words of it will carry (`UserTranscript.item_id`), where the vendor names it this early."""


@dataclass(frozen=True, slots=True)
class UserSpeechEnded:
    audio_ms: int | None = None


@dataclass(frozen=True, slots=True)
class UserTranscript:
    text: str
    final: bool
    item_id: str = ""


@dataclass(frozen=True, slots=True)
class AssistantTurnStarted:
    reply_id: str


@dataclass(frozen=True, slots=True)
class AssistantText:
    """What the agent says, in words. `final` carries the whole text of the item; before it come deltas."""

    reply_id: str
    text: str
    final: bool


@dataclass(frozen=True, slots=True)
class AssistantAudio:
    """Speech in `AgentOptions.output_format`, usually much faster than it will be played."""

    reply_id: str
    item_id: str
    pcm: bytes


@dataclass(frozen=True, slots=True)
class AssistantInterrupted:
    """The model's side cut this reply by itself. `AssistantTurnEnd` of it still follows."""

    reply_id: str


@dataclass(frozen=True, slots=True)
class AssistantTurnEnd:
    """The reply is generated, not played: a hang-up still waits for the pacer."""

    reply_id: str
    status: Literal["completed", "cancelled", "incomplete", "failed"] = "completed"


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    call_id: str
    arguments: str


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A complete call: `arguments` is the JSON text as the vendor gave it, not yet checked."""

    call_id: str
    name: str
    arguments: str
    reply_id: str


@dataclass(frozen=True, slots=True)
class ToolCallCancelled:
    call_id: str


@dataclass(frozen=True, slots=True)
class AgentError:
    """`fatal`: the session is of no more use; `SessionClosed` follows."""

    message: str
    code: str
    fatal: bool


@dataclass(frozen=True, slots=True)
class Usage:
    """What one reply, or one stretch of the session (`reply_id` ""), is charged for.

    Counts by these names, whatever the vendor's are; others may be beside them: `input_tokens`, `output_tokens`,
    `input_text_tokens`, `input_audio_tokens`, `input_cached_tokens`, `output_text_tokens`, `output_audio_tokens`,
    `input_audio_seconds`, `output_audio_seconds`, `session_seconds`, `characters` (spoken by a separate voice).
    They add up over a session: each is what came on top since the last one.
    """

    reply_id: str
    counts: Mapping[str, float]
    model: str = ""
    """What the price table has it under; "": the session's model."""


AgentEvent: TypeAlias = (
    SessionOpen
    | SessionClosed
    | Reconnecting
    | Resumed
    | UserSpeechStarted
    | UserSpeechEnded
    | UserTranscript
    | AssistantTurnStarted
    | AssistantText
    | AssistantAudio
    | AssistantInterrupted
    | AssistantTurnEnd
    | ToolCallDelta
    | ToolCall
    | ToolCallCancelled
    | AgentError
    | Usage
)


# --- the agent --------------------------------------------------------------------------------------------------------


class Agent(Protocol):
    """One conversation with one model.

    All commands but `start` and `close` return at once: they only queue what is to be sent. After `close()` every other
    one raises `AgentClosedError`. Iterate to receive events, from one task only; iteration ends after `SessionClosed`.
    """

    @property
    def slug(self) -> str:
        """The provider's registered name, for logs."""

    @property
    def capabilities(self) -> Capabilities: ...

    @property
    def uplink_dropped_ms(self) -> float:
        """Caller audio thrown away because the transport did not take it in time, oldest first."""

    @property
    def counters(self) -> Counter[str]:
        """What the provider dropped, ignored or retried, by reason; `late_audio_bytes`: speech that came after its
        reply had been cut."""

    @property
    def history(self) -> tuple[HistoryItem, ...]:
        """The conversation so far, oldest first, as it was heard; for an agent that goes on with it
        (`AgentOptions.history`). Also when it is over."""

    async def start(self) -> None:
        """Connect and configure; returns when audio may flow. Raises `AgentStartError` (or is cancelled)."""

    def push_audio(self, pcm: bytes) -> None:
        """Caller audio in `AgentOptions.input_format`, any length, without gaps: the model's VAD counts samples."""

    def commit_input_audio(self) -> None:
        """End of utterance by hand, and the model is asked for its answer; does nothing where it finds turns itself."""

    def cancel(self, played: Sequence[Played]) -> None:
        """Barge-in: stop the reply under way; `played` says, for each of its items, what was really heard of it."""

    def update_instructions(self, text: str) -> None: ...

    def send_text(self, text: str) -> None:
        """A message of the user's in words. It asks for no answer by itself: see `create_response`."""

    def send_image(self, data: bytes, media_type: str) -> None: ...

    def say(self, text: str) -> None:
        """Have the agent speak these words (a greeting, an announcement, a farewell) as a reply of its own."""

    def create_response(self) -> None:
        """Ask for a reply now."""

    def send_tool_result(self, call_id: str, output: str) -> None:
        """Answer a tool call. When all calls of a reply are answered the model is asked to go on, once."""

    async def close(self) -> None:
        """Close the transport. Idempotent; `SessionClosed` is the last event."""

    def __aiter__(self) -> Self: ...

    async def __anext__(self) -> AgentEvent: ...


class NewAgent(Protocol):
    """What makes an agent: `providers.new_agent_from_credential`, or a test."""

    def __call__(self, credential: Mapping[str, Any], options: AgentOptions, *, connect_timeout: float) -> Agent: ...
