"""The health check against real sockets on loopback: a node that answers, one that is busy, one that is not there."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from sipbridge import health

Answer = Callable[[bytes], bytes | None]


@contextmanager
def node(answer: Answer, *, datagrams: int = 1) -> Iterator[tuple[str, list[bytes]]]:
    """A UDP socket that gives the next `datagrams` datagrams to `answer`; yields its address and what it received."""
    received: list[bytes] = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(10)

        def serve() -> None:
            for _ in range(datagrams):
                data, source = sock.recvfrom(65536)
                received.append(data)
                reply = answer(data)
                if reply is not None:
                    sock.sendto(reply, source)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"127.0.0.1:{sock.getsockname()[1]}", received
        finally:
            thread.join()


def respond(status: str) -> Answer:
    def answer(request: bytes) -> bytes:
        _, *headers = request.decode().split("\r\n")
        return "\r\n".join((f"SIP/2.0 {status}", *headers)).encode()

    return answer


@pytest.mark.parametrize("status", ["200 OK", "503 Service Unavailable", "404 Not Found"])
def test_any_sip_response_is_life(status: str, capsys: pytest.CaptureFixture[str]) -> None:
    with node(respond(status)) as (target, received):
        assert health.main([target]) == 0
    assert status[:3] in capsys.readouterr().out
    request = received[0].decode()
    assert request.startswith(f"OPTIONS sip:{target} SIP/2.0\r\n")
    assert request.endswith("Content-Length: 0\r\n\r\n")
    for mandatory in ("Via: ", "From: ", "To: ", "Call-ID: ", "CSeq: 1 OPTIONS", "Max-Forwards: "):  # RFC 3261 §8.1.1
        assert request.count(f"\r\n{mandatory}") == 1


def test_a_lost_request_is_repeated() -> None:
    answers = iter([None, "200 OK"])

    def answer(request: bytes) -> bytes | None:
        status = next(answers)
        return respond(status)(request) if status else None

    with node(answer, datagrams=2) as (target, received):
        assert health.main([target]) == 0
    assert received[0] == received[1]


@pytest.mark.parametrize(
    "reply",
    [b"HTTP/1.1 200 OK\r\n\r\n", b"\xff\x00", b"SIP/2.0 200 OK\r\nCall-ID: another\r\n\r\n", b"SIP/2.0 \r\n\r\n"],
)
def test_what_is_no_answer_to_us_is_no_life(reply: bytes) -> None:
    with node(lambda _: reply) as (target, _):
        assert health.main([target, "--timeout", "0.2"]) == 1


def test_a_closed_port_is_no_life(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    assert health.main([f"127.0.0.1:{port}", "--timeout", "1"]) == 1
    assert "no answer" in capsys.readouterr().out


@pytest.mark.parametrize("target", ["127.0.0.1", ":5060", "localhost:0", "localhost:x", "localhost:70000"])
def test_a_target_that_is_none_is_wrong_usage(target: str) -> None:
    with pytest.raises(SystemExit) as exit_:
        health.main([target])
    assert exit_.value.code == 2
