"""Words for the simulated caller to say: a shipped prompt where there is one, else the program `espeak-ng`."""

from __future__ import annotations

import shutil

from sipbridge.errors import ConfigError
from sipbridge.prompts import CALLER_TEXT, CALLER_WAV, find_prompt, load_prompt
from sipbridge.providers import ProgramEndpoint
from sipbridge.providers.offline_voice import read_wav
from sipbridge.providers.programs import run_program
from sipbridge.simulator.caller_recording import NARROW_RATE, read_speech

PROGRAM = "espeak-ng"
VOICE = "en-us+m3"


async def speak(text: str, rate: int = NARROW_RATE, program: str = PROGRAM) -> bytes:
    """PCM16 at `rate`. Raises `ConfigError` where there is nobody to speak it."""
    if text == CALLER_TEXT:
        return read_speech(CALLER_WAV, rate)
    if (prompt := find_prompt(text)) is not None:
        return load_prompt(prompt, rate)
    if shutil.which(program) is None:
        raise ConfigError(f"to say words the program {program} is needed (Debian: apt-get install espeak-ng)")
    endpoint = ProgramEndpoint((program, "--stdout", "--stdin", "-b", "1", "-s", "150", "-v", VOICE))
    speech = read_wav(await run_program(endpoint, text), rate)
    if not speech:
        raise ConfigError(f"{program} made no sound of {text!r}")
    return speech
