"""Typed header values: Uri, NameAddr, Via and CSeq (RFC 3261 §19.1, §20, §25; RFC 3966 for tel).

Text in, frozen value out, and `str()` back. Text is what stood on the wire, decoded as UTF-8 with surrogateescape, so
that every octet comes back out. Percent-escapes are left as they are (`unescape` undoes them, once): a URI that a peer
gave us must go back to it unchanged. Every `parse` raises `SipParseError` (400) and nothing else.

The grammar is that of §25, read liberally where peers are known to be sloppy and nothing becomes ambiguous by it. No
pattern here can backtrack more than linearly: the quantifiers are possessive.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv6Address
from typing import NoReturn
from urllib.parse import unquote

from sipbridge.errors import SipParseError
from sipbridge.sip.faults import Fault

Params = Mapping[str, str | None]
"""By lower-case name, in order; the value as it was written (a quoted string with its quotes), None for a flag."""

MAX_VALUES = 256
"""Of one header: parsing an address takes microseconds, and a datagram has room for thousands of them."""

MAGIC_COOKIE = "z9hG4bK"
"""What a branch begins with that identifies a transaction (§8.1.1.7)."""

TOKEN = r"[A-Za-z0-9\-.!%*_+`'~]"
_LABEL = r"[A-Za-z0-9_][A-Za-z0-9_\-]{0,62}+"  # underscores are no host names, and common
_HOST = rf"(?:\[[0-9A-Fa-f:.]++\]|{_LABEL}(?:\.{_LABEL})*+\.?)"
_QUOTED = r'"(?:[^"\\]++|\\.)*+"'
_VISIBLE = r"\x00-\x20\x7f"  # to be excluded: controls and space
_PARAM_VALUE = rf'(?:{_QUOTED}|[^{_VISIBLE};,"<>@?]*+)'

_token = re.compile(rf"{TOKEN}++")
_sip_uri = re.compile(
    rf'([sS][iI][pP][sS]?):(?:([^{_VISIBLE}<>"@:]++)(?::([^{_VISIBLE}<>"@:]*+))?+@)?'
    rf'({_HOST})(?::([0-9]{{1,5}}))?((?:;[^{_VISIBLE}<>"@;?]++)*+)(?:\?([^{_VISIBLE}<>"]++))?'
)
_tel_uri = re.compile(rf'tel:([0-9A-Fa-f*#+\-.()]++)((?:;[^{_VISIBLE}<>"@;?]++)*+)', re.IGNORECASE)
_any_uri = re.compile(rf'([A-Za-z][A-Za-z0-9+.\-]*+):([^{_VISIBLE}<>"]++)')
_name_addr = re.compile(
    r'[ \t]*+(?:"((?:[^"\\]++|\\.)*+)"[ \t]*+|([^\x00-\x08\x0a-\x1f\x7f"<>,;\\]*+))<([^<>]++)>(.*)', re.DOTALL
)
_addr_spec = re.compile(rf'[ \t]*+([^{_VISIBLE};,?<>"]++)(.*)', re.DOTALL)
_params = re.compile(rf"(?:[ \t]*+;[ \t]*+{TOKEN}++(?:[ \t]*+=[ \t]*+{_PARAM_VALUE})?+)*+[ \t]*+", re.DOTALL)
_param = re.compile(rf";[ \t]*+({TOKEN}++)(?:[ \t]*+(=)[ \t]*+({_PARAM_VALUE}))?+", re.DOTALL)
_via = re.compile(
    rf"[ \t]*+[sS][iI][pP][ \t]*+/[ \t]*+2\.0[ \t]*+/[ \t]*+({TOKEN}++)[ \t]++"
    rf"({_HOST})(?:[ \t]*+:[ \t]*+([0-9]{{1,5}}))?+(.*)",
    re.DOTALL,
)
_cseq = re.compile(rf"[ \t]*+0*([0-9]{{1,10}})[ \t]++({TOKEN}++)[ \t]*+")
_list_element = re.compile(rf'((?:[^,"<]++|{_QUOTED}|<[^>]*+>)*+)(,|$)', re.DOTALL)
_quoted_pair = re.compile(r"\\(.)", re.DOTALL)
_escape = re.compile(r"%([0-9A-Fa-f]{2})")
_third_colon = re.compile(r"(?<!:):::(?=[0-9]{1,3}\.)")
_visual_separators = re.compile(r"[\-.()]")


def unescape(text: str) -> str:
    """Undo percent-escapes, once (§19.1.2); octets that are no UTF-8 become surrogate escapes."""
    return unquote(text, errors="surrogateescape") if "%" in text else text


def readable(text: str) -> str:
    """For eyes and models: no surrogate escapes. §7.3.1 wants UTF-8; what is none is Latin-1, as older PBXs send it."""
    if text.isascii():
        return text
    octets = text.encode("utf-8", "surrogateescape")
    try:
        return octets.decode("utf-8")
    except UnicodeDecodeError:
        return octets.decode("latin-1")


def delta_seconds(text: str | None) -> int | None:
    """A number of seconds (§25.1); None where there is none, or one that nobody can mean."""
    digits = (text or "").strip(" \t")
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) <= 9 else None


def is_token(text: str) -> bool:
    return _token.fullmatch(text) is not None


def split_list(text: str) -> list[str]:
    """The elements of a comma-separated header value (§7.3.1), stripped; empty elements are left out."""
    if '"' not in text and "<" not in text:
        elements = text.split(",")
    else:
        elements, position, more = [], 0, True
        while more:
            match = _list_element.match(text, position)
            if match is None:
                _fail(Fault.LIST, "unbalanced quote or bracket", text)
            elements.append(match[1])
            position, more = match.end(), match[2] == ","
    return [stripped for element in elements if (stripped := element.strip(" \t"))]


@dataclass(frozen=True, slots=True)
class Uri:
    """A SIP, SIPS or tel URI (§19.1, RFC 3966); of any other scheme `user` is all that follows the colon."""

    scheme: str
    """In lower case."""
    user: str | None
    """As written, escapes and all (`username` is the readable form); of a tel URI the number."""
    host: str = ""
    """As written, but an IPv6 address without its brackets: ready for a socket."""
    port: int | None = None
    params: Params = field(default_factory=dict, hash=False)
    password: str | None = None
    headers: tuple[tuple[str, str], ...] = ()
    """What follows the question mark, in order, as written."""

    @classmethod
    def parse(cls, text: str) -> Uri:
        match = _sip_uri.fullmatch(text)
        if match is None:
            return cls._parse_other(text)
        scheme, user, password, host, port, params, headers = match.groups()
        return cls(
            scheme=scheme.lower(),
            user=user,
            host=_parse_host(host),
            port=_parse_port(port),
            params=_parse_uri_params(params) if params else {},
            password=password,
            headers=_parse_uri_headers(headers) if headers else (),
        )

    @classmethod
    def _parse_other(cls, text: str) -> Uri:
        if (match := _tel_uri.fullmatch(text)) is not None:
            return cls(scheme="tel", user=match[1], params=_parse_uri_params(match[2]))
        match = _any_uri.fullmatch(text)
        if match is None or match[1].lower() in ("sip", "sips", "tel"):
            _fail(Fault.URI, "malformed URI", text)
        return cls(scheme=match[1].lower(), user=match[2])

    @property
    def username(self) -> str:
        """The user part with its escapes undone, "" if there is none."""
        return unescape(self.user or "")

    def __str__(self) -> str:
        parts = [self.scheme, ":"]
        if self.user is not None:
            parts.append(self.user)
        if self.host:
            if self.password is not None:
                parts += (":", self.password)
            if self.user is not None:
                parts.append("@")
            parts.append(format_host(self.host, self.port))
        parts.append(_format_params(self.params))
        if self.headers:
            parts += ("?", "&".join(f"{name}={value}" for name, value in self.headers))
        return "".join(parts)

    def matches(self, other: Uri) -> bool:
        """Equivalence per §19.1.4 (tel: RFC 3966 §4). Not transitive, so not `==`, which compares as written."""
        if self.scheme != other.scheme:
            return False
        if self.scheme == "tel":
            return _plain_number(self) == _plain_number(other) and _params_match(self.params, other.params, tel=True)
        return (
            _canonical(self.user) == _canonical(other.user)
            and _canonical(self.password) == _canonical(other.password)
            and self.host.lower() == other.host.lower()
            and self.port == other.port
            and _params_match(self.params, other.params, tel=False)
            and _header_set(self) == _header_set(other)
        )


@dataclass(frozen=True, slots=True)
class NameAddr:
    """One value of From, To, Contact, Route, Refer-To ...: display name, URI, header parameters (§20.10)."""

    display: str
    """Without quotes and quoted pairs; "" if there is none."""
    uri: Uri
    params: Params = field(default_factory=dict, hash=False)

    @classmethod
    def parse(cls, text: str) -> NameAddr:
        match = _name_addr.fullmatch(text)
        if match is not None:
            quoted, display, uri, params = match.groups()
            if quoted is None:
                display = display.strip(" \t")
            else:
                display = _quoted_pair.sub(r"\1", quoted) if "\\" in quoted else quoted
            return cls(display, Uri.parse(uri), _parse_params(params))
        match = _addr_spec.fullmatch(text)
        if match is None:
            _fail(Fault.ADDRESS, "malformed address", text)
        # §20.10: without angle brackets, all parameters are the header's; "," and "?" cannot occur.
        return cls("", Uri.parse(match[1]), _parse_params(match[2]))

    @property
    def tag(self) -> str | None:
        return self.params.get("tag")

    @property
    def is_wildcard(self) -> bool:
        """`Contact: *` (§10.2.2)."""
        return self.uri.scheme == "*"

    def with_tag(self, tag: str) -> NameAddr:
        return replace(self, params={**self.params, "tag": tag})

    def __str__(self) -> str:
        if self.is_wildcard:
            return "*"
        display = f"{quote(self.display)} " if self.display else ""
        return f"{display}<{self.uri}>{_format_params(self.params)}"


_WILDCARD = NameAddr("", Uri("*", None))


def parse_addresses(text: str) -> tuple[NameAddr, ...]:
    """A comma-separated list of addresses; `*` gives one address whose `is_wildcard` is true."""
    if text.strip(" \t") == "*":
        return (_WILDCARD,)
    elements = split_list(text)
    if len(elements) > MAX_VALUES:
        _fail(Fault.TOO_MANY_VALUES, f"{len(elements)} addresses", text)
    return tuple(NameAddr.parse(element) for element in elements)


def quote(text: str) -> str:
    """A quoted-string (§25.1) whose content is `text`."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


@dataclass(frozen=True, slots=True)
class Via:
    """One hop of a request's path (§20.42)."""

    transport: str
    """In upper case."""
    host: str
    """As written, but an IPv6 address without its brackets."""
    port: int | None = None
    params: Params = field(default_factory=dict, hash=False)

    @classmethod
    def parse(cls, text: str) -> Via:
        match = _via.fullmatch(text)
        if match is None:
            _fail(Fault.VIA, "malformed Via", text)
        transport, host, port, params = match.groups()
        via = cls(transport.upper(), _parse_host(host), _parse_port(port), _parse_params(params))
        if via.params.get("rport"):
            _parse_port(via.params["rport"])
        return via

    @property
    def branch(self) -> str | None:
        return self.params.get("branch")

    @property
    def received(self) -> str | None:
        """The source address that the next hop saw, without brackets (§18.2.1; RFC 5118 §4.5 knows both spellings)."""
        received = self.params.get("received")
        return received.strip("[]") if received else None

    @property
    def rport(self) -> int | None:
        """The source port that the next hop saw (RFC 3581); None if there is no value, see `wants_rport`."""
        return _parse_port(self.params.get("rport") or None)

    @property
    def wants_rport(self) -> bool:
        """RFC 3581 §4: the client asks to be answered where it sends from."""
        return "rport" in self.params

    def __str__(self) -> str:
        return f"SIP/2.0/{self.transport} {format_host(self.host, self.port)}{_format_params(self.params)}"


@dataclass(frozen=True, slots=True)
class CSeq:
    """§20.16: the number is below 2^31 (§8.1.1.5)."""

    number: int
    method: str

    @classmethod
    def parse(cls, text: str) -> CSeq:
        match = _cseq.fullmatch(text)
        if match is None or (number := int(match[1])) >= 2**31:
            _fail(Fault.CSEQ, "malformed CSeq", text)
        return cls(number, match[2])

    def __str__(self) -> str:
        return f"{self.number} {self.method}"


def _fail(fault: Fault, what: str, text: str) -> NoReturn:
    """Name what is wrong with an excerpt that is safe in a log, however long or binary the text is."""
    raise SipParseError(f"{what}: {ascii(text[:60])}", fault=fault)


def _parse_host(text: str) -> str:
    if text[0] != "[":
        if len(text) > 253:
            _fail(Fault.HOST, "host name too long", text)
        return text
    # RFC 5118 §4.10: the grammar of RFC 3261 has a colon too many before an embedded IPv4 address.
    address = _third_colon.sub("::", text[1:-1])
    try:
        IPv6Address(address)
    except ValueError:
        _fail(Fault.HOST, "malformed IPv6 address", text)
    return address


def _parse_port(text: str | None) -> int | None:
    if text is None:
        return None
    # isascii: other scripts' digits are digits for Python, too.
    if not (len(text) <= 5 and text.isascii() and text.isdigit() and 0 < (port := int(text)) < 65536):
        _fail(Fault.PORT, "port out of range", text)
    return port


def format_host(host: str, port: int | None) -> str:
    """As in a URI: an IPv6 address in brackets."""
    if ":" in host:
        host = f"[{host}]"
    return host if port is None else f"{host}:{port}"


def _parse_params(text: str) -> Params:
    if not text:
        return {}
    if _params.fullmatch(text) is None:
        _fail(Fault.PARAMETERS, "malformed parameters", text)
    params: dict[str, str | None] = {}
    for name, equals, value in _param.findall(text):
        _add_param(params, name.lower(), value if equals else None)
    return params


def _parse_uri_params(text: str) -> Params:
    params: dict[str, str | None] = {}
    for param in text.split(";")[1:]:
        name, equals, value = param.partition("=")
        # RFC 4475 §3.1.1.3: `%6C%72` is `lr`. A name whose escapes are needed stays as it is.
        if "%" in name and is_token(plain := unescape(name)):
            name = plain
        _add_param(params, name.lower(), value if equals else None)
    return params


def _add_param(params: dict[str, str | None], name: str, value: str | None) -> None:
    # §7.3.1: no name twice. A plain repetition is harmless; two different tags or branches are two messages in one.
    if params.setdefault(name, value) != value:
        _fail(Fault.REPEATED_PARAMETER, "parameter given twice", name)


def _parse_uri_headers(text: str) -> tuple[tuple[str, str], ...]:
    pairs = (pair.partition("=") for pair in text.split("&"))
    return tuple((name, value) for name, _, value in pairs)


def _format_params(params: Params) -> str:
    if not params:
        return ""
    return "".join([f";{name}" if value is None else f";{name}={value}" for name, value in params.items()])


def _canonical(text: str | None) -> str | None:
    """§19.1.4: an escaped character equals itself, unless it is a reserved one."""
    if text is None or "%" not in text:
        return text
    return _escape.sub(lambda match: _canonical_escape(match[1]), text)


def _canonical_escape(code: str) -> str:
    character = chr(int(code, 16))
    unreserved = character.isascii() and (character.isalnum() or character in "-_.!~*'()")
    return character if unreserved else f"%{code.upper()}"


_SIGNIFICANT = ("user", "ttl", "method", "maddr", "transport")
"""URI parameters that never match where only one side has them (§19.1.4, its rules and its examples)."""


def _params_match(a: Params, b: Params, *, tel: bool) -> bool:
    if tel and a.keys() != b.keys():
        return False
    if any((name in a) != (name in b) for name in _SIGNIFICANT):
        return False
    return all(_folded(a[name]) == _folded(b[name]) for name in a.keys() & b.keys())


def _folded(value: str | None) -> str | None:
    canonical = _canonical(value)
    return None if canonical is None else canonical.lower()


def _plain_number(uri: Uri) -> str:
    return _visual_separators.sub("", uri.user or "").lower()


def _header_set(uri: Uri) -> list[tuple[str, str | None]]:
    return sorted((name.lower(), _canonical(value)) for name, value in uri.headers)
