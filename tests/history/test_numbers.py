"""Whose number is whose."""

from __future__ import annotations

import pytest

from sipbridge.history.numbers import forms_of, same_number

ONE = [
    "+15550100",
    "+1 555-0100",
    " +1 (555) 01.00",
    "0015550100",
    "15550100",
    "tel:+1-555-0100",
    "TEL:+15550100",
    "sip:+15550100@pbx.example.com",
    "sip:%2B15550100@192.0.2.1:5061;transport=tcp",
    "<sips:+15550100;ext=7@pbx.example.com;user=phone>",
    '"Alice, 2nd" <sip:+15550100@pbx.example.com>;tag=4',
    "tel:15550100;phone-context=example.com",
]
OTHERS = ["+15550101", "5550100", "+115550100", "alice", "", "tel:", "sip:pbx.example.com", "anonymous", "+", "00"]


def test_the_forms_of_one_number() -> None:
    assert {same_number(text) for text in ONE} == {"15550100"}
    for text in ONE:
        assert forms_of(text, [*OTHERS, *ONE]) == ONE


@pytest.mark.parametrize("text", OTHERS)
def test_others_are_others(text: str) -> None:
    assert same_number(text) != "15550100"
    assert forms_of(text, ONE) == []


def test_extensions_and_names() -> None:
    assert same_number("sip:Alice@example.com") == same_number("alice") == "alice"
    assert same_number("0042") == "0042" != same_number("42") != same_number("+42")
    assert forms_of("", ["", " ", "sip:example.com"]) == []


def test_nothing_that_strangers_write_is_too_much() -> None:
    for text in ("sip:" + "a" * 100_000, "<" * 10_000 + "sip:", "sip:%zz@", "tel:" + "1" * 5000, "\0\udcff"):
        same_number(text)
