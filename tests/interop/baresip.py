"""A headless baresip, driven over its control socket (ctrl_tcp: JSON in netstrings).

It says a WAV file and records both directions of every call. What of it is peculiar, found by running 1.0.0: the
network interface must be named by its address, or SDP carries the host's; aufile can only be a source, so the far end
is heard by the sndfile filter, and aubridge stands in for a loudspeaker; without a terminal the stdio module must
stay out; its RTP leaves from 127.0.0.1 whatever address its SDP names, so a peer that hears it has followed the
packets' source.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from tests.interop.peers import Program, free_port, require
from tests.interop.sound import Samples, read_wav

Event = dict[str, Any]


@dataclass(frozen=True)
class Coding:
    """A codec as baresip names it, its module, and the rate of the sound: it has nothing to resample with, so its WAVs
    are of that rate. Opus has two channels, as RFC 7587 demands of its name."""

    name: str
    module: str
    rate: int
    channels: int = 1


CODINGS = {
    "PCMU": Coding("PCMU/8000/1", "g711", 8000),
    "PCMA": Coding("PCMA/8000/1", "g711", 8000),
    "G722": Coding("G722/16000/1", "g722", 16000),
    "opus": Coding("opus/48000/2", "opus", 48000, 2),
}


_ENCRYPTION = ("srtp", "dtls_srtp")


class Baresip:
    """One baresip on an address of its own (127.0.0.x). Use as a context manager.

    `says` is a WAV of the codec's rate; `codec` the only one offered, of those in CODINGS; with `answers` it takes
    calls at once. `encryption` is "srtp" (SDES, may be refused), "srtp-mand" (must not) or "dtls_srtp"; `mux`: one
    port for RTP and RTCP. With `tls` it speaks TLS: the file of whom it trusts, and that with its own certificate and
    key; it then listens one port higher. With `registers` it is an account (user, password, HOST:PORT) of that server.
    `settings` are further lines of its configuration.
    """

    def __init__(
        self,
        folder: Path,
        *,
        address: str,
        says: Path,
        codec: str = "PCMU",
        answers: bool = False,
        port: int | None = None,
        tls: tuple[Path, Path] | None = None,
        registers: tuple[str, str, str] | None = None,
        encryption: str | None = None,
        mux: bool = False,
        settings: Sequence[str] = (),
    ) -> None:
        self.address = address
        self.coding = CODINGS[codec]
        self.port = port or free_port(address)
        self.uri = f"sip:baresip@{address}:{self.port}"
        self._folder = folder
        self._tls = tls
        self._settings = (f"rtcp_mux {'yes' if mux else 'no'}", *settings)
        self._recordings = folder / "recordings"
        self._recordings.mkdir(parents=True)
        control = free_port(address, socket.SOCK_STREAM)
        program = require("baresip")
        (folder / "config").write_text(self._config(_modules(program), says, control))
        mode = ";answermode=auto" if answers else ""
        transport = ";transport=tls" if tls else ""
        account = f"<sip:baresip@{address}{transport}>;regint=0"
        if registers is not None:
            user, password, server = registers
            account = f"<sip:{user}@{server}>;auth_user={user};auth_pass={password};regint=60"
        account += f";audio_codecs={self.coding.name}{mode}"
        account += f";mediaenc={encryption}" if encryption else ""
        (folder / "accounts").write_text(account + "\n")
        (folder / "contacts").write_text("")
        self.program = Program([program, "-f", str(folder)])
        self.events: list[Event] = []
        self._buffer = b""
        self._responses: dict[str, Event] = {}
        try:
            self.program.wait_for("baresip is ready")
            self._control = socket.create_connection((address, control), timeout=5)
        except BaseException:
            self.program.stop()
            raise

    def _config(self, modules: Path, says: Path, control: int) -> str:
        lines = (
            f"sip_listen {self.address}:{self.port}",
            f"net_interface {self.address}",
            f"audio_source aufile,{says}",
            "audio_player aubridge,loudspeaker",
            "audio_alert aubridge,bell",
            *(f"{way}_srate {self.coding.rate}" for way in ("ausrc", "auplay")),
            *(f"{way}_channels {self.coding.channels}" for way in ("ausrc", "auplay")),
            "rtp_ports 20000-20998",
            "rtp_timeout 60",
            f"module_path {modules}",
            *(f"module {name}.so" for name in (self.coding.module, "aufile", "aubridge", "sndfile", *_ENCRYPTION)),
            *(f"module_app {name}.so" for name in ("account", "menu", "ctrl_tcp", "rtcpsummary")),
            f"ctrl_tcp_listen {self.address}:{control}",
            f"snd_path {self._recordings}",
            *((f"sip_cafile {self._tls[0]}", f"sip_certificate {self._tls[1]}") if self._tls else ()),
            *self._settings,
        )
        return "\n".join((*lines, ""))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._control.close()
        self.program.stop()

    def command(self, name: str, parameters: str = "", *, timeout: float = 10, may_fail: bool = False) -> str:
        """Run a command and return what it prints; fails where baresip says that it did not work."""
        token = str(time.monotonic_ns())
        message = json.dumps({"command": name, "params": parameters, "token": token}).encode()
        self._control.sendall(b"%d:%s," % (len(message), message))
        self._receive_until(lambda: token in self._responses, timeout, f"the answer to {name}")
        response = self._responses.pop(token)
        assert response["ok"] or may_fail, f"baresip refused {name} {parameters}: {response}"
        return str(response.get("data", ""))

    def dial(self, uri: str) -> None:
        self.command("dial", uri)

    def press(self, keys: str) -> None:
        """Telephone-events of the call that is up, one after the other."""
        for key in keys:
            self.command("sndcode", key)

    def hang_up(self) -> None:
        self.command("hangup")

    def wait_event(self, kind: str, timeout: float = 10) -> Event:
        """The next event of this type that nobody has waited for yet, such as CALL_ESTABLISHED or CALL_CLOSED."""
        found: list[Event] = []

        def arrived() -> bool:
            for position, event in enumerate(self.events):
                if event.get("type") == kind:
                    found.append(self.events.pop(position))
                    return True
            return False

        self._receive_until(arrived, timeout, f"event {kind}")
        return found[0]

    @property
    def is_recording(self) -> bool:
        """Whether a call has had sound from the far end."""
        return any(file.stat().st_size > 44 for file in self._recordings.glob("*dec.wav"))

    def forget_events(self) -> None:
        """What has happened so far is no answer to what is asked next."""
        self.events.clear()

    def heard(self) -> Samples:
        """What came from the far end in the last call, decoded. Whole when the call is over."""
        return read_wav(self._latest("dec"), self.coding.rate)

    def said(self) -> Samples:
        """What was sent to the far end in the last call."""
        return read_wav(self._latest("enc"), self.coding.rate)

    def _latest(self, direction: str) -> Path:
        files = sorted(self._recordings.glob(f"*{direction}.wav"), key=lambda file: file.stat().st_mtime_ns)
        assert files, f"baresip recorded nothing ({direction}):\n{self.program.output}"
        return files[-1]

    def _receive_until(self, done: Callable[[], bool], timeout: float, what: str) -> None:
        deadline = time.monotonic() + timeout
        while not done():
            left = deadline - time.monotonic()
            try:
                self._control.settimeout(max(left, 0.001))
                data = self._control.recv(65536)
            except TimeoutError:
                data = b""
            if not data:
                raise AssertionError(f"no {what} within {timeout:g} s; waiting: {self.events}\n{self.program.output}")
            self._take(data)

    def _take(self, data: bytes) -> None:
        """Cut netstrings ("LENGTH:JSON,") out of the stream."""
        self._buffer += data
        while b":" in self._buffer:
            length, _, rest = self._buffer.partition(b":")
            if len(rest) <= int(length):
                return
            message = json.loads(rest[: int(length)])
            self._buffer = rest[int(length) + 1 :]
            if message.get("event"):
                self.events.append(message)
            else:
                self._responses[str(message.get("token"))] = message


def _modules(program: str) -> Path:
    """The folder of modules that belongs to this program."""
    for folder in (Path(program).parents[1] / "root/usr/lib/baresip/modules", Path("/usr/lib/baresip/modules")):
        if folder.is_dir():
            return folder
    raise AssertionError(f"the modules of {program} were not found")


def wait_for_sound(phone: Baresip, heard: Callable[[Samples], bool], timeout: float = 20) -> Samples:
    """Wait until what the phone has heard so far satisfies `heard`. The recording grows as the call goes on; each of
    baresip's status lines, several a second, is the occasion to look again."""
    recording = np.zeros(0)

    def done() -> bool:
        nonlocal recording
        recording = phone.heard() if phone.is_recording else recording
        return heard(recording)

    phone.program.wait_until(done, timeout, "such sound")
    return recording
