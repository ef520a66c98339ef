"""Where a call was redirected to (RFC 3261 §8.1.3.4, §21.3): pure, a 3xx in, addresses out; nobody follows them."""

from __future__ import annotations

import re
from typing import Final

from sipbridge.errors import SipParseError
from sipbridge.sip.dialog import request_uri
from sipbridge.sip.headers import NameAddr, split_list
from sipbridge.sip.message import Response

MAX_CONTACTS: Final = 8

_q = re.compile(r"0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?")


def redirect_contacts(response: Response) -> tuple[NameAddr, ...]:
    """The first few Contacts of a 3xx that can be called, best first; without header parameters in their URIs, by
    which a redirection could put fields into a request of ours. Malformed ones are left out."""
    if not 300 <= response.status < 400:
        return ()
    found: list[tuple[float, NameAddr]] = []
    for field in response.headers.get_all("Contact"):
        try:
            values = split_list(field)
        except SipParseError:
            continue
        for value in values[: MAX_CONTACTS - len(found)]:
            try:
                address = NameAddr.parse(value)
            except SipParseError:
                continue
            if address.uri.scheme in ("sip", "sips", "tel"):
                found.append((_preference(address), NameAddr(address.display, request_uri(address.uri))))
    found.sort(key=lambda entry: -entry[0])
    return tuple(address for _, address in found)


def _preference(address: NameAddr) -> float:
    value = address.params.get("q") or "1"
    return float(value) if _q.fullmatch(value) else 1.0
