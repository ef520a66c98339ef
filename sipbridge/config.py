"""The configuration's shape: pydantic models of `sipbridge.yaml`; a tenant's file is in `tenant_config`.

Names and defaults are documented in docs/configuration.md. Keys that belong to the shape but that this version does not
act on yet carry `PLANNED`: setting one is allowed and reported by `not_in_use()`; where ignoring a key would be unsafe
(authentication, encryption), it is refused instead.
"""

from __future__ import annotations

import ipaddress
import os
import platform
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    Field,
    PlainSerializer,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from sipbridge.configfile import Place, Section, error_at, load, written
from sipbridge.errors import TlsFileError
from sipbridge.gateway_file.backend import BackendKeys
from sipbridge.gateway_file.history import HistoryConfig
from sipbridge.gateway_file.recordings import RecordingsConfig
from sipbridge.gateway_file.trunks import CodecName, OffIsAWord, SrtpPolicy, Trunk
from sipbridge.gateway_file.webhooks import WebhookConfig
from sipbridge.logins import Login, Secret
from sipbridge.overrides import of_environment
from sipbridge.prices import Prices
from sipbridge.sip.dns import parse_nameserver
from sipbridge.sip.tls import TlsContexts, TlsSettings

PLANNED: Final = "planned"
"""Metadata of a key that is part of the shape and has no effect yet."""


def _parse_ports(value: object) -> object:
    match = re.fullmatch(r"\s*(\d+)\s*-\s*(\d+)\s*", value) if isinstance(value, str) else None
    if not match:
        raise ValueError("a range of ports is expected, such as 16384-32767")
    first, last = int(match[1]), int(match[2])
    if not 1024 <= first < last <= 65535:
        raise ValueError("ports lie between 1024 and 65535, the first below the last")
    return (first, last)


Ports = Annotated[
    tuple[int, int],
    BeforeValidator(_parse_ports, json_schema_input_type=Annotated[str, Field(pattern=r"^\s*\d+\s*-\s*\d+\s*$")]),
    PlainSerializer(lambda ports: f"{ports[0]}-{ports[1]}"),
]

# --- sipbridge.yaml ---------------------------------------------------------------------------------------------------

_LISTENER = re.compile(r"(udp|tcp|tls|ws|wss)://(\[[0-9A-Fa-f:.]+\]|[^:/\s]+):(\d{1,5})")

_Listener = Annotated[str, WithJsonSchema({"type": "string", "pattern": f"^{_LISTENER.pattern}$"})]


class Node(Section):
    id: str | None = Field(default=None, min_length=1, max_length=64)

    @property
    def name(self) -> str:
        """What this node is called in histories, metrics and logs."""
        return self.id or platform.node() or "sipbridge"


class Tls(Section):
    """What is named is read at once, so that what cannot be used is known before anybody calls."""

    certificate: Path | None = None
    key: Path | None = None
    ca: Path | None = None
    verify_peer: bool = True
    client_certificates: Annotated[Literal["off", "optional", "required"], OffIsAWord] = "off"
    wildcard_names: bool = False

    @property
    def settings(self) -> TlsSettings:
        return TlsSettings(**{name: getattr(self, name) for name in type(self).model_fields})

    @field_validator("certificate", "key", "ca")
    @classmethod
    def _beside_the_file(cls, path: Path | None, info: ValidationInfo) -> Path | None:
        return path if path is None else Path((info.context or {}).get("directory", ""), path)

    @model_validator(mode="after")
    def _usable(self) -> Tls:
        if self.key is not None and self.certificate is None:
            raise error_at(("key",), "a key without a certificate")
        if self.client_certificates != "off" and self.ca is None:
            # With the authorities that every machine trusts, anybody could buy his way in.
            raise error_at(("client_certificates",), "'ca' is needed: whose certificates clients may show")
        if self.certificate is not None or self.ca is not None:
            try:
                TlsContexts(self.settings)
            except TlsFileError as error:
                raise error_at((error.key,), str(error)) from None
        return self


class SessionTimersConfig(Section):
    """RFC 4028: calls whose other side has gone without a word end by themselves."""

    expires_seconds: int = Field(default=1800, ge=0)
    min_seconds: int = Field(default=90, ge=90)
    refresher: Literal["us", "peer"] | None = None

    @model_validator(mode="after")
    def _longer_than_the_least(self) -> SessionTimersConfig:
        if 0 < self.expires_seconds < self.min_seconds:
            raise ValueError(
                f"expires_seconds {self.expires_seconds} is below min_seconds {self.min_seconds}; 0 is off"
            )
        return self


class Sip(Section):
    tls: Tls = Tls()
    listen: tuple[_Listener, ...] = ("udp://127.0.0.1:5060", "tcp://127.0.0.1:5060")
    public_address: str | None = None
    nameservers: tuple[str, ...] = ()
    unknown_sources: Literal["silence", "forbid"] = "silence"
    session_timers: SessionTimersConfig = SessionTimersConfig()
    ladders: Path | None = None
    accounts: tuple[Login, ...] = ()
    """Who may register here, and call."""
    nonce_secret: Secret | None = None
    """Nodes that share it accept each other's challenges."""
    digest_algorithms: tuple[Literal["SHA-512-256", "SHA-256", "MD5"], ...] = Field(
        default=("MD5", "SHA-256"), min_length=1
    )
    """What is offered to those who have to prove who they are, in this order. Clients in use today, SIPp among them,
    give up at a first challenge that they do not know; who knows SHA-256 can take it (RFC 8760 §2.4)."""

    _starts_at_the_state = field_validator("ladders")(written)

    @field_validator("listen")
    @classmethod
    def _listeners(cls, listen: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if not listen:
            raise ValueError("at least one listener is needed")
        places: set[tuple[str, str, str]] = set()
        for url in listen:
            match = _LISTENER.fullmatch(url)
            if not match or int(match[3]) > 65535:
                raise ValueError(f"{url!r}: expected udp://ADDRESS:PORT, or tcp, tls, ws, wss instead of udp")
            tls = info.data.get("tls")  # absent where that was wrong already
            if match[1] in ("tls", "wss") and tls is not None and tls.certificate is None:
                raise ValueError(f"{url!r}: sip.tls.certificate and sip.tls.key are needed for it")
            ipaddress.ip_address(match[2].strip("[]"))  # raises ValueError, whose text says what is wrong
            place = ("udp" if match[1] == "udp" else "tcp", match[2], match[3])
            if place in places and int(match[3]):
                raise ValueError(f"{url!r}: that port is taken by another listener in the list")
            places.add(place)
        return listen

    @field_validator("nameservers")
    @classmethod
    def _addresses(cls, nameservers: tuple[str, ...]) -> tuple[str, ...]:
        for nameserver in nameservers:
            parse_nameserver(nameserver)  # raises ValueError, whose text says what is wrong
        return nameservers


class Media(Section):
    address: str = "127.0.0.1"
    ports: Ports = (16384, 32767)
    codecs: tuple[CodecName, ...] = ("opus", "G722", "PCMU", "PCMA")
    srtp: SrtpPolicy = "optional"
    uplink_ms: int = Field(default=20, ge=10, le=100)

    @field_validator("address")
    @classmethod
    def _one_address(cls, address: str) -> str:
        if ipaddress.ip_address(address).is_unspecified:
            raise ValueError(f"one address of this host is expected, not {address}: the SDP names it")
        return address


class NodeLimits(Section):
    max_calls: int = Field(default=300, ge=1)
    max_call_seconds: float = Field(default=3600, gt=0)
    media_timeout_seconds: float = Field(default=30, gt=0)


class Tenants(BackendKeys):
    source: Literal["auto", "http", "directory"] = "auto"
    """`auto`: the backend where there is a `url`, and the directory for what it does not know; `http`: the backend
    alone; either without a `url`: the directory, as `directory` has it."""
    directory: str = "tenants"
    versions: str | None = "var/tenants"
    """Where the versions of the files are kept; both lie beside the file."""
    rescan_seconds: float = Field(default=30, ge=0.2, le=86_400)
    """So often the directory is looked at where no change of it was told."""

    @property
    def backend(self) -> str | None:
        """The URL of whom is asked."""
        return None if self.source == "directory" else self.url


class Config(Section):
    """`sipbridge.yaml`. `directory` is where it lies; relative paths in it start there."""

    node: Node = Node()
    sip: Sip = Sip()
    media: Media = Media()
    limits: NodeLimits = NodeLimits()
    trunks: tuple[Trunk, ...] = ()
    tenants: Tenants = Field(default={}, validate_default=True)  # as history, below
    history: HistoryConfig = Field(default={}, validate_default=True)  # so that its paths start beside the file
    recordings: RecordingsConfig = RecordingsConfig()
    webhooks: tuple[WebhookConfig, ...] = ()
    redis: Annotated[dict[str, Any], PLANNED] = {}
    prices: Prices = Prices()
    http: Annotated[dict[str, Any], PLANNED] = {}

    @field_validator("trunks")
    @classmethod
    def _names_differ(cls, trunks: tuple[Trunk, ...]) -> tuple[Trunk, ...]:
        names = [trunk.name for trunk in trunks]
        if len(set(names)) < len(names):
            raise ValueError("two trunks have the same name")
        return trunks

    @property
    def admits_strangers(self) -> bool:
        """Somebody may call whose address is not known: he will have to prove who he is."""
        return bool(self.sip.accounts) or any(trunk.auth and not trunk.sources for trunk in self.trunks)

    @model_validator(mode="after")
    def _users_differ(self) -> Config:
        known: set[str] = set()
        places: list[tuple[Place, str]]
        places = [(("sip", "accounts", n, "username"), a.username) for n, a in enumerate(self.sip.accounts)]
        places += [(("trunks", n, "auth", "username"), t.auth.username) for n, t in enumerate(self.trunks) if t.auth]
        for place, username in places:
            if username in known:
                raise error_at(place, f"{username!r} is the user of another trunk or account, too")
            known.add(username)
        return self


def load_config(path: Path) -> Config:
    """Read `sipbridge.yaml`, and what the environment says instead (`overrides`). Raises `ConfigError`."""
    return load(path, Config, of_environment(os.environ))


def codec_lists(config: Config) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Each list of codecs, with its place."""
    yield "media.codecs", config.media.codecs
    for number, trunk in enumerate(config.trunks):
        if trunk.codecs is not None:
            yield f"trunks[{number}].codecs", trunk.codecs


def secrets_of(config: Config) -> Iterator[tuple[str, Secret]]:
    """The secrets of `sipbridge.yaml`, each with its place."""
    if config.sip.nonce_secret is not None:
        yield "sip.nonce_secret", config.sip.nonce_secret
    if config.tenants.token is not None:
        yield "tenants.token", config.tenants.token
    yield from config.recordings.secrets()
    for number, account in enumerate(config.sip.accounts):
        yield f"sip.accounts[{number}].password", account.password
    for number, trunk in enumerate(config.trunks):
        for name, section in (("auth", trunk.auth), ("register", trunk.register_at)):
            if section is not None:
                yield f"trunks[{number}].{name}.password", section.password
        if trunk.outbound is not None and trunk.outbound.auth is not None:
            yield f"trunks[{number}].outbound.auth.password", trunk.outbound.auth.password
    if config.history.secret is not None:
        yield "history.secret", config.history.secret
    for number, webhook in enumerate(config.webhooks):
        if webhook.secret is not None:
            yield f"webhooks[{number}].secret", webhook.secret


def not_in_use(section: BaseModel, place: str = "") -> Iterator[str]:
    """The keys that were set to something other than their default and that this version does not act on."""
    for name in sorted(section.model_fields_set):
        field = type(section).model_fields[name]
        value = getattr(section, name)
        here = f"{place}.{field.alias or name}" if place else field.alias or name
        if PLANNED in field.metadata:
            if value != field.default:
                yield here
        elif isinstance(value, BaseModel):
            yield from not_in_use(value, here)
        elif isinstance(value, tuple):
            for position, item in enumerate(value):
                if isinstance(item, BaseModel):
                    yield from not_in_use(item, f"{here}[{position}]")
