"""The load tool's own senses: what it cannot tell apart, it cannot measure."""

from __future__ import annotations

import json
import ssl
from base64 import b64encode
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from websockets.frames import Frame, Opcode
from websockets.streams import StreamReader

from bench import sounds
from bench.measurements import pacing
from bench.provider import audio_frame, audio_size, unmasked
from bench.secrecy import Layer, make_certificate, server_context
from bench.size import SMALL


def test_a_mark_is_found_where_it_begins() -> None:
    mark = sounds.tone(sounds.MARK_HZ, 20, 8000)
    assert sounds.onset_in_mu_law(sounds.mu_law(mark)) == 0
    assert sounds.onset_in_mu_law(sounds.MU_LAW_SILENCE * 40 + sounds.mu_law(mark)) == 5
    assert sounds.onset_in_mu_law(sounds.MU_LAW_SILENCE * 160) is None
    at_24 = sounds.tone(sounds.MARK_HZ, 20, 24000)
    assert sounds.onset_in_pcm(bytes(2 * 240) + at_24, 24000) == 10
    assert sounds.onset_in_pcm(bytes(960), 24000) is None


def test_a_fade_is_sound_until_it_is_silent() -> None:
    assert sounds.sound_ms(sounds.MU_LAW_SILENCE * 160) == 0
    samples = np.frombuffer(sounds.tone(sounds.SPEECH_HZ, 20, 8000), "<i2").copy()
    samples[80:] = 0
    assert 9 < sounds.sound_ms(sounds.mu_law(samples.tobytes())) <= 10


@pytest.mark.parametrize("size", [10, 100, 5000, 70000])
def test_the_cheap_frames_are_frames(size: int) -> None:
    audio = bytes(size)
    reader = StreamReader()
    reader.feed_data(audio_frame("reply", "item", audio))
    parser = Frame.parse(reader.read_exact, mask=False)
    with pytest.raises(StopIteration) as ended:
        next(parser)
    frame: Frame = ended.value.value
    assert frame.opcode is Opcode.TEXT
    assert frame.fin
    assert json.loads(bytes(frame.data))["delta"] == b64encode(audio).decode()


@pytest.mark.parametrize("size", [160, 161, 162, 480, 1440])
def test_audio_is_counted_without_being_unmasked(size: int) -> None:
    message = b'{"type":"input_audio_buffer.append","audio":"' + b64encode(bytes(size)) + b'"}'
    masked = bytes(byte ^ b"mask"[position % 4] for position, byte in enumerate(message))
    assert audio_size(masked, b"mask") == size


def test_unmasking() -> None:
    masked = bytes(byte ^ b"abcd"[position % 4] for position, byte in enumerate(b"seventeen letters"))
    assert unmasked(masked, b"abcd") == b"seventeen letters"
    assert unmasked(b"", b"abcd") == b""


@pytest.mark.slow
def test_a_moment_of_load() -> None:
    """Gateway, phones and model, each in the process it has in `make bench`."""
    [row] = pacing(SMALL)
    assert row.figure.endswith("3 calls")
    assert row.met is not None


def test_the_model_is_heard_by_tls(tmp_path: Path) -> None:
    """Whole records, halves of them, several at once."""
    server, trusted = make_certificate(tmp_path)
    layer = Layer(server_context(server))
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = ssl.create_default_context(cafile=trusted).wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
    for _ in range(3):
        with suppress(ssl.SSLWantReadError):
            client.do_handshake()
        incoming.write(layer.opened(outgoing.read())[1])
    client.write(b"one")
    client.write(b"two")
    sealed = outgoing.read()
    assert layer.opened(sealed[:30])[0] + layer.opened(sealed[30:])[0] == b"onetwo"
    incoming.write(layer.sealed(b"three"))
    assert client.read() == b"three"
