"""OpenAI's Live protocol (GPT-Live) as data: what the session is started with, and the messages that follow.

Source: the types of the vendor's SDK (`openai.types.live`, 3.54); what is marked as observed is not promised there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sipbridge.agent import AgentOptions, Capabilities, HistoryItem, Said
from sipbridge.audio import PCM_24K, PCMA, PCMU, AudioFormat
from sipbridge.providers.openai_wire import FATAL_CODES as REALTIME_FATAL_CODES
from sipbridge.providers.openai_wire import flat_tools, ga_voice
from sipbridge.providers.phrases import SAY_THIS
from sipbridge.providers.wire import Json, encode_audio, merged

DEFAULT_URL = "wss://api.openai.com/v1/live/sessions"
DEFAULT_MODEL = "gpt-live-1"
BACKEND_MODEL = "gpt-5.5"
"""Whom tasks and tools are delegated to where the configuration names no other."""
FATAL_CODES = REALTIME_FATAL_CODES | {"forbidden"}

CAPABILITIES = Capabilities(
    input_format=PCM_24K,
    output_format=PCM_24K,
    native_formats=frozenset({PCMU, PCMA}),
    # The same both ways: there is one format for a session.
    input_rates=(16000,),
    output_rates=(16000,),
    transcribes_interim=True,
    full_duplex=True,
    # It listens while it speaks and decides by itself; there is nothing to be set.
    turn_detection=frozenset(),
    voices=(
        "marin",
        "alloy",
        "ash",
        "ballad",
        "beacon",
        "bossa",
        "cedar",
        "cinder",
        "coral",
        "delta",
        "echo",
        "gleam",
        "meridian",
        "quartz",
        "ripple",
        "sage",
        "shida",
        "shimmer",
        "stone",
        "tempo",
        "verse",
        "vesper",
        "willow",
    ),
)

# Of the server's events, those that tell us nothing we need: not "unknown", so never logged.
IGNORED_EVENTS = frozenset(
    {
        "info",
        "session.updated",
        "session.input_audio.muted",
        "session.input_audio.unmuted",
        "session.instructions.appended",
        "session.thinking.appended",
        "session.commentary.appended",
        "session.output_audio.fixture.playing",
        "session.output_audio.fixture.played",
    }
)

MOST_TOKENS = 500
"""Of what is appended to a running session, in one message."""
MOST_HISTORY = 128
MOST_HISTORY_TOKENS = 8192

_APPEND_HEAD = b'{"type":"session.input_audio.append","audio":"'
_APPEND_TAIL = b'"}'

GO_ON = "Go on now: tell the caller what follows from what has just happened."
NOBODY_THERE = "Nobody can take care of this. Answer from what you know, or tell the caller that you can't."


def append_audio(data: bytes) -> bytes:
    """Fifty times a second and call: no JSON encoder needed, base64 has nothing to escape."""
    return _APPEND_HEAD + encode_audio(data) + _APPEND_TAIL


def say_commentary(text: str) -> str:
    """The wire knows no such thing as "say this": the model is asked to."""
    return SAY_THIS + text


def new_instructions(text: str) -> str:
    """Instructions can only be added to, so that these have to say that they count alone."""
    return f"These instructions replace all that you were given before:\n\n{text}"


# --- limits -----------------------------------------------------------------------------------------------------------


def tokens_in(text: str) -> float:
    """Rather too many than too few: no tokenizer is at hand."""
    return sum(1 / 3 if character.isascii() else 1.0 for character in text)


def pieces(text: str, limit: int = MOST_TOKENS) -> list[str]:
    """The text in as many parts as the limit takes, cut between words where there are any; [] for an empty one."""
    parts: list[str] = []
    rest = text.strip()
    while rest:
        cut = _fits(rest, limit)
        if cut < len(rest) and (space := rest.rfind(" ", cut // 2, cut)) > 0:
            cut = space
        parts.append(rest[:cut].rstrip())
        rest = rest[cut:].lstrip()
    return parts


def _fits(text: str, limit: int) -> int:
    """How many characters of the text are within so many tokens."""
    tokens = 0.0
    for index, character in enumerate(text):
        tokens += 1 / 3 if character.isascii() else 1.0
        if tokens > limit:
            return index
    return len(text)


# --- the session object -----------------------------------------------------------------------------------------------


def audio_format(audio: AudioFormat) -> Json:
    return {"type": "audio/pcm" if audio.encoding == "pcm16" else f"audio/{audio.encoding}", "rate": audio.rate}


def history_items(history: Sequence[HistoryItem]) -> list[Json]:
    """The newest messages that the service takes, oldest first. It knows text only: of a tool it is told in words."""
    items: list[Json] = []
    tokens = 0.0
    for entry in reversed(history):
        role, kind, text = _in_words(entry)
        tokens += tokens_in(text)
        if len(items) == MOST_HISTORY or tokens > MOST_HISTORY_TOKENS:
            break
        if text:
            items.append({"type": "message", "role": role, "content": [{"type": kind, "text": text}]})
    return items[::-1]


def _in_words(entry: HistoryItem) -> tuple[str, str, str]:
    """Role, content type and text."""
    if isinstance(entry, Said):
        return entry.role, "input_text" if entry.role == "user" else "output_text", entry.text
    text = f"The tool {entry.name} was called with {entry.arguments}; the result: {entry.output or 'none yet'}"
    return "developer", "input_text", text


def delegation(options: AgentOptions, wanted: Mapping[str, Any]) -> Json | None:
    """Who takes care of what the model delegates: tools belong to a text model behind it. None: nobody does.

    `wanted` is the configuration's section: `model`, `instructions`. Without instructions of its own the text model
    works by those of the voice.
    """
    if not (options.tools or wanted):
        return None
    responses: Json = {"model": wanted.get("model") or BACKEND_MODEL}
    if instructions := wanted.get("instructions") or options.instructions:
        responses["instructions"] = instructions
    if options.tools:
        responses |= {"tools": flat_tools(options.tools), "tool_choice": "auto"}
    return {"type": "responses", "responses": responses}


def session_object(options: AgentOptions, model: str, wanted: Mapping[str, Any]) -> Json:
    """What `session.start` carries; format, voice and instructions stay as they are for the whole session."""
    audio: Json = {"format": audio_format(options.output_format)}
    if options.voice:
        audio["output"] = {"voice": ga_voice(options.voice)}
    session: Json = {"model": model, "audio": audio}
    if options.instructions:
        session["instructions"] = options.instructions
    if history := history_items(options.history):
        session["input"] = history
    theirs = options.extra.get("delegation", {})
    responses = isinstance(theirs, Mapping) and theirs.get("type", "responses") == "responses"
    if responses and (ours := delegation(options, wanted or theirs)):
        session["delegation"] = ours
    session = merged(session, options.extra)
    if responses and options.tools and (more := (theirs.get("responses") or {}).get("tools")):
        session["delegation"]["responses"]["tools"] = [*flat_tools(options.tools), *more]
    return session
