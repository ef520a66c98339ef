"""Ladders as files: written beside the loop, found by any leg's Call-ID, bound in number."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from sipbridge.errors import ConfigError
from sipbridge.ladder_files import LadderFiles, list_ladders, read_ladder
from sipbridge.sip.ladder import Ladder, Ladders
from tests.sip.wire import UDP, request


def ladder(*call_ids: str) -> Ladder:
    ladders = Ladders()
    for call_id in call_ids:
        ladders.trace(UDP, False, request(call_id=call_id), 0.0)
        ladders.joined(call_ids[0], call_id)
    found = ladders.get(call_ids[0])
    assert found is not None
    return found


def write(directory: Path, *kept: Ladder, most: int = 1000) -> None:
    async def main() -> None:
        files = LadderFiles(directory, most=most)
        for each in kept:
            files.keep(each)
        await files.close()

    asyncio.run(main())


def test_a_ladder_is_found_by_the_call_id_of_each_leg(tmp_path: Path) -> None:
    write(tmp_path / "new", ladder("one@example.com", "two/../..\u00e4"), ladder("three"))
    for call_id in ("one@example.com", "two/../..\u00e4"):
        text = read_ladder(tmp_path / "new", call_id)
        assert text is not None
        heads, drawing, messages = text.split("\n\n", 2)
        assert heads.splitlines()[:2] == ["Call-ID: one@example.com", "Call-ID: two/../..\u00e4"]
        assert drawing.count("INVITE +sdp") == 2
        assert "    CSeq: 1 INVITE" in messages
    assert read_ladder(tmp_path / "new", "four") is None
    assert read_ladder(tmp_path / "new", "Ended") is None
    assert [name for _, name in list_ladders(tmp_path / "new")] == ["one@example.com", "three"]


def test_a_call_id_is_no_path(tmp_path: Path) -> None:
    names = ["../../evil", "a" * 500, "\x00\n", ".hidden", "a/b", "a_b"]
    write(tmp_path, *(ladder(name) for name in names if name.isprintable()))
    files = os.listdir(tmp_path)
    assert len(files) == 5
    assert all(len(name) < 100 and not name.startswith((".", "/")) for name in files)


def test_the_oldest_files_go_first(tmp_path: Path) -> None:
    write(tmp_path, *(ladder(f"c{number}") for number in range(5)), most=3)
    assert [name for _, name in list_ladders(tmp_path)] == ["c2", "c3", "c4"]
    write(tmp_path, ladder("c5"), most=3)
    assert {name for _, name in list_ladders(tmp_path)} == {"c3", "c4", "c5"}


def test_a_directory_that_cannot_be_had_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="sip.ladders"):
        LadderFiles(tmp_path / "file" / "below")
