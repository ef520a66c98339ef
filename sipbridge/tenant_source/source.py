"""What the gateway asks for a call's tenant, wherever tenants come from."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from prometheus_client.registry import Collector

from sipbridge.call_fields import CallFields
from sipbridge.tenants import Tenant


class TenantSource(Protocol):
    """A call keeps the tenant that it was given, in the version of that moment."""

    @property
    def tenants(self) -> Sequence[Tenant]:
        """Those that are known now."""

    def subscribe(self, changed: Callable[[Tenant], None], gone: Callable[[str], None]) -> None:
        """`changed` is told of each version of a tenant that is in force from then on, for whoever calls; `gone` of
        those that are not there any more."""

    def collectors(self) -> Sequence[Collector]:
        """What is measured of them, for Prometheus."""

    def get(self, tenant_id: str) -> Tenant | None: ...

    async def fetch(self, tenant_id: str) -> Tenant | None:
        """Likewise, asking whoever has to be asked. Raises `TenantSourceError`."""

    def find(self, fields: CallFields) -> Tenant | None | Awaitable[Tenant | None]:
        """The tenant that a call is for: at once where it is known here, so that the call begins within its INVITE.
        Raises `TenantSourceError`, or what is awaited does, where it cannot be told now."""
