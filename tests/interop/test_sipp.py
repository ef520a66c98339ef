"""Signalling against SIPp. What each scenario checks stands in its XML; here is what the gateway made of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from sipbridge import health
from tests.interop import sipp
from tests.interop.gateway import GatewayProcess

pytestmark = pytest.mark.interop


def established(messages: list[sipp.Message]) -> set[str]:
    """The To tags of every 200 for an INVITE: one per dialog."""
    answers = [message for message in messages if not message.sent and message.answers(200, "INVITE")]
    return {message.header("To").partition(";tag=")[2] for message in answers}


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_a_call_with_sound(gateway: GatewayProcess, tmp_path: Path, transport: str) -> None:
    sipp.run(tmp_path, "call", gateway.target, transport=transport)
    (report,) = gateway.new_reports(1)
    assert (report["ended"], report["codec"]) == ("caller_hung_up", "PCMU")
    assert report["seconds"] == pytest.approx(3, abs=1)


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_twenty_calls_at_once(gateway: GatewayProcess, tmp_path: Path, transport: str) -> None:
    messages = sipp.run(tmp_path, "call", gateway.target, transport=transport, calls=20)
    assert len(established(messages)) == 20
    reports = gateway.new_reports(20)
    assert {report["ended"] for report in reports} == {"caller_hung_up"}
    assert max(report["setup_ms"] for report in reports) < 1000


def test_the_only_codec_offered_is_the_one_answered(gateway: GatewayProcess, tmp_path: Path) -> None:
    sipp.run(tmp_path, "call_alaw", gateway.target)
    (report,) = gateway.new_reports(1)
    assert (report["ended"], report["codec"]) == ("caller_hung_up", "PCMA")


def test_copies_of_one_invite_are_one_call(gateway: GatewayProcess, tmp_path: Path) -> None:
    # SIPp cannot expect a response while it still has copies to send, so it must not abort on one.
    messages = sipp.run(tmp_path, "retransmit", gateway.target, options={"-default_behaviors": "bye"})
    # SIPp may add one of its own, in answer to a repeated 200.
    assert sum(message.sent and message.start_line.startswith("INVITE") for message in messages) >= 4
    assert len(established(messages)) == 1
    (report,) = gateway.new_reports(1)
    assert report["ended"] == "caller_hung_up"


def test_cancel_while_it_rings(gateway: GatewayProcess, tmp_path: Path) -> None:
    sipp.run(tmp_path, "cancel", gateway.target, user="slow")
    (report,) = gateway.new_reports(1)
    assert report["ended"] == "caller_cancelled"


def test_hold_and_resume_stay_one_call(gateway: GatewayProcess, tmp_path: Path) -> None:
    messages = sipp.run(tmp_path, "reinvite", gateway.target)
    assert len(established(messages)) == 1
    versions = [
        line.split()[2]
        for message in messages
        if not message.sent and message.answers(200, "INVITE")
        for line in message.text.splitlines()
        if line.startswith("o=")
    ]
    assert [int(version) - int(versions[0]) for version in versions] == [0, 1, 2]  # RFC 3264 §8
    (report,) = gateway.new_reports(1)
    assert report["ended"] == "caller_hung_up"


def test_the_200_is_repeated_until_the_ack(gateway: GatewayProcess, tmp_path: Path) -> None:
    messages = sipp.run(tmp_path, "late_ack", gateway.target)
    assert len(established(messages)) == 1
    acknowledged = next(n for n, message in enumerate(messages) if message.start_line.startswith("ACK"))
    before = sum(message.answers(200, "INVITE") for message in messages[:acknowledged] if not message.sent)
    after = sum(message.answers(200, "INVITE") for message in messages[acknowledged:] if not message.sent)
    assert (before, after) == (3, 0)  # at 0, 0.5 and 1.5 s
    gateway.new_reports(1)


@pytest.mark.slow
@pytest.mark.timeout(90)
def test_a_call_without_ack_is_given_up(gateway: GatewayProcess, tmp_path: Path) -> None:
    sipp.run(tmp_path, "no_ack", gateway.target, timeout=50)
    (report,) = gateway.new_reports(1)
    assert report["ended"] == "signalling_failed"


@pytest.mark.parametrize("transport", ["udp", "tcp"])
@pytest.mark.parametrize(
    "scenario", ["options", "unknown_method", "bad_content_type", "require", "stray_bye", "no_tenant"]
)
def test_what_is_no_call_gets_its_answer(
    gateway: GatewayProcess, tmp_path: Path, scenario: str, transport: str
) -> None:
    sipp.run(
        tmp_path, scenario, gateway.target, user="nobody" if scenario == "no_tenant" else "agent", transport=transport
    )
    assert gateway.new_reports(0) == []


@pytest.mark.parametrize(
    "scenario",
    [
        "record_route",
        "cancel_too_late",
        "wrong_tag",
        "late_offer",
        "reinvite_without_sdp",
        "reinvite_before_ack",
        "reliable",
        "prack_of_nothing",
        "update",
        "session_timer",
        "info_dtmf",
        "info_unknown",
        "merged",
        "bye_twice",
        "multipart",
    ],
)
def test_a_call_that_is_served_to_its_end(gateway: GatewayProcess, tmp_path: Path, scenario: str) -> None:
    sipp.run(tmp_path, scenario, gateway.target, repeats=scenario != "bye_twice")
    (report,) = gateway.new_reports(1)
    assert report["ended"] == "caller_hung_up"


@pytest.mark.parametrize(
    "scenario",
    ["interval_too_small", "unknown_scheme", "unacceptable", "replaces_nobody", "mwi", "register"],
)
def test_what_becomes_no_call(gateway: GatewayProcess, tmp_path: Path, scenario: str) -> None:
    sipp.run(tmp_path, scenario, gateway.target)
    assert gateway.new_reports(0) == []


TOLL_FRAUD = [
    "sip:+19005550123@example.com",
    "sip:+1%39005550123@example.com",
    "tel:+1-900-555-0123;phone-context=example.com",
    "sip:desk@127.0.0.4",
    "sip:100@example.com?Replaces=a%3Bto-tag%3Db%3Bfrom-tag%3Dc",
]


@pytest.mark.parametrize("target", TOLL_FRAUD)
def test_a_transfer_that_a_caller_asks_for_is_refused(gateway: GatewayProcess, tmp_path: Path, target: str) -> None:
    """Whoever it is to: nobody may make us place a call who has not been allowed to."""
    sipp.run(tmp_path / "out", "refer_out_of_dialog", gateway.target, keys={"target": target})
    sipp.run(tmp_path / "in", "refer_in", gateway.target, keys={"target": target})
    (report,) = gateway.new_reports(1)
    assert report["ended"] == "caller_hung_up"


def test_an_invite_that_expires(gateway: GatewayProcess, tmp_path: Path) -> None:
    sipp.run(tmp_path, "expires", gateway.target, user="slow")
    (report,) = gateway.new_reports(1)
    assert report["setup_ms"] is None


def test_no_codec_in_common(gateway: GatewayProcess, tmp_path: Path) -> None:
    sipp.run(tmp_path, "no_codec", gateway.target)
    (report,) = gateway.new_reports(1)
    assert (report["ended"], report["setup_ms"]) == ("refused", None)


@pytest.mark.parametrize("user", ["slow", "away"])
def test_a_model_that_cannot_be_reached_is_480_and_never_200(
    gateway: GatewayProcess, tmp_path: Path, user: str
) -> None:
    messages = sipp.run(tmp_path, "not_ready", gateway.target, user=user)
    assert not established(messages)
    (report,) = gateway.new_reports(1)
    assert report["ended"] == "agent_not_ready"


def test_the_health_check_finds_it_alive(gateway: GatewayProcess) -> None:
    assert health.ping(gateway.address, gateway.port, 5) == 200
