"""The conversation as a language model is told it, kept here because its server keeps none: bounded, and cut to what
was heard."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from sipbridge.agent import HistoryItem, Said
from sipbridge.providers.wire import Json

MOST_ITEMS = 400
MOST_CHARACTERS = 120_000
"""About 30,000 tokens; what is older is forgotten first."""
_NO_RESULT_YET = '{"status": "no result yet"}'


@dataclass(slots=True)
class _Turn:
    """Words of one side, or one tool call with its result."""

    role: str
    text: str = ""
    reply_id: str = ""
    call_id: str = ""
    name: str = ""
    output: str | None = field(default=None)

    @property
    def size(self) -> int:
        return len(self.text) + len(self.output or "") + 20


class ChatHistory:
    def __init__(self, past: Iterable[HistoryItem] = ()) -> None:
        self._turns: deque[_Turn] = deque()
        for item in past:
            if isinstance(item, Said):
                self._add(_Turn(item.role, item.text))
            else:
                self.called("", item.call_id, item.name, item.arguments)
                if item.output is not None:
                    self.answered(item.call_id, item.output)

    # --- what happens -------------------------------------------------------------------------------------------------

    def said_by_caller(self, text: str) -> None:
        self._add(_Turn("user", text))

    def said_by_agent(self, reply_id: str, text: str) -> None:
        if text.strip():
            self._add(_Turn("assistant", text.strip(), reply_id))

    def called(self, reply_id: str, call_id: str, name: str, arguments: str) -> None:
        self._add(_Turn("tool", arguments, reply_id, call_id, name))

    def answered(self, call_id: str, output: str) -> None:
        for turn in reversed(self._turns):
            if turn.call_id == call_id and turn.role == "tool":
                turn.output = output
                self._bound()
                return

    def heard(self, reply_id: str, text: str) -> None:
        """Of the words of this reply, only these. What it called stays."""
        rest = text.strip()
        for turn in [turn for turn in self._turns if turn.reply_id == reply_id and turn.role == "assistant"]:
            whole, turn.text = turn.text, rest[: len(turn.text)].strip()
            rest = rest[len(whole) :].strip()
            if not turn.text:
                self._turns.remove(turn)

    def _add(self, turn: _Turn) -> None:
        self._turns.append(turn)
        self._bound()

    def _bound(self) -> None:
        size = sum(turn.size for turn in self._turns)
        while len(self._turns) > 1 and (len(self._turns) > MOST_ITEMS or size > MOST_CHARACTERS):
            size -= self._turns.popleft().size

    # --- as messages --------------------------------------------------------------------------------------------------

    def messages(self, instructions: str) -> list[Json]:
        """One after another, none of a side's twice in a row: some servers' templates insist on that. A call and its
        result stay together; one without a result has a word in its place."""
        told: list[Json] = [{"role": "system", "content": instructions}] if instructions else []
        results: list[Json] = []
        for turn in self._turns:
            if turn.role == "tool":
                self._tell_call(told, results, turn)
                continue
            told += results
            results = []
            if told and told[-1]["role"] == turn.role and "tool_calls" not in told[-1]:
                told[-1]["content"] += " " + turn.text
            else:
                told.append({"role": turn.role, "content": turn.text})
        return told + results

    @staticmethod
    def _tell_call(told: list[Json], results: list[Json], turn: _Turn) -> None:
        """Calls in a row are one message's, as the model made them; words right before them are in it too."""
        if not told or told[-1]["role"] != "assistant":
            told.append({"role": "assistant", "content": None})
        function = {"name": turn.name, "arguments": turn.text}
        call = {"id": turn.call_id, "type": "function", "function": function}
        told[-1].setdefault("tool_calls", []).append(call)
        output = _NO_RESULT_YET if turn.output is None else turn.output
        results.append({"role": "tool", "tool_call_id": turn.call_id, "content": output})
