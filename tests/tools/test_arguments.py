"""What a tool takes, as it is shown to a model, held against what a model says, and kept."""

from __future__ import annotations

import json
from time import perf_counter

import pytest
from pydantic import BaseModel

from sipbridge.tools.arguments import MAX_ARGUMENT_CHARACTERS, ArgumentError, checked, fault_of, schema_of, shown


class Place(BaseModel):
    city: str


class Trip(BaseModel):
    start: Place
    end: Place | None = None


class Branch(BaseModel):
    branches: list[Branch] = []


SCHEMA = {
    "type": "object",
    "properties": {
        "number": {"type": "integer"},
        "pin": {"type": "string", "minLength": 4, "writeOnly": True},
        "who": {"type": "object", "properties": {"password": {"type": "string", "format": "password"}}},
        "all": {"type": "array", "items": {"type": "string", "writeOnly": True}},
    },
    "required": ["number"],
}


def test_definitions_are_put_where_they_are_meant() -> None:
    schema = schema_of(Trip)
    assert "$defs" not in schema
    assert schema["properties"]["start"]["properties"]["city"]["type"] == "string"
    assert "$ref" not in json.dumps(schema)
    assert "$defs" in schema_of(Branch)  # it contains itself


def test_a_schema_s_arguments() -> None:
    assert checked(SCHEMA, '{"number": 7, "more": true}') == {"number": 7, "more": True}
    assert checked(Trip, '{"start": {"city": "Bern"}}') == Trip(start=Place(city="Bern"))
    assert checked({"type": "object"}, "") == {}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"number": "7"}', "number: '7' is not of type 'integer'"),
        ("{}", "'number' is a required property"),
        ("[7]", "no JSON object"),
        ('{"number": NaN}', "NaN is no number"),
        ("{", "no JSON"),
        ("[" * 30_000, "no JSON"),
        ('{"number": 7, "pin": "123"}', "pin: does not fit"),
        ('"' + "x" * MAX_ARGUMENT_CHARACTERS + '"', "longer than 32000 characters"),
    ],
)
def test_what_does_not_fit(text: str, problem: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        checked(SCHEMA, text)
    assert problem in str(caught.value)


def test_no_reference_is_followed_out_of_a_schema() -> None:
    for reference in ("http://127.0.0.1:9/schema.json", "file:///etc/passwd", "#/nowhere"):
        with pytest.raises(ArgumentError, match="leads nowhere"):
            checked({"type": "object", "properties": {"a": {"$ref": reference}}}, '{"a": 1}')
    assert fault_of({"type": "strng"}) is not None
    assert fault_of({"type": "array"}) is not None
    assert fault_of(SCHEMA) is None


def test_what_is_secret_is_not_shown() -> None:
    given = {"number": 7, "pin": "4711", "who": {"password": "sesame", "name": "Ann"}, "all": ["a", "b"]}
    assert json.loads(shown(SCHEMA, json.dumps(given))) == {
        "number": 7,
        "pin": "***",
        "who": {"password": "***", "name": "Ann"},
        "all": ["***", "***"],
    }
    assert shown(SCHEMA, '{"pin": "4711"') == "***"
    assert shown({}, '{"pin": "4711"') == '{"pin": "4711"'
    assert len(shown({}, json.dumps({"x": "y" * 10_000}))) < 2_100


@pytest.mark.parametrize("number", ["1e999", "-1e999", "9" * 4000, "9" * 5000])
def test_a_number_that_nothing_can_hold_does_not_fit(number: str) -> None:
    cents = {"type": "object", "properties": {"price": {"type": "number", "multipleOf": 0.01}}}
    with pytest.raises(ArgumentError):
        checked(cents, f'{{"price": {number}}}')
    assert len(shown(cents, f'{{"price": {number}}}')) < 2100


def test_half_a_character_does_not_fit() -> None:
    text = {"type": "object", "properties": {"text": {"type": "string"}}}
    for half in (r'{"text": "\ud83d"}', r'{"text": "\uDE00 \ud83d"}', '{"text": "\ud83d"}'):
        with pytest.raises(ArgumentError):
            checked(text, half)
    assert checked(text, r'{"text": "\ud83d\ude00"}') == {"text": "\U0001f600"}


def test_what_is_nested_deeply_is_kept_as_it_came() -> None:
    for depth in (300, 600, 3000):
        text = '{"who": ' * depth + "1" + "}" * depth
        assert shown({"type": "object", "properties": {"who": {"properties": {}}}}, text)


def test_of_thousands_of_mistakes_a_few_are_looked_at() -> None:
    numbers = {"type": "object", "properties": {"all": {"type": "array", "items": {"type": "string"}}}}
    started = perf_counter()
    with pytest.raises(ArgumentError, match="not of type 'string'"):
        checked(numbers, json.dumps({"all": [1] * 10_000}))
    assert perf_counter() - started < 0.05


def test_a_pattern_takes_no_longer_than_the_text_is_long() -> None:
    words = {"type": "object", "properties": {"text": {"type": "string", "pattern": r"^(\w+\s?)*$"}}}
    started = perf_counter()
    with pytest.raises(ArgumentError, match="text: 'a+!' does not match"):
        checked(words, json.dumps({"text": "a" * 500 + "!"}))
    assert perf_counter() - started < 0.5
    assert checked(words, '{"text": "two words"}')


def test_a_pattern_that_looks_ahead_holds_as_well() -> None:
    other = {"type": "object", "properties": {"text": {"type": "string", "pattern": "^(?!desk).+"}}}
    assert checked(other, '{"text": "sales"}')
    with pytest.raises(ArgumentError):
        checked(other, '{"text": "desk"}')
