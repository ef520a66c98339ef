"""DTLS handshakes in memory: both roles, what is lost, what is forged."""

from __future__ import annotations

import datetime
import random
from collections.abc import Callable
from contextlib import suppress
from functools import cache

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from OpenSSL import SSL

from sipbridge.media.dtls import DtlsIdentity, Handshake, fingerprint_of
from sipbridge.media.keying import Fingerprint

TODAY = datetime.datetime(2026, 11, 21, tzinfo=datetime.UTC)


@cache
def identity(name: str) -> DtlsIdentity:
    return DtlsIdentity.make(TODAY)


class Pair:
    """Two handshakes and the way between them."""

    def __init__(
        self,
        *,
        client: DtlsIdentity | None = None,
        server: DtlsIdentity | None = None,
        expected_of_client: Fingerprint | None = None,
        expected_of_server: Fingerprint | None = None,
        deadline: float = 10.0,
    ) -> None:
        client, server = client or identity("client"), server or identity("server")
        theirs = expected_of_server or server.fingerprint
        ours = expected_of_client or client.fingerprint
        self.client = Handshake(client, "client", (theirs,), deadline)
        self.server = Handshake(server, "server", (ours,), deadline)
        self.sent: list[bytes] = []

    def run(self, way: Callable[[bytes], list[bytes]] = lambda datagram: [datagram]) -> None:
        """Until both have nothing more to say. `way` makes of each datagram what arrives."""
        while True:
            quiet = True
            for sender, receiver in ((self.client, self.server), (self.server, self.client)):
                for datagram in sender.messages_to_send():
                    quiet = False
                    self.sent.append(datagram)
                    for arriving in way(datagram):
                        receiver.receive(arriving)
            if quiet:
                return


def test_both_sides_have_the_same_keys() -> None:
    pair = Pair()
    pair.run()
    assert pair.client.done
    assert pair.server.done
    assert pair.client.send_key is not None
    assert pair.client.send_key.suite.name == "AEAD_AES_128_GCM"
    assert (pair.client.send_key, pair.client.receive_key) == (pair.server.receive_key, pair.server.send_key)
    assert pair.client.send_key != pair.client.receive_key
    assert pair.client.get_timer(0) is None
    assert pair.server.get_timer(0) is None


def test_datagrams_are_short_and_records_whole() -> None:
    pair = Pair()
    pair.run()
    assert len(pair.sent) < 10
    for datagram in pair.sent:
        assert len(datagram) <= 1200
        position = 0
        while position < len(datagram):
            assert datagram[position] in (20, 21, 22)
            position += 13 + int.from_bytes(datagram[position + 11 : position + 13])
        assert position == len(datagram)


def test_a_certificate_of_some_size_is_cut_to_fit() -> None:
    """RSA with 4096 bits and many names, as an old PBX may have it."""
    key = rsa.generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "pbx")])
    names = x509.SubjectAlternativeName([x509.DNSName(f"host-{number}.example.com") for number in range(120)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(TODAY)
        .not_valid_after(TODAY + datetime.timedelta(days=1))
        .add_extension(names, critical=False)
        .sign(key, hashes.SHA256())
    )
    large = DtlsIdentity(certificate, key)  # type: ignore[arg-type]  # any key does, where it is the certificate's
    for pair in (Pair(client=large), Pair(server=large)):
        pair.run()
        assert pair.client.done
        assert pair.server.done
        assert max(map(len, pair.sent)) <= 1200
        assert len(pair.sent) > 5


@pytest.mark.parametrize("algorithm", ["sha-1", "sha-224", "sha-256", "sha-384", "sha-512"])
def test_other_hashes(algorithm: str) -> None:
    other = identity("server")
    probe = Pair()
    probe.run()
    certificate = probe.client._connection.get_peer_certificate(as_cryptography=True)
    assert certificate is not None
    pair = Pair(expected_of_server=fingerprint_of(certificate, algorithm), server=other)
    pair.run()
    assert pair.client.done


def test_another_certificate_is_not_taken() -> None:
    pair = Pair(expected_of_server=identity("somebody").fingerprint)
    pair.run()
    assert not pair.client.done
    assert "fingerprint" in pair.client.failure
    assert pair.client.proved
    assert pair.client.send_key is None
    pair = Pair(expected_of_client=identity("somebody").fingerprint)
    pair.run()
    assert not pair.server.done
    assert "fingerprint" in pair.server.failure


def test_one_of_several_fingerprints_is_enough() -> None:
    fingerprints = (identity("somebody").fingerprint, identity("client").fingerprint)
    pair = Pair()
    pair.server = Handshake(identity("server"), "server", fingerprints, 1e9)
    pair.run()
    assert pair.server.done


def test_a_peer_without_a_certificate_is_not_taken() -> None:
    context = SSL.Context(SSL.DTLS_METHOD)
    context.set_tlsext_use_srtp(b"SRTP_AES128_CM_SHA1_80")
    context.set_options(SSL.OP_NO_QUERY_MTU)
    peer = SSL.Connection(context, None)
    peer.set_ciphertext_mtu(1200)
    peer.set_connect_state()
    server = Handshake(identity("server"), "server", (identity("client").fingerprint,), 1e9)
    for _ in range(4):
        with pytest.raises(SSL.Error):
            peer.do_handshake()
        server.receive(peer.bio_read(4096))
        if server.failure:
            break
        peer.bio_write(b"".join(server.messages_to_send()))
    assert server.failure == "DTLS failed: peer did not return a certificate"


def test_a_peer_without_srtp_is_not_taken() -> None:
    plain = identity("plain")
    context = SSL.Context(SSL.DTLS_METHOD)
    context.set_options(SSL.OP_NO_QUERY_MTU)
    peer = SSL.Connection(context, None)
    peer.set_ciphertext_mtu(1200)
    peer.set_connect_state()
    server = Handshake(plain, "server", (plain.fingerprint,), 1e9)
    server._connection.set_verify(SSL.VERIFY_NONE, lambda *_: True)
    for _ in range(4):
        with suppress(SSL.WantReadError):
            peer.do_handshake()
        server.receive(peer.bio_read(4096))
        if server.failure:
            break
        peer.bio_write(b"".join(server.messages_to_send()))
    assert server.failure
    assert not server.done


class TestTime:
    def test_it_has_to_be_done_in_time(self) -> None:
        for role in ("client", "server"):
            handshake = getattr(Pair(), role)
            assert (handshake.get_timer(5.0) or 0) <= 10.0
            handshake.handle_timer(9.99)
            assert not handshake.failure
            handshake.handle_timer(10.0)
            assert handshake.failure == "DTLS failed: not done within 10 s"
            assert handshake.get_timer(10.0) is None
            assert not handshake.receive(b"\x16")

    def test_what_is_done_has_no_deadline(self) -> None:
        pair = Pair()
        pair.run()
        pair.client.handle_timer(1_000.0)
        assert not pair.client.failure

    def test_the_first_flight_is_repeated_after_a_second(self) -> None:
        """By OpenSSL's clock, so it is only asked what it means to do."""
        pair = Pair()
        timer = pair.client.get_timer(100.0)
        assert timer is None or timer == 10.0  # its deadline is past already
        waiting = Handshake(identity("client"), "client", (identity("server").fingerprint,), 1e9)
        timer = waiting.get_timer(100.0)
        assert timer is not None
        assert 100.5 < timer <= 101.0
        assert Handshake(identity("server"), "server", (identity("client").fingerprint,), 1e9).get_timer(0) == 1e9


class TestHostile:
    def test_noise_changes_nothing(self) -> None:
        source = random.Random(3)
        pair = Pair()

        def with_noise(datagram: bytes) -> list[bytes]:
            heads = (bytes([source.choice((20, 22, 23, 63)), 254, 253]) for _ in range(5))
            return [*(head + source.randbytes(source.choice((0, 9, 10, 11, 60, 1500))) for head in heads), datagram]

        pair.run(with_noise)
        assert pair.client.done
        assert pair.server.done

    def test_every_datagram_twice(self) -> None:
        pair = Pair()
        pair.run(lambda datagram: [datagram, datagram])
        assert pair.client.done
        assert pair.server.done

    def test_a_changed_bit_never_makes_two_keys(self) -> None:
        """Who can write on the way can stop a handshake, but not bend it; and nothing raises."""
        source = random.Random(5)

        def changed(datagram: bytes) -> list[bytes]:
            copy = bytearray(datagram)
            copy[source.randrange(len(copy))] ^= 1 << source.randrange(8)
            return [bytes(copy), datagram]

        ended = []
        for _ in range(60):
            pair = Pair()
            pair.run(changed)
            if pair.client.done and pair.server.done:
                assert pair.client.send_key == pair.server.receive_key
            ended += [bool(pair.client.failure), bool(pair.server.failure)]
        assert any(ended)

    def test_a_handshake_takes_so_many_datagrams_and_no_more(self) -> None:
        pair = Pair()
        taken = sum(pair.server.receive(b"\x16" + bytes(20)) for _ in range(300))
        assert taken == 200
        assert not pair.server.failure, "a flood must not end it before its time"

    def test_after_the_handshake_noise_is_only_noise(self) -> None:
        pair = Pair()
        pair.run()
        source, taken = random.Random(7), 0
        for _ in range(1_000):
            datagram = bytes([source.choice((20, 21, 22, 23))]) + b"\xfe\xfd" + source.randbytes(source.randrange(200))
            taken += pair.server.receive(datagram)
        assert taken == 200
        assert pair.server.done
        assert not pair.server.failure
        assert not pair.server.closed
        assert pair.server.messages_to_send() == []


def test_goodbye() -> None:
    pair = Pair()
    pair.client.close()
    assert len(pair.client.messages_to_send()) == 1, "the hello; there is nothing to take leave of"
    pair = Pair()
    pair.run()
    pair.client.close()
    (goodbye,) = pair.client.messages_to_send()
    pair.client.close()
    assert pair.client.messages_to_send() == []
    pair.server.receive(goodbye)
    assert pair.server.closed
    assert pair.server.done


def test_data_that_nobody_asked_for_is_not_kept() -> None:
    """OpenSSL keeps what is not read."""
    pair = Pair()
    pair.run()
    sender = pair.client._connection
    taken = 0
    for _ in range(400):
        records = []
        for _ in range(40):
            sender.send(b"x")
            records.append(sender.bio_read(2048))
        taken += pair.server.receive(b"".join(records))
        with pytest.raises(SSL.WantReadError):
            pair.server._connection.recv(2048)
    assert taken == 200, "and there is an end to it"


def test_certificates_above_the_peers_own_are_not_verified() -> None:
    """Large keys in a long chain would keep the loop busy for a tenth of a second."""
    key = rsa.generate_private_key(65537, 2048)

    def certificate(number: int) -> x509.Certificate:
        names = [x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, str(n))]) for n in (number, number + 1)]
        return (
            x509.CertificateBuilder()
            .subject_name(names[0])
            .issuer_name(names[1])
            .public_key(key.public_key())
            .serial_number(number + 1)
            .not_valid_before(TODAY)
            .not_valid_after(TODAY + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(True, None), True)
            .sign(key, hashes.SHA256())
        )

    client = DtlsIdentity(certificate(0), key)  # type: ignore[arg-type]
    for number in range(1, 5):
        client.context.add_extra_chain_cert(certificate(number))
    pair = Pair(client=client)
    pair.run()
    assert pair.server.done
    chain = pair.server._connection.get_verified_chain()
    assert chain is not None
    assert len(chain) <= 2
