"""Header fields as text: order, spelling, compact forms (RFC 3261 §7.3).

Names that the RFCs define have one spelling here ("v" and "VIA" become "Via"); others stay as they came. Values are
raw text; what they mean is the business of `headers` (one value) and `message` (which header has which type).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Self, TypeVar, cast

from sipbridge.errors import LocalProtocolError, SipParseError
from sipbridge.sip.faults import Fault
from sipbridge.sip.headers import MAX_VALUES, is_token, split_list

T = TypeVar("T")

_NAMES = """
    Accept Accept-Contact:a Accept-Encoding Accept-Language Alert-Info Allow Allow-Events:u Authorization Call-ID:i
    Call-Info Contact:m Content-Disposition Content-Encoding:e Content-Language Content-Length:l Content-Type:c CSeq
    Date Diversion Error-Info Event:o Expires From:f History-Info Identity:y Identity-Info:n In-Reply-To Max-Forwards
    MIME-Version Min-Expires Min-SE Organization P-Asserted-Identity P-Preferred-Identity Path Priority Privacy
    Proxy-Authenticate Proxy-Authorization Proxy-Require RAck Reason Record-Route Refer-Sub Refer-To:r Referred-By:b
    Reject-Contact:j Remote-Party-ID Replaces Reply-To Request-Disposition:d Require Retry-After Route RSeq Server
    Service-Route Session-Expires:x Session-ID SIP-ETag SIP-If-Match Subject:s Subscription-State Supported:k Timestamp
    To:t Unsupported User-Agent Via:v Warning WWW-Authenticate
"""


def _spellings() -> dict[str, str]:
    """Long and compact names (§7.3.3) to the one spelling used here, by lower-case name and by that spelling."""
    spellings: dict[str, str] = {}
    for entry in _NAMES.split():
        name, _, compact = entry.partition(":")
        spellings |= {key: name for key in (name, name.lower(), compact, compact.upper()) if key}
    return spellings


_SPELLING = _spellings()


def canonical_name(name: str) -> str:
    """The spelling used here of a name that the RFCs define; any other name unchanged."""
    return _SPELLING.get(name) or _SPELLING.get(name.lower()) or name


def _key(name: str) -> str:
    return _SPELLING.get(name) or _SPELLING.get(lower := name.lower()) or lower


def parse_fields(text: str) -> list[tuple[str, str]]:
    """The fields of an unfolded header section: names canonical, values stripped. Raises SipParseError."""
    fields = []
    for line in text.split("\r\n"):
        spelled, colon, value = line.partition(":")
        name = _SPELLING.get(spelled)
        if name is None or not colon:
            if not colon or not is_token(spelled := spelled.rstrip(" \t")):
                raise SipParseError(f"not a header field: {ascii(line[:60])}", fault=Fault.FIELD)
            name = canonical_name(spelled)
        fields.append((name, value.strip(" \t")))
    return fields


class Headers:
    """Header fields in order, looked up without regard to case or compact form. Values are raw text, stripped."""

    __slots__ = ("_fields", "_index", "_typed")

    def __init__(self, fields: Iterable[tuple[str, str]] = ()) -> None:
        self._fields: list[tuple[str, str]] = []
        self._index: dict[str, list[str]] | None = None
        self._typed: dict[str, object] = {}
        for name, value in fields:
            self.add(name, value)

    @classmethod
    def trusted(cls, fields: list[tuple[str, str]]) -> Self:
        """Take over fields known to be clean: parsed or copied, names canonical, values stripped."""
        headers = cls()
        headers._fields = fields
        return headers

    def get(self, name: str) -> str | None:
        """The first field's value, whole: of a comma list `get_list` gives the elements."""
        values = self._lookup().get(_key(name))
        return values[0] if values else None

    def get_all(self, name: str) -> list[str]:
        """The values of all fields of that name, in order."""
        return list(self._lookup().get(_key(name), ()))

    def get_list(self, name: str) -> list[str]:
        """The elements of all comma-separated fields of that name (§7.3.1). Raises SipParseError."""
        elements = [element for value in self._lookup().get(_key(name), ()) for element in split_list(value)]
        if len(elements) > MAX_VALUES:
            raise SipParseError(f"{len(elements)} values of {name}", fault=Fault.TOO_MANY_VALUES)
        return elements

    def add(self, name: str, value: str) -> None:
        """Append a field."""
        self._fields.append(_checked(name, value))
        self._changed()

    def set(self, name: str, value: str) -> None:
        """Replace the first field of that name and drop the others; append if there is none."""
        key, new = _key(name), _checked(name, value)
        kept: list[tuple[str, str]] = []
        replaced = False
        for old in self._fields:
            if _key(old[0]) != key:
                kept.append(old)
            elif not replaced:
                kept.append(new)
                replaced = True
        if not replaced:
            kept.append(new)
        self._fields = kept
        self._changed()

    def prepend(self, name: str, value: str) -> None:
        """Put a field before all others: the next Via, a Route to visit first."""
        self._fields.insert(0, _checked(name, value))
        self._changed()

    def remove(self, name: str) -> None:
        """Drop all fields of that name, if there are any."""
        key = _key(name)
        self._fields = [old for old in self._fields if _key(old[0]) != key]
        self._changed()

    def copy(self) -> Headers:
        return Headers.trusted(self._fields.copy())

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def __contains__(self, name: str) -> bool:
        return _key(name) in self._lookup()

    def __eq__(self, other: object) -> bool:
        return self._fields == other._fields if isinstance(other, Headers) else NotImplemented

    def __repr__(self) -> str:
        return f"Headers({self._fields!r})"

    def repeated(self, names: Collection[str]) -> str | None:
        """One of these canonical names that occurs more than once, or None."""
        index = self._lookup()
        if len(index) == len(self._fields):
            return None
        return next((name for name in names if len(index.get(name, ())) > 1), None)

    def typed(self, name: str, parse: Callable[[Headers], T]) -> T:
        """What `parse` makes of these fields, remembered under `name` until they change."""
        value = self._typed.get(name)
        if value is None:
            value = self._typed[name] = parse(self)
        return cast(T, value)

    def _lookup(self) -> dict[str, list[str]]:
        index = self._index
        if index is None:
            index = self._index = {}
            for name, value in self._fields:
                key = _SPELLING.get(name) or name.lower()
                if key in index:
                    index[key].append(value)
                else:
                    index[key] = [value]
        return index

    def _changed(self) -> None:
        self._index = None
        self._typed.clear()


def _checked(name: str, value: str) -> tuple[str, str]:
    """Refuse what would let our own side be talked into adding a header field of somebody else's."""
    if not is_token(name):
        raise LocalProtocolError(f"not a header name: {ascii(name)}")
    if "\r" in value or "\n" in value:
        raise LocalProtocolError(f"line break in the value of {name}")
    return canonical_name(name), value.strip(" \t")
