"""DTLS-SRTP (RFC 5764): a handshake over the media path, and the SRTP keys that come out of it. No sockets.

`Handshake` is one attempt to make an association, by OpenSSL over memory: `receive` a datagram, send
`messages_to_send()`, call `handle_timer` when `get_timer()` has come. It is over when `done` or `failure` says so;
after that it still answers a peer that has not heard our last words. Who may take part is not its affair (`security`),
but who the other side is: its certificate must have the fingerprint that was signalled, since nobody else vouches for
it.

OpenSSL repeats what was lost by a clock of its own (RFC 6347 §4.2.4: after 1 s, then 2, ...); `now` is only the bound
on the whole.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from sipbridge.media.keying import Fingerprint, Role
from sipbridge.media.srtp import SUITES, MasterKey, Suite

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec

HANDSHAKE_SECONDS = 10.0
_MAX_DATAGRAMS = 200
"""Of one handshake, and after it. Seven are enough; RSA chains and repetitions make a few dozen."""
_MOST_RECORDS = 64  # more do not fit into a datagram
_MTU = 1200
"""UDP payload that passes everywhere, tunnels and IPv6 included."""
_DTLS_1_2 = 0xFEFD
_RECORD_HEADER = 13
_RELEASE_BUFFERS = 0x10  # SSL_MODE_RELEASE_BUFFERS: an association that only waits holds no 34 kB
_CIPHERS = b"ECDHE+AESGCM:ECDHE+CHACHA20:ECDHE+AES:!aNULL:!eNULL"
_PROFILES = tuple(
    SUITES[name]
    for name in ("AEAD_AES_128_GCM", "AEAD_AES_256_GCM", "AES_CM_128_HMAC_SHA1_80", "AES_CM_128_HMAC_SHA1_32")
)
_LABEL = b"EXTRACTOR-dtls_srtp"


class DtlsIdentity:
    """Who we are to all peers: a key and a self-signed certificate, whose fingerprint SDP tells."""

    def __init__(self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        from OpenSSL import SSL

        self.fingerprint = fingerprint_of(certificate, "sha-256")
        context = SSL.Context(SSL.DTLS_METHOD)
        context.set_min_proto_version(_DTLS_1_2)
        context.set_options(SSL.OP_NO_QUERY_MTU | SSL.OP_NO_TICKET | SSL.OP_NO_RENEGOTIATION)
        # Any certificate will do for OpenSSL: which one is right is what the fingerprint says.
        context.set_verify_depth(0)  # RSA keys of 16384 bits above it would take 100 ms
        context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, lambda *_: True)
        context.set_cipher_list(_CIPHERS)
        context.set_mode(_RELEASE_BUFFERS)
        context.use_certificate(certificate)
        context.use_privatekey(key)
        context.set_tlsext_use_srtp(":".join(suite.profile for suite in _PROFILES).encode())
        self.context = context

    @classmethod
    def make(cls, today: datetime.datetime) -> DtlsIdentity:
        """A new one, good for ten years and meant for one run; takes milliseconds, and longer where libraries have to
        be loaded."""
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec

        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "sipbridge")])
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(today - datetime.timedelta(days=1))  # clocks differ
            .not_valid_after(today + datetime.timedelta(days=3650))
        )
        return cls(builder.sign(key, hashes.SHA256()), key)


def fingerprint_of(certificate: x509.Certificate, algorithm: str) -> Fingerprint:
    from cryptography.hazmat.primitives import hashes

    kinds: dict[str, Callable[[], hashes.HashAlgorithm]] = {
        "sha-1": hashes.SHA1,
        "sha-224": hashes.SHA224,
        "sha-256": hashes.SHA256,
        "sha-384": hashes.SHA384,
        "sha-512": hashes.SHA512,
    }
    return Fingerprint(algorithm, certificate.fingerprint(kinds[algorithm]()))


class Handshake:
    def __init__(
        self, identity: DtlsIdentity, role: Role, fingerprints: tuple[Fingerprint, ...], deadline: float
    ) -> None:
        from OpenSSL import SSL

        self._ssl = SSL
        self._connection = SSL.Connection(identity.context, None)
        self._connection.set_ciphertext_mtu(_MTU)
        self._role = role
        self._fingerprints = fingerprints
        self.deadline = deadline
        """When it has failed, if it is not done."""
        self._datagrams = 0
        self.done = False
        self.closed = False
        """The other side has said goodbye (close_notify)."""
        self.failure = ""
        self.proved = False
        """Set with `failure` where the peer has proved to be somebody else: trying again is of no use."""
        self.send_key: MasterKey | None = None
        self.receive_key: MasterKey | None = None
        if role == "client":
            self._connection.set_connect_state()
            self._advance()
        else:
            self._connection.set_accept_state()

    def receive(self, datagram: bytes) -> bool:
        """Takes any bytes. False where that was one too many."""
        if self.failure or self._datagrams >= _MAX_DATAGRAMS:
            return False
        self._datagrams += 1
        self._connection.bio_write(datagram)
        if self.done:
            self._read()
        else:
            self._advance()
        return True

    def _read(self) -> None:
        """The peer repeats itself, or says goodbye; data, which is none of SRTP's, is dropped."""
        try:
            for _ in range(_MOST_RECORDS):  # what is not read OpenSSL keeps, without end
                self._connection.recv(2048)
        except self._ssl.ZeroReturnError:
            self.closed = True
        except self._ssl.Error:
            pass  # WantRead, nearly always: what is not genuine OpenSSL ignores

    def _advance(self) -> None:
        try:
            self._connection.do_handshake()
        except self._ssl.WantReadError:
            return
        except self._ssl.Error as error:
            self.failure = f"DTLS failed: {_reason(error)}"
            return
        self._complete()

    def _complete(self) -> None:
        certificate = self._connection.get_peer_certificate(as_cryptography=True)
        if certificate is None or not any(
            fingerprint_of(certificate, wanted.algorithm) == wanted for wanted in self._fingerprints
        ):
            self.proved = True
            self.failure = "DTLS failed: the certificate is not the one whose fingerprint was signalled"
            return
        chosen = self._connection.get_selected_srtp_profile().decode()
        suite = next((suite for suite in _PROFILES if suite.profile == chosen), None)
        if suite is None:
            self.proved = True
            self.failure = "DTLS failed: no SRTP profile in common"
            return
        self._export(suite)
        self.done = True
        self._datagrams = 0

    def _export(self, suite: Suite) -> None:
        """RFC 5764 §4.2: both keys, then both salts, the client's first."""
        material = self._connection.export_keying_material(_LABEL, 2 * suite.master_length)
        size, salt_at = suite.key_length, 2 * suite.key_length

        def of(index: int) -> MasterKey:
            salt = salt_at + index * suite.salt_length
            return MasterKey(suite, material[index * size :][:size] + material[salt : salt + suite.salt_length])

        client, server = of(0), of(1)
        self.send_key, self.receive_key = (client, server) if self._role == "client" else (server, client)

    # --- time and the wire --------------------------------------------------------------------------------------------

    def get_timer(self, now: float) -> float | None:
        """When to call `handle_timer`."""
        if self.failure:
            return None
        times = [] if self.done else [self.deadline]
        seconds = self._connection.DTLSv1_get_timeout()
        if seconds is not None:
            times.append(now + seconds)
        return min(times, default=None)

    def handle_timer(self, now: float, *, repeat: bool = True) -> None:
        """May be called at any time. Not `repeat`: what was said and not answered is not said again yet."""
        if self.failure:
            return
        if not self.done and now >= self.deadline:
            self.failure = f"DTLS failed: not done within {HANDSHAKE_SECONDS:g} s"
            return
        if not repeat:
            return
        try:
            self._connection.DTLSv1_handle_timeout()
        except self._ssl.Error as error:
            self.failure = f"DTLS failed: {_reason(error)}"  # repeated too often, OpenSSL finds

    def messages_to_send(self) -> list[bytes]:
        """Datagrams, each to be sent once."""
        pieces = []
        while True:
            try:
                pieces.append(self._connection.bio_read(16384))
            except self._ssl.Error:  # nothing there
                break
        return _datagrams(b"".join(pieces))

    def close(self) -> None:
        """Say goodbye, if there was a hello; `messages_to_send` has it."""
        if self.done and not self.closed:
            self.closed = True
            with suppress(self._ssl.Error):  # the peer was quicker
                self._connection.shutdown()


def _datagrams(data: bytes) -> list[bytes]:
    """Memory knows no datagrams, so whole records are put into as few as they fit in."""
    found: list[bytes] = []
    start = end = 0
    while end < len(data):
        following = end + _RECORD_HEADER + int.from_bytes(data[end + 11 : end + 13])
        if following - start > _MTU and end > start:
            found.append(data[start:end])
            start = end
        end = following
    if start < len(data):
        found.append(data[start:])
    return found


def _reason(error: Exception) -> str:
    """OpenSSL's words for it."""
    entries = error.args[0] if error.args and isinstance(error.args[0], list) else []
    words = [entry[-1] for entry in entries if isinstance(entry, tuple) and entry and entry[-1]]
    return ", ".join(words) or "the connection was closed"
