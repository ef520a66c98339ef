"""JSON Schemas of the configuration, for editors: what may be written where, with the words that the source has for it.

A schema sees the shape of one file. What depends on another key, on a file or on a provider is told when it is loaded.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator
from functools import cache
from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from sipbridge.config import Config
from sipbridge.configfile import Section
from sipbridge.providers import registered_providers
from sipbridge.tenant_config import TenantConfig

FILES: Final[dict[str, type[Section]]] = {"sipbridge.json": Config, "tenant.json": TenantConfig}
"""By the names under which they are published, in config/schema/."""

_ALSO: Final[dict[str, JsonSchemaValue]] = {
    "Trunk": {"anyOf": [{"required": ["sources"]}, {"required": ["auth"]}]},
    "TenantConfig": {"anyOf": [{"required": ["agent"]}, {"required": ["agents"]}]},
}
"""What a validator of a whole section asks for, as far as a schema can."""


def schema_of(model: type[Section]) -> dict[str, Any]:
    schema = model.model_json_schema(schema_generator=_Generator)
    return {"$schema": GenerateJsonSchema.schema_dialect, **schema}


class _Generator(GenerateJsonSchema):
    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        made = super().model_schema(schema)
        model: type[BaseModel] = schema["cls"]
        properties = made.get("properties", {})
        words = _words(model)
        for name, field in model.model_fields.items():
            of_key = properties.get(field.alias or name)
            if of_key is not None and name in words:
                of_key.setdefault("description", words[name])
        for of_key in properties.values():
            for each in (of_key, *of_key.get("anyOf", ())):
                if "off" in each.get("enum", ()):  # which YAML 1.1 reads as false, and `OffIsAWord` puts right
                    each["enum"] = [*each["enum"], False]
                    each.pop("type", None)
        if model.__name__ == "AgentConfig":
            properties["provider"]["enum"] = sorted(registered_providers())
        return made | _ALSO.get(model.__name__, {})


@cache
def _words(model: type[BaseModel]) -> dict[str, str]:
    """What the source says below each field. Nothing where there is no source."""
    found: dict[str, str] = {}
    for base in reversed(model.__mro__):
        if issubclass(base, Section):
            found |= dict(_below_fields(base))
    return found


def _below_fields(model: type[Section]) -> Iterator[tuple[str, str]]:
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(model)))
    except (OSError, TypeError, SyntaxError):
        return
    body = tree.body[0].body if isinstance(tree.body[0], ast.ClassDef) else []
    for field, below in zip(body, body[1:], strict=False):
        match field, below:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                yield name, " ".join(text.split())
