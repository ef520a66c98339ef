"""A caller's voice through a bad network, to the agent: what PESQ says of it, and that nothing is put where it was not.

The network is in virtual time (`impairments.py`); the score is compared with that of the same losses left silent.
"""

from __future__ import annotations

import os
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from bench.listening import SENTENCES, ListeningError, Sound, decoded, pesq, speech, through_g711, with_silence
from sipbridge import codecs
from sipbridge.audio import PCM_8K, PCMU, AudioFormat
from sipbridge.codecs import g711
from sipbridge.media.events import MediaStats
from sipbridge.media.params import MediaParams
from tests.interop.peers import LAB
from tests.media.impairments import Network, Receiver, packets_of

PTIME = 0.02
BAD = Network(loss=0.03, jitter=0.03, reordered=0.02)
PARAMS = MediaParams(codecs.PCMU, Receiver.SOURCE, payload_type_send=0, payload_type_receive=0, downlink=PCMU)


@cache
def spoken(number: int) -> Sound:
    """Skips without speaker or listener; fails in continuous integration, where both have to be there."""
    program = LAB / "bin" / "espeak-ng"
    voice, text = SENTENCES[number]
    try:
        sound = speech(voice, text, program=str(program) if program.exists() else "espeak-ng")
        pesq(sound, sound)
    except ListeningError as error:
        if os.environ.get("CI") == "true":
            pytest.fail(str(error))
        pytest.skip(str(error))
    return sound


def payloads_of(sound: Sound) -> list[bytes]:
    octets = g711.MuLaw().encode(sound.astype("<i2").tobytes())
    return [octets[start : start + 160] for start in range(0, len(octets), 160)]


def through(network: Network, payloads: list[bytes], uplink: AudioFormat) -> tuple[bytes, MediaStats]:
    """What the agent gets of them."""
    receiver = Receiver(replace(PARAMS, uplink=uplink))
    arrivals = network.arrivals(len(payloads), PTIME)
    heard = receiver.run(packets_of(payloads, 160), arrivals, len(payloads) * PTIME + 0.2)
    return heard, receiver.leg.stats()


def compare(number: int, network: Network) -> tuple[float, float]:
    """PESQ of what the agent hears, and of the same losses as silence."""
    sound = spoken(number)
    payloads = payloads_of(sound)
    heard, _ = through(network, payloads, PCM_8K)
    silent = with_silence(b"".join(payloads), network.losses(len(payloads)))
    return pesq(sound, np.frombuffer(heard, "<i2")[: len(sound)].astype(np.int16)), pesq(sound, silent)


def test_on_a_clean_path_nothing_is_lost_to_the_ear() -> None:
    for number in range(2):
        sound = spoken(number)
        heard, stats = through(Network(), payloads_of(sound), PCM_8K)
        once = pesq(sound, through_g711(sound))
        assert pesq(sound, np.frombuffer(heard, "<i2")[: len(sound)].astype(np.int16)) >= once - 0.1
        assert (stats.lost, stats.late, stats.duplicate, stats.reordered) == (0, 0, 0, 0)


def test_losses_are_heard_much_less_than_silence_in_their_place() -> None:
    scores = [compare(number, replace(BAD, seed=seed)) for number in range(2) for seed in (1, 2)]
    concealed, silent = np.mean(scores, axis=0)
    assert concealed >= silent + 0.4


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(SENTENCES)))
def test_whoever_speaks_and_whatever_is_lost(number: int) -> None:
    scores = np.array([compare(number, replace(BAD, seed=seed)) for seed in range(10, 20)])
    margins = scores[:, 0] - scores[:, 1]
    assert margins.mean() >= 0.35
    assert np.median(margins) >= 0.35


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    "network",
    [
        Network(loss=0.03),
        Network(loss=0.1, burst=3),
        Network(reordered=0.1, duplicated=0.1),
        replace(BAD, duplicated=0.02),
    ],
    ids=["lost", "bursts", "reordered", "all of it"],
)
def test_every_packet_that_came_in_time_is_in_its_place_octet_by_octet(network: Network, seed: int) -> None:
    network = replace(network, seed=seed)
    payloads = [bytes((n * 7 + k) % 251 for k in range(160)) for n in range(500)]
    heard, stats = through(network, payloads, PCMU)
    lost = network.losses(len(payloads))
    missing = 0
    for number, payload in enumerate(payloads):
        there = heard[160 * number : 160 * (number + 1)]
        if there != payload:
            missing += 1
            # What follows a concealment that could not know of it is faded in, over four milliseconds.
            assert lost[number] or stats.late or there[32:] == payload[32:]
    assert missing <= stats.lost + stats.late + sum(lost[-6:]) + (4 if network.burst > 1 else 0)
    assert stats.late <= 0.03 * len(payloads)
    assert stats.filled_ms <= 20 * (sum(lost) + stats.late) + 220  # and what follows the last packet
    assert stats.duplicate >= (5 if network.duplicated else 0)


def test_no_gap_is_longer_than_the_loss() -> None:
    """A steady sound: where it is silent, that is shorter than the packets that are missing there."""
    network = Network(loss=0.1, burst=2, seed=5)
    sound = (8000 * np.sin(2 * np.pi * 200 * np.arange(8000 * 10) / 8000)).astype(np.int16)
    payloads = payloads_of(sound)
    heard, stats = through(network, payloads, PCMU)
    quiet = np.abs(decoded(heard)[: len(sound)].astype(int)) < 100
    lost = network.losses(len(payloads))
    for number in range(len(payloads) - 10):
        if quiet[160 * number : 160 * (number + 1)].all():
            assert lost[number]
    assert len(heard) == pytest.approx(len(sound) + 160 * 8, abs=160 * 3)
    assert stats.concealed_ms >= 20 * (sum(lost) - 12)


@pytest.mark.parametrize("seed", range(3))
def test_a_hole_holds_the_stream_up_by_two_packets_and_no_more(seed: int) -> None:
    """On a steady network; what comes early is held until it would have been due, too."""
    network = Network(loss=0.05, seed=seed)
    receiver = Receiver(replace(PARAMS, uplink=PCMU))
    payloads = [bytes(160)] * 300
    receiver.run(packets_of(payloads, 160), network.arrivals(300, PTIME), 6.0)
    lost = network.losses(300)
    heard_at = {octets // 160: at for at, octets in reversed(receiver.heard_at)}  # the first time that it was so much
    delays = [heard_at[n + 1] - n * PTIME for n in range(300) if not lost[n] and n + 1 in heard_at]
    assert 0.02 < max(delays) <= 0.0451
    assert np.median(delays) == pytest.approx(0, abs=0.001)
