"""What a trunk's policy makes of offers, and what is warned of."""

from __future__ import annotations

import pytest

from sipbridge.config import Config
from sipbridge.configfile import parse
from sipbridge.encryption import keys_in_the_clear, local_security, policy_of, wanted, weaknesses
from sipbridge.sip.flow import Flow

SECRET = bytes(32)
OUTSIDE = "sip: {listen: ['udp://192.0.2.1:5060']}\n"


def config(trunk: str = "", node: str = "optional", more: str = "") -> Config:
    text = f"media: {{srtp: {node}}}\n{more}"
    if trunk:
        text += f"trunks: [{{name: pbx, sources: ['192.0.2.0/24'], {trunk}}}]\n"
    return parse(text, Config, "f.yaml")


@pytest.mark.parametrize(
    ("trunk", "node", "policy"),
    [
        ("codecs: [PCMU]", "optional", "optional"),
        ("codecs: [PCMU]", "required", "required"),
        ("srtp: off", "required", "off"),
        ("srtp: required", "off", "required"),
    ],
)
def test_a_trunk_s_own_word_goes_before_the_node_s(trunk: str, node: str, policy: str) -> None:
    settings = config(trunk, node)
    assert policy_of(settings, settings.trunks[0]) == policy
    assert policy_of(settings, None) == node
    assert wanted(settings)


def test_where_all_is_off_nothing_is_loaded() -> None:
    assert not wanted(config("srtp: off", "off"))
    assert not wanted(config(node="off"))


PROXY = "outbound: {proxy: 'sip:pbx.example.com', transport: "


@pytest.mark.parametrize(
    ("trunk", "offers"),
    [
        ("srtp: off", "plain"),
        ("srtp: optional", "plain"),
        (f"srtp: optional, {PROXY} udp}}", "plain"),
        (f"srtp: optional, {PROXY} tcp}}", "plain"),
        (f"srtp: optional, {PROXY} tls}}", "try_sdes"),
        ("srtp: optional, outbound: {proxy: 'sips:pbx.example.com'}", "try_sdes"),
        ("srtp: optional, outbound: {proxy: 'sip:pbx.example.com;transport=TLS'}", "try_sdes"),
        ("srtp: required", "sdes"),
        (f"srtp: required, {PROXY} tls}}", "sdes"),
        (f"srtp: required, {PROXY} udp, srtp_keys: dtls}}", "dtls"),
        (f"srtp: optional, {PROXY} udp, srtp_keys: dtls}}", "plain"),
    ],
)
def test_what_we_offer(trunk: str, offers: str) -> None:
    settings = config(trunk)
    security = local_security(settings, settings.trunks[0], secret=SECRET, fingerprint=None)
    assert security.offers == offers
    assert security.secret == SECRET


@pytest.mark.parametrize(
    ("trunk", "more", "cure"),
    [
        ("srtp: optional", OUTSIDE, None),
        ("srtp: required", "", None),  # loopback alone: nobody is on the way
        ("srtp: required", OUTSIDE, "tls://"),
        (f"srtp: required, {PROXY} udp}}", OUTSIDE, "outbound.transport: tls"),
        (f"srtp: required, {PROXY} udp}}", "", "outbound.transport: tls"),
        (f"srtp: required, {PROXY} tls}}", "", None),
        (f"srtp: required, {PROXY} udp, srtp_keys: dtls}}", "", None),
        ("srtp: required, outbound: {proxy: 'sip:127.0.0.2:5070'}", "", None),
    ],
)
def test_keys_that_anybody_on_the_way_can_read_are_warned_of(trunk: str, more: str, cure: str | None) -> None:
    found = list(weaknesses(config(trunk, more=more)))
    assert [weak.subject for weak in found] == ([] if cure is None else ["encryption pbx"])
    assert all(cure is not None and cure in weak.cure and "in the clear" in weak.text for weak in found)


@pytest.mark.parametrize(
    ("flow", "readable"),
    [
        (Flow("udp", ("192.0.2.1", 5060), ("192.0.2.2", 5060)), True),
        (Flow("ws", ("192.0.2.1", 5060), ("192.0.2.2", 5060)), True),
        (Flow("tls", ("192.0.2.1", 5061), ("192.0.2.2", 5060)), False),
        (Flow("wss", ("192.0.2.1", 5061), ("192.0.2.2", 5060)), False),
        (Flow("udp", ("127.0.0.1", 5060), ("127.0.0.2", 5060)), False),
        (Flow("tcp", ("::1", 5060), ("::1", 5062)), False),
        (None, False),
    ],
)
def test_who_can_read_a_call_s_keys(flow: Flow | None, readable: bool) -> None:
    assert keys_in_the_clear(flow) is readable
