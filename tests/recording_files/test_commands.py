"""`sipbridge recordings`, as it is typed."""

from __future__ import annotations

import json
import wave
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from sipbridge.cli import app
from sipbridge.recording_files.about import About
from sipbridge.recording_files.keys import Key
from sipbridge.sound_files import create

KEY = Key(bytes(range(32)))


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KEY", KEY.secret.hex())
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "s.yaml"
    path.write_text('recordings: {directory: rec, key: "${KEY}"}\n')
    for call_id, key in (("a", KEY), ("b", None), ("c", Key(bytes(32)))):
        about = About(call_id, "acme", record=call_id * 32, caller="+15550123", to="agent", began=1_795_000_000)
        recorded = tmp_path / "rec" / "acme" / f"{about.file_name}.wav{'.sealed' if key else ''}"
        recorded.parent.mkdir(parents=True, exist_ok=True)
        file = create(recorded, 8000, "wav", key, about.to_text())
        for _ in range(10):
            file.write(bytes(3200))
        file.close()
    return path


def recordings(config: Path, *words: str) -> Result:
    return CliRunner().invoke(app, ["recordings", *words, "-c", str(config)])


def test_the_list(config: Path) -> None:
    said = recordings(config, "list", "--json")
    rows = {row["path"][5]: row for row in map(json.loads, said.stdout.splitlines())}
    assert {name: (row["caller"], row["encrypted"], row["state"]) for name, row in rows.items()} == {
        "a": ("+15550123", True, "finished"),
        "b": ("+15550123", False, "finished"),
        "c": ("", True, "finished"),
    }
    assert "which is neither recordings.key nor" in rows["c"]["trouble"]
    assert "+15550123 -> agent" in recordings(config, "list", "--tenant", "acme").stdout
    assert recordings(config, "list", "--tenant", "nobody").stdout == ""


@pytest.mark.parametrize("name", ["a", "a" * 32, f"acme/{About('a', '').file_name}.wav.sealed"])
def test_an_export_can_be_played(config: Path, tmp_path: Path, name: str) -> None:
    assert recordings(config, "export", name, "--to", "out.wav").exit_code == 0
    with wave.open(str(tmp_path / "out.wav")) as file:
        assert (file.getnchannels(), file.getframerate(), file.getnframes()) == (2, 8000, 8000)
    assert (tmp_path / "out.wav").stat().st_mode & 0o777 == 0o600
    again = recordings(config, "export", name, "--to", "out.wav")
    assert "exists" in str(again.exception)


def test_what_cannot_be_exported(config: Path, tmp_path: Path) -> None:
    assert "has no recording" in str(recordings(config, "export", "nobody").exception)
    path = f"rec/acme/{About('c', '').file_name}.wav.sealed"
    assert "neither recordings.key" in str(recordings(config, "export", path, "--to", "c.wav").exception)
    assert not (tmp_path / "c.wav").exists()


def test_each_is_looked_at(config: Path, tmp_path: Path) -> None:
    said = recordings(config, "verify")
    assert said.exit_code == 1
    assert [line.split()[0] for line in said.stdout.splitlines()] == ["ok", "ok", "FAILED"]
    assert recordings(config, "verify", "a").exit_code == 0
    folder = tmp_path / "rec" / "acme"
    (sealed,) = folder.glob("a.*")
    data = sealed.read_bytes()
    for bad, complaint in (
        (data[:-5], "it was cut"),
        (data[:500] + bytes([data[500] ^ 1]) + data[501:], "was changed"),
        (data + b"more", "behind its end"),
    ):
        sealed.write_bytes(bad)
        said = recordings(config, "verify", str(sealed))
        assert said.exit_code == 1
        assert complaint in said.stdout
    sealed.write_bytes(data)
    swapped = folder / f"{About('x', '').file_name}.wav.sealed"
    sealed.rename(swapped)
    assert "it is in the place of another" in recordings(config, "verify", str(swapped)).stdout
    exported = recordings(config, "export", str(swapped), "--to", "whole.wav")
    assert exported.exit_code == 0
    swapped.write_bytes(data[: len(data) // 2])
    exported = recordings(config, "export", str(swapped), "--to", "half.wav")
    assert exported.exit_code == 1
    assert (tmp_path / "half.wav").stat().st_size > 10_000


def test_without_a_directory(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text("{}")
    assert "recordings.directory names none" in str(recordings(tmp_path / "s.yaml", "list").exception)
