"""A backend's document: what it may say, and what it may name of this machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sipbridge.config import Config
from sipbridge.configfile import parse
from sipbridge.errors import ConfigError
from sipbridge.tenant_source.document import Document, read_document

AGENT = {"provider": "offline"}


def read(data: object, *, config: str = "", directory: Path = Path("/nowhere")) -> Document:
    body = data if isinstance(data, bytes) else json.dumps(data).encode()
    settings = parse(config, Config, "sipbridge.yaml")
    return read_document(body, name="http://b/t", config=settings, directory=directory, nameless="+15550100")


def refused(data: object, **more: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        read(data, **more)
    return str(caught.value)


def test_it_has_the_shape_of_a_file_and_a_name() -> None:
    found = read({"id": "acme", "version": 7, "match": {"to": "1"}, "agent": AGENT, "rings": 3})
    assert (found.id, found.version, found.config.rings) == ("acme", 7, 3)
    assert found.match is not None
    assert found.match.to == ("1",)


def test_without_a_name_it_is_the_dialled_number() -> None:
    found = read({"agent": AGENT})
    assert (found.id, found.version, found.match) == ("+15550100", 0, None)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"<html>Bad gateway</html>", "http://b/t: no JSON"),
        (b"", "no JSON"),
        (b"\xff\xfe", "no JSON"),
        (b'{"agent": {"provider": "offl', "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b'{"id": "a", "id": "b"}', "key given twice: id"),
        (b'{"rings": NaN}', "NaN is no number"),
        ([AGENT], "an object is expected, not list"),
        ({}, "http://b/t: agent: Field required"),
        ({"agent": {**AGENT, "temprature": 1}}, "agent.temprature: unknown key; did you mean 'temperature'?"),
        ({"agent": {**AGENT, "temperature": "hot"}}, "http://b/t: agent.temperature: "),
        ({"agent": {**AGENT, "instructions": "{{ nobody }}"}}, "http://b/t: agent.instructions: unknown names nobody"),
        ({"agent": {"provider": "opnai"}}, "agent.provider"),
        ({"agent": AGENT, "tools": None}, "tools: a mapping"),
        ({"agent": AGENT, "match": {"trunk": "nowhere"}}, "match.trunk: no trunk is called 'nowhere'"),
        ({"id": "../x", "agent": AGENT}, "id: a name is expected"),
        ({"id": 5, "agent": AGENT}, "id: a name is expected"),
        ({"id": "a\nb", "agent": AGENT}, "id: a name is expected"),
        ({"version": "new", "agent": AGENT}, "version: a whole number"),
        ({"version": True, "agent": AGENT}, "version: a whole number"),
    ],
)
def test_what_is_wrong_is_named_with_url_and_key(data: object, words: str) -> None:
    assert words in refused(data)


def test_all_that_is_wrong_is_said_at_once() -> None:
    said = refused({"agnt": AGENT, "agent": {**AGENT, "temperature": "hot"}, "rings": 99})
    assert [line.split(": ")[1] for line in said.splitlines()] == ["agnt", "agent.temperature", "rings"]


HTTP_TOOL = {
    "name": "t",
    "description": "x",
    "url": "https://api.example.com/",
    "headers": {"X-Key": "file:/etc/hosts"},
}


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"agent": {**AGENT, "api_key": "file:/etc/hosts"}}, "agent.api_key: a backend may not name files"),
        ({"agent": {**AGENT, "api_key": "${PBX_PASSWORD}"}}, "agent.api_key: the variable PBX_PASSWORD is not for"),
        ({"agent": {**AGENT, "api_key": "Bearer ${HOUSE_KEY}"}}, "agent.api_key: the variable HOUSE_KEY is not for"),
        ({"tools": {"http": [HTTP_TOOL]}}, "tools.http[0].headers.X-Key: a backend may not name files"),
        ({"tools": {"python": ["os:system"]}}, "tools.python[0]: the function os:system is not permitted"),
        ({"tools": {"mcp": [{"name": "m", "command": "sh"}]}}, "tools.mcp[0].command: the program sh is not permitted"),
        ({"hold_music": "/etc/passwd"}, "hold_music: '/etc/passwd' does not lie in the tenants' directory"),
        ({"waiting_sound": "../../x.wav"}, "does not lie in the tenants' directory"),
        ({"recording": {"enabled": True, "notice": "/tmp/n.wav"}}, "does not lie in the tenants' directory"),
        (
            {"agent": {**AGENT, "vertex": {"project": "p", "location": "l", "service_account": "/etc/k"}}},
            "does not lie",
        ),
        ({"fallback": [{"prompt": "/tmp/n.wav"}]}, "does not lie in the tenants' directory"),
    ],
)
def test_it_names_nothing_of_this_machine_that_it_may_not(more: dict[str, Any], words: str) -> None:
    config = """
trunks: [{name: pbx, sources: ["127.0.0.1/32"], auth: {username: pbx, password: "${PBX_PASSWORD}"}}]
tenants: {permit: {secrets: ["ACME_*", "PBX_*"]}}
"""
    assert words in refused({"agent": AGENT, **more}, config=config)


def test_what_is_not_permitted_is_not_even_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bad_module_of_a_backend.py").write_text("open('/dev/null'); raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    assert "is not permitted" in refused({"agent": AGENT, "tools": {"python": ["bad_module_of_a_backend:f"]}})


def test_what_it_may_name() -> None:
    config = 'tenants: {permit: {secrets: ["ACME_*"], python: ["tests.tools.shop:*"], programs: [shop-mcp]}}'
    tools = {"python": ["tests.tools.shop:pay"], "mcp": [{"name": "m", "command": "shop-mcp"}]}
    found = read({"agent": {**AGENT, "api_key": "${ACME_KEY}"}, "tools": tools}, config=config)
    assert str(found.config.agent.api_key) == "${ACME_KEY}"
    assert read({"agent": {**AGENT, "api_key": "sk-written-out"}}).config.agent.api_key is not None
