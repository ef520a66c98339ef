"""Requests and responses: parse, inspect, build and serialize (RFC 3261 §7, §8.2.6, §20).

A message keeps its header fields as text, in order; the typed accessors parse on first use and remember. What every
element needs (Via, From, To, Call-ID, CSeq, Content-Length) is checked by `parse_message`, so that those accessors
cannot fail later; the optional ones raise `SipParseError` (400) when they meet a malformed value.

Text is UTF-8 with surrogateescape: octets that are no UTF-8 survive a round trip. Streams are cut into messages by
`framing`; this module gets one message, as a datagram brings it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Generic, Self, TypeVar, overload

from sipbridge.errors import LocalProtocolError, SipParseError
from sipbridge.sip.faults import Fault
from sipbridge.sip.fields import Headers, canonical_name, parse_fields
from sipbridge.sip.headers import (
    MAGIC_COOKIE,
    TOKEN,
    CSeq,
    NameAddr,
    Uri,
    Via,
    delta_seconds,
    is_token,
    parse_addresses,
    split_list,
)
from sipbridge.sip.status import reason_phrase

__all__ = ["Headers", "Message", "Request", "Response", "parse_message", "refusal"]

T = TypeVar("T")

MAX_HEAD = 65_536
"""Octets of start line and header fields; more is 513."""
MAX_FIELDS = 512
MAX_IDENTITY = 8_192
"""Characters of one Via, From, To, Call-ID or CSeq value: these are kept with the call, and echoed in answers."""


class _Typed(Generic[T]):
    """A typed view of the header fields, parsed once and kept until they change."""

    def __init__(self, parse: Callable[[Headers], T]) -> None:
        self._parse = parse

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, message: None, owner: type) -> Self: ...
    @overload
    def __get__(self, message: Message, owner: type) -> T: ...
    def __get__(self, message: Message | None, owner: type) -> T | Self:
        if message is None:
            return self
        return message.headers.typed(self._name, self._parse)


def _required(headers: Headers, name: str) -> str:
    value = headers.get(name)
    if not value:
        raise SipParseError(f"{name} is missing", fault=Fault.MISSING_FIELD)
    if len(value) > MAX_IDENTITY:
        raise SipParseError(f"{name} is too long", fault=Fault.FIELD_TOO_LONG)
    return value


def _parse_top_via(headers: Headers) -> Via:
    value = _required(headers, "Via")
    if "," in value:
        value = next(iter(split_list(value)), "")
    return Via.parse(value)


def _parse_call_id(headers: Headers) -> str:
    value = _required(headers, "Call-ID")
    # §25.1: word ["@" word]; all that matters is that it is one visible word.
    if _call_id.fullmatch(value) is None:
        raise SipParseError(f"malformed Call-ID: {ascii(value[:60])}", fault=Fault.CALL_ID)
    return value


def _addresses(name: str) -> Callable[[Headers], tuple[NameAddr, ...]]:
    def parse(headers: Headers) -> tuple[NameAddr, ...]:
        values = headers.get_all(name)
        if len(values) > 1:
            headers.get_list(name)  # if they are too many, find out before they are parsed
        return tuple(address for value in values for address in parse_addresses(value))

    return parse


def _parse_contact(headers: Headers) -> NameAddr | None:
    return next((address for value in headers.get_all("Contact") for address in parse_addresses(value)), None)


def _parse_max_forwards(headers: Headers) -> int | None:
    value = headers.get("Max-Forwards")
    if value is None:
        return None
    if _hops.fullmatch(value) is None or (hops := int(value)) > 255:
        raise SipParseError(f"malformed Max-Forwards: {ascii(value[:60])}", fault=Fault.MAX_FORWARDS)
    return hops


def _parse_content_type(headers: Headers) -> str | None:
    value = headers.get("Content-Type")
    if value is None:
        return None
    kind, slash, subtype = value.partition(";")[0].partition("/")
    kind, subtype = kind.strip(" \t"), subtype.strip(" \t")
    if not slash or not is_token(kind) or not is_token(subtype):
        raise SipParseError(f"malformed Content-Type: {ascii(value[:60])}", fault=Fault.CONTENT_TYPE)
    return f"{kind}/{subtype}".lower()


_call_id = re.compile(r"[^\x00-\x20\x7f]++")
_hops = re.compile(r"0*+[0-9]{1,3}|0++")


class Message:
    """What requests and responses share: the typed accessors."""

    __slots__ = ()

    headers: Headers
    body: bytes

    via = _Typed(_parse_top_via)
    """The topmost Via."""
    vias = _Typed(lambda headers: tuple(map(Via.parse, headers.get_list("Via"))))
    from_ = _Typed(lambda headers: NameAddr.parse(_required(headers, "From")))
    to = _Typed(lambda headers: NameAddr.parse(_required(headers, "To")))
    call_id = _Typed(_parse_call_id)
    cseq = _Typed(lambda headers: CSeq.parse(_required(headers, "CSeq")))
    contact = _Typed(_parse_contact)
    """The first Contact, or None."""
    contacts = _Typed(_addresses("Contact"))
    routes = _Typed(_addresses("Route"))
    record_routes = _Typed(_addresses("Record-Route"))
    max_forwards = _Typed(_parse_max_forwards)
    require = _Typed(lambda headers: tuple(headers.get_list("Require")))
    """Option tags as they were written."""
    supported = _Typed(lambda headers: tuple(headers.get_list("Supported")))
    content_type = _Typed(_parse_content_type)
    """Media type in lower case, without parameters, or None."""

    def _serialize(self, start_line: str) -> bytes:
        length = f"Content-Length: {len(self.body)}"
        lines = [start_line]
        lines += [length if name == "Content-Length" else f"{name}: {value}" for name, value in self.headers]
        if "Content-Length" not in self.headers:
            lines.append(length)
        lines.append("\r\n")
        if "\r" in start_line or "\n" in start_line:
            raise LocalProtocolError(f"line break in a start line: {ascii(start_line)}")
        try:
            return "\r\n".join(lines).encode("utf-8", "surrogateescape") + self.body
        except UnicodeEncodeError as error:
            raise LocalProtocolError("a header value holds text that cannot be encoded") from error


@dataclass(slots=True)
class Request(Message):
    method: str
    uri: str
    """As written; `request_uri` is the parsed form."""
    headers: Headers = field(default_factory=Headers)
    body: bytes = b""

    @property
    def request_uri(self) -> Uri:
        text = self.uri
        return self.headers.typed(f"request-uri {text}", lambda _: Uri.parse(text))

    def response(
        self,
        status: int,
        reason: str | None = None,
        *,
        to_tag: str | None = None,
        headers: Iterable[tuple[str, str]] = (),
    ) -> Response:
        """A response to this request (§8.2.6): Via, From, To, Call-ID and CSeq copied, then `headers`.

        `to_tag` is added unless To has a tag already; every response but a 100 needs one. Record-Route is copied where
        the response makes a dialog (§12.1.1), Timestamp into a 100 (§8.2.6.1).
        """
        wanted = _COPIED
        if self.method in _DIALOG_FORMING and 100 < status < 300:
            wanted = _COPIED_WITH_ROUTES
        elif status == 100:
            wanted = _COPIED_WITH_TIMESTAMP
        fields = [copied for copied in self.headers if copied[0] in wanted]
        if to_tag and self.to.tag is None:
            fields = [(name, f"{value};tag={to_tag}" if name == "To" else value) for name, value in fields]
        response = Response(status, reason_phrase(status) if reason is None else reason, Headers.trusted(fields))
        for name, value in headers:
            response.headers.add(name, value)
        return response

    def length(self) -> int:
        """How many octets it will be, where all of it is ASCII; otherwise a few more."""
        fields = sum([len(name) + len(value) + 4 for name, value in self.headers])
        if "Content-Length" not in self.headers:
            fields += len(f"Content-Length: {len(self.body)}\r\n")
        return len(f"{self.method} {self.uri} SIP/2.0\r\n") + fields + 2 + len(self.body)

    def serialize(self) -> bytes:
        """The message's octets, with the Content-Length that the body has."""
        return self._serialize(f"{self.method} {self.uri} SIP/2.0")


_COPIED = frozenset({"Via", "From", "To", "Call-ID", "CSeq"})
_COPIED_WITH_ROUTES = _COPIED | {"Record-Route"}
_COPIED_WITH_TIMESTAMP = _COPIED | {"Timestamp"}
_DIALOG_FORMING = frozenset({"INVITE", "SUBSCRIBE", "REFER", "NOTIFY"})


@dataclass(slots=True)
class Response(Message):
    status: int
    reason: str
    headers: Headers = field(default_factory=Headers)
    body: bytes = b""

    @property
    def retry_after(self) -> int | None:
        """Seconds (§20.33), without comment and parameters; None where it is not said, or cannot be read."""
        return delta_seconds((self.headers.get("Retry-After") or "").partition(";")[0].partition("(")[0])

    def serialize(self) -> bytes:
        """The message's octets, with the Content-Length that the body has."""
        return self._serialize(f"SIP/2.0 {self.status} {self.reason}")


_SINGLE = ("Call-ID", "CSeq", "From", "To", "Content-Length", "Max-Forwards", "Content-Type")
# §25.1: LWS, the white space before the line break included, is one space. It begins where no white space is before it.
_FOLD = re.compile(r"(?<![ \t])[ \t]*+(?:\r\n[ \t]++)++")
_REQUEST_LINE = re.compile(rf"({TOKEN}++) ([^ \t]++) SIP/2\.0", re.IGNORECASE)
_REQUEST_LIKE = re.compile(rf"({TOKEN}++)[ \t].*[ \t](SIP/[0-9]++\.[0-9]++)[ \t]*", re.IGNORECASE)
_STATUS_LINE = re.compile(r"SIP/2\.0 ([1-6][0-9][0-9])(?: (.*))?", re.IGNORECASE | re.DOTALL)
_LENGTH = re.compile(r"[0-9]{1,9}")
_TAG = re.compile(r";[ \t]*+tag[ \t]*+=", re.IGNORECASE)
_LEADING_LINES = re.compile(rb"(?:\r\n)*+")
_QUOTED_PAIR = re.compile(rb"\\[\x00-\x7f]")


def parse_message(data: bytes) -> Request | Response:
    """The message that a datagram, or one frame of a stream, holds; octets beyond Content-Length are cut off (§18.3).

    Raises SipParseError, nothing else. Where the fault is in a request that can be answered, the error carries what
    `refusal` needs; a faulty response, an ACK, and what is no SIP at all are to be dropped.
    """
    begin = match.end() if (match := _LEADING_LINES.match(data)) else 0
    end = data.find(b"\r\n\r\n", begin, begin + MAX_HEAD + 4)
    head = data[begin : end if end >= 0 else begin + MAX_HEAD]
    start_line, _, fields = head.decode("utf-8", "surrogateescape").partition("\r\n")
    if start_line[:4].upper() == "SIP/":
        return _parse_response(data, head, end, start_line, fields)
    line = _REQUEST_LIKE.fullmatch(start_line)
    if line is None:
        raise SipParseError(f"not SIP: {ascii(start_line[:60])}", fault=Fault.NOT_SIP)
    try:
        return _parse_request(data, head, end, start_line, fields, version=line[2])
    except SipParseError as error:
        raise SipParseError(
            str(error),
            sip_status=error.sip_status,
            method=line[1],
            reply_headers=_reply_headers(line[1], fields),
            fault=error.fault,
        ) from None


def refusal(error: SipParseError, *, to_tag: str) -> Response | None:
    """The response to a request that could not be parsed, or None where nothing can be answered."""
    if not error.reply_headers:
        return None
    fields = [
        (name, f"{value};tag={to_tag}" if name == "To" and not _TAG.search(value) else value)
        for name, value in error.reply_headers
    ]
    return Response(error.sip_status, reason_phrase(error.sip_status), Headers.trusted(fields))


def _parse_request(data: bytes, head: bytes, end: int, start_line: str, fields: str, *, version: str) -> Request:
    if version.upper() != "SIP/2.0":
        raise SipParseError(f"unknown version {version[:20]}", sip_status=505, fault=Fault.VERSION)
    line = _REQUEST_LINE.fullmatch(start_line)
    if line is None:
        raise SipParseError("malformed request line", fault=Fault.REQUEST_LINE)
    headers = _parse_fields(head, end, fields)
    request = Request(line[1], line[2], headers, _cut_body(data, end, headers))
    _check_mandatory(request)
    if request.cseq.method != request.method:
        raise SipParseError("the methods of request line and CSeq differ", fault=Fault.METHODS_DIFFER)
    if request.via.branch == MAGIC_COOKIE:
        # RFC 4475 §3.2.1: taken as an identifier, it would make one transaction of all requests of that peer.
        raise SipParseError("a branch that identifies nothing", fault=Fault.BRANCH)
    uri = request.request_uri
    if uri.headers or "method" in uri.params:
        # §19.1.1: neither is allowed in a Request-URI, and both have been used to smuggle.
        raise SipParseError("header fields in the Request-URI", fault=Fault.URI_HEADERS)
    return request


def _parse_response(data: bytes, head: bytes, end: int, start_line: str, fields: str) -> Response:
    line = _STATUS_LINE.fullmatch(start_line)
    if line is None:
        raise SipParseError(f"malformed status line: {ascii(start_line[:60])}", fault=Fault.STATUS_LINE)
    headers = _parse_fields(head, end, fields)
    response = Response(int(line[1]), line[2] or "", headers, _cut_body(data, end, headers))
    _check_mandatory(response)
    return response


def _parse_fields(head: bytes, end: int, text: str) -> Headers:
    if end < 0:
        if len(head) >= MAX_HEAD:
            raise SipParseError("too many octets of header fields", sip_status=513, fault=Fault.HEADER_TOO_LONG)
        raise SipParseError("no empty line after the header fields", fault=Fault.NO_END)
    # A line break that only some elements take for one lets a header field pass those that don't.
    lines = head.count(b"\r\n")
    if head.count(b"\n") != lines or head.count(b"\r") != lines:
        raise SipParseError("bare CR or LF in a header", fault=Fault.BARE_LINE_BREAK)
    # §25.1 allows NUL as a quoted pair only.
    if b"\x00" in head and b"\x00" in _QUOTED_PAIR.sub(b"", head):
        raise SipParseError("NUL in a header", fault=Fault.NUL)
    if text[:1] in (" ", "\t"):
        raise SipParseError("the start line is folded", fault=Fault.FOLDED_START_LINE)
    if "\r\n " in text or "\r\n\t" in text:
        text = _FOLD.sub(" ", text)
    fields = parse_fields(text)
    if len(fields) > MAX_FIELDS:
        raise SipParseError("too many header fields", sip_status=513, fault=Fault.TOO_MANY_FIELDS)
    return Headers.trusted(fields)


def _cut_body(data: bytes, end: int, headers: Headers) -> bytes:
    body = data[end + 4 :]
    value = headers.get("Content-Length")
    if value is None:
        return body
    if _LENGTH.fullmatch(value) is None:
        raise SipParseError(f"malformed Content-Length: {ascii(value[:60])}", fault=Fault.CONTENT_LENGTH)
    length = int(value)
    if length > len(body):
        raise SipParseError("the body is shorter than Content-Length", fault=Fault.CUT_SHORT)
    return body[:length]


def _check_mandatory(message: Request | Response) -> None:
    """§8.1.1, §20: parse what every element needs, once; the accessors keep it. Max-Forwards may be missing (§16.6)."""
    repeated = message.headers.repeated(_SINGLE)
    if repeated:
        fault = Fault.REPEATED_CONTENT_LENGTH if repeated == "Content-Length" else Fault.REPEATED_FIELD
        raise SipParseError(f"more than one {repeated}", fault=fault)
    _ = message.via, message.from_, message.to, message.call_id, message.cseq


def _reply_headers(method: str, text: str) -> tuple[tuple[str, str], ...]:
    """What can be read, however broken the rest is, of the fields that a response copies; () if that is too little.

    Via and CSeq are enough for the client transaction to recognise its answer (§17.1.3); RFC 4475 §3.3.1 wants a
    request without From, To and Call-ID answered, too. An ACK is never answered.
    """
    if method == "ACK":
        return ()
    copied: list[tuple[str, str]] = []
    names = set()
    for line in _FOLD.sub(" ", text).split("\r\n")[:MAX_FIELDS]:
        spelled, colon, value = line.partition(":")
        name = canonical_name(spelled.rstrip(" \t"))
        if not colon or name not in _COPIED or (name in names and name != "Via"):
            continue
        value = value.strip(" \t")
        if not value or len(value) > MAX_IDENTITY or "\r" in value or "\n" in value or "\0" in value:
            return ()
        names.add(name)
        copied.append((name, value))
    return tuple(copied) if {"Via", "CSeq"} <= names else ()
