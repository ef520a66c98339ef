"""`sipbridge tenants`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from sipbridge.cli import app
from sipbridge.config import load_config
from sipbridge.errors import ConfigError, SipbridgeError
from sipbridge.tenant_source.directory import TenantDirectory
from sipbridge.tenant_source.opening import load_directory

FIRST = "agent: {provider: offline}\nmatch: {to: agent}\n"
SECOND = "agent:\n  provider: offline\n  greeting: Hello.\nmatch: {to: agent}\n"


class Place:
    def __init__(self, base: Path) -> None:
        self.config = base / "sipbridge.yaml"
        self.file = base / "tenants" / "acme.yaml"
        self.file.parent.mkdir()
        self.config.write_text("sip: {listen: ['udp://127.0.0.1:0']}\n")

    def serve(self, text: str | None = None) -> TenantDirectory:
        """As a gateway would begin with it."""
        if text is not None:
            self.file.write_text(text)
        return load_directory(load_config(self.config), self.config.parent, keep=True)

    def run(self, *words: str) -> Result:
        return CliRunner().invoke(app, ["tenants", *words, "-c", str(self.config)])


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_versions_are_listed_compared_and_put_back(place: Place) -> None:
    place.serve(FIRST)
    place.serve(SECOND)
    (line,) = place.run("list").stdout.splitlines()
    assert line.startswith("acme    2  20")
    newest, oldest = place.run("history", "acme").stdout.splitlines()
    assert newest.split()[0] == "2"
    assert oldest.split()[0] == "1"
    diff = place.run("diff", "acme").stdout
    assert "+  greeting: Hello." in diff
    assert "-agent: {provider: offline}" in diff
    assert "-  greeting: Hello." in place.run("diff", "acme", "2", "1").stdout
    assert place.run("rollback", "acme").stdout == f"{place.file}: version 1 again, as version 3\n"
    assert place.file.read_text() == FIRST
    assert [version["note"] for version in json.loads(place.run("history", "acme", "--json").stdout)][0] == (
        "version 1 again"
    )
    tenant = place.serve().get("acme")
    assert tenant is not None
    assert tenant.version == 3
    assert "version 2 again, as version 4" in place.run("rollback", "acme", "--to", "2").stdout


def test_the_list_names_what_is_refused(place: Place) -> None:
    place.serve(FIRST)
    place.file.write_text(FIRST + "rigns: 3\n")
    (place.file.parent / "b.yaml").write_text(FIRST)
    result = place.run("list")
    assert result.exit_code == 1
    assert f"REFUSED: {place.file}:3: rigns: unknown key; did you mean 'rings'?" in result.stdout
    (place.file.parent / "acme.yaml").write_text(FIRST)
    rows = json.loads(place.run("list", "--json").stdout)
    assert [row["tenant"] for row in rows] == ["acme", "b"]
    assert all("overlap and are equally specific" in row["error"] for row in rows)


def test_a_version_that_is_wrong_by_now_is_not_put_back(place: Place) -> None:
    place.serve(FIRST)
    place.config.write_text("trunks: [{name: pbx, sources: [192.0.2.0/24]}]\n")
    place.serve("agent: {provider: offline}\nmatch: {trunk: pbx}\n")
    place.serve(FIRST)
    place.config.write_text("{}\n")
    result = place.run("rollback", "acme")
    assert isinstance(result.exception, ConfigError)
    assert "match.trunk: no trunk is called 'pbx'" in str(result.exception)
    assert place.file.read_text() == FIRST


def test_a_version_without_its_secrets_is_not_put_back(place: Place) -> None:
    place.serve("agent: {provider: openai, api_key: sk-canary}\n")
    place.serve(FIRST)
    result = place.run("rollback", "acme")
    assert "had secrets written out, which are not kept" in str(result.exception)
    assert "canary" not in place.run("diff", "acme").stdout


@pytest.mark.parametrize("words", [("history", "nobody"), ("diff", "nobody"), ("rollback", "../acme")])
def test_who_is_not_known(place: Place, words: tuple[str, ...]) -> None:
    place.serve(FIRST)
    result = place.run(*words)
    assert isinstance(result.exception, SipbridgeError)
    assert "no version of" in str(result.exception)


def test_a_start_with_a_broken_file_goes_on_with_its_last_version(place: Place) -> None:
    place.serve(FIRST)
    directory = place.serve("agent: {provider: off\n")
    tenant = directory.get("acme")
    assert tenant is not None
    assert tenant.version == 1
    assert "acme.yaml:2: not valid YAML" in directory.refused["acme"]
    (place.file.parent / "new.yaml").write_text("agent: {}\n")
    with pytest.raises(ConfigError, match=r"^.*new.yaml:1: agent.provider: Field required$"):
        place.serve()


def test_without_a_place_for_them_tenants_are_served_without_numbers(place: Place) -> None:
    (place.config.parent / "var").write_text("in the way")
    tenant = place.serve(FIRST).get("acme")
    assert tenant is not None
    assert tenant.version == 0
    place.config.write_text("tenants: {versions: null}\n")
    assert place.serve().get("acme") is not None
    assert "tenants.versions is null" in str(place.run("history", "acme").exception)
