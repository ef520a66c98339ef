"""A number that is entered: when it is complete, by its digits, its end, or because no key comes any more."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from sipbridge.conversation.entry import Entered, Entry
from sipbridge.tenant_file.digits import DigitsField

CARD = DigitsField(digits=16, secure=True, tool="pay")
PIN = DigitsField(min=4, max=6)
OPEN = DigitsField(terminator=None, clear=None)


def entered(wanted: DigitsField, keys: str) -> tuple[Entered | None, str]:
    """How it is over after these keys, of which all are needed, and what was entered."""
    entry = Entry(wanted)
    for key in keys[:-1]:
        assert entry.press(key) is None
    return entry.press(keys[-1]), entry.digits


@pytest.mark.parametrize(
    ("wanted", "keys", "how", "digits"),
    [
        (CARD, "5" * 16, Entered.WHOLE, "5" * 16),
        (CARD, "5" * 15, None, "5" * 15),
        (CARD, "555#", Entered.SHORT, "555"),
        (PIN, "1234#", Entered.WHOLE, "1234"),
        (PIN, "123456", Entered.WHOLE, "123456"),
        (PIN, "12*3456#", Entered.WHOLE, "3456"),
        (PIN, "12**", Entered.AGAIN, ""),
        (PIN, "*", Entered.AGAIN, ""),
        (PIN, "##A1B2C3D4#", Entered.WHOLE, "1234"),
        (OPEN, "1*2#3", None, "123"),
        (OPEN, "7" * 64, Entered.WHOLE, "7" * 64),
        (DigitsField(digits=4, terminator="*", clear="#"), "12#3456", Entered.WHOLE, "3456"),
    ],
)
def test_keys(wanted: DigitsField, keys: str, how: Entered | None, digits: str) -> None:
    assert entered(wanted, keys) == (how, digits)


@pytest.mark.parametrize(
    ("wanted", "keys", "how"),
    [(CARD, "5" * 15, Entered.LATE), (PIN, "1234", Entered.WHOLE), (PIN, "123", Entered.LATE)],
)
def test_no_key_comes_any_more(wanted: DigitsField, keys: str, how: Entered) -> None:
    entry = Entry(wanted)
    for key in keys:
        assert entry.press(key) is None
    assert entry.wait_no_longer() is how


@pytest.mark.parametrize(
    ("field", "said"),
    [
        ({"digits": 4, "min": 2}, "either digits or min and max"),
        ({"min": 5, "max": 4}, "min is more than max"),
        ({"terminator": "*"}, "terminator and clear are both"),
        ({"secure": True}, "needs tool"),
        ({"tool": "pay"}, "tool is for secure"),
        ({"digits": 0}, "greater than or equal to 1"),
        ({"digits": 65}, "less than or equal to 64"),
        ({"timeout_seconds": 0}, "greater than 0"),
    ],
)
def test_fields_that_make_no_sense(field: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        DigitsField.model_validate(field)
