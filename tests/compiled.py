"""Whether the media plane that is being tested is compiled (`scripts/test-native.sh`)."""

from __future__ import annotations

import pytest

from sipbridge.media import leg

COMPILED = not (leg.__file__ or "").endswith(".py")
takes_weak_references = pytest.mark.skipif(COMPILED, reason="compiled classes take no weak references")
