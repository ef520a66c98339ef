"""How good it sounds: PESQ of speech that went through the real gateway, both ways, against the same speech that went
through nothing but the codec once; and with packets lost, against the same losses left silent.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from base64 import b64decode, b64encode
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

from bench import rig
from bench.listening import SENTENCES, ListeningError, Sound, pesq, speech, through_g711, with_silence
from bench.numbers import Spread
from bench.phones import PCMU, Format
from bench.results import Row, late
from bench.size import Size
from sipbridge import codecs

_MODEL_RATE = 24000
_PTIME = 0.02
_CLEAN = 0.1
"""How far below the bare codec the gateway may be."""
_GAIN = 0.25
"""How far above silence it has to be."""
_SEEDS = (1, 2, 3, 4)


@dataclass(frozen=True, slots=True)
class Line:
    """A codec as the phone has it."""

    name: str
    phone: Format
    rate: int
    """At which the phone codes and decodes, and PESQ listens."""
    model_rate: int
    """At which the gateway codes what the model says: Opus takes it as it comes."""

    @property
    def wideband(self) -> bool:
        return self.rate > 8000


NARROW = Line("PCMU", PCMU, 8000, 8000)
LINES = (
    NARROW,
    Line("G722", Format(9, "G722/8000", 160), 16000, 16000),
    Line("opus", Format(111, "opus/48000/2", 960), 16000, 24000),
)


def quality(size: Size) -> list[Row]:
    try:
        texts = SENTENCES[: size.sentences]
        spoken = [speech(voice, text, rate=_MODEL_RATE, program=_speaker()) for voice, text in texts]
        pesq(resampled(spoken[0], _MODEL_RATE, 8000), resampled(spoken[0], _MODEL_RATE, 8000))
    except ListeningError as error:
        raise RuntimeError(str(error)) from error
    rows = [row for line in LINES if codecs.select((line.name,)) for row in _clean(line, spoken)]
    return [*rows, _lossy(spoken, _SEEDS[: size.seeds])]


def _speaker() -> str:
    """What `make lab` has installed, else what is on the PATH."""
    lab = Path(__file__).parents[1] / ".lab" / "bin" / "espeak-ng"
    return str(lab) if lab.exists() else shutil.which("espeak-ng") or "espeak-ng"


def resampled(sound: Sound, source: int, target: int) -> Sound:
    """Not by what is measured here."""
    import soxr

    if source == target:
        return sound
    changed = soxr.resample(sound.astype(np.float64), source, target, quality="VHQ")
    rounded: Sound = np.clip(np.rint(changed), -32768, 32767).astype(np.int16)
    return rounded


def _clean(line: Line, spoken: list[Sound]) -> list[Row]:
    references = [resampled(sound, _MODEL_RATE, line.rate) for sound in spoken]
    cases = [_case(line, reference, sound) for reference, sound in zip(references, spoken, strict=True)]
    heard, lateness = _through_the_gateway(line, cases)
    up, bare_up, down, bare_down = [], [], [], []
    for sound, reference, ears in zip(spoken, references, heard, strict=True):
        up.append(_score(line, reference, _to_the_model(line, ears)))
        bare_up.append(_score(line, reference, _bare(line, reference, line.rate)))
        down.append(_score(line, reference, _to_the_caller(line, ears)))
        said = resampled(sound, _MODEL_RATE, line.model_rate)
        bare_down.append(_score(line, reference, _bare(line, said, line.model_rate)))
    kind = "wideband" if line.wideband else "narrowband"
    against = f"within {_CLEAN} of the codec alone"
    return [
        Row(
            f"PESQ ({kind}), {line.name}, {way}, {len(spoken)} voices",
            against,
            f"{mean(scores):.2f}, the codec alone {mean(bare):.2f};"
            f" {worst(scores, bare):+.2f} at worst; {late([lateness])}",
            mean(scores) >= mean(bare) - _CLEAN,
        )
        for way, scores, bare in (("caller -> model", up, bare_up), ("model -> caller", down, bare_down))
    ]


def worst(scores: list[float], against: list[float]) -> float:
    return min(score - other for score, other in zip(scores, against, strict=True))


def _lossy(spoken: list[Sound], seeds: tuple[int, ...]) -> Row:
    from tests.media.impairments import Network

    references = [resampled(sound, _MODEL_RATE, 8000) for sound in spoken]
    cases, silent, sources = [], [], []
    for reference, sound in zip(references, spoken, strict=True):
        for seed in seeds:
            network = Network(loss=0.03, jitter=0.03, reordered=0.02, seed=seed)
            case = _case(NARROW, reference, sound)
            count = len(case["payloads"])
            cases.append(case | {"arrivals": network.arrivals(count, _PTIME)})
            octets = b"".join(map(b64decode, case["payloads"]))
            silent.append(_score(NARROW, reference, with_silence(octets, network.losses(count))))
            sources.append(reference)
    heard, lateness = _through_the_gateway(NARROW, cases)
    scores = [
        _score(NARROW, reference, _to_the_model(NARROW, ears)) for reference, ears in zip(sources, heard, strict=True)
    ]
    gain = mean(scores) - mean(silent)
    return Row(
        f"PESQ (narrowband), 3 % lost, 30 ms of jitter, 2 % out of order, caller -> model,"
        f" {len(spoken)} voices, {len(seeds)} times each",
        f"{_GAIN} above silence",
        f"{mean(scores):.2f}, silence {mean(silent):.2f}: {gain:+.2f};"
        f" {worst(scores, silent):+.2f} at worst; {late([lateness])}",
        gain >= _GAIN,
    )


# --- one call --------------------------------------------------------------------------------------------------------


def _case(line: Line, reference: Sound, sound: Sound) -> dict[str, Any]:
    payloads = _encoded(line, reference, line.rate)
    arrivals = [(number * _PTIME, number) for number in range(len(payloads))]
    return {
        "payloads": [b64encode(payload).decode() for payload in payloads],
        "arrivals": arrivals,
        "speech": b64encode(sound.astype("<i2").tobytes()).decode(),
    }


def _encoded(line: Line, sound: Sound, rate: int) -> list[bytes]:
    codec = codecs.lookup(line.name)
    assert codec is not None
    encoder, size = codec.new_encoder(sample_rate=rate), rate // 50
    whole = np.concatenate((sound, np.zeros(-len(sound) % size, np.int16)))
    return [encoder.encode(whole[start : start + size].astype("<i2").tobytes()) for start in range(0, len(whole), size)]


def _decoded(line: Line, payloads: list[bytes]) -> Sound:
    codec = codecs.lookup(line.name)
    assert codec is not None
    decoder = codec.new_decoder(line.rate)
    size = line.rate // 50
    pcm = (decoder.decode(payload) if payload else decoder.conceal(size) or bytes(2 * size) for payload in payloads)
    return np.frombuffer(b"".join(pcm), "<i2").astype(np.int16)


def _bare(line: Line, sound: Sound, rate: int) -> Sound:
    return _decoded(line, _encoded(line, sound, rate)) if line.wideband else through_g711(sound)


def _through_the_gateway(line: Line, cases: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], Spread]:
    with tempfile.TemporaryDirectory(prefix="bench") as directory:
        path = Path(directory) / "cases.json"
        path.write_text(json.dumps(cases))
        result = rig.run(
            "hearing",
            user="pcm",
            calls=len(cases),
            seconds=0,
            seed=0,
            tls=True,
            cases=str(path),
            format=asdict(line.phone),
        )
        heard: list[dict[str, Any]] = json.loads(path.with_suffix(".heard").read_text())
    return heard, Spread.of_ns(result["lateness"])


def _to_the_model(line: Line, ears: dict[str, Any]) -> Sound:
    return resampled(np.frombuffer(b64decode(ears["given"]), "<i2").astype(np.int16), _MODEL_RATE, line.rate)


def _to_the_caller(line: Line, ears: dict[str, Any]) -> Sound:
    """From where it is not silent any more, and a fifth of a second before."""
    sound = _decoded(line, list(map(b64decode, ears["received"])))
    loud = np.abs(sound.astype(np.int32)) > 200
    return sound[max(0, int(loud.argmax()) - line.rate // 5) :]


def _score(line: Line, reference: Sound, heard: Sound) -> float:
    return pesq(reference, heard[: len(reference) + line.rate], rate=line.rate, wideband=line.wideband)
