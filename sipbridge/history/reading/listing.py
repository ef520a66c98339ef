"""Calls as lines for people: the list, and the head of one. Pure, but for the zone that moments are told in."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from sipbridge.history.reading.moments import lasted, told
from sipbridge.history.reading.timeline import one_line
from sipbridge.history.sink import CallRow

_COLUMNS = (
    ("began", 19), ("record", 12), ("tenant", 12), ("from", 16), ("to", 16), ("lasted", 10), ("outcome", 10),
    ("ended", 18),
)  # fmt: skip
"""With the width that each has at least; what is longer is not cut, but where the terminal ends."""
_SHORT = 12
"""Digits of the record that are shown: enough to name it."""


def table(calls: Sequence[CallRow], width: int | None = None) -> Iterator[str]:
    """`width` of the terminal; None: lines are as long as they are."""
    if not calls:
        yield "no calls"
        return
    rows = [_cells(call) for call in calls]
    wide = [
        max(least if place in (0, 1) else len(name), *(len(row[place]) for row in rows))
        for place, (name, least) in enumerate(_COLUMNS)
    ]
    for row in ([name for name, _ in _COLUMNS], *rows):
        line = "  ".join(cell.ljust(columns) for cell, columns in zip(row, wide, strict=True)).rstrip()
        yield line if width is None or len(line) <= width else f"{line[: width - 1]}~"


def _cells(call: CallRow) -> list[str]:
    ended = "up" if call.ended_at is None and call.ended is None else call.ended or ""
    return [
        told(call.began_at),
        call.record[:_SHORT],
        one_line(call.tenant),
        one_line(call.caller),
        one_line(call.to),
        lasted(call.seconds),
        one_line(call.outcome or ""),
        one_line(ended),
    ]


def heads(call: CallRow, width: int | None = None) -> Iterator[str]:
    """What is known of the call as a whole."""
    trunk = f" over {call.trunk}" if call.trunk else ""
    version = f" (version {call.tenant_version})" if call.tenant_version else ""
    by = " ".join(part for part in (call.provider, call.model) if part)
    lines = [
        ("call", f"{call.record}, Call-ID {call.call_id}"),
        ("", f"{call.direction} {call.caller or 'somebody'} -> {call.to}{trunk}"),
        ("tenant", f"{call.tenant}{version}{f', {by}' if by else ''}" if call.tenant else "none"),
        ("began", f"{told(call.began_at)} on {call.node}" if call.node else told(call.began_at)),
    ]
    if call.ended is None:
        lines.append(("ended", "not yet: it is up, or its end has not been told"))
    else:
        cost = f", {call.cost_usd:.4f} USD" if call.cost_usd is not None else ""
        detail = f": {call.detail}" if call.detail else ""
        after = f" after {lasted(call.seconds)}" if call.seconds is not None else ""
        lines.append(("ended", f"{call.ended} ({call.outcome}){after}{cost}{detail}"))
    for name, said in lines:
        line = f"{name:8}{one_line(said)}"
        yield from [line] if width is None else textwrap.wrap(line, max(width, 30), subsequent_indent=" " * 8)
