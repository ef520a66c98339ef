"""Which method of the OpenAI family's dialect, or of its reader of replies, an event is for, by its GA name.

Methods by name, so that a relative's subclass may override one.
"""

from __future__ import annotations

SETUP_EVENTS = frozenset({"conversation.created", "session.created", "session.updated", "error"})
"""The only ones that mean anything before the session is open."""
SESSION_EVENTS = {
    "conversation.created": "_on_conversation_created",
    "session.created": "_on_session_created",
    "session.updated": "_on_session_updated",
    "error": "_on_error",
    "response.done": "_on_response_done",
    "input_audio_buffer.speech_started": "_on_speech_started",
    "input_audio_buffer.speech_stopped": "_on_speech_stopped",
    "conversation.item.input_audio_transcription.delta": "_on_user_delta",
    "conversation.item.input_audio_transcription.completed": "_on_user_transcript",
}
REPLY_EVENTS = {
    "conversation.item.added": "on_conversation_item",
    "conversation.item.done": "on_conversation_item",
    "response.created": "on_response_created",
    "response.output_item.added": "on_item_added",
    "response.output_audio.delta": "on_audio",
    "response.output_audio_transcript.delta": "on_text_delta",
    "response.output_audio_transcript.done": "on_text_done",
    "response.output_text.delta": "on_text_delta",
    "response.output_text.done": "on_text_done",
    "response.function_call_arguments.delta": "on_arguments_delta",
    "response.function_call_arguments.done": "on_arguments_done",
    "response.output_item.done": "on_item_done",
}
