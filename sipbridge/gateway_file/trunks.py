"""The configuration of trunks: who may call over one, how we call over it, what its far end may have us do."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from sipbridge.configfile import Patterns, Section
from sipbridge.errors import SipParseError
from sipbridge.logins import Login, RegisterAt
from sipbridge.sip.headers import Uri

CodecName = Literal["opus", "G722", "PCMU", "PCMA", "L16"]


OffIsAWord = BeforeValidator(lambda value: "off" if value is False else value)
"""To YAML `off` is a truth value."""
SrtpPolicy = Annotated[Literal["off", "optional", "required"], OffIsAWord]


class Outbound(Section):
    """How this side calls over a trunk."""

    proxy: str
    transport: Literal["udp", "tcp", "tls"] = "udp"
    auth: Login | None = None
    """Who we are there, where that is not as for `register`."""
    caller: str | None = Field(default=None, alias="from", min_length=1)
    """Number, name or URI that our calls come from."""
    ring_seconds: float = Field(default=60, gt=0, le=180)
    early_media: bool = False
    srtp_keys: Literal["sdes", "dtls"] = "sdes"
    """How keys are offered where SRTP is required."""
    ping_seconds: float = Field(default=30, ge=0)
    max_calls: int = Field(default=30, ge=0)
    calls_per_hour: int = Field(default=600, ge=0)

    @field_validator("proxy")
    @classmethod
    def _sip_uri(cls, proxy: str) -> str:
        if not re.fullmatch(r"sips?:(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:\d{1,5})?(;[A-Za-z0-9=._;-]+)?", proxy):
            raise ValueError(f"sip:HOST[:PORT] is expected, not {proxy!r}")
        return proxy


class Trunk(Section):
    name: str = Field(min_length=1)
    sources: tuple[str, ...] = ()
    auth: Login | None = None
    register_at: RegisterAt | None = Field(default=None, alias="register")
    outbound: Outbound | None = None
    srtp: SrtpPolicy | None = None
    """None: as `media.srtp`."""
    codecs: tuple[CodecName, ...] | None = Field(default=None, min_length=1)
    trust_identity: bool = False
    accept_refer: bool = False
    follow_redirects: bool = False
    refer_targets: Patterns = ()
    """What a far end may make us call: numbers and names, with wildcards, or fixed sip: and tel: URIs."""

    @field_validator("refer_targets")
    @classmethod
    def _narrow(cls, targets: tuple[str, ...]) -> tuple[str, ...]:
        for target in targets:
            literal = re.split(r"[*?]", target, maxsplit=1)[0]
            if "*" in target and len(literal) < 3:
                raise ValueError(f"{target!r}: a wildcard needs at least three characters before it")
            if not re.fullmatch(r"(sips?:[^\s<>?@]+@[^\s<>?@]+|tel:[^\s<>?@]+|[^\s<>@:;%\[]+)", target):
                raise ValueError(f"{target!r}: expected a number or name, with * or ?, or sip:USER@HOST or tel:NUMBER")
            if ":" in target:
                try:
                    Uri.parse(target)
                except SipParseError as error:
                    raise ValueError(str(error)) from error
        return targets

    @field_validator("sources")
    @classmethod
    def _networks(cls, sources: tuple[str, ...]) -> tuple[str, ...]:
        for source in sources:
            ipaddress.ip_network(source)  # raises ValueError, whose text says what is wrong
        return sources

    @model_validator(mode="after")
    def _not_for_everybody(self) -> Trunk:
        if not self.sources and self.auth is None:
            raise ValueError("'sources' or 'auth' is needed: who may call over this trunk")
        return self

    @model_validator(mode="after")
    def _calls_have_a_way(self) -> Trunk:
        for name in ("accept_refer", "follow_redirects"):
            if getattr(self, name) and not (self.outbound and self.refer_targets):
                raise ValueError(
                    f"{name!r} needs 'outbound' (the way to call) and 'refer_targets' (what may be called)"
                )
        return self
