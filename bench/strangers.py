"""Scanners: requests at a steady rate from many addresses of which the gateway knows none."""

from __future__ import annotations

import socket

from bench.loop import MS, Loop

_SOURCES = 50


class Strangers:
    def __init__(self, loop: Loop, gateway: tuple[str, int], rate: int) -> None:
        """Begins at once; `rate` in requests per second, sent every millisecond."""
        self.sent = 0
        self.answers = 0
        self._loop = loop
        self._per_millisecond = rate // 1000
        self._stopped = False
        self._sockets = []
        for number in range(_SOURCES):
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.bind((f"127.9.0.{number + 1}", 0))
            sock.connect(gateway)
            sock.setblocking(False)
            self._sockets.append(sock)
        loop.after(0, self._send)

    def stop(self) -> None:
        self._stopped = True
        for sock in self._sockets:
            self._count_answers(sock)
            sock.close()

    def _send(self, due: int) -> None:
        if self._stopped:
            return
        for _ in range(self._per_millisecond):
            sock = self._sockets[self.sent % _SOURCES]
            self.sent += 1
            sock.send(_request(self.sent))
        self._loop.at(due + MS, self._send)

    def _count_answers(self, sock: socket.socket) -> None:
        while True:
            try:
                sock.recv(4096)
            except OSError:
                return
            self.answers += 1


def _request(number: int) -> bytes:
    method = ("OPTIONS", "INVITE", "REGISTER")[number % 3]
    lines = [
        f"{method} sip:100@192.0.2.1 SIP/2.0",
        f"Via: SIP/2.0/UDP 192.0.2.77:5060;branch=z9hG4bK-{number};rport",
        "Max-Forwards: 70",
        f'From: "scanner" <sip:100@192.0.2.77>;tag={number:x}',
        "To: <sip:100@192.0.2.1>",
        f"Call-ID: {number:032x}",
        f"CSeq: 1 {method}",
        "Contact: <sip:100@192.0.2.77:5060>",
        "User-Agent: friendly-scanner",
        "Content-Length: 0",
    ]
    return "\r\n".join([*lines, "", ""]).encode()
