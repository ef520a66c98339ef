"""Offer and answer in one dialog (RFC 3264 §4, RFC 6337): whose turn it is, and what was said last. Pure.

To SIP a session description is bytes. What counts here is only that an offer is answered once, and that no second one
is made meanwhile, whichever of INVITE, PRACK, UPDATE, their responses and ACK carries it.
"""

from __future__ import annotations

from enum import Enum


class Turn(Enum):
    NOBODY = "nobody"
    """No offer waits for its answer."""
    OURS = "ours"
    """We have an offer to answer."""
    THEIRS = "theirs"
    """They have."""


class Exchange:
    """The session of one dialog."""

    def __init__(self) -> None:
        self.turn = Turn.NOBODY
        self.local = b""
        """What we said last that is in force, be it an offer or an answer."""
        self.remote = b""
        self.rounds = 0
        """How often offer and answer have been completed."""
        self._offer = b""

    def __repr__(self) -> str:
        return f"<Exchange {self.rounds} {self.turn.value}>"

    @property
    def is_established(self) -> bool:
        return self.rounds > 0

    def send_offer(self, sdp: bytes) -> None:
        self.turn, self._offer = Turn.THEIRS, sdp

    def receive_offer(self, sdp: bytes) -> None:
        self.turn, self._offer = Turn.OURS, sdp

    def send_answer(self, sdp: bytes) -> None:
        """Nothing where no offer waits: an answer that is said again changes nothing (RFC 3261 §13.2.1)."""
        if self.turn is Turn.OURS:
            self._complete(sdp, self._offer)

    def receive_answer(self, sdp: bytes) -> None:
        if self.turn is Turn.THEIRS:
            self._complete(self._offer, sdp)

    def withdraw(self) -> None:
        """The offer was refused, or its answer will never come: all stays as it was."""
        self.turn, self._offer = Turn.NOBODY, b""

    def _complete(self, local: bytes, remote: bytes) -> None:
        self.local, self.remote = local, remote
        self.rounds += 1
        self.withdraw()
