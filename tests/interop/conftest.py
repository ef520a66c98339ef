"""One gateway for all tests with real peers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.interop.gateway import GatewayProcess, running_gateway
from tests.interop.peers import free_port
from tests.interop.postgres import Postgres, running_postgres

DESK_ADDRESS = "127.0.0.4"


@pytest.fixture(scope="session")
def desk_port() -> int:
    """Where the person sits whom a caller may be transferred to."""
    return free_port(DESK_ADDRESS)


@pytest.fixture(scope="session")
def gateway_process(tmp_path_factory: pytest.TempPathFactory, desk_port: int) -> Iterator[GatewayProcess]:
    with running_gateway(tmp_path_factory.mktemp("gateway"), desk=f"sip:baresip@{DESK_ADDRESS}:{desk_port}") as gateway:
        yield gateway


@pytest.fixture(scope="session")
def server() -> Iterator[Postgres]:
    """One PostgreSQL, which who troubles it makes well again."""
    with running_postgres() as running:
        yield running


@pytest.fixture
def gateway(gateway_process: GatewayProcess) -> GatewayProcess:
    """The gateway, with the calls of earlier tests forgotten."""
    gateway_process.forget()
    return gateway_process
