"""A session that was lost sends nothing more: its channel would be opened again for it, and be given sound first."""

from __future__ import annotations

from typing import Any

import pytest

from sipbridge.agent import AgentOptions, SessionClosed, TurnDetection
from sipbridge.audio import PCMU
from sipbridge.providers import capabilities_of, new_dialect

KEY = "sk-test-0123456789"
URL = "wss://model.example.com/v1/realtime"
OPENAI = {"provider": "openai", "api_key": KEY}
CREDENTIALS: dict[str, dict[str, Any]] = {
    "openai": OPENAI,
    "openai with a voice": OPENAI | {"voice_provider": {"provider": "cartesia", "api_key": KEY, "voice": "v"}},
    "openai_live": {"provider": "openai_live", "api_key": KEY},
    "azure_openai": {"provider": "azure_openai", "api_key": KEY, "url": URL, "model": "m"},
    "azure_voice_live": {"provider": "azure_voice_live", "api_key": KEY, "url": URL},
    "openai_compatible": {"provider": "openai_compatible", "url": URL, "model": "m"},
    "xai": {"provider": "xai", "api_key": KEY},
    "dashscope": {"provider": "dashscope", "api_key": KEY},
    "gemini": {"provider": "gemini", "api_key": KEY},
    "deepgram": {"provider": "deepgram", "api_key": KEY},
    "cascade": {
        "provider": "cascade",
        "stt": {"provider": "deepgram", "api_key": KEY},
        "llm": {"provider": "openai", "api_key": KEY, "model": "m"},
        "tts": {"provider": "deepgram", "api_key": KEY},
    },
}


@pytest.mark.parametrize("name", CREDENTIALS)
def test_nothing_is_sent_when_the_connection_is_gone(name: str) -> None:
    credential = CREDENTIALS[name]
    pushed, spoken = capabilities_of(credential["provider"], credential).formats_for(PCMU, 8000)
    for detection in (TurnDetection(), TurnDetection("none")):
        options = AgentOptions(input_format=pushed, output_format=spoken, turn_detection=detection)
        dialect = new_dialect(credential, options)
        dialect.start(0.0)
        for channel in dialect.endpoints():
            dialect.channel_opened(channel, 0.0)
        dialect.messages_to_send()
        while dialect.next_event() is not None:
            pass
        dialect.channel_closed(next(iter(dialect.endpoints())), 1006, "gone", 1.0)
        sound = bytes(pushed.bytes_per_ms * 200)
        for _ in range(3):
            dialect.push_audio(sound, 1.0)
        dialect.commit_input_audio(1.0)
        dialect.cancel([], 1.0)
        dialect.say("Hello.", 1.0)
        dialect.create_response(1.0)
        dialect.update_instructions("Be brief.", 1.0)
        assert dialect.messages_to_send() == []
        told = []
        while (event := dialect.next_event()) is not None:
            told.append(event)
        assert isinstance(told[-1], SessionClosed)
