"""When a file is believed. The files are real, the time is not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sipbridge.tenant_source.scanner import QUIET_S as EXACTLY_S
from sipbridge.tenant_source.scanner import Scanner, Seen
from sipbridge.tenant_source.versions import digest_of

QUIET_S = EXACTLY_S + 0.001
TEXT = "agent: {provider: offline}\n"


class Look:
    def __init__(self, directory: Path) -> None:
        self.scanner = Scanner(directory, {})
        self.now = 100.0

    def after(self, seconds: float) -> Seen:
        self.now += seconds
        return self.scanner.look(self.now)

    def settle(self) -> Seen:
        self.after(0)
        return self.after(QUIET_S)


@pytest.fixture
def look(tmp_path: Path) -> Look:
    return Look(tmp_path)


def texts(seen: Seen) -> dict[str, str]:
    return {tenant: text for tenant, _, text in seen.texts}


def test_a_file_is_read_when_it_has_been_quiet_and_then_not_again(look: Look, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(TEXT)
    (tmp_path / ".hidden.yaml").write_text(TEXT)
    (tmp_path / "notes.txt").write_text(TEXT)
    assert not look.after(0)
    assert look.scanner.pending
    assert not look.after(QUIET_S / 2)
    assert texts(look.after(QUIET_S / 2)) == {"a": TEXT}
    assert not look.scanner.pending
    assert not look.after(60)


def test_who_goes_on_writing_is_waited_for(look: Look, tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    look.after(0)
    for number in range(5):
        path.write_text(TEXT + "#\n" * number)
        assert not look.after(QUIET_S * 0.9)
    assert texts(look.after(QUIET_S)) == {"a": TEXT + "#\n" * 4}


@pytest.mark.skipif(not hasattr(os, "O_TMPFILE"), reason="leases are Linux's")
def test_a_file_that_somebody_has_open_for_writing_is_not_read(look: Look, tmp_path: Path) -> None:
    """What is there could be taken for the whole file: it is right as far as it goes."""
    path = tmp_path / "a.yaml"
    with path.open("w") as file:
        file.write(TEXT)
        file.flush()
        look.after(0)
        for _ in range(5):
            assert not look.after(1)
        file.write("rings: 3\n")
    look.after(0)
    assert texts(look.after(QUIET_S)) == {"a": TEXT + "rings: 3\n"}


def test_who_never_closes_his_file_is_believed_in_the_end(look: Look, tmp_path: Path) -> None:
    with (tmp_path / "a.yaml").open("w") as file:
        file.write(TEXT)
        file.flush()
        look.after(0)
        assert texts(look.after(11)) == {"a": TEXT}


@pytest.mark.parametrize("half", ["agent: {provider: offline, instructions: You are", ""])
def test_a_last_line_without_an_end_may_be_half_a_file(look: Look, tmp_path: Path, half: str) -> None:
    (tmp_path / "a.yaml").write_text(half)
    assert not look.settle()
    assert not look.after(1)
    assert texts(look.after(1)) == {"a": half}


def test_another_file_in_its_place(look: Look, tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(TEXT)
    look.settle()
    other = tmp_path / "new"
    other.write_text(TEXT.replace("offline", "offlin2"))  # as long, and perhaps of the same moment
    os.utime(other, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    other.replace(path)
    assert texts(look.settle()) == {"a": "agent: {provider: offlin2}\n"}


def test_what_is_in_force_is_no_news_but_back(look: Look, tmp_path: Path) -> None:
    look.scanner.digests["a"] = digest_of(TEXT)
    (tmp_path / "a.yaml").write_text(TEXT)
    seen = look.settle()
    assert (seen.texts, seen.back) == ([], ["a"])


def test_a_file_is_gone_when_it_stays_so(look: Look, tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(TEXT)
    look.settle()
    path.unlink()
    assert not look.after(0)
    path.write_text(TEXT + "#\n")  # as some editors do it
    assert texts(look.settle()) == {"a": TEXT + "#\n"}
    path.unlink()
    look.after(0)
    assert look.after(1).gone == ["a"]
    assert not look.after(1)
    assert not look.scanner.pending


def test_a_tenant_in_two_files_is_told_with_the_second(look: Look, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(TEXT)
    look.settle()
    (tmp_path / "a.yml").write_text(TEXT)
    look.after(0)
    seen = look.after(QUIET_S)
    assert seen.faults == {"a": f"{tmp_path / 'a.yml'}:1: tenant a is in a.yaml already"}
    assert not look.after(1)
    (tmp_path / "a.yml").unlink()
    assert texts(look.settle()) == {"a": TEXT}


def test_a_file_that_cannot_be_read(look: Look, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(b"agent: \xff\n")
    (tmp_path / "b.yaml").mkdir()
    (tmp_path / "c.yaml").symlink_to(tmp_path / "nowhere")
    faults = look.settle().faults
    assert set(faults) == {"a", "b"}
    assert "a.yaml:1: cannot be read: it is not UTF-8" in faults["a"]


def test_no_directory(look: Look, tmp_path: Path) -> None:
    tmp_path.rmdir()
    with pytest.raises(FileNotFoundError):
        look.after(0)
    tmp_path.mkdir()


def test_what_is_no_file_keeps_nobody_waiting(look: Look, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "endless.yaml").symlink_to("/dev/zero")
    (tmp_path / "itself.yaml").symlink_to("itself.yaml")
    (tmp_path / "nowhere.yaml").symlink_to("not-there")
    (tmp_path / "long.yaml").write_bytes(b"# 34567\n" * 600_000)
    (tmp_path / "good.yaml").write_text(TEXT)
    look.after(0)
    seen = look.after(1)
    assert texts(seen) == {"good": TEXT}
    assert set(seen.faults) == {"pipe", "endless", "itself", "nowhere", "long"}
    assert seen.faults["pipe"].endswith("cannot be read: it is no file")
    assert seen.faults["itself"].endswith("cannot be read: Too many levels of symbolic links")
    assert seen.faults["nowhere"].endswith("cannot be read: No such file or directory")
    assert seen.faults["long"].endswith("it is longer than 4 MB")
    assert not look.scanner.pending
    (tmp_path / "not-there").write_text(TEXT)
    look.after(0)
    assert texts(look.after(1)) == {"nowhere": TEXT}


def test_names_that_nothing_could_show_are_no_tenants(look: Look, tmp_path: Path) -> None:
    for name in (b"b\xff.yaml", b"two\nlines.yaml", b" .yaml"):
        with open(os.path.join(os.fsencode(tmp_path), name), "w") as file:
            file.write(TEXT)
    faults = look.settle().faults
    assert set(faults) == {"b\\xff", "two\nlines", " "}
    for words in faults.values():
        assert words.isprintable()
        assert "a tenant's name has 1 to 128 characters" in words
