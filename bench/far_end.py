"""Both ends of the calls, phones and model, as one process on the core that the gateway does not have.

Lines of JSON: it says where its model listens, is told where the gateway does, runs its scenario, says what points it
reaches and goes on when it is told to; its last line is the result.
"""

from __future__ import annotations

import gc
import json
import sys
from pathlib import Path
from typing import Any

from bench import machine
from bench.loop import Loop
from bench.phones import Phones
from bench.provider import Provider
from bench.scenarios import SCENARIOS
from bench.secrecy import server_context
from bench.stage import Stage


def _say(message: dict[str, Any]) -> None:
    print(json.dumps(message), flush=True)


def _tell(point: str) -> None:
    _say({"reached": point})
    sys.stdin.readline()


def main() -> None:
    options = json.loads(sys.argv[1])
    machine.pin(options["core"])
    loop = Loop(spin=options["spin"])
    provider = Provider(loop, server_context(Path(options["certificate"])) if options["certificate"] else None)
    _say({"provider": provider.url})
    host, port = json.loads(sys.stdin.readline())
    gc.freeze()
    gc.disable()  # a collection would be a pause in the sound that we measure
    stage = Stage(loop, Phones(loop, (host, port)), provider, _tell, options)
    _say({"result": SCENARIOS[options["scenario"]](stage)})


if __name__ == "__main__":
    main()
