"""What the simulated caller is asked to do, and the checks of it that need no call."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sipbridge import codecs
from sipbridge.errors import ConfigError, SipParseError, TlsFileError
from sipbridge.simulator.caller_recording import NARROW_RATE, WIDE_RATE
from sipbridge.simulator.caller_report import Expectation
from sipbridge.simulator.caller_script import TURN_GAP_S
from sipbridge.sip.flow import is_address
from sipbridge.sip.headers import Uri
from sipbridge.sip.tls import TlsContexts, TlsSettings

Srtp = Literal["off", "optional", "sdes", "dtls"]
LISTEN_SECONDS = 10.0
LONGEST_SECONDS = 120.0
_PORTS = range(20000, 30000)
_ANYWHERE = "192.0.2.1"
"""A documentation address (RFC 5737): the way there is the default one, and nothing is sent."""


@dataclass(frozen=True, slots=True)
class CallOptions:
    target: str
    """`sip:USER@HOST[:PORT]`; with `;transport=tls`, or as `sips:`, over TLS."""
    wav: Path | None = None
    """What to say, once the greeting is over."""
    say: str | None = None
    """The same as words: a shipped prompt, or spoken by `espeak-ng`."""
    record: Path | None = None
    stereo: bool = False
    """Record both sides: left what the phone says, right what it hears."""
    dtmf: str = ""
    """Keys to press, one by one, each after the last was answered."""
    seconds: float | None = None
    """Hang up so long after the answer, wherever the call is then."""
    barge_in: bool = False
    """Interrupt the answer by saying the sentence once more ..."""
    barge_in_after_s: float = 1.5
    """... when so much of it was heard."""
    greeting_within_s: float = 5.0
    reply_within_s: float = 10.0
    turn_gap_s: float = TURN_GAP_S
    """So long a quiet means that the other side has finished."""
    expect: tuple[Expectation, ...] = ()
    codecs: tuple[str, ...] = ("PCMU", "PCMA")
    srtp: Srtp = "off"
    """Encrypted sound: `optional` offers keys and takes a plain answer, the last two insist."""
    transport: Literal["udp", "tcp", "tls"] | None = None
    """None: what the target's `transport` parameter says, else UDP; TLS for sips."""
    tls: TlsSettings = TlsSettings()
    """Whom to trust, and which certificate to show."""
    from_: str | None = None
    """The caller's URI; None: `sip:caller@` and our address."""
    headers: tuple[tuple[str, str], ...] = ()
    ring_seconds: float = 60.0
    """Give up where nobody has answered by then."""
    local_address: str | None = None
    ports: range = _PORTS

    @property
    def rate(self) -> int:
        """Of what is said and heard: wide where a codec may carry it."""
        wide = any(codec.sample_rate > NARROW_RATE for codec in codecs.select(self.codecs))
        return WIDE_RATE if wide else NARROW_RATE

    def check(self) -> None:
        """Raises `ConfigError` for what would fail whoever is called."""
        transport_for(parse_target(self.target), self.transport)
        try:
            TlsContexts(self.tls)
        except TlsFileError as error:
            raise ConfigError(str(error)) from None
        if self.from_ is not None:
            parse_target(self.from_)
        if set(self.dtmf) - set("0123456789*#ABCD"):
            raise ConfigError(f"{self.dtmf!r}: keys are 0-9, *, # and A-D")
        if not codecs.select(self.codecs):
            raise ConfigError(f"{', '.join(self.codecs)}: there are {', '.join(codecs.available_codecs())}")
        if self.barge_in and self.wav is None and self.say is None:
            raise ConfigError("to interrupt, the phone needs something to say")


def parse_target(text: str) -> Uri:
    try:
        uri = Uri.parse(text)
    except SipParseError as error:
        raise ConfigError(str(error)) from None
    if uri.scheme not in ("sip", "sips"):
        raise ConfigError(f"{text}: the phone calls sip: and sips: URIs only")
    return uri


def parse_srtp(text: str) -> Srtp:
    match text:
        case "off" | "optional" | "sdes" | "dtls":
            return text
        case _:
            raise ConfigError(f"{text!r}: the phone's srtp is off, optional, sdes or dtls")


def transport_for(uri: Uri, chosen: Literal["udp", "tcp", "tls"] | None) -> Literal["udp", "tcp", "tls"]:
    """Raises `ConfigError` for one that the phone does not have."""
    if uri.scheme == "sips":
        return "tls"
    match chosen or (uri.params.get("transport") or "udp").lower():
        case "udp":
            return "udp"
        case "tcp":
            return "tcp"
        case "tls":
            return "tls"
        case other:
            raise ConfigError(f"the phone has no transport {other}; it has udp, tcp and tls")


async def address_towards(uri: Uri) -> str:
    """Our own address on the way there. Raises OSError where the host is unknown or out of reach."""
    family = socket.AF_INET6 if ":" in uri.host else socket.AF_INET
    remote = uri.host
    if not is_address(uri.host):
        try:
            found = await asyncio.get_running_loop().getaddrinfo(uri.host, None, type=socket.SOCK_DGRAM, family=family)
            remote = str(found[0][4][0])
        except socket.gaierror:
            remote = _ANYWHERE  # a domain may have servers (SRV) and no address of its own
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect((remote, uri.port or 5060))  # sends nothing
        return str(probe.getsockname()[0])
