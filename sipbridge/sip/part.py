"""What a call is made of: objects with a task of their own, which know the call and are known to nobody else."""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import ref

if TYPE_CHECKING:
    from sipbridge.sip.core import Core
    from sipbridge.sip.invite import Invite


class CallPart:
    """Held by its call, and asked by it alone; so it does not hold the call. Otherwise every call that is over would be
    a circle, which waits for a full garbage collection: a pause in the sound of all others."""

    def __init__(self, core: Core, call: Invite) -> None:
        self._core = core
        self._owner = ref(call)

    @property
    def _call(self) -> Invite:
        call = self._owner()
        assert call is not None
        return call
