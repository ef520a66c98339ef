"""The configuration of docs/pbx/, as it is printed there: what the tests run is what the reader copies."""

from __future__ import annotations

import re
from collections.abc import Mapping

from tests.interop.peers import ROOT

_BLOCK = re.compile(r"^```\w*\n[;#] ([^\n]+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def recipe(page: str, title: str, replace: Mapping[str, str]) -> str:
    """The block of docs/pbx/PAGE.md whose first line is the comment `title`.

    `replace` puts the test's own addresses in the place of those printed. Each must be there, so that a page that has
    been changed is noticed; of two that begin alike the longer one is replaced.
    """
    text = (ROOT / "docs" / "pbx" / f"{page}.md").read_text()
    found = [block for name, block in _BLOCK.findall(text) if name == title]
    assert len(found) == 1, f"docs/pbx/{page}.md has {len(found)} blocks that are called {title!r}"
    (block,) = found
    missing = [printed for printed in replace if printed not in block]
    assert not missing, f"{missing} are not in {title!r} of docs/pbx/{page}.md:\n{block}"
    anything = "|".join(re.escape(printed) for printed in sorted(replace, key=len, reverse=True))
    return re.sub(anything, lambda match: replace[match[0]], block) if replace else block
