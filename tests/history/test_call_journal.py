"""What waits for the thread: its order, its times, and what is given up where nobody takes it."""

from __future__ import annotations

import threading

from sipbridge.history.call_journal import CallJournal, new_record
from sipbridge.history.facts import Answered, Ended, Fact, Noted, Started, Turn

STARTED = Started("c1", "inbound", "+15550123", "agent", None, "t", 3, "openai", "m")
ENDED = Ended({"ended": "caller_hung_up"})


class Clock:
    def __init__(self) -> None:
        self.now = 50.0

    def __call__(self) -> float:
        return self.now


def journal(queue_max: int = 10, clock: Clock | None = None, **more: str) -> CallJournal:
    return CallJournal(wall=1_000.0, clock=clock or Clock(), queue_max=queue_max, node=more.get("node", ""))


def turn(number: int, *, final: bool = True) -> Turn:
    return Turn(number, "caller", f"words {number}", 0.0, 1.0, final)


def test_entries_have_the_time_of_the_wall_and_go_on_with_a_clock_that_nobody_sets() -> None:
    clock = Clock()
    notes = journal(clock=clock, node="n1")
    notes.note(STARTED)
    clock.now += 1.25
    notes.note(Answered(1250, "PCMU"))
    clock.now += 2.0
    notes.note(ENDED, ago=0.5)
    entries = notes.take()
    assert [(entry.seq, entry.at, entry.kind) for entry in entries] == [
        (0, 1000.0, "call.started"),
        (1, 1001.25, "call.answered"),
        (2, 1002.75, "call.ended"),
    ]
    assert {entry.record for entry in entries} == {notes.record}
    assert entries[0].data["node"] == "n1"
    assert notes.take() == []


def test_a_full_queue_gives_up_notes_and_interim_results_then_turns_and_says_so() -> None:
    notes = journal(queue_max=4)
    given: list[Fact] = [STARTED, Noted("a"), turn(1), turn(2), turn(3), Answered(1, None), turn(3, final=False)]
    for fact in [*given, turn(4), ENDED]:
        notes.note(fact)
    entries = notes.take()
    assert [entry.seq for entry in entries] == [0, 4, 5, 7, 8]
    assert entries[-1].data["left_out"] == {"call.note": 1, "call.turn": 3}
    assert notes.left_out == 4


def test_what_ends_a_call_is_never_given_up() -> None:
    notes = journal(queue_max=2)
    notes.note(STARTED)
    for _ in range(5):
        notes.note(Answered(1, None))
    notes.note(ENDED)
    kinds = [entry.kind for entry in notes.take()]
    assert kinds[0] == "call.started"
    assert kinds[-1] == "call.ended"


def test_some_are_taken_and_the_rest_waits_in_its_order() -> None:
    notes = journal()
    for number in range(5):
        notes.note(turn(number) if number % 2 else Noted(str(number)))
    assert [entry.seq for entry in notes.take(2)] == [0, 1]
    notes.note(turn(9))
    assert notes.waiting == 4
    assert [entry.seq for entry in notes.take()] == [2, 3, 4, 5]


def test_who_takes_is_woken_once_until_he_has_come() -> None:
    woken: list[int] = []
    notes = CallJournal(wall=0.0, clock=Clock(), wake=lambda journal: woken.append(1))
    notes.note(STARTED)
    notes.note(Noted("a"))
    assert len(woken) == 1
    notes.take()
    notes.note(Noted("b"))
    assert len(woken) == 2


def test_nothing_is_lost_between_two_threads() -> None:
    notes = CallJournal(wall=0.0, clock=Clock(), queue_max=1_000_000)
    taken: list[int] = []
    done = threading.Event()

    def take() -> None:
        while not done.is_set() or notes.waiting:
            taken.extend(entry.seq for entry in notes.take(7))

    thread = threading.Thread(target=take)
    thread.start()
    for number in range(5_000):
        notes.note(Noted("a") if number % 3 else turn(number))
    done.set()
    thread.join()
    assert taken == list(range(5_000))


def test_records_sort_by_time() -> None:
    first, second = new_record(1_700_000_000.0), new_record(1_700_000_000.001)
    assert first < second
    assert len(first) == 32
    assert int(first, 16)
