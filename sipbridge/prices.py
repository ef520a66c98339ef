"""What providers charge, as the operator says, and what a call has cost by that. Pure.

    prices:
      openai:
        gpt-realtime-2.1: {input_text_tokens: 4, input_audio_tokens: 32, output_audio_tokens: 64}
      deepgram:
        "*": {session_seconds: 0.08}

USD per million tokens or characters, per minute of what counts in seconds. "*" stands for every model that is not
named.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Annotated

from pydantic import Field, RootModel, ValidationError, model_validator

from sipbridge.configfile import error_at
from sipbridge.providers import registered_providers
from sipbridge.providers.speech.voice import VOICES

NAMES = (
    "input_tokens",
    "output_tokens",
    "input_text_tokens",
    "input_audio_tokens",
    "input_image_tokens",
    "input_cached_tokens",
    "output_text_tokens",
    "output_audio_tokens",
    "input_audio_seconds",
    "output_audio_seconds",
    "session_seconds",
    "characters",
)
"""Of `agent.Usage`, as far as they can have a price."""
ANY_MODEL = "*"

Rates = dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]]


class Prices(RootModel[dict[str, dict[str, Rates]]]):
    """Provider -> model -> what is counted -> USD."""

    root: dict[str, dict[str, Rates]] = {}
    model_config = {"frozen": True}

    @model_validator(mode="after")
    def _known(self) -> Prices:
        known = sorted({*registered_providers(), *VOICES})
        for provider, models in self.root.items():
            if provider not in known:
                raise _unknown((provider,), "provider", provider, known)
            for model, rates in models.items():
                for name in rates:
                    if name not in NAMES:
                        raise _unknown((provider, model, name), "price", name, list(NAMES))
        return self

    def rates(self, provider: str, model: str) -> Mapping[str, float] | None:
        """None where nothing is known. A model that another provider is named for (a separate voice's) is found
        there."""
        own = self.root.get(provider, {})
        if model in own:
            return own[model]
        if model:
            for models in self.root.values():
                if model in models:
                    return models[model]
        return own.get(ANY_MODEL)


def _unknown(place: tuple[str, ...], what: str, name: str, known: list[str]) -> ValidationError:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else "known are " + ", ".join(known)
    return error_at(place, f"no such {what}; {hint}")


def cost(counts: Mapping[str, float], rates: Mapping[str, float]) -> float:
    """USD. Nothing is charged twice: the total of a direction pays for what its parts have no price for, and cached
    input, where it has one, is taken off the rest of the input in equal shares."""
    return sum(_charges(counts, rates))


def _charges(counts: Mapping[str, float], rates: Mapping[str, float]) -> Iterator[float]:
    parts = {way: sum(counts.get(f"{way}_{kind}_tokens", 0.0) for kind in _KINDS) for way in ("input", "output")}
    input_tokens = counts.get("input_tokens", parts["input"])
    uncached = 1.0
    if "input_cached_tokens" in rates and input_tokens > 0:
        uncached -= min(1.0, counts.get("input_cached_tokens", 0.0) / input_tokens)
    for name, rate in rates.items():
        count = counts.get(name, 0.0)
        way, _, kind = name.partition("_")
        if kind == "tokens":
            priced = [f"{way}_{part}_tokens" for part in _KINDS]
            count = max(0.0, count - sum(counts.get(part, 0.0) for part in priced if part in rates))
        if way == "input" and kind.endswith("tokens") and kind != "cached_tokens":
            count *= uncached
        yield count * rate / (60.0 if name.endswith("_seconds") else 1_000_000.0)


_KINDS = ("text", "audio", "image")
