"""A PostgreSQL of the test's own: a fresh cluster, reached with a password over TCP, that can be stopped and stalled.

It never runs as root: where the tests do, it is given to another user, and so is its folder, which therefore cannot be
below pytest's (0700). Found by running 15: every backend leaves the postmaster's process group, so who stalls the
server stops its children one by one.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import shutil
import signal
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import asyncpg

from tests.interop.peers import Program, free_port, require

ADDRESS = "127.0.0.1"
USER, PASSWORD = "sipbridge", "p@ss/word #1"
"""One that has to be written otherwise in a URL."""


class Postgres:
    """Use as a context manager: it runs, until it is stopped."""

    def __init__(self) -> None:
        self._initdb, self._postgres = require("initdb"), require("postgres")
        self._account = _account()
        self.folder = Path(tempfile.mkdtemp(prefix="sipbridge-postgres-"))
        self.port = free_port(ADDRESS, socket.SOCK_STREAM)
        self._server: Program | None = None
        self._made = 0

    def __enter__(self) -> Self:
        password = self.folder / "password"
        password.write_text(PASSWORD)
        if self._account is not None:
            for path in (self.folder, password):
                os.chown(path, *self._account)
        how = ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync", f"--pwfile={password}"]
        with self._run([self._initdb, f"--pgdata={self.folder / 'data'}", f"--username={USER}", *how]) as initdb:
            assert initdb.wait(60) == 0, initdb.output
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.resume()
        self.stop("immediate")
        shutil.rmtree(self.folder, ignore_errors=True)

    # --- what a test does to it ---------------------------------------------------------------------------------------

    def start(self, *settings: str) -> None:
        """Anew, after a `stop`, perhaps with settings such as `max_connections=5`; returns when it answers."""
        fixed = [f"listen_addresses={ADDRESS}", f"port={self.port}", f"unix_socket_directories={self.folder}"]
        fixed += ["fsync=off", "jit=off", "max_connections=30", "shared_buffers=16MB", "log_min_messages=warning"]
        # fsync is for machines that lose power: what was committed outlives a killed server without it.
        options = [word for setting in (*fixed, *settings) for word in ("-c", setting)]
        self._server = self._run([self._postgres, "-D", str(self.folder / "data"), *options])
        self._server.wait_for("database system is ready to accept connections", 30)

    def stop(self, how: str = "fast") -> None:
        """`fast`: connections are ended; `immediate`: as if it had crashed."""
        if self._server is not None:
            self._server.process.send_signal(signal.SIGINT if how == "fast" else signal.SIGQUIT)
            self._server.wait(30)
            self._server.stop()
            self._server = None

    def stall(self) -> None:
        """It keeps its sockets, and does nothing any more."""
        os.kill(self._pid, signal.SIGSTOP)
        for child in self.children():
            os.kill(child, signal.SIGSTOP)

    def resume(self) -> None:
        if self._server is not None:
            for process in (*self.children(), self._pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGCONT)

    def kill_backends(self) -> None:
        """SIGKILL to whoever serves a client: the server starts anew by itself, and forgets what was not committed."""
        for child in self.children():
            title = Path(f"/proc/{child}/cmdline").read_bytes().decode(errors="replace")
            if title.startswith(f"postgres: {USER} "):
                os.kill(child, signal.SIGKILL)

    def children(self) -> list[int]:
        listed = Path(f"/proc/{self._pid}/task/{self._pid}/children").read_text()
        return [int(pid) for pid in listed.split()]

    @property
    def _pid(self) -> int:
        assert self._server is not None
        return self._server.process.pid

    # --- its databases ------------------------------------------------------------------------------------------------

    def database(self) -> str:
        """The name of a new, empty one."""
        self._made += 1
        name = f"history{self._made}"
        self.query(f"CREATE DATABASE {name}")
        return name

    def url(self, database: str) -> str:
        """As it stands in a configuration: PGPASSWORD_OF_TEST is in the environment."""
        return f"postgresql://{USER}:${{PGPASSWORD_OF_TEST}}@{ADDRESS}:{self.port}/{database}"

    def plain_url(self, database: str) -> str:
        """The same, as it is used."""
        return self.url(database).replace("${PGPASSWORD_OF_TEST}", quote(PASSWORD, safe=""))

    def query(self, sql: str, *arguments: object, database: str = "postgres") -> list[Any]:
        """For tests without a loop of their own."""
        return asyncio.run(self.ask(sql, *arguments, database=database))

    async def ask(self, sql: str, *arguments: object, database: str = "postgres") -> list[Any]:
        connection = await self.connect(database)
        try:
            return list(await connection.fetch(sql, *arguments))
        finally:
            await connection.close()

    async def connect(self, database: str) -> Any:
        return await asyncpg.connect(
            host=ADDRESS, port=self.port, user=USER, password=PASSWORD, database=database, timeout=5
        )

    def _run(self, argv: list[str]) -> Program:
        return Program(argv, cwd=Path("/"), env={"LC_ALL": "C", "TZ": "UTC"}, account=self._account)


def _account() -> tuple[int, int] | None:
    """Whom the server runs as, where it cannot run as we do."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            account = pwd.getpwnam(name)
            return account.pw_uid, account.pw_gid
    raise AssertionError("PostgreSQL refuses to run as root, and there is no other user")


@contextlib.contextmanager
def running_postgres() -> Iterator[Postgres]:
    with Postgres() as server:
        yield server
