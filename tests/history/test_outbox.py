"""The file between a call and whoever is to know of it: real ones, with processes that died."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from sipbridge.history.facts import Answered, Ended, Entry, Fact, Noted, RecordingReady, Started, Turn
from sipbridge.history.outbox import LATE, Outbox, OutboxError

BEGAN = 1_800_000_000.0


def started(name: str = "c1", tenant: str = "acme") -> Started:
    return Started(name, "inbound", "+15550101", "+15550100", "pbx", tenant, 3, "offline", "", "n1")


def entries(record: str, *facts: Fact, first: int = 0) -> list[Entry]:
    return [Entry(record, seq, BEGAN + seq, fact.kind, fact.to_json()) for seq, fact in enumerate(facts, start=first)]


def said(text: str = "hello") -> Turn:
    return Turn(1, "caller", text, 1.0, 2.0)


def everything(entry: Entry) -> bool:
    return True


def names(found: list[Entry]) -> list[tuple[str, int]]:
    return [(entry.record, entry.seq) for entry in found]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Callable[..., Outbox]]:
    """Opens the next one in the same directory; who closes it without a word has died."""
    all_of_them: list[Outbox] = []

    def open_one(*sinks: str) -> Outbox:
        outbox = Outbox.open(tmp_path)
        outbox.owe(dict.fromkeys(sinks or ("store",), everything))
        all_of_them.append(outbox)
        return outbox

    yield open_one
    for outbox in all_of_them:
        outbox.close()


def test_each_sink_is_owed_everything_until_it_has_it(opened: Callable[..., Outbox]) -> None:
    outbox = opened("store", "hook")
    outbox.add(entries("a", started(), said(), Ended({})), BEGAN)
    assert outbox.waiting() == {"store": (3, BEGAN), "hook": (3, BEGAN)}
    outbox.done("store", outbox.due("store", 2))
    assert names(outbox.due("store", 10)) == [("a", 2)]
    assert names(outbox.due("hook", 10)) == [("a", 0), ("a", 1), ("a", 2)]
    outbox.done("hook", outbox.due("hook", 10))
    outbox.done("store", outbox.due("store", 10))
    assert outbox.waiting() == {"store": (0, None), "hook": (0, None)}
    assert outbox._rows("SELECT count(*) FROM entries") == [(0,)]


def test_what_a_sink_does_not_want_does_not_wait_for_it(tmp_path: Path) -> None:
    outbox = Outbox.open(tmp_path)
    outbox.owe({"hook": lambda entry: entry.kind == Ended.kind})
    outbox.add(entries("a", started(), said(), Ended({})), BEGAN)
    assert [(entry.kind, entry.call_id, entry.tenant) for entry in outbox.due("hook", 9)] == [
        ("call.ended", "c1", "acme")
    ]
    assert outbox._rows("SELECT count(*) FROM entries") == [(1,)]
    outbox.close()


def test_calls_come_in_the_order_in_which_they_have_waited(opened: Callable[..., Outbox]) -> None:
    outbox = opened()
    outbox.add([*entries("b", started("b")), *entries("a", started("a")), *entries("b", said(), first=1)], BEGAN)
    assert outbox.calls_due("store") == ["b", "a"]
    assert names(outbox.due("store", 10, "b")) == [("b", 0), ("b", 1)]
    assert outbox.calls_due("store", kinds=[Turn.kind]) == ["b"]


def test_what_is_in_it_is_there_after_the_process_died(opened: Callable[..., Outbox]) -> None:
    first = opened()
    first.add(entries("a", started(), said("ä \ud83d \x00"), Ended({})), BEGAN)
    first.close()
    second = opened()
    assert second.path == first.path
    assert second.due("store", 10)[1].data["text"] == "ä ? \x00"


def test_the_same_entry_comes_in_once(opened: Callable[..., Outbox]) -> None:
    outbox = opened()
    for _ in range(2):
        outbox.add(entries("a", started(), said()), BEGAN)
    assert names(outbox.due("store", 10)) == [("a", 0), ("a", 1)]


def test_who_is_no_longer_configured_is_owed_nothing(opened: Callable[..., Outbox], tmp_path: Path) -> None:
    outbox = opened("store", "hook")
    outbox.add(entries("a", started(), said()), BEGAN)
    outbox.done("store", outbox.due("store", 10))
    outbox.close()
    again = Outbox.open(tmp_path)
    assert again.owe({"store": everything}) == {"hook": 2}
    assert again._rows("SELECT count(*) FROM entries") == [(0,)]
    again.close()


def test_what_will_never_be_taken_is_set_aside(opened: Callable[..., Outbox]) -> None:
    outbox = opened("store", "hook")
    outbox.add(entries("a", started(), said()), BEGAN)
    outbox.refused("hook", outbox.due("hook", 1)[0], "400 Bad Request")
    assert names(outbox.due("hook", 10)) == [("a", 1)]
    assert names(outbox.due("store", 10)) == [("a", 0), ("a", 1)]
    assert outbox._rows("SELECT sink, record, seq, why FROM refused") == [("hook", "a", 0, "400 Bad Request")]


# --- after a crash ----------------------------------------------------------------------------------------------------


def test_calls_that_never_ended_are_ended_once(opened: Callable[..., Outbox]) -> None:
    first = opened()
    first.add(entries("a", started("a"), Answered(120, "PCMU"), said()), BEGAN + 3)
    first.add(entries("b", started("b"), Ended({})), BEGAN + 4)
    first.add(entries("c", started("c")), BEGAN + 5)
    first.done("store", first.due("store", 10))  # the store knows of them, and waits for their ends
    first.close()

    second = opened()
    assert names(second.close_crashed("n1")) == [("a", 3), ("c", 1)]
    assert second.close_crashed("n1") == []
    second.close()  # dies at once

    third = opened()
    assert third.close_crashed("n1") == []
    ends = third.due("store", 10)
    assert names(ends) == [("a", 3), ("c", 1)]
    report = ends[0].data["report"]
    assert {name: report[name] for name in ("ended", "outcome", "tenant", "call_id", "caller", "codec")} == {
        "ended": "node_crashed",
        "outcome": "failed",
        "tenant": "acme",
        "call_id": "a",
        "caller": "+15550101",
        "codec": "PCMU",
    }
    assert (report["setup_ms"], report["began_at"], report["seconds"]) == (120, BEGAN, 5.0)  # as long as it was seen
    assert ends[0].at == BEGAN + 5


def test_a_sign_of_life_tells_until_when_a_silent_call_was_up(opened: Callable[..., Outbox]) -> None:
    first = opened()
    first.add(entries("a", started()), BEGAN)
    first.alive(BEGAN + 600)
    first.close()
    [end] = opened().close_crashed("n1")
    assert end.data["report"]["seconds"] == 600


def test_a_process_beside_has_its_own_and_what_it_leaves_is_taken_over(opened: Callable[..., Outbox]) -> None:
    serve, dial = opened(), opened()
    assert serve.path != dial.path
    serve.add(entries("a", started("a")), BEGAN)
    dial.add(entries("b", started("b"), Answered(1, "PCMU")), BEGAN + 1)
    assert serve.adopt("n1") == 0  # it lives
    dial.close()
    assert serve.adopt("n1") == 1
    assert names(serve.due("store", 10)) == [("a", 0), ("b", 0), ("b", 1), ("b", 2)]
    assert serve.due("store", 10, "b")[2].data["report"]["ended"] == "node_crashed"
    assert serve.due("store", 10, "b")[2].call_id == "b"
    assert dial.path is not None
    assert not dial.path.exists()
    assert serve.adopt("n1") == 0
    assert serve.close_crashed("n1") != []  # (ours: `a` is up)


def test_what_is_taken_over_twice_is_there_once(opened: Callable[..., Outbox]) -> None:
    """The process dies between taking it over and deleting it."""
    first, second = opened(), opened()
    second.add(entries("b", started("b"), Ended({})), BEGAN)
    first.take_over(second)
    first.take_over(second)
    assert names(first.due("store", 10)) == [("b", 0), ("b", 1)]


def test_one_that_cannot_be_read_does_not_keep_the_others(opened: Callable[..., Outbox], tmp_path: Path) -> None:
    ours, other = opened(), opened()
    other.add(entries("b", started("b")), BEGAN)
    other.close()
    (tmp_path / "0.outbox").write_bytes(b"no database at all, this is only text" * 200)
    os.mkdir(tmp_path / "00.outbox")
    assert ours.adopt("n1") == 1
    assert names(ours.due("store", 10)) == [("b", 0), ("b", 1)]


def test_a_damaged_file_is_set_aside(tmp_path: Path) -> None:
    (tmp_path / "1.outbox").write_bytes(b"no database at all, this is only text" * 200)
    outbox = Outbox.open(tmp_path)
    outbox.owe({"store": everything})
    outbox.add(entries("a", started()), BEGAN)
    assert names(outbox.due("store", 10)) == [("a", 0)]
    assert [path.read_bytes()[:11] for path in tmp_path.glob("1.outbox.damaged-*")] == [b"no database"]
    outbox.close()


def test_where_no_file_can_be_made_that_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutboxError, match="file/outbox"):
        Outbox.open(tmp_path / "file" / "outbox")


def test_what_comes_late_gets_the_next_number(opened: Callable[..., Outbox]) -> None:
    outbox = opened()
    outbox.add(entries("a", started(), Ended({})), BEGAN)
    outbox.done("store", outbox.due("store", 10))
    late = RecordingReady("a.wav", 3.0, False)
    kept = outbox.add([Entry("a", LATE, BEGAN + 9, late.kind, late.to_json())], BEGAN + 9)
    assert names(kept) == names(outbox.due("store", 10)) == [("a", 2)]
    outbox.add([Entry("a", LATE, BEGAN + 9, Noted.kind, {})], BEGAN + 9)
    assert names(outbox.due("store", 10)) == [("a", 2), ("a", 3)]


def test_calls_that_are_long_over_are_forgotten(opened: Callable[..., Outbox]) -> None:
    outbox = opened()
    outbox.add([*entries("a", started(), Ended({})), *entries("b", started("b"))], BEGAN)
    outbox.forget(BEGAN + 90_000)
    assert len(outbox._rows("SELECT * FROM calls")) == 2  # one is owed, one is up
    outbox.done("store", outbox.due("store", 10))
    outbox.forget(BEGAN + 90_000)
    assert outbox._rows("SELECT record FROM calls") == [("b",)]


@pytest.mark.parametrize("data", [{"x": float("nan")}, {"x": {1, 2}}, {1: object()}], ids=["NaN", "a set", "objects"])
def test_whatever_was_noted_can_be_kept(opened: Callable[..., Outbox], data: dict[object, object]) -> None:
    outbox = opened()
    outbox.add([Entry("a", 0, BEGAN, Noted.kind, data)], BEGAN)  # type: ignore[arg-type]
    assert len(outbox.due("store", 10)) == 1


def test_it_has_a_bound_and_takes_again_when_something_was_taken_from_it(opened: Callable[..., Outbox]) -> None:
    outbox = opened()
    outbox.most_bytes = 1_000_000
    for number in range(15):
        outbox.add(entries(f"call {number}", said("x" * 50_000)), BEGAN)
    outbox.add(entries("long", said("x" * 500_000)), BEGAN)
    with pytest.raises(OutboxError, match="full"):
        outbox.add(entries("none", said()), BEGAN)
    assert outbox.waiting() == {"store": (16, BEGAN)}
    outbox.done("store", outbox.due("store", 10))
    outbox.add(entries("more", said()), BEGAN)


def test_what_another_version_has_left_is_left_to_it(opened: Callable[..., Outbox], tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "1.outbox")) as db:
        db.execute("CREATE TABLE entries (id INTEGER PRIMARY KEY, call TEXT, what TEXT)")
        db.execute("INSERT INTO entries VALUES (1, 'a', 'b')")
        db.commit()
    outbox = opened()
    assert outbox.path == tmp_path / "2.outbox"
    assert outbox.adopt("n1") == 0
    outbox.add(entries("a", started()), BEGAN)
    with closing(sqlite3.connect(tmp_path / "1.outbox")) as db:
        assert db.execute("SELECT * FROM entries").fetchall() == [(1, "a", "b")]


def test_a_file_that_somebody_deletes_is_missed(opened: Callable[..., Outbox], tmp_path: Path) -> None:
    outbox = opened()
    assert not outbox.gone
    (tmp_path / "1.outbox").unlink()
    assert outbox.gone
