"""Is the gateway alive? One SIP OPTIONS over UDP; the exit status is the answer (`python -m sipbridge.health`).

For container health checks and watchdogs, so it uses nothing but the standard library and starts fast. Any SIP response
counts as life: a node that is full or draining answers 503, and whoever restarted it for that would cut the calls that
it still carries. Only silence, or something that is no SIP, is a failure.
"""

from __future__ import annotations

import argparse
import secrets
import socket
import sys
import time

T1_SECONDS = 0.5
"""First retransmission interval over UDP, then doubled (RFC 3261 §17.1.2.2, Timer E)."""


def ping(host: str, port: int, timeout_seconds: float) -> int | None:
    """The status that `host:port` answers an OPTIONS with, or None when it says nothing in time."""
    family, _, _, _, target = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.connect(target)
        call_id = secrets.token_hex(8)
        request = _options(host, port, sock.getsockname()[:2], call_id)
        deadline = time.monotonic() + timeout_seconds
        interval = T1_SECONDS
        while (left := deadline - time.monotonic()) > 0:
            try:
                sock.send(request)
                status = _wait(sock, call_id, min(interval, left))
            except ConnectionRefusedError:  # nobody listens on that port
                return None
            if status is not None:
                return status
            interval *= 2
    return None


def _wait(sock: socket.socket, call_id: str, seconds: float) -> int | None:
    """The status of the next response that is ours, within `seconds`."""
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        sock.settimeout(left)
        try:
            data = sock.recv(65536)
        except TimeoutError:
            return None
        start, _, rest = data.partition(b"\r\n")
        version, _, status = start.partition(b" ")
        if version == b"SIP/2.0" and status[:3].isdigit() and call_id.encode() in rest:
            return int(status[:3])
    return None


def _options(host: str, port: int, local: tuple[str, int], call_id: str) -> bytes:
    here, there = f"{_bracketed(local[0])}:{local[1]}", f"{_bracketed(host)}:{port}"
    lines = (
        f"OPTIONS sip:{there} SIP/2.0",
        f"Via: SIP/2.0/UDP {here};branch=z9hG4bK{secrets.token_hex(8)};rport",
        "Max-Forwards: 1",
        f"From: <sip:health@{here}>;tag={secrets.token_hex(4)}",
        f"To: <sip:{there}>",
        f"Call-ID: {call_id}",
        "CSeq: 1 OPTIONS",
        "Content-Length: 0",
    )
    return "\r\n".join((*lines, "", "")).encode()


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def _target(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise argparse.ArgumentTypeError(f"HOST:PORT is expected, not {text!r}")
    return host.strip("[]"), int(port)


def main(argv: list[str] | None = None) -> int:
    """0: it answered; 1: it did not."""
    parser = argparse.ArgumentParser(
        prog="python -m sipbridge.health", description="Ask a SIP node whether it is alive."
    )
    parser.add_argument(
        "target", nargs="?", type=_target, default=("127.0.0.1", 5060), help="HOST:PORT (127.0.0.1:5060)"
    )
    parser.add_argument("--timeout", type=float, default=3.0, metavar="SECONDS")
    arguments = parser.parse_args(argv)
    host, port = arguments.target
    try:
        status = ping(host, port, arguments.timeout)
    except OSError as error:
        sys.stdout.write(f"{host}:{port}: {error}\n")
        return 1
    sys.stdout.write(f"{host}:{port}: {'no answer' if status is None else f'answered {status}'}\n")
    return 0 if status is not None else 1


if __name__ == "__main__":
    sys.exit(main())
