"""The configuration's shape: sounds that a tenant's file names by their path."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import AfterValidator, ValidationInfo

from sipbridge.configfile import beside
from sipbridge.prompts import PROMPT_RATE, load_wav

TONE: Final = "tone"
"""The one that needs no file."""


def playable(name: str, info: ValidationInfo) -> str:
    """Where the file is: beside the tenant's unless the path is absolute. Raises `ValueError` where it is none that can
    be played."""
    path = beside(name, info)
    try:
        load_wav(path, PROMPT_RATE)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return str(path)


def _tone_or_file(name: str, info: ValidationInfo) -> str:
    if name == TONE:
        return name
    try:
        return playable(name, info)
    except ValueError as error:
        raise ValueError(f"{error}; {TONE!r} or a WAV file is expected") from None


WavFile = Annotated[str, AfterValidator(playable)]
"""The path of a WAV file that can be played, as it can be opened."""
ToneOrWav = Annotated[str, AfterValidator(_tone_or_file)]
"""The same, or `TONE`."""
