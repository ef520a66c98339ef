"""When another session is opened: after one was lost, and before one has to end. Pure, in the time of `now`.

    STEADY    one is in use
    BESIDE    one is in use, and the one that is to follow it is being opened
    INSTEAD   the one in use was closed so that another could be opened: planned, so nobody has been told
    WAITING   there is none; the next try has its time
    OPENING   there is none; one is being opened
    OVER      there will be none

What the caller of a method has to do is the `Action` that it returns. Three tries for an outage, the last one begun
within five seconds; a session that lasts for a while ends the outage, one that breaks at once does not.
"""

from __future__ import annotations

import enum

from sipbridge.providers import Lifetime

DELAYS = (0.0, 0.5, 2.0)
"""Seconds before each try, since the loss or the failure before it."""
OUTAGE = 5.0
"""Seconds after a loss in which all tries have to be over."""
STEADY_AFTER = 10.0
"""Seconds that a session has to last for the one before it to be forgotten."""
LEAD = 5.0
"""Seconds before a session's end at which it is followed by another whether the moment is quiet or not."""
AT_LEAST = 1.0
"""Seconds that any session is used: some servers say at once of each that it has to end."""
MOST_HURRIED = 5
"""Sessions that are followed by another before they have lasted for a while; of further ones the vendor's word is not
heeded."""
TURNED_AWAY = 0.2
"""Seconds until a try that was not let through, because others have failed just now, is asked for again."""
PUT_OFF = 5.0
"""Seconds between two tries of a change that nobody has noticed yet."""


class Phase(enum.Enum):
    STEADY = enum.auto()
    BESIDE = enum.auto()
    INSTEAD = enum.auto()
    WAITING = enum.auto()
    OPENING = enum.auto()
    OVER = enum.auto()


class Input(enum.Enum):
    LOST = enum.auto()
    """The session in use is gone."""
    DUE = enum.auto()
    """It is time for a try."""
    DUE_ALONE = enum.auto()
    """The same where only one may be up."""
    OPENED = enum.auto()
    STALE = enum.auto()
    """It is open, but the conversation has gone on since its history was taken."""
    FAILED = enum.auto()
    EXHAUSTED = enum.auto()
    """It failed, or there would be another one to try, and it is enough."""


class Action(enum.Enum):
    NONE = enum.auto()
    WAIT = enum.auto()
    """Ring at `get_timer`."""
    OPEN = enum.auto()
    """Begin to open one, with `seconds` to do it in."""
    REPLACE = enum.auto()
    """Close the one in use, then open one."""
    SWITCH = enum.auto()
    """Use the one that was opened; close the one before it, if there is one."""
    DISCARD = enum.auto()
    """Close the one that was opened."""
    GIVE_UP = enum.auto()


TABLE: dict[Phase, dict[Input, tuple[Phase, Action]]] = {
    Phase.STEADY: {
        Input.LOST: (Phase.WAITING, Action.WAIT),
        Input.DUE: (Phase.BESIDE, Action.OPEN),
        Input.DUE_ALONE: (Phase.INSTEAD, Action.REPLACE),
        Input.EXHAUSTED: (Phase.OVER, Action.GIVE_UP),
    },
    Phase.BESIDE: {
        Input.LOST: (Phase.OPENING, Action.NONE),  # the one that is being opened comes just in time
        Input.OPENED: (Phase.STEADY, Action.SWITCH),
        Input.STALE: (Phase.STEADY, Action.DISCARD),
        Input.FAILED: (Phase.STEADY, Action.WAIT),
    },
    Phase.INSTEAD: {
        Input.OPENED: (Phase.STEADY, Action.SWITCH),
        Input.FAILED: (Phase.WAITING, Action.WAIT),
        Input.EXHAUSTED: (Phase.OVER, Action.GIVE_UP),
    },
    Phase.WAITING: {
        Input.DUE: (Phase.OPENING, Action.OPEN),
    },
    Phase.OPENING: {
        Input.OPENED: (Phase.STEADY, Action.SWITCH),
        Input.FAILED: (Phase.WAITING, Action.WAIT),
        Input.EXHAUSTED: (Phase.OVER, Action.GIVE_UP),
    },
    Phase.OVER: {},
}
"""What is not in it does not matter then."""


class Recovery:
    """`overlaps`: a session may be opened while the one before it is still up."""

    def __init__(self, *, overlaps: bool, connect_timeout: float) -> None:
        self.phase = Phase.STEADY
        self.tries = 0
        """Of the outage under way, or just over."""
        self._hurried = 0
        """How many more changes there were of sessions that had not lasted for a while than of others."""
        self._overlaps = overlaps
        self._connect_timeout = connect_timeout
        self._opened_at: float | None = None
        self._deadline = 0.0
        self._due = 0.0

    # --- what happens -------------------------------------------------------------------------------------------------

    def lost(self, now: float) -> Action:
        """The session in use has ended, and another one has a chance."""
        self._look_back(now)
        self._deadline = now + OUTAGE
        if self.phase is Phase.BESIDE:
            self.tries += 1
        elif self.tries >= len(DELAYS):
            return self._step(Input.EXHAUSTED)
        else:
            self._due = now + DELAYS[self.tries]
        return self._step(Input.LOST)

    def opened(self, now: float, *, stale: bool = False) -> Action:
        """The one that was begun is open. `stale` matters only while another one is in use."""
        if stale and self.phase is Phase.BESIDE:
            self._due = now + 1.0
            return self._step(Input.STALE)
        self._opened_at = now
        self._due = 0.0
        return self._step(Input.OPENED)

    def _look_back(self, now: float) -> bool:
        """Whether the session in use has lasted for a while: then what was before it does not count any more."""
        if self._opened_at is None or now - self._opened_at < STEADY_AFTER:
            return False
        self.tries = 0
        return True

    def failed(self, now: float, *, again: bool, turned_away: bool = False) -> Action:
        """The one that was begun could not be opened; `again`: it may be different the next time; `turned_away`: it was
        not let through, so it was no try."""
        if self.phase is Phase.BESIDE:
            self._due = now + (PUT_OFF if again else 4 * PUT_OFF)
            return self._step(Input.FAILED)
        if self.phase is Phase.INSTEAD:
            self.tries = 0
            self._deadline = now + OUTAGE
        elif turned_away and now + TURNED_AWAY < self._deadline:
            self.tries -= 1
            self._due = now + TURNED_AWAY
            return self._step(Input.FAILED)
        if not again or self.tries >= len(DELAYS) or now + DELAYS[self.tries] >= self._deadline:
            return self._step(Input.EXHAUSTED)
        self._due = now + DELAYS[self.tries]
        return self._step(Input.FAILED)

    def ring(self, now: float, lifetime: Lifetime | None, quiet_at: float | None) -> Action:
        """The time of `get_timer` has come, or it may have. `quiet_at`: from when on nobody would notice a change."""
        at = self.get_timer(lifetime, quiet_at)
        if at is None or now < at:
            return Action.NONE
        if self.phase is Phase.WAITING:
            self.tries += 1
            return self._step(Input.DUE)
        if self._opened_at is not None:
            self._hurried = max(0, self._hurried - 1) if self._look_back(now) else self._hurried + 1
        return self._step(Input.DUE if self._overlaps else Input.DUE_ALONE)

    def over(self) -> None:
        """There is to be no other one."""
        self.phase = Phase.OVER

    def _step(self, what: Input) -> Action:
        self.phase, action = TABLE[self.phase].get(what, (self.phase, Action.NONE))
        return action

    # --- what follows -------------------------------------------------------------------------------------------------

    def get_timer(self, lifetime: Lifetime | None, quiet_at: float | None) -> float | None:
        if self.phase is Phase.WAITING:
            return self._due
        if self.phase is not Phase.STEADY or lifetime is None:
            return None
        forced = forced_at(lifetime)
        quietly = forced if quiet_at is None else max(quiet_at, lifetime.rotate_at)
        if self._opened_at is None:
            return max(min(quietly, forced), self._due)
        steady_at = self._opened_at + STEADY_AFTER
        at_least = self._opened_at + AT_LEAST if self._hurried <= MOST_HURRIED else steady_at
        return max(min(max(quietly, steady_at), forced), at_least, self._due)

    def seconds(self, now: float) -> float:
        """How long the opening that begins now may take."""
        if self.phase is Phase.OPENING:
            return max(0.1, min(self._connect_timeout, self._deadline - now))
        return self._connect_timeout


def forced_at(lifetime: Lifetime) -> float:
    """From when on a session is followed by another in any case: as late as can be, but not before it should."""
    return max(lifetime.rotate_at, lifetime.expires_at - LEAD)
