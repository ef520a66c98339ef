from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import HealthCheck, settings

from sipbridge import providers
from sipbridge.simulator import model

# The same examples everywhere, and no limit by the clock: a busy machine is no reason to fail.
settings.register_profile("steady", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("steady")


@pytest.fixture(autouse=True)
def _registries_as_they_were() -> Iterator[None]:
    """A provider or a simulated wire that a test registers is gone with the test: none is seen by the next one."""
    known, wires = dict(providers._providers), dict(model.WIRES)
    yield
    for registry, before in ((providers._providers, known), (model.WIRES, wires)):
        registry.clear()
        registry.update(before)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    """A command that a test runs sets up logging, to an error output that ends with it."""
    before = structlog.get_config()
    handlers = list(logging.getLogger().handlers)
    yield
    if structlog.get_config()["logger_factory"] is not before["logger_factory"]:
        structlog.configure(**before)
        logging.getLogger().handlers[:] = handlers
