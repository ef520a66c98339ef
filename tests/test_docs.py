"""What is written down is there: examples that load, commands that exist, files that the documents name."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import typer.main

from sipbridge import prompts
from sipbridge.agent_settings import problems
from sipbridge.call_fields import CallFields
from sipbridge.cli import app
from sipbridge.config import Config, load_config
from sipbridge.configfile import parse
from sipbridge.providers import registered_providers
from sipbridge.sip.faults import Fault, StreamFault
from sipbridge.tenant_checks import warnings
from sipbridge.tenant_config import TenantConfig
from sipbridge.tenant_source.directory import TenantDirectory
from tests.sip.certificates import Authority

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
_BUILT_IN = registered_providers()
"""Now: tests register others."""
_BLOCK = re.compile(r"^```\w*\n(.*?)^```", re.MULTILINE | re.DOTALL)


def commands() -> list[tuple[str, str]]:
    """Every `sipbridge ...` line of a code block, with the document that has it."""
    found = []
    for document in DOCUMENTS:
        for block in _BLOCK.findall(document.read_text()):
            for line in re.sub(r"\\\n\s*", "", block).splitlines():
                if re.match(r"(\.venv/bin/)?sipbridge ", line):
                    found.append((document.name, line))
    return found


def test_there_are_commands_to_check() -> None:
    assert len(commands()) >= 5


@pytest.mark.parametrize(("document", "line"), commands())
def test_the_commands_in_the_documents_exist(document: str, line: str) -> None:
    words = shlex.split(line, comments=True)[1:]
    command: Any = typer.main.get_command(app)
    while words and words[0] in getattr(command, "commands", {}):
        command = command.commands[words.pop(0)]
    alone = not getattr(command, "commands", {}) or command.invoke_without_command
    assert alone, f"{document}: {line}: no such command"
    assert words[:1] == [] or words[0].startswith("-") or not hasattr(command, "commands"), f"{document}: {line}"
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    options = {word.partition("=")[0] for word in words if word.startswith("-")}
    assert options <= known | {"--help"}, f"{document}: {line}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_the_files_that_a_document_names_are_there(document: Path) -> None:
    text = document.read_text()
    named = set(
        re.findall(r"`((?:sipbridge|sip|media|providers|tools|codecs|config|docs|scripts|tests)/[\w./]+)`", text)
    )
    missing = [name for name in named if not (ROOT / name).exists() and not (ROOT / "sipbridge" / name).exists()]
    assert not missing


def test_the_tree_in_the_architecture_page_is_the_tree() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    tree = next(block for block in _BLOCK.findall(text) if block.startswith("sipbridge/"))
    named = set(re.findall(r"[\w*]+\.py", tree))
    there = {path.name for path in (ROOT / "sipbridge").rglob("*.py")} - {"__init__.py", "__main__.py"}
    patterns = [re.compile(name.replace(".", r"\.").replace("*", r"\w*")) for name in named]
    assert [file for file in sorted(there) if not any(pattern.fullmatch(file) for pattern in patterns)] == []
    assert [name for name in sorted(named) if "*" not in name and name not in there | {"__init__.py"}] == []
    said = Counter(re.findall(r"[\w*]+\.py", tree))
    files = Counter(path.name for path in (ROOT / "sipbridge").rglob("*.py"))
    assert [name for name, times in said.items() if times > max(1, files[name])] == []


def test_no_key_of_the_configuration_is_explained_twice() -> None:
    for table in re.split(r"^#.*$", (ROOT / "docs" / "configuration.md").read_text(), flags=re.MULTILINE):
        rows = re.findall(r"^\| (`[^|]*?) \|", table, re.MULTILINE)
        assert [row for row in set(rows) if rows.count(row) > 1] == []


def test_the_examples_load_and_ask_for_nothing_that_has_no_effect() -> None:
    config = load_config(ROOT / "config" / "sipbridge.yaml")
    tenants = TenantDirectory.load(config, ROOT / "config")
    assert list(warnings(config)) == []
    assert [warning for tenant in tenants.tenants for warning in warnings(tenant.config)] == []
    found = {number: tenants.resolve(CallFields(to=number)) for number in ("agent", "acme", "+15550100", "nobody")}
    assert {number: tenant and tenant.id for number, tenant in found.items()} == {
        "agent": "demo",
        "acme": "acme",
        "+15550100": "acme",
        "nobody": None,
    }


def counters_in_the_source() -> set[str]:
    """The names under which the SIP stack counts, as patterns; those made of a fault are expanded."""
    names: set[str] = set()
    for path in (ROOT / "sipbridge" / "sip").glob("*.py"):
        for key in re.findall(r"counters\[([^\]]+)\]", path.read_text()):
            for name in re.findall(r'"([^"]+)"', key):
                if name.startswith("malformed_{"):
                    names |= {f"malformed_{fault}" for fault in Fault}
                elif name.startswith("stream_{"):
                    names |= {f"stream_{fault}" for fault in StreamFault}
                else:
                    names.add(re.sub(r"\{[^}]*\}", r"\\w+", name))
    return names


def test_every_counter_is_documented_and_every_documented_one_is_there() -> None:
    """Whoever counts something new says in docs/counters.md what it means; no name changes its meaning."""
    rows = re.findall(r"^\| (`.*?) \|", (ROOT / "docs" / "counters.md").read_text(), re.MULTILINE)
    documented = [name for row in rows for name in re.findall(r"`(\w+)`", row)]
    assert len(documented) == len(set(documented))
    patterns = counters_in_the_source()
    assert [name for name in documented if not any(re.fullmatch(pattern, name) for pattern in patterns)] == []
    assert [pattern for pattern in patterns if not any(re.fullmatch(pattern, name) for name in documented)] == []


_YAML = re.compile(r"^```yaml\n(.*?)^```", re.MULTILINE | re.DOTALL)
RECIPES = [(page, block) for page in DOCUMENTS for block in _YAML.findall(page.read_text())]
_OF_A_TENANT = {field.alias or name for name, field in TenantConfig.model_fields.items()} - {"limits"}
_WHAT_MAY_BE_LEFT_OUT = {
    "agent:": "agent: {provider: offline}\n",
    "transfer_call:": 'tools: {transfer_call: {targets: {desk: "sip:100@pbx.example.com"}}}\n',
}
"""A page shows what it is about: a file also has these."""


@pytest.mark.parametrize(("page", "block"), RECIPES, ids=lambda value: getattr(value, "name", ""))
def test_every_example_in_the_documents_is_a_configuration(
    page: Path, block: str, tmp_path: Path, files_that_examples_name: None
) -> None:
    """Also those of the pages that say that they were not run."""
    keys = set(re.findall(r"^(\w+):", block, re.MULTILINE))
    assert keys, "an example begins at its left edge"
    if not keys & _OF_A_TENANT:
        parse(block, Config, page.name, directory=tmp_path)
        return
    if not keys & {"agent", "agents"}:
        block += _WHAT_MAY_BE_LEFT_OUT["agent:"]
    if "transfer" in block and "tools" not in keys:
        block += _WHAT_MAY_BE_LEFT_OUT["transfer_call:"]
    config = parse(block, TenantConfig, page.name, directory=tmp_path)
    wrong = [fault for at, agent in config.places_of_agents() for fault in problems(agent, at)]
    assert [fault for fault in wrong if fault[0][-1] != "service_account"] == []  # a file of Google's


@pytest.fixture
def files_that_examples_name(tmp_path: Path) -> None:
    """Sounds and certificates; tests/interop has real ones."""
    for sound in ("welcome.wav", "music.wav", "prompts/sorry.wav"):
        (tmp_path / sound).parent.mkdir(exist_ok=True)
        (tmp_path / sound).write_bytes((prompts.DIRECTORY / "one-moment.wav").read_bytes())
    (tmp_path / "keys").mkdir()
    authority = Authority(tmp_path / "keys")
    for stem in ("sipbridge", "node"):
        authority.issue("sipbridge.example.com", stem=stem)


def test_what_was_not_run_says_so_at_the_top() -> None:
    pages = {page.stem: page.read_text() for page in DOCUMENTS if page.parent.name == "pbx" and page.stem != "README"}
    not_run = {name for name, text in pages.items() if "**Not run" in text.partition("\n\n")[2][:20]}
    assert pages.keys() - not_run == {"asterisk", "kamailio"}


def test_the_readme_names_every_provider() -> None:
    text = (ROOT / "README.md").read_text()
    missing = [slug for slug in _BUILT_IN if f"`{slug}`" not in text]
    assert missing == []
