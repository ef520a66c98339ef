from __future__ import annotations

from collections.abc import Iterator

import pytest
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
