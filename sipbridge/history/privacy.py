"""What a storage level keeps of each fact. Pure.

    everything          all of it
    no_personal_data    the same without who the far end was: numbers, names and addresses in texts, what tools were
                        told, the callers' part of the SIP messages
    attributes          when, how long, how well, at what cost: not a word of what was said

Keys that were pressed are stars at every level.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final, Literal, TypeAlias

from sipbridge.history.facts import Ended, Fact, Noted, Started, Summarised, ToolUsed, Transferred, Turn
from sipbridge.history.masking import HIDDEN, Masker
from sipbridge.history.sip_masking import without_persons

Storage: TypeAlias = Literal["everything", "no_personal_data", "attributes"]

_OURS = frozenset({"agent", "hold", "key", "deadline", "machine"})
"""Notes whose detail is ours, and says nothing about anybody."""


class Filter:
    """Of one call, whose facts it is given in their order: a name that was said is known from then on."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._masker = Masker()

    def keeps(self, fact: Fact) -> bool:
        """Whether there is to be an entry of it at all. A half-spoken number is not recognised as one."""
        if self._storage == "everything":
            return True
        if isinstance(fact, Turn) and not fact.final:
            return False
        return self._storage == "no_personal_data" or not isinstance(fact, Summarised)

    def data(self, fact: Fact) -> dict[str, Any]:
        """What is kept."""
        if isinstance(fact, ToolUsed):
            return self._tool(fact.to_json())
        if self._storage == "everything":
            return _with_stars(fact.to_json()) if isinstance(fact, Ended) else fact.to_json()
        match fact:
            case Started():
                return self._started(fact)
            case Turn() | Summarised():
                return replace(fact, text=self._text(fact.text, self._masker.words)).to_json()
            case Transferred():
                return replace(fact, detail=self._text(fact.detail, self._masker.remark)).to_json()
            case Noted() if fact.what not in _OURS:
                return replace(fact, detail=self._text(fact.detail, self._masker.remark)).to_json()
            case Ended():
                return self._ended(fact.to_json())
            case _:
                return fact.to_json()

    def _text(self, text: str, mask: Callable[[str], str]) -> str:
        return mask(text) if self._storage == "no_personal_data" else ""

    def _started(self, fact: Started) -> dict[str, Any]:
        self._masker.learn(f"{fact.caller if fact.direction == 'inbound' else fact.to} {fact.caller_name}")
        data = fact.to_json()
        return self._who(data) | {"caller_name": data["caller_name"] and HIDDEN}

    def _who(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """The far end: who called us, or whom we called. Our own number is no secret."""
        far_end = "caller" if data.get("direction") == "inbound" else "to"
        hidden = {far_end: HIDDEN} if data.get(far_end) else {}
        return {**data, **hidden, "call_id": self._masker.known(str(data.get("call_id") or ""))}

    def _tool(self, run: dict[str, Any]) -> dict[str, Any]:
        if self._storage == "attributes":
            return {**run, "arguments": "", "error": ""}
        run = _keys_hidden(run)
        if self._storage == "everything":
            return run
        name = self._masker.words(run["name"]) if run["outcome"] == "unknown" else run["name"]
        arguments, error = _values_hidden(run["arguments"]), self._masker.words(run["error"])
        return {**run, "name": name, "arguments": arguments, "error": error}

    def _ended(self, data: dict[str, Any]) -> dict[str, Any]:
        report = self.report(data["report"])
        if self._storage == "attributes":
            return {"report": report, "ladder": []}
        mask = self._masker.known
        steps = [
            {**step, "title": mask(step["title"]), "text": mask(without_persons(step["text"]))}
            for step in data["ladder"]
        ]
        return {"report": report, "ladder": steps}

    def report(self, report: Mapping[str, Any]) -> dict[str, Any]:
        """Of a `CallReport.to_json()`, or as much of one as there is."""
        kept = self._who(report)
        if "detail" in kept:
            kept["detail"] = self._text(str(kept["detail"]), self._masker.remark)
        if "fallback" in kept:
            attributes = self._storage == "attributes"
            kept["fallback"] = [] if attributes else [self._masker.remark(text) for text in kept["fallback"]]
        if "tool_runs" in kept:
            kept["tool_runs"] = [self._tool(run) for run in kept["tool_runs"]]
        if self._storage == "attributes" and isinstance(audio := kept.get("audio"), Mapping):
            legs = [{**leg, "remote": leg.get("remote") and HIDDEN} for leg in audio.get("legs", ())]
            kept["audio"] = {**audio, "legs": legs}
        return kept


def _with_stars(ended: dict[str, Any]) -> dict[str, Any]:
    if runs := ended["report"].get("tool_runs"):
        ended["report"]["tool_runs"] = [_keys_hidden(run) for run in runs]
    return ended


_PRESSES_KEYS: Final = "send_dtmf"
_DIGIT = re.compile(r"\d")


def _keys_hidden(run: dict[str, Any]) -> dict[str, Any]:
    return {**run, "arguments": _DIGIT.sub("*", run["arguments"])} if run["name"] == _PRESSES_KEYS else run


def _values_hidden(arguments: str) -> str:
    """Of a tool's arguments, their names."""
    try:
        return json.dumps(_hidden(json.loads(arguments)), ensure_ascii=False) if arguments else ""
    except (ValueError, RecursionError):  # the model's words, or cut short
        return HIDDEN


def _hidden(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(name)[:64]: _hidden(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_hidden(inner) for inner in value]
    return None if value is None else HIDDEN


def discreet(storage: Storage, *known: str) -> Callable[[str], str]:
    """What a call's lines in the log go through."""
    if storage == "everything":
        return lambda text: text
    masker = Masker()
    for text in known:
        masker.learn(text)
    return masker.remark
