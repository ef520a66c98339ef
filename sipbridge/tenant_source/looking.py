"""The tenants' backend asked once, by hand: for `route` and `check`. Nothing of it is kept."""

from __future__ import annotations

import asyncio
from pathlib import Path

from sipbridge.call_fields import CallFields
from sipbridge.config import Config
from sipbridge.errors import ConfigError, TenantSourceError
from sipbridge.finding import Finding
from sipbridge.tenant_source.document import Document, read_document
from sipbridge.tenant_source.question import Question


async def ask_once(config: Config, base: Path, fields: CallFields) -> Document | None:
    """Whose such a call would be by what the backend says now. Raises `TenantSourceError`, `ConfigError`."""
    from sipbridge.tenant_source.backend_client import BackendClient  # its library takes time to import

    settings = config.tenants
    assert settings.url is not None
    client = BackendClient(settings.url, settings.token, config.node.name)
    try:
        async with asyncio.timeout(settings.timeout_seconds):
            answer = await client.ask(Question.of(fields), fields.call_id, None)
    except TimeoutError:
        raise TenantSourceError(f"{client.name}: no answer in {settings.timeout_seconds:g} s") from None
    finally:
        await client.close()
    if answer.body is None:
        return None
    directory = base / settings.directory
    return read_document(answer.body, name=client.name, config=config, directory=directory, nameless=fields.to)


async def look_at_backend(config: Config, base: Path) -> Finding:
    """Does it answer? Which tenant it has for nobody's call does not matter."""
    subject = f"tenants {config.tenants.url_to_show}"
    try:
        await ask_once(config, base, CallFields(to="sipbridge-check"))
    except TenantSourceError as error:
        return Finding(
            "failed", subject, str(error), "calls get what is known from before, or 480: see docs/backend.md"
        )
    except ConfigError as error:
        return Finding("failed", subject, str(error), "the backend is to answer as docs/backend.md has it")
    return Finding("ok", subject, "answers")
