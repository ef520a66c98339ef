"""Encryption in offer and answer: every profile under every policy."""

from __future__ import annotations

import base64
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipbridge.errors import EncryptionError
from sipbridge.media.keying import DtlsParams, Fingerprint, LocalSecurity, Offers, Policy, SdesParams
from sipbridge.media.sdes import Crypto, parse_lines
from sipbridge.media.sdp import LocalAudio, Negotiated, accept, answer, offer
from sipbridge.media.session_description import MediaDescription, SessionDescription

OURS, THEIRS = Fingerprint("sha-256", bytes(range(32))), Fingerprint("sha-256", bytes(range(100, 132)))
OPTIONAL = LocalSecurity("optional", secret=bytes(range(32)), fingerprint=OURS)
LOCAL = LocalAudio("203.0.113.10", 16384, ("PCMU", "PCMA"), session_id="4711", security=OPTIONAL)
PHONE = replace(
    LOCAL,
    address="203.0.113.1",
    port=4000,
    session_id="1",
    security=LocalSecurity("optional", secret=bytes(range(9, 41)), fingerprint=THEIRS),
)
KEY = base64.b64encode(bytes(range(30))).decode()
KEY_256 = base64.b64encode(bytes(range(44))).decode()
CRYPTO = f"a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}|2^31"
DTLS = (f"a=fingerprint:{THEIRS}", "a=setup:actpass")


def sdp(*media: str, host: str = "203.0.113.1", session: tuple[str, ...] = ()) -> bytes:
    lines = ["v=0", f"o=- 1 1 IN IP4 {host}", "s=-", f"c=IN IP4 {host}", "t=0 0", *session, *media]
    return "".join(f"{line}\r\n" for line in lines).encode()


def audio(profile: str, *attributes: str, port: int = 4000) -> tuple[str, ...]:
    return (f"m=audio {port} {profile} 0", *attributes)


def policy(name: Policy) -> LocalAudio:
    return replace(LOCAL, security=replace(OPTIONAL, policy=name))


def offering(kind: Offers, local: LocalAudio = LOCAL) -> LocalAudio:
    return replace(local, security=replace(local.security, offers=kind))


def our_line(agreed: Negotiated) -> MediaDescription:
    return next(line for line in SessionDescription.parse(agreed.sdp).media if line.port)


# Answering.

PLAIN, SDES, DTLS_KIND = type(None), SdesParams, DtlsParams
PROFILES = [
    ("RTP/AVP", (), PLAIN),
    ("RTP/AVPF", (), PLAIN),
    ("RTP/AVP", (CRYPTO,), SDES),
    ("RTP/AVPF", (CRYPTO,), SDES),
    ("RTP/SAVP", (CRYPTO,), SDES),
    ("RTP/SAVPF", (CRYPTO,), SDES),
    ("rtp/savp", (CRYPTO,), SDES),
    ("RTP/SAVP", (CRYPTO, *DTLS), SDES),
    ("RTP/SAVP", DTLS, DTLS_KIND),
    ("RTP/SAVPF", DTLS, DTLS_KIND),
    ("UDP/TLS/RTP/SAVP", DTLS, DTLS_KIND),
    ("UDP/TLS/RTP/SAVPF", DTLS, DTLS_KIND),
    ("UDP/TLS/RTP/SAVP", (CRYPTO, *DTLS), DTLS_KIND),
]


@pytest.mark.parametrize(("profile", "attributes", "kind"), PROFILES)
def test_an_offer_is_answered_as_it_was_made(profile: str, attributes: tuple[str, ...], kind: type) -> None:
    agreed = answer(sdp(*audio(profile, *attributes)), policy("optional"))
    line = our_line(agreed)
    assert line.protocol == profile
    assert type(agreed.security) is kind
    assert [name for name, _ in line.attributes if name in ("crypto", "fingerprint", "setup")] == {
        PLAIN: [],
        SDES: ["crypto"],
        DTLS_KIND: ["fingerprint", "setup"],
    }[kind]


@pytest.mark.parametrize(("profile", "attributes", "kind"), PROFILES)
def test_what_is_required_is_not_left_out(profile: str, attributes: tuple[str, ...], kind: type) -> None:
    offered = sdp(*audio(profile, *attributes))
    if kind is PLAIN:
        with pytest.raises(EncryptionError, match="SRTP is required") as raised:
            answer(offered, policy("required"))
        assert raised.value.sip_status == 488
    else:
        assert answer(offered, policy("required")) == answer(offered, policy("optional"))


@pytest.mark.parametrize(("profile", "attributes", "kind"), PROFILES)
def test_what_is_off_stays_off(profile: str, attributes: tuple[str, ...], kind: type) -> None:
    offered = sdp(*audio(profile, *attributes))
    if "S" in profile.upper():
        with pytest.raises(EncryptionError, match="switched off") as raised:
            answer(offered, policy("off"))
        assert raised.value.sip_status == 488
    else:
        agreed = answer(offered, policy("off"))
        assert agreed.security is None
        assert b"crypto" not in agreed.sdp


@pytest.mark.parametrize(
    "media",
    [
        audio("RTP/SAVP"),
        audio("RTP/SAVP", "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:short"),
        audio("RTP/SAVP", f"{CRYPTO} UNENCRYPTED_SRTP"),
        audio("RTP/SAVP", "a=setup:actpass"),
        audio("UDP/TLS/RTP/SAVP", CRYPTO),
        audio("UDP/TLS/RTP/SAVP", "a=setup:actpass"),
        audio("UDP/TLS/RTP/SAVP", "a=setup:actpass", "a=fingerprint:md5 " + ":".join(["00"] * 16)),
        audio("UDP/TLS/RTP/SAVP", "a=setup:actpass", "a=fingerprint:sha-256 " + ":".join(["00"] * 20)),
        audio("UDP/TLS/RTP/SAVP", "a=setup:holdconn", DTLS[0]),
        audio("UDP/TLS/RTP/SAVP", "a=setup:sideways", DTLS[0]),
    ],
)
@pytest.mark.parametrize("name", ["optional", "required"])
def test_encryption_without_a_key_is_refused(media: tuple[str, ...], name: Policy) -> None:
    with pytest.raises(EncryptionError, match="without a key"):
        answer(sdp(*media), policy(name))


def test_without_a_secret_or_a_certificate_there_is_no_sdes_or_dtls() -> None:
    bare = replace(LOCAL, security=LocalSecurity("optional"))
    for media in (audio("RTP/SAVP", CRYPTO), audio("UDP/TLS/RTP/SAVP", *DTLS)):
        with pytest.raises(EncryptionError):
            answer(sdp(*media), bare)
    assert answer(sdp(*audio("RTP/AVP", CRYPTO)), bare).security is None


def test_the_answer_has_the_chosen_tag_and_a_key_of_ours() -> None:
    lines = (
        "a=crypto:3 F8_128_HMAC_SHA1_80 inline:" + KEY,
        f"a=crypto:5 AEAD_AES_256_GCM inline:{KEY_256}",
        f"a=crypto:7 AES_CM_128_HMAC_SHA1_80 inline:{KEY}",
    )
    agreed = answer(sdp(*audio("RTP/SAVP", *lines)), LOCAL)
    security = agreed.security
    assert isinstance(security, SdesParams)
    assert (security.tag, security.receive.suite.name) == (5, "AEAD_AES_256_GCM")
    assert security.receive.octets == bytes(range(44))
    assert parse_lines(our_line(agreed).values("crypto")) == (Crypto(5, security.send),)
    assert security.send != security.receive


def test_no_key_is_in_the_repr_of_what_was_agreed() -> None:
    agreed = answer(sdp(*audio("RTP/SAVP", CRYPTO)), LOCAL)
    own = (our_line(agreed).attribute("crypto") or "").partition("inline:")[2]
    assert own
    assert own.encode() in agreed.sdp
    for text in (repr(agreed), repr(LOCAL)):
        assert own not in text
        assert KEY not in text
    assert "secret" not in repr(LOCAL)


# Two lines for one stream.


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize(("name", "profile"), [("off", "RTP/AVP"), ("optional", "RTP/SAVP"), ("required", "RTP/SAVP")])
def test_of_an_encrypted_line_and_a_plain_one_policy_takes_one(order: int, name: Policy, profile: str) -> None:
    media = [audio("RTP/SAVP", CRYPTO), audio("RTP/AVP", port=4002)][::order]
    agreed = answer(sdp(*(line for lines in media for line in lines)), policy(name))
    lines = SessionDescription.parse(agreed.sdp).media
    assert [line.protocol for line in lines] == ["RTP/SAVP", "RTP/AVP"][::order]
    assert [line.protocol for line in lines if line.port] == [profile]
    assert agreed.remote == ("203.0.113.1", 4000 if profile == "RTP/SAVP" else 4002)
    assert (agreed.security is None) == (profile == "RTP/AVP")
    refused = next(line for line in lines if not line.port)
    assert refused.attributes == ()


def test_an_encrypted_line_without_a_usable_key_leaves_the_plain_one() -> None:
    media = (*audio("RTP/SAVP", CRYPTO + "|1:1"), *audio("RTP/AVP", port=4002))
    assert our_line(answer(sdp(*media), policy("optional"))).protocol == "RTP/AVP"
    with pytest.raises(EncryptionError):
        answer(sdp(*media), policy("required"))


# DTLS.


@pytest.mark.parametrize(
    ("setup", "role", "answered"),
    [
        ("a=setup:actpass", "client", "active"),
        ("a=setup:active", "server", "passive"),
        ("a=setup:passive", "client", "active"),
        ("a=setup:ACTIVE", "server", "passive"),
        ("a=nothing", "server", "passive"),  # RFC 4145 §4: active is what an offer means
    ],
)
def test_roles_when_we_answer(setup: str, role: str, answered: str) -> None:
    agreed = answer(sdp(*audio("UDP/TLS/RTP/SAVP", DTLS[0], setup)), LOCAL)
    assert isinstance(agreed.security, DtlsParams)
    assert agreed.security.role == role
    assert agreed.security.fingerprints == (THEIRS,)
    assert agreed.security.peer == ("203.0.113.1", 4000)
    assert our_line(agreed).attribute("setup") == answered
    assert our_line(agreed).attribute("fingerprint") == str(OURS)


@pytest.mark.parametrize(
    ("theirs", "ours", "role"),
    [
        ("192.168.1.7", "203.0.113.10", "server"),
        ("198.51.100.8", "203.0.113.10", "client"),
        ("192.168.1.7", "192.168.1.2", "client"),
        ("198.51.100.8", "192.168.1.2", "client"),
        ("192.168.1.7", "sip.example.com", "server"),
    ],
)
def test_who_may_be_behind_a_nat_has_to_begin(theirs: str, ours: str, role: str) -> None:
    """He would not hear us, and who is asked to choose (actpass) may choose."""
    agreed = answer(sdp(*audio("UDP/TLS/RTP/SAVP", *DTLS), host=theirs), replace(LOCAL, address=ours))
    assert isinstance(agreed.security, DtlsParams)
    assert agreed.security.role == role


def test_fingerprint_and_setup_of_the_session_hold_for_the_line() -> None:
    agreed = answer(sdp(*audio("UDP/TLS/RTP/SAVPF"), session=DTLS), LOCAL)
    assert isinstance(agreed.security, DtlsParams)
    assert agreed.security.fingerprints == (THEIRS,)


def test_of_several_fingerprints_the_strongest_hash_counts() -> None:
    weak, strong = Fingerprint("sha-1", bytes(20)), Fingerprint("sha-512", bytes(64))
    other = Fingerprint("sha-512", bytes(range(64)))
    lines = [f"a=fingerprint:{value}" for value in (weak, THEIRS, strong, other)]
    agreed = answer(sdp(*audio("UDP/TLS/RTP/SAVP", "a=setup:actpass", *lines)), LOCAL)
    assert isinstance(agreed.security, DtlsParams)
    assert agreed.security.fingerprints == (strong, other)


@given(st.text(max_size=80) | st.from_regex(r"\Asha-(1|256) ([0-9a-fA-F]{2}:){18,33}[0-9a-fA-F]{2}\Z"))
def test_a_fingerprint_is_read_or_none(text: str) -> None:
    found = Fingerprint.parse(text)
    if found is not None:
        assert Fingerprint.parse(str(found)) == found


# Offering.


@pytest.mark.parametrize(
    ("kind", "profile", "names"),
    [
        ("plain", "RTP/AVP", []),
        ("try_sdes", "RTP/AVP", ["crypto"] * 3),
        ("sdes", "RTP/SAVP", ["crypto"] * 3),
        ("dtls", "UDP/TLS/RTP/SAVP", ["fingerprint", "setup"]),
    ],
)
def test_our_offers(kind: Offers, profile: str, names: list[str]) -> None:
    (line,) = SessionDescription.parse(offer(offering(kind))).media
    assert line.protocol == profile
    assert [name for name, _ in line.attributes if name in ("crypto", "fingerprint", "setup")] == names
    assert line.has("rtcp-mux")
    if kind == "dtls":
        assert line.attribute("setup") == "actpass"


@pytest.mark.parametrize("kind", ["try_sdes", "sdes", "dtls"])
def test_two_of_us_agree(kind: Offers) -> None:
    local = offering(kind)
    theirs = answer(offer(local), PHONE)
    ours = accept(theirs.sdp, local)
    assert ours.rtcp_mux
    assert theirs.rtcp_mux
    assert ours.remote_rtcp == ours.remote == ("203.0.113.1", 4000)
    if isinstance(ours.security, SdesParams):
        assert isinstance(theirs.security, SdesParams)
        assert (ours.security.send, ours.security.receive) == (theirs.security.receive, theirs.security.send)
        assert ours.security.send.suite.name == "AES_CM_128_HMAC_SHA1_80"
    else:
        assert isinstance(ours.security, DtlsParams)
        assert isinstance(theirs.security, DtlsParams)
        assert (ours.security.role, theirs.security.role) == ("server", "client")
        assert (ours.security.fingerprints, theirs.security.fingerprints) == ((THEIRS,), (OURS,))


def test_who_ignores_our_keys_is_spoken_to_in_the_clear() -> None:
    """Which is what `try_sdes` is for: RTP/AVP with a=crypto means nothing to most."""
    local = offering("try_sdes")
    agreed = accept(sdp(*audio("RTP/AVP")), local)
    assert agreed.security is None


@pytest.mark.parametrize(
    ("kind", "answered"),
    [
        ("sdes", audio("RTP/AVP")),
        ("sdes", audio("RTP/SAVP")),
        ("sdes", audio("RTP/SAVP", CRYPTO + "|1:1")),
        ("sdes", audio("RTP/SAVP", CRYPTO.replace("_80", "_32"))),
        ("dtls", audio("RTP/AVP")),
        ("dtls", audio("UDP/TLS/RTP/SAVP", "a=setup:active")),
        ("dtls", audio("RTP/SAVP", CRYPTO)),
        ("plain", audio("RTP/SAVP", CRYPTO)),
    ],
)
def test_an_answer_that_is_less_than_what_we_offered_is_not_accepted(kind: Offers, answered: tuple[str, ...]) -> None:
    with pytest.raises(EncryptionError):
        accept(sdp(*answered), offering(kind))


@pytest.mark.parametrize(
    ("setup", "role"), [("active", "server"), ("passive", "client"), ("actpass", "client"), (None, "client")]
)
def test_roles_when_they_answer(setup: str | None, role: str) -> None:
    lines = [DTLS[0], *([f"a=setup:{setup}"] if setup else [])]
    agreed = accept(sdp(*audio("UDP/TLS/RTP/SAVP", *lines)), offering("dtls"))
    assert isinstance(agreed.security, DtlsParams)
    assert agreed.security.role == role


# In a call that is up.


@pytest.mark.parametrize("media", [audio("RTP/SAVP", CRYPTO, "a=x"), audio("UDP/TLS/RTP/SAVP", *DTLS, "a=x")])
def test_hold_and_resume_keep_what_holds(media: tuple[str, ...]) -> None:
    offered = sdp(*media)
    first = answer(offered, LOCAL)
    held = answer(offered.replace(b"a=x\r\n", b"a=sendonly\r\n"), LOCAL, previous=first)
    resumed = answer(offered, LOCAL, previous=held)
    assert held.direction == "recvonly"
    assert first.security == held.security == resumed.security
    by_address = answer(sdp(*media, host="0.0.0.0"), LOCAL, previous=first)
    assert by_address.security == first.security


def test_their_new_key_is_taken_and_ours_stays() -> None:
    first = answer(sdp(*audio("RTP/SAVP", CRYPTO)), LOCAL)
    other = base64.b64encode(bytes(range(50, 80))).decode()
    second = answer(sdp(*audio("RTP/SAVP", CRYPTO.replace(KEY, other))), LOCAL, previous=first)
    assert isinstance(first.security, SdesParams)
    assert isinstance(second.security, SdesParams)
    assert second.security.receive.octets == bytes(range(50, 80))
    assert second.security.send == first.security.send


@pytest.mark.parametrize(
    ("media", "host"),
    [
        (audio("UDP/TLS/RTP/SAVP", f"a=fingerprint:{OURS}", "a=setup:actpass"), "203.0.113.1"),
        (audio("UDP/TLS/RTP/SAVP", DTLS[0], "a=setup:active"), "203.0.113.1"),
        (audio("UDP/TLS/RTP/SAVP", *DTLS, port=4002), "203.0.113.1"),
        (audio("UDP/TLS/RTP/SAVP", *DTLS), "203.0.113.2"),
    ],
)
def test_fingerprint_role_or_place_make_it_another_association(media: tuple[str, ...], host: str) -> None:
    first = answer(sdp(*audio("UDP/TLS/RTP/SAVP", *DTLS)), LOCAL)
    assert isinstance(first.security, DtlsParams)
    assert first.security.role == "client"
    second = answer(sdp(*media, host=host), LOCAL, previous=first)
    assert second.security != first.security


def test_who_was_asked_first_keeps_his_role() -> None:
    """RFC 8842 §5.3: actpass in a new offer does not mean that roles may be swapped."""
    first = answer(sdp(*audio("UDP/TLS/RTP/SAVP", DTLS[0], "a=setup:active")), LOCAL)
    second = answer(sdp(*audio("UDP/TLS/RTP/SAVP", *DTLS)), LOCAL, previous=first)
    assert first.security == second.security
    assert our_line(second).attribute("setup") == "passive"


@pytest.mark.parametrize("kind", ["plain", "try_sdes", "sdes", "dtls"])
def test_a_new_offer_of_ours_says_what_holds(kind: Offers) -> None:
    local = offering(kind)
    theirs = answer(offer(local), PHONE)
    ours = accept(theirs.sdp, local)
    again = offer(replace(PHONE, security=replace(PHONE.security, offers="plain")), previous=theirs)
    answered = answer(again, local, previous=ours)
    accepted = accept(answered.sdp, PHONE, offered=again, previous=theirs)
    assert answered.security == ours.security
    assert accepted.security == theirs.security
    (line,) = SessionDescription.parse(again).media
    assert line.protocol == our_line(ours).protocol


def test_encryption_may_begin_and_end_with_an_offer() -> None:
    first = answer(sdp(*audio("RTP/AVP")), LOCAL)
    second = answer(sdp(*audio("RTP/SAVP", CRYPTO)), LOCAL, previous=first)
    third = answer(sdp(*audio("RTP/AVP")), LOCAL, previous=second)
    assert (first.security, third.security) == (None, None)
    assert isinstance(second.security, SdesParams)


# RTCP on the same port (RFC 5761).


@pytest.mark.parametrize(
    ("media", "rtcp", "mux"),
    [
        (audio("RTP/AVP"), ("203.0.113.1", 4001), False),
        (audio("RTP/AVP", "a=rtcp-mux"), ("203.0.113.1", 4000), True),
        (audio("RTP/AVP", "a=rtcp-mux", "a=rtcp:5000"), ("203.0.113.1", 4000), True),
        (audio("RTP/SAVP", CRYPTO), ("203.0.113.1", 4001), False),
        (audio("RTP/SAVP", CRYPTO, "a=rtcp-mux"), ("203.0.113.1", 4000), True),
        (audio("UDP/TLS/RTP/SAVP", *DTLS), None, False),
        (audio("UDP/TLS/RTP/SAVP", *DTLS, "a=rtcp-mux"), ("203.0.113.1", 4000), True),
    ],
)
def test_rtcp(media: tuple[str, ...], rtcp: tuple[str, int] | None, mux: bool) -> None:
    agreed = answer(sdp(*media), LOCAL)
    assert (agreed.remote_rtcp, agreed.rtcp_mux) == (rtcp, mux)
    assert our_line(agreed).has("rtcp-mux") == mux
    accepted = accept(sdp(*audio("RTP/AVP")), offering("plain"))
    assert not accepted.rtcp_mux
