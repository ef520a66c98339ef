"""An agent made of several simulated services, started and stopped as one.

    async with PartsServer.model_and_voice(Script()) as server:
        credential = server.credential      # {"provider": "openai", ..., "voice_provider": {...}}

Each service is a server of its own; `sessions` has the records of all of them. What the one writes the other speaks:
they share a `Conversation`, which knows the utterance of the script whose turn it is.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any, Protocol, Self

from sipbridge.simulator.asked import AskedServer, ChatServer, HearingServer, SpeechServer
from sipbridge.simulator.cartesia_server import CartesiaModel
from sipbridge.simulator.conversation import Conversation
from sipbridge.simulator.ears import FluxModel, NovaModel, TranscriptionModel
from sipbridge.simulator.model import Connection, Model, ModelServer, Opening, SessionRecord
from sipbridge.simulator.script import Script
from sipbridge.simulator.speakers import DeepgramSpeakModel

KEY = "key-0123456789"


class ModelInConversation(Protocol):
    """A model's class that shares the conversation with others."""

    path: str

    def __call__(
        self, connection: Connection, script: Script, opening: Opening, conversation: Conversation
    ) -> Model: ...


class Sharing:
    """A `NewModel` whose models share a conversation."""

    def __init__(self, model: ModelInConversation, conversation: Conversation) -> None:
        self.path = model.path
        self._model = model
        self._conversation = conversation

    def __call__(self, connection: Connection, script: Script, opening: Opening) -> Model:
        return self._model(connection, script, opening, self._conversation)


class PartServer(Protocol):
    """A server of one part, as `ModelServer` is."""

    script: Script
    sessions: list[SessionRecord]

    @property
    def url(self) -> str: ...

    def drop(self) -> None: ...

    async def __aenter__(self) -> object: ...

    async def __aexit__(self, *_: object) -> None: ...


_CASCADES: dict[str, tuple[Any, Any]] = {
    "deepgram": (FluxModel, CartesiaModel),
    "openai": (TranscriptionModel, SpeechServer),
    "plain": (HearingServer, DeepgramSpeakModel),
    "nova": (NovaModel, CartesiaModel),
}
CASCADE_SECTIONS: dict[str, dict[str, dict[str, Any]]] = {
    "deepgram": {
        "stt": {"provider": "deepgram"},
        "llm": {"provider": "openai_compatible", "model": "sim"},
        "tts": {"provider": "cartesia", "voice": "voice-1"},
    },
    "openai": {
        "stt": {"provider": "openai"},
        "llm": {"provider": "openai", "model": "sim"},
        "tts": {"provider": "openai"},
    },
    "plain": {
        "stt": {"provider": "openai_compatible", "url": "http://127.0.0.1/v1/audio/transcriptions"},
        "llm": {"provider": "openai_compatible", "model": "sim"},
        "tts": {"provider": "deepgram"},
    },
    "nova": {
        "stt": {"provider": "deepgram", "model": "nova-3"},
        "llm": {"provider": "openai_compatible", "model": "sim"},
        "tts": {"provider": "cartesia", "voice": "voice-1"},
    },
}
"""What is in the sections beside `url` and `api_key`; the URL that is there says over what it is asked."""


def _server(part: Any, conversation: Conversation) -> PartServer:
    if issubclass(part, AskedServer):
        asked: PartServer = part(conversation)
        return asked
    return ModelServer(conversation.script, wire=Sharing(part, conversation))


class PartsServer:
    """Used like a `ModelServer`; `credential` instead of `url`. The script may be changed until it is entered."""

    def __init__(
        self,
        make: Callable[[Conversation], dict[str, PartServer]],
        provider: str,
        sections: dict[str, dict[str, Any]],
        script: Script | None = None,
    ) -> None:
        """`make`: the servers by the section of the credential that they belong to ("": the credential itself).
        `sections`: what is in those beside `url` and `api_key`."""
        self.script = script or Script()
        self.servers: dict[str, PartServer] = {}
        self.faulty: str | None = None
        """The section whose server alone has the script's fault; None: all of them."""
        self._make = make
        self._provider = provider
        self._sections = sections
        self._stack = AsyncExitStack()

    @classmethod
    def model_and_voice(cls, script: Script | None = None) -> Self:
        """OpenAI's realtime model, which writes, and Cartesia's voice."""

        def make(conversation: Conversation) -> dict[str, PartServer]:
            voice = ModelServer(conversation.script, wire=Sharing(CartesiaModel, conversation))
            return {"": ModelServer(conversation.script, wire="openai"), "voice_provider": voice}

        return cls(make, "openai", {"voice_provider": {"provider": "cartesia", "voice": "voice-1"}}, script)

    @classmethod
    def cascade(cls, kind: str = "deepgram", script: Script | None = None) -> Self:
        """Four kinds, so that all parts are there: `deepgram` (Flux; chat; Cartesia), `openai` (a realtime
        transcription; chat; speech over HTTP), `plain` (transcriptions over HTTP; chat; Deepgram's voice), `nova`
        (Deepgram's older models; chat; Cartesia)."""
        ear, voice = _CASCADES[kind]

        def make(conversation: Conversation) -> dict[str, PartServer]:
            return {
                "stt": _server(ear, conversation),
                "llm": ChatServer(conversation),
                "tts": _server(voice, conversation),
            }

        return cls(make, "cascade", CASCADE_SECTIONS[kind], script)

    @property
    def sessions(self) -> list[SessionRecord]:
        """Of all parts, each part's in the order in which they came."""
        return [record for server in self.servers.values() for record in server.sessions]

    @property
    def credential(self) -> dict[str, Any]:
        credential: dict[str, Any] = {"provider": self._provider}
        for name, server in self.servers.items():
            section = {**self._sections.get(name, {}), "url": server.url, "api_key": KEY}
            credential |= {name: section} if name else section
        return credential

    def drop(self) -> None:
        """Cut every connection of every part."""
        for server in self.servers.values():
            server.drop()

    async def __aenter__(self) -> Self:
        self.servers = self._make(Conversation(self.script))
        for name, server in self.servers.items():
            if self.faulty is not None and name != self.faulty:
                server.script = replace(self.script, fault=None)
        for server in self.servers.values():
            await self._stack.enter_async_context(server)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()
