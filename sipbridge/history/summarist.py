"""Has calls summed up when they are over: a `Sink` of the outbox, so that no call waits for it and a crash loses none.

One tenant's model that does not answer is asked again later, and meanwhile keeps nobody else's waiting.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import structlog

from sipbridge.errors import AgentStartError, ConfigError
from sipbridge.history import summary
from sipbridge.history.facts import Entry, Fact, Noted
from sipbridge.history.sink import Pace, SinkUnavailableError
from sipbridge.prices import Prices
from sipbridge.providers.access import REQUESTS, authorization, url_and_key
from sipbridge.providers.fetch import fetch_json
from sipbridge.providers.speech.chat import URL
from sipbridge.providers.wire import Json
from sipbridge.tenant_file.summary import SummaryConfig
from sipbridge.tenants import Tenant

log = structlog.get_logger(__name__)

_AT_ONCE = 4
_FIRST_REST_S = 1.0
_LONGEST_REST_S = 300.0
_GIVEN_UP_S = 24 * 3600.0
"""After the call's end."""
_HOPELESS = ("400", "413", "422")
"""Statuses that say that it is this call which the model does not take."""


class Summarist:
    name = "summary"
    pace = Pace(mixed=False, calls=_AT_ONCE, whole=True)

    def __init__(
        self,
        tenant_of: Callable[[str], Tenant | None],
        prices: Prices,
        note_late: Callable[[str, Fact], None],
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """`tenant_of`: by its id, None where there is none any more. `note_late` takes what comes of it."""
        self._tenant_of = tenant_of
        self._prices = prices
        self._note_late = note_late
        self._clock = clock
        self._wall = wall
        self._resting: dict[str, tuple[int, float]] = {}
        """URL -> failures in a row, and until when it is left alone."""

    def wants(self, entry: Entry) -> bool:
        return summary.of_interest(entry.kind) and self._config(entry.tenant) is not None

    async def deliver(self, entries: Sequence[Entry]) -> None:
        """See `Sink`; raises what is of this call only."""
        config = self._config(entries[0].tenant) if summary.is_due(entries) else None
        asked = None if config is None else summary.request(config, entries)
        if config is None or asked is None:
            return
        record = entries[0].record
        try:
            said = await self._ask(config, asked)
            if (summarised := summary.answer(config, said, self._prices)) is None:
                raise AgentStartError("the model has written nothing", code="empty", again=True)
        except (AgentStartError, ConfigError) as error:
            self._failed(record, entries[-1].at, error)
        else:
            log.info("call summarised", record=record, model=config.model, cost_usd=summarised.cost_usd)
            self._note_late(record, summarised)

    async def close(self) -> None:
        pass

    def _config(self, tenant_id: str) -> SummaryConfig | None:
        """As the tenant has it now. None: no summary is wanted, or may be."""
        tenant = self._tenant_of(tenant_id)
        return None if tenant is None or tenant.config.storage == "attributes" else tenant.config.summary

    async def _ask(self, config: SummaryConfig, asked: Json) -> Json:
        url, key = url_and_key(config.to_section(), URL, "summary", REQUESTS)
        failures, until = self._resting.get(url, (0, 0.0))
        if self._clock() < until:
            raise SinkUnavailableError(
                "the model is left alone for a while", retry_after=until - self._clock(), only_this_call=True
            )
        try:
            said = await fetch_json("POST", url, headers=authorization(key), json=asked, seconds=config.timeout_seconds)
        except AgentStartError as error:
            if error.code not in _HOPELESS:
                rest = min(_FIRST_REST_S * 2.0**failures, _LONGEST_REST_S)
                self._resting[url] = (min(failures + 1, 20), self._clock() + rest)
            raise
        self._resting.pop(url, None)
        return said

    def _failed(self, record: str, at: float, error: AgentStartError | ConfigError) -> None:
        """Raises `SinkUnavailableError` where it is worth another attempt."""
        hopeless = isinstance(error, AgentStartError) and error.code in _HOPELESS
        if not hopeless and self._wall() - at < _GIVEN_UP_S:
            raise SinkUnavailableError(f"summary: {error}", only_this_call=True) from error
        log.warning("call not summarised", record=record, error=str(error))
        self._note_late(record, Noted("summary", f"not written: {error}"[:300]))
