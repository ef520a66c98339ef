"""What tenants' files have been."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from sipbridge.errors import ConfigError
from sipbridge.tenant_source.files import no_longer_set, without_secrets, write_whole
from sipbridge.tenant_source.versions import KEPT, Text, Versions, digest_of


def kept(versions: Versions, text: str, tenant: str = "a", at: float = 1.0) -> int:
    return versions.keep([Text(tenant, text, without_secrets(text))], at=at)[tenant]


def test_each_text_has_a_number_and_the_same_one_no_other(tmp_path: Path) -> None:
    versions = Versions(tmp_path / "v")
    assert [kept(versions, text) for text in ("x: 1\n", "x: 1\n", "x: 2\n", "x: 1\n")] == [1, 1, 2, 3]
    assert kept(versions, "x: 9\n", tenant="b") == 1
    again = Versions(tmp_path / "v")  # as after a restart
    assert kept(again, "x: 1\n") == 3
    assert [version.number for version in again.history("a")] == [3, 2, 1]
    assert again.history("a")[0].digest == digest_of("x: 1\n")
    assert again.text("a", 2) == "x: 2\n"
    assert again.text("a", 4) is None
    assert {tenant: text for tenant, (_, text) in again.newest(["a", "b", "c"]).items()} == {
        "a": "x: 1\n",
        "b": "x: 9\n",
    }


def test_the_oldest_go_first(tmp_path: Path) -> None:
    versions = Versions(tmp_path)
    for number in range(KEPT + 5):
        kept(versions, f"x: {number}\n")
    history = versions.history("a")
    assert (len(history), history[0].number, history[-1].number) == (KEPT, KEPT + 5, 6)


def test_secrets_that_are_written_out_are_not_kept(tmp_path: Path) -> None:
    text = (
        "agent: {provider: openai, api_key: 'sk-äcanary1', instructions: 'keys: token'}  # é\n"
        "tools:\n  http:\n  - {name: t, headers: {X-Api-Key: canary2, X-Tenant: acme}}\n"
        "  mcp:\n  - {name: m, env: {MY_TOKEN: canary3, HOME: /x}, headers: {Authorization: '${TOKEN}'}}\n"
        "fallback:\n- agent:\n    api_key: |\n      canary4\n    extra: {max_tokens: 5, password: canary5}\n"
        "keys: text\n"
    )
    versions = Versions(tmp_path)
    kept(versions, text)
    (version,) = versions.history("a")
    assert not version.complete
    shown = versions.text("a", 1)
    assert shown is not None
    assert shown.count('"***"') == 5
    for there in ("keys: token", "X-Tenant: acme", "HOME: /x", "'${TOKEN}'", "max_tokens: 5", "# é", "keys: text\n"):
        assert there in shown
    for file in tmp_path.iterdir():
        assert b"canary" not in file.read_bytes()
    assert stat.S_IMODE(tmp_path.stat().st_mode) & 0o700 == 0o700


def test_references_are_kept_as_they_are() -> None:
    text = "agent: {api_key: '${KEY}', extra: {secret: 'file:/run/key'}}\n"
    assert without_secrets(text) == text


def test_what_cannot_be_kept_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"versions.db: cannot be written"):
        kept(Versions(tmp_path / "file"), "x: 1\n")
    with pytest.raises(ConfigError, match="no version has been kept yet"):
        Versions(tmp_path / "empty").history("a")
    (tmp_path / "versions.db").write_bytes(b"no database" * 1000)
    with pytest.raises(ConfigError, match="cannot be read"):
        Versions(tmp_path).history("a")
    with pytest.raises(ConfigError, match="cannot be written"):
        kept(Versions(tmp_path), "x: 1\n")


def test_keys_that_a_file_has_lost() -> None:
    before = "agent: {provider: x, greeting: Hi, voice: v}\ntools: {hang_up: {}}\nrings: 2\n"
    assert no_longer_set(before, "agent: {provider: x}\nrings: 3\n") == ["agent.greeting", "agent.voice", "tools"]
    assert no_longer_set(before, before) == []
    assert no_longer_set("a: [", before) == []


def test_a_file_is_there_as_a_whole_or_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("old")
    path.chmod(0o640)
    write_whole(path, "näw\r\n")
    assert path.read_bytes() == "näw\r\n".encode()
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert [file.name for file in tmp_path.iterdir()] == ["a.yaml"]
