"""`sipbridge check` and those who are told of calls."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from typing import Any

import pytest

from sipbridge.check_webhooks import look_at_webhooks
from sipbridge.config import Config
from sipbridge.finding import Finding
from tests.history.receiver import Receiver
from tests.sip.certificates import Authority


def look(**sections: Any) -> list[Finding]:
    return asyncio.run(look_at_webhooks(Config.model_validate(sections, context={"directory": Path()})))


def test_who_is_there_is_not_told_anything() -> None:
    with Receiver() as hook, Receiver() as backend:
        found = look(
            webhooks=[{"url": hook.url, "secret": "${HOME}"}], history={"store": backend.url, "secret": "${HOME}"}
        )
        assert [(each.verdict, each.subject) for each in found] == [("ok", "history.store"), ("ok", "webhooks[0]")]
        assert hook.requests == backend.requests == []


def test_a_history_that_is_switched_off_needs_no_backend() -> None:
    assert look(history={"store": "http://127.0.0.1:9/", "enabled": False}) == []


def test_requests_without_a_signature_are_warned_of() -> None:
    with Receiver() as hook:
        [found] = look(webhooks=[{"url": hook.url}])
    assert (found.verdict, found.text) == ("warning", f"127.0.0.1:{hook.port} is there; requests are not signed")


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"url": "http://127.0.0.1:9/"}, "127.0.0.1:9: "),
        ({"url": "https://no-such-host.invalid/"}, "no-such-host.invalid: "),
        ({"url": "http://127.0.0.1:9/", "secret": "${NO_SUCH_SECRET}"}, "NO_SUCH_SECRET is not set"),
        ({"url": "http://127.0.0.1:9/", "secret": "whsec_!"}, "base64"),
        ({"url": "http://127.0.0.1:9/${NO_SUCH_PATH}"}, "NO_SUCH_PATH is not set"),
    ],
)
def test_who_is_not_there(keys: dict[str, str], text: str) -> None:
    [found] = look(webhooks=[keys])
    assert found.verdict == "failed"
    assert text in found.text


def test_a_certificate_of_somebody_else(tmp_path: Path) -> None:
    made = Authority(tmp_path).issue("127.0.0.1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(str(made.certificate), str(made.key))
    with Receiver(tls=context) as hook:
        [found] = look(webhooks=[{"url": hook.url}])
    assert found.verdict == "failed"
    assert "certificate" in found.text
