"""The store in a file keeps what every store promises."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sipbridge.history.sink import Store
from sipbridge.history.sqlite_store import SqliteStore
from tests.history.store_contract import StoreContract


class TestContract(StoreContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Callable[[], Store]:
        return lambda: SqliteStore(tmp_path / "var" / "history.db")
