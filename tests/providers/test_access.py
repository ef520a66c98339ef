from __future__ import annotations

import pytest

from sipbridge.agent import AgentOptions
from sipbridge.errors import ConfigError
from sipbridge.providers.access import REQUESTS, authorization, url_and_key, with_query
from sipbridge.providers.speech.transcriber import transcriber_class
from sipbridge.providers.speech.voice import voice_class

OURS = "wss://api.example.com/talk"


def test_the_vendors_own_endpoint_needs_a_key_and_another_need_not() -> None:
    assert url_and_key({"api_key": "k"}, OURS) == (OURS, "k")
    assert url_and_key({"url": "ws://127.0.0.1:9"}, OURS) == ("ws://127.0.0.1:9", "")
    for section in ({}, {"url": OURS}):
        with pytest.raises(ConfigError, match="^api_key: is needed"):
            url_and_key(section, OURS)
    with pytest.raises(ConfigError, match=r"^tts\.api_key: is needed"):
        url_and_key({}, OURS, "tts")


def test_a_url_of_another_kind_is_refused_by_its_place_in_the_file() -> None:
    with pytest.raises(ConfigError, match="^url: must begin with wss:// or ws://"):
        url_and_key({"url": "https://api.example.com"}, OURS)
    with pytest.raises(ConfigError, match=r"^llm\.url: must begin with https:// or http://"):
        url_and_key({"url": OURS}, OURS, "llm", REQUESTS)


@pytest.mark.parametrize(
    ("slug", "url"), [("cartesia", "https://a.example"), ("deepgram", "a.example"), ("openai", "wss://a.example")]
)
def test_a_voice_refuses_a_url_that_it_cannot_open(slug: str, url: str) -> None:
    section = {"provider": slug, "url": url, "voice": "voice-1"}
    with pytest.raises(ConfigError, match=r"^voice_provider\.url: must begin with"):
        voice_class(section)(section, AgentOptions())


def test_a_transcriber_refuses_a_url_that_it_cannot_open() -> None:
    section = {"provider": "deepgram", "url": "https://a.example"}
    with pytest.raises(ConfigError, match=r"^stt\.url: must begin with"):
        transcriber_class(section)(section, AgentOptions())


def test_what_a_url_asks_for_already_stays() -> None:
    assert with_query("wss://a.example/x", {}) == "wss://a.example/x"
    assert with_query("wss://a.example/x", {"a": "b c"}) == "wss://a.example/x?a=b%20c"
    assert with_query("wss://a.example/x?y=1", {"keyterm": ["a", "b"]}) == "wss://a.example/x?y=1&keyterm=a&keyterm=b"


def test_without_a_key_there_is_no_header() -> None:
    assert authorization("") == {}
    assert authorization("k", "Token") == {"Authorization": "Token k"}
