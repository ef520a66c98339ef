"""Options mean the same everywhere: what is sent, what the operator is told, what is refused."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from sipbridge.agent import Capabilities, TurnDetection
from sipbridge.agent_settings import lacking, problems
from sipbridge.audio import PCM_16K, PCM_24K
from sipbridge.call_fields import CallFields
from sipbridge.config import Config
from sipbridge.configfile import dotted, parse
from sipbridge.errors import ConfigError
from sipbridge.providers import register
from sipbridge.tenant_checks import warnings
from sipbridge.tenant_config import TenantConfig
from sipbridge.tenant_source.directory import TenantDirectory
from sipbridge.tenants import Tenant

POOR = Capabilities(
    takes_tools=False, can_say=False, voices=("Tina", "Ethan", "Jennifer"), turn_detection=frozenset({"server_vad"})
)
RICH = Capabilities(
    takes_temperature=(0.6, 1.2),
    takes_language=True,
    transcribes_interim=True,
    can_leave_interrupting=True,
    turn_detection=frozenset({"server_vad", "semantic_vad", "none"}),
)


class Model:
    """One slug, two models that differ in what they take."""

    capabilities = POOR

    @classmethod
    def capabilities_for(cls, credential: Mapping[str, Any]) -> Capabilities:
        return RICH if credential.get("model") == "rich" else POOR

    def __call__(self, credential: object, options: object) -> object:
        return object()


@pytest.fixture(autouse=True)
def _provider() -> None:
    register(Model(), "both")  # type: ignore[arg-type]


def tenant(agent: str, more: str = "") -> Tenant:
    return Tenant("t", parse(f"agent: {{provider: both, {agent}}}\n{more}", TenantConfig, "t.yaml"))


def said(agent: str, more: str = "") -> list[str]:
    return list(warnings(tenant(agent, more).config))


def sent(agent: str, more: str = "") -> Any:
    return tenant(agent, more).agent_options(CallFields(to="1"), PCM_16K, PCM_24K, ())


def refused(tmp_path: Path, text: str) -> str:
    (tmp_path / "tenants").mkdir()
    (tmp_path / "tenants" / "t.yaml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        TenantDirectory.load(Config(), tmp_path)
    return str(caught.value).replace(str(tmp_path), "")


@pytest.mark.parametrize(
    ("agent", "value", "words"),
    [
        ("model: rich", None, []),
        ("model: rich, temperature: 0.8", 0.8, []),
        ("model: rich, temperature: 2", 1.2, ["agent.temperature is clamped to 0.6..1.2, the range of both rich"]),
        ("temperature: 0.8", None, ["agent.temperature is not sent: both takes none"]),
        ("model: m, temperature: 0.8", None, ["agent.temperature is not sent: both m takes none"]),
    ],
)
def test_temperature_by_the_model(agent: str, value: float | None, words: list[str]) -> None:
    assert sent(agent).temperature == value
    assert said(agent) == words


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("Tina", "Tina", []),
        ("ETHAN", "Ethan", ["agent.voice: 'ETHAN' is spelled 'Ethan' by both, and is sent so"]),
        (
            "clone-4711",
            "clone-4711",
            [
                "agent.voice: 'clone-4711' is not among the voices known of both (Tina, Ethan, Jennifer);"
                " it is sent as it is"
            ],
        ),
    ],
)
def test_voices(name: str, value: str, words: list[str]) -> None:
    assert sent(f"voice: {name}").voice == value
    assert said(f"voice: {name}") == words


@pytest.mark.parametrize(("name", "meant"), [("Tinna", "Tina"), ("jenifer", "Jennifer"), ("Etan", "Ethan")])
def test_a_voice_that_is_misspelled_is_an_error_with_its_place(tmp_path: Path, name: str, meant: str) -> None:
    text = refused(tmp_path, f"agent:\n  provider: both\n  voice: {name}\n")
    assert text == f"/tenants/t.yaml:3: agent.voice: both has no voice {name!r}; did you mean {meant!r}?"


@pytest.mark.parametrize(("provider", "taken"), [("openai", False), ("gemini", False), ("ultravox", True)])
def test_an_address_over_http_is_for_those_that_are_asked_so(provider: str, taken: bool) -> None:
    text = f"agent: {{provider: {provider}, url: https://api.example.com}}"
    words = "must begin with wss:// or ws://"
    found = list(problems(parse(text, TenantConfig, "t.yaml").agent))
    assert found == ([] if taken else [(("agent", "url"), words)])


def test_any_voice_goes_where_none_are_known() -> None:
    assert sent("model: rich, voice: whoever").voice == "whoever"
    assert said("model: rich, voice: whoever") == []


def test_turn_detection_that_a_model_does_not_know_is_its_own_way() -> None:
    asked = "turn_detection: {type: semantic_vad, eagerness: low}"
    assert sent(asked).turn_detection == TurnDetection()
    assert said(asked) == [
        "agent.turn_detection: both knows no semantic_vad; it finds turns in its own way, and the other settings there"
        " are not sent"
    ]
    assert sent(f"model: rich, {asked}").turn_detection == TurnDetection("semantic_vad", eagerness="low")
    assert said(f"model: rich, {asked}") == []


@pytest.mark.parametrize(
    ("turns", "words"),
    [
        (
            "{type: server_vad, eagerness: low}",
            "agent.turn_detection.eagerness is not sent: both rich has none for server_vad",
        ),
        (
            "{type: semantic_vad, silence_ms: 5}",
            "agent.turn_detection.silence_ms is not sent: both rich has none for semantic_vad",
        ),
        ("{type: none}", "agent.turn_detection.type none: nothing here ends the caller's turns, so none is answered"),
        (
            "{type: local_vad, threshold: 0.4}",
            "agent.turn_detection.threshold has no effect: our own ear finds the turns (local_vad)",
        ),
    ],
)
def test_turn_settings_that_come_to_nothing(turns: str, words: str) -> None:
    (warning,) = said(f"model: rich, turn_detection: {turns}")
    assert warning.startswith(words)


def test_everything_that_a_poor_model_lacks_is_said() -> None:
    agent = "language: de, transcripts: {interim: true}, greeting: Hello., farewell: Bye."
    more = "tools: {hang_up: {}}\nbarge_in: {enabled: false}\nrecording: {enabled: true, notice: We record.}"
    assert [warning.partition(":")[0].partition(" ")[0] for warning in said(agent, more)] == [
        "agent.language",
        "agent.transcripts.interim",
        "agent.greeting",
        "agent.farewell",
        "tools",
        "recording.notice",
        "barge_in.enabled",
    ]
    assert said(f"model: rich, {agent}", more) == []


def test_a_voice_of_its_own_has_a_list_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from sipbridge.providers.speech.cartesia import CartesiaVoice

    monkeypatch.setattr(CartesiaVoice, "voices", ("Skylar", "Ariana"))
    agent = "provider: openai, api_key: k, voice: marin, voice_provider: {provider: cartesia, api_key: k, voice: %s}"
    one = Tenant("t", parse(f"agent: {{{agent % 'skylar'}}}", TenantConfig, "t.yaml"))
    assert one.credential()["voice_provider"]["voice"] == "Skylar"
    assert [text.partition(":")[0] for text in warnings(one.config) if "written out" not in text] == [
        "agent.voice",
        "agent.voice_provider.voice",
        "agent.voice has no effect",
    ]
    wrong = refused(
        tmp_path,
        "agent:\n  provider: openai\n  api_key: k\n  voice_provider: {provider: cartesia, api_key: k, voice: Skyler}\n",
    )
    assert wrong == (
        "/tenants/t.yaml:4: agent.voice_provider.voice: cartesia has no voice 'Skyler'; did you mean 'Skylar'?"
    )


@pytest.mark.parametrize(
    ("agent", "message"),
    [
        ("provider: azure_openai,\n  model: m", "1: agent.url: is needed, e.g. wss://RESOURCE.openai.azure.com"),
        ("provider: elevenlabs", "1: agent.agent_id: is needed"),
        ("provider: dashscope, api_key: k,\n  region: us", "2: agent.region: 'us' is none of cn, intl"),
        ("provider: dashscope,\n  workspace: x.example.com/", "2: agent.workspace: "),
        ("provider: nova_sonic, aws:\n  {access_key_id: k}", "1: agent.aws: access_key_id and secret_access_key are"),
        ("provider: cascade,\n  stt: {provider: deepgram, api_key: k}", "1: agent.llm: a cascade is made of"),
        ("provider: openai, api_key: k, voice_provider:\n  {provider: cartesa}", "2: agent.voice_provider.provider: "),
        (
            "provider: openai, api_key: k, voice_provider:\n  {provider: cartesia, voice: v, url: 'https://x'}",
            "2: agent.voice_provider.url: must begin with wss:// or ws://",
        ),
        ("provider: openai,\n  url: 'wss://u:p4ss@x/'", "2: agent.url: no user and password in it"),
        ("provider: openai,\n  url: 'wss://x:99999/'", "2: agent.url: a full URL"),
        ("provider: openai,\n  url: 'wss://[::1/'", "2: agent.url: a full URL"),
        ("provider: openai,\n  api_key: '${OPENAI-KEY}'", "2: agent.api_key: a secret of the environment is ${NAME}"),
        ("provider: gemini, api_key: k,\n  temperature: .nan", "2: agent.temperature: "),
        (
            "provider: gemini, vertex:\n  {project: p, location: global, service_account: none.json}",
            "2: agent.vertex.service_account: /tenants/none.json cannot be read: No such file",
        ),
        (
            "provider: gemini, vertex:\n  {project: p, location: global, service_account: t.yaml}",
            "2: agent.vertex.service_account: /tenants/t.yaml is no key file",
        ),
    ],
)
def test_what_no_call_could_be_made_with_is_a_mistake_in_the_file(tmp_path: Path, agent: str, message: str) -> None:
    said = refused(tmp_path, f"agent: {{{agent}}}\n")
    assert said.startswith(f"/tenants/t.yaml:{message}")
    assert "p4ss" not in said


@pytest.mark.parametrize(
    ("agent", "places"),
    [
        ("provider: openai", ["agent.api_key"]),
        ("provider: openai, url: 'ws://127.0.0.1:8765/v1/realtime'", []),
        ("provider: gemini", ["agent.api_key"]),
        ("provider: gemini, vertex: {project: p, location: global, token: t}", []),
        ("provider: azure_openai, model: m, url: 'wss://r.openai.azure.com'", ["agent.api_key"]),
        ("provider: azure_openai, model: m, url: 'wss://x', token: t", []),
        (
            "provider: cascade, stt: {provider: deepgram}, llm: {provider: openai, model: m}, tts: {provider: openai}",
            ["agent.tts.api_key", "agent.stt.api_key", "agent.llm.api_key"],
        ),
    ],
)
def test_a_key_that_lacks_is_told_and_is_that_tenants_own_trouble(agent: str, places: list[str]) -> None:
    config = parse(f"agent: {{{agent}}}", TenantConfig, "t.yaml")
    assert list(problems(config.agent)) == []
    assert [dotted(place) for place, _ in lacking(config.agent)] == places
    said = [text for text in warnings(config) if "480" in text]
    assert [text.partition(" is needed")[0] for text in said] == places


def test_what_the_installation_lacks_is_no_mistake_of_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sipbridge.providers.nova_sonic.sdk_is_there", lambda: False)
    config = parse("agent: {provider: nova_sonic}", TenantConfig, "t.yaml")
    assert list(problems(config.agent)) == []
    assert any("pip install 'sipbridge[nova]'" in text for text in warnings(config))


@pytest.mark.parametrize(
    ("agent", "keys"),
    [
        (
            "provider: xai, api_key: k, vertex: {project: p, location: global, token: t}, region: intl",
            ["region", "vertex"],
        ),
        ("provider: openai, api_key: k, shape: beta, think: {model: m}", ["shape", "think"]),
        ("provider: openai_compatible, url: 'ws://x', shape: beta, g711: true, output_rate: 16000", []),
        ("provider: ultravox, api_key: k, organization: o, shape: auto", ["organization"]),
        ("provider: both, region: anywhere", []),
    ],
)
def test_keys_that_are_another_providers_are_warned_of(agent: str, keys: list[str]) -> None:
    said = warnings(parse(f"agent: {{{agent}}}", TenantConfig, "t.yaml"))
    assert [text.split()[0] for text in said if "does not know it" in text] == [f"agent.{key}" for key in keys]


SEVERAL = """
agents:
  triage: {provider: both, model: rich}
  billing:
    provider: both
    temperature: 0.5
    greet: true
  booking: {provider: both, language: de}
tools: {hang_up: {}}
"""


def test_every_agent_of_several_is_looked_at_under_its_own_name() -> None:
    config = parse(SEVERAL, TenantConfig, "t.yaml")
    assert list(warnings(config)) == [
        "agents.billing.temperature is not sent: both takes none",
        "agents.billing.provider: both calls no tools here, so this agent hands over to nobody",
        "agents.billing.greet has no effect: there is no greeting to say",
        "agents.booking.language is not sent: both takes none; say in the instructions which language to speak",
        "agents.booking.provider: both calls no tools here, so this agent hands over to nobody",
        "tools: both calls none here, so none of them is ever used; `phrases` may stand in for them",
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("voice: Tinna", "agents.billing.voice: both has no voice 'Tinna'; did you mean 'Tina'?"),
        ("instructions: '{{ caller }}'", "agents.billing.instructions: unknown names caller"),
        ("greeting: '{{'", "agents.billing.greeting: not a valid template"),
        ("tools: [hangup]", "agents.billing.tools[0]: the tenant has no tool 'hangup'; did you mean 'hang_up'?"),
    ],
)
def test_a_mistake_in_one_of_several_agents_is_an_error_with_its_place(tmp_path: Path, line: str, message: str) -> None:
    text = SEVERAL.replace("temperature: 0.5", line)
    assert refused(tmp_path, text).startswith(f"/tenants/t.yaml:6: {message}")


def test_an_unknown_provider_of_one_of_several(tmp_path: Path) -> None:
    text = refused(tmp_path, "agents:\n  a: {provider: both}\n  b:\n    provider: nobody\n")
    assert text.startswith("/tenants/t.yaml:4: agents.b.provider: ")


def test_a_secret_of_one_of_several_that_is_written_out() -> None:
    text = "agents: {a: {provider: both, model: rich}, b: {provider: both, model: rich, api_key: sk-1}}"
    config = parse(text, TenantConfig, "t.yaml")
    words = "agents.b.api_key is written out in the file; ${NAME} or file:PATH would keep it out"
    assert list(warnings(config)) == [words]
