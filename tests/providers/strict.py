"""The SDKs' models let unknown members pass: here a model that was built from a message is walked, and has none."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel


def no_unknown_members(value: object, path: str = "", allowed: frozenset[str] = frozenset()) -> None:
    """`allowed`: paths that are let pass all the same."""
    if isinstance(value, BaseModel):
        unknown = {f"{path}{name}" for name in value.model_extra or {}} - allowed
        assert not unknown, f"unknown to the SDK: {sorted(unknown)}"
        for name in type(value).model_fields:
            no_unknown_members(getattr(value, name), f"{path}{name}.", allowed)
    elif isinstance(value, list | tuple | Mapping):
        for entry in value.values() if isinstance(value, Mapping) else value:
            no_unknown_members(entry, path, allowed)
