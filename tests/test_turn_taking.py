"""Who finds turns and interruptions: what a tenant asks for, against what models leave to us."""

from __future__ import annotations

import pytest
import yaml

from sipbridge.agent import Capabilities, TurnDetection
from sipbridge.agent_settings import capabilities, cautions
from sipbridge.configfile import parse
from sipbridge.errors import ConfigError
from sipbridge.media import silero
from sipbridge.tenant_config import TenantConfig
from sipbridge.turn_taking import TurnTaking, turn_taking

SERVER_CUTS = Capabilities()
LEAVES_CUTTING = Capabilities(can_leave_interrupting=True)
LEAVES_ALL = Capabilities(can_leave_interrupting=True, can_leave_answering=True)
TELLS_NOTHING = Capabilities(speech_events=False, interrupts_by_itself=False)
FULL_DUPLEX = Capabilities(full_duplex=True, turn_detection=frozenset())


def config(barge_in: str = "{}", agent: str = "{}") -> TenantConfig:
    text = yaml.safe_dump(
        {"agent": {"provider": "offline", **yaml.safe_load(agent)}, "barge_in": yaml.safe_load(barge_in)}
    )
    return parse(text, TenantConfig, "t.yaml")


def taken(can: Capabilities, barge_in: str = "{}", agent: str = "{}", protect_greeting_ms: int = 0) -> TurnTaking:
    tenant = config(barge_in, agent)
    return turn_taking(tenant.agent, tenant.barge_in, can, protect_greeting_ms)


def told(turns: TurnTaking) -> tuple[bool, bool]:
    return turns.detection.interrupt_response, turns.detection.create_response


@pytest.mark.parametrize("can", [SERVER_CUTS, LEAVES_CUTTING, LEAVES_ALL])
def test_where_nobody_asks_for_anything_the_server_does_it(can: Capabilities) -> None:
    turns = taken(can)
    assert told(turns) == (True, True)
    assert (turns.listens, turns.asks, turns.rule.recover) == (False, False, False)


def test_false_alarms_are_judged_where_the_model_leaves_both_to_us() -> None:
    turns = taken(LEAVES_ALL, "{recover_false_alarms: true}")
    assert told(turns) == (False, False)
    assert turns.rule.recover
    assert turns.asks
    for can in (SERVER_CUTS, LEAVES_CUTTING):
        turns = taken(can, "{recover_false_alarms: true}")
        assert told(turns) == (True, True)
        assert not turns.rule.recover
        assert not turns.asks


def test_a_debounce_needs_a_second_ear_and_a_model_that_waits() -> None:
    turns = taken(LEAVES_CUTTING, "{debounce_ms: 200}")
    assert told(turns) == (False, True)
    assert (turns.listens, turns.leads, turns.asks) == (True, False, False)
    assert taken(LEAVES_ALL, "{debounce_ms: 200}").asks
    turns = taken(SERVER_CUTS, "{debounce_ms: 200}")
    assert (turns.rule.debounce_ms, turns.listens) == (0, False)


def test_our_own_ear_leads_where_it_is_told_to_or_nobody_else_does() -> None:
    turns = taken(LEAVES_CUTTING, "{source: local}")
    assert told(turns) == (False, True)
    assert (turns.leads, turns.heeds_model) == (True, False)
    turns = taken(TELLS_NOTHING, "{debounce_ms: 10}")
    assert (turns.leads, turns.heeds_model) == (True, False)
    turns = taken(SERVER_CUTS, "{source: local}")
    assert (turns.leads, turns.heeds_model) == (True, True), "it cuts by itself, too"


def test_a_model_that_tells_nothing_and_interrupts_nothing_needs_our_ear() -> None:
    turns = taken(TELLS_NOTHING)
    assert (turns.leads, turns.listens) == (True, True)


def test_a_protected_greeting_is_not_to_be_cut_by_the_server() -> None:
    assert told(taken(LEAVES_ALL, protect_greeting_ms=1000)) == (False, True)
    assert told(taken(SERVER_CUTS, protect_greeting_ms=1000)) == (True, True)


def test_our_own_ear_ends_turns() -> None:
    turns = taken(SERVER_CUTS, agent="{turn_detection: {type: local_vad, silence_ms: 700}}")
    assert turns.detection == TurnDetection("none")
    assert (turns.ends_turns, turns.leads, turns.silence_ms, turns.asks) == (True, True, 700, False)
    turns = taken(SERVER_CUTS, agent="{turn_detection: {type: none}}")
    assert (turns.ends_turns, turns.leads) == (False, True)


def test_where_interrupting_is_off_our_ear_may_still_end_turns() -> None:
    turns = taken(SERVER_CUTS, "{enabled: false, source: local}", "{turn_detection: {type: local_vad}}")
    assert (turns.rule.enabled, turns.leads, turns.listens, turns.ends_turns) == (False, False, True, True)
    assert turns.detection.interrupt_response is False


def test_the_floor_of_a_full_duplex_model_is_its_own() -> None:
    turns = taken(FULL_DUPLEX, "{source: local, recover_false_alarms: true, debounce_ms: 100}")
    assert (turns.rule.enabled, turns.listens, turns.leads, turns.asks) == (False, False, False, False)


def test_words_of_a_tenant_s_own_are_the_backchannels() -> None:
    assert taken(LEAVES_ALL).rule.backchannels.match("Mm-hm, okay")
    own = taken(LEAVES_ALL, "{backchannels: [jo mei]}").rule.backchannels
    assert own.match("Jo mei!")
    assert not own.match("okay")


@pytest.mark.parametrize(
    ("provider", "more", "barge_in", "words"),
    [
        (
            "xai",
            "",
            "{recover_false_alarms: true}",
            "barge_in.recover_false_alarms has no effect: xai stops for whatever",
        ),
        ("xai", "", "{debounce_ms: 100}", "barge_in.debounce_ms has no effect: xai stops by itself"),
        ("xai", "", "{source: local}", "barge_in.source local: xai stops by itself as well"),
        (
            "gemini",
            "",
            "{recover_false_alarms: true}",
            "barge_in.recover_false_alarms has no effect: gemini answers whatever",
        ),
        ("openai_live", "", "{debounce_ms: 100}", "barge_in.debounce_ms has no effect: the floor is openai_live's own"),
        ("openai", "", "{recover_false_alarms: true, debounce_ms: 100, source: local}", None),
        ("gemini", ", turn_detection: {type: local_vad}", "{recover_false_alarms: true}", None),
        ("xai", ", turn_detection: {type: local_vad}", "{debounce_ms: 100, recover_false_alarms: true}", None),
    ],
)
def test_what_can_t_be_had_is_said(provider: str, more: str, barge_in: str, words: str | None) -> None:
    text = f"agent: {{provider: {provider}, api_key: k{more}}}\nbarge_in: {barge_in}"
    said = [warning for warning in cautions(parse(text, TenantConfig, "t.yaml")) if "barge_in" in warning]
    if words is None:
        assert said == []
    else:
        (warning,) = said
        assert warning.startswith(words)


@pytest.mark.parametrize("provider", ["openai", "azure_openai", "azure_voice_live", "dashscope", "offline"])
def test_these_leave_everything_to_us(provider: str) -> None:
    agent = config(agent=f"{{provider: {provider}, api_key: k}}").agent
    assert capabilities(agent).can_leave_answering
    assert capabilities(agent).can_leave_interrupting


def test_a_network_that_is_not_installed_is_an_error_with_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent() -> None:
        raise ModuleNotFoundError("onnxruntime")

    monkeypatch.setattr(silero, "_session", absent)
    with pytest.raises(ConfigError, match=r"t\.yaml:4.*barge_in\.vad.*sipbridge\[silero\]"):
        config("{vad: silero}")
