"""The likely cause of what happened in a call, in plain words, with the fix: a table of rules. Pure.

Each rule looks at what is known of the call and says a `Cause` or nothing. What weighs most comes first: of a caller
who hung up because nobody heard him just that is told, and not "the caller hung up".
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from sipbridge.history.reading.cause import Cause
from sipbridge.history.reading.cures import CURES
from sipbridge.history.reading.evidence import Evidence
from sipbridge.history.reading.timeline import one_line
from sipbridge.history.reading.why_setup import SETUP
from sipbridge.history.reading.why_sound import SOUND
from sipbridge.outcome import ENDINGS, Ended

_NO_CAUSE = 10
_BY_LIMIT = 64
"""Nothing broke, but none of the two ended it: worth more than a gap in the sound, less than not being heard."""
_ITS_NAME = 72
"""What the reason to end says by itself, where it is no conversation, ended by those who had it. What is heavier says
it better; what is lighter went wrong beside it."""
_SAYS_ALL = 95
"""From here on there is nothing to add."""


def why(call: Evidence) -> list[Cause]:
    """The likeliest first; at least one. Those after it went wrong, too, or explain it from another side."""
    found = [(weight, cause) for weight, rule in (*SETUP, *SOUND) if (cause := rule(call)) is not None]
    by_name = _by_its_name(call)
    if not any(weight >= _SAYS_ALL or cause.name == by_name.name for weight, cause in found):
        found.append((_weight(call), by_name))
    causes = [cause for _, cause in sorted(found, key=lambda each: -each[0])]
    names = {cause.name for cause in causes}
    return [cause for cause in causes if not _said_better(cause.name, names)]


def _said_better(name: str, names: set[str]) -> bool:
    """Another cause says it, and more exactly."""
    return bool(names & _BETTER.get(name, set()))


_BETTER = {
    "media_timeout": {"no_audio_received", "our_address", "wrong_keys", "wrong_source"},
    "no_audio_received": {"our_address", "wrong_keys", "wrong_source", "no_audio_sent"},
    "signalling_failed": {"no_ack", "our_address"},
    "nothing_was_said": {"no_audio_received", "our_address"},
}


def _by_its_name(call: Evidence) -> Cause:
    if not call.ended:
        return Cause("up", "The call is up, or its end has not been told yet", "there is no end in the history", "")
    try:
        ended = Ended(call.ended)
    except ValueError:
        return Cause(call.ended, f"It ended as {call.ended}", call.detail, "")
    what, fix = CURES[ended]
    said = f"{call.detail} (SIP {call.status:.0f})" if call.status else call.detail
    return Cause(ended.value, f"{what[0].upper()}{what[1:]}", said.strip(), fix)


def _weight(call: Evidence) -> int:
    if call.ended in _BY_WILL or not call.ended:
        return _NO_CAUSE
    good = call.ended in {ended.value for ended, ending in ENDINGS.items() if ending.good}
    return _BY_LIMIT if good else _ITS_NAME


_BY_WILL = [
    ended.value for ended in (Ended.CALLER_HUNG_UP, Ended.CALLEE_HUNG_UP, Ended.AGENT_HUNG_UP, Ended.TRANSFERRED)
]
"""Somebody wanted it so."""


def told(causes: Sequence[Cause], width: int | None = None) -> Iterator[str]:
    """For people: the likely cause, and what else went wrong."""
    for place, cause in enumerate(causes):
        if place == 1:
            yield ""
            yield "Also:"
        lead = "" if place == 0 else "- "
        yield from _wrapped(f"{lead}{one_line(cause.what)}.", width, "  " if lead else "")
        if cause.because:
            yield from _wrapped(f"  Seen by: {one_line(cause.because)}", width, "    ")
        if cause.fix:
            yield from _wrapped(f"  What to do: {one_line(cause.fix)}", width, "    ")


def _wrapped(line: str, width: int | None, indent: str) -> list[str]:
    return [line] if width is None else textwrap.wrap(line, max(width, 30), subsequent_indent=indent) or [line]
