"""A realtime model behind a real WebSocket, speaking a vendor's wire format: `sipbridge simulate openai`.

    async with ModelServer(Script(transcripts=("two nights, please",))) as server:
        credential = {"provider": "openai", "url": server.url}
        ...
        await server.sessions[0].wait_for("conversation.item.truncate")

Every client message is recorded with its time, every violation of the protocol counted.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from importlib import import_module
from typing import Any, Protocol, Self, TypeAlias
from urllib.parse import parse_qs, urlsplit

import structlog
from websockets.asyncio.server import Server, ServerConnection, broadcast, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from sipbridge.audio import AudioFormat
from sipbridge.simulator.http import HttpAnswer, HttpRequest, HttpServer
from sipbridge.simulator.script import Fault, Script

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Received:
    at: float
    """On the clock of `time.monotonic`."""
    message: dict[str, Any]


_AUDIO = frozenset({"input_audio_buffer.append", "session.input_audio.append", "realtimeInput.audio"})


def kind_of(message: Mapping[str, Any]) -> str:
    """Its `type`; on a wire without, what it carries: {"realtimeInput": {"text": ...}} is a "realtimeInput.text"."""
    kind = message.get("type")
    if isinstance(kind, str) or not message:
        return kind or ""
    name, value = next(iter(message.items()))
    return f"{name}.{next(iter(value))}" if isinstance(value, dict) and len(value) == 1 else name


@dataclass(slots=True)
class SessionRecord:
    """What one client did."""

    headers: Mapping[str, str]
    path: str
    received: list[Received] = field(default_factory=list)
    sent: list[dict[str, Any]] = field(default_factory=list)
    violations: list[tuple[str, str]] = field(default_factory=list)
    """(code, message) of everything that was refused."""
    audio: bytearray = field(default_factory=bytearray)
    """All audio the client appended."""
    audio_format: AudioFormat | None = None
    """What that is, where the vendor decides on it and not the client."""
    open_calls: list[str] = field(default_factory=list)
    close_code: int | None = None
    closed: asyncio.Event = field(default_factory=asyncio.Event)
    _waiting: list[tuple[Callable[[], bool], asyncio.Future[None]]] = field(default_factory=list)

    def add(self, message: dict[str, Any]) -> None:
        self.received.append(Received(time.monotonic(), message))
        self.notify()

    def notify(self) -> None:
        for ready, future in self._waiting:
            if not future.done() and ready():
                future.set_result(None)

    def messages(self, kind: str | None = None) -> list[dict[str, Any]]:
        """Received, without the audio unless it is asked for."""
        named = [(kind_of(entry.message), entry.message) for entry in self.received]
        if kind is not None:
            return [message for name, message in named if name == kind or name.startswith(f"{kind}.")]
        return [message for name, message in named if name not in _AUDIO]

    async def wait_for(self, kind: str, count: int = 1) -> dict[str, Any]:
        """The `count`-th message of this type, as soon as it has come."""
        await self.wait_until(lambda: len(self.messages(kind)) >= count)
        return self.messages(kind)[count - 1]

    async def wait_until(self, ready: Callable[[], bool]) -> None:
        """Until this holds; looked at whenever a message comes in or goes out."""
        if not ready():
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            entry = (ready, future)
            self._waiting.append(entry)
            try:
                await future
            finally:
                self._waiting.remove(entry)


class Faulty(Exception):
    """Raised inside a model to break the connection as the script wants it."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.name)
        self.fault = fault


@dataclass(frozen=True, slots=True)
class Opening:
    """What a client opened its WebSocket with."""

    path: str
    query: Mapping[str, list[str]]
    headers: Mapping[str, str]
    created: dict[str, Any] = field(default_factory=dict)
    """What was asked for over HTTP and is not connected to yet, by the vendor's id of it."""

    def parameter(self, name: str, default: str = "") -> str:
        return self.query.get(name, [default])[0]


class Model(Protocol):
    """One connection's conversation in one vendor's wire format.

    Its class may have a static `answer_http`, an `AnswerHttp`: then the vendor is asked over HTTP as well, at
    `ModelServer.http_url`.
    """

    def opened(self) -> None: ...

    def receive(self, data: str | bytes) -> None: ...

    def closed(self) -> None: ...


class Connection:
    """What a `Model` sees of its WebSocket."""

    def __init__(self, websocket: ServerConnection, record: SessionRecord) -> None:
        self._websocket = websocket
        self._mute = False
        self._breaking: set[asyncio.Future[None]] = set()
        self.record = record

    def send(self, message: dict[str, Any], *, binary: bool = False) -> None:
        """`binary`: as a vendor does that sends its JSON in binary frames."""
        if self._mute:
            return
        self.record.sent.append(message)
        text = json.dumps(message)
        broadcast((self._websocket,), text.encode() if binary else text)
        self.record.notify()

    def send_audio(self, audio: bytes) -> None:
        """A binary frame, where those are sound."""
        if not self._mute:
            broadcast((self._websocket,), audio)

    def send_raw(self, data: str | bytes) -> None:
        broadcast((self._websocket,), data)

    def close_soon(self, fault: Fault) -> None:
        """The same as `break_off`, for who cannot wait."""
        self._soon(self.break_off(fault))

    def close_with(self, code: int, reason: str) -> None:
        """For a vendor whose only way to report an error this is."""
        self._mute = True
        self._soon(self._websocket.close(code, reason))

    def _soon(self, closing: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(closing)
        self._breaking.add(task)
        task.add_done_callback(self._breaking.discard)

    def stall(self) -> None:
        """Read nothing any more, not even a close."""
        self._websocket.transport.pause_reading()

    async def break_off(self, fault: Fault) -> None:
        if fault.name == "close":
            await self._websocket.close(fault.number or 1011, "the simulator was told to close")
        elif fault.name == "expire":
            await self._websocket.close(1001, "session_expired")
        elif fault.name == "drop":
            self._websocket.transport.abort()
        elif fault.name == "hang":
            self._mute = True


class NewModel(Protocol):
    """A model's class."""

    path: str
    """Of the URL that clients of this vendor open."""

    def __call__(self, connection: Connection, script: Script, opening: Opening) -> Model: ...


WIRES: dict[str, NewModel | str] = {
    "azure_openai": "sipbridge.simulator.openai_relatives:azure",
    "azure_voice_live": "sipbridge.simulator.voice_live_server:VoiceLiveModel",
    "cartesia": "sipbridge.simulator.cartesia_server:CartesiaModel",
    "dashscope": "sipbridge.simulator.dashscope_server:DashScopeModel",
    "deepgram": "sipbridge.simulator.deepgram:DeepgramModel",
    "elevenlabs": "sipbridge.simulator.elevenlabs:ElevenLabsModel",
    "gemini": "sipbridge.simulator.gemini_server:GeminiModel",
    "nova_sonic": "sipbridge.simulator.nova:NovaModel",
    "openai": "sipbridge.simulator.openai_server:OpenAIModel",
    "openai_beta": "sipbridge.simulator.openai_relatives:OlderModel",
    "openai_compatible": "sipbridge.simulator.openai_relatives:CompatibleModel",
    "openai_live": "sipbridge.simulator.openai_live:LiveModel",
    "ultravox": "sipbridge.simulator.ultravox:UltravoxModel",
    "xai": "sipbridge.simulator.xai_server:XaiModel",
}
"""The vendors that can be simulated, and where their models are."""


AnswerHttp: TypeAlias = Callable[[HttpRequest, "ModelServer"], Awaitable[HttpAnswer]]


def new_model(wire: str) -> NewModel:
    entry = WIRES[wire]
    if not isinstance(entry, str):
        return entry
    module, _, name = entry.partition(":")
    model: NewModel = getattr(import_module(module), name)
    return model


class ModelServer:
    """Listens as long as it is entered. A client's URL may change its script: see `Script.with_query`."""

    def __init__(
        self, script: Script | None = None, *, wire: str | NewModel = "openai", host: str = "127.0.0.1", port: int = 0
    ) -> None:
        self.script = script or Script()
        self.sessions: list[SessionRecord] = []
        self.refused = 0
        self._new_model = new_model(wire) if isinstance(wire, str) else wire
        self.wire = wire if isinstance(wire, str) else ""
        self._host = host
        self._port = port
        self._server: Server | None = None
        self._answer_http: AnswerHttp | None = getattr(self._new_model, "answer_http", None)
        self._http = HttpServer(self._asked, host=host, port=port + 1 if port else 0)
        self.created: dict[str, Any] = {}
        """See `Opening.created`."""
        self._arrived = asyncio.Event()

    @property
    def port(self) -> int:
        assert self._server is not None, "the server is not running"
        port: int = next(iter(self._server.sockets)).getsockname()[1]
        return port

    @property
    def url(self) -> str:
        return f"ws://{self._host}:{self.port}{self._new_model.path}"

    @property
    def answers_http(self) -> bool:
        return self._answer_http is not None

    @property
    def http_url(self) -> str:
        """Of the vendor's API, where it has one beside the WebSocket."""
        return self._http.url

    @property
    def asked(self) -> list[HttpRequest]:
        """What came over HTTP."""
        return self._http.requests

    async def _asked(self, request: HttpRequest) -> HttpAnswer:
        assert self._answer_http is not None
        fault = self.script.fault
        if fault is not None and fault.name == "status":
            self.refused += 1
            return HttpAnswer.of({"detail": "the simulator was told to refuse"}, fault.number or 401)
        return await self._answer_http(request, self)

    async def __aenter__(self) -> Self:
        if self.answers_http:
            await self._http.__aenter__()
        self._server = await serve(
            self._serve,
            self._host,
            self._port,
            process_request=self._admit,
            compression=None,
            max_size=16 * 1024 * 1024,
            close_timeout=0.2,
            ping_interval=None,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self.resume()
        self._server.close()
        await self._server.wait_closed()
        if self.answers_http:
            await self._http.__aexit__()

    async def session(self, index: int = 0) -> SessionRecord:
        """The record of a client, as soon as it has connected."""
        while len(self.sessions) <= index:
            self._arrived.clear()
            await self._arrived.wait()
        return self.sessions[index]

    def drop(self) -> None:
        """Cut every connection, as a network does: without a word."""
        assert self._server is not None
        for connection in list(self._server.connections):
            connection.transport.abort()

    def resume(self) -> None:
        """Ends every `stall`."""
        assert self._server is not None
        for connection in list(self._server.connections):
            connection.transport.resume_reading()

    def _script_for(self, path: str) -> Script:
        return self.script.with_query(parse_qs(urlsplit(path).query))

    def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
        try:
            fault = self._script_for(request.path).fault
        except ValueError as error:
            return connection.respond(HTTPStatus.BAD_REQUEST, f"{error}\n")
        if fault is None or fault.name != "status":
            return None
        self.refused += 1
        status = HTTPStatus(fault.number or 401)
        return connection.respond(status, json.dumps({"error": {"message": status.phrase, "code": f"http_{status}"}}))

    async def _serve(self, websocket: ServerConnection) -> None:
        request = websocket.request
        assert request is not None
        script = self._script_for(request.path)
        record = SessionRecord(dict(request.headers.raw_items()), request.path)
        self.sessions.append(record)
        self._arrived.set()
        connection = Connection(websocket, record)
        where = urlsplit(request.path)
        opening = Opening(where.path, parse_qs(where.query), record.headers, self.created)
        model = self._new_model(connection, script, opening)
        fault = script.fault
        log.info("client connected", path=urlsplit(request.path).path)
        try:
            if fault and fault.name == "slow":
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(websocket.wait_closed(), fault.number / 1000)
            if not (fault and fault.name == "silence"):
                model.opened()
            async for message in websocket:
                model.receive(message)
        except ConnectionClosed:
            pass
        finally:
            model.closed()
            record.close_code = websocket.close_code
            record.closed.set()
            record.notify()
            log.info("client gone", messages=len(record.received), violations=len(record.violations))
