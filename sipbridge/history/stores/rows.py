"""What an entry says about its call's row: the one place where facts become columns, for every store. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Final

from sipbridge.history.facts import Answered, Ended, Entry, Started
from sipbridge.history.sink import CallRow
from sipbridge.outcome import Ended as Reason

COLUMNS: Final = tuple(each.name for each in fields(CallRow))
_TEXTS = ("call_id", "node", "tenant", "direction", "caller", "to", "provider", "model", "detail")
BLANK: Final[Mapping[str, Any]] = {name: "" for name in _TEXTS} | {"tenant_version": 0, "began_at": 0.0}
"""Of a call of which nothing is known yet; every other column is None."""

_OF_STARTED = (
    "call_id", "node", "tenant", "tenant_version", "direction", "caller", "to", "trunk", "provider", "model",
)  # fmt: skip


def changes(entry: Entry) -> dict[str, Any]:
    """The columns that it sets, by their names in `CallRow`: the same however often, and in whichever order. Empty
    where it is none of those that do."""
    data = entry.data
    match entry.kind:
        case Started.kind:
            return {name: data.get(name, BLANK.get(name)) for name in _OF_STARTED} | {"began_at": entry.at}
        case Answered.kind:
            return {"answered_at": entry.at}
        case Ended.kind:
            report = dict(data.get("report") or {})
            return {
                "ended_at": entry.at,
                "ended": report.get("ended"),
                "outcome": report.get("outcome"),
                "detail": report.get("detail") or "",
                "seconds": report.get("seconds"),
                "cost_usd": report.get("cost_usd"),
                "report": report,
            }
        case _:
            return {}


def person_of(started: Mapping[str, Any]) -> str:
    """Whose call it is: who called us, or whom we called. `started`: a `Started` or a row, by name."""
    return str(started.get("to" if started.get("direction") == "outbound" else "caller") or "")


def row_of(entries: list[Entry]) -> CallRow | None:
    """A call's row by itself, of all that is known of it; None where that is nothing."""
    if not entries:
        return None
    row: dict[str, Any] = {name: BLANK.get(name) for name in COLUMNS}
    row |= {"record": entries[0].record, "began_at": entries[0].at}
    for entry in entries:
        row |= changes(entry)
    return CallRow(**row)


def encode(data: Any) -> str:
    """As JSON that every database takes; what is none, as well as can be: NaN is null, half of a surrogate pair `?`."""
    try:
        text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError):
        text = json.dumps(_tame(data), ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "replace").decode()


def _tame(data: Any) -> Any:
    match data:
        case dict():
            return {str(key): _tame(value) for key, value in data.items()}
        case list() | tuple():
            return [_tame(value) for value in data]
        case float() if not abs(data) < float("inf"):
            return None
        case None | bool() | int() | float() | str():
            return data
        case _:
            return str(data)


def plain(value: Any) -> str:
    """A stranger's text, so that every database takes it: the same for what is kept and what is looked for."""
    return str(value or "").encode("utf-8", "backslashreplace").decode()


def crash_report(
    started: Mapping[str, Any],
    began: float,
    answered: float | None,
    setup_ms: int | None,
    codec: str | None,
    seen: float,
    node: str,
    record: str,
) -> dict[str, Any]:
    """What can be told of a call whose node died: as `CallReport.to_json()`, as far as it was noted."""
    of_call = {name: started.get(name) for name in _OF_STARTED if name != "node"}
    return of_call | {
        "record": record,
        "ended": Reason.NODE_CRASHED.value,
        "outcome": "failed",
        "detail": f"the node {started.get('node') or node} died while the call was up",
        "status": None,
        "codec": codec,
        "setup_ms": setup_ms,
        "began_at": began,
        "answered_at": answered,
        "seconds": round(max(0.0, seen - began), 3),
        "cost_usd": None,
    }
