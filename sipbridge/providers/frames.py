"""A whole message as one WebSocket frame of a client (RFC 6455 §5.2).

The library would do it as well. It is asked for everything else; but this happens fifty times a second and call, and
its way there passes through five layers that are made for fragments, extensions and many receivers.
"""

from __future__ import annotations

import os

try:
    from websockets.speedups import apply_mask
except ImportError:  # built without a C compiler
    from websockets.utils import apply_mask

_FINAL_TEXT = b"\x81"
_FINAL_BINARY = b"\x82"
_MASKED = 0x80


def client_frame(message: str | bytes, *, text: bool = False) -> bytes:
    """`text`: bytes are UTF-8 and go as text, as a str always does."""
    if isinstance(message, str):
        message = message.encode()
        text = True
    opcode = _FINAL_TEXT if text else _FINAL_BINARY
    size = len(message)
    if size < 126:
        length = bytes((_MASKED | size,))
    elif size < 65536:
        length = b"\xfe" + size.to_bytes(2, "big")
    else:
        length = b"\xff" + size.to_bytes(8, "big")
    mask = os.urandom(4)  # not to be foreseen by whoever chose the message (§10.3)
    return b"".join((opcode, length, mask, apply_mask(message, mask)))
