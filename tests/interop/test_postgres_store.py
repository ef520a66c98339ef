"""The store in PostgreSQL, against a real server."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from sipbridge.history.sink import Store
from sipbridge.history.sql_store import SqlStore
from tests.history.store_contract import StoreContract
from tests.interop.postgres import Postgres, running_postgres

pytestmark = pytest.mark.interop


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with running_postgres() as running:
        yield running


class TestContract(StoreContract):
    @pytest.fixture
    def store(self, server: Postgres) -> Callable[[], Store]:
        url = server.plain_url(server.database())
        return lambda: SqlStore(url)
