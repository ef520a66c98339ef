"""The session description in a message's body (RFC 3261 §7.4, RFC 5621): alone, or found as a part of a multipart.

To SIP a body is bytes; all that is decided here is which of them are `application/sdp`, and whether there is something
that the sender insists on and we cannot read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from sipbridge.sip.message import Request, Response

SDP = "application/sdp"

_boundary = re.compile(r';\s*boundary\s*=\s*(?:"([^"]{1,70})"|([^\s;"]{1,70}))', re.IGNORECASE)
_optional = re.compile(r";\s*handling\s*=\s*optional", re.IGNORECASE)
_MAX_PARTS = 16
_SDP_RANGES = frozenset({SDP, "application/*", "*/*"})


def session_description(message: Request | Response) -> bytes | None:
    """The SDP of a message, or None. A body without a Content-Type is taken for SDP: some peers leave it out."""
    if not message.body:
        return None
    kind = message.content_type
    if kind is None or kind == SDP:
        return message.body
    if kind.startswith("multipart/"):
        return next((body for kind, _, body in _parts(message) if kind == SDP), None)
    return None


def describe_session(message: Request | Response, sdp: bytes) -> None:
    """Give a message of ours its session description; none where `sdp` is empty."""
    if sdp:
        message.headers.add("Content-Type", SDP)
        message.body = sdp


def is_understood(message: Request | Response) -> bool:
    """False: there is a body that has to be understood (`handling=required`, the default) and is not (415)."""
    if not message.body:
        return True
    encoding = (message.headers.get("Content-Encoding") or "identity").strip().lower()
    if encoding != "identity":
        return False
    kind = message.content_type
    if kind is None or kind == SDP:
        return True
    if kind.startswith("multipart/"):
        parts = list(_parts(message))
        return any(kind == SDP for kind, _, _ in parts) or bool(parts) and all(optional for _, optional, _ in parts)
    return is_optional(message)


def is_optional(message: Request | Response) -> bool:
    """The sender says that the body may be ignored (RFC 3261 §20.11)."""
    return _optional.search(message.headers.get("Content-Disposition") or "") is not None


def takes_session_descriptions(request: Request) -> bool:
    """False: its Accept rules out the only kind of body that our answer can have (RFC 4475 §3.3.15: 406). An Accept
    without a value is taken for none: it has been seen, and its sender cannot mean it."""
    ranges = [element.partition(";")[0].strip().lower() for element in request.headers.get_list("Accept")]
    return not ranges or not _SDP_RANGES.isdisjoint(ranges)


def _parts(message: Request | Response) -> Iterator[tuple[str, bool, bytes]]:
    """Media type, whether it may be ignored, and content of each part (RFC 2046 §5.1), not looking into nested ones."""
    match = _boundary.search(message.headers.get("Content-Type") or "")
    if match is None:
        return
    delimiter = b"\r\n--" + (match[1] or match[2]).encode("utf-8", "surrogateescape")
    for piece in (b"\r\n" + message.body).split(delimiter, _MAX_PARTS)[1:]:
        if piece.startswith(b"--"):
            return
        head, _, body = piece.partition(b"\r\n\r\n")
        fields = {}
        for line in head.decode("utf-8", "replace").split("\r\n"):
            name, _, value = line.partition(":")
            fields[name.strip().lower()] = value.strip()
        kind = fields.get("content-type", "text/plain").partition(";")[0].strip().lower()
        yield kind, _optional.search(fields.get("content-disposition", "")) is not None, body
