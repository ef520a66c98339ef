"""The tool calls that Gemini Live waits for: their ids and names, and those which the caller has cut.

A call that was cut is left to the service to take back for a while: answering one that it has taken back ends the
session ("Requested entity was not found"), while one that it still waits for keeps it silent.
"""

from __future__ import annotations

from sipbridge.providers.gemini_wire import tool_response
from sipbridge.providers.phrases import CANCELLED_OUTPUT
from sipbridge.providers.wire import Json, text_of

_MOST = 64


class Calls:
    def __init__(self) -> None:
        self._waiting: dict[str, tuple[str, str]] = {}
        """Ours -> (the service's id or "", name)."""
        self._cut: list[str] = []
        self._number = 0

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def add(self, function: Json) -> str:
        """Our id of a new call: the service's, where it has one (on Vertex it may not). "" where it is known already,
        or where there are more than anybody can mean."""
        wire_id = text_of(function, "id")
        self._number += 1
        call_id = wire_id or f"call-{self._number}"
        if call_id in self._waiting or len(self._waiting) >= _MOST:
            return ""
        self._waiting[call_id] = (wire_id, text_of(function, "name"))
        return call_id

    def answer(self, call_id: str, output: str, *, scheduling: str = "") -> list[Json]:
        """What is to be sent: nothing where the service does not wait for it any more."""
        found = self._waiting.pop(call_id, None)
        return [] if found is None else [tool_response(*found, output, scheduling)]

    def cut(self, call_id: str) -> None:
        self._cut.append(call_id)

    def taken_back(self, call_id: str) -> None:
        self._waiting.pop(call_id, None)

    def answers_to_cut(self, *, scheduling: str = "") -> list[Json]:
        """To those which were cut and not taken back."""
        cut, self._cut = self._cut, []
        return [message for call_id in cut for message in self.answer(call_id, CANCELLED_OUTPUT, scheduling=scheduling)]
