"""What the environment says instead of sipbridge.yaml, and what is shown of where values are from."""

from __future__ import annotations

from pathlib import Path

import pytest

from sipbridge.config import Config
from sipbridge.config_shown import shown
from sipbridge.configfile import parse, parse_with_lines
from sipbridge.errors import ConfigError
from sipbridge.overrides import of_environment
from sipbridge.tenant_config import TenantConfig

FILE = """\
sip:
  listen: ["udp://127.0.0.1:5060"]
  public_address: null
trunks:
  - {name: pbx, sources: ["127.0.0.1/32"]}
"""


def load(text: str = FILE, **variables: str) -> Config:
    environment = {f"SIPBRIDGE__{name}": value for name, value in variables.items()} | {"SIPBRIDGE_TOKEN": "x"}
    return parse(text, Config, "f.yaml", overrides=of_environment(environment))


def wrong(**variables: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(**variables)
    return str(caught.value).splitlines()


def test_a_variable_is_a_key() -> None:
    config = load(SIP__PUBLIC_ADDRESS="203.0.113.5", LIMITS__MAX_CALLS="7", MEDIA__CODECS="[PCMU, PCMA]")
    assert config.sip.public_address == "203.0.113.5"
    assert config.limits.max_calls == 7
    assert config.media.codecs == ("PCMU", "PCMA")
    assert config.sip.listen == ("udp://127.0.0.1:5060",)


def test_what_the_file_does_not_have_is_there_then_and_nothing_is_null() -> None:
    config = load("sip: {public_address: 203.0.113.9}\n", HISTORY__RETRY__ATTEMPTS="2", SIP__PUBLIC_ADDRESS="")
    assert config.history.retry.attempts == 2
    assert config.sip.public_address is None


def test_lists_are_changed_by_position_and_added_to() -> None:
    config = load(
        SIP__LISTEN__0="udp://127.0.0.1:5070",
        SIP__LISTEN__1="tcp://127.0.0.1:5070",
        TRUNKS__0__SRTP="required",
        TRUNKS__1="{name: other, sources: [127.0.0.2/32]}",
        TRUNKS__1__SRTP="off",
    )
    assert config.sip.listen == ("udp://127.0.0.1:5070", "tcp://127.0.0.1:5070")
    assert [(trunk.name, trunk.srtp) for trunk in config.trunks] == [("pbx", "required"), ("other", "off")]
    assert load("", WEBHOOKS__0__URL="https://example.com/hook").webhooks[0].url == "https://example.com/hook"


def test_text_needs_no_quotes() -> None:
    config = load(NODE__ID="007", HISTORY__OUTBOX="12", SIP__ACCOUNTS="[{username: a, password: b}]")
    assert config.node.id == "007"
    assert config.history.outbox == Path("12")


def test_what_is_wrong_names_the_variable_as_it_would_a_line() -> None:
    unknown = "environment:SIPBRIDGE__SIP__LISEN: sip.lisen: unknown key; did you mean 'listen'?"
    assert wrong(SIP__LISEN="x") == [unknown]
    (error,) = wrong(LIMITS__MAX_CALLS="many")
    assert error.startswith("environment:SIPBRIDGE__LIMITS__MAX_CALLS: limits.max_calls: ")
    (error,) = wrong(TRUNKS__0__SOURCES="[127.0.0.1/99]")
    assert error.startswith("environment:SIPBRIDGE__TRUNKS__0__SOURCES: trunks[0].sources: ")
    (error,) = wrong(SIP__LISTEN="[unclosed")
    assert error.startswith("environment:SIPBRIDGE__SIP__LISTEN: sip.listen: ")
    assert wrong(SIP__LISTEN__5="x", SIP____X="z") == [
        "environment:SIPBRIDGE__SIP__LISTEN__5: sip.listen.5: sip.listen is a list: a position is expected, 0 to 1, "
        "not '5'",
        "environment:SIPBRIDGE__SIP____X: sip..x: a key is missing between its underscores",
    ]
    assert wrong(LIMITS="{max_calls: 3}", LIMITS__MAX_CALLS__X="y")[0].startswith(
        "environment:SIPBRIDGE__LIMITS__MAX_CALLS__X: limits.max_calls.x: limits.max_calls is neither a section"
    )


def test_a_secret_is_not_quoted() -> None:
    (error, *_) = wrong(SIP__NONCE_SECRET="${hunter2")
    assert "hunter2" not in error


def test_everything_in_force_is_shown_with_where_it_is_from() -> None:
    overrides = of_environment({"SIPBRIDGE__LIMITS__MAX_CALLS": "7", "SIPBRIDGE__SIP__NONCE_SECRET": "hunter2"})
    section, lines = parse_with_lines(FILE, Config, "f.yaml", overrides=overrides)
    text = shown(section, "f.yaml", lines)
    for line in (
        "  - udp://127.0.0.1:5060  # f.yaml:2",
        "  # public_address: null  (f.yaml:3)",
        "  nonce_secret: '***'  # environment:SIPBRIDGE__SIP__NONCE_SECRET",
        "  max_calls: 7  # environment:SIPBRIDGE__LIMITS__MAX_CALLS",
        "  media_timeout_seconds: 30  # default",
        "- name: pbx  # f.yaml:5",
        "  - 127.0.0.1/32  # f.yaml:5",
    ):
        assert line in text.splitlines(), text
    assert "hunter2" not in text


def test_what_is_shown_loads_again_and_is_the_same() -> None:
    tenant = """\
match: {to: agent}
agents:
  main:
    provider: offline
    instructions: |
      First line: "quoted" # no comment

        indented
    greeting: "# null"
  other: {provider: offline, description: "ends with spaces  "}
phrases: {hang_up: ["bye\\tbye", "ｗｉｄｅ"]}
"""
    section, lines = parse_with_lines(tenant, TenantConfig, "t.yaml")
    text = shown(section, "t.yaml", lines)
    assert parse(text, TenantConfig, "again.yaml") == section
    assert "  - agent  # t.yaml:1" in text
    assert "    instructions: |  # t.yaml:5" in text
