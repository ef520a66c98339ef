"""Offer and answer (RFC 3264)."""

from __future__ import annotations

import contextlib
from dataclasses import replace

import pytest
from hypothesis import given, settings

from sipbridge.codecs import PCMA, PCMU
from sipbridge.errors import SdpError
from sipbridge.media.sdp import Direction, LocalAudio, accept, answer, offer
from sipbridge.media.session_description import MediaDescription, SessionDescription
from tests.media.test_session_description import LINES

LOCAL = LocalAudio("192.0.2.10", 16384, ("PCMU", "PCMA"), session_id="4711")


def sdp(*media: str, connection: str | None = "c=IN IP4 192.0.2.1", session: tuple[str, ...] = ()) -> bytes:
    head = ["v=0", "o=- 1 1 IN IP4 192.0.2.1", "s=-", *([connection] if connection else []), "t=0 0", *session]
    return "".join(f"{line}\r\n" for line in [*head, *media]).encode()


def audio(answered: bytes) -> MediaDescription:
    return next(media for media in SessionDescription.parse(answered).media if media.kind == "audio" and media.port)


PLAIN = sdp("m=audio 4000 RTP/AVP 8 0 101", "a=rtpmap:101 telephone-event/8000", "a=fmtp:101 0-16")


def test_a_plain_answer_in_full() -> None:
    agreed = answer(PLAIN, LOCAL)
    assert agreed.sdp.decode().split("\r\n") == [
        "v=0",
        "o=- 4711 0 IN IP4 192.0.2.10",
        "s=-",
        "c=IN IP4 192.0.2.10",
        "t=0 0",
        "m=audio 16384 RTP/AVP 0 101",
        "a=rtpmap:0 PCMU/8000",
        "a=rtpmap:101 telephone-event/8000",
        "a=fmtp:101 0-16",
        "a=ptime:20",
        "a=sendrecv",
        "",
    ]
    assert (agreed.codec, agreed.payload_type_send, agreed.payload_type_receive) == (PCMU, 0, 0)
    assert (agreed.event_payload_type_send, agreed.event_payload_type_receive) == (101, 101)
    assert (agreed.remote, agreed.remote_rtcp) == (("192.0.2.1", 4000), ("192.0.2.1", 4001))
    assert (agreed.ptime_ms, agreed.direction, agreed.version) == (20, "sendrecv", 0)


def test_the_answer_to_our_answer_is_what_we_agreed_on() -> None:
    """Our own offer, answered by ourselves: both sides see the same codec and numbers."""
    other = replace(LOCAL, address="192.0.2.1", port=4000, session_id="1")
    theirs = answer(offer(other), LOCAL)
    ours = accept(theirs.sdp, other)
    assert (ours.codec, ours.payload_type_send, ours.event_payload_type_send) == (theirs.codec, 0, 101)
    assert (ours.remote, theirs.remote) == (("192.0.2.10", 16384), ("192.0.2.1", 4000))
    assert ours.direction == theirs.direction == "sendrecv"
    assert ours.sdp == offer(other)


# Codecs and payload types.


@pytest.mark.parametrize(
    ("media", "codec", "payload_type"),
    [
        (["m=audio 4000 RTP/AVP 0"], PCMU, 0),
        (["m=audio 4000 RTP/AVP 8"], PCMA, 8),
        (["m=audio 4000 RTP/AVP 8 0"], PCMU, 0),
        (["m=audio 4000 RTP/AVP 18 3 8"], PCMA, 8),
        (["m=audio 4000 RTP/AVP 96", "a=rtpmap:96 PCMU/8000"], PCMU, 96),
        (["m=audio 4000 RTP/AVP 96", "a=rtpmap:96 pcma/8000/1"], PCMA, 96),
        (["m=audio 4000 RTP/AVP 96 0", "a=rtpmap:96 PCMU/16000"], PCMU, 0),
        (["m=audio 4000 RTP/AVP 96 8", "a=rtpmap:96 PCMU/8000/2"], PCMA, 8),
        (["m=audio 4000 RTP/AVP 97 0", "a=rtpmap:97 PCMU/8000"], PCMU, 97),
        (["m=audio 4000 RTP/AVP 0 8", "a=rtpmap:0 iLBC/8000"], PCMA, 8),  # strange, but said plainly
        (["m=audio 4000/2 RTP/AVP 0"], PCMU, 0),
        (["m=audio 4000 rtp/avp 0"], PCMU, 0),
    ],
)
def test_one_codec_is_answered_under_the_number_it_was_offered_with(
    media: list[str], codec: object, payload_type: int
) -> None:
    agreed = answer(sdp(*media), LOCAL)
    assert (agreed.codec, agreed.payload_type_send, agreed.payload_type_receive) == (codec, payload_type, payload_type)
    line = audio(agreed.sdp)
    assert line.formats == (str(payload_type),)
    assert line.encodings()[payload_type].name == agreed.codec.name


def test_our_order_of_preference_decides() -> None:
    assert answer(PLAIN, replace(LOCAL, codecs=("PCMA", "PCMU"))).codec is PCMA
    assert answer(PLAIN, replace(LOCAL, codecs=("pcmu",))).codec is PCMU


@pytest.mark.parametrize(
    ("lines", "event_type"),
    [
        (["m=audio 4000 RTP/AVP 0 96", "a=rtpmap:96 Telephone-Event/8000"], 96),
        (["m=audio 4000 RTP/AVP 0 96 97", "a=rtpmap:96 telephone-event/48000", "a=rtpmap:97 telephone-event/8000"], 97),
        (["m=audio 4000 RTP/AVP 0 96", "a=rtpmap:96 telephone-event/16000"], None),
        (["m=audio 4000 RTP/AVP 0", "a=rtpmap:101 telephone-event/8000"], None),
        (["m=audio 4000 RTP/AVP 0 101"], None),
    ],
)
def test_telephone_events_are_taken_at_the_codec_s_clock_rate(lines: list[str], event_type: int | None) -> None:
    agreed = answer(sdp(*lines), LOCAL)
    assert agreed.event_payload_type_send == agreed.event_payload_type_receive == event_type
    assert (b"telephone-event" in agreed.sdp) == (event_type is not None)


def test_telephone_events_can_be_left_out() -> None:
    local = replace(LOCAL, telephone_event=False)
    assert answer(PLAIN, local).event_payload_type_send is None
    assert b"telephone-event" not in offer(local)


@pytest.mark.parametrize(
    ("attributes", "ptime"),
    [
        ([], 20),
        (["a=ptime:30"], 30),
        (["a=ptime:20.0"], 20),
        (["a=ptime:25"], 20),
        (["a=ptime:5"], 10),
        (["a=ptime:200"], 60),
        (["a=ptime:0"], 20),
        (["a=ptime:soon"], 20),
        (["a=ptime:" + "9" * 30], 20),
        (["a=maxptime:10"], 10),
        (["a=ptime:40", "a=maxptime:30"], 30),
        (["a=ptime:40", "a=maxptime:150"], 40),
        (["a=maxptime:0"], 20),
        (["a=maxptime:1"], 10),
    ],
)
def test_packet_time_follows_theirs_within_limits(attributes: list[str], ptime: int) -> None:
    agreed = answer(sdp("m=audio 4000 RTP/AVP 0", *attributes), LOCAL)
    assert agreed.ptime_ms == ptime
    assert audio(agreed.sdp).attribute("ptime") == str(ptime)


# Several m= lines.


@pytest.mark.parametrize(
    ("media", "answered"),
    [
        (
            ["m=audio 4000 RTP/AVP 0", "m=video 4002 RTP/AVP 99 100"],
            ["m=audio 16384 RTP/AVP 0", "m=video 0 RTP/AVP 99 100"],
        ),
        (
            ["m=image 4002 udptl t38", "m=audio 4000 RTP/AVP 0"],
            ["m=image 0 udptl t38", "m=audio 16384 RTP/AVP 0"],
        ),
        (
            ["m=audio 4000 RTP/SAVP 0", "m=audio 4002 RTP/AVP 0"],
            ["m=audio 0 RTP/SAVP 0", "m=audio 16384 RTP/AVP 0"],
        ),
        (
            ["m=audio 0 RTP/AVP 0", "m=audio 4002 RTP/AVP 8", "m=audio 4004 RTP/AVP 0"],
            ["m=audio 0 RTP/AVP 0", "m=audio 16384 RTP/AVP 8", "m=audio 0 RTP/AVP 0"],
        ),
        (
            ["m=application 9 UDP/DTLS/SCTP webrtc-datachannel", "m=text 5000 RTP/AVP 98", "m=audio 4000 RTP/AVP 8"],
            ["m=application 0 UDP/DTLS/SCTP webrtc-datachannel", "m=text 0 RTP/AVP 98", "m=audio 16384 RTP/AVP 8"],
        ),
    ],
)
def test_every_line_is_answered_in_its_place(media: list[str], answered: list[str]) -> None:
    lines = answer(sdp(*media), LOCAL).sdp.decode().split("\r\n")
    assert [line for line in lines if line.startswith("m=")] == answered


@pytest.mark.parametrize(
    ("offered", "status"),
    [
        (b"", 400),
        (b"not sdp", 400),
        (sdp("m=audio x RTP/AVP 0"), 400),
        (sdp("m=audio 4000 RTP/AVP 0", *["a=x"] * 2_000), 400),
        (sdp("m=audio 4000 RTP/AVP 0" + " 8" * 300), 400),
        (sdp(), 488),
        (sdp("m=video 4000 RTP/AVP 0"), 488),
        (sdp("m=audio 4000 RTP/SAVP 0"), 488),
        (sdp("m=audio 4000 UDP/TLS/RTP/SAVPF 0"), 488),
        (sdp("m=audio 0 RTP/AVP 0"), 488),
        (sdp("m=audio 4000 RTP/AVP 18"), 488),
        (sdp("m=audio 4000 RTP/AVP 101", "a=rtpmap:101 telephone-event/8000"), 488),
        (sdp("m=audio 4000 RTP/AVP 96"), 488),
    ],
)
def test_offers_without_anything_for_us_are_refused(offered: bytes, status: int) -> None:
    with pytest.raises(SdpError) as caught:
        answer(offered, LOCAL)
    assert caught.value.sip_status == status


def test_without_a_codec_of_ours_nothing_is_offered_or_answered() -> None:
    local = replace(LOCAL, codecs=("nonesuch",))
    with pytest.raises(SdpError):
        answer(PLAIN, local)
    with pytest.raises(SdpError):
        offer(local)


def test_the_answer_has_the_times_of_the_offer() -> None:
    assert b"\r\nt=5 7\r\n" in answer(PLAIN.replace(b"t=0 0", b"t=5 7"), LOCAL).sdp


# Direction and hold.

DIRECTIONS: list[tuple[list[str], list[str], Direction, Direction]] = [
    # session level, media level, what we want, what it comes to
    ([], [], "sendrecv", "sendrecv"),
    ([], ["a=sendonly"], "sendrecv", "recvonly"),
    ([], ["a=recvonly"], "sendrecv", "sendonly"),
    ([], ["a=inactive"], "sendrecv", "inactive"),
    (["a=sendonly"], [], "sendrecv", "recvonly"),
    (["a=inactive"], ["a=sendrecv"], "sendrecv", "sendrecv"),
    (["a=recvonly"], ["a=sendonly"], "sendrecv", "recvonly"),
    ([], ["c=IN IP4 0.0.0.0"], "sendrecv", "recvonly"),
    ([], ["c=IN IP4 0.0.0.0", "a=sendonly"], "sendrecv", "recvonly"),
    ([], ["c=IN IP4 0.0.0.0", "a=recvonly"], "sendrecv", "inactive"),
    ([], ["c=IN IP4 0.0.0.0", "a=inactive"], "sendrecv", "inactive"),
    ([], [], "sendonly", "sendonly"),
    ([], ["a=sendonly"], "sendonly", "inactive"),
    ([], ["a=recvonly"], "recvonly", "inactive"),
    ([], [], "inactive", "inactive"),
]


@pytest.mark.parametrize(("session", "media", "wanted", "direction"), DIRECTIONS)
def test_direction(session: list[str], media: list[str], wanted: Direction, direction: Direction) -> None:
    offered = sdp("m=audio 4000 RTP/AVP 0", *media, session=tuple(session))
    agreed = answer(offered, replace(LOCAL, direction=wanted))
    assert agreed.direction == direction
    assert SessionDescription.parse(agreed.sdp).direction(audio(agreed.sdp)) == direction


def test_hold_by_address_leaves_nowhere_to_send() -> None:
    agreed = answer(PLAIN.replace(b"c=IN IP4 192.0.2.1", b"c=IN IP4 0.0.0.0"), LOCAL)
    assert agreed.remote is None
    assert agreed.remote_rtcp is None
    assert agreed.direction == "recvonly"


def test_the_direction_of_a_refused_line_does_not_count() -> None:
    offered = sdp("m=video 4002 RTP/AVP 99", "a=inactive", "m=audio 4000 RTP/AVP 0")
    assert answer(offered, LOCAL).direction == "sendrecv"


# Addresses.


@pytest.mark.parametrize(
    ("session", "media", "remote"),
    [
        ("c=IN IP4 192.0.2.1", [], "192.0.2.1"),
        ("c=IN IP4 192.0.2.1", ["c=IN IP4 192.0.2.9"], "192.0.2.9"),
        (None, ["c=IN IP4 192.0.2.9"], "192.0.2.9"),
        (None, [], None),
        ("c=IN IP4 224.2.36.42/127", [], None),
        ("c=IN IP4 255.255.255.255", [], None),
        ("c=IN IP6 2001:db8::1", [], None),
        ("c=IN IP6 ::", [], None),
        ("c=IN IP4 192.0.2.1 extra", [], None),
        ("c=IN IP4 phone.example.com", [], None),
    ],
)
def test_only_a_unicast_address_of_our_family_is_sent_to(
    session: str | None, media: list[str], remote: str | None
) -> None:
    agreed = answer(sdp("m=audio 4000 RTP/AVP 0", *media, connection=session), LOCAL)
    assert agreed.remote == (None if remote is None else (remote, 4000))


def test_ipv6_is_spoken_where_we_have_an_address() -> None:
    """Theirs is named as datagrams from there name it, however it is spelled: it is compared with those."""
    offered = sdp("m=audio 4000 RTP/AVP 0", "a=rtcp:5000 IN IP6 2001:DB8::0:2", connection="c=IN IP6 2001:DB8:0:0::1")
    agreed = answer(offered, replace(LOCAL, address="2001:db8::10"))
    assert agreed.remote == ("2001:db8::1", 4000)
    assert agreed.remote_rtcp == ("2001:db8::2", 5000)
    assert b"o=- 4711 0 IN IP6 2001:db8::10\r\n" in agreed.sdp
    assert b"c=IN IP6 2001:db8::10\r\n" in agreed.sdp


@pytest.mark.parametrize("host", ["phone.example.com", "-;rm"])
def test_a_host_name_is_not_looked_up(host: str) -> None:
    """Where it is shows when packets come from there."""
    agreed = answer(sdp("m=audio 4000 RTP/AVP 0", connection=f"c=IN IP4 {host}"), LOCAL)
    assert (agreed.remote, agreed.remote_rtcp) == (None, None)
    assert agreed.direction == "sendrecv"


@pytest.mark.parametrize(
    ("attributes", "rtcp"),
    [
        ([], ("192.0.2.1", 4001)),
        (["a=rtcp:5000"], ("192.0.2.1", 5000)),
        (["a=rtcp:5000 IN IP4 192.0.2.77"], ("192.0.2.77", 5000)),
        (["a=rtcp:5000 IN IP4 nowhere.example.com"], None),
        (["a=rtcp:5000 IN IP4 224.0.0.1"], None),
        (["a=rtcp:70000"], ("192.0.2.1", 4001)),
        (["a=rtcp:"], ("192.0.2.1", 4001)),
    ],
)
def test_rtcp_goes_to_the_next_port_or_where_they_say(attributes: list[str], rtcp: tuple[str, int] | None) -> None:
    agreed = answer(sdp("m=audio 4000 RTP/AVP 0", *attributes), LOCAL)
    assert agreed.remote_rtcp == rtcp
    assert b"rtcp" not in agreed.sdp


def test_there_is_no_port_after_the_last() -> None:
    assert answer(sdp("m=audio 65535 RTP/AVP 0"), LOCAL).remote_rtcp is None


# Within a call.


def test_an_unchanged_offer_gets_the_same_answer() -> None:
    first = answer(PLAIN, LOCAL, version=3)
    again = answer(PLAIN.replace(b"- 1 1 IN", b"- 1 2 IN"), LOCAL, previous=first)
    assert again.sdp == first.sdp
    assert again.version == 3


def test_hold_and_resume_each_take_the_next_version() -> None:
    first = answer(PLAIN, LOCAL)
    held = answer(PLAIN + b"a=sendonly\r\n", LOCAL, previous=first)
    resumed = answer(PLAIN, LOCAL, previous=held)
    assert [first.version, held.version, resumed.version] == [0, 1, 2]
    assert b"o=- 4711 2 IN IP4" in resumed.sdp
    assert resumed.direction == "sendrecv"


def test_an_offer_within_a_call_keeps_lines_numbers_and_session() -> None:
    first = answer(
        sdp(
            "m=video 4002 RTP/AVP 99",
            "m=audio 4000 RTP/AVP 101 96",
            "a=rtpmap:101 PCMA/8000",
            "a=rtpmap:96 telephone-event/8000",
        ),
        LOCAL,
    )
    assert (first.codec, first.payload_type_send, first.event_payload_type_send) == (PCMA, 101, 96)
    offered = SessionDescription.parse(offer(LOCAL, previous=first))
    assert offered.origin is not None
    assert (offered.origin.session_id, offered.origin.version) == ("4711", 1)
    video, line = offered.media
    assert (video.kind, video.port) == ("video", 0)
    assert line.formats == ("0", "101", "96")
    assert line.encodings()[101].name == "PCMA"
    assert line.encodings()[96].name == "telephone-event"


def test_static_numbers_are_kept_within_a_call() -> None:
    first = answer(PLAIN, LOCAL)
    assert audio(offer(LOCAL, previous=first)).formats == ("0", "8", "101")


def test_an_offer_within_a_call_that_says_the_same_keeps_the_version() -> None:
    local = replace(LOCAL, codecs=("PCMU",))
    first = answer(PLAIN, local)
    assert offer(local, previous=first) == first.sdp


# Answers to our offer.


def test_an_answer_with_numbers_of_its_own() -> None:
    agreed = accept(
        sdp("m=audio 4000 RTP/AVP 110 111", "a=rtpmap:110 PCMA/8000", "a=rtpmap:111 telephone-event/8000"), LOCAL
    )
    assert agreed.codec is PCMA
    assert (agreed.payload_type_send, agreed.payload_type_receive) == (110, 8)
    assert (agreed.event_payload_type_send, agreed.event_payload_type_receive) == (111, 101)


def test_the_first_codec_of_the_answer_is_spoken() -> None:
    agreed = accept(sdp("m=audio 4000 RTP/AVP 18 8 0"), LOCAL)
    assert agreed.codec is PCMA
    assert (agreed.event_payload_type_send, agreed.event_payload_type_receive) == (None, None)


@pytest.mark.parametrize(
    ("answered", "status"),
    [
        (b"", 400),
        (sdp(), 488),
        (sdp("m=audio 0 RTP/AVP 0"), 488),
        (sdp("m=audio 4000 RTP/AVP 18"), 488),
        (sdp("m=audio 4000 RTP/SAVP 0"), 488),
        (sdp("m=video 4000 RTP/AVP 0"), 488),
        (sdp("m=audio 4000 RTP/AVP 0", "m=video 4002 RTP/AVP 99"), 488),
        (sdp("m=audio 4000 RTP/AVP 8"), 488),
    ],
)
def test_answers_that_do_not_fit_the_offer_are_refused(answered: bytes, status: int) -> None:
    with pytest.raises(SdpError) as caught:
        accept(answered, replace(LOCAL, codecs=("PCMU",)))
    assert caught.value.sip_status == status


@pytest.mark.parametrize(
    ("offered", "answered", "direction"),
    [
        ("sendrecv", "sendrecv", "sendrecv"),
        ("sendrecv", "recvonly", "sendonly"),
        ("sendonly", "recvonly", "sendonly"),
        ("sendonly", "sendrecv", "sendonly"),  # not allowed, but harmless
        ("sendonly", "inactive", "inactive"),
        ("inactive", "sendrecv", "inactive"),
    ],
)
def test_an_answer_can_only_narrow_the_direction(offered: Direction, answered: str, direction: Direction) -> None:
    local = replace(LOCAL, direction=offered)
    assert accept(sdp("m=audio 4000 RTP/AVP 0", f"a={answered}"), local).direction == direction


def test_an_answer_to_an_offer_within_a_call() -> None:
    first = answer(sdp("m=video 4002 RTP/AVP 99", "m=audio 4000 RTP/AVP 0"), LOCAL)
    offered = offer(LOCAL, previous=first)
    agreed = accept(sdp("m=video 0 RTP/AVP 99", "m=audio 4000 RTP/AVP 8"), LOCAL, offered=offered)
    assert (agreed.codec, agreed.version, agreed.sdp) == (PCMA, 1, offered)
    with pytest.raises(SdpError):
        accept(sdp("m=audio 4000 RTP/AVP 8"), LOCAL, offered=offered)


@settings(derandomize=True, max_examples=300, deadline=None)
@given(LINES)
def test_any_bytes_are_agreed_on_or_an_sdp_error(data: bytes) -> None:
    for body in (data, PLAIN + data, data + PLAIN):
        try:
            agreed = answer(body, LOCAL)
        except SdpError:
            pass
        else:
            theirs, ours = SessionDescription.parse(body).media, SessionDescription.parse(agreed.sdp).media
            assert [line.kind for line in ours] == [line.kind for line in theirs]
            assert sum(line.port > 0 for line in ours) == 1
        with contextlib.suppress(SdpError):
            accept(body, LOCAL)
