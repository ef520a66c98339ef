"""`sipbridge history` and `sipbridge why`: what happened in calls, for people."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from sipbridge.commands.common import DEFAULT_CONFIG, ConfigPath, put, run, width
from sipbridge.errors import SipbridgeError

if TYPE_CHECKING:
    from sipbridge.history.facts import Entry
    from sipbridge.history.reading.archive import Archive
    from sipbridge.history.sink import CallRow, Query, Store

app = typer.Typer(help="What happened in calls: the list, one call's timeline, all of them as a file.")

Tenant = Annotated[str | None, typer.Option(help="Only this tenant's.")]
Since = Annotated[str | None, typer.Option(help="Calls that began since: 2h, yesterday, 14:30, 2026-11-20 ...")]
Until = Annotated[str | None, typer.Option(help="Calls that began before; a day: with all of it.")]
Outcome = Annotated[
    str | None, typer.Option(help="completed, failed, unanswered, refused; or a reason to end (docs/ended-reasons.md).")
]
Caller = Annotated[str | None, typer.Option(help="Calls from this number.")]
Number = Annotated[str | None, typer.Option(help="Calls from or to this number.")]
Json = Annotated[bool, typer.Option("--json", help="As JSON.")]
Name = Annotated[str, typer.Argument(help="The call: its record, the first 8 digits of that or more, or its Call-ID.")]


@app.callback(invoke_without_command=True)
def history(
    context: typer.Context,
    tenant: Tenant = None,
    since: Since = None,
    until: Until = None,
    outcome: Outcome = None,
    caller: Caller = None,
    number: Number = None,
    limit: Annotated[int, typer.Option(min=1, help="So many, the latest.")] = 50,
    as_json: Json = False,
    config: ConfigPath = DEFAULT_CONFIG,
) -> None:
    """List the calls, the latest first."""
    if context.invoked_subcommand is not None:
        return
    query = _query(tenant, since, until, outcome, caller, number, limit)

    async def listed() -> list[CallRow]:
        async with _archive(config) as archive:
            return await archive.calls(query)

    calls = run(listed())
    if as_json:
        put([json.dumps([asdict(call) for call in calls], ensure_ascii=False, indent=2)])
        return
    from sipbridge.history.reading.listing import table

    put(table(calls, width()))


@app.command()
def show(
    call: Name,
    as_json: Json = False,
    interim: Annotated[
        bool, typer.Option("--interim", help="Also what was heard of a sentence before its end.")
    ] = False,
    config: ConfigPath = DEFAULT_CONFIG,
) -> None:
    """One call: SIP, media, turns and tools on one axis."""
    from sipbridge.history.reading.listing import heads
    from sipbridge.history.reading.timeline import draw, timeline

    row, entries = run(_found(config, call))
    moments = timeline(entries, interim=interim)
    if as_json:
        told = {
            "call": asdict(row),
            "timeline": [moment.to_json() for moment in moments],
            "entries": [asdict(entry) for entry in entries],
        }
        put([json.dumps(told, ensure_ascii=False, indent=2)])
        return
    columns = width()
    put([*heads(row, columns), "", *draw(moments, columns)])


@app.command()
def export(
    form: Annotated[Literal["csv", "jsonl"], typer.Option("--format", help="csv or jsonl.")] = "csv",
    tenant: Tenant = None,
    since: Since = None,
    until: Until = None,
    outcome: Outcome = None,
    caller: Caller = None,
    number: Number = None,
    with_turns: Annotated[bool, typer.Option("--with-turns", help="What was said, too.")] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="So many at most, the latest.")] = None,
    config: ConfigPath = DEFAULT_CONFIG,
) -> None:
    """Write the calls to standard output as CSV or JSON Lines, the latest first."""
    from sipbridge.history.reading import export as lines

    query = _query(tenant, since, until, outcome, caller, number, limit or sys.maxsize)

    async def exported() -> None:
        async with _archive(config) as archive:
            if form == "csv":
                put([lines.heads(with_turns=with_turns)])
            async for row in archive.each(query):
                entries = await archive.entries(row.record) if with_turns else None
                put([lines.json_line(row, entries)] if form == "jsonl" else lines.rows(row, entries))

    run(exported())


def why(call: Name, as_json: Json = False, config: ConfigPath = DEFAULT_CONFIG) -> None:
    """Say why a call ended as it did, or sounded as it did: the likely cause, and what to do about it."""
    from sipbridge.history.reading.evidence import Evidence
    from sipbridge.history.reading.listing import heads
    from sipbridge.history.reading.why import told
    from sipbridge.history.reading.why import why as causes_of

    row, entries = run(_found(config, call))
    causes = causes_of(Evidence(entries, list(_route(config, row))))
    if as_json:
        put([json.dumps({"call": asdict(row), "causes": [cause.to_json() for cause in causes]}, indent=2)])
        return
    columns = width()
    put([*heads(row, columns), "", *told(causes, columns)])


async def _found(path: Path, name: str) -> tuple[CallRow, list[Entry]]:
    """The latest call of that name."""
    async with _archive(path) as archive:
        rows = await archive.find(name)
        if not rows:
            raise SipbridgeError(archive.trouble or f"the history has no call {name}")
        if len(rows) > 1:
            others = ", ".join(row.record for row in rows[1:6])
            _say(f"{len(rows)} calls have that name, and this is the latest. Those before it: {others}")
        return rows[0], await archive.entries(rows[0].record)


@asynccontextmanager
async def _archive(path: Path) -> AsyncIterator[Archive]:
    """That of the configuration; what cannot be read of it is said."""
    from sipbridge.config import load_config
    from sipbridge.history.reading.archive import Archive
    from sipbridge.history.stores.opening import open_store
    from sipbridge.providers.failures import place_of

    config = load_config(path)
    history = config.history
    store: Store | None = None
    if history.store.startswith("http"):
        _say(f"the history is kept by {place_of(history.store)}: ask there. Here is what it has not taken yet.")
    elif history.sqlite_path is None or history.sqlite_path.exists():
        store = open_store(config, read_only=True)
    else:
        _say(f"{history.sqlite_path}: there is no such file yet")
    archive = Archive(store, history.outbox)
    try:
        yield archive
    finally:
        await archive.close()
    if archive.trouble:
        raise SipbridgeError(archive.trouble)


def _say(text: str) -> None:
    print(f"sipbridge: {text}", file=sys.stderr)


def _query(
    tenant: str | None,
    since: str | None,
    until: str | None,
    outcome: str | None,
    caller: str | None,
    number: str | None,
    limit: int,
) -> Query:
    from sipbridge.history.sink import Query

    begin, end = _moment(since, "--since"), _moment(until, "--until", end=True)
    return Query(tenant, begin, end, _outcome(outcome), caller, number, limit)


def _outcome(text: str | None) -> str | None:
    """A word that no call can have is a mistake of whoever asks, not a history without such calls."""
    from sipbridge.outcome import ENDINGS

    known = [*dict.fromkeys(ending.outcome for ending in ENDINGS.values()), *(ended.value for ended in ENDINGS)]
    if text is None or text in known:
        return text
    near = get_close_matches(text, known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else f": there are {', '.join(known)}"
    raise typer.BadParameter(f"no call ends as {text!r}{hint}", param_hint="--outcome")


def _moment(text: str | None, option: str, *, end: bool = False) -> float | None:
    from sipbridge.history.reading.moments import parse_moment

    try:
        return None if text is None else parse_moment(text, datetime.now(UTC), end=end)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=option) from error


def _route(path: Path, row: CallRow) -> Iterator[tuple[str, str]]:
    """Why no tenant of today's would have been chosen for a call that was nobody's."""
    if row.ended != "no_tenant":
        return
    from sipbridge.call_fields import CallFields
    from sipbridge.config import load_config
    from sipbridge.errors import ConfigError
    from sipbridge.tenant_source.opening import look_at_directory

    try:
        tenants = look_at_directory(load_config(path), path.parent)
    except ConfigError:
        return
    yield from tenants.explain(CallFields(to=row.to, caller=row.caller, trunk=row.trunk))
