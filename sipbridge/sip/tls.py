"""TLS contexts from files, and whether a certificate is of the name that was asked for (RFC 3261 §26.3, RFC 5922).

The files are looked at whenever a connection begins: those that have changed are read again then, without a watcher,
and connections that are up never notice. Files that cannot be used leave in force what was there before, and the log
says so.
"""

from __future__ import annotations

import ipaddress
import re
import ssl
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import structlog

from sipbridge.errors import TlsError, TlsFileError
from sipbridge.sip.flow import is_address

log = structlog.get_logger(__name__)

ClientCertificates: TypeAlias = Literal["off", "optional", "required"]

_VERIFY_CLIENT = {"off": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}


@dataclass(frozen=True, slots=True)
class TlsSettings:
    certificate: Path | None = None
    """Ours, with the chain that leads to the CA; also shown to servers that ask for one."""
    key: Path | None = None
    """None: it is in the certificate's file."""
    ca: Path | None = None
    """Whom we trust, instead of the authorities that this machine trusts."""
    verify_peer: bool = True
    """Whether a server that we connect to has to prove its name."""
    client_certificates: ClientCertificates = "off"
    """Whether who connects to us has to show a certificate of `ca`."""
    wildcard_names: bool = False
    """Accept `*.example.com` for one label more, which RFC 5922 §7.2 forbids and some carriers have."""


class TlsContexts:
    """The contexts for connections in both directions. Raises TlsFileError where the files can't be used at first."""

    def __init__(self, settings: TlsSettings) -> None:
        self.settings = settings
        self._seen = self._signature()
        self._client = client_context(settings)
        self._server = server_context(settings) if settings.certificate is not None else None

    def server(self) -> ssl.SSLContext:
        """For a connection that begins now. Raises TlsError where there is no certificate."""
        self._refresh()
        if self._server is None:
            raise TlsError("no certificate for a TLS listener")
        return self._server

    def client(self) -> ssl.SSLContext:
        self._refresh()
        return self._client

    def reload(self) -> bool:
        """Read the files again, changed or not; False where they can't be used and the old ones stay."""
        self._seen = self._signature()
        try:
            client = client_context(self.settings)
            server = server_context(self.settings) if self.settings.certificate is not None else None
        except TlsFileError as error:
            log.error("TLS files can't be used, the ones from before stay in force", error=str(error))
            return False
        self._client, self._server = client, server
        log.info("TLS files read again", certificate=str(self.settings.certificate))
        return True

    def _refresh(self) -> None:
        if self._signature() != self._seen:
            self.reload()

    def _signature(self) -> list[tuple[int, int, int] | None]:
        return [_stamp(path) for path in (self.settings.certificate, self.settings.key, self.settings.ca)]


def _stamp(path: Path | None) -> tuple[int, int, int] | None:
    if path is not None:
        with suppress(OSError):
            status = path.stat()
            return status.st_mtime_ns, status.st_size, status.st_ino
    return None


def server_context(settings: TlsSettings) -> ssl.SSLContext:
    """For listeners. Raises TlsFileError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION  # the client's way to make us compute
    _load_own(context, settings)
    context.verify_mode = _VERIFY_CLIENT[settings.client_certificates]
    if settings.client_certificates != "off":
        _load_trusted(context, settings)
    return context


def client_context(settings: TlsSettings) -> ssl.SSLContext:
    """For connections of ours. The name is not checked by it but by `check_name`. Raises TlsFileError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False  # it knows nothing of sip: URIs in certificates
    context.verify_mode = ssl.CERT_REQUIRED if settings.verify_peer else ssl.CERT_NONE
    if settings.verify_peer:
        _load_trusted(context, settings)
    if settings.certificate is not None:
        _load_own(context, settings)
    return context


def _load_own(context: ssl.SSLContext, settings: TlsSettings) -> None:
    certificate, key = settings.certificate, settings.key
    if certificate is None:
        raise TlsFileError("certificate", "a certificate is needed")
    _readable("certificate", certificate)
    if key is not None:
        _readable("key", key)
    try:
        context.load_cert_chain(certificate, key, password=lambda: "")  # never ask at a terminal
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise TlsFileError("key", f"{key or certificate} is not the key of the certificate {certificate}") from None
        if not _has_certificate(certificate):
            raise TlsFileError("certificate", f"{certificate} holds no certificate in PEM") from None
        wanted = key or certificate
        raise TlsFileError("key", f"{wanted} holds no private key in PEM, or one with a passphrase") from None


def _has_certificate(path: Path) -> bool:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_verify_locations(path)
    except ssl.SSLError:
        return False
    return True


def _load_trusted(context: ssl.SSLContext, settings: TlsSettings) -> None:
    if settings.ca is None:
        context.load_default_certs()
        return
    _readable("ca", settings.ca)
    try:
        context.load_verify_locations(settings.ca)
    except ssl.SSLError:
        raise TlsFileError("ca", f"{settings.ca} holds no certificate in PEM") from None
    # A certificate that is named is trusted as it is, be it a root, one below it or the peer's own.
    context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN


def _readable(key: str, path: Path) -> None:
    try:
        with path.open("rb"):
            pass
    except OSError as error:
        raise TlsFileError(key, f"{path} cannot be read: {error.strerror}") from None


# --- names ------------------------------------------------------------------------------------------------------------

_SIP_DOMAIN = re.compile(r"sips?:([^@;?/:\s]+|\[[0-9A-Fa-f:.]+\])", re.IGNORECASE)


def check_name(certificate: Mapping[str, Any], name: str, *, wildcards: bool = False) -> None:
    """Raise TlsError unless the certificate, as `getpeercert` gives it, is of this domain or address (RFC 5922 §7)."""
    wanted = _canonical(name)
    known = list(_identities(certificate))
    for identity in known:
        if identity == wanted or (wildcards and _covers(identity, wanted)):
            return
    raise TlsError(f"the certificate is not of {name} but of {', '.join(known) or 'nobody'}")


def _identities(certificate: Mapping[str, Any]) -> Iterator[str]:
    """Names and addresses in the subjectAltName; only if there is none, the common name (§7.1)."""
    alternatives = certificate.get("subjectAltName", ())
    for kind, value in alternatives:
        if kind in ("DNS", "IP Address"):
            yield _canonical(value)
        elif kind == "URI" and (match := _SIP_DOMAIN.fullmatch(value)):  # one with a user part is of a person
            yield _canonical(match[1])
    if not alternatives:
        for field in certificate.get("subject", ()):
            for key, value in field:
                if key == "commonName":
                    yield _canonical(value)


def _canonical(name: str) -> str:
    name = name.strip("[]").rstrip(".").lower()
    with suppress(ValueError):
        return str(ipaddress.ip_address(name))
    return name


def _covers(pattern: str, name: str) -> bool:
    """`*.example.com` for `a.example.com`, and for nothing deeper or higher, nor for an address."""
    return (
        not is_address(name)
        and pattern.startswith("*.")
        and pattern.count(".") > 1
        and name.partition(".")[2] == pattern[2:]
    )
