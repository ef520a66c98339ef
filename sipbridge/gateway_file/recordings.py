"""The configuration's shape: `recordings:` of sipbridge.yaml."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pydantic import field_validator, model_validator

from sipbridge.configfile import Section, error_at, written
from sipbridge.errors import ConfigError
from sipbridge.logins import Secret
from sipbridge.recording_files.keys import Key, KeyRing


class RecordingsConfig(Section):
    directory: Path | None = None
    key: Secret | None = None
    """32 bytes in base64 or hexadecimal: what recordings are sealed with. None: they are plain files."""
    old_keys: tuple[Secret, ...] = ()
    """Those before it: what they have sealed can still be opened."""

    _starts_at_the_state = field_validator("directory")(written)

    @model_validator(mode="after")
    def _a_key_comes_first(self) -> RecordingsConfig:
        if self.old_keys and self.key is None:
            raise error_at(("old_keys",), "without recordings.key nothing would be sealed any more; set one")
        return self

    def secrets(self) -> Iterator[tuple[str, Secret]]:
        """Each with its place."""
        if self.key is not None:
            yield "recordings.key", self.key
        for number, key in enumerate(self.old_keys):
            yield f"recordings.old_keys[{number}]", key

    def key_ring(self) -> KeyRing | None:
        """None: nothing is sealed. Raises `ConfigError` where a key is missing or is none."""
        if self.key is None:
            return None
        keys = []
        for place, secret in self.secrets():
            try:
                keys.append(Key.parse(secret.reveal()))
            except ConfigError as error:
                raise ConfigError(f"{place}: {error}") from None
        return KeyRing(keys[0], keys[1:])
