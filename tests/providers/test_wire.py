"""Reading what a vendor's server says."""

from __future__ import annotations

import pytest

from sipbridge.providers.wire import read_json
from tests.providers.openai_driver import Driver


@pytest.mark.parametrize("filling", ["[],", "{},", "1,", '"",'])
def test_a_message_of_millions_of_values_is_not_read(filling: str) -> None:
    text = '{"type":"x","list":[' + filling * (1024 * 1024) + "1]}"
    for message in (text, text.encode()):
        with pytest.raises(ValueError, match="too many"):
            read_json(message)


def test_a_long_message_of_sound_is() -> None:
    assert read_json('{"delta":"' + "A" * 16_000_000 + '"}') == {"delta": "A" * 16_000_000}
    assert len(read_json("[" + "[]," * 10_000 + "1]")) == 10_001


def test_it_costs_itself_only() -> None:
    driver = Driver().open()
    driver.raw('{"type":"x","list":[' + "[]," * (1024 * 1024) + "1]}")
    assert driver.dialect.counters == {"malformed": 1}
