"""A stand-in for the vendor's SDK `aws_sdk_bedrock_runtime` 0.12, as far as our channel uses it, with the simulated
model behind its stream. Same names, same signatures; `test_nova_sdk.py` holds the channel against the real one."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import pytest

from sipbridge.simulator.model import Connection, Opening, SessionRecord
from sipbridge.simulator.nova import NovaModel
from sipbridge.simulator.script import Fault, Script


@dataclass
class BidirectionalInputPayloadPart:
    bytes_: bytes | None = None


@dataclass
class InvokeModelWithBidirectionalStreamInputChunk:
    value: BidirectionalInputPayloadPart


@dataclass
class InvokeModelWithBidirectionalStreamOperationInput:
    model_id: str | None = None


class SocketlessConnection(Connection):
    """What the simulated model writes to: the stream's output."""

    def __init__(self, record: SessionRecord) -> None:
        self.record = record
        self.output: asyncio.Queue[Any] = asyncio.Queue()
        self._mute = False

    def send(self, message: dict[str, Any], *, binary: bool = False) -> None:
        if not self._mute:
            self.record.sent.append(message)
            self.output.put_nowait(_chunk(json.dumps(message).encode()))

    def send_raw(self, data: str | bytes) -> None:
        self.output.put_nowait(_chunk(data if isinstance(data, bytes) else data.encode()))

    def close_soon(self, fault: Fault) -> None:
        if fault.number == 1000:
            self.output.put_nowait(None)
        else:
            self.output.put_nowait(error("ValidationException", "the simulator refuses"))

    async def break_off(self, fault: Fault) -> None:
        if fault.name == "hang":
            self._mute = True
        else:
            self.output.put_nowait(OSError("Failed to read from stream."))


def _chunk(data: bytes) -> InvokeModelWithBidirectionalStreamInputChunk:
    return InvokeModelWithBidirectionalStreamInputChunk(BidirectionalInputPayloadPart(data))


def error(name: str, words: str) -> Exception:
    """One of the SDK's modelled errors: their names are what counts."""
    kind: type[Exception] = type(name, (Exception,), {})
    return kind(words)


@dataclass
class Bedrock:
    """The service: what it was asked, what it answers."""

    script: Script = field(default_factory=Script)
    record: SessionRecord = field(default_factory=lambda: SessionRecord({}, ""))
    refusal: Exception | None = None
    """Raised where the response is awaited."""
    stalls: bool = False
    """It takes nothing."""
    config: dict[str, Any] = field(default_factory=dict)
    model_id: str = ""
    closed: list[str] = field(default_factory=list)

    async def open(self, operation: InvokeModelWithBidirectionalStreamOperationInput) -> Stream:
        self.model_id = operation.model_id or ""
        return Stream(self)


class Stream:
    def __init__(self, service: Bedrock) -> None:
        self._service = service
        self._connection = SocketlessConnection(service.record)
        self._model = NovaModel(self._connection, service.script, Opening("", {}, {}))
        self._model.opened()
        self.input_stream = self

    async def send(self, event: InvokeModelWithBidirectionalStreamInputChunk) -> None:
        if self._service.stalls:
            await asyncio.Event().wait()
        assert isinstance(event.value.bytes_, bytes)
        self._model.receive(event.value.bytes_)
        await asyncio.sleep(0)

    async def await_output(self) -> tuple[None, Stream]:
        if self._service.refusal is not None:
            raise self._service.refusal
        return None, self

    async def receive(self) -> Any:
        event = await self._connection.output.get()
        if isinstance(event, Exception):
            raise event
        return event

    async def close(self) -> None:
        self._model.closed()
        self._service.closed.append("input")


@contextmanager
def installed(service: Bedrock, patch: pytest.MonkeyPatch) -> Iterator[None]:
    """The stand-in is what the channel imports."""

    class AsyncBedrockRuntimeConfig:
        @classmethod
        async def resolve(cls, **overrides: Any) -> Any:
            service.config = overrides
            return cls()

    class AsyncBedrockRuntimeClient:
        def __init__(self, config: Any = None) -> None:
            assert isinstance(config, AsyncBedrockRuntimeConfig)

        async def invoke_model_with_bidirectional_stream(self, operation: Any) -> Stream:
            return await service.open(operation)

    class AWSCRTHTTPClient:
        async def close(self) -> None:
            service.closed.append("transport")

    root = "aws_sdk_bedrock_runtime"
    contents: dict[str, tuple[Any, ...]] = {
        root: (),
        f"{root}.client": (AsyncBedrockRuntimeClient,),
        f"{root}.config": (AsyncBedrockRuntimeConfig,),
        f"{root}.models": (
            BidirectionalInputPayloadPart,
            InvokeModelWithBidirectionalStreamInputChunk,
            InvokeModelWithBidirectionalStreamOperationInput,
        ),
        "smithy_http": (),
        "smithy_http.aio": (),
        "smithy_http.aio.crt": (AWSCRTHTTPClient,),
    }
    with patch.context() as context:
        for name, classes in contents.items():
            module = ModuleType(name)
            module.__spec__ = ModuleSpec(name, None)
            for kind in classes:
                setattr(module, kind.__name__, kind)
            context.setitem(sys.modules, name, module)
        yield
