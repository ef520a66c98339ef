"""What ends a call by itself, as baresip hears it from a gateway that runs as an operator would run it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sipbridge.prompts import PROMPTS, load_prompt
from tests.interop.baresip import Baresip
from tests.interop.gateway import GatewayProcess, offline, running_gateway
from tests.interop.sound import RATE, loud_seconds, silence, write_wav

pytestmark = pytest.mark.interop

_NOBODY = "sip:nobody@127.0.0.1:9"
_FAREWELL = {"farewell": PROMPTS["goodbye"]}


def _tenant(user: str, **sections: Any) -> dict[str, Any]:
    tenant = offline(user, _NOBODY)
    tenant["agent"] = {"provider": "offline"} | _FAREWELL
    return tenant | sections


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    tenants = {
        "quiet": _tenant("quiet", silence={"seconds": 1}),
        "short": _tenant("short", limits={"call_seconds": 5, "warning_seconds": 4}),
    }
    with running_gateway(tmp_path_factory.mktemp("gateway"), desk=_NOBODY, tenants=tenants) as process:
        yield process


def _lasts(*prompts: str) -> float:
    return sum(len(load_prompt(name, RATE)) / 2 / RATE for name in prompts)


@pytest.mark.parametrize(
    ("user", "ended", "said"),
    [
        ("quiet", "caller_silent", ("still-there", "still-there", "goodbye")),
        ("short", "too_long", ("ending-soon", "goodbye")),
    ],
)
def test_baresip_hears_all_of_it_and_then_bye(
    gateway: GatewayProcess, tmp_path: Path, user: str, ended: str, said: tuple[str, ...]
) -> None:
    wav = write_wav(tmp_path / "says.wav", silence(60))
    with Baresip(tmp_path / "phone", address="127.0.0.20", says=wav) as phone:
        phone.dial(gateway.uri(user))
        phone.wait_event("CALL_ESTABLISHED")
        phone.wait_event("CALL_CLOSED", timeout=20)
        heard = phone.heard()
    (report,) = gateway.new_reports(1)
    assert report["ended"] == ended
    assert loud_seconds(heard) == pytest.approx(_lasts(*said), rel=0.35)
    assert np.max(np.abs(heard[: RATE // 2])) < 0.01, "nobody greets here"
