"""Who is told of what happens: one signed POST for each event, in order per call, until it is taken (docs/webhooks.md).

From the same outbox as the store, so that a receiver that is down for an hour, or a gateway that dies, costs nobody an
event. What a receiver may get twice has the same `id` both times.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Any

from sipbridge.gateway_file.webhooks import WebhookConfig
from sipbridge.history.facts import Ended, Entry
from sipbridge.history.http import HttpPeer
from sipbridge.history.sink import Pace

_AT_ONCE = 8


class Webhook:
    """A `Sink`."""

    pace = Pace(entries=1, mixed=False, calls=_AT_ONCE)

    def __init__(self, config: WebhookConfig) -> None:
        """Raises `ConfigError` where its secret is not there."""
        self._peer = HttpPeer(
            config.url, config.secret, kind="webhook", seconds=config.timeout_seconds, connections=_AT_ONCE
        )
        self.name = self._peer.name
        self._kinds = frozenset(config.kinds)
        self._tenants = config.tenants

    def wants(self, entry: Entry) -> bool:
        return entry.kind in self._kinds and any(fnmatchcase(entry.tenant, pattern) for pattern in self._tenants)

    async def deliver(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            if self.wants(entry):
                identity = identity_of(entry)
                self._peer.judge(identity, await self._peer.ask(identity, event(entry)))

    async def close(self) -> None:
        await self._peer.close()


def webhooks_of(configs: Sequence[WebhookConfig]) -> list[Webhook]:
    """Raises `ConfigError`."""
    found = [Webhook(config) for config in configs]
    for number, webhook in enumerate(found):
        same = sum(config.url == configs[number].url for config in configs[:number])
        webhook.name += f" {same + 1}" if same else ""
    return found


def event(entry: Entry) -> dict[str, Any]:
    """What a receiver gets, the same at each attempt."""
    data = dict(entry.data)
    if entry.kind == Ended.kind:
        data.pop("ladder", None)  # for the store: it is longer than all the rest, and full of addresses
    return {
        "id": identity_of(entry),
        "type": entry.kind,
        "time": time_of(entry),
        "record": entry.record,
        "seq": entry.seq,
        "call_id": entry.call_id,
        "tenant": entry.tenant,
        "data": data,
    }


def identity_of(entry: Entry) -> str:
    """Names the event for good."""
    return f"{entry.record}-{entry.seq}"


def time_of(entry: Entry) -> str:
    """RFC 3339, in UTC, to the millisecond."""
    return datetime.fromtimestamp(entry.at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
