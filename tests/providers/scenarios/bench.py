"""The providers that the suite runs over. A new one is one line in `BENCHES`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sipbridge.simulator.model import ModelServer

Credential = Mapping[str, Any]


def at_url(credential: Credential, server: ModelServer) -> Credential:
    return {**credential, "url": server.url}


def at_api(credential: Credential, server: ModelServer) -> Credential:
    """Where the vendor is asked over HTTP first."""
    return {**credential, "url": server.http_url}


@dataclass(frozen=True, eq=False)
class Bench:
    """A provider and the simulated server that it talks to."""

    slug: str
    wire: str = ""
    """Of the simulator, where it is not the slug's."""
    credential: Credential = field(default_factory=lambda: {"api_key": "key-0123456789"})
    options: Mapping[str, Any] = field(default_factory=dict)
    """Of `AgentOptions`, where a vendor can't do without."""
    place: Callable[[Credential, ModelServer], Credential] = at_url
    """Makes the credential point at the simulator."""
    variant: str = ""
    """Where one provider is here more than once."""

    @property
    def name(self) -> str:
        return f"{self.slug} ({self.variant})" if self.variant else self.slug

    def server(self) -> ModelServer:
        return ModelServer(wire=self.wire or self.slug)

    def credential_for(self, server: ModelServer) -> dict[str, Any]:
        return {**self.place(self.credential, server), "provider": self.slug}


BENCHES = (
    Bench("openai"),
    Bench("elevenlabs", credential={"agent_id": "agent_sim", "api_key": "key-0123456789"}),
    Bench("ultravox", place=at_api),
)
