"""azure_openai: two URL forms with their shapes, two ways to be let in, deployments instead of models."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from urllib.parse import parse_qs

import pytest

from sipbridge.agent import AgentOptions, Said, SessionOpen
from sipbridge.audio import PCM_24K, PCMU
from sipbridge.errors import AgentStartError, ConfigError
from sipbridge.providers import WebSocketEndpoint, capabilities_of, entra, new_agent_from_credential
from sipbridge.providers.azure_openai import AzureOpenAIDialect
from sipbridge.simulator.model import ModelServer
from tests.providers import voicelive_sdk
from tests.providers.openai_driver import Driver, options

GA = {"api_key": "key-0123456789", "url": "wss://r.openai.azure.com/openai/v1/realtime", "model": "my-gpt"}
PREVIEW = GA | {"url": "wss://r.openai.azure.com/openai/realtime"}
ENTRA = {"tenant_id": "t", "client_id": "c", "client_secret": "very-secret"}
CREATED = {"type": "session.created", "session": {"id": "sess_1"}}


def endpoint(dialect: AzureOpenAIDialect) -> WebSocketEndpoint:
    (found,) = dialect.endpoints().values()
    assert isinstance(found, WebSocketEndpoint)
    return found


def session(credential: dict[str, Any], wanted: AgentOptions) -> dict[str, Any]:
    preview = credential["url"].endswith("/openai/realtime")
    check = {"check": voicelive_sdk.check_client_event} if preview else {}
    driver = Driver(wanted, credential, AzureOpenAIDialect, **check)
    driver.server(CREATED)
    (update,) = driver.take_sent()
    described: dict[str, Any] = update["session"]
    return described


@pytest.mark.parametrize(
    ("credential", "url"),
    [
        (GA, "wss://r.openai.azure.com/openai/v1/realtime?model=my-gpt"),
        (GA | {"url": "wss://r.openai.azure.com"}, "wss://r.openai.azure.com/openai/v1/realtime?model=my-gpt"),
        (GA | {"model": "a/b c"}, "wss://r.openai.azure.com/openai/v1/realtime?model=a%2Fb%20c"),
        (
            PREVIEW,
            "wss://r.openai.azure.com/openai/realtime?api-version=2025-04-01-preview&deployment=my-gpt",
        ),
        (
            PREVIEW | {"api_version": "2024-10-01-preview"},
            "wss://r.openai.azure.com/openai/realtime?api-version=2024-10-01-preview&deployment=my-gpt",
        ),
    ],
)
def test_url_forms(credential: dict[str, Any], url: str) -> None:
    there = endpoint(AzureOpenAIDialect(credential, options()))
    assert there.url == url
    assert there.headers == {"api-key": "key-0123456789"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"url": None}, "url: is needed, e.g. wss://RESOURCE"),
        ({"model": ""}, "the name of the deployment"),
        ({"api_key": None}, "api_key: is needed, or token, or entra"),
        ({"entra": {"tenant_id": "t", "client_id": "c"}}, "entra.client_secret"),
    ],
)
def test_what_is_missing_is_named(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        AzureOpenAIDialect(GA | change, options())


def test_ga_is_openai_s_own_shape_without_a_transcription_that_is_no_deployment() -> None:
    described = session(GA, options(voice="marin", temperature=0.7))
    assert described["type"] == "realtime"
    assert "transcription" not in described["audio"]["input"]
    assert "temperature" not in described
    written = session(GA | {"transcription_model": "my-whisper"}, options(language="de-AT"))
    assert written["audio"]["input"]["transcription"] == {"model": "my-whisper", "language": "de"}
    assert not capabilities_of("azure_openai", GA).transcribes
    assert capabilities_of("azure_openai", GA | {"transcription_model": "my-whisper"}).transcribes


def test_the_preview_is_the_older_shape() -> None:
    described = session(
        PREVIEW | {"transcription_model": "my-whisper"},
        options(instructions="Be brief.", voice="alloy", temperature=0.1, output_format=PCM_24K),
    )
    assert described == {
        "modalities": ["text", "audio"],
        "instructions": "Be brief.",
        "voice": "alloy",
        "input_audio_format": "g711_ulaw",
        "output_audio_format": "pcm16",
        "input_audio_transcription": {"model": "my-whisper"},
        "turn_detection": {"type": "server_vad", "create_response": True, "interrupt_response": True},
        "tools": [],
        "temperature": 0.6,
    }
    assert capabilities_of("azure_openai", PREVIEW).takes_temperature == (0.6, 1.2)
    assert capabilities_of("azure_openai", GA).takes_temperature is None
    assert "marin" not in capabilities_of("azure_openai", PREVIEW).voices


def test_the_preview_s_history_and_instructions() -> None:
    driver = Driver(
        options(history=(Said("user", "hi"), Said("assistant", "hello"))),
        PREVIEW,
        AzureOpenAIDialect,
        voicelive_sdk.check_client_event,
    )
    driver.server(CREATED)
    driver.take_sent()
    driver.server({"type": "session.updated", "session": {}})
    assert driver.take_events() == [SessionOpen("sess_1")]
    parts = [message["item"]["content"][0]["type"] for message in driver.take_sent()]
    assert parts == ["input_text", "text"]
    driver.command("update_instructions", "Be long.")
    assert driver.take_sent() == [{"type": "session.update", "session": {"instructions": "Be long."}}]


# --- Entra ------------------------------------------------------------------------------------------------------------


class TokenServer:
    """The token endpoint: answers in turn, keeps what it was sent."""

    def __init__(self, *answers: tuple[int, dict[str, Any]]) -> None:
        self._answers = list(answers)
        self.forms: list[dict[str, list[str]]] = []
        self.url = ""

    async def __aenter__(self) -> TokenServer:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/t/oauth2/v2.0/token"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = int(head.partition("content-length:")[2].split()[0])
        self.forms.append(parse_qs((await reader.readexactly(length)).decode()))
        status, answer = self._answers.pop(0)
        body = json.dumps(answer).encode()
        writer.write(f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body)
        await writer.drain()
        writer.close()


@pytest.fixture(autouse=True)
def _no_tokens_kept() -> None:
    entra._tokens.clear()


def test_an_application_s_token_is_fetched_once_and_used_by_the_calls_that_follow() -> None:
    async def scenario() -> None:
        async with TokenServer((200, {"access_token": "tok-1", "expires_in": 3599})) as server:
            credential = GA | {"api_key": None, "entra": ENTRA | {"token_url": server.url}}
            for _ in range(2):
                dialect = AzureOpenAIDialect(credential, options())
                await dialect.prepare()
                assert endpoint(dialect).headers == {"Authorization": "Bearer tok-1"}
        assert server.forms == [
            {
                "grant_type": ["client_credentials"],
                "client_id": ["c"],
                "client_secret": ["very-secret"],
                "scope": ["https://ai.azure.com/.default"],
            }
        ]

    asyncio.run(scenario())


def test_a_token_that_soon_ends_is_not_kept() -> None:
    async def scenario() -> None:
        answers = [(200, {"access_token": f"tok-{n}", "expires_in": 60}) for n in (1, 2)]
        async with TokenServer(*answers) as server:
            wanted = ENTRA | {"token_url": server.url}
            assert [await entra.entra_token(wanted) for _ in range(2)] == ["tok-1", "tok-2"]

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("status", "answer", "code", "again"),
    [
        (401, {"error": "invalid_client"}, "401", False),
        (503, {}, "503", True),
        (200, {"token_type": "Bearer"}, "answer", False),
    ],
)
def test_a_token_that_is_not_given_is_a_start_that_failed(
    status: int, answer: dict[str, Any], code: str, again: bool
) -> None:
    async def scenario() -> None:
        async with TokenServer((status, answer)) as server:
            with pytest.raises(AgentStartError) as caught:
                await entra.entra_token(ENTRA | {"token_url": server.url})
            assert (caught.value.code, caught.value.again) == (code, again)
            assert "very-secret" not in str(caught.value)

    asyncio.run(scenario())


def test_a_token_given_is_used_as_it_is() -> None:
    there = endpoint(AzureOpenAIDialect(GA | {"api_key": None, "token": "tok"}, options()))
    assert there.headers == {"Authorization": "Bearer tok"}
    assert "tok" not in repr(there)


def test_a_session_with_an_application_s_token() -> None:
    async def scenario() -> None:
        async with (
            asyncio.timeout(20),
            TokenServer((200, {"access_token": "tok-1", "expires_in": 3599})) as tokens,
            ModelServer(wire="azure_openai") as server,
        ):
            credential: dict[str, Any] = GA | {"provider": "azure_openai", "api_key": None, "url": server.url}
            credential["entra"] = ENTRA | {"token_url": tokens.url}
            agent = new_agent_from_credential(credential, options())
            await agent.start()
            await agent.close()
            record = await server.session()
            headers = {name.lower(): value for name, value in record.headers.items()}
            assert headers["authorization"] == "Bearer tok-1"
            assert "api-key" not in headers
            assert record.violations == []

    asyncio.run(scenario())


def test_formats_are_openai_s() -> None:
    assert PCMU in capabilities_of("azure_openai").native_formats
