"""`sipbridge recordings`: which there are, as files that can be played, and whether they are whole."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sipbridge.commands.common import DEFAULT_CONFIG, ConfigPath, put
from sipbridge.errors import ConfigError, SipbridgeError

if TYPE_CHECKING:
    from sipbridge.recording_files.keys import KeyRing
    from sipbridge.recording_files.library import RecordingFile

app = typer.Typer(help="Recordings: the list, one as a file that can be played, whether they are whole.")

Which = Annotated[
    str, typer.Argument(help="Its path, from here or below the directory; or the call's Call-ID or record.")
]


@app.command("list")
def list_(
    tenant: Annotated[str | None, typer.Option(help="Only this tenant's.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON Lines.")] = False,
    config: ConfigPath = DEFAULT_CONFIG,
) -> None:
    """Which there are, tenant by tenant."""
    directory, keys = _opened(config)
    rows = (_row(file, keys, directory) for file in _files(directory))
    rows = (row for row in rows if tenant in (None, row["tenant"]))
    put(json.dumps(row, ensure_ascii=False) if as_json else _line(row) for row in rows)


@app.command()
def export(
    recording: Which,
    to: Annotated[Path | None, typer.Option(help="The file to write; else beside us, under its name.")] = None,
    config: ConfigPath = DEFAULT_CONFIG,
) -> None:
    """Write it as WAV or FLAC, decrypted."""
    from sipbridge.recording_files.library import SEALED_SUFFIX, export

    directory, keys = _opened(config)
    file = _found(directory, keys, recording)
    into = to or Path(file.path.name.removesuffix(SEALED_SUFFIX))
    try:
        with into.open("xb") as opened:
            into.chmod(0o600)
            said = export(file, opened, keys)
    except FileExistsError:
        raise SipbridgeError(f"{into} exists: nothing is written over; give another name with --to") from None
    except SipbridgeError:
        into.unlink()
        raise
    print(into)
    if said:
        print(f"{file.path}: {said}", file=sys.stderr)
    if "damaged" in said or "cut" in said:
        raise typer.Exit(1)


@app.command()
def verify(
    recording: Annotated[list[str] | None, typer.Argument(help="As for export; none: all.")] = None,
    config: ConfigPath = DEFAULT_CONFIG,
) -> None:
    """Open them to the end, and say of each whether it is whole. Exit status 1: one is not."""
    from sipbridge.recording_files.library import verify

    directory, keys = _opened(config)
    chosen = [_found(directory, keys, each) for each in recording] if recording else _files(directory)
    failed = False

    def lines() -> Iterator[str]:
        nonlocal failed
        for file in chosen:
            try:
                yield f"ok      {file.path.relative_to(directory)}{_more(verify(file, keys))}"
            except (SipbridgeError, OSError) as error:
                failed = True
                yield f"FAILED  {file.path.relative_to(directory)}: {error}"

    put(lines())
    if failed:
        raise typer.Exit(1)


def _more(said: str) -> str:
    return f": {said}" if said else ""


def _opened(config: Path) -> tuple[Path, KeyRing | None]:
    from sipbridge.config import load_config

    recordings = load_config(config).recordings
    if recordings.directory is None:
        raise ConfigError(f"{config}: recordings.directory names none, so nothing is recorded")
    return recordings.directory, recordings.key_ring()


def _files(directory: Path) -> Iterator[RecordingFile]:
    from sipbridge.recording_files.library import recording_files

    return recording_files(directory)


def _found(directory: Path, keys: KeyRing | None, name: str) -> RecordingFile:
    paths = {Path(name).absolute(), (directory / name).absolute()}
    for file in _files(directory):
        if file.path.absolute() in paths:
            return file
    for file in _files(directory):
        row = _row(file, keys, directory)
        if name in (row["call_id"], row["record"]):
            return file
    raise SipbridgeError(f"{directory} has no recording {name}")


def _row(file: RecordingFile, keys: KeyRing | None, directory: Path) -> dict[str, object]:
    from sipbridge.recording_files.about import About
    from sipbridge.recording_files.library import about, is_being_written

    trouble, known = "", None
    try:
        known = about(file, keys)
    except (SipbridgeError, OSError) as error:
        trouble = str(error)
    state = "finished" if not file.part else "being written" if is_being_written(file.path) else "unfinished"
    about_it = known or About("", file.path.parent.name)
    return {
        "path": str(file.path.relative_to(directory)),
        "tenant": about_it.tenant,
        "began": datetime.fromtimestamp(about_it.began).astimezone().isoformat(timespec="seconds")
        if about_it.began
        else None,
        "caller": about_it.caller,
        "to": about_it.to,
        "call_id": about_it.call_id,
        "record": about_it.record,
        "bytes": file.path.stat().st_size,
        "encrypted": file.sealed,
        "state": state,
        "trouble": trouble,
    }


def _line(row: dict[str, object]) -> str:
    parties = f"{row['caller'] or '?'} -> {row['to'] or '?'}"
    sealed = "encrypted" if row["encrypted"] else "plain"
    trouble = f"  ({row['trouble']})" if row["trouble"] else ""
    return f"{row['began'] or '-':25}  {parties:30}  {row['state']}, {sealed}  {row['path']}{trouble}"
