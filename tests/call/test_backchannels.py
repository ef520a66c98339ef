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


def test_a_tenant_s_own_list_is_taken_instead() -> None:
    own = Backchannels(("Jo mei", "!!"))
    assert own.match("jo, mei!")
    assert not own.match("okay")
    assert not own.match("jo")
    assert not Backchannels(()).match("okay")
    assert Backchannels(()).match("")
