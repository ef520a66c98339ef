"""Keys: together where they come together, once where two ways tell of one press."""

from __future__ import annotations

import asyncio

from sipbridge.conversation.keypad import Keypad
from tests import virtual


def pressed(*presses: tuple[float, str, str]) -> list[str]:
    """What is sent, of keys pressed at these times."""

    async def scenario() -> list[str]:
        sent: list[str] = []
        loop = asyncio.get_running_loop()
        keypad = Keypad(sent.append)
        began = loop.time()
        for at, digit, way in presses:
            await virtual.pass_time(began + at - loop.time())
            keypad.press(digit, way, loop.time())
        await virtual.pass_time(5)
        return sent

    return virtual.run(scenario())


def test_quick_keys_belong_together() -> None:
    assert pressed((0, "1", "rtp"), (0.9, "2", "rtp"), (2.5, "3", "rtp")) == ["12", "3"]


def test_one_press_told_two_ways_is_one() -> None:
    assert pressed((0, "1", "rtp"), (0.1, "1", "info"), (0.8, "1", "rtp"), (0.9, "1", "info")) == ["11"]
    assert pressed((0, "1", "rtp"), (0.1, "1", "rtp")) == ["11"], "the same way it is two"
    assert pressed((0, "1", "rtp"), (0.1, "2", "info")) == ["12"]


def test_who_never_stops_is_cut() -> None:
    (sent,) = pressed(*((number / 10, "7", "rtp") for number in range(200)))
    assert sent == "7" * 64


def test_a_closed_keypad_sends_nothing() -> None:
    async def scenario() -> list[str]:
        sent: list[str] = []
        keypad = Keypad(sent.append)
        keypad.press("1", "rtp", 0)
        keypad.close()
        await virtual.pass_time(5)
        return sent

    assert virtual.run(scenario()) == []


def test_who_takes_the_keys_has_them_at_once_and_first_those_that_nobody_knows_of() -> None:
    async def scenario() -> None:
        sent: list[str] = []
        taken: list[str] = []
        keypad = Keypad(sent.append)
        assert keypad.press("1", "rtp", 0)
        keypad.take(taken.append)
        assert taken == ["1"]
        assert not keypad.press("2", "rtp", 0.1)
        assert not keypad.press("2", "info", 0.2)
        assert taken == ["1", "2"]
        keypad.give_back(sent.append)
        keypad.press("3", "rtp", 1)
        assert taken == ["1", "2", "3"], "it was not his to give back"
        keypad.give_back(taken.append)
        assert keypad.press("4", "rtp", 2)
        await virtual.pass_time(5)
        assert sent == ["4"]

    virtual.run(scenario())


def test_where_nobody_is_to_be_told_a_key_counts_all_the_same() -> None:
    async def scenario() -> None:
        keypad = Keypad(None)
        assert keypad.press("1", "rtp", 0)
        taken: list[str] = []
        keypad.take(taken.append)
        assert taken == []
        await virtual.pass_time(5)

    virtual.run(scenario())
