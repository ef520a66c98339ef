"""docs/providers.md: its tables, from what the suite saw and from what the providers say of themselves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from sipbridge.agent import Capabilities
from sipbridge.audio import AudioFormat
from sipbridge.codecs import G722, OPUS, PCMU, Codec
from sipbridge.providers import capabilities_of
from tests.providers.scenarios.bench import Bench
from tests.providers.scenarios.outcomes import minutes
from tests.providers.scenarios.scenarios import Scenario

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "providers.md"
BEGIN, END = "<!-- begin: written by `python -m tests.providers.scenarios --write` -->\n", "<!-- end -->"

_FOR_EVER = 24 * 60

Saw = Callable[[Bench, Scenario], bool]


def tables(benches: Sequence[Bench], scenarios: Sequence[Scenario], saw: Saw) -> str:
    benches = sorted(benches, key=lambda bench: bench.name)
    said = [f"* *{scenario.name}*: {scenario.what}" for scenario in scenarios]
    seen = [
        [_link(bench), *("yes" if saw(bench, scenario) else scenario.otherwise(bench) for scenario in scenarios)]
        for bench in benches
    ]
    parts = [
        "\n".join(said),
        _table(["provider", *(scenario.name for scenario in scenarios)], seen),
        "## Sound\n\nUp, then down; one conversion of the rate at most each way.",
        _table(["provider", "G.711 telephone", "G.722", "Opus"], [_sound(bench) for bench in benches]),
        "## Options",
        _table(
            ["provider", "temperature", "turn detection", "voices known", "told what was heard", "images", "session"],
            [_options(bench) for bench in benches],
        ),
    ]
    return "\n\n".join(parts) + "\n"


def _link(bench: Bench) -> str:
    page = f"providers/{bench.slug}.md"
    return f"[{bench.name}]({page})" if (PAGE.parent / page).exists() else bench.name


def _can(bench: Bench) -> Capabilities:
    return capabilities_of(bench.slug, {**bench.credential, "provider": bench.slug})


def _sound(bench: Bench) -> list[str]:
    can = _can(bench)

    def both(codec: Codec) -> str:
        up, down = can.formats_for(codec.audio_format, min(codec.sample_rate, 24000))
        return "untouched" if up == down == codec.audio_format else f"{_named(up)}, {_named(down)}"

    return [_link(bench), both(PCMU), both(G722), both(OPUS)]


def _named(audio: AudioFormat) -> str:
    return f"{audio.rate // 1000} kHz" if audio.encoding == "pcm16" else audio.encoding


def _options(bench: Bench) -> list[str]:
    can = _can(bench)
    limits = can.takes_temperature
    return [
        _link(bench),
        "not sent" if limits is None else f"{limits[0]:g} to {limits[1]:g}",
        ", ".join(f"`{kind}`" for kind in sorted(can.turn_detection - {"none"})) or "its own way",
        f"{len(can.voices)}, first `{can.voices[0]}`" if can.voices else "any name",
        "yes" if can.can_truncate else "no",
        "yes" if can.takes_images else "no",
        f"{limit} min, then another goes on" if (limit := minutes(bench)) and limit < _FOR_EVER else "no known end",
    ]


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def written() -> str:
    """What the page has."""
    return PAGE.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0]


def write(text: str) -> None:
    before, begin, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    PAGE.write_text(before + begin + text + end + after, encoding="utf-8")
