"""What of the files' new contents is put in force."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipbridge.configfile import parse
from sipbridge.matching import Index
from sipbridge.tenant_config import TenantConfig
from sipbridge.tenant_source.intake import Candidate, Intake


def says(tenant: str, to: str) -> Candidate:
    text = f"match:\n  to: {to!r}\nagent: {{provider: offline}}\n"
    return Candidate(tenant, Path(f"{tenant}.yaml"), text, parse(text, TenantConfig, f"{tenant}.yaml"))


def numbers(intake: Intake) -> dict[str, str]:
    return {tenant: match.to[0] for tenant, match in intake._taken.items()}


@pytest.fixture
def intake() -> Intake:
    made = Intake({})
    step = made.step([says("a", "1"), says("b", "2")], {})
    assert [candidate.id for candidate in step.taken] == ["a", "b"]
    return made


def test_what_is_wrong_stays_as_it_was_until_it_is_right(intake: Intake) -> None:
    step = intake.step([], {"a": "a.yaml:1: no"})
    assert step.refused == [("a", "a.yaml:1: no")]
    assert numbers(intake) == {"a": "1", "b": "2"}
    assert intake.step([], {"a": "a.yaml:1: no"}).refused == []  # that was told
    step = intake.step([says("a", "3")], {})
    assert (step.mended, numbers(intake)) == (["a"], {"a": "3", "b": "2"})


def test_back_to_what_is_in_force_is_right_again(intake: Intake) -> None:
    intake.step([], {"a": "no"})
    step = intake.step([], {}, back=["a"])
    assert (step.mended, step.taken, intake.refused) == (["a"], [], {})


def test_who_would_share_a_call_stays_as_he_was_and_both_lines_are_named(intake: Intake) -> None:
    step = intake.step([says("b", "1")], {})
    assert step.taken == []
    assert step.refused == [
        (
            "b",
            "b.yaml:2: match.to: '1' and '1' of tenant a overlap and are equally specific, so a call may be for either",
        )
    ]
    assert numbers(intake) == {"a": "1", "b": "2"}


def test_a_tie_is_over_when_the_other_one_has_moved(intake: Intake) -> None:
    intake.step([says("b", "1")], {})
    step = intake.step([says("a", "9")], {})
    assert numbers(intake) == {"a": "9", "b": "1"}
    assert ([each.id for each in step.taken], step.mended) == (["b", "a"], ["b"])


def test_two_may_swap_their_numbers_at_once(intake: Intake) -> None:
    step = intake.step([says("a", "2"), says("b", "1")], {})
    assert numbers(intake) == {"a": "2", "b": "1"}
    assert step.refused == []


def test_of_three_that_move_on_none_does_where_the_first_cannot(intake: Intake) -> None:
    """`b` would go where `a` is, which wants to go where `c` stays: each is put back in turn."""
    intake.step([says("c", "3")], {})
    step = intake.step([says("a", "3"), says("b", "1")], {})
    assert step.taken == []
    assert sorted(tenant for tenant, _ in step.refused) == ["a", "b"]
    assert numbers(intake) == {"a": "1", "b": "2", "c": "3"}


def test_a_file_that_is_gone_makes_room(intake: Intake) -> None:
    step = intake.step([says("b", "1")], {}, gone=["a"])
    assert step.dropped == ["a"]
    assert numbers(intake) == {"b": "1"}
    assert intake.step([], {}, gone=["a"]).dropped == []


TENANTS = st.sampled_from(["a", "b", "c", "d"])
STEPS = st.lists(
    st.tuples(
        st.dictionaries(TENANTS, st.sampled_from(["1", "2", "3", "1*", "*1"]), max_size=4),
        st.sets(TENANTS, max_size=2),
        st.sets(TENANTS, max_size=2),
    ),
    max_size=8,
)


@given(STEPS)
def test_whatever_comes_no_call_is_two_tenants(steps: list[tuple[dict[str, str], set[str], set[str]]]) -> None:
    intake = Intake({})
    for changed, broken, gone in steps:
        candidates = [says(tenant, to) for tenant, to in changed.items() if tenant not in broken | gone]
        step = intake.step(candidates, dict.fromkeys(broken - gone, "broken"), gone)
        index = Index()
        for tenant, match in intake._taken.items():
            index.add(tenant, match)
        assert not list(index.ties())
        assert not gone & intake._taken.keys()
        there = {each.id for each in candidates}
        assert there <= {each.id for each in step.taken} | intake.refused.keys()
