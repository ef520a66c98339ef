"""How the embedded model hears: the caller's audio cut into utterances by energy. Pure, in the stream's own time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from sipbridge.agent import TurnDetection
from sipbridge.media.vad import SpeechEnded, SpeechStarted, Vad, VadSettings

LONGEST_MS = 20_000
"""Of a longer utterance the rest is not kept."""

_TAIL_MS = 150
_DEFAULT_PREFIX_MS = 200


@dataclass(frozen=True, slots=True)
class Utterance:
    began_ms: int
    ended_ms: int
    pcm: bytes
    """At the input's rate, with a little of what came before and after."""

    @property
    def seconds(self) -> float:
        return (self.ended_ms - self.began_ms) / 1000


Heard: TypeAlias = SpeechStarted | Utterance


class Ear:
    """`feed` says when speech began and, once it is over, hands out what was said.

    Where turns are not found here (`none`, `local_vad`), `feed` reports nothing and `take` returns what was heard since
    the last time.
    """

    def __init__(self, rate: int, detection: TurnDetection) -> None:
        self._bytes_per_ms = rate // 1000 * 2
        self._prefix_ms = _DEFAULT_PREFIX_MS if detection.prefix_ms is None else detection.prefix_ms
        self.finds_turns = detection.type in ("server_vad", "semantic_vad")
        self._settings = _settings(detection)
        self._vad = Vad(rate, self._settings)
        self._kept = bytearray()
        self._kept_from = 0  # bytes of the stream before `_kept`
        self._position = 0  # bytes of the stream heard
        self._began_ms: int | None = None

    def feed(self, pcm: bytes) -> list[Heard]:
        self._keep(pcm)
        if not self.finds_turns:
            return []
        heard: list[Heard] = []
        for event in self._vad.feed(pcm):
            if isinstance(event, SpeechStarted):
                self._began_ms = event.at_ms
                heard.append(event)
            else:
                heard.append(self._finish(event))
        if self._began_ms is None:
            self._forget_before(self._position - (self._prefix_ms + 500) * self._bytes_per_ms)
        return heard

    def take(self) -> Utterance | None:
        """What was said since the last time, for a turn that somebody else has found; None where nothing was."""
        per_ms, start_ms = self._bytes_per_ms, self._kept_from // self._bytes_per_ms
        pcm = bytes(self._kept)
        self._forget_before(self._position)
        events = Vad(per_ms * 500, self._settings).feed(pcm)
        if not events:
            return None
        began_ms = events[0].at_ms
        ended_ms = events[-1].at_ms if isinstance(events[-1], SpeechEnded) else len(pcm) // per_ms
        spoken = pcm[max(0, began_ms - self._prefix_ms) * per_ms : (ended_ms + _TAIL_MS) * per_ms]
        return Utterance(start_ms + began_ms, start_ms + ended_ms, spoken)

    def _keep(self, pcm: bytes) -> None:
        self._position += len(pcm)
        self._kept += pcm
        longest = (LONGEST_MS + self._prefix_ms + 500) * self._bytes_per_ms
        if len(self._kept) <= longest:
            return
        if self.finds_turns:
            del self._kept[longest:]
        else:
            self._forget_before(self._position - longest)

    def _finish(self, ended: SpeechEnded) -> Utterance:
        began_ms = ended.at_ms if self._began_ms is None else self._began_ms
        self._began_ms = None
        start = max(self._kept_from, (began_ms - self._prefix_ms) * self._bytes_per_ms)
        end = min((began_ms + LONGEST_MS), (ended.at_ms + _TAIL_MS)) * self._bytes_per_ms
        pcm = bytes(self._kept[start - self._kept_from : end - self._kept_from])
        self._forget_before((ended.at_ms + _TAIL_MS) * self._bytes_per_ms)
        return Utterance(began_ms, ended.at_ms, pcm)

    def _forget_before(self, position: int) -> None:
        if position <= self._kept_from:
            return
        del self._kept[: position - self._kept_from]
        # What was not kept for want of room leaves no hole to fill: the buffer goes on from here.
        self._kept_from = position if self._kept else self._position


def _settings(detection: TurnDetection) -> VadSettings:
    defaults = VadSettings()
    threshold = 0.5 if detection.threshold is None else detection.threshold
    return VadSettings(
        silence_ms=defaults.silence_ms if detection.silence_ms is None else detection.silence_ms,
        margin_db=defaults.margin_db + 12 * (threshold - 0.5),
    )
