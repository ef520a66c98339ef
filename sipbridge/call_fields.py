"""What is known about a call when it arrives: what its tenant is chosen by, and what templates see."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sipbridge.sip.headers import readable
from sipbridge.sip.identity import CallerIdentity, Party
from sipbridge.sip.message import Request


@dataclass(frozen=True, slots=True)
class CallFields:
    """What is known about a call when it arrives; what templates see as `call` and `header`."""

    to: str
    """The dialled number or user part."""
    caller: str = ""
    """Who calls, as well as it is known: for choosing the tenant. See `templated` for what a model may be told."""
    trunk: str | None = None
    call_id: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    identity: CallerIdentity | None = None
    """Of a call that came in."""
    machine: str = ""
    """What has answered a call that we made, where it is said to be no person."""

    @classmethod
    def of(
        cls, request: Request, trunk: str | None, *, trusted: bool = False, account: str | None = None
    ) -> CallFields:
        """What an INVITE says. Not `trusted`: what only a network may say of a caller is left out. `account` is who the
        caller has proven to be, which counts for more than what is said."""
        identity = CallerIdentity.of(request, trusted=trusted)
        left_out = _SECRET if trusted else _SECRET | _NETWORKS_WORD
        headers: dict[str, str] = {}
        for name, value in request.headers:
            if name.lower() not in left_out:
                headers.setdefault(name, readable(value))
        return cls(
            to=identity.dialled.user,
            caller=account or str(identity.caller),
            trunk=trunk,
            call_id=readable(request.call_id),
            headers=headers,
            identity=identity,
        )

    def template_names(self) -> dict[str, Any]:
        """All that a template may name."""
        return {"call": self.templated(), "header": AnyCase(self.headers)}

    @property
    def answered_by(self) -> str:
        """`machine` as a sentence, for an agent."""
        return f"The telephone network says that a machine has answered this call ({self.machine})."

    def templated(self) -> dict[str, str]:
        """What templates see as `call`: text, empty where it is not known, and nothing that the caller has hidden."""
        call = {
            "from": self.caller,
            "to": self.to,
            "id": self.call_id,
            "trunk": self.trunk or "",
            "machine": self.machine,
        }
        names = ("display", "asserted", "diversion", "history", "dialled", "verstat", "referred_by", "privacy")
        call |= dict.fromkeys(names, "")
        identity = self.identity
        if identity is None:
            return call
        call |= {
            "privacy": ", ".join(sorted(identity.privacy)),
            "verstat": identity.verstat,
            "dialled": identity.to.user,
            "referred_by": str(identity.referred_by or ""),
        }
        if identity.is_private:
            call["from"] = "anonymous"
        else:
            call |= {"display": identity.display, "asserted": ", ".join(map(str, identity.asserted))}
        if identity.trusted:
            call |= {
                "dialled": str(identity.first_dialled),
                "diversion": ", ".join(str(Party.of(entry.party)) for entry in identity.diversions),
                "history": ", ".join(str(Party.of(entry.party)) for entry in identity.history),
            }
        return call


_SECRET = frozenset({"authorization", "proxy-authorization"})
_NETWORKS_WORD = frozenset({"p-asserted-identity", "remote-party-id", "diversion", "history-info", "p-charging-vector"})


class AnyCase(dict[str, str]):
    """Header fields by name, in any case (RFC 3261 §7.3.1)."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        super().__init__({name.lower(): value for name, value in headers.items()})

    def __getitem__(self, name: str) -> str:
        return super().__getitem__(name.lower())
