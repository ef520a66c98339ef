"""An agent made of three services: a transcriber (`stt`), a language model (`llm`) and a voice (`tts`), all streaming.

The first phrase is spoken while the model still writes. The conversation is kept here, as it was heard.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sipbridge.agent import AgentOptions, Capabilities, ToolDeclaration
from sipbridge.audio import PCM_24K
from sipbridge.errors import UnknownProviderError
from sipbridge.providers.speech.chat import check_llm, tools_of
from sipbridge.providers.speech.talk import TalkDialect
from sipbridge.providers.speech.transcriber import transcriber_class
from sipbridge.providers.speech.voice import voice_class
from sipbridge.providers.speech.voiced import VoicedDialect, capabilities_with_voice, written

PARTS = ("stt", "llm", "tts")


class CascadeDialect(VoicedDialect):
    """See `sipbridge.providers.Dialect` for the verbs."""

    capabilities = Capabilities(output_format=PCM_24K, interrupts_by_itself=False, says_verbatim=True)
    """Of no model in particular: what the parts can do decides."""

    def __init__(self, credential: Mapping[str, Any], options: AgentOptions) -> None:
        """Raises `ConfigError`, which names the part that something is wrong with."""
        _check(credential)
        voice = voice_class(credential["tts"], "tts")(credential["tts"], options, "tts")
        asked = written(options, TalkDialect.capabilities_for(credential))
        super().__init__(TalkDialect(credential, asked), voice, options)

    @classmethod
    def capabilities_for(cls, credential: Mapping[str, Any]) -> Capabilities:
        """Raises `UnknownProviderError` where there is no such part."""
        _check(credential)
        voice = voice_class(credential["tts"], "tts")
        return capabilities_with_voice(TalkDialect.capabilities_for(credential), voice)

    @classmethod
    def tools_for_session(cls, tools: Sequence[ToolDeclaration]) -> list[dict[str, Any]]:
        return tools_of(tools)


def _check(credential: Mapping[str, Any]) -> None:
    for part in PARTS:
        if not credential.get(part):
            raise UnknownProviderError(f"{part}: a cascade is made of stt, llm and tts; this one has no {part}")
    transcriber_class(credential["stt"])
    check_llm(credential["llm"])
