"""The providers that the suite runs over. A new one is one line in `BENCHES`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from sipbridge.simulator.gemini_server import GeminiModel
from sipbridge.simulator.model import ModelServer
from sipbridge.simulator.parts import CASCADE_SECTIONS, PartsServer

Credential = Mapping[str, Any]
Server = ModelServer | PartsServer


def at_url(credential: Credential, server: Server) -> Credential:
    return {**credential, "url": server.url} if isinstance(server, ModelServer) else server.credential


def at_preview(credential: Credential, server: Server) -> Credential:
    there = at_url(credential, server)
    return {**there, "url": there["url"].replace("/openai/v1/", "/openai/")}


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
    hears_silence: bool = True
    """False where only what was said reaches a server."""
    parts: Callable[[], PartsServer] | None = None
    """Where the agent is made of several services."""

    @property
    def name(self) -> str:
        return f"{self.slug} ({self.variant})" if self.variant else self.slug

    def server(self) -> Server:
        return self.parts() if self.parts is not None else ModelServer(wire=self.wire or self.slug)

    def credential_for(self, server: Server) -> dict[str, Any]:
        return {**self.place(self.credential, server), "provider": self.slug}


QWEN_AUDIO = {"api_key": "key-0123456789", "model": "qwen-audio-3.1-realtime-plus"}
CARTESIA = {"api_key": "key-0123456789", "voice_provider": {"provider": "cartesia", "voice": "voice-1"}}

VERTEX = {
    "model": "gemini-live-2.5-flash-native-audio",
    "vertex": {"project": "acme", "location": "europe-west4", "token": "ya29.0123456789"},
}


def at_vertex(credential: Credential, server: Server) -> Credential:
    assert isinstance(server, ModelServer)
    return {**credential, "url": server.url.replace(GeminiModel.path, GeminiModel.vertex_path)}


def cascade(kind: str) -> Bench:
    return Bench(
        "cascade",
        variant=kind,
        credential=CASCADE_SECTIONS[kind],
        parts=partial(PartsServer.cascade, kind),
        hears_silence=kind != "plain",
    )


BENCHES = (
    Bench("azure_voice_live"),
    Bench("dashscope"),
    Bench("dashscope", variant="qwen-audio", credential=QWEN_AUDIO),
    Bench("openai"),
    Bench("openai_live"),
    Bench("deepgram"),
    Bench("openai", variant="voice: cartesia", credential=CARTESIA, parts=PartsServer.model_and_voice),
    Bench("azure_openai", credential={"api_key": "key-0123456789", "model": "d", "transcription_model": "t"}),
    Bench(
        "azure_openai",
        variant="preview",
        credential={
            "api_key": "key-0123456789",
            "url": "wss://r.openai.azure.com/openai/realtime",
            "model": "d",
            "transcription_model": "t",
        },
        place=at_preview,
    ),
    Bench("openai_compatible", variant="older shape", wire="openai_beta", credential={"transcription_model": "t"}),
    Bench("openai_compatible", credential={"output_rate": 16000, "transcription_model": "t"}),
    Bench("xai"),
    cascade("deepgram"),
    cascade("openai"),
    cascade("plain"),
    Bench("gemini"),
    Bench("gemini", variant="Vertex", credential=VERTEX, place=at_vertex),
    Bench("elevenlabs", place=at_api, credential={"agent_id": "agent_sim", "api_key": "key-0123456789"}),
    Bench("ultravox", place=at_api),
    Bench("nova_sonic", credential={}),
)
