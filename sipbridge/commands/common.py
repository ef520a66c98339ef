"""What the families of commands have in common."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from collections.abc import Coroutine, Iterable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

ConfigPath = Annotated[Path, typer.Option("--config", "-c", help="sipbridge.yaml")]
DEFAULT_CONFIG = Path("config/sipbridge.yaml")
T = TypeVar("T")


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run it on uvloop where that is installed."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run(work)
    return uvloop.run(work)


def width() -> int | None:
    """Of the terminal; None: what is printed goes to a file or to another program."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def put(lines: Iterable[str]) -> None:
    """Print them as they come. Who reads may stop reading (`| head`): that ends the program without a word."""
    try:
        for line in lines:
            sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
    except BrokenPipeError:
        # What is still in the buffer must not be tried again when the interpreter ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(1) from None
