"""A caller is erased while a gateway's history runs, with a webhook that is down: not a trace is left."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sipbridge.cli import app
from sipbridge.config import Config, load_config
from sipbridge.erasure import outboxes
from sipbridge.erasure.caller import AUDIT, Eraser
from sipbridge.history.facts import Ended, Entry, RecordingReady, Started, Turn
from sipbridge.history.history import History
from sipbridge.history.journal import Journal
from sipbridge.history.outbox import Outbox
from sipbridge.history.sink import Pace, SinkUnavailableError
from sipbridge.history.stores.sqlite_store import SqliteStore
from sipbridge.ladder_files import _name
from sipbridge.recording_files.about import About
from sipbridge.recording_files.keys import Key
from sipbridge.sound_files import create
from sipbridge.tenant_source import known_good
from tests.history.test_history import STARTED, tenant

CANARY, NUMBER = "canary-in-a-cage", "+15550123"
KEY = Key(bytes(range(32)))


class Down:
    """A webhook that takes nothing."""

    name, pace = "webhook", Pace()

    def wants(self, entry: Entry) -> bool:
        return True

    async def deliver(self, entries: Sequence[Entry]) -> None:
        raise SinkUnavailableError("down")

    async def close(self) -> None:
        pass


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    monkeypatch.setenv("KEY", KEY.secret.hex())
    (tmp_path / "s.yaml").write_text(
        'recordings: {directory: recordings, key: "${KEY}"}\nsip: {ladders: ladders}\nhistory: {drain_seconds: 1}\n'
    )
    return load_config(tmp_path / "s.yaml")


def begun(history: History, call_id: str, caller: str, words: str, **more: str) -> Journal:
    journal = history.journal(tenant())
    party = {"direction": "inbound", "to": "agent", **more}
    journal.note(replace(STARTED, call_id=call_id, caller=caller, **party))  # type: ignore[arg-type]
    journal.note(Turn(1, "caller", words, 1.0, 2.0))
    return journal


def recorded(config: Config, call_id: str, caller: str, *, key: Key | None = KEY, tenant: str = "acme") -> Path:
    about = About(call_id, tenant, caller=caller)
    assert config.recordings.directory is not None
    (config.recordings.directory / tenant).mkdir(parents=True, exist_ok=True)
    path = config.recordings.directory / tenant / f"{about.file_name}.wav{'.sealed' if key else ''}"
    file = create(path, 8000, "wav", key, about.to_text())
    file.write(bytes(3200))
    file.close()
    return path


def laddered(config: Config, call_id: str, text: str) -> Path:
    assert config.sip.ladders is not None
    config.sip.ladders.mkdir(exist_ok=True)
    path = config.sip.ladders / _name(call_id)
    path.write_text(f"Call-ID: {call_id}\nEnded: now\n\nINVITE\n\nFrom: {text}\n")
    return path


def everywhere(directory: Path) -> bytes:
    return b"".join(path.read_bytes() for path in directory.rglob("*") if path.is_file())


class Watched(SqliteStore):
    def __init__(self, config: Config) -> None:
        assert config.history.sqlite_path is not None
        super().__init__(config.history.sqlite_path)
        self._begun: set[str] = set()
        self._changed = threading.Condition()

    async def deliver(self, entries: Sequence[Entry]) -> None:
        await super().deliver(entries)
        with self._changed:
            self._begun |= {entry.record for entry in entries if entry.kind == Started.kind}
            self._changed.notify_all()

    async def has(self, calls: int) -> None:
        def wait() -> None:
            with self._changed:
                assert self._changed.wait_for(lambda: len(self._begun) >= calls, 10)

        await asyncio.to_thread(wait)


def test_nothing_is_left(config: Config, tmp_path: Path) -> None:
    gone = [
        recorded(config, "rec-1", "tel:+1-555-0123"),
        recorded(config, "rec-2", NUMBER, key=None),
        recorded(config, "ended", "somebody-anonymous"),
        laddered(config, "lad-1", '"A" <sip:+15550123@192.0.2.9>;tag=x'),
        laddered(config, "up", "<sip:anonymous@example.com>"),
    ]
    stays = [recorded(config, "rec-3", "+15550199"), laddered(config, "lad-2", "<sip:+15550199@192.0.2.9>")]

    async def main() -> None:
        store = Watched(config)
        async with History(config.history, lambda: {"store": store, "webhook": Down()}, node="n") as history:
            ended = begun(history, "ended", NUMBER, CANARY)
            ended.note(Ended({"ended": "caller_hung_up"}))
            up = begun(history, "up", "sip:0015550123@192.0.2.7", CANARY)
            begun(history, "ours", "+15550199", CANARY, direction="outbound", to=NUMBER).note(Ended({}))
            begun(history, "other", "+15550199", "stays").note(Ended({}))
            await store.has(4)
            assert CANARY.encode() in everywhere(tmp_path)
            found = await Eraser(config, "+1 555-0123", on_their_way_s=0.1).erase()
            assert (found.calls, found.up, found.trouble) == (3, 1, [])
            assert found.waiting >= 8
            assert sorted([*found.recordings, *found.ladders]) == sorted(gone)
            # What comes later of a call that is up does not come back.
            up.note(Turn(2, "caller", CANARY, 3.0, 4.0))
            history.note_late(up.record, RecordingReady(CANARY, 1.0, True))
            up.note(Ended({"ended": "caller_hung_up", "caller": NUMBER}))
            begun(history, "last", "+15550199", "the last").note(Ended({}))
            await store.has(5)
        left = everywhere(tmp_path)
        assert CANARY.encode() not in left
        assert b"15550123" not in left
        assert left.count(b"stays") >= 2, "in the store, and in the outbox for the webhook"
        again = await Eraser(config, NUMBER).erase()
        assert (again.calls, again.waiting, again.recordings, again.ladders) == (0, 0, [], [])

    asyncio.run(main())
    assert [path.exists() for path in gone] == [False] * 5
    assert [path.exists() for path in stays] == [True] * 2
    audit = [json.loads(line) for line in (config.history.outbox / AUDIT).read_text().splitlines()]
    assert [(line["calls"], line["recordings"], line["ladders"], line["incomplete"]) for line in audit] == [
        (3, 3, 2, False),
        (0, 0, 0, False),
    ]


def test_looking_removes_nothing(config: Config, tmp_path: Path) -> None:
    recorded(config, "rec-1", NUMBER)

    async def main() -> None:
        store = Watched(config)
        async with History(config.history, lambda: {"store": store, "webhook": Down()}, node="n") as history:
            begun(history, "one", NUMBER, CANARY).note(Ended({}))
            await store.has(1)
        found = await Eraser(config, NUMBER).look()
        assert (found.calls, len(found.recordings), found.trouble) == (1, 1, [])

    asyncio.run(main())
    arguments = ["erase", "--caller", "15550123", "-c", str(tmp_path / "s.yaml")]
    said = CliRunner().invoke(app, [*arguments, "--dry-run"])
    assert said.exit_code == 0
    assert "there is: 1 calls" in said.output
    assert "1 recordings" in said.output
    assert isinstance(CliRunner().invoke(app, arguments).exception, Exception), "nobody is there to say yes"
    assert CANARY.encode() in everywhere(tmp_path)
    said = CliRunner().invoke(app, [*arguments, "--yes"])
    assert said.exit_code == 0
    assert "removed: 1 calls" in said.output
    assert CANARY.encode() not in everywhere(tmp_path)


def test_what_cannot_be_reached_is_said_and_does_not_keep_the_rest(config: Config, tmp_path: Path) -> None:
    recording, other = recorded(config, "rec-1", NUMBER), recorded(config, "rec-2", NUMBER, key=Key(bytes(32)))
    (tmp_path / "var" / "outbox").mkdir(parents=True)
    (tmp_path / "var" / "history.db").write_text("this is no database, and long enough to be seen to be none" * 100)
    (tmp_path / "var" / "outbox" / "1.outbox.damaged-00ff").write_text("?")
    found = asyncio.run(Eraser(config, NUMBER).erase())
    assert not recording.exists()
    assert other.exists()
    assert sorted(trouble.split(":")[0].split("/")[-1] for trouble in found.trouble) == [
        "1.outbox.damaged-00ff",
        other.name,
        "the history",
    ]
    audit = json.loads((tmp_path / "var" / "outbox" / AUDIT).read_text())
    assert audit["incomplete"]
    assert "5550123" not in json.dumps(audit)


def test_answers_of_a_backend_go_too(config: Config) -> None:
    path = config.tenants.cache
    path.parent.mkdir(parents=True, exist_ok=True)
    known_good.known_in(path)
    db = known_good._connect(path)
    with db:
        for number in (NUMBER, "+15550199"):
            db.execute("INSERT INTO documents VALUES (?, ?, 'acme', NULL)", (number, f"hello {number}".encode()))
            db.execute("INSERT INTO answers VALUES (?, 'agent', ?, ?, NULL, 1, 0, 0)", (number, number, number))
    db.close()
    found = asyncio.run(Eraser(config, "sip:+15550123@example.com").erase())
    assert found.documents == 1
    data = everywhere(path.parent)
    assert b"15550123" not in data
    assert b"hello +15550199" in data


def test_a_file_that_is_taken_over_meanwhile_is_no_trouble(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "glob", lambda self, pattern: iter([tmp_path / "9.outbox"]))
    assert outboxes.find(tmp_path, NUMBER).records == set()
    monkeypatch.undo()
    (tmp_path / "1.outbox").write_text("no database" * 1000)
    assert "1.outbox" in outboxes.find(tmp_path, NUMBER).trouble


def test_an_outbox_that_cannot_be_read_does_not_keep_the_others(tmp_path: Path) -> None:
    first, other = Outbox.open(tmp_path), Outbox.open(tmp_path)
    first.close()
    other.owe({"store": lambda entry: True})
    other.add([Entry("a" * 32, 0, 1.0, Ended.kind, {})], 1.0)
    (tmp_path / "1.outbox").write_text("no database" * 1000)
    with pytest.raises(outboxes.OutboxUnreadableError, match="1.outbox"):
        outboxes.erase(tmp_path, ["a" * 32])
    assert other.due("store", 10) == []
    other.close()
