"""What a call was about, asked of a text model when it is over: the question and the answer. Pure.

Source of the wire: the vendor's SDK 3.54, `CompletionCreateParams` and `ChatCompletion`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sipbridge.history.facts import Ended, Entry, Summarised, ToolUsed, Transferred, Turn
from sipbridge.prices import Prices, cost
from sipbridge.providers.speech.chat import counts_of
from sipbridge.providers.wire import Json, merged, text_of
from sipbridge.tenant_file.summary import SummaryConfig

_MOST_ASKED = 200_000
"""Characters: of a longer call the beginning and the end."""
_MOST_ANSWERED = 8000
_OF_INTEREST = (Turn.kind, ToolUsed.kind, Transferred.kind, Ended.kind, Summarised.kind)


def of_interest(kind: str) -> bool:
    """Entries of this kind are what a summary is made of, or say that there is one."""
    return kind in _OF_INTEREST


def is_due(entries: Sequence[Entry]) -> bool:
    """The call has ended, and there is no summary yet."""
    kinds = {entry.kind for entry in entries}
    return Ended.kind in kinds and Summarised.kind not in kinds


def request(config: SummaryConfig, entries: Sequence[Entry]) -> Json | None:
    """None where nobody has said a word."""
    lines = [line for entry in entries if (line := _line(entry))]
    if not any(entry.kind == Turn.kind and entry.data.get("text") for entry in entries):
        return None
    text = "\n".join(lines)
    if len(text) > _MOST_ASKED:
        text = f"{text[: _MOST_ASKED // 2]}\n[...]\n{text[-_MOST_ASKED // 2 :]}"
    messages = [{"role": "system", "content": config.instructions}, {"role": "user", "content": text}]
    return merged({"model": config.model, "messages": messages}, config.extra)


def _line(entry: Entry) -> str:
    data = entry.data
    match entry.kind:
        case Turn.kind if data.get("final", True) and data.get("text"):
            who = "Caller" if data.get("speaker") == "caller" else "Agent"
            return f"{who}: {data['text']}{' [interrupted]' if data.get('interrupted') else ''}"
        case ToolUsed.kind:
            return f"[The agent used the tool {data.get('name')}: {data.get('outcome')}]"
        case Transferred.kind:
            how = "put through to" if data.get("succeeded") else "not put through to"
            return f"[The caller was {how} {data.get('target')}]"
        case Ended.kind:
            return f"[The call ended: {(data.get('report') or {}).get('ended')}]"
    return ""


def answer(config: SummaryConfig, said: Mapping[str, Any], prices: Prices) -> Summarised | None:
    """None where the model has not written anything."""
    choices = said.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    message = first.get("message") if isinstance(first, dict) else None
    text = text_of(message, "content").strip() if isinstance(message, dict) else ""
    if not text:
        return None
    counts = counts_of(usage) if isinstance(usage := said.get("usage"), dict) else {}
    model = config.model or ""
    rates = prices.rates(config.provider, model)
    spent = None if rates is None or not counts else round(cost(counts, rates), 6)
    return Summarised(text[:_MOST_ANSWERED], config.provider, model, counts, spent)
