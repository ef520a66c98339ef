"""Small words that take no turn."""

from __future__ import annotations

import pytest

from sipbridge.backchannels import Backchannels


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ... ",
        "Mm-hm.",
        "mhm",
        "Uh-huh!",
        "Yeah, yeah, okay.",
        "Ja, genau.",
        "Ach so!",
        "D’accord",
        "C'est ça.",
        "Sí, sí.",
        "Ajá",
    ],
)
def test_these_mean_go_on(text: str) -> None:
    assert Backchannels().match(text)


@pytest.mark.parametrize(
    "text",
    [
        "No.",
        "Stop",
        "Yes, but that is wrong",
        "ja ich möchte buchen",
        "okay " * 7,
        "Nein",
        "attendez",
        "right now",
        "..3",
    ],
)
def test_these_say_something(text: str) -> None:
    assert not Backchannels().match(text)


@pytest.mark.parametrize(
    ("so_far", "may"),
    [
        ("", True),
        ("M", True),
        ("al", True),
        ("all", True),
        ("all ri", True),
        ("all ro", False),
        ("uh huh, ok", True),
        ("uh huh, ok, w", False),
        ("St", True),
        ("Stop", False),
        ("D'acc", True),
    ],
)
def test_what_may_still_become_one(so_far: str, may: bool) -> None:
    assert Backchannels().may_become(so_far) is may


def test_a_tenant_s_own_list_is_taken_instead() -> None:
    own = Backchannels(("Jo mei", "!!"))
    assert own.match("jo, mei!")
    assert not own.match("okay")
    assert not own.match("jo")
    assert not Backchannels(()).match("okay")
    assert Backchannels(()).match("")
