"""Functions that tests make tools of."""

from __future__ import annotations

import asyncio
import functools
import sys
import threading
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

hanging = threading.Event()


@dataclass
class Order:
    number: str
    sent: bool


def lookup(number: str, kind: Literal["order", "bill"] = "order", copy: int = 1) -> Order:
    """Finds an order
    by its number.

    Args:
        number: As it stands on the bill,
            without the dash.
        kind (str): What is looked for.

    Returns:
        The order.
    """
    return Order(f"{kind} {number} x{copy}", True)


async def greet(name: Annotated[str, Field(min_length=2)], call: Mapping[str, str]) -> str:
    """Greets somebody."""
    return f"Hello {name}, you call from {call['from']}"


def hang() -> None:
    hanging.wait(30)


def fails() -> None:
    raise StopIteration("no more")


def returns_nothing() -> None: ...


def floods() -> str:
    return "x" * 10_000_000


def which_thread() -> str:
    return threading.current_thread().name


def takes_anything(*names: str) -> None: ...


def takes_strange(what: threading.Thread) -> None: ...


NUMBER = 5


async def take(seconds: float) -> str:
    """Takes so long."""
    await asyncio.sleep(seconds)
    return f"took {seconds:g} s"


def leaves() -> None:
    sys.exit(3)


async def leaves_later() -> None:
    sys.exit(3)


async def gives_up() -> None:
    raise asyncio.CancelledError


deaf = True


async def does_not_listen() -> None:
    while deaf:
        try:
            await asyncio.sleep(0.05)
        except asyncio.CancelledError:
            continue


def traced(function: Callable[..., Awaitable[object]]) -> Callable[..., Awaitable[object]]:
    @functools.wraps(function)
    def inner(**named: object) -> Awaitable[object]:
        return function(**named)

    return inner


@traced
async def wrapped(name: str) -> list[str]:
    return [name]
