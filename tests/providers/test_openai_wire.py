"""Audio on the OpenAI wire, with and without the quick base64."""

from __future__ import annotations

import json
import os
from base64 import b64decode, b64encode

import pytest

from sipbridge.providers import wire
from sipbridge.providers.openai_wire import append_audio

WAYS = ["with", "without"]


@pytest.fixture(params=WAYS, autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "with":
        monkeypatch.setattr(wire, "_quick", pytest.importorskip("pybase64"))
    else:
        monkeypatch.setattr(wire, "_quick", None)


@pytest.mark.parametrize("size", [0, 1, 2, 3, 160, 960, 2880, 48000])
def test_audio_goes_both_ways(size: int) -> None:
    data = os.urandom(size)
    message = json.loads(append_audio(data))
    assert message["type"] == "input_audio_buffer.append"
    assert b64decode(message["audio"], validate=True) == data
    assert wire.decode_audio(b64encode(data).decode()) == data


@pytest.mark.parametrize(
    "text", ["!!!!", "QUJ", "QUJD=", "QUJD\n", "\u00e9\u00e9\u00e9\u00e9", 'QU"D', "QUI=QUI=", "====", "\\"]
)
def test_what_is_no_base64_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  whose words it has depends on the way
        wire.decode_audio(text)


def test_what_is_no_text_is_a_type_error() -> None:
    with pytest.raises(TypeError):
        wire.decode_audio(7)  # type: ignore[arg-type]
