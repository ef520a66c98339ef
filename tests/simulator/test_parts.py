from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from sipbridge.simulator.cartesia_server import CartesiaModel
from sipbridge.simulator.conversation import Part
from sipbridge.simulator.ears import FluxModel, NovaModel
from sipbridge.simulator.model import Connection, Opening, SessionRecord
from sipbridge.simulator.script import Script
from sipbridge.simulator.speakers import DeepgramSpeakModel

QUERY = {"encoding": ["linear16"], "sample_rate": ["24000"], "cartesia_version": ["2026-08-14"]}


def violations(model: type[Part], headers: dict[str, str], message: str = "") -> list[tuple[str, str]]:
    record = SessionRecord(headers, "/")
    connection = cast(Connection, SimpleNamespace(record=record, send=lambda message: None))
    query = {name: value for name, value in QUERY.items() if (name == "cartesia_version") == (model is CartesiaModel)}
    made: Any = model(connection, Script(), Opening("/", query, headers))
    if message:
        made.receive(message)
    return record.violations


@pytest.mark.parametrize(
    ("model", "scheme"),
    [(CartesiaModel, "Bearer"), (DeepgramSpeakModel, "Token"), (FluxModel, "Token"), (NovaModel, "Token")],
)
def test_a_part_wants_a_key_and_json_objects(model: type[Part], scheme: str) -> None:
    assert violations(model, {}) == [("key", "no key")]
    assert violations(model, {"authorization": "Basic k"}) == [("key", "no key")]
    assert violations(model, {"Authorization": f"{scheme} k"}) == []
    for message in ("[]", "7", "{"):
        assert len(violations(model, {"Authorization": f"{scheme} k"}, message)) == 1
