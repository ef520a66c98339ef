"""Which of several tenants a call is for. Pure.

A tenant's `match` names patterns for the dialled user part, the caller, the trunk and headers; all that are given must
hold. Among several that do, the most specific wins: more conditions first, then the longer literal part of the pattern.
Two tenants that are equally specific for one number are an error when they are loaded, not a coin toss per call.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from typing import Any

from sipbridge.call_fields import AnyCase, CallFields
from sipbridge.errors import ConfigError
from sipbridge.tenant_config import Match
from sipbridge.tenants import Tenant

Specificity = tuple[int, int]


def mismatch(match: Match, fields: CallFields) -> str | None:
    """Why `match` does not hold, or None."""
    headers = AnyCase(fields.headers)
    if not any(_fits(fields.to, pattern) for pattern in match.to):
        return f"to: {fields.to!r} is none of {', '.join(match.to)}"
    if match.caller and not any(_fits(fields.caller, pattern) for pattern in match.caller):
        return f"from: {fields.caller!r} is none of {', '.join(match.caller)}"
    if match.trunk is not None and match.trunk != fields.trunk:
        return f"trunk: came by {fields.trunk or 'none'}, not {match.trunk}"
    for name, value in match.header.items():
        if headers.get(name.lower()) != value:
            return f"header {name}: {headers.get(name.lower())!r} is not {value!r}"
    return None


def specificity(match: Match, fields: CallFields) -> Specificity | None:
    if mismatch(match, fields) is not None:
        return None
    return max(_weight(match, pattern) for pattern in match.to if _fits(fields.to, pattern))


def _weight(match: Match, pattern: str) -> Specificity:
    conditions = (pattern != "*") + bool(match.caller) + (match.trunk is not None) + len(match.header)
    literal = len(pattern) - pattern.count("*") - pattern.count("?") + (0 if _has_wildcard(pattern) else 1000)
    return conditions, literal


def _has_wildcard(pattern: str) -> bool:
    return any(character in pattern for character in "*?[")


def _fits(value: str, pattern: str) -> bool:
    return fnmatch.fnmatchcase(value, pattern)


def refuse_ties(tenants: Sequence[Tenant]) -> None:
    """Equally specific patterns that some number satisfies both of, under conditions that can hold together."""
    for position, one in enumerate(tenants):
        for other in tenants[position + 1 :]:
            if _conditions(one) != _conditions(other):
                continue
            for a in one.config.match.to:
                for b in other.config.match.to:
                    same_weight = _weight(one.config.match, a) == _weight(other.config.match, b)
                    if same_weight and _overlap(a, b):
                        raise ConfigError(
                            f"tenants {one.id} and {other.id}: match.to {a!r} and {b!r} overlap and are equally"
                            " specific, so a call may be for either"
                        )


def _conditions(tenant: Tenant) -> tuple[Any, ...]:
    match = tenant.config.match
    return match.caller, match.trunk, tuple(sorted(match.header.items()))


def _overlap(a: str, b: str) -> bool:
    """Whether some text fits both globs. Character classes count as '?': too careful rather than too lax."""
    if not a or not b:
        return not (a or b).strip("*")
    if a[0] == "*":
        return _overlap(a[1:], b) or _overlap(a, b[1:])
    if b[0] == "*":
        return _overlap(b, a)
    return (a[0] == b[0] or "?" in (a[0], b[0])) and _overlap(a[1:], b[1:])
