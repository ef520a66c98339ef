"""The page that says how a provider is added: its example is taken from it, and every scenario is run over it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from textwrap import dedent
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


def test_from_outside_the_package(tmp_path: Path) -> None:
    """What the page says of a provider in a file of one's own, by the command line."""
    (starter,) = re.findall(r"^   ```python\n(.*?)^   ```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    (tmp_path / "parrot.py").write_text(example())
    (tmp_path / "gateway.py").write_text(dedent(starter))
    (tmp_path / "tenants").mkdir()
    (tmp_path / "tenants" / "t.yaml").write_text("agent: {provider: parrot, voice: captein}")
    (tmp_path / "sipbridge.yaml").write_text("")
    command = [sys.executable, "gateway.py", "check", "--offline", "-c", "sipbridge.yaml"]
    environment = {**os.environ, "PYTHONPATH": str(PAGE.parents[2])}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout) == (2, "")
    assert "t.yaml:1: agent.voice: parrot has no voice 'captein'; did you mean 'captain'?" in done.stderr
    (tmp_path / "tenants" / "t.yaml").write_text("agent: {provider: parrot, voice: captain}")
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stderr) == (0, "")
