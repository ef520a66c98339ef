"""Who finds the caller's turns, and who decides what an interruption is: a tenant's wishes, as far as its model allows.

Where the model's server cuts its reply by itself there is nothing to decide: the verdict is immediate. Where it can be
told to leave that to us it is told so as soon as somebody wants it: for a debounce, a protected greeting, recovery from
false alarms, or because our own ear is to decide.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sipbridge.agent import Capabilities, TurnDetection
from sipbridge.backchannels import DEFAULT, Backchannels
from sipbridge.media.silero import SileroVad
from sipbridge.media.vad import Detector, Vad, VadSettings
from sipbridge.tenant_config import BargeIn
from sipbridge.tenant_file.agent import AgentConfig
from sipbridge.turn import Rule

_RATE = 8000
"""Of our own ear: what a telephone has."""
QUIET_MS = 150
"""After so long our own ear takes speech to be over: longer than a stop consonant, shorter than a breath."""
_SERVER_SILENCE_MS = 500
"""The same of most vendors, where nothing is said."""
_WORDS_MS = 1000
"""A transcriber's time for a few words, after the server has found that they are over."""
_NEXT_WORD_MS = 350
"""Without a transcriber: whoever has begun a sentence goes on within this."""


@dataclass(frozen=True, slots=True)
class TurnTaking:
    """Of one agent of a call."""

    rule: Rule
    detection: TurnDetection
    """What the model is told."""
    listens: bool = False
    """Our own ear is needed."""
    alone: bool = False
    """Nobody else tells when the caller speaks."""
    leads: bool = False
    """What it hears may interrupt; else it only tells that what the model has heard was short."""
    heeds_model: bool = True
    """So may what the model hears."""
    ends_turns: bool = False
    """And it is our ear that ends the caller's turns, after `silence_ms`."""
    asks: bool = False
    """The model answers no turn before it is asked to."""
    silence_ms: int = _SERVER_SILENCE_MS
    words: bool = True
    """What the model takes for the caller's words are."""
    interim: bool = False
    """They are wanted while they are spoken."""
    vad: str = "energy"

    def detector(self) -> Detector | None:
        """A new ear for one leg, where one is needed."""
        if not self.listens:
            return None
        if self.vad == "silero":
            return SileroVad(silence_ms=QUIET_MS)
        return Vad(_RATE, VadSettings(silence_ms=QUIET_MS))


def turn_taking(agent: AgentConfig, barge_in: BargeIn, can: Capabilities, protect_greeting_ms: int = 0) -> TurnTaking:
    """`protect_greeting_ms`: for how long what is heard first cannot be interrupted."""
    asked = agent.turn_detection
    by_hand = _by_hand(agent, can)
    ends_turns = by_hand and asked.type == "local_vad"
    enabled = barge_in.enabled and not can.full_duplex
    model_tells = can.speech_events and not by_hand
    free = _leaves_interrupting(agent, can)
    recover = barge_in.recover_false_alarms and enabled and _may_judge(agent, can)
    debounce_ms = barge_in.debounce_ms if free else 0
    ours = enabled and free and (
        by_hand
        or not (can.speech_events or can.interrupts_by_itself)  # nobody else would notice
        or recover
        or debounce_ms > 0
        or barge_in.source == "local"
        or (protect_greeting_ms > 0 and model_tells)
    )  # fmt: skip
    leads = enabled and (barge_in.source == "local" or (ours and not model_tells))
    server_silence_ms = _SERVER_SILENCE_MS if asked.silence_ms is None else asked.silence_ms
    transcribed = can.transcribes and not by_hand  # what is not committed nobody writes down
    words_ms = _WORDS_MS + (server_silence_ms - QUIET_MS if leads else 0) if transcribed else _NEXT_WORD_MS
    asks = ours and not by_hand and (recover or debounce_ms > 0) and can.can_leave_answering
    return TurnTaking(
        Rule(
            enabled=enabled,
            debounce_ms=debounce_ms,
            protect_greeting_ms=protect_greeting_ms,
            recover=recover,
            words_ms=max(words_ms, _NEXT_WORD_MS),
            silence_ms=QUIET_MS if leads else server_silence_ms,
            backchannels=_backchannels(barge_in),
        ),
        # By hand a turn of the caller's begins when we say so, and then it is to interrupt.
        _told(agent, can, interrupt=barge_in.enabled and (by_hand or not ours), answer=not asks),
        listens=leads or ends_turns or (ours and debounce_ms > 0),
        alone=(leads or ends_turns) and not model_tells,
        leads=leads,
        heeds_model=not (leads and ours),
        ends_turns=ends_turns,
        asks=asks,
        silence_ms=server_silence_ms,
        words=can.transcribes,
        interim=agent.transcripts.interim or (recover and can.transcribes_interim),
        vad=barge_in.vad,
    )


def _by_hand(agent: AgentConfig, can: Capabilities) -> bool:
    """The model finds no turns."""
    return agent.turn_detection.type in ("local_vad", "none") and "none" in can.turn_detection


def _leaves_interrupting(agent: AgentConfig, can: Capabilities) -> bool:
    return _by_hand(agent, can) or can.can_leave_interrupting or not can.interrupts_by_itself


def _may_judge(agent: AgentConfig, can: Capabilities) -> bool:
    """It interrupts nothing, and answers nothing, before we say so."""
    return _by_hand(agent, can) or (_leaves_interrupting(agent, can) and can.can_leave_answering)


_DEFAULT_BACKCHANNELS = Backchannels(DEFAULT)


def _backchannels(barge_in: BargeIn) -> Backchannels:
    return _DEFAULT_BACKCHANNELS if barge_in.backchannels is None else Backchannels(barge_in.backchannels)


def _told(agent: AgentConfig, can: Capabilities, *, interrupt: bool, answer: bool) -> TurnDetection:
    """What the model knows of what is asked for; else its own way, without settings that belong to another."""
    asked = agent.turn_detection
    if _by_hand(agent, can):
        return TurnDetection(type="none", interrupt_response=interrupt)
    if asked.type not in can.turn_detection:
        return TurnDetection(interrupt_response=interrupt, create_response=answer)
    return TurnDetection(
        type=asked.type,
        threshold=asked.threshold,
        prefix_ms=asked.prefix_ms,
        silence_ms=asked.silence_ms,
        eagerness=asked.eagerness,
        interrupt_response=interrupt,
        create_response=answer,
    )


_SETTINGS = ("threshold", "prefix_ms", "silence_ms", "eagerness")


def about_turns(agent: AgentConfig, can: Capabilities) -> Iterator[tuple[str, str]]:
    """What of `turn_detection` will not happen, or not as it is written: a key of the agent, and words for the
    operator."""
    named = f"{agent.provider} {agent.model}" if agent.model else agent.provider
    asked = agent.turn_detection
    if _by_hand(agent, can):
        if asked.type == "none":
            yield "turn_detection.type", " none: nothing here ends the caller's turns, so none is answered"
            return
        for name in ("threshold", "prefix_ms", "eagerness"):
            if getattr(asked, name) is not None:
                yield f"turn_detection.{name}", " has no effect: our own ear finds the turns (local_vad)"
    elif asked.type not in can.turn_detection:
        if "turn_detection" in agent.model_fields_set:
            yield (
                "turn_detection",
                f": {named} knows no {asked.type}; it finds turns in its own way, and the other settings there are not"
                " sent",
            )
    else:
        for name in _SETTINGS:
            if getattr(asked, name) is not None and (asked.type, name) not in can.turn_settings:
                yield f"turn_detection.{name}", f" is not sent: {named} has none for {asked.type}"


def about_barge_in(agent: AgentConfig, barge_in: BargeIn, can: Capabilities) -> Iterator[str]:
    """The same of `barge_in`."""
    name = agent.provider
    if can.full_duplex:
        wanted = barge_in.model_fields_set & {"source", "debounce_ms", "recover_false_alarms"}
        for key in sorted(wanted):
            yield f"barge_in.{key} has no effect: the floor is {name}'s own"
        return
    free = _leaves_interrupting(agent, can)
    if not barge_in.enabled:
        if not free:
            yield f"barge_in.enabled: {name} stops by itself when the caller speaks, and can't be told not to"
        return
    if barge_in.debounce_ms and not free:
        yield f"barge_in.debounce_ms has no effect: {name} stops by itself as soon as the caller speaks"
    if barge_in.source == "local" and not free:
        yield f"barge_in.source local: {name} stops by itself as well, and can't be told not to"
    if barge_in.recover_false_alarms and not _may_judge(agent, can):
        does = "answers" if free else "stops for"
        yield f"barge_in.recover_false_alarms has no effect: {name} {does} whatever it takes for speech by itself"
