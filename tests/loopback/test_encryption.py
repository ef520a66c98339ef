"""Encrypted calls over real sockets: the soft phone, the gateway and the model that ship; tones both ways."""

from __future__ import annotations

import asyncio
import random
import socket
import wave
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
import structlog

from sipbridge.codecs import PCMU
from sipbridge.media.dtls import DtlsIdentity, Handshake
from sipbridge.media.engine import MediaEngine
from sipbridge.media.keying import DtlsParams
from sipbridge.media.params import MediaParams, MediaSettings
from sipbridge.outcome import Ended
from sipbridge.simulator.caller import CallOptions, place_call
from sipbridge.simulator.caller_options import Srtp
from sipbridge.simulator.caller_report import CallReport, parse_expectations
from sipbridge.simulator.script import Script, Utterance
from sipbridge.sip.tls import TlsSettings
from tests.loopback.house import House, house
from tests.loopback.phone import describe
from tests.loopback.sound import ULAW, loudest, peak_hz, samples_of, snr_db, tone
from tests.loopback.test_soft_phone import GREETING, target, write
from tests.sip.certificates import Authority

SCRIPT = Script((Utterance(seconds=0.6, tone_hz=600),), vad_rms=1e9)
SUITES = {"sdes": "AES_CM_128_HMAC_SHA1_80", "dtls": "AEAD_AES_128_GCM", "optional": "AES_CM_128_HMAC_SHA1_80"}


async def converse(bench: House, srtp: Srtp, folder: Path, uri: str = "", tls: TlsSettings | None = None) -> CallReport:
    return await place_call(
        CallOptions(
            uri or target(bench),
            wav=write(folder / "said.wav", tone(1000, 0.5)),
            record=folder / "heard.wav",
            srtp=srtp,
            seconds=2.2,
            tls=tls or TlsSettings(),
            expect=parse_expectations("answered,greeting<1500" + (",encrypted" if srtp != "off" else "")),
        )
    )


async def assert_tones(bench: House, folder: Path) -> None:
    with wave.open(str(folder / "heard.wav")) as file:
        heard = loudest(samples_of(file.readframes(file.getnframes())), 0.3)
    assert peak_hz(heard) == pytest.approx(600, abs=5)
    assert snr_db(heard, 600) > 30
    said = loudest(ULAW.decode(bytes((await bench.session()).audio)), 0.3)
    assert peak_hz(said) == pytest.approx(1000, abs=5)
    assert snr_db(said, 1000) > 30


@pytest.mark.parametrize(
    ("srtp", "policy"),
    [("sdes", "optional"), ("dtls", "required"), pytest.param("optional", "required", marks=pytest.mark.slow)],
)
async def test_both_hear_each_other(srtp: Srtp, policy: str, tmp_path: Path) -> None:
    async with house(SCRIPT, tenant=GREETING, config=f"media: {{srtp: {policy}}}") as bench:
        report = await converse(bench, srtp, tmp_path)
        assert report.ok, "\n".join([*map(str, report.timeline), *report.summary()])
        assert report.encryption == SUITES[srtp]
        await assert_tones(bench, tmp_path)
        assert (await bench.report()).ended is Ended.CALLER_HUNG_UP


@pytest.mark.slow
async def test_keys_behind_tls(tmp_path: Path) -> None:
    issued = Authority(tmp_path).issue("localhost", "127.0.0.1")
    keys = f"certificate: {issued.certificate}, key: {issued.key}"
    config = f"{{sip: {{listen: ['tls://127.0.0.1:0'], tls: {{{keys}}}}}, media: {{srtp: required}}}}"
    async with house(SCRIPT, tenant=GREETING, config=config) as bench:
        port = bench.gateway.transport.address("tls")[1]
        uri = f"sip:agent@localhost:{port};transport=tls"
        report = await converse(bench, "sdes", tmp_path, uri, TlsSettings(ca=issued.ca))
        assert report.ok, "\n".join([*map(str, report.timeline), *report.summary()])
        await assert_tones(bench, tmp_path)


@pytest.mark.parametrize(
    ("srtp", "policy", "words"),
    [
        ("off", "required", "SRTP is required here"),
        ("sdes", "off", "SRTP is switched off here"),
        ("dtls", "off", "SRTP is switched off here"),
    ],
)
async def test_who_wants_it_otherwise_is_told_so(srtp: Srtp, policy: str, words: str) -> None:
    async with house(config=f"media: {{srtp: '{policy}'}}") as bench:
        report = await place_call(CallOptions(target(bench), srtp=srtp, expect=parse_expectations("488")))
        assert report.ok, report.summary()
        refused = await bench.report()
        assert (refused.ended, words in refused.detail) == (Ended.REFUSED, True)


async def test_a_plain_offer_is_refused_in_words() -> None:
    async with house(config="media: {srtp: required}") as bench:
        phone = await bench.phone()
        phone.invite()
        refused = await phone.expect(488, "INVITE")
        phone.ack_failure(refused)
        assert refused["Warning"] == '399 sipbridge "SRTP is required here, and the other side wants none"'
        assert "refused: encryption" in refused["Reason"]


FINGERPRINT = f"a=fingerprint:sha-256 {':'.join(['AB'] * 32)}\r\na=setup:active\r\n"


async def test_who_makes_no_handshake_is_hung_up_on() -> None:
    async with house() as bench:
        phone = await bench.phone()
        offer = describe(phone.audio.address, more=FINGERPRINT).replace(b"RTP/AVP", b"UDP/TLS/RTP/SAVP")
        answered = await phone.call(offer)
        assert "a=setup:passive" in answered.body.decode()
        for _ in range(5):  # in the clear
            phone.audio.send(ULAW.silence)
        await phone.audio.until(lambda: bench.media.unauthenticated >= 5)
        assert bench.media.packets_received == 0
        bench.clock.ahead += 11
        bye = await phone.expect("BYE")
        assert "encryption_failed" in bye["Reason"]
        report = await bench.report()
        assert (report.ended, report.detail) == (Ended.ENCRYPTION_FAILED, "DTLS failed: not done within 10 s")
        assert phone.audio.packets == [], "nothing was said in the clear"


@pytest.mark.slow
async def test_a_handshake_whose_first_words_are_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenSSL says them again after a second, by a clock of its own."""
    said, lost = Handshake.messages_to_send, 0

    def lossy(handshake: Handshake) -> list[bytes]:
        nonlocal lost
        datagrams = said(handshake)
        if datagrams and lost < 2:
            lost += 1
            return []
        return datagrams

    monkeypatch.setattr(Handshake, "messages_to_send", lossy)
    async with house(SCRIPT, tenant=GREETING) as bench:
        report = await place_call(
            CallOptions(target(bench), srtp="dtls", seconds=5, expect=parse_expectations("encrypted,greeting<4500"))
        )
        assert report.ok, "\n".join([*map(str, report.timeline), *report.summary()])
        assert lost == 2


def test_a_hello_may_come_before_the_answer_that_it_belongs_to() -> None:
    """It lies in the socket when the leg begins, and would not be said again for a second."""
    ours, theirs = DtlsIdentity.make(datetime.now(UTC)), DtlsIdentity.make(datetime.now(UTC))
    engine = MediaEngine(MediaSettings("127.0.0.1"), identity=ours)
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as phone:
        phone.bind(("127.0.0.1", 0))
        phone.settimeout(2)
        host, number = phone.getsockname()
        port = engine.reserve()
        caller = Handshake(theirs, "client", (ours.fingerprint,), 1e9)
        for datagram in (b"\x80\x00" + bytes(170), *caller.messages_to_send()):
            phone.sendto(datagram, (port.address, port.port))
        keys = DtlsParams("server", (theirs.fingerprint,), (host, number))
        engine.start(port, MediaParams(PCMU, (host, number), 0, 0, security=keys))
        caller.receive(phone.recv(2048))
        while not caller.done:
            for datagram in caller.messages_to_send():
                phone.sendto(datagram, (port.address, port.port))
            engine.collect()
            caller.receive(phone.recv(2048))
    engine.shut_down()


async def test_noise_into_an_encrypted_call(tmp_path: Path) -> None:
    """Random, truncated and oversized datagrams, and RTP in the clear, a thousand a second."""
    async with house(SCRIPT, tenant=GREETING) as bench:
        call = asyncio.create_task(converse(bench, "dtls", tmp_path))
        await bench.session()
        stranger = await bench.phone()
        source = random.Random(2)
        seen = 0
        while not call.done():
            await asyncio.wait([call], timeout=0.02)
            for seat in bench.gateway._engine._seats.values():
                stranger.audio.remote = (seat.local_port.address, seat.local_port.port)
                for _ in range(20):
                    first = source.choice((0, 20, 22, 63, 128, 128, 144, 255))
                    noise = source.randbytes(source.choice((0, 1, 11, 40, 171, 1400)))
                    stranger.audio.send_raw(bytes([first]) + noise)
                stranger.audio.send(ULAW.silence)
                seen = max(seen, seat.leg.stats().unauthenticated)
        assert seen > 200
        report = await call
        assert report.ok, "\n".join([*map(str, report.timeline), *report.summary()])
        await assert_tones(bench, tmp_path)


async def test_readable_keys_are_warned_of() -> None:
    offer = f"a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:{'A' * 40}\r\n"
    with structlog.testing.capture_logs() as logs:
        async with house(config="media: {srtp: optional}") as bench:
            phone = await bench.phone()
            await phone.call(describe(phone.audio.address, more=offer))
            await phone.hang_up()
            await bench.report()
    assert not [entry for entry in logs if "in the clear" in entry["event"]], "within one machine nobody reads them"
    assert "AAAA" not in str(logs)
