"""How good a call sounds, estimated: the E-model (ITU-T G.107, 2015) as far as a gateway can fill it in.

    R = Ro - Is - Id - Ie,eff         0 to 93.2; from 80 on people are content, below 60 they complain
    MOS-CQE = 1 + 0.035 R + 7e-6 R (R - 60) (100 - R)

* Ro and Is (noise, loudness, sidetone, one quantisation) have the Recommendation's default values: 94.77 and 1.41.
* Id comes from the delay from mouth to ear: half the round trip, a packet's length at the sender, and the buffers.
* Ie,eff = Ie + (95 - Ie) Ppl / (Ppl / BurstR + Bpl): what loss does to a codec. Ppl is the percentage of packets that
  were lost or came too late to be heard; BurstR is how much longer the losses in a row are than those of the same
  number by chance.

Ie and Bpl are those of ITU-T G.113 appendix I where it has the codec; else they are assumptions, and said to be. The
scale is that of narrow-band telephony for all: G.722 and Opus, which sound better than any G.711, end at the same 4.41,
so that the figure says what the network did and not what was negotiated.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, log10, pow, sqrt

# Defaults of G.107 table 3: loudness ratings in dB, echo path losses, room and circuit noise.
_SLR, _RLR, _STMR, _TELR, _WEPL = 8.0, 2.0, 15.0, 65.0, 110.0
_OLR = _SLR + _RLR
_DS, _DR = 3.0, 3.0
_PS, _PR = 35.0, 35.0
_NC, _NFOR = -70.0, -64.0
_QDU = 1.0


@dataclass(frozen=True, slots=True)
class Impairment:
    """What a codec costs (`ie`), and how well it stands loss (`bpl`: the more, the better)."""

    ie: float
    bpl: float


# G.113 appendix I: G.711 with the concealment of its own appendix I, which ours is like or better. The rest is assumed:
# their concealment works on the same principle, and what in-band FEC brings back does not count as lost.
_G711 = Impairment(0.0, 25.1)
IMPAIRMENTS = {
    "PCMU": _G711,
    "PCMA": _G711,
    "G722": _G711,
    "L16": _G711,
    "opus": _G711,
}
_UNKNOWN = Impairment(0.0, 4.3)
"""G.711 without concealment."""


def _ratio(level: float) -> float:
    """Of a level in dB."""
    return pow(10, level / 10)


def _power(*levels: float) -> float:
    """The level, in dB, of several together."""
    return 10 * log10(sum(map(_ratio, levels)))


def _noise() -> float:
    """No, in dBm0p: of circuit, both rooms and the subscriber line (G.107 §7.2)."""
    sender_room = _PS - _SLR - _DS - 100 + 0.004 * (_PS - _OLR - _DS - 14) ** 2
    effective = _PR + 10 * log10(1 + _ratio(10 - (_STMR + _DR)))
    receiver_room = _RLR - 121 + effective + 0.008 * (effective - 35) ** 2
    return _power(_NC, sender_room, receiver_room, _NFOR + _RLR)


_NO = _noise()
_RO = 15 - 1.5 * (_SLR + _NO)


def _simultaneous(delay_ms: float) -> float:
    """Is: what is there at the same time as speech (§7.3). The delay changes the sidetone a little."""
    loudness = _OLR + 0.2 * (64 + _NO - _RLR)
    too_loud = 20 * (pow(1 + (loudness / 8) ** 8, 1 / 8) - loudness / 8)
    sidetone = -10 * log10(_ratio(-_STMR) + exp(-delay_ms / 4) * _ratio(-_TELR))
    wrong_sidetone = (
        12 * pow(1 + ((sidetone - 13) / 6) ** 8, 1 / 8)
        - 28 * pow(1 + ((sidetone + 1) / 19.4) ** 35, 1 / 35)
        - 13 * pow(1 + ((sidetone - 3) / 33) ** 13, 1 / 13)
        + 29
    )
    q = 37 - 15 * log10(_QDU)
    g = 1.07 + 0.258 * q + 0.0602 * q**2
    quantisation = 15 * log10(1 + pow(10, (_RO - 100) / 15 + 46 / 8.4 - g / 9) + pow(10, 46 / 30 - g / 40))
    return too_loud + wrong_sidetone + quantisation


def delay_impairment(delay_ms: float) -> float:
    """Id: echo to both sides, and the delay by itself (§7.4); `delay_ms` one way, with the echo path as long."""
    talker = 0.0
    if delay_ms >= 1:
        echo = _TELR - 40 * log10((1 + delay_ms / 10) / (1 + delay_ms / 150)) + 6 * exp(-0.3 * delay_ms**2)
        room = -1.5 * (_NO - _RLR) - (80 + 2.5 * (echo - 14))
        talker = (room / 2 + sqrt(room**2 / 4 + 100) - 1) * (1 - exp(-delay_ms))
    listener = _RO - 10.5 * (_WEPL + 7) * pow(2 * delay_ms + 1, -0.25)
    echo_heard = listener / 2 + sqrt(listener**2 / 4 + 169)
    delay = 0.0
    if delay_ms > 100:
        x = log10(delay_ms / 100) / log10(2)
        delay = 25 * (pow(1 + x**6, 1 / 6) - 3 * pow(1 + (x / 3) ** 6, 1 / 6) + 2)
    return talker + echo_heard + delay


def loss_impairment(impairment: Impairment, loss: float, burst_ratio: float = 1.0) -> float:
    """Ie,eff (§7.5). `loss` from 0 to 1."""
    percent = 100 * min(max(loss, 0.0), 1.0)
    ie, bpl = impairment.ie, impairment.bpl
    return ie + (95 - ie) * percent / (percent / max(burst_ratio, 1.0) + bpl)


def rating(codec: str, *, loss: float = 0.0, burst_ratio: float = 1.0, delay_ms: float = 0.0) -> float:
    """R, from 0 to 93.2. `codec` by its name in SDP, `loss` from 0 to 1, the delay from mouth to ear."""
    impairment = IMPAIRMENTS.get(codec, _UNKNOWN)
    r = _RO - _simultaneous(delay_ms) - delay_impairment(delay_ms) - loss_impairment(impairment, loss, burst_ratio)
    return min(max(r, 0.0), 100.0)


def mos(r: float) -> float:
    """MOS-CQE of a rating (G.107 annex B)."""
    if r <= 0:
        return 1.0
    if r >= 100:
        return 4.5
    return max(1 + 0.035 * r + 7e-6 * r * (r - 60) * (100 - r), 1.0)  # the cubic dips below 1 for R under 6.5


def burst_ratio(lost: int, bursts: int, expected: int) -> float:
    """BurstR (§7.5): the mean length of losses in a row over what it is where each packet is lost by itself, at least
    1. `bursts` is how many rows there were."""
    if not lost or not bursts or lost >= expected:
        return 1.0
    return max(lost / bursts * (1 - lost / expected), 1.0)
