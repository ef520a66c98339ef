"""`history.store` as it is written, and as it is used."""

from __future__ import annotations

import pytest

from sipbridge.config_shown import shown
from sipbridge.configfile import parse
from sipbridge.errors import ConfigError
from sipbridge.gateway_file.history import HistoryConfig


@pytest.mark.parametrize(
    ("written", "used"),
    [
        ("postgresql://sipbridge:${PASSWORD}@db:5432/calls", "postgresql://sipbridge:p%40ss%2Fw%3Ard@db:5432/calls"),
        ("postgresql://${USER_}:${PASSWORD}@${HOST_}/calls", "postgresql://ann:p%40ss%2Fw%3Ard@[::1]:5432/calls"),
        ("postgresql+asyncpg://u@a,b/calls?sslmode=require", "postgresql+asyncpg://u@a,b/calls?sslmode=require"),
        ("postgresql:///calls?host=/run/postgresql", "postgresql:///calls?host=/run/postgresql"),
        ("https://example.com/history/${USER_}", "https://example.com/history/ann"),
    ],
)
def test_variables_stand_for_their_values(monkeypatch: pytest.MonkeyPatch, written: str, used: str) -> None:
    monkeypatch.setenv("PASSWORD", "p@ss/w:rd")
    monkeypatch.setenv("USER_", "ann")
    monkeypatch.setenv("HOST_", "[::1]:5432")
    config = HistoryConfig(store=written)
    assert config.store == written
    assert config.store_url() == used


def test_a_variable_that_is_not_set_is_named() -> None:
    with pytest.raises(ConfigError, match="NO_SUCH_PASSWORD is not set"):
        HistoryConfig(store="postgresql://u:${NO_SUCH_PASSWORD}@db/calls").store_url()


def test_a_password_that_is_written_out_is_not_shown() -> None:
    text = shown(HistoryConfig(store="postgresql://u:hunter2@db/calls"))
    assert "hunter2" not in text
    assert "postgresql://***@db/calls" in text


def test_what_is_missing_for_it_is_said_with_its_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "sipbridge.gateway_file.history.find_spec", lambda name: None if name == "asyncpg" else object()
    )
    with pytest.raises(ConfigError, match=r"x:1: store: asyncpg is not installed: pip install 'sipbridge\[postgres\]'"):
        parse("store: postgresql://u@db/calls", HistoryConfig, "x")
    parse("store: sqlite:///x.db", HistoryConfig, "x")
