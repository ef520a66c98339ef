"""What a backend is asked about a call, and for which other calls its answer holds. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from sipbridge.call_fields import CallFields

_MOST_HEADERS = 20
_MOST_TEXT = 500
"""Characters of one value: a stranger writes them, and a URL is to hold them."""


@dataclass(frozen=True)
class Question:
    to: str
    caller: str = ""
    trunk: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    """The call's X- header fields: name in small letters, value; in the names' order."""
    tenant: str = ""
    """In place of all that: the tenant's id, for a call that we make."""

    @classmethod
    def of(cls, fields: CallFields) -> Question:
        extra = sorted(
            (name.lower()[:_MOST_TEXT], value[:_MOST_TEXT])
            for name, value in fields.headers.items()
            if name.lower().startswith("x-")
        )
        return cls(
            fields.to[:_MOST_TEXT],
            fields.caller[:_MOST_TEXT],
            (fields.trunk or "")[:_MOST_TEXT],
            tuple(extra[:_MOST_HEADERS]),
        )

    @cached_property
    def key(self) -> str:
        """The same of two calls that are asked about in the same words."""
        return json.dumps([self.to, self.caller, self.trunk, self.headers, self.tenant], ensure_ascii=False)

    @cached_property
    def number(self) -> str:
        """The same of all calls to one number over one trunk, whoever calls."""
        return json.dumps([self.to, self.trunk, self.tenant], ensure_ascii=False)

    def parameters(self, call_id: str, node: str) -> list[tuple[str, str]]:
        """Of the request's query."""
        if self.tenant:
            return [("tenant", self.tenant), ("node", node)]
        return [
            ("to", self.to),
            ("from", self.caller),
            ("trunk", self.trunk),
            ("call_id", call_id[:_MOST_TEXT]),
            ("node", node),
            *((f"header.{name}", value) for name, value in self.headers),
        ]

    @property
    def fields(self) -> CallFields:
        """What a tenant's `match` is held against."""
        headers: Mapping[str, str] = dict(self.headers)
        return CallFields(to=self.to, caller=self.caller, trunk=self.trunk or None, headers=headers)
