"""`tools:` in a tenant's file: what is accepted, and that what is not is named by file, line and key."""

from __future__ import annotations

from pathlib import Path

import pytest

from sipbridge.config import Config
from sipbridge.configfile import parse
from sipbridge.errors import ConfigError
from sipbridge.tenant_checks import warnings
from sipbridge.tenant_config import TenantConfig
from sipbridge.tenant_source.directory import TenantDirectory
from tests.tools.asked import tools

HTTP = "  http:\n    - name: order\n      description: d\n"
URL = "      url: https://api.example.com/orders\n"
NUMBER = "      parameters: {properties: {number: {type: string}}, required: [number]}\n"


def test_what_the_documentation_shows_is_accepted() -> None:
    config = tools(HTTP + NUMBER + URL + "  python: ['mypackage.tools:lookup']\n  mcp: []\n")
    (order,) = config.http
    assert (order.method, order.allow_private, order.timeout_seconds, order.retries) == ("POST", False, None, None)
    assert order.parameters["type"] == "object"
    assert config.names() == frozenset({"order", "lookup"})
    assert (config.quotas.per_call, config.quotas.per_minute) == (50, 600)
    assert config.waiting is None


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (HTTP, "t.yaml:4: tools.http[0].url: Field required"),
        (HTTP + URL + "      heders: {}\n", "t.yaml:7: tools.http[0].heders: unknown key; did you mean 'headers'?"),
        (HTTP + URL + "      method: BREW\n", "t.yaml:7: tools.http[0].method: Input should be 'GET', 'HEAD'"),
        (HTTP + "      url: 'ftp://x/'\n", "t.yaml:6: tools.http[0].url: http://HOST or https://HOST is expected"),
        (HTTP + "      url: 'https://{{ arguments.host }}/'\n", "no template before the first slash"),
        (HTTP + "      url: 'https://a{{ call.to }}.example.com/'\n", "no template before the first slash"),
        (
            HTTP + "      url: 'https://me:pass@example.com/'\n",
            "no user and password in it; a key belongs into headers",
        ),
        (
            HTTP + "      url: 'https://x/{{ arguments.nr }}'\n" + NUMBER,
            "arguments.nr: parameters has no such property",
        ),
        (HTTP + "      url: 'https://x/{{ number }}'\n" + NUMBER, "unknown name 'number'; 'arguments', 'call'"),
        (HTTP + "      url: 'https://x/{{ call.from'\n", "t.yaml:6: tools.http[0].url: not a valid template"),
        (HTTP + URL + "      body: {n: '{{ arguments.nr }}'}\n", "t.yaml:7: tools.http[0].body: arguments.nr"),
        (HTTP + URL + "      method: GET\n      body: {}\n", "t.yaml:8: tools.http[0].body: GET has none"),
        (HTTP + URL + "      parameters: {type: strng}\n", "t.yaml:7: tools.http[0].parameters: no JSON Schema: type"),
        (HTTP + URL + "      parameters: {type: array}\n", "tools.http[0].parameters: type: object is expected"),
        (HTTP + URL + "      headers: {Host: x}\n", "'Host' cannot be the name of a header field here"),
        (HTTP + URL + "      headers: {'X Y': x}\n", "'X Y' cannot be the name of a header field here"),
        (HTTP + URL + "      timeout_seconds: 0\n", "t.yaml:7: tools.http[0].timeout_seconds: Input should be greater"),
        ("  http: [{name: 'a b', description: d, url: 'https://x/'}]\n", "tools.http[0].name: String should match"),
        ("  http: [{name: hang_up, description: d, url: 'https://x/'}]\n", "http[0].name: there is another tool"),
        ("  python: ['a:f', 'b:f']\n", "t.yaml:3: tools.python[1]: there is another tool 'f'"),
        ("  python: [lookup]\n", "t.yaml:3: tools.python[0]: MODULE:FUNCTION is expected, not 'lookup'"),
        ("  mcp: [{name: shop}]\n", "tools.mcp[0].command: either command (a program) or url (a server) is expected"),
        ("  mcp: [{name: shop, command: x, url: 'https://x/'}]\n", "tools.mcp[0].command: either command"),
        (
            "  mcp: [{name: shop, url: 'https://x/', args: [y]}]\n",
            "tools.mcp[0].args: has a meaning beside command only",
        ),
        ("  mcp: [{name: a, command: x}, {name: a, command: y}]\n", "tools.mcp[1].name: there is another server 'a'"),
        ("  pass_through: [{name: show}]\n", "t.yaml:3: tools.pass_through[0].description: Field required"),
        ("  waiting: {after_seconds: 1}\n", "t.yaml:3: tools.waiting.sound: sound (tone, or a WAV file) or say"),
        ("  waiting: {sound: none.wav}\n", "t.yaml:3: tools.waiting.sound: none.wav: No such file"),
        (
            HTTP + URL + "      parameters: {propertis: {number: {type: string}}}\n",
            "t.yaml:7: tools.http[0].parameters: propertis: no keyword of JSON Schema; did you mean 'properties'?",
        ),
        (
            HTTP + URL + "      parameters: {number: {type: string}}\n",
            "t.yaml:7: tools.http[0].parameters: number: no keyword of JSON Schema; arguments stand under properties",
        ),
        (HTTP + "      url: 'https://x/{{ call.form }}'\n", "tools.http[0].url: call.form: did you mean 'call.from'?"),
        ("  quotas: {per_call: -1}\n", "t.yaml:3: tools.quotas.per_call: Input should be greater than or equal to 0"),
    ],
)
def test_what_is_wrong_is_named(text: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        tools(text)
    assert problem in str(caught.value)


def test_a_secret_is_never_quoted() -> None:
    with pytest.raises(ConfigError) as caught:
        tools(HTTP + "      url: 'https://me:sesame@example.com/'\n      headers: {X-Key: '${sesame'}\n")
    assert "sesame" not in str(caught.value)


def test_a_function_that_is_not_there_is_found_when_the_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "tenants").mkdir()
    text = "agent: {provider: offline}\ntools:\n  python:\n    - 'tests.tools.functions:nope'\n"
    (tmp_path / "tenants" / "acme.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"acme\.yaml:4: tools\.python\[0\]: tests\.tools\.functions has no function"):
        TenantDirectory.load(Config(), tmp_path)


def test_a_key_that_is_written_out_is_warned_of() -> None:
    text = "agent: {provider: offline}\ntools:\n" + HTTP + URL + "      headers: {X-Api-Key: abc, Accept: text/plain}\n"
    config = parse(text, TenantConfig, "t.yaml")
    assert [words for words in warnings(config) if words.startswith("tools.http[0].headers")] == [
        "tools.http[0].headers.X-Api-Key is written out in the file; ${NAME} or file:PATH would keep it out"
    ]
