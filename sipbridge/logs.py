"""Logging set-up: structlog to standard error, one line per event, for people or as JSON."""

from __future__ import annotations

import logging
import re
import sys
from collections import Counter
from collections.abc import Callable, Collection
from typing import Final, Literal

import structlog

Level = Literal["debug", "info", "warning", "error"]


_hidden: Counter[str] = Counter()
_LONG = 8
"""Digits."""


def hide(digits: str) -> Callable[[], None]:
    """Blot a number out of every line, whoever writes it, until what is returned is called."""
    _hidden[digits] += 1

    def show() -> None:
        _hidden[digits] -= 1
        if _hidden[digits] <= 0:
            del _hidden[digits]

    return show


def blotted(text: str, numbers: Collection[str]) -> str:
    """Without these numbers, also where their digits stand in groups, as they are printed on a card."""
    for digits in numbers:
        number = r"[\W_]{0,2}".join(digits)
        # A short one may be a part of any other number by chance.
        text = re.sub(number if len(digits) >= _LONG else rf"(?<!\d){number}(?!\d)", "***", text)
    return text


def _without_hidden(logger: object, method: str, event: structlog.types.EventDict) -> structlog.types.EventDict:
    if not _hidden:
        return event
    return {name: value if name == "timestamp" else _blotted_within(value) for name, value in event.items()}


def _blotted_within(value: object) -> object:
    if isinstance(value, dict):
        return {_blotted_within(key): _blotted_within(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_blotted_within(inner) for inner in value]
    if value is None or isinstance(value, bool | float):
        return value
    text = value if isinstance(value, str) else str(value)
    found = blotted(text, _hidden)
    return value if found == text else found


DISCREET: Final = "_discreet"
"""A line's value under this name is a function that hides people; what may name one goes through it."""
_PERSONAL = ("to", "by", "target", "detail", "fallback", "failure", "reason", "error", "what", "message")


def _without_people(logger: object, method: str, event: structlog.types.EventDict) -> structlog.types.EventDict:
    hide = event.pop(DISCREET, None)
    if hide is not None:
        event.update({name: hide(str(event[name])) for name in _PERSONAL if name in event})
    return event


def _visible(logger: object, method: str, event: structlog.types.EventDict) -> structlog.types.EventDict:
    """What strangers wrote is in the lines (Call-IDs, reasons): nothing of it may speak to a terminal, turn its text
    round or look like a line of its own."""
    for name, value in event.items():
        if isinstance(value, str) and not value.isprintable() and name not in ("exception", "stack"):
            event[name] = "".join(
                c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape", "surrogatepass").decode()
                for c in value
            )
    return event


def set_up(level: Level = "info", *, json: bool = False) -> None:
    """Called once, by the command line. A library user who does not call it gets structlog's own default.

    What libraries report by the standard library's logging, from warnings on, appears in the same form.
    """
    renderer: structlog.types.Processor = (
        structlog.processors.JSONRenderer()
        if json
        # Plain tracebacks: the pretty ones print local variables, and those hold secrets and what callers say.
        else structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), pad_event_to=0, exception_formatter=structlog.dev.plain_traceback
        )
    )
    common: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,  # before what has to be kept out of it is blotted
        _without_people,
        *(() if json else (structlog.processors.StackInfoRenderer(), _visible)),
        _without_hidden,
    ]
    structlog.configure(
        processors=[*common, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *common],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
