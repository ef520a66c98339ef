from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sipbridge import providers
from sipbridge.agent import AgentOptions
from sipbridge.audio import PCMU
from sipbridge.errors import ConfigError, UnknownProviderError
from sipbridge.providers import Dialect, Provider, capabilities_of, lookup, new_agent_from_credential, register
from sipbridge.providers.openai import OpenAIDialect

if TYPE_CHECKING:
    # The seam, held by the type checker: a dialect's class is a provider, and its instances are dialects.
    _provider: Provider = OpenAIDialect
    _dialect: Dialect = OpenAIDialect({}, AgentOptions())


class OtherDialect(OpenAIDialect):
    pass


def test_slugs_are_lower_case_and_a_later_one_replaces() -> None:
    register(OtherDialect, "Custom", "OPENAI")
    assert lookup("custom") is OtherDialect
    assert lookup("openai") is OtherDialect
    assert providers.registered_providers() == sorted(providers.registered_providers())
    assert "custom" in providers.registered_providers()


def test_an_unknown_provider_names_those_that_exist_and_the_nearest() -> None:
    with pytest.raises(UnknownProviderError, match=r"'opena1'.*offline, openai.*did you mean 'openai'"):
        lookup("opena1")
    with pytest.raises(UnknownProviderError):
        new_agent_from_credential({}, AgentOptions())


def test_a_provider_is_imported_when_it_is_first_asked_for() -> None:
    assert lookup("OpenAI") is OpenAIDialect


def test_capabilities_are_known_without_a_key() -> None:
    capabilities = capabilities_of("openai")
    assert PCMU in capabilities.native_formats
    assert capabilities.can_truncate


def test_an_agent_from_a_credential_knows_its_slug() -> None:
    options = AgentOptions(input_format=PCMU, output_format=PCMU)
    agent = new_agent_from_credential({"provider": "OpenAI", "api_key": "sk-test"}, options)
    assert agent.slug == "openai"
    with pytest.raises(ConfigError):
        new_agent_from_credential({"provider": "openai"}, options)
