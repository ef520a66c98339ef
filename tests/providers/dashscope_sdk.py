"""The vendor's SDK as a client: `OmniRealtimeConversation`, which has a thread of its own, and what it sends.

The SDK has no types to hold messages against; it builds dictionaries. So what it builds is the measure: `sdk_messages`
makes it send one of each kind, and a client event of ours may have no member that the SDK's has not.
"""

from __future__ import annotations

import json
import queue
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from dashscope.audio.qwen_omni import (
    MultiModality,
    OmniRealtimeCallback,
    OmniRealtimeConversation,
)
from dashscope.audio.qwen_omni.omni_realtime import AudioFormatConfig

Json = dict[str, Any]

_DOCUMENTED = frozenset({"instructions", "tools", "temperature", "top_p"})
"""Session fields that the SDK passes on by name (`**kwargs`); the vendor's reference lists them."""
_SCHEMA = ("tools",)
"""What is below these is the tool's own."""
_ITEMS: Mapping[str, tuple[frozenset[str], ...]] = {
    "function_call_output": (frozenset({"type", "call_id", "output"}),),
    "message": (frozenset({"type", "role", "content"}),),
}
"""`create_item` sends any dictionary; these are those of the reference."""


class Callback(OmniRealtimeCallback):
    """Collects on the SDK's thread what the test's thread takes; each wait is bounded."""

    def __init__(self) -> None:
        self._events: queue.Queue[Json] = queue.Queue()
        self.closed: queue.Queue[int | None] = queue.Queue()

    def on_event(self, message: Any) -> None:
        self._events.put(message)

    def on_close(self, close_status_code: int | None, close_msg: str | None) -> None:
        self.closed.put(close_status_code)

    def until(self, kind: str, seen: list[Json] | None = None) -> Json:
        """The next event of this type; what came before it goes to `seen`. Raises `queue.Empty` after 5 s."""
        while True:
            event = self._events.get(timeout=5)
            if seen is not None:
                seen.append(event)
            if event["type"] == kind:
                return event


def sdk_messages() -> list[Json]:
    """One of each kind, as the SDK words it; both ways to name formats."""
    conversation: Any = OmniRealtimeConversation("a-model", OmniRealtimeCallback(), api_key="sk-test")
    sent: list[Json] = []
    conversation.ws = SimpleNamespace(
        sock=SimpleNamespace(connected=True), send=lambda text: sent.append(json.loads(text))
    )
    both = [MultiModality.TEXT, MultiModality.AUDIO]
    conversation.update_session(
        both, voice="Cherry", turn_detection_param={"interrupt_response": False, "create_response": False}
    )
    conversation.update_session(both, input_audio_config=AudioFormatConfig(), output_audio_config=AudioFormatConfig())
    conversation.append_audio("AAAA")
    conversation.append_video("AAAA")
    conversation.commit()
    conversation.create_response("Say hello.", both)
    conversation.cancel_response()
    conversation.end_session_async()
    return sent


def check_client_event(message: Mapping[str, Any]) -> None:
    """Raises where a message has a member that none of the SDK's messages of this type has."""
    if message["type"] == "conversation.item.create":
        assert set(message) == {"event_id", "type", "item"}
        assert set(message["item"]) in _ITEMS[message["item"]["type"]]
        return
    paths = _paths(message)
    known: set[str] = set()
    for own in sdk_messages():
        if own["type"] == message["type"]:
            known |= _paths(own)
    assert known, f"the SDK sends no {message['type']}"
    known |= {f"session.{name}" for name in _DOCUMENTED}
    assert paths <= known, f"unknown to the SDK: {sorted(paths - known)}"
    formats = {"session.input_audio_format", "session.audio"}
    assert not formats <= paths, "formats in both forms"


def _paths(value: Any, path: str = "") -> set[str]:
    if not isinstance(value, Mapping) or path.rpartition(".")[2] in _SCHEMA:
        return set()
    found = set()
    for key, member in value.items():
        name = f"{path}.{key}" if path else key
        found |= {name} | _paths(member, name)
    return found
