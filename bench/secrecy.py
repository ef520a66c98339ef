"""TLS for the model: a certificate that is made for each run, and one connection's layer between socket and frames.

The layer works on bytes, not on the socket, so that each arrival keeps the kernel's receive timestamp.
"""

from __future__ import annotations

import ssl
from pathlib import Path

_RECORD = 1 << 16


def make_certificate(directory: Path) -> tuple[Path, Path]:
    """For 127.0.0.1: (certificate chain and key, the authority to be trusted), as files."""
    import trustme

    authority = trustme.CA()
    server, trusted = directory / "server.pem", directory / "authority.pem"
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(server))
    authority.cert_pem.write_to_path(str(trusted))
    return server, trusted


def server_context(server: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(server)
    return context


class Layer:
    """A server's side of one TLS connection."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._shaken = False

    def opened(self, data: bytes) -> tuple[bytes, bytes]:
        """What was said with these bytes, and what has to be sent because of them."""
        self._incoming.write(data)
        if not self._shaken:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                return b"", self._outgoing.read()
            self._shaken = True
        said = b""
        while self._incoming.pending or self._tls.pending():
            try:
                said += self._tls.read(_RECORD)
            except ssl.SSLWantReadError:  # half a record
                break
        return said, self._outgoing.read() if self._outgoing.pending else b""

    def sealed(self, data: bytes) -> bytes:
        self._tls.write(data)
        return self._outgoing.read()
