"""Keys with a purpose: numbers that the caller enters for the agent, and keys that the agent presses."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import TypeAlias

from sipbridge.conversation.context import CallContext
from sipbridge.conversation.entry import Collected, Entered, Entry
from sipbridge.conversation.keypad import Keypad
from sipbridge.conversation.privacy import Privacy
from sipbridge.logs import hide
from sipbridge.tenant_file.digits import DigitsField

_LONGEST_S = 180.0
"""Of one entry, however often the caller begins anew."""
_ASK_AFTER_S = 4.0
"""An agent may have asked in an earlier reply: so long the caller is left alone before it is told to ask (again)."""
_QUIET_S = 1.5
"""After an entry: a # that was not needed, a digit too many or the rest of its tone is nobody's business either."""
_LATE_S = 30.0
"""After a secret entry that came to nothing: so long what the caller still enters is kept from everybody. He may have
been looking for his card."""
_HIDDEN_AFTER_S = 30.0
"""When the call is over a tool may still be at work, and complain."""
_PAUSES = {",": 2.0, "W": 0.5}
"""Of dial strings, in seconds."""


Prompt: TypeAlias = Callable[[], Awaitable[None]]


class Digits:
    def __init__(self, call: CallContext, keypad: Keypad, privacy: Privacy) -> None:
        self._call = call
        self._keypad = keypad
        self._privacy = privacy
        config = call.tenant.config.tools.collect_digits
        self._fields = {} if config is None else config.fields
        self._kept: dict[str, str] = {}
        self._hidden: list[Callable[[], None]] = []
        self._entering = False
        self._quiet: asyncio.TimerHandle | None = None
        self._pressing = asyncio.Lock()

    def close(self) -> None:
        """The call is over: what was entered is forgotten."""
        self._kept.clear()
        loop = asyncio.get_running_loop()
        while self._hidden:
            loop.call_later(_HIDDEN_AFTER_S, self._hidden.pop())
        if self._quiet is not None:
            self._quiet.cancel()

    # --- what the caller enters -------------------------------------------------------------------------------------

    async def collect(self, name: str, prompt: Prompt, *, asked: bool) -> Collected | None:
        """Take what the caller enters from now on, as the field of this name. `prompt` returns when he has heard what
        is wanted, for which he need not wait; where he was not `asked` just now, he is first left a moment to begin by
        himself. Of a secure field the digits are kept, for `take`. None: he is entering something else."""
        wanted = self._fields[name]
        if self._entering:
            return None
        if wanted.secure:
            self._privacy.begin()
        else:
            self._privacy.end()
        entry = Entry(wanted)
        self._entering = True
        how = None
        try:
            how = await self._entered(entry, wanted, prompt, asked)
        finally:
            self._entering = False
            self._settle(withheld=wanted.secure and how is not Entered.WHOLE)
        if how is Entered.WHOLE and wanted.secure:
            self._kept[name] = entry.digits
            self._hidden.append(hide(entry.digits))  # programs that a tool runs write lines, too
        return Collected(how, len(entry.digits), "" if wanted.secure else entry.digits)

    def lacking(self, names: Sequence[str]) -> list[str]:
        """For which fields nothing is kept."""
        return [name for name in names if name not in self._kept]

    def take(self, names: Sequence[str]) -> dict[str, str]:
        """What was entered in secret; once."""
        return {name: self._kept.pop(name) for name in names if name in self._kept}

    async def _entered(self, entry: Entry, wanted: DigitsField, prompt: Prompt, asked: bool) -> Entered:
        loop = asyncio.get_running_loop()
        over: asyncio.Future[Entered] = loop.create_future()
        begun = asyncio.Event()
        limit = asyncio.timeout(_LONGEST_S)
        latest = loop.time() + _LONGEST_S

        def wait() -> None:
            if not limit.expired():
                limit.reschedule(min(latest, loop.time() + wanted.timeout_seconds))

        def pressed(key: str) -> None:
            if over.done() or limit.expired():
                return
            begun.set()
            wait()
            if (how := entry.press(key)) is not None:
                over.set_result(how)

        async def ask() -> None:
            if not asked:
                with suppress(TimeoutError):
                    async with asyncio.timeout(_ASK_AFTER_S):
                        await begun.wait()
                        return
            await prompt()
            wait()

        asking = self._call.spawn(ask())
        try:
            async with limit:
                self._keypad.take(pressed)
                return await over
        except TimeoutError:
            return entry.wait_no_longer()
        finally:
            asking.cancel()

    # --- and afterwards ---------------------------------------------------------------------------------------------

    def _settle(self, *, withheld: bool) -> None:
        """Keys go nowhere until none has come for a while; then all is as before. `withheld`: they are secret, and may
        come late."""
        self._keypad.take(self._pass_over_secret if withheld else self._pass_over)
        (self._pass_over_secret if withheld else self._pass_over)("")

    def _pass_over(self, key: str) -> None:
        self._wait(_QUIET_S, self._as_before)

    def _pass_over_secret(self, key: str) -> None:
        self._privacy.begin()
        self._wait(_QUIET_S, self._all_but_keys)

    def _wait(self, seconds: float, then: Callable[[], None]) -> None:
        if self._quiet is not None:
            self._quiet.cancel()
        self._quiet = asyncio.get_running_loop().call_later(seconds, then)

    def _all_but_keys(self) -> None:
        if not self._entering:
            self._privacy.end()
            self._wait(_LATE_S, self._as_before)

    def _as_before(self) -> None:
        if not self._entering:
            self._keypad.give_back(self._pass_over)
            self._keypad.give_back(self._pass_over_secret)
            self._privacy.end()

    # --- what the agent presses -------------------------------------------------------------------------------------

    async def send(self, keys: str) -> str:
        """Press keys, with pauses. Returns when the last has been sent: what went wrong, or an empty text."""
        async with self._pressing:
            for part in re.findall(r"[0-9A-D*#]+|.", keys.upper()):
                if part in _PAUSES:
                    await asyncio.sleep(_PAUSES[part])
                elif failure := await self._call.legs.current.press(part):
                    return failure
        return ""
