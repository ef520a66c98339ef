"""Run a SIPp scenario of tests/interop/sipp/ and read what it saw.

Debian's SIPp 3.6.1: transports u1 (UDP) and t1 (TCP), no TLS, no SRTP; it must be told not to read a terminal. It ends
with 0 where every call went as the scenario says, so most of what is checked stands in the scenarios.
"""

from __future__ import annotations

import audioop
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.interop.peers import Program, require
from tests.interop.sound import tone

SCENARIOS = Path(__file__).parent / "sipp"
ADDRESS = "127.0.0.2"
"""SIPp's own: budgets and blocks per source hit nobody else."""
TONE_HERTZ = 440.0


@dataclass(frozen=True)
class Message:
    """One SIP message of SIPp's log."""

    sent: bool
    text: str

    @property
    def start_line(self) -> str:
        return self.text.partition("\n")[0]

    def header(self, name: str) -> str:
        match = re.search(rf"^{name}\s*:\s*(.*)$", self.text, re.MULTILINE | re.IGNORECASE)
        assert match, f"no {name} in:\n{self.text}"
        return match[1]

    def answers(self, status: int, method: str) -> bool:
        """Whether this is a response of that status to that method."""
        return self.start_line.startswith(f"SIP/2.0 {status}") and self.header("CSeq").endswith(method)


class Sipp:
    """A SIPp at work; `finish()` waits for its end and returns the messages."""

    def __init__(
        self,
        folder: Path,
        scenario: str,
        target: str | None,
        *,
        user: str = "agent",
        address: str = ADDRESS,
        port: int | None = None,
        transport: str = "udp",
        calls: int = 1,
        timeout: float = 30,
        options: Mapping[str, str] | None = None,
        repeats: bool = True,
        keys: Mapping[str, str] | None = None,
    ) -> None:
        """Without a target it is called, at `address` and `port`. With `repeats` off it neither repeats what it sends
        nor takes a message that it has had for a copy, which it would answer by repeating its own last one. `keys` are
        words that the scenario has in brackets."""
        program = require("sipp")
        folder.mkdir(parents=True, exist_ok=True)
        write_sound(folder)
        self._log = folder / "messages.log"
        self._errors = folder / "errors.log"
        self._timeout = timeout
        further = [part for option in (options or {}).items() for part in option]
        argv = [program, *([target] if target else []), "-sf", str(SCENARIOS / f"{scenario}.xml"), "-s", user]
        argv += ["-t", {"udp": "u1", "tcp": "t1"}[transport], "-i", address, "-mi", address.strip("[]")]
        argv += ["-p", str(port)] if port else []
        argv += [] if repeats else ["-nr"]
        argv += [part for key, value in (keys or {}).items() for part in ("-key", key, value)]
        argv += ["-m", str(calls), "-l", str(calls), "-r", str(calls), "-rp", "1000"]
        argv += ["-nostdin", "-timeout", f"{timeout:g}s", "-timeout_error"]
        argv += [
            "-trace_msg",
            "-message_file",
            str(self._log),
            "-trace_err",
            "-error_file",
            str(self._errors),
            *further,
        ]
        self.program = Program(argv, cwd=folder, env={"TERM": "dumb"})

    def finish(self) -> list[Message]:
        """All messages in their order. Fails where a call did not go as the scenario says."""
        try:
            status = self.program.wait(self._timeout + 10)
        finally:
            self.program.stop()
        if status:
            errors = self._errors.read_text(errors="replace") if self._errors.exists() else ""
            log = self._log.read_text(errors="replace") if self._log.exists() else ""
            raise AssertionError(f"SIPp ended with {status}\n{errors[-3000:]}\n{log[-6000:]}")
        return read_messages(self._log)


def run(folder: Path, scenario: str, target: str, **how: object) -> list[Message]:
    """Start a scenario and wait for its end; see `Sipp`."""
    return Sipp(folder, scenario, target, **how).finish()  # type: ignore[arg-type]


_ENTRY = re.compile(r"^-{20,} .*\n(?:UDP|TCP) message (sent|received).*\n\n", re.MULTILINE)


def read_messages(log: Path) -> list[Message]:
    parts = _ENTRY.split(log.read_text(errors="replace").replace("\r\n", "\n"))
    return [Message(kind == "sent", text) for kind, text in zip(parts[1::2], parts[2::2], strict=True)]


def write_sound(folder: Path) -> None:
    """What the scenarios say: three seconds of a tone, as raw G.711 of both laws."""
    pcm = np.round(tone(TONE_HERTZ, 3) * 32767).astype("<i2").tobytes()
    (folder / "caller.ulaw").write_bytes(audioop.lin2ulaw(pcm, 2))
    (folder / "caller.alaw").write_bytes(audioop.lin2alaw(pcm, 2))
