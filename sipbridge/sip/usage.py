"""What a failed request inside a dialog says about the dialog and what it is used for (RFC 5057 §5.1): as data.

A dialog carries usages: the call, and a subscription for each REFER. A final response from 300 on concerns the
transaction alone, or the usage that the request was part of, or all that the dialog carries.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType
from typing import Final


class Loss(Enum):
    """What is gone with the request."""

    TRANSACTION = "transaction"
    """Nothing but the request itself."""
    USAGE = "usage"
    """The call, or the subscription, that the request was part of."""
    DIALOG = "dialog"
    """Everything."""


LOSSES: Final[Mapping[int, Loss]] = MappingProxyType(
    {
        404: Loss.DIALOG,
        405: Loss.USAGE,
        408: Loss.USAGE,  # whether the peer said it, or said nothing at all (RFC 3261 §12.2.1.2)
        410: Loss.DIALOG,
        416: Loss.DIALOG,
        480: Loss.USAGE,
        481: Loss.USAGE,
        482: Loss.DIALOG,
        483: Loss.DIALOG,
        484: Loss.DIALOG,
        485: Loss.DIALOG,
        489: Loss.USAGE,
        501: Loss.USAGE,
        502: Loss.DIALOG,
        604: Loss.DIALOG,
    }
)
"""Any status that is not listed, and any that nobody has defined, concerns the transaction alone."""

GONE: Final = frozenset({408, 481})
"""The peer does not know the call any more, or is not there any more."""

_OF_THE_CALL: Final = frozenset({"INVITE", "UPDATE", "PRACK", "BYE"})
"""Methods without which there is no call. A peer that has no INFO or no REFER (405), or does not know whom it is asked
to call (404 to a REFER, from many PBXs), still has the call: there only `GONE` counts."""


def loss(method: str, status: int) -> Loss:
    """What is lost where a request of ours inside a call's dialog is answered with `status`, or fails with it."""
    if status < 300:
        return Loss.TRANSACTION
    if method in _OF_THE_CALL or method == "NOTIFY" or status in GONE:
        return LOSSES.get(status, Loss.TRANSACTION)
    return Loss.TRANSACTION


def ends_call(method: str, status: int) -> bool:
    """Whether the call is over by that (RFC 3261 §12.2.1.2, §14.1). A NOTIFY belongs to its subscription: it takes the
    call with it only where the whole dialog is gone."""
    lost = loss(method, status)
    return lost is Loss.DIALOG or (lost is Loss.USAGE and method != "NOTIFY")
