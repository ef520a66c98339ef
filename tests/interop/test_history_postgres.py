"""`sipbridge serve` with its history in a real PostgreSQL, which is not always well while calls run."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.interop.gateway import GatewayProcess, running_gateway
from tests.interop.peers import ROOT, Program
from tests.interop.postgres import PASSWORD, Postgres

pytestmark = pytest.mark.interop

_NOBODY = "sip:nobody@127.0.0.1:9"


@pytest.fixture
def database(server: Postgres) -> str:
    return server.database()


def gateway_of(folder: Path, server: Postgres, database: str, **config: Any) -> Any:
    history: dict[str, Any] = {"store": server.url(database), "retry": {"attempts": 20, "backoff_seconds": 0.1}}
    history |= {"drain_seconds": 20, "outbox": str(folder.parent / "outbox")}
    return running_gateway(
        folder,
        desk=_NOBODY,
        env={"PGPASSWORD_OF_TEST": PASSWORD},
        config={**config, "history": history | config.get("history", {})},
    )


def calling(gateway: GatewayProcess, seconds: float = 2) -> Program:
    argv = [sys.executable, "-m", "sipbridge", "call", gateway.uri(), "--seconds", str(seconds)]
    argv += ["--expect", "greeting<2000"]
    return Program(argv, cwd=ROOT)


def completed(call: Program) -> None:
    """As if there were no database."""
    with call:
        assert call.wait(30) == 0, call.output
    assert "outcome    completed" in call.output


def kept(server: Postgres, database: str, calls: int) -> list[dict[str, Any]]:
    """That many calls, each once, ended, and its entries without a gap."""
    rows = [dict(row) for row in server.query("SELECT * FROM calls ORDER BY began_at", database=database)]
    assert len(rows) == len({row["call_id"] for row in rows}) == calls
    for row in rows:
        assert (row["ended"], row["outcome"]) == ("caller_hung_up", "completed"), row
        entries = server.query("SELECT * FROM entries WHERE record = $1 ORDER BY seq", row["record"], database=database)
        assert [entry["seq"] for entry in entries] == list(range(len(entries)))
        assert [entry["kind"] for entry in entries if entry["kind"] in ("call.started", "call.ended")] == [
            "call.started",
            "call.ended",
        ]
    return rows


def test_a_call_is_in_the_database_when_the_gateway_has_ended(server: Postgres, database: str, tmp_path: Path) -> None:
    with gateway_of(tmp_path, server, database) as gateway:
        completed(calling(gateway))
    (row,) = kept(server, database, 1)
    assert (row["tenant"], row["to"], row["provider"]) == ("agent", "agent", "offline")
    assert json.loads(row["report"])["codec"]
    assert PASSWORD not in gateway.program.output
    turns = server.query("SELECT data->>'text' AS said FROM entries WHERE kind = 'call.turn'", database=database)
    assert any("this is sipbridge" in turn["said"] for turn in turns)


def stalled(server: Postgres) -> Callable[[], None]:
    server.stall()
    return server.resume


def stopped(server: Postgres) -> Callable[[], None]:
    server.stop("immediate")
    return server.start


def only_reading(server: Postgres) -> Callable[[], None]:
    server.query("ALTER SYSTEM SET default_transaction_read_only = on")
    server.query("SELECT pg_reload_conf()")

    def well_again() -> None:
        server.stop()
        (server.folder / "data" / "postgresql.auto.conf").write_text("")
        server.start()

    return well_again


def killed(server: Postgres) -> Callable[[], None]:
    server.kill_backends()
    return lambda: None


@pytest.mark.parametrize(
    "trouble",
    [
        stopped,
        stalled,
        pytest.param(killed, marks=pytest.mark.slow),
        pytest.param(only_reading, marks=pytest.mark.slow),
    ],
)
def test_calls_go_on_and_nothing_is_lost_or_doubled(
    server: Postgres, database: str, tmp_path: Path, trouble: Callable[[Postgres], Callable[[], None]]
) -> None:
    with gateway_of(tmp_path, server, database) as gateway:
        before = calling(gateway, 2)
        before.wait_for("200 OK", 20)
        gateway.program.wait_for("tables are of version", 20)
        well_again = trouble(server)
        try:
            during = calling(gateway, 1)
            completed(during)
            completed(before)
        finally:
            well_again()
        gateway.program.wait_until(lambda: taken_again(gateway), 30, "history that is taken again")
    kept(server, database, 2)


def taken_again(gateway: GatewayProcess) -> bool:
    """The last word about it, if it was noticed at all."""
    output = gateway.program.output
    return output.rfind("history is taken again") >= output.rfind("history not taken")


@pytest.mark.slow
def test_what_a_gateway_could_not_deliver_the_next_one_does(server: Postgres, database: str, tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("one", "two")]
    for folder in folders:
        folder.mkdir()
    server.stop()
    try:
        with gateway_of(folders[0], server, database, history={"drain_seconds": 0.5}) as gateway:
            completed(calling(gateway, 1))
    finally:
        server.start()
    with gateway_of(folders[1], server, database):
        pass
    kept(server, database, 1)


@pytest.mark.slow
def test_two_nodes_share_a_database(server: Postgres, database: str, tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("one", "two")]
    for folder in folders:
        folder.mkdir()
    with (
        gateway_of(folders[0], server, database, node={"id": "one"}) as one,
        gateway_of(folders[1], server, database, node={"id": "two"}, media={"ports": "30400-30799"}) as two,
    ):
        calls = [calling(gateway, 1) for gateway in (one, two, one, two)]
        for call in calls:
            completed(call)
    rows = kept(server, database, 4)
    assert sorted(row["node"] for row in rows) == ["one", "one", "two", "two"]
