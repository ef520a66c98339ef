"""The providers that the suite runs over. A new one is one line in `BENCHES`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sipbridge.simulator.model import ModelServer
from sipbridge.simulator.parts import PartsServer

Credential = Mapping[str, Any]
Server = ModelServer | PartsServer


def at_url(credential: Credential, server: Server) -> Credential:
    return {**credential, "url": server.url} if isinstance(server, ModelServer) else server.credential


def at_api(credential: Credential, server: Server) -> Credential:
    """Where the vendor is asked over HTTP first."""
    assert isinstance(server, ModelServer)
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
    place: Callable[[Credential, Server], Credential] = at_url
    """Makes the credential point at the simulator."""
    variant: str = ""
    """Where one provider is here more than once."""
    parts: Callable[[], PartsServer] | None = None
    """Where the agent is made of several services."""

    @property
    def name(self) -> str:
        return f"{self.slug} ({self.variant})" if self.variant else self.slug

    def server(self) -> Server:
        return self.parts() if self.parts is not None else ModelServer(wire=self.wire or self.slug)

    def credential_for(self, server: Server) -> dict[str, Any]:
        return {**self.place(self.credential, server), "provider": self.slug}


CARTESIA = {"api_key": "key-0123456789", "voice_provider": {"provider": "cartesia", "voice": "voice-1"}}

BENCHES = (
    Bench("openai"),
    Bench("openai", variant="voice: cartesia", credential=CARTESIA, parts=PartsServer.model_and_voice),
    Bench("elevenlabs", place=at_api, credential={"agent_id": "agent_sim", "api_key": "key-0123456789"}),
    Bench("ultravox", place=at_api),
    Bench("nova_sonic", credential={}),
)
