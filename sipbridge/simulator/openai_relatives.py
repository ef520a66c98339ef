"""Servers that speak OpenAI's protocol at other addresses: Azure's, and one of those that people run themselves."""

from __future__ import annotations

from typing import Any, ClassVar

from sipbridge.audio import PCM_16K, AudioFormat
from sipbridge.simulator.model import Connection, Opening
from sipbridge.simulator.openai_check import Refusal
from sipbridge.simulator.openai_reply import Json
from sipbridge.simulator.openai_server import OpenAIModel
from sipbridge.simulator.script import Script


class AzureModel(OpenAIModel):
    """The GA form: `model` is a deployment, the key has a header of its own."""

    path: ClassVar[str] = "/openai/v1/realtime"

    def __init__(self, connection: Connection, script: Script, opening: Opening) -> None:
        super().__init__(connection, script, opening)
        check_opening(connection, opening, "model")


def check_opening(connection: Connection, opening: Opening, deployment: str, *others: str) -> None:
    """The service would answer these at the handshake; here they are written down."""
    for name in (deployment, *others):
        if not opening.parameter(name):
            connection.record.violations.append(("missing_query_parameter", f"no {name} in the URL's query"))
    headers = {name.lower() for name in opening.headers}
    if not headers & {"api-key", "authorization"}:
        connection.record.violations.append(("401", "neither api-key nor Authorization"))
    if "openai-beta" in headers:
        connection.record.violations.append(("beta_header", "OpenAI-Beta is not for this service"))


class CompatibleModel(OpenAIModel):
    """A server of the plainer kind: PCM at 16 kHz whatever it is asked for, no word more than is needed, and nothing
    can be truncated."""

    def _emit(self, kind: str, **fields: Any) -> None:
        if kind.startswith(("conversation.item.added", "conversation.item.done", "response.content_part")):
            return
        if kind != "rate_limits.updated":
            fields.pop("response_id", None)
            super()._emit(kind, **fields)

    def _output_format(self) -> AudioFormat:
        return PCM_16K

    def _on_truncate(self, message: Json) -> Refusal | None:
        refusal = Refusal("unknown_event", f"Unknown event: {message['type']}")
        self._error(refusal, message.get("event_id"))
        return None
