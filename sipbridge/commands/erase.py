"""`sipbridge erase`: a caller, removed everywhere."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from sipbridge.commands.common import DEFAULT_CONFIG, ConfigPath, put, run
from sipbridge.errors import ConfigError

if TYPE_CHECKING:
    from sipbridge.erasure.caller import Found


def erase(
    caller: Annotated[str, typer.Option(help="The number, in any form; or the name, of one that is no number.")],
    yes: Annotated[bool, typer.Option("--yes", help="Without asking.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what there is.")] = False,
    config: ConfigPath = DEFAULT_CONFIG,
) -> None:
    """Remove a caller: calls and all that was said in them, recordings, ladders, answers of a tenants' backend."""
    from sipbridge.config import load_config
    from sipbridge.erasure.caller import Eraser
    from sipbridge.history.numbers import same_number

    settings = load_config(config)
    if not same_number(caller):
        raise ConfigError(f"--caller {caller!r}: neither a number nor a name")
    if dry_run or not yes:
        found = run(Eraser(settings, caller).look())
        put(_said(found, "there is"))
        if dry_run:
            raise typer.Exit(1 if found.trouble else 0)
        if not sys.stdin.isatty():
            raise ConfigError("nothing was removed: give --yes, where nobody can be asked")
        typer.confirm("Remove all of it, for good?", abort=True)
    found = run(Eraser(settings, caller).erase())
    put(_said(found, "removed"))
    if found.trouble:
        raise typer.Exit(1)


def _said(found: Found, verb: str) -> Iterator[str]:
    up = f", {found.up} of them up: run this again when they have ended" if found.up else ""
    yield f"{verb}: {found.calls} calls{up}"
    yield f"{verb}: {found.waiting} entries on their way to the store or a webhook"
    yield f"{verb}: {found.documents} answers of the tenants' backend"
    yield f"{verb}: {len(found.recordings)} recordings, {len(found.ladders)} ladders"
    yield from (f"  {path}" for path in (*found.recordings, *found.ladders))
    yield from (f"NOT COMPLETE: {trouble}" for trouble in found.trouble)
