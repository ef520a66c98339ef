"""What a backend has answered last, for when it cannot be asked: in memory, and in a file that survives a restart.

An answer is given again to a call that is asked about in the same words. To another call it is given only where it is
known not to be one caller's own: the backend says so (`match` in the document, or `Cache-Control: public`), or two
callers of the same number have been given the very same. Never where it was said to be `private`.

The file (SQLite) is written by a thread of its own, after the fact and together; what it cannot hold costs no call.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import structlog
from pydantic import ValidationError

from sipbridge.config import Config
from sipbridge.history.numbers import same_number
from sipbridge.matching import Index
from sipbridge.sqlite_files import is_damage, set_aside
from sipbridge.tenant_config import Match
from sipbridge.tenant_source.question import Question

log = structlog.get_logger(__name__)

MOST_ANSWERS = 10_000
_LOOKED_AT = 50
"""Answers for one number that a new one is compared with."""
_A_NUMBER = 5
"""Characters of a caller that are not in a text by chance."""
_MOST_BYTES = 200_000_000
"""Of documents, in memory."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS documents (digest TEXT PRIMARY KEY, body BLOB NOT NULL, tenant TEXT NOT NULL, match TEXT);
CREATE TABLE IF NOT EXISTS answers (
    key TEXT PRIMARY KEY, number TEXT NOT NULL, caller TEXT NOT NULL, digest TEXT NOT NULL, etag TEXT,
    confirmed REAL NOT NULL, shared INTEGER NOT NULL, private INTEGER NOT NULL
);
"""


@dataclass(frozen=True, slots=True)
class Known:
    """One answer of the backend's that was good."""

    key: str
    number: str
    caller: str
    tenant: str
    digest: str
    """Of the document."""
    etag: str | None
    confirmed: float
    """When it was given last, by the wall's clock."""
    shared: bool = False
    """When it was given, it was known to hold for every caller of the number."""
    private: bool = False
    fresh_until: float = 0.0
    """By then it need not be asked for again; of this process' monotonic clock."""
    kept: bool = True
    """On disk, too."""
    saved: float = 0.0
    """What the file has for `confirmed`."""


@dataclass(frozen=True, slots=True)
class Body:
    """A document, as it came."""

    digest: str
    body: bytes
    tenant: str
    match: Match | None = None


def digest_of(body: bytes, nameless: str) -> str:
    """`nameless`: whose it is where it has no id."""
    return hashlib.sha256(nameless.encode("utf-8", "replace") + b"\0" + body).hexdigest()


class KnownGood:
    """On one loop. `open` before use."""

    def __init__(self, path: Path, wall: Callable[[], float] = time.time) -> None:
        self._path = path
        self._wall = wall
        self._answers: dict[str, Known] = {}
        """The one confirmed last is the last."""
        self._by_number: dict[str, dict[str, None]] = {}
        self._shared: dict[str, str] = {}
        """Number -> the document that all its callers are given, as far as we know."""
        self._newest: dict[str, str] = {}
        """Tenant -> its newest answer."""
        self._index = Index()
        self._indexed: dict[str, Match] = {}
        """Of the `match` of those newest ones that have it."""
        self._bodies: dict[str, Body] = {}
        self._bytes = 0
        self._users: dict[str, int] = {}
        """Digest -> answers that have it."""
        self._thread = ThreadPoolExecutor(1, "tenants")
        self._dirty: dict[str, Known | None] = {}
        self._writing: asyncio.Task[None] | None = None
        self._writable = True

    async def open(self) -> None:
        """Read what is known from before. A file that cannot be used is said to be, and done without."""
        loop = asyncio.get_running_loop()
        try:
            rows = await loop.run_in_executor(self._thread, _load, self._path)
        except (OSError, sqlite3.Error, UnicodeDecodeError) as error:
            log.error("what the tenants' backend has said is not known", file=str(self._path), error=str(error))
            self._writable = is_damage(error) and self._begun_anew()
            return
        for known, body in rows:
            self._keep(known, body)

    def _begun_anew(self) -> bool:
        try:
            set_aside(self._path)
        except OSError:
            return False
        return True

    async def close(self) -> None:
        await self.written()
        self._thread.shutdown(wait=True)

    async def written(self) -> None:
        """All that is to be kept is on disk."""
        while self._writing is not None:
            await self._writing

    # --- what is known ------------------------------------------------------------------------------------------------

    @property
    def answers(self) -> Iterable[Known]:
        return self._answers.values()

    def body(self, digest: str) -> bytes:
        return self._bodies[digest].body

    def exactly(self, question: Question) -> Known | None:
        """What was answered to the same words."""
        return self._answers.get(question.key)

    def for_want_of(self, question: Question) -> Known | None:
        """The best that can be given where the backend cannot be asked."""
        known = self.exactly(question)
        if known is not None:
            return known
        shared = self._shared.get(question.number)
        alike = (each for each in self._of_number(question.number) if each.digest == shared)
        if (found := next(alike, None)) is not None:
            return found
        rule = self._index.best(question.fields)
        meant = None if rule is None else self.by_tenant(rule.id)
        return None if meant is None or (meant.caller != question.caller and self._is_ones_own(meant)) else meant

    def _is_ones_own(self, known: Known) -> bool:
        """For all that its `match` says, it looks as if it was written for one caller: it has his number in it, or the
        last that other callers of the same number were given is something else."""
        if self._shared.get(known.number) == known.digest:
            return False
        if len(known.caller) >= _A_NUMBER and known.caller.encode("utf-8", "replace") in self.body(known.digest):
            return True
        others = islice(self._of_number(known.number), _LOOKED_AT)
        return any(each.digest != known.digest and each.caller != known.caller for each in others)

    def by_tenant(self, tenant: str) -> Known | None:
        """Its newest. From any thread."""
        key = self._newest.get(tenant)
        return None if key is None else self._answers.get(key)

    def _of_number(self, number: str) -> Iterator[Known]:
        """The newest first."""
        return (self._answers[key] for key in reversed(self._by_number.get(number, {})))

    # --- what is learned ----------------------------------------------------------------------------------------------

    def learn(
        self,
        question: Question,
        body: Body,
        *,
        etag: str | None,
        private: bool,
        public: bool,
        kept: bool,
        fresh_until: float,
    ) -> Known:
        """The backend has answered with that."""
        alike = any(
            each.digest == body.digest and each.caller != question.caller and not each.private
            for each in islice(self._of_number(question.number), _LOOKED_AT)
        )
        known = Known(
            question.key,
            question.number,
            question.caller,
            body.tenant,
            body.digest,
            etag,
            self._wall(),
            shared=not private and (public or alike) and not question.tenant,
            private=private,
            fresh_until=fresh_until,
            kept=kept,
        )
        self._set(known, body)
        return known

    def confirm(self, known: Known, *, etag: str | None, fresh_until: float) -> Known:
        """It still holds."""
        known = replace(known, etag=etag, confirmed=self._wall(), fresh_until=fresh_until)
        self._set(known)
        return known

    def forget(self, question: Question) -> None:
        """It is nobody's now."""
        self._drop(question.key)

    def _set(self, known: Known, body: Body | None = None) -> None:
        before = self._answers.get(known.key)
        # One write a call would be a lot of them.
        hardly_newer = (
            before is not None
            and known.confirmed - before.saved < _HARDLY_S
            and replace(before, confirmed=known.confirmed, fresh_until=known.fresh_until, saved=known.saved) == known
        )
        saved = before.saved if before is not None and hardly_newer else known.confirmed
        self._keep(replace(known, saved=saved), body or self._bodies[known.digest])
        if not hardly_newer:
            self._to_write(known.key, known if known.kept else None)

    def _keep(self, known: Known, body: Body) -> None:
        before = self._remove(known.key)
        self._answers[known.key] = known
        self._by_number.setdefault(known.number, {})[known.key] = None
        if known.shared:
            self._shared[known.number] = known.digest
        elif self._shared.get(known.number) != known.digest:
            self._shared.pop(known.number, None)  # another edition, or not alike for all after all
        if known.digest not in self._bodies:
            self._bodies[known.digest] = body
            self._bytes += len(body.body)
        self._users[known.digest] = self._users.get(known.digest, 0) + 1
        if before is not None and before.tenant != known.tenant:
            self._not_newest(before)
        self._newest[known.tenant] = known.key
        self._matches(known.tenant, None if known.private else body.match)
        while len(self._answers) > MOST_ANSWERS or (self._bytes > _MOST_BYTES and len(self._answers) > 1):
            self._drop(next(iter(self._answers)))

    def _remove(self, key: str) -> Known | None:
        known = self._answers.pop(key, None)
        if known is None:
            return None
        keys = self._by_number[known.number]
        del keys[key]
        if not keys:
            del self._by_number[known.number]
            self._shared.pop(known.number, None)
        self._users[known.digest] -= 1
        if not self._users[known.digest]:
            del self._users[known.digest]
            self._bytes -= len(self._bodies.pop(known.digest).body)
        return known

    def _drop(self, key: str) -> None:
        known = self._remove(key)
        if known is not None:
            self._not_newest(known)
            self._to_write(key, None)

    def _not_newest(self, known: Known) -> None:
        if self._newest.get(known.tenant) == known.key:
            del self._newest[known.tenant]
            self._matches(known.tenant, None)

    def _matches(self, tenant: str, match: Match | None) -> None:
        if self._indexed.get(tenant) == match:
            return
        self._indexed.pop(tenant, None)
        self._index.remove(tenant)
        if match is not None:
            self._indexed[tenant] = match
            self._index.add(tenant, match)

    # --- the file -----------------------------------------------------------------------------------------------------

    def _to_write(self, key: str, known: Known | None) -> None:
        if not self._writable:
            return
        self._dirty[key] = known
        if self._writing is None:
            self._writing = asyncio.get_running_loop().create_task(self._write())

    async def _write(self) -> None:
        try:
            while self._dirty:
                dirty, self._dirty = self._dirty, {}
                bodies = [
                    self._bodies[known.digest]
                    for known in dirty.values()
                    if known is not None and known.digest in self._bodies
                ]
                rows = [(key, known) for key, known in dirty.items() if known is None or known.digest in self._bodies]
                loop = asyncio.get_running_loop()
                await loop.run_in_executor(self._thread, _save, self._path, rows, bodies)
        except (OSError, sqlite3.Error) as error:
            log.error("what the tenants' backend has said is not kept", file=str(self._path), error=str(error))
        finally:
            self._writing = None


_HARDLY_S = 60.0
"""What is only newer than on disk by so much is not written."""


def known_in(path: Path) -> list[Known]:
    """What another process of this machine keeps, the newest last. Raises `sqlite3.Error`."""
    return [known for known, _ in _load(path)] if path.exists() else []


def _load(path: Path) -> list[tuple[Known, Body]]:
    with closing(_connect(path)) as db:
        return list(_rows(db))


def _rows(db: sqlite3.Connection) -> Iterator[tuple[Known, Body]]:
    bodies: dict[str, Body] = {}
    for digest, body, tenant, match in db.execute("SELECT digest, body, tenant, match FROM documents"):
        if not isinstance(body, bytes):
            raise sqlite3.DatabaseError("there is something that nobody has written")
        try:
            parsed = None if match is None else Match.model_validate_json(match)
        except ValidationError:
            parsed = None  # of another version of ours
        bodies[digest] = Body(digest, body, tenant, parsed)
    columns = "key, number, caller, digest, etag, confirmed, shared, private"
    for key, number, caller, digest, etag, confirmed, shared, private in db.execute(
        f"SELECT {columns} FROM answers ORDER BY confirmed"
    ):
        if digest in bodies:
            tenant = bodies[digest].tenant
            known = Known(
                key, number, caller, tenant, digest, etag, confirmed, bool(shared), bool(private), saved=confirmed
            )
            yield known, bodies[digest]


def _save(path: Path, rows: Iterable[tuple[str, Known | None]], bodies: Iterable[Body]) -> None:
    with closing(_connect(path)) as db, db:
        db.executemany(
            "INSERT OR IGNORE INTO documents VALUES (?, ?, ?, ?)",
            [(b.digest, b.body, b.tenant, None if b.match is None else _match_json(b.match)) for b in bodies],
        )
        for key, known in rows:
            if known is None:
                db.execute("DELETE FROM answers WHERE key = ?", (key,))
            else:
                values = (known.number, known.caller, known.digest, known.etag, known.confirmed)
                db.execute(
                    "INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                    (key, *values, int(known.shared), int(known.private)),
                )
        _sweep(db)


def _match_json(match: Match) -> str:
    return json.dumps(match.model_dump(mode="json", by_alias=True))


def _sweep(db: sqlite3.Connection) -> None:
    db.execute("DELETE FROM documents WHERE digest NOT IN (SELECT digest FROM answers)")


def erase(path: Path, is_callers: Callable[[str], bool]) -> int:
    """Remove what was answered for callers that `is_callers` is true of, also beside a gateway that runs; how many
    answers that were. Raises `sqlite3.Error`."""
    if not path.exists():
        return 0
    with closing(_connect(path)) as db:
        with db:
            keys = [row for *row, caller in db.execute("SELECT key, caller FROM answers") if is_callers(caller)]
            db.executemany("DELETE FROM answers WHERE key = ?", keys)
            _sweep(db)
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return len(keys)


def erase_caller(config: Config, number: str) -> int:
    """Likewise for calls of that person, by any form of the number."""
    wanted = same_number(number)
    return erase(config.tenants.cache, lambda caller: bool(wanted) and same_number(caller) == wanted)


def _connect(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)  # a document may hold a tenant's secrets
    db = sqlite3.connect(path, timeout=5.0)
    try:
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA secure_delete=ON")
        db.executescript(_SCHEMA)
    except BaseException:
        db.close()
        raise
    return db
