from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.providers.judges import all_judged


@pytest.fixture(scope="session", autouse=True)
def _every_message_judged() -> Iterator[None]:
    """Also those that went over a real socket."""
    with all_judged():
        yield
