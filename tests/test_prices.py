"""What providers charge: read from the configuration, and made into what a call has cost."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from sipbridge.agent import Usage
from sipbridge.audio_health import AudioHealth
from sipbridge.call_fields import CallFields
from sipbridge.call_record import CallRecord
from sipbridge.config import Config
from sipbridge.configfile import parse
from sipbridge.errors import ConfigError
from sipbridge.outcome import CallReport, Ended
from sipbridge.prices import NAMES, Prices, cost
from sipbridge.tenant_config import TenantConfig
from sipbridge.tenant_file.agent import AgentConfig
from sipbridge.tenants import Tenant
from sipbridge.turn import Turn

TABLE = """
prices:
  openai:
    gpt-realtime-2.1: {input_audio_tokens: 32, output_audio_tokens: 64}
    "*": {input_tokens: 10}
  cascade:
    sonic-3.5: {characters: 50}
  deepgram:
    "*": {session_seconds: 0.06}
"""


def prices(text: str = TABLE) -> Prices:
    return parse(text, Config, "sipbridge.yaml").prices


@pytest.mark.parametrize(
    ("provider", "model", "name", "rate"),
    [
        ("openai", "gpt-realtime-2.1", "output_audio_tokens", 64),
        ("openai", "gpt-realtime-9", "input_tokens", 10),
        ("openai", "", "input_tokens", 10),
        ("openai", "sonic-3.5", "characters", 50),  # a separate voice
        ("deepgram", "flux", "session_seconds", 0.06),
    ],
)
def test_the_price_of_a_model(provider: str, model: str, name: str, rate: float) -> None:
    rates = prices().rates(provider, model)
    assert rates is not None
    assert rates[name] == rate


def test_what_has_no_price() -> None:
    assert prices().rates("xai", "grok") is None
    assert prices("{}").rates("openai", "") is None


@pytest.mark.parametrize(
    ("counts", "rates", "usd"),
    [
        ({"input_audio_tokens": 1_000_000, "output_audio_tokens": 500_000}, {"input_audio_tokens": 32}, 32.0),
        ({"session_seconds": 90}, {"session_seconds": 0.06}, 0.09),
        ({"characters": 2000}, {"characters": 50}, 0.1),
        # The total pays for what its parts have no price for.
        (
            {"input_tokens": 1000, "input_audio_tokens": 600, "input_text_tokens": 400},
            {"input_tokens": 10, "input_audio_tokens": 30},
            (400 * 10 + 600 * 30) / 1e6,
        ),
        # Cached input is charged as such, and not as input.
        (
            {"input_tokens": 1000, "input_audio_tokens": 600, "input_text_tokens": 400, "input_cached_tokens": 500},
            {"input_audio_tokens": 30, "input_text_tokens": 4, "input_cached_tokens": 0.4},
            (300 * 30 + 200 * 4 + 500 * 0.4) / 1e6,
        ),
        (
            {"input_tokens": 1000, "input_cached_tokens": 400},
            {"input_tokens": 5, "input_cached_tokens": 1},
            (600 * 5 + 400 * 1) / 1e6,
        ),
        ({"input_cached_tokens": 400}, {"input_cached_tokens": 1}, 400 / 1e6),
        ({}, dict.fromkeys(NAMES, 1.0), 0.0),
    ],
)
def test_the_cost(counts: dict[str, float], rates: dict[str, float], usd: float) -> None:
    assert cost(counts, rates) == pytest.approx(usd)


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("prices:\n  opena:\n    x: {}", 2, "prices.opena: no such provider; did you mean 'openai'?"),
        (
            "prices:\n  openai:\n    x:\n      input_audio_token: 1",
            4,
            "prices.openai.x.input_audio_token: no such price; did you mean 'input_audio_tokens'?",
        ),
        ("prices:\n  openai:\n    x: {characters: -1}", 3, "prices.openai.x.characters: Input should be greater"),
        (
            "prices:\n  openai:\n    x: {characters: dear}",
            3,
            "prices.openai.x.characters: Input should be a valid number",
        ),
        ("prices:\n  openai:\n    x: {characters: .nan}", 3, "prices.openai.x.characters: Input should be a finite"),
        ("prices: 7", 1, "prices: a mapping (key: value) is expected"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(text: str, line: int, words: str) -> None:
    with pytest.raises(ConfigError) as raised:
        prices(text)
    assert f"sipbridge.yaml:{line}: {words}" in str(raised.value)


def begun() -> CallRecord:
    tenant = Tenant("t", TenantConfig.model_validate({"agent": {"provider": "quiet"}}))
    return CallRecord(CallFields(to="agent"), tenant, outbound=False, clock=lambda: 0.0)


def reported(record: CallRecord, table: Prices) -> CallReport:
    return record.report(
        None,
        AudioHealth(),
        Turn(),
        late_audio_bytes=0,
        uplink_dropped_ms=0,
        prices=table,
    )


@pytest.mark.parametrize(
    ("used", "usd"),
    [
        ([], None),
        ([Usage("r", {"input_audio_tokens": 1_000_000})], 32.0),
        ([Usage("r", {"input_audio_tokens": 1_000_000}), Usage("r", {"characters": 1000}, "sonic-3.5")], 32.05),
    ],
)
def test_what_a_call_has_cost(used: list[Usage], usd: float | None) -> None:
    record = begun()
    for usage in used:
        record.used(AgentConfig(provider="openai", model="gpt-realtime-2.1"), usage)
    record.end(Ended.CALLER_HUNG_UP, "", None)
    report = reported(record, prices())
    assert report.cost_usd == usd


def test_a_voices_vendor_has_prices_under_its_own_name() -> None:
    table = prices("prices: {cartesia: {sonic-3.5: {characters: 30}}}")
    rates = table.rates("openai", "sonic-3.5")
    assert rates == {"characters": 30}


def test_the_log_says_what_has_no_price() -> None:
    record = begun()
    record.used(AgentConfig(provider="openai", model="m"), Usage("", {"input_audio_seconds": 3}, "gpt-transcribe"))
    record.end(Ended.CALLER_HUNG_UP, "", None)
    table = prices("prices: {openai: {gpt-realtime-2.1: {input_audio_tokens: 32}}}")
    with capture_logs() as logs:
        report = reported(record, table)
    assert report.cost_usd is None
    assert [(entry["event"], entry["model"]) for entry in logs] == [("a price is missing", "gpt-transcribe")]
