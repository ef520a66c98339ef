"""The page that says how a provider is added: its example is taken from it, and every scenario is run over it."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType

import pytest

from sipbridge.providers import register
from sipbridge.simulator.model import WIRES
from tests.providers.scenarios import parrot
from tests.providers.scenarios.bench import Bench
from tests.providers.scenarios.outcomes import outcome
from tests.providers.scenarios.scenarios import SCENARIOS, Scenario

PAGE = Path(__file__).parents[3] / "docs" / "providers" / "adding-one.md"
PARROT = Bench("parrot")


def example() -> str:
    (code,) = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return str(code)


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("parrot_of_the_page")
    exec(compile(example(), str(PAGE), "exec"), module.__dict__)
    register(module.ParrotDialect, "parrot")
    monkeypatch.setitem(WIRES, "parrot", parrot.ParrotModel)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_the_example(scenario: Scenario) -> None:
    assert parrot.ParrotModel.path == "/talk"
    assert scenario.possible(PARROT)
    if (error := outcome(PARROT, scenario)) is not None:
        raise error


def test_it_is_short() -> None:
    assert len([line for line in example().splitlines() if line.strip()]) < 100
