"""What a model is told in words, where its wire has no other way to say it."""

from __future__ import annotations

from collections.abc import Sequence

from sipbridge.agent import HistoryItem, Said, ToolUsed

SAY_THIS = (
    "Say the following text aloud, word for word, in the language it is written in. "
    "Add nothing, leave nothing out, and do not answer it:\n\n"
)
"""What goes before a text that a model is to speak, where its wire knows no such command."""

CANCELLED_OUTPUT = '{"cancelled": "the caller interrupted"}'
"""The result of a call that was cut with its reply, for a vendor that would wait for one."""

GO_ON = "Please go on."
"""What a user would write, where a vendor answers nothing else and an answer is wanted."""


def late_result(used: ToolUsed) -> str:
    """For a session that did not make this call itself."""
    return f"The tool {used.name} that you called with {used.arguments} has answered: {used.output}"


def history_as_text(history: Sequence[HistoryItem]) -> str:
    """For vendors that take no history as such: a passage to put behind the instructions. "" where there is none."""
    if not history:
        return ""
    return "\n\nThe conversation so far, on the same call. Go on with it; do not greet again.\n" + _in_lines(history)


def said_meanwhile(history: Sequence[HistoryItem]) -> str:
    """For an agent that was told the conversation before this was said."""
    return "Meanwhile, on the same call:\n" + _in_lines(history)


def _in_lines(history: Sequence[HistoryItem]) -> str:
    lines = []
    for item in history:
        if isinstance(item, Said):
            lines.append(f"{'Caller' if item.role == 'user' else 'You'}: {item.text}")
        else:
            lines.append(f"(You called {item.name} with {item.arguments}; the result: {item.output or 'none yet'})")
    return "\n".join(lines)
