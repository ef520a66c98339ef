"""Mutations that know a little of the grammar: lines, parameters, numbers, quotes and the target's own words, besides
octets. Everything is drawn from the `Random` that is passed in."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from random import Random
from typing import TypeAlias

Mutation: TypeAlias = Callable[[Random, bytes, "Material"], bytes]

MAX_SIZE = 65_507
"""The largest UDP payload: what a stranger can send at once."""

_NUMBER = re.compile(rb"[0-9]+")
_NUMBERS = [b"0", b"-1", b"+1", b"00", b"1e9", b"0x1", "٣".encode(), b"255", b"256", b"65535", b"65536"]
_NUMBERS += [b"%d" % (2**power + step) for power in (16, 31, 32, 63, 64, 65) for step in (-1, 0)] + [b"9" * 400]
_OCTETS = [
    b"\r",
    b"\n",
    b"\r\n",
    b"\r\n ",
    b"\r\n\r\n",
    b"\0",
    b" ",
    b"\t",
    b":",
    b",",
    b";",
    b"=",
    b'"',
    b"<",
    b">",
    b"\\",
]
_OCTETS += [
    b"%",
    b"%00",
    b"%25",
    b"@",
    b"?",
    b"&",
    b"[",
    b"]",
    b"/",
    b"*",
    b"\xff",
    b"\xc3\xa4",
    b"\xed\xa0\x80",
    b"\x7f",
]
_SEPARATORS = re.compile(rb"(\r\n|[;,= ])")


class Material:
    """What mutations are made of: the corpus, and words that mean something to the target."""

    def __init__(self, corpus: Sequence[bytes], words: Sequence[bytes] = ()) -> None:
        self.corpus = list(corpus)
        self.words = [*_OCTETS, *words]


def mutate(random: Random, material: Material) -> bytes:
    """One input: a piece of the corpus with a few mutations, seldom with none."""
    data = random.choice(material.corpus)
    for _ in range(random.choice((0, 1, 1, 1, 2, 2, 3, 5, 8))):
        data = random.choice(_MUTATIONS)(random, data, material)[:MAX_SIZE]
    return data


def _span(random: Random, data: bytes, longest: int = 32) -> tuple[int, int]:
    start = random.randint(0, len(data))
    return start, min(len(data), start + random.randint(0, longest))


def _flip(random: Random, data: bytes, _: Material) -> bytes:
    if not data:
        return data
    at = random.randrange(len(data))
    return data[:at] + bytes((data[at] ^ 1 << random.randrange(8),)) + data[at + 1 :]


def _delete(random: Random, data: bytes, _: Material) -> bytes:
    start, end = _span(random, data)
    return data[:start] + data[end:]


def _cut(random: Random, data: bytes, _: Material) -> bytes:
    return data[: random.randint(0, len(data))]


def _insert_word(random: Random, data: bytes, material: Material) -> bytes:
    at = random.randint(0, len(data))
    return data[:at] + random.choice(material.words) + data[at:]


def _replace_by_word(random: Random, data: bytes, material: Material) -> bytes:
    start, end = _span(random, data, 8)
    return data[:start] + random.choice(material.words) + data[end:]


def _insert_noise(random: Random, data: bytes, _: Material) -> bytes:
    at = random.randint(0, len(data))
    return data[:at] + random.randbytes(random.randint(1, 16)) + data[at:]


def _repeat(random: Random, data: bytes, _: Material) -> bytes:
    """A piece over and over: where time or memory grows faster than the input, it shows."""
    start, end = _span(random, data)
    return data[:end] + data[start:end] * random.choice((1, 2, 30, 1000, 20_000)) + data[end:]


def _splice(random: Random, data: bytes, material: Material) -> bytes:
    other = random.choice(material.corpus)
    return data[: random.randint(0, len(data))] + other[random.randint(0, len(other)) :]


def _number(random: Random, data: bytes, _: Material) -> bytes:
    found = list(_NUMBER.finditer(data))
    if not found:
        return data
    match = random.choice(found)
    return data[: match.start()] + random.choice(_NUMBERS) + data[match.end() :]


def _lines(random: Random, data: bytes, material: Material) -> bytes:
    """Delete, double, move, fold or borrow a line."""
    lines = data.split(b"\r\n")
    at = random.randrange(len(lines))
    match random.randrange(5):
        case 0:
            del lines[at]
        case 1:
            lines[at:at] = [lines[at]] * random.choice((1, 1, 2, 600))
        case 2:
            lines.insert(random.randint(0, len(lines)), lines.pop(at))
        case 3:
            lines[at] = lines[at].replace(b" ", b"\r\n ", 1)
        case _:
            other = random.choice(material.corpus).split(b"\r\n")
            lines.insert(at, random.choice(other))
    return b"\r\n".join(lines)


def _parts(random: Random, data: bytes, _: Material) -> bytes:
    """Delete, double or swap what stands between separators: parameters, values, words."""
    parts = _SEPARATORS.split(data)
    at, other = random.randrange(len(parts)), random.randrange(len(parts))
    match random.randrange(3):
        case 0:
            del parts[at]
        case 1:
            parts[at:at] = parts[at : at + 2]
        case _:
            parts[at], parts[other] = parts[other], parts[at]
    return b"".join(parts)


def _case(random: Random, data: bytes, _: Material) -> bytes:
    start, end = _span(random, data, 64)
    return data[:start] + data[start:end].swapcase() + data[end:]


_MUTATIONS: tuple[Mutation, ...] = (
    _flip,
    _delete,
    _cut,
    _insert_word,
    _insert_word,
    _replace_by_word,
    _insert_noise,
    _repeat,
    _splice,
    _number,
    _number,
    _lines,
    _lines,
    _parts,
    _parts,
    _case,
)
