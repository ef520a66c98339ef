"""What is known of a call that went wrong, as one asks for it when looking for the cause. Pure."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from statistics import median
from typing import Any

from sipbridge.history.facts import Entry
from sipbridge.history.reading.timeline import ladder_of, legs_of, number, report_of, text

_PARTS = ("endpointing", "model", "playout")
_CONNECTION = re.compile(r"^c=IN IP[46] ([^\s/]+)", re.MULTILINE)
_AUDIO = re.compile(r"^m=audio \S+ \S+ ([\d ]+)", re.MULTILINE)
_STATIC = {"0": "PCMU", "3": "GSM", "4": "G723", "8": "PCMA", "9": "G722", "18": "G729"}
"""RFC 3551 §6, table 4: types that need no name, of those that telephones offer."""
_CODECS = re.compile(r"^a=rtpmap:\d+ ([\w.-]+)/", re.MULTILINE)


class Evidence:
    """Of one call. `route`: why each tenant was or was not chosen, where that is known now."""

    def __init__(self, entries: Sequence[Entry], route: Sequence[tuple[str, str]] = ()) -> None:
        self.entries = entries
        self.route = route
        self.started: Mapping[str, Any] = next((e.data for e in entries if e.kind == "call.started"), {})
        self.report = report_of(entries)
        self.ladder = ladder_of(entries)
        self.legs = legs_of(self.report)
        self.ended = text(self.report, "ended")
        """"": it is up."""
        self.detail = text(self.report, "detail")
        self.status = number(self.report, "status")
        self.seconds = number(self.report, "seconds") or 0.0
        self.outbound = text(self.started, "direction") == "outbound"
        self.answered = any(entry.kind == "call.answered" for entry in entries)
        self.tools = self._of("call.tool")
        self.notes = self._of("call.note")
        self.transfers = self._of("call.transferred")
        self.turns = [turn for turn in self._of("call.turn") if turn.get("final") is not False]

    def _of(self, kind: str) -> list[Mapping[str, Any]]:
        return [entry.data for entry in self.entries if entry.kind == kind]

    # --- the sound ----------------------------------------------------------------------------------------------------

    def total(self, figure: str) -> float | None:
        """Of all legs; None where none of them has it."""
        values = [value for leg in self.legs if (value := number(leg, figure)) is not None]
        return sum(values) if values else None

    def most(self, figure: str) -> float:
        """The highest of all legs, 0 where there is none."""
        return max((number(leg, figure) or 0.0 for leg in self.legs), default=0.0)

    @property
    def heard_nothing(self) -> bool:
        """No packet of the far end's was ever believed."""
        return bool(self.legs) and self.total("packets_received") == 0

    @cached_property
    def delays(self) -> list[dict[str, float]]:
        """Of each of the agent's answers, in milliseconds and by part, as far as it is known."""
        found = []
        for turn in self.turns:
            parts = {name: number(turn, "latency", f"{name}_ms") for name in _PARTS}
            known = {name: value for name, value in parts.items() if value is not None}
            if known:
                found.append(known)
        return found

    @property
    def delay_ms(self) -> float | None:
        """Half of the answers took longer."""
        return median(sum(parts.values()) for parts in self.delays) if self.delays else None

    @property
    def slowest_part(self) -> tuple[str, float]:
        """Which part of the answers takes longest, and its median."""
        each = {name: [parts[name] for parts in self.delays if name in parts] for name in _PARTS}
        medians = {name: median(values) for name, values in each.items() if values}
        return max(medians.items(), key=lambda part: part[1], default=("model", 0.0))

    # --- SIP ----------------------------------------------------------------------------------------------------------

    def messages(self, title: str, *, sent: bool) -> list[Mapping[str, Any]]:
        """Those whose title begins so."""
        return [
            step for step in self.ladder if (step.get("sent") is True) is sent and text(step, "title").startswith(title)
        ]

    @property
    def final_response(self) -> str:
        """What was answered to the INVITE, by them or by us: `486 Busy Here`, the first line of it."""
        for step in reversed(self.ladder):
            title = text(step, "title")
            if re.match(r"[3-6]\d\d ", title) and "(INVITE)" in title:
                return title.partition(" (")[0]
        return ""

    def sound_address(self, *, ours: bool) -> str:
        """Where the SDP of one side wants its sound; "" where none was kept."""
        for step in self.ladder:
            if (step.get("sent") is True) is ours:
                body = step.get("text")
                found = _CONNECTION.findall(body.replace("\r", "")) if isinstance(body, str) else []
                if found:
                    return str(found[-1])
        return ""

    def offered_codecs(self) -> list[str]:
        """By the INVITE."""
        for step in self.messages("INVITE", sent=self.outbound):
            body = step.get("text")
            if isinstance(body, str):
                static = [_STATIC[kind] for kinds in _AUDIO.findall(body) for kind in kinds.split() if kind in _STATIC]
                named = [name for name in _CODECS.findall(body) if name != "telephone-event"]
                return list(dict.fromkeys([*static, *named]))
        return []

    @property
    def peer(self) -> str:
        """The address that the far end's SIP comes from."""
        return next((text(step, "peer").rpartition(":")[0].strip("[]") for step in self.ladder), "")


def is_local(address: str) -> bool:
    """Of a private network or of this machine: nobody outside can send anything there."""
    try:
        return not ipaddress.ip_address(address).is_global
    except ValueError:
        return False
