"""The index of tenants, held against looking at each of them."""

from __future__ import annotations

import fnmatch
import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipbridge.call_fields import CallFields
from sipbridge.globs import glob
from sipbridge.matching import Index, mismatch, rules
from sipbridge.tenant_config import Match

PATTERNS = st.text("ab?*", max_size=5)
TEXTS = st.text("ab", max_size=7)
MATCHES = st.fixed_dictionaries(
    {"to": st.lists(PATTERNS, min_size=1, max_size=3)},
    optional={
        "from": st.lists(PATTERNS, min_size=1, max_size=3),
        "trunk": st.sampled_from(["x", "y"]),
        "header": st.dictionaries(st.sampled_from(["X-A", "x-b"]), st.sampled_from(["1", "2"]), max_size=2),
    },
)
CALLS = st.builds(
    CallFields,
    TEXTS,
    caller=TEXTS,
    trunk=st.sampled_from([None, "x", "y"]),
    headers=st.dictionaries(st.sampled_from(["x-a", "X-B"]), st.sampled_from(["1", "2"])),
)


@given(PATTERNS, TEXTS)
def test_a_glob_fits_what_fnmatch_says(pattern: str, text: str) -> None:
    one = glob(pattern)
    assert one.fits(text) == fnmatch.fnmatchcase(text, pattern)
    if one.fits(text):
        assert text.startswith(one.prefix)
        assert text.endswith(one.suffix)


@given(PATTERNS, PATTERNS, st.lists(TEXTS, max_size=20))
def test_what_fits_two_globs_makes_them_overlap(one: str, other: str, texts: list[str]) -> None:
    if any(fnmatch.fnmatchcase(text, one) and fnmatch.fnmatchcase(text, other) for text in texts):
        assert glob(one).overlaps(glob(other))
    assert glob(one).overlaps(glob(one))


def test_overlap_is_found_in_no_time_whatever_stands_there() -> None:
    began = time.perf_counter()
    assert not glob("*a" * 200 + "b").overlaps(glob("a*" * 200 + "c"))
    assert time.perf_counter() - began < 1


def indexed(matches: list[Match]) -> Index:
    index = Index()
    for number, match in enumerate(matches):
        index.add(str(number), match)
    return index


@given(st.lists(MATCHES.map(Match.model_validate), max_size=6), st.lists(CALLS, min_size=1, max_size=6))
def test_the_index_finds_what_looking_at_all_of_them_does(matches: list[Match], calls: list[CallFields]) -> None:
    index = indexed(matches)
    tied = {rule.id for rule, _ in index.ties()}
    for call in calls:
        fitting = [number for number, match in enumerate(matches) if mismatch(match, call) is None]
        best = index.best(call)
        assert (best is None) == (not fitting)
        if best is not None:
            own = {number: index.best(call, of=str(number)) for number in fitting}
            equal = [number for number, rule in own.items() if rule is not None and rule.weight == best.weight]
            assert int(best.id) in equal
            # Nobody knew whose call it is: that was told beforehand.
            assert len(equal) == 1 or {str(number) for number in equal} <= tied


@given(st.lists(MATCHES.map(Match.model_validate), max_size=8))
def test_ties_are_those_that_comparing_all_pairs_finds(matches: list[Match]) -> None:
    expected = set()
    all_rules = [list(rules(str(number), match)) for number, match in enumerate(matches)]
    for one in all_rules:
        for other in all_rules:
            if one is not other and any(a.ties(b) for a in one for b in other):
                expected.add(one[0].id)
    index = indexed(matches)
    assert {rule.id for rule, _ in index.ties()} == expected
    for number in range(len(matches)):
        index.remove(str(number))
    assert index.best(CallFields("a")) is None
    assert not index._tables


@pytest.mark.parametrize(
    ("one", "other", "winner"),
    [
        ({"to": "a", "from": "b"}, {"to": "a", "trunk": "x"}, "one"),
        ({"to": "a", "from": "*"}, {"to": "a", "trunk": "x"}, "other"),
        ({"to": "a", "trunk": "x"}, {"to": "a", "header": {"X-A": "1"}}, "one"),
        ({"to": "a*", "from": "bb*"}, {"to": "a*", "from": "b*"}, "one"),
        ({"to": "a*", "from": "bb"}, {"to": "aa*", "from": "*"}, "other"),
    ],
)
def test_the_documented_order(one: dict[str, object], other: dict[str, object], winner: str) -> None:
    index = Index()
    index.add("one", Match.model_validate(one))
    index.add("other", Match.model_validate(other))
    best = index.best(
        CallFields(
            "aa" if "*" in str(one["to"]) else "a",
            caller="bb" if "bb" in str(one) else "b",
            trunk="x",
            headers={"x-a": "1"},
        )
    )
    assert best is not None
    assert best.id == winner
    assert not list(index.ties())


def test_many_tenants_are_as_fast_as_few() -> None:
    """By number, by prefix, by the number's end, by caller, by header, all at once; ties are looked for, too."""
    index, matches = Index(), []
    for number in range(2000):
        digits = f"{number:04}"
        matches += [
            {"to": f"+1555{digits}"},
            {"to": f"+1666{digits}*"},
            {"to": f"*9{digits}"},
            {"to": "agent", "from": f"+1777{digits}"},
            {"to": "agent", "header": {"X-Tenant": digits}},
        ]
    for number, match in enumerate(matches):
        index.add(str(number), Match.model_validate(match))
    began = time.process_time()
    assert not list(index.ties())
    assert time.process_time() - began < 3
    random.seed(7)
    began, calls = time.process_time(), 500
    for _ in range(calls):
        digits = f"{random.randrange(2000):04}"
        found = index.best(CallFields("agent", caller="+15550100", headers={"X-Tenant": digits}))
        assert found is not None
        assert found.headers == {"x-tenant": digits}
    assert (time.process_time() - began) / calls < 0.001
