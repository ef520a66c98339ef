"""Words as a listener would compare them, and which answer is a no."""

from __future__ import annotations

import pytest

from sipbridge.wording import declines, plain_words, says


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ()),
        ("  ...!?", ()),
        ("Good-bye, then!", ("good", "bye", "then")),
        ("I\u2019ll CONNECT you_now", ("i'll", "connect", "you", "now")),
        ("Straße STRASSE", ("strasse", "strasse")),
        ("cafe\u0301 CAFÉ", ("café", "café")),
        ("ｈｅｌｌｏ", ("hello",)),
        ("good\u00adbye zero\u200bwidth", ("goodbye", "zerowidth")),
        ("好的，再见", ("好", "的", "再", "见")),
        ("press 1 now", ("press", "1", "now")),
    ],
)
def test_words(text: str, words: tuple[str, ...]) -> None:
    assert plain_words(text) == words


@pytest.mark.parametrize(
    ("text", "phrase", "found"),
    [
        ("Thank you. Good bye!", "good bye", True),
        ("Thank you, goodbye", "good bye", False),
        ("a goodbyes party", "goodbye", False),
        ("bye", "good bye", False),
        ("好的再见", "再见", True),
        ("anything", "", False),
        ("bye bye bye", "bye bye", True),
    ],
)
def test_phrases_are_whole_words(text: str, phrase: str, found: bool) -> None:
    assert says(plain_words(text), plain_words(phrase)) is found


@pytest.mark.parametrize(
    "text",
    [
        "No.",
        "No, thank you.",
        "Um, no.",
        "nope",
        "Oh, please don't.",
        "I'd rather not",
        "Nein, danke!",
        "Das möchte ich nicht",
        "Non merci",
        "No, gracias",
        "Não",
        "不用了",
    ],
)
def test_a_no(text: str) -> None:
    assert declines(text)


@pytest.mark.parametrize(
    "text",
    [
        "Yes please",
        "No problem, go ahead",
        "Ja gerne",
        "Why not",
        "",
        "Which desk is that, the one that has no queue?",
        "Oui, volontiers",
        "Yes, no, well, fine.",
        "Put me through",
        "nonsense",
        "I don't know",
        "Das weiß ich nicht",
    ],
)
def test_no_no(text: str) -> None:
    assert not declines(text)
