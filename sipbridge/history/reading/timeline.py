"""The timeline of a call: SIP, media, turns, tools, transfers and notes on one axis, each with its time. Pure.

It is made from what a store has of the call. Another version of us may have written that, or a backend may answer
whatever it likes, so nothing is taken for granted: what is missing or of another type is left out.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

from sipbridge.history.facts import Entry

Lane: TypeAlias = Literal["call", "sip", "media", "caller", "agent", "tool", "transfer", "note"]


@dataclass(frozen=True, slots=True)
class Moment:
    at: float
    """Seconds since the call began."""
    lane: Lane
    text: str

    def to_json(self) -> dict[str, Any]:
        return {"at": round(self.at, 3), "lane": self.lane, "text": self.text}


def timeline(entries: Sequence[Entry], *, interim: bool = False) -> list[Moment]:
    """In the order of time. `interim`: also what the caller was taken to say before he had finished."""
    if not entries:
        return []
    began = next((entry.at for entry in entries if entry.kind == "call.started"), entries[0].at)
    finished = {
        number(entry.data, "number") for entry in entries if entry.kind == "call.turn" and _is_final(entry.data)
    }
    moments: list[Moment] = []
    for entry in entries:
        passing = entry.kind == "call.turn" and not _is_final(entry.data)
        if interim or not passing or number(entry.data, "number") not in finished:
            moments.extend(_of_entry(entry, entry.at - began))
    ladder = ladder_of(entries)
    ahead = _ladder_began(entries, ladder, began)
    moments.extend(_message(step, ahead) for step in ladder)
    earliest = min((moment.at for moment in moments), default=0.0)
    if earliest < 0:  # the axis begins with what came first
        moments = [replace(moment, at=moment.at - earliest) for moment in moments]
    return sorted(moments, key=_place)


def _place(moment: Moment) -> tuple[float, int]:
    """What happens at the same time stands as one follows from the other."""
    order = {"sip": 1, "media": 2, "call": 4 if moment.at > 0 else 0}
    return moment.at, order.get(moment.lane, 3)


def ladder_of(entries: Iterable[Entry]) -> list[Mapping[str, Any]]:
    """The SIP messages that were kept of a call."""
    for entry in entries:
        if entry.kind == "call.ended":
            steps = entry.data.get("ladder")
            return [step for step in steps if isinstance(step, Mapping)] if isinstance(steps, (list, tuple)) else []
    return []


def report_of(entries: Iterable[Entry]) -> Mapping[str, Any]:
    """What was told at the end; empty while it is up."""
    for entry in entries:
        if entry.kind == "call.ended":
            return mapping(entry.data, "report")
    return {}


def number(data: Mapping[str, Any], *path: str) -> float | None:
    """What stands there, if it is one that can be counted with."""
    value = mapping(data, *path[:-1]).get(path[-1])
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not -_MOST < value < _MOST:
        return None
    return float(value)


_MOST = 1e15


def text(data: Mapping[str, Any], *path: str) -> str:
    """What stands there, on one line; "" if it is no text."""
    value = mapping(data, *path[:-1]).get(path[-1])
    return one_line(value) if isinstance(value, str) else ""


def mapping(data: Mapping[str, Any], *path: str) -> Mapping[str, Any]:
    for key in path:
        inner = data.get(key)
        data = inner if isinstance(inner, Mapping) else {}
    return data


def one_line(text: str) -> str:
    """What a stranger said or wrote must not move the reader's cursor."""
    words = " ".join(text.split())
    return words if words.isprintable() else "".join(c if c.isprintable() else "?" for c in words)


def figures(leg: Mapping[str, Any]) -> str:
    """One leg's media in a line."""
    parts = [text(leg, "codec")]
    for name, form in _FIGURES:
        value = number(leg, name)
        if value is not None:
            parts.append(form.format(value))
    return ", ".join(part for part in parts if part)


_FIGURES = (
    ("packets_received", "{:.0f} packets received"),
    ("packets_sent", "{:.0f} sent"),
    ("loss_percent", "{:.1f} % lost"),
    ("remote_loss_percent", "{:.1f} % lost on the way to the far end"),
    ("jitter_max_ms", "jitter up to {:.0f} ms"),
    ("rtt_ms", "round trip {:.0f} ms"),
    ("mos_worst", "MOS {:.1f} at worst"),
    ("underruns", "{:.0f} underruns"),
)


def legs_of(report: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    legs = mapping(report, "audio").get("legs")
    return [leg for leg in legs if isinstance(leg, Mapping)] if isinstance(legs, (list, tuple)) else []


def latency(turn: Mapping[str, Any]) -> str:
    """`answers after 1020 ms: endpointing 500, model 420, playout 100`; "" where nothing of it is known."""
    parts = {name: number(turn, "latency", f"{name}_ms") for name in ("endpointing", "model", "playout")}
    known = {name: value for name, value in parts.items() if value is not None}
    if not known:
        return ""
    each = ", ".join(f"{name} {value:.0f}" for name, value in known.items())
    return f"answers after {sum(known.values()):.0f} ms: {each}"


def _of_entry(entry: Entry, at: float) -> Iterator[Moment]:
    data = entry.data
    match entry.kind:
        case "call.started":
            way = f"{text(data, 'caller') or 'somebody'} -> {text(data, 'to')}"
            trunk = f" over {text(data, 'trunk')}" if text(data, "trunk") else ""
            yield Moment(at, "call", f"{text(data, 'direction')} {way}{trunk}, tenant {text(data, 'tenant')}")
        case "call.answered":
            codec = f", {text(data, 'codec')}" if text(data, "codec") else ""
            yield Moment(at, "call", f"answered{codec}")
        case "call.turn":
            yield _turn(data, at)
        case "call.tool":
            yield _tool(data, at)
        case "call.transferred":
            result = "succeeded" if data.get("succeeded") is True else "failed"
            yield Moment(at, "transfer", _joined(f"to {text(data, 'target')}", text(data, "way"), result, data=data))
        case "call.note":
            yield Moment(at, "note", _joined(text(data, "what"), data=data))
        case "call.ended":
            yield from _ended(mapping(data, "report"), at)
        case "recording.ready":
            how = ", encrypted" if data.get("encrypted") is True else ""
            yield Moment(at, "media", f"recording {text(data, 'path')}: {number(data, 'seconds') or 0:.1f} s{how}")
        case "call.summary":
            yield Moment(at, "call", f"summary: {text(data, 'text')}")
        case kind:
            yield Moment(at, "note", one_line(kind))


def _turn(data: Mapping[str, Any], at: float) -> Moment:
    began, ended = number(data, "began"), number(data, "ended")
    said = [f'"{text(data, "text")}"']
    about = []
    if began is not None and ended is not None and ended > began:
        about.append(f"{ended - began:.1f} s")
    if data.get("interrupted") is True:
        heard = number(data, "heard_ms")
        about.append("interrupted" if heard is None else f"interrupted, {heard / 1000:.1f} s heard")
    if not _is_final(data):
        about.append("not finished")
    if late := latency(data):
        about.append(late)
    if about:
        said.append(f"({'; '.join(about)})")
    speaker: Lane = "agent" if data.get("speaker") == "agent" else "caller"
    name = text(data, "agent")
    return Moment(at if began is None else began, speaker, (f"{name}: " if name else "") + " ".join(said))


def _tool(data: Mapping[str, Any], at: float) -> Moment:
    began, ms = number(data, "at"), number(data, "ms")
    took = "" if ms is None else f" in {ms:.0f} ms"
    outcome = text(data, "outcome")
    error = f": {text(data, 'error')}" if text(data, "error") else ""
    said = f"{text(data, 'name')} {text(data, 'arguments')} -> {outcome}{took}{error}"
    return Moment(at if began is None else began, "tool", said)


def _ended(report: Mapping[str, Any], at: float) -> Iterator[Moment]:
    """The report has more than the end: what it has of the sound, with its times."""
    seconds = number(report, "seconds")
    first = number(report, "audio", "first_audio_ms")
    if first is not None:
        yield Moment(first / 1000, "media", "first sound to the caller")
    end = at if seconds is None else min(at, seconds) if seconds > 0 else at
    for place, leg in enumerate(legs_of(report)):
        if line := figures(leg):
            yield Moment(end, "media", f"leg {place + 1}: {line}")
    detail = f": {text(report, 'detail')}" if text(report, "detail") else ""
    status = number(report, "status")
    told = f" (SIP {status:.0f})" if status is not None else ""
    yield Moment(end, "call", f"ended: {text(report, 'ended') or 'unknown'}{told}{detail}")


def _message(step: Mapping[str, Any], ahead: float) -> Moment:
    arrow = "-->" if step.get("sent") is True else "<--"
    at = number(step, "at") or 0.0
    return Moment(at + ahead, "sip", f"{arrow} {text(step, 'title')}  {text(step, 'peer')}".rstrip())


def _ladder_began(entries: Sequence[Entry], ladder: Sequence[Mapping[str, Any]], began: float) -> float:
    """Before a call that comes in begins, its INVITE has come; a call of ours begins before its INVITE goes. Where it
    was answered, that is the same moment on both clocks."""
    answered = next((entry.at - began for entry in entries if entry.kind == "call.answered"), None)
    final = next((step for step in ladder if text(step, "title").startswith("200 OK (INVITE)")), None)
    if answered is None or final is None:
        return 0.0
    return answered - (number(final, "at") or 0.0)


def _is_final(data: Mapping[str, Any]) -> bool:
    return data.get("final") is not False


def _joined(*parts: str, data: Mapping[str, Any]) -> str:
    line = " ".join(part for part in parts if part)
    return f"{line}: {text(data, 'detail')}" if text(data, "detail") else line


def draw(moments: Iterable[Moment], width: int | None = None) -> Iterator[str]:
    """Time runs down. `width` of the terminal; None: lines are as long as they are."""
    for moment in moments:
        head = f"{moment.at:9.3f}  {moment.lane:8}  "
        room = None if width is None else width - len(head)
        if room is None or len(moment.text) <= room:
            yield f"{head}{moment.text}".rstrip()
            continue
        lines = textwrap.wrap(moment.text, max(room, 20))
        yield from (f"{head if place == 0 else ' ' * len(head)}{line}" for place, line in enumerate(lines))
