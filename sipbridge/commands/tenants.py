"""`sipbridge tenants`: which there are, what their files have been, and back to one of those."""

from __future__ import annotations

import difflib
import json
import sqlite3
from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sipbridge.commands.common import DEFAULT_CONFIG, ConfigPath, put
from sipbridge.errors import ConfigError, SipbridgeError

if TYPE_CHECKING:
    from sipbridge.config import Config
    from sipbridge.tenant_source.versions import Version, Versions

app = typer.Typer(help="Tenants, and the versions of their files.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="The tenant's id: its file's name.")]
Json = Annotated[bool, typer.Option("--json", help="As JSON.")]


@app.command("list")
def listed(config: ConfigPath = DEFAULT_CONFIG, as_json: Json = False) -> None:
    """Each tenant: the version of its file, since when, and whether it is right as it is (exit status 1 if one is not);
    of a backend's, when the backend has said it last."""
    settings = _settings(config)
    rows = [*_rows(settings, config.parent), *_of_backend(settings)]
    if as_json:
        put([json.dumps(rows, indent=2)])
    else:
        width = max((len(row["tenant"]) for row in rows), default=0)
        put(_line(row, width) for row in rows)
    if any(row["error"] for row in rows):
        raise typer.Exit(1)


def _rows(config: Config, base: Path) -> Iterator[dict[str, Any]]:
    from sipbridge.tenant_source.directory import read_all
    from sipbridge.tenant_source.intake import Intake
    from sipbridge.tenant_source.opening import has_directory, versions_of

    if not has_directory(config, base):
        return
    candidates, problems = read_all(base / config.tenants.directory, config)
    intake = Intake({})
    intake.step(candidates, problems)
    there = {candidate.id: candidate for candidate in candidates}
    versions = versions_of(config, base)
    kept = {} if versions is None else versions.newest(there.keys() | problems.keys())
    for tenant in sorted(there.keys() | problems.keys()):
        candidate, version = there.get(tenant), kept[tenant][0] if tenant in kept else None
        yield {
            "tenant": tenant,
            "source": "file",
            "version": None if version is None else version.number,
            "since": None if version is None else version.at,
            "pending": candidate is not None and version is not None and candidate.digest != version.digest,
            "match": None if candidate is None else candidate.config.match.model_dump(by_alias=True, mode="json"),
            "error": intake.refused.get(tenant),
        }


def _of_backend(config: Config) -> Iterator[dict[str, Any]]:
    if config.tenants.backend is None:
        return
    from sipbridge.tenant_source.known_good import known_in

    try:
        said = {
            known.tenant: known.confirmed for known in sorted(known_in(config.tenants.cache), key=lambda k: k.confirmed)
        }
    except sqlite3.Error as error:
        raise ConfigError(f"{config.tenants.cache}: cannot be read: {error}") from error
    for tenant, confirmed in sorted(said.items()):
        yield {"tenant": tenant, "source": "backend", "since": confirmed, "error": None}


def _line(row: dict[str, Any], width: int) -> str:
    if row["source"] == "backend":
        return f"{row['tenant']:{width}}    -  {_when(row['since'])}  last said by the backend"
    number = "  -" if row["version"] is None else f"{row['version']:3}"
    since = "not taken yet" if row["since"] is None else _when(row["since"])
    state = f"REFUSED: {row['error']}" if row["error"] else "changed since" if row["pending"] else ""
    return f"{row['tenant']:{width}}  {number}  {since:19}  {state}".rstrip()


@app.command()
def history(tenant: Name, config: ConfigPath = DEFAULT_CONFIG, as_json: Json = False) -> None:
    """The versions of a tenant's file, the newest first."""
    found = _versions(config).history(tenant)
    if not found:
        raise SipbridgeError(f"no version of {tenant!r} is kept")
    if as_json:
        put([json.dumps([asdict(version) for version in found], indent=2)])
        return
    for version in found:
        notes = [version.note, "" if version.complete else "without its secrets: cannot be put back"]
        note = "; ".join(note for note in notes if note)
        put([f"{version.number:4}  {_when(version.at)}  {version.digest[:12]}  {note}".rstrip()])


@app.command()
def diff(
    tenant: Name,
    old: Annotated[int | None, typer.Argument(help="A version; else the one before the newest.")] = None,
    new: Annotated[int | None, typer.Argument(help="Another; else the newest.")] = None,
    config: ConfigPath = DEFAULT_CONFIG,
) -> None:
    """What differs between two versions of a tenant's file. Secrets that stand in it are not shown."""
    versions = _versions(config)
    newest = _newest(versions, tenant).number
    new = newest if new is None else new
    old = max(new - 1, 0) if old is None else old
    texts = [_text(versions, tenant, number) if number else "" for number in (old, new)]
    before, after = (text.splitlines(keepends=True) for text in texts)
    lines = difflib.unified_diff(before, after, f"{tenant} version {old}", f"{tenant} version {new}")
    put(line.rstrip("\n") for line in lines)


@app.command()
def rollback(
    tenant: Name,
    to: Annotated[int | None, typer.Option(help="Back to this version; else to the last that the file is not.")] = None,
    config: ConfigPath = DEFAULT_CONFIG,
) -> None:
    """Write an older version of a tenant's file as the newest. A gateway that runs takes it for the calls to come."""
    from sipbridge.tenant_source.files import checked, file_of, write_whole
    from sipbridge.tenant_source.versions import Text

    settings, versions = _settings(config), _versions(config)
    history = versions.history(tenant)
    if not history:
        raise SipbridgeError(f"no version of {tenant!r} is kept")
    path = file_of(config.parent / settings.tenants.directory, tenant)
    number = _before(path, history[0]) if to is None else to
    version = next((version for version in history if version.number == number), None)
    if version is None:
        kept = ", ".join(str(version.number) for version in history)
        raise SipbridgeError(f"no version {number} of {tenant!r} is kept; there are {kept}")
    if not version.complete:
        raise SipbridgeError(
            f"version {number} had secrets written out, which are not kept: put ${{NAME}} or file:PATH into the file"
        )
    text = _text(versions, tenant, number)
    checked(text, path, settings)  # what has become wrong since is not written
    write_whole(path, text)
    try:
        new = versions.keep([Text(tenant, text, text)], note=f"version {number} again").get(tenant)
    except ConfigError:  # whoever takes it will number it
        new = None
    put([f"{path}: version {number} again" + ("" if new is None else f", as version {new}")])


def _before(path: Path, newest: Version) -> int:
    """A file that is wrong, gone or not taken yet goes back to what is in force instead of it."""
    from sipbridge.tenant_source.files import text_of
    from sipbridge.tenant_source.versions import digest_of

    try:
        is_newest = digest_of(text_of(path)) == newest.digest
    except ConfigError:
        is_newest = False
    return newest.number - is_newest


def _settings(path: Path) -> Config:
    from sipbridge.config import load_config

    return load_config(path)


def _versions(path: Path) -> Versions:
    from sipbridge.tenant_source.opening import versions_of

    versions = versions_of(_settings(path), path.parent)
    if versions is None:
        raise ConfigError(f"{path}: tenants.versions is null, so no versions are kept")
    return versions


def _newest(versions: Versions, tenant: str) -> Version:
    found = versions.newest([tenant]).get(tenant)
    if found is None:
        raise SipbridgeError(f"no version of {tenant!r} is kept")
    return found[0]


def _text(versions: Versions, tenant: str, number: int) -> str:
    text = versions.text(tenant, number)
    if text is None:
        raise SipbridgeError(f"no version {number} of {tenant!r} is kept")
    return text


def _when(at: float) -> str:
    return datetime.fromtimestamp(at).isoformat(" ", "seconds")
