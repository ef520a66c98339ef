"""One TLS connection without a socket: octets of the network in, octets of the application out, and back."""

from __future__ import annotations

import ssl
from contextlib import suppress

from sipbridge.errors import TlsError
from sipbridge.sip.flow import is_address
from sipbridge.sip.tls import TlsContexts, check_name

_READ = 65_536


class TlsStream:
    """`feed` what came, send `data_to_send()` after everything. Any TlsError is the end: send what is there (the alert
    that says why), then close."""

    def __init__(self, contexts: TlsContexts, *, server_name: str | None = None) -> None:
        """With `server_name` we are the client, and the server has to prove that name."""
        self.established = False
        self.ended = False
        """The peer has said that nothing more will come."""
        self._contexts = contexts
        self._name = server_name
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = contexts.server() if server_name is None else contexts.client()
        shown = None if server_name is None or is_address(server_name) else server_name
        try:
            self._tls = context.wrap_bio(
                self._incoming, self._outgoing, server_side=server_name is None, server_hostname=shown
            )
        except (ValueError, UnicodeError) as error:
            raise TlsError(f"{server_name!r} is no name that can be asked for: {error}") from None

    def start(self) -> None:
        """The client's first word."""
        self._advance()

    def feed(self, data: bytes) -> bytes:
        """What the application is to read. Raises TlsError."""
        self._incoming.write(data)
        if not self.established:
            self._advance()
        return self._read() if self.established else b""

    def write(self, data: bytes) -> None:
        try:
            self._tls.write(data)
        except ssl.SSLError as error:
            raise TlsError(_text(error)) from None

    def data_to_send(self) -> bytes:
        return self._outgoing.read()

    def close(self) -> None:
        """Say that nothing more will come; what the peer still sends is not waited for."""
        if self.established and not self.ended:
            with suppress(ssl.SSLError):  # it wants the peer's own good-bye
                self._tls.unwrap()

    # private

    def _advance(self) -> None:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return
        except ssl.SSLError as error:
            raise TlsError(_text(error)) from None
        if self._name is not None and self._contexts.settings.verify_peer:
            certificate = self._tls.getpeercert() or {}
            check_name(certificate, self._name, wildcards=self._contexts.settings.wildcard_names)
        self.established = True

    def _read(self) -> bytes:
        parts = []
        try:
            while part := self._tls.read(_READ):
                parts.append(part)
            self.ended = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.ended = True
        except ssl.SSLError as error:
            raise TlsError(_text(error)) from None
        return b"".join(parts)


def _text(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate not accepted: {error.verify_message}"
    return (error.reason or str(error)).replace("_", " ").lower()
