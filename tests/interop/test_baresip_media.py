"""baresip's sound and ours, both ways at once: a tone in each direction, found in both recordings.

What baresip heard is in its recording, what our model heard in the simulated model's.
"""

from __future__ import annotations

import audioop
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sipbridge.outcome import CallReport, Ended
from sipbridge.simulator.model import SessionRecord
from sipbridge.simulator.script import Script, Utterance
from tests.interop.baresip import CODINGS, Baresip, wait_for_sound
from tests.interop.nodes import Node
from tests.interop.sound import Samples, silence, tone, tone_level_db, tone_seconds, write_wav

pytestmark = pytest.mark.interop

GATEWAY, PHONE = "127.0.0.14", "127.0.0.3"
GREETS = {"greeting": "Hello."}
DEAF = 1e9
"""So loud must speech be for a model that is not to answer."""
SAID_DB = -12 - 3.01
"""RMS of what baresip says, a tone whose peak is at -12 dB; of the simulated model's, whose peak is 0.3."""
MODEL_DB = 20 * np.log10(0.3) - 3.01


@dataclass(frozen=True)
class Line:
    codec: str
    encryption: str | None = None
    calls: bool = True
    """Whether baresip calls us, or we call it."""
    wide: bool = False
    """Tones that a telephone of 8 kHz could not carry."""

    @property
    def name(self) -> str:
        return "-".join(
            (self.codec, self.encryption or "plain", "in" if self.calls else "out", *(["wide"] if self.wide else []))
        )

    @property
    def suite(self) -> str:
        """The first that the one who chooses knows: with DTLS that is we, where it begins."""
        if self.encryption == "dtls_srtp" and not self.calls:
            return "AEAD_AES_128_GCM"
        return "AES_CM_128_HMAC_SHA1_80" if self.encryption else ""

    @property
    def says_hertz(self) -> float:
        return 6000.0 if self.wide else 700.0

    @property
    def hears_hertz(self) -> float:
        return 5000.0 if self.wide else 1100.0

    @property
    def rate(self) -> int:
        return CODINGS[self.codec].rate


QUICK = [
    Line("PCMU"),
    Line("PCMA", "srtp-mand", calls=False),
    Line("G722", calls=False, wide=True),
    Line("G722", "srtp"),
    Line("opus", "dtls_srtp", wide=True),
]
_EVERY = [
    Line(codec, encryption, calls, wide)
    for codec in CODINGS
    for encryption in (None, "srtp", "srtp-mand", "dtls_srtp")
    for calls in (True, False)
    for wide in ((False, True) if CODINGS[codec].rate > 8000 and not encryption else (False,))
]
SLOW = [line for line in _EVERY if line not in QUICK]


def matrix() -> list[object]:
    quick = [pytest.param(line, id=line.name) for line in QUICK]
    return [*quick, *(pytest.param(line, id=line.name, marks=pytest.mark.slow) for line in SLOW)]


class Talk:
    """A call that is up, with a tone each way."""

    def __init__(self, line: Line, phone: Baresip, node: Node) -> None:
        self.line, self.phone, self.node = line, phone, node

    def heard_by_both(self, seconds: float = 1.0) -> None:
        """Wait until both have heard the other's tone for so long, at its level."""
        line = self.line
        heard = wait_for_sound(
            self.phone, lambda heard: tone_seconds(heard, line.hears_hertz, rate=line.rate) >= seconds
        )
        session = self.node.hearing(lambda session: ModelsEar(session).tone_seconds(line.says_hertz) >= seconds)
        tolerance = 1.0 if line.codec == "opus" else 0.3  # a codec that keeps the sound, not the wave
        assert tone_level_db(heard, line.hears_hertz, rate=line.rate) == pytest.approx(MODEL_DB, abs=tolerance)
        assert ModelsEar(session).tone_level_db(line.says_hertz) == pytest.approx(SAID_DB, abs=tolerance)

    def end(self) -> CallReport:
        self.phone.hang_up()
        self.phone.wait_event("CALL_CLOSED")
        return self.node.next_report()


class ModelsEar:
    """What the simulated model has been sent."""

    def __init__(self, session: SessionRecord) -> None:
        wire = session.messages("session.update")[0]["session"]["audio"]["input"]["format"]["type"]
        data = bytes(session.audio)
        if wire != "audio/pcm":
            data = {"audio/pcmu": audioop.ulaw2lin, "audio/pcma": audioop.alaw2lin}[wire](data, 2)
        self.rate = 24000 if wire == "audio/pcm" else 8000
        self.samples: Samples = np.frombuffer(data[: len(data) // 2 * 2], "<i2").astype(np.float64) / 32768

    def tone_seconds(self, hertz: float) -> float:
        return tone_seconds(self.samples, hertz, rate=self.rate)

    def tone_level_db(self, hertz: float) -> float:
        return tone_level_db(self.samples, hertz, rate=self.rate)


@contextmanager
def talking(folder: Path, line: Line, **how: Any) -> Iterator[Talk]:
    """baresip and a model talk over such a line. `how`: more for baresip."""
    coding = CODINGS[line.codec]
    says = np.concatenate((silence(0.5, coding.rate), tone(line.says_hertz, 30, rate=coding.rate)))
    wav = write_wav(folder / "says.wav", says, coding.rate, coding.channels)
    # baresip's sockets are bound to no address, so its RTP leaves from 127.0.0.1, and so do answers to a handshake.
    address = "127.0.0.1" if line.encryption == "dtls_srtp" else PHONE
    phone = Baresip(
        folder / "phone",
        address=address,
        says=wav,
        codec=line.codec,
        encryption=line.encryption,
        answers=not line.calls,
        **how,
    )
    way = {"proxy": f"sip:{address}:{phone.port}", "ping_seconds": 0}
    if line.encryption == "dtls_srtp":
        way["srtp_keys"] = "dtls"
    trunk = {"name": "pbx", "sources": [address, "127.0.0.1"], "outbound": way}
    if line.encryption and (line.encryption != "srtp" or not line.calls):
        trunk["srtp"] = "required"
    script = Script(utterances=(Utterance(seconds=20, tone_hz=line.hears_hertz),), vad_rms=DEAF)
    with phone, Node({"trunks": [trunk]}, desk="tel:+15550100", address=GATEWAY, script=script, agent=GREETS) as node:
        if line.calls:
            phone.dial(f"sip:agent@{node.target}")
        else:
            node.dial("baresip")
        phone.wait_event("CALL_ESTABLISHED")
        yield Talk(line, phone, node)


@pytest.mark.parametrize("line", matrix())
def test_a_tone_each_way(tmp_path: Path, line: Line) -> None:
    with talking(tmp_path, line) as talk:
        talk.heard_by_both()
        media = talk.node.media()
        assert (media.lost, media.late, media.duplicate, media.reordered) == (0, 0, 0, 0)
        assert (media.malformed, media.wrong_payload) == (0, 0)
        assert media.wrong_source <= 4, "the fifth packet of an address that SDP does not name is believed"
        assert media.encryption == line.suite
        # Encrypted or not, the first packets on its RTCP port are in the clear.
        assert media.unauthenticated <= (3 if line.encryption else 0)
        assert media.replayed == 0
        assert media.filled_ms <= 500, "no more than it took baresip to begin"
        report = talk.end()
    assert report.codec == line.codec
    assert report.ended is (Ended.CALLER_HUNG_UP if line.calls else Ended.CALLEE_HUNG_UP)


@pytest.mark.parametrize(
    "line",
    [Line("PCMU", "srtp-mand"), *(pytest.param(line, marks=pytest.mark.slow) for line in (Line("opus", "dtls_srtp"),))],
    ids=lambda line: line.name,
)
def test_hold_and_resume_encrypted(tmp_path: Path, line: Line) -> None:
    """Each of baresip's offers says the same keys again, or the same fingerprint: nothing begins anew."""
    with talking(tmp_path, line) as talk:
        talk.heard_by_both(0.2)
        for verb in ("hold", "resume"):
            talk.phone.forget_events()
            talk.phone.command(verb, may_fail=True)  # 1.1.0 resumes and says that it failed; the answer's arrival tells
            talk.phone.wait_event("CALL_REMOTE_SDP")
        before = talk.node.media()
        talk.node.media(lambda media: media.packets_received >= before.packets_received + 50)
        now = talk.node.media()
        assert now.encryption == before.encryption == "AES_CM_128_HMAC_SHA1_80"
        assert now.unauthenticated <= 9, "a few for each offer of its"
        assert now.replayed == now.lost == 0
        assert now.packets_sent > before.packets_sent
        talk.phone.press("7")
        talk.node.hearing(lambda session: pressed(session) == "7")
        talk.end()


@pytest.mark.parametrize("codec", ["PCMU", "opus"])
def test_keys_both_ways(tmp_path: Path, codec: str) -> None:
    """baresip announces telephone-event/8000 beside Opus, too, and then counts at Opus's clock."""
    with talking(tmp_path, Line(codec)) as talk:
        talk.heard_by_both(0.2)
        talk.phone.press("5")
        talk.phone.press("#")
        talk.node.hearing(lambda session: "5#" in pressed(session))
        talk.node.press("19*")
        # An event without a key is the end of the press before.
        keys = [talk.phone.wait_event("CALL_DTMF_START")["param"] for _ in range(3)]
        assert keys == ["1", "9", "*"]
        talk.end()


def pressed(session: SessionRecord) -> str:
    """The keys that the model was told of."""
    items = [str(message["item"]) for message in session.messages("conversation.item.create")]
    return re.sub(r"\s", "", "".join(re.findall(r"pressed\s+((?:[0-9*#A-D]\s*)+)\.", " ".join(items))))


@pytest.mark.parametrize(
    ("line", "mux"),
    [
        pytest.param(Line("PCMU"), False, marks=pytest.mark.slow),
        (Line("opus"), True),
        pytest.param(Line("PCMU"), True, marks=pytest.mark.slow),
        pytest.param(Line("G722", calls=False), False, marks=pytest.mark.slow),
    ],
    ids=lambda value: value.name if isinstance(value, Line) else "mux" if value else "two ports",
)
def test_both_sides_count_alike(tmp_path: Path, line: Line, mux: bool) -> None:
    """RTCP: what baresip says of the call, and what we say. Its first report comes after five seconds."""
    with talking(tmp_path, line, mux=mux) as talk:
        media = talk.node.media(lambda media: media.rtt_ms is not None)
        assert media.rtt_ms is not None
        assert 0 <= media.rtt_ms < 50
        assert media.remote_lost == media.lost == 0
        assert media.remote_jitter_ms is not None
        # Told with each report of ours; times in microseconds. The first one came before there was a round trip.
        theirs = talk.phone.wait_event("CALL_RTCP")["rtcp_stats"]
        while not theirs["rtt"]:
            theirs = talk.phone.wait_event("CALL_RTCP")["rtcp_stats"]
        ours = talk.node.media()
        assert theirs["tx"]["lost"] == theirs["rx"]["lost"] == ours.lost == 0
        assert theirs["rtt"] < 50_000
        # Jitter is that of a busy machine's scheduling, a few milliseconds at most, and goes on changing.
        assert theirs["tx"]["jit"] / 1000 == pytest.approx(ours.jitter_ms, abs=3)
        assert theirs["rx"]["jit"] / 1000 == pytest.approx(ours.remote_jitter_ms, abs=5)
        assert ours.rtcp_sent >= 2
        assert ours.rtcp_implausible == 0
        # Its first packet is no report, and may come before we know where it sends from.
        assert ours.rtcp_ignored <= 1
        talk.end()
    summary = talk.phone.program.wait_for(r"EX=BareSip;.*PR=(\d+);PS=(\d+);PL=(\d+),(\d+);")
    received, sent, *lost = (int(count) for count in summary.groups())
    assert lost == [0, 0]
    # Some were on their way when it was told of them last, and some are sent before the call ends.
    assert 0 <= received - ours.packets_sent <= 30
    assert 0 <= sent - ours.packets_received <= 30
