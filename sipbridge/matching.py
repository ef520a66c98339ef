"""Which of several tenants a call is for. Pure.

A tenant's `match` names patterns for the dialled user part, the caller, the trunk and headers; all that are given must
hold. Among several that do, the most specific wins: more conditions first, then the longer literal part of the dialled
pattern, then that of the caller's, then who names a trunk, then who names more headers. Two tenants that are equally
specific for one call are an error when they are loaded, not a coin toss per call.

Each pair of patterns (dialled, caller) of a tenant is a `Rule`. Rules that look at the same things of a call (the first
four characters of the number, the trunk) have one `Shape`, and lie in one table by what they want to see there: a call
looks into as many tables as there are shapes, however many tenants there are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

from sipbridge.call_fields import AnyCase, CallFields
from sipbridge.globs import Glob, glob
from sipbridge.tenant_config import Match

Specificity = tuple[int, int, int, bool, int]
"""Conditions, literal part of the dialled pattern, of the caller's, is there a trunk, headers."""

_MOST_PAIRS = 256
"""Of a tenant's patterns. One with more has its callers looked at one by one."""


class _Ends(NamedTuple):
    """How much of a text is looked at: all of it, or its two ends."""

    whole: bool
    first: int
    last: int

    def of(self, text: str) -> str | tuple[str, str]:
        return text if self.whole else (text[: self.first], text[len(text) - self.last :] if self.last else "")

    def of_glob(self, pattern: Glob) -> str | tuple[str, str]:
        """What texts that fit show there; not more may be looked at than the pattern says."""
        if self.whole:
            return pattern.text
        last = pattern.suffix[len(pattern.suffix) - self.last :] if self.last else ""
        return pattern.prefix[: self.first], last

    def meet(self, other: _Ends) -> _Ends:
        """What both look at."""
        if self.whole and other.whole:
            return self
        if self.whole or other.whole:
            return other if self.whole else self
        return _Ends(False, min(self.first, other.first), min(self.last, other.last))


_NOTHING = _Ends(False, 0, 0)


def _ends(pattern: Glob | None) -> _Ends:
    if pattern is None:
        return _NOTHING
    return _Ends(True, 0, 0) if pattern.exact else _Ends(False, len(pattern.prefix), len(pattern.suffix))


class Shape(NamedTuple):
    """What rules of one kind look at."""

    to: _Ends
    caller: _Ends
    trunk: bool
    headers: tuple[str, ...]

    def of(self, fields: CallFields, headers: AnyCase) -> object:
        """What a call shows there."""
        return (
            self.to.of(fields.to),
            self.caller.of(fields.caller),
            fields.trunk if self.trunk else None,
            tuple(headers.get(name) for name in self.headers),
        )

    def of_rule(self, rule: Rule) -> object:
        """What a call has to show there for the rule to hold."""
        return (
            self.to.of_glob(rule.to),
            self.caller.of_glob(rule.caller) if rule.caller is not None else ("", ""),
            rule.trunk if self.trunk else None,
            tuple(rule.headers[name] for name in self.headers),
        )

    def meet(self, other: Shape) -> Shape:
        common = tuple(name for name in self.headers if name in other.headers)
        return Shape(self.to.meet(other.to), self.caller.meet(other.caller), self.trunk and other.trunk, common)


@dataclass(frozen=True, slots=True, eq=False)
class Rule:
    """One way in which a call may be a tenant's."""

    id: str
    """The tenant's."""
    to: Glob
    caller: Glob | None
    """None: anybody, or (`callers`) one of many."""
    callers: tuple[Glob, ...]
    trunk: str | None
    headers: dict[str, str]
    """Names in lower case."""
    weight: Specificity
    shape: Shape

    def holds(self, fields: CallFields, headers: AnyCase) -> bool:
        return (
            self.to.fits(fields.to)
            and (self.caller is None or self.caller.fits(fields.caller))
            and (not self.callers or any(each.fits(fields.caller) for each in self.callers))
            and (self.trunk is None or self.trunk == fields.trunk)
            and all(headers.get(name) == value for name, value in self.headers.items())
        )

    def ties(self, other: Rule) -> bool:
        """Whether a call may be for both, and nothing says for which."""
        if self.weight != other.weight or self.trunk != other.trunk:
            return False
        common = self.headers.keys() & other.headers.keys()
        if any(self.headers[name] != other.headers[name] for name in common) or not self.to.overlaps(other.to):
            return False
        mine, theirs = self._all_callers, other._all_callers
        return not mine or not theirs or any(one.overlaps(another) for one in mine for another in theirs)

    @property
    def _all_callers(self) -> tuple[Glob, ...]:
        return self.callers if self.caller is None else (self.caller,)


def rules(tenant_id: str, match: Match) -> Iterator[Rule]:
    headers = {name.lower(): value for name, value in match.header.items()}
    names, trunk = tuple(sorted(headers)), match.trunk is not None
    dialled, callers = tuple(map(glob, match.to)), tuple(map(glob, match.caller))
    many = len(dialled) * len(callers) > _MOST_PAIRS
    pairs: Iterable[tuple[Glob, Glob | None]] = product(dialled, (None,) if many or not callers else callers)
    for to, caller in pairs:
        conditions = (to.text != "*") + bool(callers) + trunk + len(headers)
        literal = max((each.weight for each in callers), default=0) if caller is None else caller.weight
        yield Rule(
            tenant_id,
            to,
            caller,
            callers if many else (),
            match.trunk,
            headers,
            (conditions, to.weight, literal, trunk, len(headers)),
            Shape(_ends(to), _ends(caller), trunk, names),
        )


class Index:
    """The rules of all tenants. What is added is not checked: see `ties`."""

    def __init__(self) -> None:
        self._tables: dict[Shape, dict[object, list[Rule]]] = {}
        self._rules: dict[str, tuple[Rule, ...]] = {}

    def add(self, tenant_id: str, match: Match) -> None:
        """In the place of what it was."""
        self.remove(tenant_id)
        self._rules[tenant_id] = tuple(rules(tenant_id, match))
        for rule in self._rules[tenant_id]:
            table = self._tables.setdefault(rule.shape, {})
            table.setdefault(rule.shape.of_rule(rule), []).append(rule)

    def remove(self, tenant_id: str) -> None:
        for rule in self._rules.pop(tenant_id, ()):
            table, key = self._tables[rule.shape], rule.shape.of_rule(rule)
            table[key].remove(rule)
            if not table[key]:
                del table[key]
            if not table:
                del self._tables[rule.shape]

    def best(self, fields: CallFields, *, of: str | None = None) -> Rule | None:
        """The most specific one that holds for a call; of all, or of a tenant's."""
        headers, found = AnyCase(fields.headers), None
        if of is not None:
            holding = (rule for rule in self._rules.get(of, ()) if rule.holds(fields, headers))
            return max(holding, key=lambda rule: rule.weight, default=None)
        for shape, table in self._tables.items():
            for rule in table.get(shape.of(fields, headers), ()):
                if (found is None or rule.weight > found.weight) and rule.holds(fields, headers):
                    found = rule
        return found

    def ties(self) -> Iterator[tuple[Rule, Rule]]:
        """For each tenant that shares a call with another one, equally specific, what of the two does: (its, the
        other's)."""
        classes: dict[Specificity, dict[Shape, list[Rule]]] = {}
        for table in self._tables.values():
            for several in table.values():
                for rule in several:
                    classes.setdefault(rule.weight, {}).setdefault(rule.shape, []).append(rule)
        told: set[str] = set()
        for shapes in classes.values():
            for (one, some), (other, others) in product(shapes.items(), repeat=2):
                for pair in _tied(some, others, one.meet(other), told):
                    told.add(pair[0].id)
                    yield pair


def _tied(some: list[Rule], others: list[Rule], shape: Shape, told: set[str]) -> Iterator[tuple[Rule, Rule]]:
    """Only those can tie that want to see the same where both look."""
    table: dict[object, list[Rule]] = {}
    for rule in others:
        table.setdefault(shape.of_rule(rule), []).append(rule)
    for rule in some:
        near = table.get(shape.of_rule(rule), ())
        if rule.id not in told and (
            tied := next((other for other in near if other.id != rule.id and rule.ties(other)), None)
        ):
            yield rule, tied


def mismatch(match: Match, fields: CallFields) -> str | None:
    """Why `match` does not hold: each condition that does not, in the order in which they count; None where all do."""
    headers, why = AnyCase(fields.headers), []
    if not any(glob(pattern).fits(fields.to) for pattern in match.to):
        why.append(f"to: {fields.to!r} is none of {', '.join(match.to)}")
    if match.caller and not any(glob(pattern).fits(fields.caller) for pattern in match.caller):
        why.append(f"from: {fields.caller!r} is none of {', '.join(match.caller)}")
    if match.trunk is not None and match.trunk != fields.trunk:
        why.append(f"trunk: came by {fields.trunk or 'none'}, not {match.trunk}")
    for name, value in match.header.items():
        if headers.get(name.lower()) != value:
            why.append(f"header {name}: {headers.get(name.lower())!r} is not {value!r}")
    return "; ".join(why) or None


_LESS = (
    "fewer conditions",
    "a shorter literal part of 'to'",
    "a shorter literal part of 'from'",
    "no trunk",
    "fewer headers",
)


def why_less(rule: Rule, best: Rule) -> str:
    """Why the other one was chosen, where both hold."""
    lost = next((word for word, mine, its in zip(_LESS, rule.weight, best.weight, strict=True) if mine < its), "")
    return f"{lost} ({rule.to.text!r} against {best.to.text!r} of {best.id})"
