"""A Kamailio of the test's own, as the proxy between telephones and gateways.

Found by running 5.6.3: `-DD -E` keeps it in the foreground with its log on standard error; `-Y` names the folder for
its run files; every process that it forks ends with the first one.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.interop.peers import Program, require


class Kamailio:
    """Use as a context manager. `configuration`: file name -> text; kamailio.cfg is the one that it reads."""

    def __init__(self, folder: Path, configuration: Mapping[str, str]) -> None:
        program = require("kamailio")
        run = folder / "run"
        run.mkdir(parents=True)
        for name, text in configuration.items():
            (folder / name).write_text(text)
        self.program = Program([program, "-DD", "-E", "-m", "64", "-f", str(folder / "kamailio.cfg"), "-Y", str(run)])
        try:
            self.program.wait_for("Listening on")  # what arrives from now on waits in its sockets
        except BaseException:
            self.program.stop()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.program.stop()
