"""Formats in offers and answers: dynamic numbers, fmtp, telephone events of several clocks, comfort noise."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sipbridge.codecs import G722, L16_8K, L16_16K, OPUS, PCMA, PCMU
from sipbridge.media.formats import format_parameters
from sipbridge.media.sdp import LocalAudio, accept, answer, offer
from sipbridge.media.session_description import MediaDescription, SessionDescription
from tests.media.test_sdp import audio, sdp

pytestmark = pytest.mark.skipif(not (OPUS.load() and G722.load()), reason="not all codecs are there")

LOCAL = LocalAudio("192.0.2.10", 16384, ("opus", "G722", "PCMU", "PCMA"), session_id="4711")
BROWSER = sdp(
    "m=audio 4000 RTP/AVP 111 63 9 0 8 13 110 126",
    "a=rtpmap:111 opus/48000/2",
    "a=fmtp:111 minptime=10;useinbandfec=1; MaxPlaybackRate=16000",
    "a=rtpmap:63 red/48000/2",
    "a=fmtp:63 111/111",
    "a=rtpmap:9 G722/8000",
    "a=rtpmap:0 PCMU/8000",
    "a=rtpmap:8 PCMA/8000",
    "a=rtpmap:13 CN/8000",
    "a=rtpmap:110 telephone-event/48000",
    "a=rtpmap:126 telephone-event/8000",
)


def lines(description: bytes) -> list[str]:
    media = audio(description)
    return [f"m={' '.join(media.formats)}", *(f"a={name}:{value}" for name, value in media.attributes if value)]


def test_opus_is_answered_under_their_number_with_what_we_wish() -> None:
    agreed = answer(BROWSER, LOCAL)
    assert lines(agreed.sdp) == [
        "m=111 110",
        "a=rtpmap:111 opus/48000/2",
        "a=rtpmap:110 telephone-event/48000",
        "a=fmtp:111 useinbandfec=1",
        "a=fmtp:110 0-16",
        "a=ptime:20",
    ]
    assert (agreed.codec, agreed.payload_type_send, agreed.payload_type_receive) == (OPUS, 111, 111)
    assert agreed.parameters_send == {"minptime": "10", "useinbandfec": "1", "maxplaybackrate": "16000"}
    assert (agreed.event_payload_type_send, agreed.event_clock_rate) == (110, 48000)
    assert agreed.comfort_noise_payload_type is None


@pytest.mark.parametrize(
    ("wanted", "codec", "formats"),
    [
        (("PCMA", "opus"), PCMA, ["8", "13", "126"]),
        (("G722",), G722, ["9", "13", "126"]),
        (("L16", "PCMU"), PCMU, ["0", "13", "126"]),
        (("opus", "PCMU"), OPUS, ["111", "110"]),
    ],
)
def test_our_order_decides(wanted: tuple[str, ...], codec: object, formats: list[str]) -> None:
    agreed = answer(BROWSER, replace(LOCAL, codecs=wanted))
    assert agreed.codec is codec
    assert list(audio(agreed.sdp).formats) == formats


def test_events_at_8000_do_where_there_are_no_others() -> None:
    offered = sdp("m=audio 4000 RTP/AVP 96 101", "a=rtpmap:96 opus/48000/2", "a=rtpmap:101 telephone-event/8000")
    agreed = answer(offered, LOCAL)
    assert (agreed.codec, agreed.event_payload_type_send, agreed.event_clock_rate) == (OPUS, 101, 8000)
    assert b"a=rtpmap:101 telephone-event/8000\r\n" in agreed.sdp
    sixteen = offered.replace(b"telephone-event/8000", b"telephone-event/16000")
    assert answer(sixteen, LOCAL).event_payload_type_send is None


@pytest.mark.parametrize(
    ("formats", "rtpmap", "codec", "noise"),
    [
        ("0 13", (), PCMU, 13),
        ("0 13", ("a=rtpmap:13 CN/8000",), PCMU, 13),
        ("0 98", ("a=rtpmap:98 cn/8000",), PCMU, 98),
        ("0 98", ("a=rtpmap:98 CN/16000",), PCMU, None),
        ("9 13", (), G722, 13),
        ("96 13", ("a=rtpmap:96 opus/48000/2",), OPUS, None),
        ("0", (), PCMU, None),
        ("0 13", ("a=rtpmap:13 red/8000",), PCMU, None),
    ],
)
def test_comfort_noise_is_answered_where_it_is_offered(
    formats: str, rtpmap: tuple[str, ...], codec: object, noise: int | None
) -> None:
    agreed = answer(sdp(f"m=audio 4000 RTP/AVP {formats}", *rtpmap), LOCAL)
    assert (agreed.codec, agreed.comfort_noise_payload_type) == (codec, noise)
    assert [f"a=rtpmap:{noise} CN/8000" in lines(agreed.sdp)] == [noise is not None]
    assert b"CN/" not in offer(LOCAL)


def test_linear_samples_at_either_rate() -> None:
    offered = sdp("m=audio 4000 RTP/AVP 97 98 11", "a=rtpmap:97 L16/8000", "a=rtpmap:98 L16/16000")
    local = replace(LOCAL, codecs=("L16",))
    assert answer(offered, local).codec is L16_16K
    assert answer(offered.replace(b"L16/16000", b"L16/16000/2"), local).codec is L16_8K
    assert [media.encodings()[96].clock_rate for media in SessionDescription.parse(offer(local)).media] == [16000]


def test_an_offer_of_everything() -> None:
    assert lines(offer(LOCAL)) == [
        "m=96 9 0 8 97 101",
        "a=rtpmap:96 opus/48000/2",
        "a=rtpmap:9 G722/8000",
        "a=rtpmap:0 PCMU/8000",
        "a=rtpmap:8 PCMA/8000",
        "a=rtpmap:97 telephone-event/48000",
        "a=rtpmap:101 telephone-event/8000",
        "a=fmtp:96 useinbandfec=1",
        "a=fmtp:97 0-16",
        "a=fmtp:101 0-16",
        "a=ptime:20",
    ]


def test_numbers_may_differ_by_direction() -> None:
    agreed = accept(
        sdp(
            "m=audio 4000 RTP/AVP 120 121",
            "a=rtpmap:120 opus/48000/2",
            "a=fmtp:120 usedtx=1; maxaveragebitrate=20000",
            "a=rtpmap:121 telephone-event/8000",
        ),
        LOCAL,
    )
    assert (agreed.codec, agreed.payload_type_send, agreed.payload_type_receive) == (OPUS, 120, 96)
    assert (agreed.event_payload_type_send, agreed.event_payload_type_receive) == (121, 101)
    assert agreed.event_clock_rate == 8000
    assert agreed.parameters_send == {"usedtx": "1", "maxaveragebitrate": "20000"}


def test_our_own_answer_to_our_own_offer() -> None:
    other = replace(LOCAL, address="192.0.2.1", port=4000, session_id="1")
    theirs = answer(offer(other), LOCAL)
    ours = accept(theirs.sdp, other)
    assert ours.codec is theirs.codec is OPUS
    assert (ours.event_payload_type_send, ours.event_clock_rate) == (97, 48000)
    assert ours.parameters_send == theirs.parameters_send == {"useinbandfec": "1"}


def test_a_change_of_codec_and_back_keeps_numbers() -> None:
    first = answer(BROWSER, replace(LOCAL, codecs=("PCMU", "opus")))
    changed = answer(BROWSER.replace(b" 9 0 8", b""), LOCAL, previous=first)
    back = answer(BROWSER, replace(LOCAL, codecs=("PCMU",)), previous=changed)
    assert [agreed.codec for agreed in (first, changed, back)] == [PCMU, OPUS, PCMU]
    assert [agreed.version for agreed in (first, changed, back)] == [0, 1, 2]
    renewed = audio(offer(LOCAL, previous=changed))
    assert renewed.encodings()[111].name == "opus"
    assert renewed.encodings()[110].clock_rate == 48000
    noisy = audio(offer(LOCAL, previous=answer(sdp("m=audio 4000 RTP/AVP 0 96", "a=rtpmap:96 CN/8000"), LOCAL)))
    assert noisy.encodings()[97].name == "opus", "96 is comfort noise in this session"


@pytest.mark.parametrize(
    ("attributes", "codec", "ptime"),
    [
        (["a=ptime:30"], "opus", 20),
        (["a=ptime:60"], "opus", 60),
        (["a=ptime:50"], "opus", 40),
        (["a=ptime:2.5"], "opus", 10),
        (["a=ptime:60"], "L16", 40),
        (["a=ptime:60", "a=maxptime:30"], "PCMU", 30),
    ],
)
def test_packets_last_as_long_as_codec_and_far_end_can(attributes: list[str], codec: str, ptime: int) -> None:
    rtpmaps = ("a=rtpmap:96 opus/48000/2", "a=rtpmap:97 L16/16000")
    agreed = answer(sdp("m=audio 4000 RTP/AVP 96 97 0", *rtpmaps, *attributes), replace(LOCAL, codecs=(codec,)))
    assert agreed.ptime_ms == ptime


@pytest.mark.parametrize(
    ("fmtp", "found"),
    [
        ("96 a=1;b=2", {"a": "1", "b": "2"}),
        ("96  A = 1 ; b", {"a": "1", "b": ""}),
        ("97 a=1", {}),
        ("96", {}),
        ("x y", {}),
        ("96 a=1;a=2", {"a": "1"}),
        ("96 " + ";".join(f"p{n}=1" for n in range(1000)), {f"p{n}": "1" for n in range(32)}),
    ],
)
def test_reading_fmtp(fmtp: str, found: dict[str, str]) -> None:
    media = MediaDescription("audio", 4000, "RTP/AVP", ("96",), attributes=(("fmtp", fmtp),))
    assert format_parameters(media, 96) == found
