"""Session descriptions: the grammar of RFC 8866, as far as a call needs it. Offer and answer are in `sdp`.

Reading forgives what real peers send: bare LF, lines in odd places, lines that are missing or unknown (they are left
out when the description is written again). Only what leaves no meaning is an error: no m= or v= line at all, or an m=
line that cannot be understood, because every one of them must be answered in its place.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Literal

from sipbridge.errors import SdpError

Direction = Literal["sendrecv", "sendonly", "recvonly", "inactive"]
_DIRECTIONS: dict[str, Direction] = {
    "sendrecv": "sendrecv",
    "sendonly": "sendonly",
    "recvonly": "recvonly",
    "inactive": "inactive",
}

Attribute = tuple[str, str | None]
"""Name and value of an a= line; None for a property like a=sendrecv."""

_MAX_MEDIA = 64
_MAX_LINES = 2_000
_MAX_FORMATS = 256
"""Of one m= line: RTP has 128 payload types, and what is refused is said again in the answer."""
_TIMING = re.compile(r"\d{1,20} \d{1,20}", re.ASCII)
_ENCODING = re.compile(r"(\d{1,3})\s+([^\s/]+)/(\d{1,9})(?:/(\d{1,3}))?\s*", re.ASCII)


def number(text: str | None, maximum: int) -> int | None:
    """A decimal number from 0 to `maximum`; None for anything else. Never raises, however long the text."""
    if text is None or not text.isascii() or not text.isdecimal() or len(text) > 20:
        return None
    value = int(text)
    return value if value <= maximum else None


@dataclass(frozen=True, slots=True)
class Origin:
    """o=: who made the description. Session id and version together say whether two descriptions are the same."""

    session_id: str
    version: int
    address: str
    username: str = "-"

    @classmethod
    def parse(cls, value: str) -> Origin | None:
        fields = value.split()
        if len(fields) != 6 or (version := number(fields[2], (1 << 64) - 1)) is None:
            return None
        return cls(session_id=fields[1], version=version, address=fields[5], username=fields[0])

    def __str__(self) -> str:
        return f"{self.username} {self.session_id} {self.version} {format_address(self.address)}"


@dataclass(frozen=True, slots=True)
class Encoding:
    """a=rtpmap: what a payload type stands for."""

    payload_type: int
    name: str
    clock_rate: int
    channels: int = 1

    @classmethod
    def parse(cls, value: str) -> Encoding | None:
        match = _ENCODING.fullmatch(value)
        if match is None or int(match[1]) > 127:
            return None
        return cls(int(match[1]), match[2], int(match[3]), int(match[4] or 1))

    def __str__(self) -> str:
        channels = f"/{self.channels}" if self.channels != 1 else ""
        return f"{self.payload_type} {self.name}/{self.clock_rate}{channels}"


@dataclass(frozen=True, slots=True)
class MediaDescription:
    """One m= line and what belongs to it."""

    kind: str
    port: int
    protocol: str
    formats: tuple[str, ...]
    connection: str | None = None
    """The address of a c= line of its own; None: that of the session holds."""
    attributes: tuple[Attribute, ...] = ()

    @classmethod
    def parse(cls, value: str) -> MediaDescription:
        fields = value.split()
        if len(fields) < 4:
            raise SdpError(f"m= line with {len(fields)} fields", sip_status=400)
        kind, port_and_count, protocol, *formats = fields
        port = number(port_and_count.partition("/")[0], 65535)
        if port is None:
            raise SdpError("m= line with an impossible port", sip_status=400)
        if len(formats) > _MAX_FORMATS:
            raise SdpError(f"m= line with {len(formats)} formats", sip_status=400)
        return cls(kind, port, protocol, tuple(formats))

    def refused(self) -> MediaDescription:
        """The same line with port 0, to answer it (RFC 3264 §6)."""
        return MediaDescription(self.kind, 0, self.protocol, self.formats)

    def attribute(self, name: str) -> str | None:
        """The value of the first such attribute; None if there is none with a value."""
        return next(self.values(name), None)

    def has(self, name: str) -> bool:
        """Whether there is such a property, an attribute without a value."""
        return (name, None) in self.attributes

    def values(self, name: str) -> Iterator[str]:
        return (value for key, value in self.attributes if key == name and value is not None)

    def encodings(self) -> dict[int, Encoding]:
        """By payload type; the first one where a type is mapped twice. Of so many as there can be formats."""
        values = islice(self.values("rtpmap"), _MAX_FORMATS)
        parsed = [encoding for value in values if (encoding := Encoding.parse(value)) is not None]
        return {encoding.payload_type: encoding for encoding in reversed(parsed)}

    def payload_types(self) -> list[int]:
        """The formats that are payload types, in order of preference."""
        return [value for text in self.formats if (value := number(text, 127)) is not None]

    def lines(self) -> list[str]:
        lines = [f"m={self.kind} {self.port} {self.protocol} {' '.join(self.formats)}"]
        if self.connection is not None:
            lines.append(f"c={format_address(self.connection)}")
        return lines + _attribute_lines(self.attributes)


@dataclass(frozen=True, slots=True)
class SessionDescription:
    origin: Origin | None
    connection: str | None
    media: tuple[MediaDescription, ...]
    attributes: tuple[Attribute, ...] = ()
    name: str = "-"
    timing: str = "0 0"

    @classmethod
    def parse(cls, data: bytes) -> SessionDescription:
        """Takes any bytes. Raises SdpError with status 400 where they are no session description; nothing else."""
        sections = _sections(data)
        session = sections[0]
        if len(sections) == 1 and "v" not in session.fields:
            raise SdpError("no session description", sip_status=400)
        if len(sections) > _MAX_MEDIA + 1:
            raise SdpError(f"{len(sections) - 1} m= lines", sip_status=400)
        timing = session.fields.get("t", "")
        return cls(
            origin=Origin.parse(session.fields.get("o", "")),
            connection=_parse_connection(session.fields.get("c")),
            media=tuple(section.media() for section in sections[1:]),
            attributes=tuple(session.attributes),
            name=session.fields.get("s", "").strip() or "-",
            timing=timing if _TIMING.fullmatch(timing) else "0 0",
        )

    def serialize(self) -> bytes:
        """Needs an origin."""
        lines = ["v=0", f"o={self.origin}", f"s={self.name}"]
        if self.connection is not None:
            lines.append(f"c={format_address(self.connection)}")
        lines += [f"t={self.timing}", *_attribute_lines(self.attributes)]
        for media in self.media:
            lines += media.lines()
        return "".join(f"{line}\r\n" for line in lines).encode()

    def direction(self, media: MediaDescription) -> Direction:
        """The stream's direction as its sender sees it (RFC 8866 §6.7): its own, the session's, or sendrecv."""
        for attributes in (media.attributes, self.attributes):
            for name, _ in attributes:
                if name in _DIRECTIONS:
                    return _DIRECTIONS[name]
        return "sendrecv"

    def address(self, media: MediaDescription) -> str | None:
        return self.connection if media.connection is None else media.connection


class _Section:
    """The session part, or one m= line with its lines; the first line of a type counts."""

    def __init__(self) -> None:
        self.fields: dict[str, str] = {}
        self.attributes: list[Attribute] = []

    def add(self, letter: str, value: str) -> None:
        if letter == "a":
            name, colon, rest = value.partition(":")
            self.attributes.append((name.strip(), rest.strip() if colon else None))
        else:
            self.fields.setdefault(letter, value)

    def media(self) -> MediaDescription:
        line = MediaDescription.parse(self.fields["m"])
        connection = _parse_connection(self.fields.get("c"))
        return MediaDescription(line.kind, line.port, line.protocol, line.formats, connection, tuple(self.attributes))


def _sections(data: bytes) -> list[_Section]:
    sections = [_Section()]
    lines = data.decode("utf-8", "replace").split("\n")
    if len(lines) > _MAX_LINES:
        raise SdpError(f"{len(lines)} lines of session description", sip_status=400)
    for line in lines:
        letter, equals, value = line.strip().partition("=")
        if not equals or len(letter) != 1:
            continue
        if letter == "m":
            sections.append(_Section())
        sections[-1].add(letter, value.strip())
    return sections


def _parse_connection(value: str | None) -> str | None:
    """The address of a c= line, without multicast's TTL and count."""
    fields = (value or "").split()
    return fields[2].partition("/")[0] or None if len(fields) == 3 else None


def format_address(address: str) -> str:
    """As o= and c= write it. A host name is given as IP4, as most peers read it anyway."""
    return f"IN {'IP6' if ':' in address else 'IP4'} {address}"


def _attribute_lines(attributes: tuple[Attribute, ...]) -> list[str]:
    return [f"a={name}" if value is None else f"a={name}:{value}" for name, value in attributes]
