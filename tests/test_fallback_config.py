"""`fallback:` in a tenant's file: what may stand there, and what an agent that stands in has of the failed one."""

from __future__ import annotations

import wave
from pathlib import Path

import pytest

from sipbridge.config import Config
from sipbridge.configfile import parse
from sipbridge.errors import ConfigError
from sipbridge.prompts import DIRECTORY
from sipbridge.tenant_checks import warnings
from sipbridge.tenant_config import TenantConfig
from sipbridge.tenant_file.agent import AgentConfig
from sipbridge.tenant_file.fallback import FallbackStep, standing_in
from sipbridge.tenant_source.directory import TenantDirectory

AGENT = "agent: {provider: offline, greeting: Hello}\n"
DESK = "tools: {transfer_call: {targets: {desk: 'sip:100@pbx.example.com'}}}\n"


def steps(text: str) -> tuple[FallbackStep, ...]:
    return parse(f"{AGENT}fallback: {text}\n{DESK}", TenantConfig, "t.yaml").fallback


def test_the_steps_in_the_order_given() -> None:
    found = steps(
        "[{prompt: prompts/one-moment.wav}, {agent: {provider: gemini}}, {transfer: desk}, {prompt: goodbye}]"
    )
    assert [step.kind for step in found] == ["prompt", "agent", "transfer", "prompt"]
    assert found[0].prompt == str(DIRECTORY / "one-moment.wav"), "a sentence that ships with sipbridge, by its name"


def test_a_file_beside_the_tenants_comes_before_a_sentence_of_that_name(tmp_path: Path) -> None:
    with wave.open(str(tmp_path / "one-moment.wav"), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(bytes(1600))
    config = parse(f"{AGENT}fallback: [{{prompt: one-moment.wav}}]", TenantConfig, "t.yaml", directory=tmp_path)
    assert config.fallback[0].prompt == str(tmp_path / "one-moment.wav")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[{}]", "fallback[0]: a step is one of prompt, agent, transfer, goodbye"),
        ("[{prompt: goodbye, transfer: desk}]", "fallback[0]: a step is one of"),
        ("[{promt: goodbye}]", "fallback[0].promt: unknown key; did you mean 'prompt'?"),
        ("[{prompt: nowhere.wav}]", "fallback[0].prompt: nowhere.wav: No such file"),
        ("[{prompt: ''}]", "fallback[0].prompt: String should have at least 1 character"),
        ("[{goodbye: goodbye}, {prompt: goodbye}]", "fallback[0].goodbye: it ends the call"),
        ("[{agent: {provider: gemini, voise: x}}]", "fallback[0].agent.voise: unknown key; did you mean 'voice'?"),
        ("[{agent: {}}]", "fallback[0].agent.provider: Field required"),
    ],
)
def test_mistakes_are_named_with_their_line_and_key(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        steps(text)
    assert f"t.yaml:2: {message}" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "fallback:\n  - transfer: desk\n",
            "t.yaml:3: fallback[0].transfer: no target of tools.transfer_call; known are: none",
        ),
        (
            f"{DESK}fallback:\n  - transfer: dest\n",
            "t.yaml:4: fallback[0].transfer: no target of tools.transfer_call; known are: desk",
        ),
        ("fallback:\n  - agent: {provider: gemni}\n", "t.yaml:3: fallback[0].agent.provider: unknown provider 'gemni'"),
        (
            "fallback:\n  - agent:\n      provider: offline\n      greeting: '{{ who }}'\n",
            "t.yaml:5: fallback[0].agent.greeting: unknown names who",
        ),
    ],
)
def test_what_is_wrong_beside_the_rest_is_named_too(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "tenants").mkdir()
    (tmp_path / "tenants" / "t.yaml").write_text(AGENT + text)
    with pytest.raises(ConfigError) as caught:
        TenantDirectory.load(Config(), tmp_path)
    assert message in str(caught.value)


def test_a_key_in_plain_sight_is_warned_of_there_too() -> None:
    config = parse(f"{AGENT}fallback: [{{agent: {{provider: gemini, api_key: abc}}}}]", TenantConfig, "t.yaml")
    assert any(warning.startswith("fallback[0].agent.api_key is written out") for warning in warnings(config))


def test_who_stands_in_has_the_tenants_words_and_its_own_vendors_settings() -> None:
    failed = AgentConfig.model_validate(
        {
            "provider": "openai",
            "model": "gpt-realtime-2.1",
            "voice": "marin",
            "instructions": "Be brief.",
            "greeting": "Hi",
        }
    )
    other = AgentConfig.model_validate({"provider": "gemini", "greeting": "Hello again"})
    found = standing_in(other, failed)
    assert (found.provider, found.model, found.voice) == ("gemini", None, None)
    assert (found.instructions, found.greeting) == ("Be brief.", "Hello again")
