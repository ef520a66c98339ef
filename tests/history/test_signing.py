"""Signatures of Standard Webhooks, held against the scheme's own example and against what receivers compute."""

from __future__ import annotations

import base64
import hashlib
import hmac

import pytest

from sipbridge.history.signing import keys_of, signature, signed

KEY = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def test_the_scheme_s_own_example() -> None:
    body = b'{"test": 2432232314}'
    made = signature(
        keys_of("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"), "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body
    )
    assert made == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_after_the_prefix_comes_the_key_in_base64() -> None:
    assert keys_of(f"whsec_{KEY}") == (base64.b64decode(KEY),)


@pytest.mark.parametrize("secret", ["whsec_no base64!", "whsec_\N{SNOWMAN}"])
def test_a_prefix_without_a_key_is_an_error_that_quotes_nothing(secret: str) -> None:
    with pytest.raises(ValueError, match="base64") as raised:
        keys_of(secret)
    assert secret not in str(raised.value)


def test_a_prefix_alone_is_none_either() -> None:
    with pytest.raises(ValueError, match="base64"):
        keys_of("whsec_")


def test_any_other_secret_is_the_key_as_it_is_written() -> None:
    assert keys_of("a plain word!") == (b"a plain word!",)


def test_what_could_be_base64_is_signed_in_both_ways() -> None:
    keys = keys_of(KEY)
    signatures = signature(keys, "id", 1, b"{}").split(" ")
    for key in (KEY.encode(), base64.b64decode(KEY)):
        digest = hmac.new(key, b"id.1.{}", hashlib.sha256).digest()
        assert f"v1,{base64.b64encode(digest).decode()}" in signatures


def test_without_a_key_there_is_an_identity_and_no_signature() -> None:
    assert signed((), "id", 5, b"{}") == {"webhook-id": "id", "webhook-timestamp": "5"}
