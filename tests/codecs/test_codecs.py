"""The codec table, and G.711 against tables made from the standard's own definition."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from numpy.typing import NDArray

from sipbridge import codecs
from sipbridge.audio import AudioFormat
from sipbridge.codecs import PCMA, PCMU, Codec
from sipbridge.config import Media

Table = NDArray[np.int64]


CODES = np.arange(128, dtype=np.int64)
SEGMENT, STEP = CODES // 16, CODES % 16

# G.711's tables 1 and 2, smallest magnitude first: what each of the 128 codes of one sign stands for, and the smallest
# magnitude (decision value) that gets it. Mu-law counts to 8159, A-law to 4096.
MU_LAW_VALUES: Table = ((2 * STEP + 33) << SEGMENT) - 33
MU_LAW_DECISIONS: Table = np.maximum(((2 * STEP + 32) << SEGMENT) - 33, 0)
A_LAW_VALUES: Table = np.where(SEGMENT == 0, 2 * STEP + 1, (2 * STEP + 33) << np.maximum(SEGMENT - 1, 0))
A_LAW_DECISIONS: Table = np.where(SEGMENT == 0, 2 * STEP, (2 * STEP + 32) << np.maximum(SEGMENT - 1, 0))


def decode_table(codec: Codec) -> Table:
    """What each of the 256 octets means on the 16-bit scale."""
    codes = np.arange(256)
    # Mu-law is sent with all bits inverted, A-law with the even ones.
    magnitude = MU_LAW_VALUES[~codes & 0x7F] * 4 if codec is PCMU else A_LAW_VALUES[(codes ^ 0x55) & 0x7F] * 8
    result: Table = np.where(codes < 128, -magnitude, magnitude)
    return result


def encode_table(codec: Codec) -> Table:
    """The octet for each 16-bit sample, -32768 first. Samples are first cut to the law's own 14 or 13 bits."""
    samples = np.arange(-32768, 32768)
    octets: Table
    if codec is PCMU:
        scaled = samples >> 2
        code = np.searchsorted(MU_LAW_DECISIONS, np.abs(scaled), side="right") - 1
        octets = np.where(scaled < 0, 0x7F, 0xFF) ^ code
    else:
        scaled = samples >> 3
        magnitude = np.where(scaled < 0, ~scaled, scaled)  # a cut sample is an interval: -1 holds all from -1 to 0
        code = np.searchsorted(A_LAW_DECISIONS, magnitude, side="right") - 1
        octets = (np.where(scaled < 0, 0x00, 0x80) | code) ^ 0x55
    return octets


@pytest.mark.parametrize("codec", [PCMU, PCMA], ids=lambda codec: codec.name)
def test_g711_decodes_all_codes_as_the_standard_says(codec: Codec) -> None:
    decoded = codec.new_decoder().decode(bytes(range(256)))
    assert np.frombuffer(decoded, "<i2").tolist() == decode_table(codec).tolist()


@pytest.mark.parametrize("codec", [PCMU, PCMA], ids=lambda codec: codec.name)
def test_g711_encodes_all_samples_as_the_standard_says(codec: Codec) -> None:
    encoded = codec.new_encoder().encode(np.arange(-32768, 32768).astype("<i2").tobytes())
    assert np.flatnonzero(np.frombuffer(encoded, np.uint8) != encode_table(codec)).tolist() == []


def test_tables_of_the_standard_have_its_known_values() -> None:
    assert MU_LAW_VALUES[[0, 1, 15, 16, 127]].tolist() == [0, 2, 30, 33, 8031]
    assert MU_LAW_DECISIONS[[0, 1, 2, 16, 17, 32, 127]].tolist() == [0, 1, 3, 31, 35, 95, 7903]
    assert A_LAW_VALUES[[0, 31, 32, 127]].tolist() == [1, 63, 66, 4032]
    assert A_LAW_DECISIONS[[0, 1, 32, 33, 127]].tolist() == [0, 2, 64, 68, 3968]
    assert decode_table(PCMU)[[0x80, 0xFF]].tolist() == [32124, 0]
    assert decode_table(PCMA)[[0xAA, 0xD5]].tolist() == [32256, 8]


@pytest.mark.parametrize("codec", [PCMU, PCMA], ids=lambda codec: codec.name)
def test_g711_round_trip_is_stable(codec: Codec) -> None:
    encoder, decoder = codec.new_encoder(), codec.new_decoder()
    pcm = decoder.decode(bytes(range(256)))
    assert decoder.decode(encoder.encode(pcm)) == pcm


@pytest.mark.parametrize("codec", [PCMU, PCMA], ids=lambda codec: codec.name)
def test_silence_of_the_format_is_what_the_codec_makes_of_silence(codec: Codec) -> None:
    assert codec.audio_format is not None
    assert codec.new_encoder().encode(bytes(320)) == codec.audio_format.silence * 160


def test_look_up_by_name_ignores_case() -> None:
    assert codecs.lookup("pcmu") is PCMU
    assert codecs.lookup("PcmA") is PCMA
    assert codecs.lookup("iLBC") is None


def test_look_up_by_static_payload_type() -> None:
    assert codecs.lookup_payload_type(0) is PCMU
    assert codecs.lookup_payload_type(8) is PCMA
    assert codecs.lookup_payload_type(18) is None
    assert codecs.lookup_payload_type(96) is None


def test_preferences_keep_their_order_and_skip_what_is_not_there() -> None:
    assert codecs.select(["nonesuch", "pcma", "PCMU", "PCMA"]) == (PCMA, PCMU)
    assert codecs.select([]) == ()
    default = codecs.select(["opus", "G722", "PCMU", "PCMA"])
    assert default[-2:] == (PCMU, PCMA)


def test_available_codecs_may_all_be_configured() -> None:
    names = codecs.available_codecs()
    assert Media.model_validate({"codecs": names}).codecs == names


def test_timestamp_units_follow_the_clock_rate() -> None:
    assert PCMU.ticks(20) == 160
    assert PCMA.pcm_format == AudioFormat("pcm16", 8000)


def test_import_raises_no_deprecation_warning() -> None:
    command = [sys.executable, "-W", "error", "-c", "import sipbridge.codecs"]
    assert subprocess.run(command, capture_output=True, text=True, check=False).stderr == ""
