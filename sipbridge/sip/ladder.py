"""The SIP ladder: which messages a call consisted of, kept as they came and printed as a diagram.

`Ladders` is fed every message (`UserAgent.trace`) and keeps those whose Call-ID an INVITE has begun, the legs of one
conversation together. What is secret is taken out before anything is kept: passwords and digest answers, SRTP keys, and
which keys were pressed. Everything has a bound, since strangers decide how many messages there are and how long.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from sipbridge.sip.flow import Flow
from sipbridge.sip.headers import format_host

_HIDDEN: Final = "***"
_LOOK_BACK: Final = 8
"""Among so many messages a repetition is looked for."""

# Whoever may send a datagram chooses what these are matched against, and before he is asked who he is: each of them
# takes time that is proportional to the text, however it is written.
_call_id = re.compile(rb"^(?:call-id|i)[ \t]*+:([^\r\n]*+)", re.IGNORECASE | re.MULTILINE)
_cseq = re.compile(r"^cseq[ \t]*:[ \t]*(\d+)[ \t]+(\S+)", re.IGNORECASE | re.MULTILINE)

# With the line's continuations (RFC 3261 §7.3.1); what is left of the value is its scheme.
_credentials = re.compile(
    r"^((?:proxy-)?authorization[ \t]*:\s*(?:digest|basic|bearer)?)[^\r\n]*(?:\r?\n[ \t]+[^\r\n]*)*",
    re.IGNORECASE | re.MULTILINE,
)
_before_at = re.compile(r"(?<![^\s<>@])[^\s<>@]++@")
_scheme = re.compile(r"\bsips?:", re.IGNORECASE)
# RFC 4568 §9.1; the older k= line; ICE's password; MIKEY (RFC 4567).
_crypto = re.compile(r"(a=crypto:(?:[ \t]*+\S{1,16}[ \t]++[^\s:]{1,64}(?=\s))?)[^\r\n]*+", re.IGNORECASE)
_session_key = re.compile(r"^(k=\w+|a=ice-pwd|a=key-mgmt):[^\r\n]*", re.IGNORECASE | re.MULTILINE)
_pressed = re.compile(r"^(?!duration\b)([ \t]*+signal[ \t]*+=[ \t]*+)?[^\r\n]+", re.IGNORECASE | re.MULTILINE)
_key_hints = re.compile(r"\n(?:k=|a=(?:crypto|ice-pwd|key-mgmt))", re.IGNORECASE)
_digits = re.compile(r"\b(digits\s*=\s*)(\"[^\"]*\"|'[^']*')", re.IGNORECASE)


def redact(text: str) -> str:
    """A SIP message without what must not be kept.

    Most messages have no secret, and each costs its time on the signalling path: what is quick to find is looked for
    before what is not.
    """
    end = text.find("\r\n\r\n")
    if end < 0:
        end = text.find("\n\n")
    head, body = (text, "") if end < 0 else (text[:end], text[end:])
    if "uthorization" in head or "authorization" in head.lower():
        head = _credentials.sub(rf"\1 {_HIDDEN}", head)
    if any(map(_may_be_password, head.split("@")[:-1])):
        head = _before_at.sub(_without_password, head)
    if body and head[:5].upper() == "INFO ":
        body = _pressed.sub(lambda match: (match[1] or "") + _HIDDEN, body)
    elif "digits" in body:
        body = _digits.sub(rf'\1"{_HIDDEN}"', body)
    message = head + body
    if _key_hints.search(message):  # anywhere, since a header that ends in a bare LF is no reason to tell a key
        message = _session_key.sub(rf"\1:{_HIDDEN}", _crypto.sub(rf"\1 {_HIDDEN}", message))
    return message


def _may_be_password(before_at: str) -> bool:
    """Of a text that ends where an @ stood: is there a colon in its last word that is not the scheme's?"""
    scheme, colon, user = before_at.rpartition(":")
    return bool(colon) and " " not in user and scheme[-4:].lower() not in ("<sip", " sip", "sips")


def _without_password(match: re.Match[str]) -> str:
    word = match[0]
    scheme = _scheme.search(word)
    if scheme is None:
        return word
    user, colon, _ = word[scheme.end() :].partition(":")
    return f"{word[: scheme.end()]}{user}:{_HIDDEN}@" if colon else word


@dataclass(frozen=True, slots=True)
class Step:
    """One message, as it may be shown."""

    at: float
    sent: bool
    flow: Flow
    text: str
    repeated: bool
    """The same message was there before."""

    @property
    def title(self) -> str:
        """`INVITE +sdp`, `200 OK (INVITE) +sdp`, `BYE (repeated)`."""
        start, _, rest = self.text.partition("\r\n")
        words = start.split(" ", 2)
        match = _cseq.search(rest)
        if words[0].upper().startswith("SIP/"):
            method = f" ({match[2]})" if match else ""
            title = " ".join(words[1:])[:32].strip() + method
        else:
            title = words[0][:32]
        if "\r\n\r\nv=0" in self.text:
            title += " +sdp"
        return title + (" (repeated)" if self.repeated else "")


class Ladder:
    """The messages of one conversation: one Call-ID, or those of all its legs."""

    def __init__(self, call_id: str) -> None:
        self.call_ids = [call_id]
        self.steps: list[Step] = []
        self.left_out = 0
        """Messages that there was no room for."""
        self.size = 0
        """Characters that are kept."""
        self.open = False
        """Of a call that is up: not to be forgotten before it has ended."""
        self.on_step: Callable[[], None] | None = None
        """Told when a message has come."""
        self.served = False
        """Of a call that was up: refused ones, which anybody can make, are forgotten before it."""

    def add(self, at: float, sent: bool, flow: Flow, text: str, *, most_messages: int, most_size: int) -> None:
        same = None
        for step in self.steps[-_LOOK_BACK:]:
            if step.text == text and step.sent is sent:
                same = step
        if len(self.steps) >= most_messages or (same is None and self.size + len(text) > most_size):
            self.left_out += 1
            return
        self.steps.append(Step(at, sent, flow, text if same is None else same.text, same is not None))
        if same is None:
            self.size += len(text)
        if self.on_step is not None:
            self.on_step()

    def lines(self) -> list[str]:
        """The diagram."""
        return draw(self.steps, left_out=self.left_out)

    def transcript(self) -> list[str]:
        """The messages themselves, in order."""
        return transcribe(self.steps)


class Ladders:
    """The ladders of the calls that are up, and of the last ones that were.

    `calls` is how many of the latter are kept, `total` how many characters of them.
    """

    def __init__(
        self,
        *,
        calls: int = 100,
        messages: int = 200,
        size: int = 200_000,
        message: int = 8_000,
        total: int = 4_000_000,
    ) -> None:
        self._most_calls = calls
        self._most_messages = messages
        self._most_size = size
        self._longest = message
        self._most_total = total
        self._by_call_id: dict[str, Ladder] = {}
        self._closed: dict[Ladder, None] = {}
        self._closed_size = 0

    def __len__(self) -> int:
        """How many are kept."""
        return len(self._closed) + len({id(ladder) for ladder in self._by_call_id.values() if ladder.open})

    def trace(self, flow: Flow, sent: bool, data: bytes, now: float) -> None:
        """A message that has come or goes out. Of a Call-ID that is unknown nothing but an INVITE begins a ladder."""
        if data[:1] == b"\r":
            data = data.lstrip(b"\r\n")  # RFC 3261 §7.5: no part of the message
        found = _call_id.search(data)
        if found is None:
            return
        call_id = found[1].strip(b" \t").decode("utf-8", "replace")
        ladder = self._by_call_id.get(call_id)
        if ladder is None:
            if not data.startswith(b"INVITE "):
                return
            ladder = self._begin(call_id)
        text = redact(data[: self._longest].decode("utf-8", "replace"))
        if len(data) > self._longest:
            text += f"\r\n({len(data) - self._longest} more bytes)"
        before = ladder.size
        ladder.add(now, sent, flow, text, most_messages=self._most_messages, most_size=self._most_size)
        if not ladder.open:
            self._closed_size += ladder.size - before
            self._forget_oldest()

    def opened(self, call_id: str) -> None:
        """A call is served, or about to be made: its ladder stays as long as it is up."""
        ladder = self._by_call_id.get(call_id) or self._begin(call_id)
        if not ladder.open:
            ladder.open = ladder.served = True
            del self._closed[ladder]
            self._closed_size -= ladder.size

    def joined(self, call_id: str, leg_call_id: str) -> None:
        """`leg_call_id` is a further leg of the conversation of `call_id`: one ladder from now on."""
        ladder, leg = self._by_call_id.get(call_id), self._by_call_id.get(leg_call_id)
        if ladder is None or ladder is leg:
            return
        if leg is None:
            leg = self._begin(leg_call_id)
        if not leg.open:
            del self._closed[leg]
            self._closed_size -= leg.size
        if not ladder.open:
            self._closed_size += leg.size
        ladder.steps = sorted([*ladder.steps, *leg.steps], key=lambda step: step.at)
        ladder.size += leg.size
        ladder.left_out += leg.left_out
        ladder.call_ids += leg.call_ids
        for each in leg.call_ids:
            self._by_call_id[each] = ladder

    def ended(self, call_id: str) -> Ladder | None:
        """The call is over; its ladder is kept until others need the room."""
        ladder = self._by_call_id.get(call_id)
        if ladder is not None and ladder.open:
            ladder.open = False
            self._closed[ladder] = None
            self._closed_size += ladder.size
            self._forget_oldest()
        return ladder

    def get(self, call_id: str) -> Ladder | None:
        return self._by_call_id.get(call_id)

    def _begin(self, call_id: str) -> Ladder:
        ladder = self._by_call_id[call_id] = Ladder(call_id)
        self._closed[ladder] = None
        return ladder

    def _forget_oldest(self) -> None:
        while len(self._closed) > self._most_calls or (self._closed_size > self._most_total and len(self._closed) > 1):
            ladder = next((ladder for ladder in self._closed if not ladder.served), next(iter(self._closed)))
            del self._closed[ladder]
            self._closed_size -= ladder.size
            for call_id in ladder.call_ids:
                del self._by_call_id[call_id]


# Drawing.

_TIME_WIDTH = 10
_COLUMN = 30


def draw(steps: Iterable[Step], *, us: str = "sipbridge", left_out: int = 0) -> list[str]:
    """Time runs down, `us` is the second column; the far ends stand in the order of their first message."""
    steps = list(steps)
    if not steps:
        return ["(no messages)"]
    peers = list(dict.fromkeys(_name(step.flow) for step in steps))
    columns = [peers[0], us, *peers[1:]]
    place = {name: _TIME_WIDTH + _COLUMN // 2 + _COLUMN * number for number, name in enumerate(columns)}
    width = _TIME_WIDTH + _COLUMN * len(columns)
    lines = [_heads(place, width)]
    began = steps[0].at
    for step in steps:
        here, there = place[us], place[_name(step.flow)]
        lines.append(_arrow(place, width, here if step.sent else there, there if step.sent else here, step, began))
    if left_out:
        lines.append(f"({left_out} more messages were not kept)")
    return [line.rstrip() for line in lines]


def transcribe(steps: Iterable[Step]) -> list[str]:
    """The messages in full."""
    lines = []
    began: float | None = None
    for step in steps:
        began = step.at if began is None else began
        arrow = "-->" if step.sent else "<--"
        again = "  (repeated)" if step.repeated else ""
        lines.append(f"{step.at - began:9.3f} s  {step.flow.transport} {arrow} {_name(step.flow)}{again}")
        if not step.repeated:
            lines.extend(f"    {_printable(line)}" for line in step.text.splitlines())
        lines.append("")
    return lines


def _heads(place: dict[str, int], width: int) -> str:
    line = [" "] * width
    for name, column in place.items():
        text = name if len(name) < _COLUMN else f"{name[: _COLUMN - 2]}~"
        start = max(_TIME_WIDTH, column - len(text) // 2)
        line[start : start + len(text)] = text
    return "".join(line)


def _arrow(place: dict[str, int], width: int, start: int, end: int, step: Step, began: float) -> str:
    line = [" "] * width
    for column in place.values():
        line[column] = "|"
    left, right = min(start, end), max(start, end)
    line[left + 1 : right] = "-" * (right - left - 1)
    if end > start:
        line[right - 1] = ">"
    else:
        line[left + 1] = "<"
    title = f" {_printable(step.title)[: right - left - 7]} "
    at = left + (right - left - len(title)) // 2 + 1
    line[at : at + len(title)] = title
    stamp = f"{step.at - began:8.3f}"
    line[: len(stamp)] = stamp
    return "".join(line)


def _name(flow: Flow) -> str:
    return format_host(*flow.remote)


def _printable(text: str) -> str:
    """What a stranger wrote must not move the reader's cursor."""
    return "".join(character if character.isprintable() else "?" for character in text.expandtabs())
