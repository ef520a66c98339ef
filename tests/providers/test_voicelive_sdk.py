"""The judge itself: it must refuse what the service would refuse, or the other tests prove nothing."""

from __future__ import annotations

from typing import Any

import pytest

from tests.providers.voicelive_sdk import check_client_event, check_server_event

_CALL = {"type": "function_call_output", "call_id": "c", "output": "o"}


@pytest.mark.parametrize(
    "message",
    [
        {"type": "session.update", "session": {"voice": "marin", "turn_detection": None}},
        {"type": "session.update", "session": {"voice": {"type": "azure-standard", "name": "en-US-AvaNeural"}}},
        {"type": "conversation.item.create", "item": _CALL},
        {"type": "response.create"},
    ],
)
def test_the_judge_lets_pass_what_the_sdk_has(message: dict[str, Any]) -> None:
    check_client_event(message)


@pytest.mark.parametrize(
    ("message", "problem"),
    [
        ({"type": "of.the.future"}, "of.the.future"),
        ({"type": "session.update"}, "without session"),
        ({"type": "session.update", "session": {"type": "realtime"}}, r"\.session\.type"),
        ({"type": "session.update", "session": {"voice": "en-US-AvaNeural"}}, "OpenAIVoiceName"),
        ({"type": "session.update", "session": {"turn_detection": {"type": "semantic_vad"}}}, "semantic_vad"),
        ({"type": "session.update", "session": {"temperature": "0.7"}}, "no number"),
        ({"type": "session.update", "session": {"tools": [{"type": "function", "function": {}}]}}, "function"),
        ({"type": "conversation.item.create", "item": _CALL | {"colour": "red"}}, "colour"),
        (
            {
                "type": "conversation.item.create",
                "item": {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "x"}]},
            },
            "output_text",
        ),
        ({"type": "response.create", "response": {"output_modalities": ["audio"]}}, "output_modalities"),
        ({"type": "conversation.item.truncate", "item_id": "i", "content_index": 0}, "audio_end_ms"),
        ({"type": "input_audio_buffer.append"}, "audio"),
    ],
)
def test_the_judge_refuses_client_events_that_the_service_would_refuse(message: dict[str, Any], problem: str) -> None:
    with pytest.raises(AssertionError, match=problem):
        check_client_event(message)


def test_the_judge_refuses_unknown_members_of_server_events() -> None:
    good = {"type": "input_audio_buffer.speech_started", "event_id": "e", "item_id": "i", "audio_start_ms": 1}
    check_server_event(good)
    with pytest.raises(AssertionError, match="colour"):
        check_server_event(good | {"colour": "red"})
    with pytest.raises(AssertionError, match="response_id"):
        check_server_event({"type": "response.audio.delta", "event_id": "e", "delta": "AAAA"})
