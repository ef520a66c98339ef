"""Trunks: what a far end may make us call, what goes into an INVITE, whether a trunk answers, how much it is used."""

from __future__ import annotations

import pytest

from sipbridge.config import Config
from sipbridge.configfile import parse
from sipbridge.errors import CallNotPlacedError, ConfigError, SipParseError
from sipbridge.gateway_file.trunks import Outbound, Trunk
from sipbridge.sip.digest import Credentials
from sipbridge.sip.headers import Uri
from sipbridge.trunks import Budget, Health, Reachable, caller_of, credentials_of, permitted_target, proxy_of, target_of


def trunk(
    targets: str = "['+1555010*', '1??', 'sip:desk@pbx.example.com', 'tel:+1-555-0199', '+19005550100']",
) -> Trunk:
    text = f"""
trunks:
  - name: pbx
    sources: [192.0.2.0/28]
    outbound: {{proxy: "sip:pbx.example.com:5070"}}
    accept_refer: true
    refer_targets: {targets}
"""
    return parse(text, Config, "f.yaml").trunks[0]


@pytest.mark.parametrize(
    ("wanted", "called"),
    [
        ("sip:+15550100@pbx.example.com", "+15550100"),
        ("sip:+15550100@PBX.example.com:5080;transport=tls", "+15550100"),
        ("sips:+15550100@pbx.example.com", "+15550100"),
        ("sip:+1-555-0100@192.0.2.9", "+15550100"),
        ("tel:+1(555)0100;isub=1411;postd=pp22", "+15550100"),
        ("sip:%2b1555010%30@pbx.example.com", "+15550100"),
        ("sip:+15550100;phone-context=x@pbx.example.com", "+15550100"),
        ("sip:100@pbx.example.com?Route=%3Csip:evil.example.net%3E&Replaces=a", "100"),
        ("sip:desk@192.0.2.1", "desk"),
        ("tel:+15550199", "+15550199"),
        ("sip:+19005550100@pbx.example.com", "+19005550100"),
    ],
)
def test_a_far_end_may_have_us_call_what_the_trunk_permits(wanted: str, called: str) -> None:
    target = permitted_target(trunk(), Uri.parse(wanted))
    assert str(target) == f"sip:{called}@pbx.example.com:5070", "the number of theirs, all the rest of ours"


@pytest.mark.parametrize(
    "wanted",
    [
        "sip:+1900@other.example.com",
        "sip:+15550100@other.example.com",
        "sip:+15550100@192.0.2.99",
        "sip:+15550100@pbx.example.com.example.net",
        "sip:+15550200@pbx.example.com",
        "sip:%2b1900555%301%301@pbx.example.com",
        "tel:+19005550101",
        "tel:1900;phone-context=+1555010",
        "sip:1000@pbx.example.com",
        "sip:10@pbx.example.com",
        "sip:Desk@pbx.example.com",
        "sip:desk%00@pbx.example.com",
        "sip:1%200 0@pbx.example.com",
        "sip:\u0661\u0660\u0660@pbx.example.com",
        "sip:%D9%A1%D9%A0%D9%A0@pbx.example.com",
        "sip:pbx.example.com",
        "http://pbx.example.com/100",
        "urn:service:sos",
    ],
)
def test_nothing_else_is_called(wanted: str) -> None:
    try:
        uri = Uri.parse(wanted)
    except SipParseError:
        return  # it never gets here
    assert permitted_target(trunk(), uri) is None


@pytest.mark.parametrize(
    ("pattern", "number"),
    [
        ("+1??????????", "+19005550100"),
        ("1??????????", "19005550100"),
        ("??????????", "9005550100"),
        ("9?????????", "9765550100"),
        ("001*", "0019005550100"),
        ("011*", "011881655501000"),
        ("008*", "00870555010000"),
        ("0????????????", "0019005550100"),
        ("+88*", "+881655501000"),
        ("+1??????????", "+18765550100"),
        ("1??????????", "18095550100"),
        ("+44*", "+449005550100"),
        ("0044*", "00449005550100"),
    ],
)
def test_a_wildcard_reaches_no_costly_number_however_it_is_dialled(pattern: str, number: str) -> None:
    wanted = Uri.parse(f"sip:{number}@pbx.example.com")
    assert permitted_target(trunk(f"['{pattern}']"), wanted) is None
    assert permitted_target(trunk(f"['{pattern}', '{number}']"), wanted) is not None


@pytest.mark.parametrize(
    ("pattern", "number"),
    [
        ("1900*", "19005550100"),
        ("900???????", "9005550100"),
        ("011881*", "011881655501000"),
        ("8???", "8811"),
        ("876*", "8765550100"),
        ("+4420*", "+442055501000"),
        ("1??????????", "18085550100"),
        ("??????????", "8085550100"),
        ("8????????", "881655501"),
    ],
)
def test_a_wildcard_that_names_them_or_means_others_is_as_wide_as_it_looks(pattern: str, number: str) -> None:
    assert permitted_target(trunk(f"['{pattern}']"), Uri.parse(f"sip:{number}@pbx.example.com")) is not None


def test_a_wildcard_does_not_reach_what_is_costly() -> None:

    wide = trunk("['+19*', '+8816*']")
    assert permitted_target(wide, Uri.parse("tel:+19195550100")) is not None
    assert permitted_target(wide, Uri.parse("tel:+19005550100")) is None
    assert permitted_target(wide, Uri.parse("tel:+88161234")) is not None


def test_without_a_way_out_nothing_is_permitted() -> None:
    bare = trunk().model_copy(update={"outbound": None})
    assert permitted_target(bare, Uri.parse("tel:+15550100")) is None


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ("accept_refer: true", "'accept_refer' needs 'outbound'"),
        ("outbound: {proxy: 'sip:pbx.example.com'}, follow_redirects: true", "'follow_redirects' needs 'outbound'"),
        ("refer_targets: ['*']", "at least three characters"),
        ("refer_targets: ['+1*']", "at least three characters"),
        ("refer_targets: ['sip:@@']", "expected a number or name"),
        ("refer_targets: ['sip:a@b c']", "expected a number or name"),
        ("refer_targets: ['sip:a@-:x']", "malformed URI"),
        ("outbound: {proxy: pbx.example.com}", "sip:HOST[:PORT] is expected"),
        ("outbound: {proxy: 'sip:user@pbx.example.com'}", "sip:HOST[:PORT] is expected"),
        ("codecs: []", "codecs"),
        ("codecs: [G729]", "codecs"),
    ],
)
def test_a_trunk_that_would_be_unsafe_or_useless_is_refused(keys: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(f"trunks: [{{name: a, sources: ['192.0.2.1'], {keys}}}]", Config, "f.yaml")
    assert message in str(caught.value)


def outbound(text: str = "{proxy: 'sip:pbx.example.com', transport: tcp}") -> Outbound:
    return parse(text, Outbound, "f.yaml")


def test_the_proxy_has_the_transport() -> None:
    assert str(proxy_of(outbound())) == "sip:pbx.example.com;transport=tcp"
    assert str(proxy_of(outbound("proxy: 'sip:[2001:db8::1]:5070'"))) == "sip:[2001:db8::1]:5070"
    assert str(proxy_of(outbound("{proxy: 'sip:a;transport=tls', transport: tcp}"))) == "sip:a;transport=tls"


@pytest.mark.parametrize(
    ("to", "uri"),
    [
        ("+1 (555) 01-00", "sip:+15550100@pbx.example.com"),
        ("*97#", "sip:*97%23@pbx.example.com"),
        ("desk", "sip:desk@pbx.example.com"),
        ("tel:+1-555-0100", "sip:+15550100@pbx.example.com"),
        ("sip:bob:secret@example.com;x=y?Subject=z", "sip:bob@example.com;x=y"),
    ],
)
def test_what_is_dialled_becomes_a_request_uri(to: str, uri: str) -> None:
    assert str(target_of(outbound(), to)) == uri


@pytest.mark.parametrize("to", ["", " ", "a b", "bob@", "sip:", "http://x", "sip:example.com", "+1\r\nTo: x"])
def test_what_cannot_be_dialled_is_refused(to: str) -> None:
    with pytest.raises(CallNotPlacedError):
        target_of(outbound(), to)


def over(text: str) -> Trunk:
    return parse(f"trunks: [{{name: a, sources: ['192.0.2.1'], {text}}}]", Config, "f.yaml").trunks[0]


def calling(text: str, from_: str | None = None) -> str:
    trunk = over(text)
    assert trunk.outbound is not None
    return str(caller_of(trunk, trunk.outbound, from_))


REGISTERED = "register: {server: 'sip:pbx.example.com', username: u, password: p"


def test_who_calls() -> None:
    assert calling("outbound: {proxy: 'sip:p'}") == "<sip:sipbridge@p>"
    assert calling("outbound: {proxy: 'sip:p:5070', from: '+15550100'}") == "<sip:+15550100@p>"
    assert calling(f"outbound: {{proxy: 'sip:p'}}, {REGISTERED}}}") == "<sip:u@p>"
    assert calling(f"outbound: {{proxy: 'sip:p'}}, {REGISTERED}, user: '7000'}}") == "<sip:7000@p>"
    assert calling("outbound: {proxy: 'sip:p'}", '"ACME" <sip:a@example.com>;tag=1') == '"ACME" <sip:a@example.com>'
    with pytest.raises(CallNotPlacedError):
        calling("outbound: {proxy: 'sip:p'}", "a\r\nb")


def test_by_what_we_prove_who_we_are(monkeypatch: pytest.MonkeyPatch) -> None:
    assert credentials_of(over("outbound: {proxy: 'sip:p'}")) is None
    assert credentials_of(over(f"outbound: {{proxy: 'sip:p'}}, {REGISTERED}}}")) == Credentials("u", "p")
    own = "outbound: {proxy: 'sip:p', auth: {username: v, password: '${OUT}'}}"
    monkeypatch.setenv("OUT", "q")
    assert credentials_of(over(f"{own}, {REGISTERED}}}")) == Credentials("v", "q")
    monkeypatch.delenv("OUT")
    with pytest.raises(CallNotPlacedError, match="OUT is not set"):
        credentials_of(over(own))


# --- does it answer? --------------------------------------------------------------------------------------------------


def states(*answers: int | None) -> list[str]:
    health, states = Health(30), []
    for answer in answers:
        health.heard(answer)
        states.append(health.state.value)
    return states


def test_the_first_answer_decides() -> None:
    assert Health(30).state is Reachable.UNKNOWN
    assert [states(answer)[0] for answer in (200, 405, 401, 503, None)] == ["up", "up", "up", "busy", "down"]


def test_three_in_a_row_take_it_down_and_two_bring_it_back() -> None:
    assert states(200, None, None, 200, None, None, None) == ["up"] * 6 + ["down"]
    assert states(None, 200, None, 200, 200) == ["down"] * 4 + ["up"]
    assert states(200, 503, 503, 503, 503, None, None, None) == ["up"] * 3 + ["busy"] * 4 + ["down"]
    assert states(200, None, 503, None, 503, None) == ["up"] * 6


def test_a_change_is_told_once() -> None:
    health = Health(30)
    assert [health.heard(answer) for answer in (200, 200, None, None, None, None)] == [
        True,
        False,
        False,
        False,
        True,
        False,
    ]


def test_the_interval_is_spread_and_shorter_in_doubt() -> None:
    health = Health(30)
    health.heard(200)
    assert health.next_after(0.0) == pytest.approx(24)
    assert health.next_after(1.0) == pytest.approx(36)
    health.heard(None)
    assert health.next_after(0.5) == pytest.approx(10)


# --- how much is it used? ---------------------------------------------------------------------------------------------


def test_so_many_at_a_time_and_so_many_an_hour() -> None:
    budget = Budget(calls=2, per_hour=3)
    budget.take(0)
    budget.take(1)
    with pytest.raises(CallNotPlacedError, match="max_calls"):
        budget.take(2)
    budget.give_back()
    budget.take(3)
    budget.give_back()
    budget.give_back()
    with pytest.raises(CallNotPlacedError, match="calls_per_hour"):
        budget.take(4)
    budget.take(3600.5)
    assert budget.up == 1
