"""The judge itself: it must refuse what the service would refuse, or the other tests prove nothing."""

from __future__ import annotations

from typing import Any

import pytest

from tests.providers.openai_sdk import check_client_event, check_server_event


@pytest.mark.parametrize(
    "message",
    [
        {"type": "session.update", "session": {"type": "realtime", "temperature": 0.8}},
        {"type": "session.update", "session": {"instructions": "no type"}},
        {"type": "session.update", "session": {"type": "realtime", "audio": {"input": {"format": {"type": "pcm16"}}}}},
        {"type": "response.create", "response": {"modalities": ["audio"]}},
        {"type": "conversation.item.truncate", "item_id": "i", "content_index": 0, "audio_end_ms": "12"},
        {"type": "input_audio_buffer.append"},
        {"type": "of.the.future"},
    ],
)
def test_the_judge_refuses_client_events_that_the_service_would_refuse(message: dict[str, Any]) -> None:
    with pytest.raises((ValueError, AssertionError)):
        check_client_event(message)


def test_the_judge_refuses_unknown_members_of_server_events() -> None:
    good = {"type": "input_audio_buffer.speech_started", "event_id": "e", "item_id": "i", "audio_start_ms": 1}
    check_server_event(good)
    with pytest.raises(AssertionError, match="unknown to the SDK"):
        check_server_event(good | {"colour": "red"})
