"""The channel to Bedrock over the vendor's real SDK, down to its signed and framed bytes; only the HTTP/2 connection
below it is ours, with the simulated model at its other end. Runs where the SDK is installed (Python 3.12 or newer)."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from importlib import import_module
from typing import Any

import pytest

from sipbridge.agent import AgentError
from sipbridge.errors import AgentStartError
from sipbridge.providers.nova_channel import STATUS
from sipbridge.simulator.model import Opening, SessionRecord
from sipbridge.simulator.nova import NovaModel
from sipbridge.simulator.script import Fault, Script
from tests.providers.bedrock_stub import SocketlessConnection
from tests.providers.test_nova_channel import KEYS, QUICK, agent_for, converse

if sys.version_info < (3, 12) or os.environ.get("CI") != "true":  # in CI they are there
    pytest.importorskip("aws_sdk_bedrock_runtime")
    pytest.importorskip("awscrt")


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    async def watched() -> None:
        async with asyncio.timeout(20):
            await scenario()

    asyncio.run(watched())


class Http2:
    """In the place of the SDK's HTTP client: reads what it sends, answers what the service would."""

    SUPPORTS_DUPLEX_STREAMING = True
    TIMEOUT_EXCEPTIONS = ()
    script = Script()
    status = 200
    record: SessionRecord
    requests: list[Any]

    def __init__(self) -> None:
        type(self).record = SessionRecord({}, "")
        type(self).requests = []
        self._events = import_module("smithy_aws_event_stream.events")
        self._reading: asyncio.Task[None] | None = None

    def __deepcopy__(self, memo: object) -> Http2:
        return self

    async def send(self, request: Any, *, request_config: Any = None) -> Any:
        type(self).requests.append(request)
        http, fields = import_module("smithy_http.aio"), import_module("smithy_http")
        if self.status != 200:
            headers = [("content-type", "application/json"), ("x-amzn-errortype", "AccessDeniedException")]
            body = b'{"message":"You are not authorized."}'
        else:
            headers = [("content-type", "application/vnd.amazon.eventstream")]
            connection = SocketlessConnection(self.record)
            self._reading = asyncio.create_task(self._read(request.body, connection))
            body = self._write(connection)  # type: ignore[assignment]
        given = fields.Fields([fields.Field(name=name, values=[value]) for name, value in headers])
        return http.HTTPResponse(status=self.status, fields=given, body=body)

    async def _read(self, body: Any, connection: SocketlessConnection) -> None:
        model = NovaModel(connection, self.script, Opening("", {}, {}))
        source = import_module("smithy_core.aio.types").AsyncBytesReader(body)
        while (signed := await self._events.Event.decode_async(source)) is not None:
            assert {":date", ":chunk-signature"} <= signed.message.headers.keys()
            if not signed.message.payload:
                break  # the end, signed
            inner = self._events.Event.decode(import_module("io").BytesIO(signed.message.payload))
            assert inner.message.headers[":event-type"] == "chunk"
            model.receive(b64decode(json.loads(inner.message.payload)["bytes"]))
        model.closed()

    async def _write(self, connection: SocketlessConnection) -> AsyncIterator[bytes]:
        message = self._events.EventMessage
        kinds = {":message-type": "event", ":event-type": "chunk", ":content-type": "application/json"}
        while (event := await connection.output.get()) is not None:
            if isinstance(event, OSError):
                raise event
            if isinstance(event, Exception):
                name = type(event).__name__
                headers = {":message-type": "exception", ":exception-type": name[0].lower() + name[1:]}
                headers[":content-type"] = "application/json"
                yield message(headers=headers, payload=json.dumps({"message": str(event)}).encode()).encode()
                return
            payload = json.dumps({"bytes": b64encode(event.value.bytes_).decode()}).encode()
            yield message(headers=kinds, payload=payload).encode()

    async def close(self) -> None:
        if self._reading is not None:
            self._reading.cancel()


@pytest.fixture(autouse=True)
def http2(monkeypatch: pytest.MonkeyPatch) -> type[Http2]:
    monkeypatch.setattr(import_module("smithy_http.aio.crt"), "AWSCRTHTTPClient", Http2)
    monkeypatch.setattr(Http2, "script", QUICK)
    monkeypatch.setattr(Http2, "status", 200)
    return Http2


def test_a_conversation(http2: type[Http2]) -> None:
    async def scenario() -> None:
        await converse(agent_for(aws=KEYS, model="amazon.nova-2-sonic-v1:0"), lambda: http2.record)
        (request,) = http2.requests
        assert request.destination.host == "bedrock-runtime.eu-north-1.amazonaws.com"
        assert "invoke-with-bidirectional-stream" in request.destination.path
        assert "AWS4-HMAC-SHA256" in request.fields["authorization"].as_string()

    run(scenario)


def test_a_refused_stream(http2: type[Http2], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Http2, "status", 403)

    async def scenario() -> None:
        agent = agent_for(aws=KEYS)
        with pytest.raises(AgentStartError) as failure:
            await agent.start()
        assert failure.value.code == "403"
        await agent.close()

    run(scenario)


def test_an_exception_in_the_stream(http2: type[Http2], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Http2, "script", replace(QUICK, fault=Fault("refuse_setup")))

    async def scenario() -> None:
        agent = agent_for(aws=KEYS)
        told: list[str] = []
        with suppress(AgentStartError):  # whichever comes first: that it was taken, or that it was not
            await agent.start()
        told += [event.code async for event in agent if isinstance(event, AgentError)]
        assert told in (["400"], [])
        assert http2.record.violations == []
        await agent.close()

    run(scenario)


def test_each_error_is_one_of_the_sdks() -> None:
    models = import_module("aws_sdk_bedrock_runtime.models")
    signing = {"ExpiredTokenException", "InvalidSignatureException", "UnrecognizedClientException"}  # of all services
    assert [name for name in STATUS if name not in signing and not hasattr(models, name)] == []
