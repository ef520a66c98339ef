"""The JSON Schemas that editors are given: current, and of one mind with what loads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from sipbridge.config_schema import FILES, schema_of
from sipbridge.configfile import parse
from sipbridge.errors import ConfigError
from tests.test_docs import _OF_A_TENANT, RECIPES

ROOT = Path(__file__).parents[1]
EXAMPLES = [*sorted((ROOT / "config").glob("*.yaml")), *sorted((ROOT / "config" / "tenants").glob("*.yaml"))]


def validator(name: str) -> Draft202012Validator:
    return Draft202012Validator(json.loads((ROOT / "config" / "schema" / name).read_text()))


@pytest.mark.parametrize("name", FILES)
def test_what_is_published_is_current(name: str) -> None:
    """Else: `sipbridge config schema > config/schema/sipbridge.json`, with `--tenant` tenant.json."""
    schema = json.loads((ROOT / "config" / "schema" / name).read_text())
    assert schema == json.loads(json.dumps(schema_of(FILES[name])))
    Draft202012Validator.check_schema(schema)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_the_examples_name_their_schema_and_fit_it(path: Path) -> None:
    first = path.read_text().splitlines()[0]
    named = (path.parent / first.removeprefix("# yaml-language-server: $schema=")).resolve()
    assert named.parent == ROOT / "config" / "schema"
    assert list(validator(named.name).iter_errors(yaml.safe_load(path.read_text()))) == []


@pytest.mark.parametrize(("page", "block"), RECIPES, ids=lambda value: getattr(value, "name", ""))
def test_what_the_documents_show_fits(page: Path, block: str) -> None:
    data = yaml.safe_load(block)
    if not data.keys() & _OF_A_TENANT:
        assert list(validator("sipbridge.json").iter_errors(data)) == []
        return
    if not data.keys() & {"agent", "agents"}:
        data["agent"] = {"provider": "offline"}
    assert list(validator("tenant.json").iter_errors(data)) == []


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("sipbridge.json", "sipp: {}"),
        ("sipbridge.json", "sip: {listen: ['sctp://127.0.0.1:5060']}"),
        ("sipbridge.json", "sip: {listen: udp}"),
        ("sipbridge.json", "media: {ports: 5}"),
        ("sipbridge.json", "media: {ports: many}"),
        ("sipbridge.json", "media: {codecs: [G729]}"),
        ("sipbridge.json", "media: {srtp: sometimes}"),
        ("sipbridge.json", "limits: {max_calls: 0}"),
        ("sipbridge.json", "limits: {max_calls: yes}"),
        ("sipbridge.json", "trunks: [{name: pbx}]"),
        ("sipbridge.json", "trunks: [{sources: ['127.0.0.1/32']}]"),
        ("sipbridge.json", "history: {queue_max: 1}"),
        ("sipbridge.json", "sip: {accounts: [{username: a}]}"),
        ("sipbridge.json", "sip: {nonce_secret: ''}"),
        ("sipbridge.json", "sip: []"),
        ("tenant.json", "{}"),
        ("tenant.json", "agent: {provider: nobody}"),
        ("tenant.json", "agent: {provider: offline, temprature: 1}"),
        ("tenant.json", "agent: {provider: offline, temperature: hot}"),
        ("tenant.json", "agent: {provider: offline}\nmatch: {to: [1]}"),
        ("tenant.json", "agent: {provider: offline}\nmatch: {to: 700}"),
        ("tenant.json", "agent: {provider: offline}\nstorage: some"),
        ("tenant.json", "agent: {provider: offline}\nbarge_in: {fade_ms: 11}"),
        ("tenant.json", "agent: {provider: offline, turn_detection: {type: server-vad}}"),
    ],
)
def test_what_is_refused_is_refused_by_both(name: str, text: str) -> None:
    with pytest.raises(ConfigError):
        _loaded(text, name)
    assert list(validator(name).iter_errors(yaml.safe_load(text)))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("sipbridge.json", "media: {srtp: off}"),
        ("sipbridge.json", "trunks: [{name: a, sources: ['10.0.0.0/8'], srtp: off, refer_targets: '+1555*'}]"),
        ("sipbridge.json", "sip: {nonce_secret: 'file:/run/secret'}\nprices: {openai: {'*': {characters: 1.5}}}"),
        ("tenant.json", "agents: {a: {provider: offline}, b: {provider: offline, description: x}}"),
        ("tenant.json", "agent: {provider: offline, extra: {anything: [1, {at: all}]}}\nmatch: {from: '+1*'}"),
        ("tenant.json", "agent: {provider: offline}\nwaiting_sound: null\ntools: {hang_up: {}}"),
    ],
)
def test_what_loads_fits(name: str, text: str) -> None:
    _loaded(text, name)
    assert list(validator(name).iter_errors(yaml.safe_load(text))) == []


def _loaded(text: str, name: str) -> Any:
    """As the gateway does: what only a provider knows is looked at, too."""
    from sipbridge.agent_settings import problems

    config: Any = parse(text, FILES[name], name)
    places = config.places_of_agents() if name == "tenant.json" else ()
    wrong = [fault for at, agent in places for fault in problems(agent, at)]
    if wrong:
        raise ConfigError(str(wrong))
    return config


def test_editors_are_told_what_the_source_says_of_a_key() -> None:
    schema = schema_of(FILES["tenant.json"])
    keys = schema["$defs"]["AgentConfig"]["properties"]
    assert keys["greet"]["description"].startswith("Where the caller is handed over to it, it says its greeting")
    assert "file:PATH" in json.dumps(keys["api_key"])
    assert "openai" in keys["provider"]["enum"]
