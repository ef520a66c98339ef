"""The client that is attached to a call: tools that are passed through are its to answer."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Protocol

from sipbridge.agent import ToolCall
from sipbridge.tools import ToolError


class Client(Protocol):
    """Both return at once."""

    def tool_called(self, call_id: str, name: str, arguments: Mapping[str, Any]) -> None:
        """Answer by `CallSession.answer_tool`, within the tool's time-out."""

    def tool_cancelled(self, call_id: str) -> None:
        """Nobody waits for the answer any more."""


class Attached:
    def __init__(self) -> None:
        self._client: Client | None = None
        self._waiting: dict[str, asyncio.Future[str]] = {}

    def attach(self, client: Client) -> None:
        """One at a time: another one takes its place."""
        if self._client is not None:
            self.detach(self._client)
        self._client = client

    def detach(self, client: Client) -> None:
        """What it has not answered it will not."""
        if client is self._client:
            self._client = None
            for waiting in self._waiting.values():
                if not waiting.done():
                    waiting.set_exception(ToolError("the client that was to answer is gone"))

    async def ask(self, request: ToolCall, arguments: Mapping[str, Any]) -> str:
        """Raises `ToolError` where nobody is attached."""
        client = self._client
        if client is None:
            raise ToolError(f"nobody is there to do {request.name}")
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._waiting[request.call_id] = answer
        try:
            client.tool_called(request.call_id, request.name, arguments)
            return await answer
        except asyncio.CancelledError:
            client.tool_cancelled(request.call_id)
            raise
        finally:
            del self._waiting[request.call_id]

    def answer(self, call_id: str, output: str) -> bool:
        """False: nobody waits for it (any more)."""
        waiting = self._waiting.get(call_id)
        if waiting is None or waiting.done():
            return False
        waiting.set_result(output)
        return True
