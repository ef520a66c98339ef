"""Vendors' models let members pass that they do not know; a judge walks what was built of them and wants none."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel


def nothing_unknown(value: object, path: str = "", allowed: frozenset[str] = frozenset()) -> None:
    """`allowed`: paths of members that are there all the same. Raises `AssertionError`."""
    if isinstance(value, BaseModel):
        unknown = {f"{path}{name}" for name in value.model_extra or {}} - allowed
        assert not unknown, f"unknown to the SDK: {sorted(unknown)}"
        for name in type(value).model_fields:
            nothing_unknown(getattr(value, name), f"{path}{name}.", allowed)
    elif isinstance(value, Mapping):
        for name, entry in value.items():
            nothing_unknown(entry, f"{path}{name}.", allowed)
    elif isinstance(value, list | tuple):
        for entry in value:
            nothing_unknown(entry, path, allowed)
