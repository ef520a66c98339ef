"""Speak the shipped prompts again: needs the program `flite` (Debian: `apt-get install flite`).

    python scripts/make_prompts.py [NAME ...]

Every file is 16-bit mono, trimmed of silence at both ends and brought to one level. Flite and its voices are
copyright Carnegie Mellon University and free for any use; the program is needed only here, never by sipbridge.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import wave
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sipbridge.prompts import CALLER_TEXT, CALLER_WAV, DIRECTORY, PROMPT_RATE, PROMPTS, convert_rate

VOICE = "slt"
CALLER_VOICE = "rms"
LEVEL_DB = -18.0
PEAK = 30000
EDGE_MS = 40


def speak(text: str, voice: str) -> npt.NDArray[np.float64]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "speech.wav"
        command = ["flite", "-voice", voice, "-t", text.replace("sipbridge", "sip bridge"), "-o", str(path)]
        subprocess.run(command, check=True)
        with wave.open(str(path)) as file:
            if file.getframerate() != PROMPT_RATE:
                raise SystemExit(f"the voice {voice} speaks at {file.getframerate()} Hz, not {PROMPT_RATE}")
            return np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.float64)


def trim(samples: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    edge = PROMPT_RATE * EDGE_MS // 1000
    loud = np.flatnonzero(np.abs(samples) > 0.01 * np.abs(samples).max())
    return samples[max(0, loud[0] - edge) : loud[-1] + edge]


def level(samples: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    rms = float(np.sqrt(np.mean(samples**2)))
    gain = 32768 * 10 ** (LEVEL_DB / 20) / rms
    return samples * min(gain, PEAK / float(np.abs(samples).max()))


def write(path: Path, samples: npt.NDArray[np.float64], rate: int) -> None:
    pcm = convert_rate(samples.astype("<i2").tobytes(), PROMPT_RATE, rate)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(pcm)
    print(f"{path.name:22} {len(pcm) / 2 / rate:5.2f} s  {len(pcm) / 1024:6.1f} KiB")


def main(names: list[str]) -> None:
    unknown = set(names) - {*PROMPTS, "caller"}
    if unknown:
        raise SystemExit(f"no such prompt: {', '.join(sorted(unknown))}")
    for name, text in PROMPTS.items():
        if not names or name in names:
            write(DIRECTORY / f"{name}.wav", level(trim(speak(text, VOICE))), PROMPT_RATE)
    if not names or "caller" in names:
        write(CALLER_WAV, level(trim(speak(CALLER_TEXT, CALLER_VOICE))), 8000)


if __name__ == "__main__":
    main(sys.argv[1:])
