"""Session descriptions as real peers write them (RFC 8866)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sipbridge.errors import SdpError
from sipbridge.media.session_description import Encoding, MediaDescription, Origin, SessionDescription, number

FULL = b"""v=0
o=jdoe 3724394400 3724394405 IN IP4 198.51.100.1
s=Call to John Smith
i=SDP Offer #1
u=http://www.example.com/home.html
e=Jane Doe <jane@jane.example.com>
p=+1 555 010-0100
c=IN IP4 198.51.100.1
b=AS:100
t=3724394400 3724398000
r=7d 1h 0 25h
k=prompt
a=recvonly
a=group:BUNDLE 1 2
m=audio 49170/2 RTP/AVP 0 96 101
i=voice
c=IN IP4 203.0.113.7/127
a=rtpmap:96 opus/48000/2
a=rtpmap:101 telephone-event/8000
a=ptime:30
a=sendonly
m=video 51372 RTP/AVPF 99
c=IN IP6 2001:db8::2
a=rtpmap:99 h263-1998/90000
m=image 5004 udptl t38
m=application 9 UDP/DTLS/SCTP webrtc-datachannel
"""


@pytest.mark.parametrize("end_of_line", [b"\n", b"\r\n"])
def test_all_that_a_call_needs_is_read(end_of_line: bytes) -> None:
    description = SessionDescription.parse(FULL.replace(b"\n", end_of_line))
    assert description.origin == Origin("3724394400", 3724394405, "198.51.100.1", "jdoe")
    assert description.connection == "198.51.100.1"
    assert description.timing == "3724394400 3724398000"
    audio, video, image, application = description.media
    assert (audio.kind, audio.port, audio.protocol, audio.formats) == ("audio", 49170, "RTP/AVP", ("0", "96", "101"))
    assert audio.encodings() == {96: Encoding(96, "opus", 48000, 2), 101: Encoding(101, "telephone-event", 8000)}
    assert audio.attribute("ptime") == "30"
    assert audio.attribute("maxptime") is None
    assert description.address(audio) == "203.0.113.7"
    assert description.address(video) == "2001:db8::2"
    assert description.address(image) == "198.51.100.1"
    assert description.direction(audio) == "sendonly"
    assert description.direction(video) == "recvonly"
    assert image.payload_types() == []
    assert (application.kind, application.port, application.formats) == ("application", 9, ("webrtc-datachannel",))


def test_reading_what_was_written_gives_the_same() -> None:
    description = SessionDescription.parse(FULL)
    data = description.serialize()
    assert SessionDescription.parse(data) == description
    assert SessionDescription.parse(data).serialize() == data
    assert b"c=IN IP6 2001:db8::2\r\n" in data


def test_missing_and_strange_lines_do_no_harm() -> None:
    description = SessionDescription.parse(
        b"\n\nv = 0\n garbage\nx=what\nc=IN IP4\na=\na=:\no=a b\nt=now\n"
        b"m=audio 4000 RTP/AVP 0 300 zero -1\na=rtpmap:0\na=rtpmap:x y/z\na=rtpmap:200 a/1\na=rtpmap:7 \xff\xfe/8000\n"
    )
    (audio,) = description.media
    assert (description.origin, description.connection, description.timing) == (None, None, "0 0")
    assert description.address(audio) is None
    assert description.direction(audio) == "sendrecv"
    assert audio.payload_types() == [0]
    assert list(audio.encodings()) == [7]


def test_no_media_is_a_description_nevertheless() -> None:
    assert SessionDescription.parse(b"v=0\r\n").media == ()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\r\n\r\n",
        b"INVITE sip:a@example.com SIP/2.0\r\n",
        b"\x00\x01\x02",
        b"v=0\nm=\n",
        b"v=0\nm=audio\n",
        b"v=0\nm=audio 4000 RTP/AVP\n",
        b"v=0\nm=audio 65536 RTP/AVP 0\n",
        b"v=0\nm=audio -1 RTP/AVP 0\n",
        b"v=0\nm=audio port RTP/AVP 0\n",
        b"v=0\nm=audio " + b"9" * 5000 + b" RTP/AVP 0\n",
        b"v=0\nm=audio " + "²".encode() + b" RTP/AVP 0\n",
        b"v=0\n" + b"m=audio 4000 RTP/AVP 0\n" * 65,
    ],
)
def test_what_cannot_be_answered_line_by_line_is_an_error(data: bytes) -> None:
    with pytest.raises(SdpError) as caught:
        SessionDescription.parse(data)
    assert caught.value.sip_status == 400


@pytest.mark.parametrize(
    ("text", "value"),
    [("0", 0), ("65535", 65535), ("65536", None), ("", None), (None, None), ("+1", None), ("1_0", None), ("٣", None)],
)
def test_numbers_are_plain_decimal_ones(text: str | None, value: int | None) -> None:
    assert number(text, 65535) == value


LINES = st.lists(
    st.sampled_from([line + b"\n" for line in FULL.split(b"\n")])
    | st.binary(max_size=12).map(lambda value: b"a=" + value + b"\n")
    | st.tuples(st.sampled_from(b"vocstam"), st.binary(max_size=20)).map(lambda pair: b"%c=%s\n" % pair)
    | st.binary(max_size=12),
    max_size=15,
).map(b"".join)


@settings(derandomize=True, max_examples=400, deadline=None)
@given(LINES)
def test_any_bytes_are_a_description_or_an_sdp_error(data: bytes) -> None:
    try:
        description = SessionDescription.parse(data)
    except SdpError:
        return
    again = SessionDescription.parse(description.serialize())
    assert again.media == description.media
    assert [again.direction(media) for media in again.media] == [
        description.direction(media) for media in description.media
    ]


def test_only_as_many_rtpmaps_are_read_as_there_can_be_formats() -> None:
    """They are read several times for each offer: 1,900 of them took 11 ms."""
    maps = tuple(("rtpmap", f"{number % 90} X{number}/8000") for number in range(256))
    line = MediaDescription("audio", 4000, "RTP/AVP", ("0", "96"), attributes=(*maps, ("rtpmap", "96 PCMU/8000")))
    assert len(line.encodings()) == 90
    assert 96 not in line.encodings()
