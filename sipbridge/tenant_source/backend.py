"""Tenants of an HTTP backend: asked for each call, and what it said last where it cannot be asked.

    find -> known and fresh (max-age)?            at once
         -> the backend is known to be away?      what is known, at once; one question a second
         -> ask it (calls alike wait together)    200: a document, which a child reads; 304: as before; 404: nobody's
         -> no answer, or nonsense                what is known, else TenantSourceError (the caller gets 480)

`source: auto` looks at the directory for what is nobody's at the backend. It never does because the backend is away: an
outage is not to change whose call it is.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import structlog
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from sipbridge.call_fields import CallFields
from sipbridge.config import Config
from sipbridge.errors import ConfigError, TenantSourceError
from sipbridge.providers.breaker import Breaker, server_of
from sipbridge.tenant_source.backend_client import Answer, BackendClient, BackendError
from sipbridge.tenant_source.known_good import Body, Known, KnownGood, digest_of
from sipbridge.tenant_source.question import Question
from sipbridge.tenant_source.reader import Reader
from sipbridge.tenant_source.source import TenantSource
from sipbridge.tenants import Tenant

log = structlog.get_logger(__name__)

RESULTS = ("answered", "unchanged", "nobody", "failed", "nonsense", "last_known", "unknown")
_MOST_TENANTS = 1000
"""Documents that are kept read."""
_REFUSED_S = 30.0
"""One that takes long to refuse is not to keep the reader from the others each time."""
_MOST_UNDER_WAY = 500
"""Questions at a time; a call beyond them is as if the backend were away."""


class TenantBackend:
    """A `TenantSource` while it is entered. `beside`: where tenants are looked for that the backend does not have."""

    def __init__(
        self,
        config: Config,
        directory: Path,
        *,
        beside: TenantSource | None = None,
        reader: Reader | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """`directory`: where sounds that a document names are looked for. Raises `ConfigError` without a URL."""
        settings = config.tenants
        if settings.url is None:
            raise ConfigError("tenants.url is missing")
        self.url = settings.url
        self._timeout = settings.timeout_seconds
        self._beside = beside
        self._clock = clock
        self.wall = wall
        self._client = BackendClient(settings.url, settings.token, config.node.name)
        self._reader = reader or Reader(config, directory)
        self.known = KnownGood(settings.cache, wall)
        self._breaker = Breaker()
        self._server = ("tenants", server_of(settings.url))
        self._read: OrderedDict[str, Tenant] = OrderedDict()
        """By the digest of the document."""
        self._refused: OrderedDict[str, tuple[float, str]] = OrderedDict()
        """Digest -> until when it is not read again, and what was wrong."""
        self._asking: dict[str, asyncio.Task[Tenant | None]] = {}
        self.counts: Counter[str] = Counter()
        """`RESULTS`: questions by what became of them, and calls that were given what was known from before, or
        nothing."""
        self.stale: dict[str, float] = {}
        """Tenant -> since when the backend has not confirmed it, of those that calls were given nevertheless."""

    async def __aenter__(self) -> Self:
        await self.known.open()
        try:
            await self._reader.start()
        except (OSError, EOFError) as error:
            log.error("documents of the tenants' backend cannot be read", error=str(error))  # tried again for each
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asking = list(self._asking.values())
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
        await self._client.close()
        await self._reader.close()
        await self.known.close()

    # --- TenantSource -------------------------------------------------------------------------------------------------

    @property
    def tenants(self) -> Sequence[Tenant]:
        ours = {tenant.id: tenant for tenant in self._read.values()}
        beside = () if self._beside is None else self._beside.tenants
        return (*ours.values(), *(tenant for tenant in beside if tenant.id not in ours))

    def get(self, tenant_id: str) -> Tenant | None:
        known = self.known.by_tenant(tenant_id)
        tenant = None if known is None else self._read.get(known.digest)
        return tenant or (None if self._beside is None else self._beside.get(tenant_id))

    def subscribe(self, changed: Callable[[Tenant], None], gone: Callable[[str], None]) -> None:
        """Of the backend's nobody is told: what it says may be for one caller alone."""
        if self._beside is not None:
            self._beside.subscribe(changed, gone)

    def collectors(self) -> Sequence[Collector]:
        return (BackendMetrics(self), *(() if self._beside is None else self._beside.collectors()))

    @property
    def is_away(self) -> bool:
        return self._server in self._breaker.open_keys()

    def find(self, fields: CallFields) -> Tenant | None | Awaitable[Tenant | None]:
        question = Question.of(fields)
        known = self.known.exactly(question)
        if known is not None and self._clock() < known.fresh_until and known.digest in self._read:
            return self._read[known.digest]
        return self._find(question, fields)

    async def fetch(self, tenant_id: str) -> Tenant | None:
        """The tenant of that name, for a call of ours. Raises `TenantSourceError`."""
        tenant = await self._found(Question(to="", tenant=tenant_id), "")
        return tenant or (None if self._beside is None else self._beside.get(tenant_id))

    # --- finding ------------------------------------------------------------------------------------------------------

    async def _find(self, question: Question, fields: CallFields) -> Tenant | None:
        tenant = await self._found(question, fields.call_id)
        if tenant is not None or self._beside is None:
            return tenant
        found = self._beside.find(fields)
        return await found if isinstance(found, Awaitable) else found

    async def _found(self, question: Question, call_id: str) -> Tenant | None:
        task = self._asking.get(question.key)
        is_away = self.is_away
        if (
            task is None
            and len(self._asking) < _MOST_UNDER_WAY
            and self._breaker.admits((self._server,), self._clock())
        ):
            task = asyncio.create_task(self._ask(question, call_id))
            self._asking[question.key] = task
            task.add_done_callback(lambda done: self._asked(question, done))
        known = self.known.for_want_of(question)
        if task is None or (is_away and known is not None):
            return await self._last_known(question, known, call_id, f"{self._client.name} is away")
        try:
            return await asyncio.shield(task)
        except TenantSourceError as error:
            return await self._last_known(question, self.known.for_want_of(question), call_id, str(error))

    def _asked(self, question: Question, task: asyncio.Task[Tenant | None]) -> None:
        del self._asking[question.key]
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, TenantSourceError):
            log.error("the tenants' backend could not be asked", exc_info=error)

    async def _last_known(self, question: Question, known: Known | None, call_id: str, why: str) -> Tenant:
        if known is not None:
            try:
                tenant = await self._tenant(known.digest, self.known.body(known.digest), known.tenant)
            except ConfigError as error:
                why = f"{why}; and what is known from before cannot be used: {error}"
            else:
                self.counts["last_known"] += 1
                self.stale[tenant.id] = known.confirmed
                age = round(self.wall() - known.confirmed)
                log.warning("tenant as last known", tenant=tenant.id, age_seconds=age, call_id=call_id, why=why)
                return tenant
        self.counts["unknown"] += 1
        raise TenantSourceError(why)

    # --- asking -------------------------------------------------------------------------------------------------------

    async def _ask(self, question: Question, call_id: str) -> Tenant | None:
        """Whose it is by what the backend says now. Raises `TenantSourceError`."""
        known = self.known.exactly(question)
        until = asyncio.get_running_loop().time() + self._timeout
        try:
            async with asyncio.timeout_at(until):
                answer = await self._client.ask(question, call_id, None if known is None else known.etag)
        except TimeoutError:
            error = BackendError(f"{self._client.name}: no answer in {self._timeout:g} s", code="timeout")
            self._failed(error)
            raise error from None
        except BackendError as error:
            self._failed(error)
            raise
        if self._breaker.succeeded(self._server):
            log.info("the tenants' backend is back", url=self._client.name)
        try:
            async with asyncio.timeout_at(until):
                return await self._understood(question, known, answer)
        except (ConfigError, TimeoutError) as error:
            self.counts["nonsense"] += 1
            why = str(error) or f"{self._client.name}: takes too long to read"
            log.error("the tenants' backend sends what cannot be used", error=why)
            raise TenantSourceError(why) from None

    async def _understood(self, question: Question, known: Known | None, answer: Answer) -> Tenant | None:
        """Raises `ConfigError`."""
        if not answer.is_somebodys:
            self.counts["nobody"] += 1
            self.known.forget(question)
            return None
        fresh_until = self._clock() + answer.max_age if answer.max_age else 0.0
        if answer.body is None:
            if known is None:  # erased meanwhile
                raise ConfigError(f"{self._client.name}: answers 304 to what was never answered")
            tenant = await self._tenant(known.digest, self.known.body(known.digest), known.tenant)
            self.known.confirm(known, etag=answer.etag, fresh_until=fresh_until)
            self.counts["unchanged"] += 1
        else:
            nameless = question.tenant or question.to
            digest = digest_of(answer.body, nameless)
            tenant = await self._tenant(digest, answer.body, nameless)
            match = tenant.config.match if "match" in tenant.config.model_fields_set else None
            self.known.learn(
                question,
                Body(digest, answer.body, tenant.id, match),
                etag=answer.etag,
                private=answer.private,
                public=answer.public,
                kept=answer.kept,
                fresh_until=fresh_until,
            )
            self.counts["answered"] += 1
        self.stale.pop(tenant.id, None)
        return tenant

    def _failed(self, error: BackendError) -> None:
        self.counts["nonsense" if error.code == "nonsense" else "failed"] += 1
        if self._breaker.failed(self._server, error.code, self._clock()):
            log.error("the tenants' backend is away: calls are given what is known", error=str(error))

    # --- documents ----------------------------------------------------------------------------------------------------

    async def _tenant(self, digest: str, body: bytes, nameless: str) -> Tenant:
        """Raises `ConfigError`."""
        tenant = self._read.get(digest)
        if tenant is None:
            refused = self._refused.get(digest)
            if refused is not None and self._clock() < refused[0]:
                raise ConfigError(refused[1])
            try:
                document = await self._reader.read(body, name=self._client.name, nameless=nameless)
            except ConfigError as error:
                self._refused[digest] = self._clock() + _REFUSED_S, str(error)
                while len(self._refused) > _MOST_TENANTS:
                    self._refused.popitem(last=False)
                raise
            tenant = Tenant(document.id, document.config, document.version)
            await asyncio.to_thread(tenant.load_sounds)
            self._read[digest] = tenant
            while len(self._read) > _MOST_TENANTS:
                self._read.popitem(last=False)
        self._read.move_to_end(digest)
        return tenant


class BackendMetrics(Collector):
    """Names as in docs/counters.md."""

    def __init__(self, backend: TenantBackend) -> None:
        self._backend = backend

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        asked = CounterMetricFamily(
            "sipbridge_tenants_backend",
            "Questions to the tenants' backend, and what calls were given.",
            labels=("result",),
        )
        for result in RESULTS:
            asked.add_metric((result,), self._backend.counts[result])
        yield asked
        up = 0.0 if self._backend.is_away else 1.0
        yield GaugeMetricFamily("sipbridge_tenants_backend_up", "0: it has failed so often that calls do not wait.", up)
        stale = list(self._backend.stale.values())
        yield GaugeMetricFamily(
            "sipbridge_tenants_stale", "Tenants given to calls that the backend has not confirmed.", len(stale)
        )
        oldest = self._backend.wall() - min(stale) if stale else 0.0
        yield GaugeMetricFamily("sipbridge_tenants_stale_seconds", "Since when, of the oldest of them.", oldest)
