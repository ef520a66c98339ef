"""Tests of this folder may be coroutines, as those of `tests/loopback`."""

from __future__ import annotations

from tests.loopback.conftest import pytest_pyfunc_call

__all__ = ["pytest_pyfunc_call"]
