"""Text on its way to a voice, and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipbridge.providers.speech.words import Sentences, Spoken


def pieces_of(*deltas: str) -> list[str]:
    sentences = Sentences()
    pieces = [piece for delta in deltas for piece in sentences.feed(delta)]
    return [*pieces, sentences.flush()]


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("Hotel Aster. How can I help?", ["Hotel Aster. ", "How can I help?"]),
        ("Dr. Aster is in. She waits.", ["Dr. Aster is in. ", "She waits."]),
        ("It costs 3.50 euros, or so. Fine.", ["It costs 3.50 euros, or so. ", "Fine."]),
        ("Well, good morning to you, madam, and welcome", ["Well, good morning to you, ", "madam, and welcome"]),
        ("First line\nsecond line\n\nthird", ["First line\nsecond line\n\n", "third"]),
        ("您好，这里是阿斯特酒店。请问有什么可以帮您？谢谢", ["您好，这里是阿斯特酒店。", "请问有什么可以帮您？谢谢"]),
    ],
)
def test_pieces_end_where_a_speaker_would_pause(text: str, pieces: list[str]) -> None:
    assert [piece for piece in pieces_of(text) if piece] == pieces


def test_a_text_without_a_stop_is_cut_between_words() -> None:
    pieces = pieces_of("word " * 200)
    assert all(piece.endswith("word ") for piece in pieces if piece)
    assert max(map(len, pieces)) <= 240


@given(st.lists(st.text(alphabet="ab .,!?\n。—1"), max_size=30))
def test_nothing_is_lost_or_added(deltas: list[str]) -> None:
    assert "".join(pieces_of(*deltas)) == "".join(deltas)


def spoken(text: str, *words: tuple[str, int, int]) -> Spoken:
    made = Spoken()
    made.add(text)
    made.time(words)
    return made


HOTEL = spoken("Hotel Aster, how can I help?", ("Hotel", 0, 400), ("Aster,", 400, 900), ("how", 1000, 1200))


@pytest.mark.parametrize(
    ("played_ms", "heard"),
    [
        (0, ""),
        (150, ""),
        (250, "Hotel"),
        (700, "Hotel Aster,"),
        (950, "Hotel Aster,"),
        (1199, "Hotel Aster, how"),
        (1500, "Hotel Aster, how can"),
    ],
)
def test_words_that_were_heard(played_ms: int, heard: str) -> None:
    assert HOTEL.heard(played_ms, None) == heard


def test_all_of_it_was_heard() -> None:
    assert HOTEL.heard(2485, 2500) == "Hotel Aster, how can I help?"
    assert spoken("Yes. ").heard(500, 500) == "Yes. "


def test_without_times_it_goes_by_length() -> None:
    assert spoken("one two three four").heard(500, 1000) == "one two"
    assert spoken("one two three four").heard(500, None) == "one two"
    assert spoken("one two three four").heard(0, None) == ""


def test_words_that_are_read_out_otherwise_than_written_stand_for_those() -> None:
    made = spoken("Room 12 is free.", ("Room", 0, 300), ("twelve", 300, 700), ("is", 700, 900), ("free", 900, 1200))
    assert made.heard(600, None) == "Room 12"
    assert made.heard(1100, None) == "Room 12 is free."


@given(
    st.text(max_size=60),
    st.lists(st.tuples(st.text(max_size=5), st.integers(0, 5000), st.integers(0, 5000)), max_size=20),
    st.integers(0, 6000),
    st.one_of(st.none(), st.integers(0, 6000)),
)
def test_what_was_heard_is_always_a_beginning(
    text: str, words: list[tuple[str, int, int]], played_ms: int, whole_ms: int | None
) -> None:
    made = spoken(text, *words)
    assert text.startswith(made.heard(played_ms, whole_ms))
