"""A bidirectional stream to a model on Amazon Bedrock: HTTP/2, signed, framed by the vendor's SDK.

The SDK (`aws_sdk_bedrock_runtime` 0.12 or newer with its `awscrt` extra, Python 3.12 or newer) is loaded when the
first such channel is opened. Its stream takes one event at a time and makes the sender wait: what waits stands here,
and of it only caller audio is ever dropped.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from sipbridge.errors import AgentStartError
from sipbridge.providers import BedrockEndpoint, Outgoing
from sipbridge.providers.websocket import CLOSE_SECONDS, MAX_UNSENT_MS, Receive

SDK = "aws_sdk_bedrock_runtime"
MISSING = (
    "nova_sonic needs the vendor's SDK, which needs Python 3.12 or newer: install sipbridge with the extra `nova` "
    "(`pip install 'sipbridge[nova]'`)"
)

STATUS = {
    "AccessDeniedException": 403,
    "ExpiredTokenException": 403,
    "InvalidSignatureException": 403,
    "UnrecognizedClientException": 403,
    "ValidationException": 400,
    "ResourceNotFoundException": 404,
    "ModelTimeoutException": 408,
    "ModelStreamErrorException": 424,
    "ModelErrorException": 424,
    "ModelNotReadyException": 429,
    "ServiceQuotaExceededException": 429,
    "ThrottlingException": 429,
    "InternalServerException": 500,
    "ServiceUnavailableException": 503,
}
"""The service's errors by the names of the SDK's classes, with the statuses that its API reference gives them."""


def sdk_is_there() -> bool:
    return find_spec(SDK) is not None


class BedrockChannel:
    """See `sipbridge.providers.channels.Channel`."""

    def __init__(self, stream: Any, transport: Any) -> None:
        self.dropped_ms = 0.0
        self._stream = stream
        self._transport = transport
        self._unsent: deque[Outgoing] = deque()
        self._unsent_ms = 0.0
        self._wanted = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._closing = False
        self._sender = asyncio.create_task(self._send_all())
        self._end: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, endpoint: BedrockEndpoint) -> BedrockChannel:
        """Raises `AgentStartError`. That the service refuses the stream is only known when it is read."""
        try:
            client = import_module(f"{SDK}.client")
            config = import_module(f"{SDK}.config")
            models = import_module(f"{SDK}.models")
            transport = import_module("smithy_http.aio.crt").AWSCRTHTTPClient()
        except ImportError:
            raise AgentStartError(MISSING, code="sdk") from None
        given = {
            "endpoint_uri": endpoint.url,
            "aws_access_key_id": endpoint.access_key_id,
            "aws_secret_access_key": endpoint.secret_access_key,
            "aws_session_token": endpoint.session_token,
        }
        wanted = {key: value for key, value in given.items() if value}
        try:
            resolved = await config.AsyncBedrockRuntimeConfig.resolve(
                region=endpoint.region, transport=transport, **wanted
            )
            operation = models.InvokeModelWithBidirectionalStreamOperationInput(model_id=endpoint.model)
            bedrock = client.AsyncBedrockRuntimeClient(resolved)
            stream = await bedrock.invoke_model_with_bidirectional_stream(operation)
        except Exception as error:
            await _quietly(transport.close())
            code, words = _failure(error)
            again = code in (408, 429) or code >= 500
            name = str(code) if code < 1000 else "unreachable"
            raise AgentStartError(f"Bedrock in {endpoint.region}: {words}", code=name, again=again) from None
        return cls(stream, transport)

    def send(self, message: Outgoing) -> None:
        """Queue a message. Beyond `MAX_UNSENT_MS` the oldest audio is dropped, counted."""
        self._unsent.append(message)
        self._unsent_ms += message.audio_ms
        while self._unsent_ms > MAX_UNSENT_MS:
            oldest = next(index for index, waiting in enumerate(self._unsent) if waiting.audio_ms)
            dropped = self._unsent[oldest].audio_ms
            del self._unsent[oldest]
            self._unsent_ms -= dropped
            self.dropped_ms += dropped
        self._idle.clear()
        self._wanted.set()

    async def _send_all(self) -> None:
        """One chunk after another; ends where the stream takes no more."""
        models = import_module(f"{SDK}.models")
        with suppress(OSError):
            while True:
                while self._unsent:
                    message = self._unsent.popleft()
                    self._unsent_ms -= message.audio_ms
                    data = message.data if isinstance(message.data, bytes) else message.data.encode()
                    part = models.BidirectionalInputPayloadPart(bytes_=data)
                    await self._stream.input_stream.send(models.InvokeModelWithBidirectionalStreamInputChunk(part))
                self._idle.set()
                self._wanted.clear()
                await self._wanted.wait()
        self._idle.set()

    async def receive(self, deliver: Receive) -> tuple[int, str]:
        """The close code is an HTTP status where the service told what is wrong."""
        try:
            _, output = await self._stream.await_output()
            deliver(b"")
            while (event := await output.receive()) is not None:
                data = getattr(event.value, "bytes_", None)
                if data:
                    deliver(data)
        except Exception as error:
            return (1000, "closed") if self._closing else _failure(error)
        finally:
            await self._cut()
        return 1000, "closed" if self._closing else "the stream ended"

    async def close(self) -> None:
        """What waits is sent, then the stream ends."""
        self._closing = True
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS / 2):
                await self._idle.wait()
                await self._stream.input_stream.close()
        await self._cut()

    def abort(self) -> None:
        self._closing = True
        self._cut()

    def _cut(self) -> asyncio.Task[None]:
        """Once; who reads waits for it, so that nothing is left behind."""
        if self._end is None:
            self._end = asyncio.create_task(self._shut())
        return self._end

    async def _shut(self) -> None:
        self._sender.cancel()
        await asyncio.gather(self._sender, return_exceptions=True)
        await _quietly(self._transport.close())


async def _quietly(closing: Any) -> None:
    """To close may fail, or hang, where the connection is gone already: nobody has to know."""
    task = asyncio.ensure_future(closing)
    await asyncio.wait([task], timeout=CLOSE_SECONDS / 2)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def _failure(error: BaseException) -> tuple[int, str]:
    """(close code, words). The SDK's messages are the service's own; they quote no secret key."""
    name = type(error).__name__
    words = " ".join(str(error).split())[:200]
    return STATUS.get(name, 1006), f"{name}: {words}" if words else name
