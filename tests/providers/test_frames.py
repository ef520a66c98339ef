from __future__ import annotations

import pytest
from websockets.frames import Frame, Opcode
from websockets.streams import StreamReader

from sipbridge.providers.frames import client_frame


def parsed(data: bytes) -> Frame:
    """As a server reads it: `mask=True` refuses what is not masked. Nothing may be left over."""
    reader = StreamReader()
    reader.feed_data(data)
    reader.feed_eof()
    parser = Frame.parse(reader.read_exact, mask=True)
    with pytest.raises(StopIteration) as ended:
        next(parser)
    with pytest.raises(StopIteration) as end:
        next(reader.at_eof())
    assert end.value.value is True
    frame: Frame = ended.value.value
    assert frame.fin
    return frame


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535, 65536, 70001])
def test_every_way_to_write_a_length(size: int) -> None:
    message = bytes(n % 251 for n in range(size))
    frame = parsed(client_frame(message))
    assert frame.opcode is Opcode.BINARY
    assert bytes(frame.data) == message


def test_text_is_utf_8() -> None:
    for data in (client_frame("schön"), client_frame("schön".encode(), text=True)):
        frame = parsed(data)
        assert frame.opcode is Opcode.TEXT
        assert bytes(frame.data).decode() == "schön"


def test_each_frame_has_a_mask_of_its_own() -> None:
    assert len({client_frame(bytes(64)) for _ in range(20)}) == 20
