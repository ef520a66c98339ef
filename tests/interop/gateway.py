"""The gateway as a process of its own, as an operator would run it: `sipbridge serve`."""

from __future__ import annotations

import json
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from tests.interop.peers import ROOT, Program, free_port

Report = dict[str, Any]


class GatewayProcess:
    """A gateway on `address`:`port`, listening on UDP and TCP.

    Its tenants: `agent` is the embedded model; `slow` a model that accepts a connection and says nothing; `away` one
    that does not even listen. `desk` is where a transfer from `agent` goes. `config` holds further sections of
    sipbridge.yaml, `tenants` further tenants.
    """

    def __init__(
        self,
        folder: Path,
        *,
        silent_port: int,
        desk: str,
        address: str = "127.0.0.1",
        port: int | None = None,
        config: Mapping[str, Any] | None = None,
        tenants: Mapping[str, Any] | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.address, self.port = address, port or free_on_both(address)
        self.target = f"{self.address}:{self.port}"
        self.desk = desk
        self._seen: set[str] = set()
        _write(folder / "sipbridge.yaml", merge(self._config(), config or {}))
        all_tenants = {
            "agent": offline("agent", desk),
            "slow": _openai("slow", silent_port),
            "away": _openai("away", free_port("127.0.0.1", socket.SOCK_STREAM)),
            **(tenants or {}),
        }
        (folder / "tenants").mkdir(parents=True)
        for name, tenant in all_tenants.items():
            _write(folder / "tenants" / f"{name}.yaml", tenant)
        self.program = Program(
            [sys.executable, "-m", "sipbridge", "--log-json", "serve", "-c", str(folder / "sipbridge.yaml")],
            cwd=ROOT,
            env=dict(env or {}),
        )

    def uri(self, user: str = "agent") -> str:
        return f"sip:{user}@{self.target}"

    def reports(self) -> list[Report]:
        """What the log says of every call that is over."""
        lines = [line for line in self.program.output.splitlines() if '"call ended"' in line]
        return [json.loads(line) for line in lines]

    def new_reports(self, count: int, timeout: float = 10) -> list[Report]:
        """The next `count` calls to end, and no more than that. Every one is handed out once."""

        def unseen() -> list[Report]:
            return [report for report in self.reports() if report["call_id"] not in self._seen]

        self.program.wait_until(lambda: len(unseen()) >= count, timeout, f"the end of {count} calls")
        found = unseen()
        self._seen.update(report["call_id"] for report in found)
        assert len(found) == count, found
        return found

    def forget(self) -> None:
        """The calls so far are nobody's business any more."""
        self._seen.update(report["call_id"] for report in self.reports())

    def _config(self) -> dict[str, Any]:
        return {
            "sip": {"listen": [f"udp://{self.target}", f"tcp://{self.target}"]},
            "media": {"address": self.address, "ports": "30000-30399"},
            # Above the 32 s after which a call without ACK is given up.
            "limits": {"media_timeout_seconds": 60},
            "tenants": {"directory": "tenants"},
        }


@contextmanager
def running_gateway(folder: Path, *, desk: str, **further: Any) -> Iterator[GatewayProcess]:
    """A gateway that is up, see `GatewayProcess`; stopping it must be clean."""
    with socket.create_server(("127.0.0.1", 0)) as silent:  # the backlog accepts, nobody answers
        gateway = GatewayProcess(folder, silent_port=silent.getsockname()[1], desk=desk, **further)
        try:
            gateway.program.wait_for('"event": "listening"')
            yield gateway
        finally:
            status = gateway.program.stop()
    assert status == 0, gateway.program.output[-5000:]
    assert "Traceback" not in gateway.program.output, gateway.program.output[-5000:]


def offline(user: str, desk: str) -> dict[str, Any]:
    return {
        "match": {"to": user},
        "agent": {
            "provider": "offline",
            "greeting": "Hello, this is sipbridge. Speak, and I repeat it. Press a key, and I name it."
            " Press pound to hang up.",
        },
        "tools": {"hang_up": {}, "transfer_call": {"targets": {"desk": desk}}},
    }


def _openai(user: str, port: int) -> dict[str, Any]:
    agent = {"provider": "openai", "api_key": "none", "url": f"ws://127.0.0.1:{port}/v1/realtime"}
    return {"match": {"to": user}, "agent": agent, "deadlines": {"connect_seconds": 2}}


def merge(base: Mapping[str, Any], further: Mapping[str, Any]) -> dict[str, Any]:
    """Sections of `further` are added to those of `base`, key by key."""
    merged = dict(base)
    for name, section in further.items():
        both = isinstance(section, dict) and isinstance(merged.get(name), dict)
        merged[name] = {**merged[name], **section} if both else section
    return merged


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(yaml.safe_dump(content))


def free_on_both(address: str) -> int:
    """A port that is free for UDP and TCP."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        port = free_port(address)
        with socket.socket() as tcp:
            try:
                tcp.bind((address, port))
            except OSError:
                continue
            return port
    raise AssertionError(f"no free port on {address}")
