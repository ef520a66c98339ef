"""Asterisk's manager interface: actions, and the events that tell what a call does."""

from __future__ import annotations

import itertools
import socket
import threading
import time
from collections.abc import Mapping
from contextlib import suppress

Packet = dict[str, str]


class Ami:
    """Logged in as soon as it is made. Events are kept until somebody waits for them; each is handed out once."""

    def __init__(self, address: str, port: int, *, user: str, secret: str) -> None:
        self._socket = socket.create_connection((address, port), timeout=5)
        self._socket.settimeout(None)
        self._numbers = itertools.count(1)
        self._changed = threading.Condition()
        self._responses: dict[str, Packet] = {}
        self.events: list[Packet] = []
        self._over = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.action("Login", Username=user, Secret=secret)

    def close(self) -> None:
        with suppress(OSError):  # Asterisk has gone first
            self._socket.shutdown(socket.SHUT_RDWR)
        self._reader.join(5)
        self._socket.close()

    def action(self, action: str, *, variables: Mapping[str, str] | None = None, **fields: str) -> Packet:
        """Do something and return what Asterisk says of it; fails where that is an error."""
        number = str(next(self._numbers))
        lines = [f"Action: {action}", f"ActionID: {number}"]
        lines += [f"{name}: {value}" for name, value in fields.items()]
        lines += [f"Variable: {name}={value}" for name, value in (variables or {}).items()]
        self._socket.sendall("\r\n".join((*lines, "", "")).encode())
        with self._changed:
            self._changed.wait_for(lambda: number in self._responses or self._over, 10)
            response = self._responses.pop(number, None)
        assert response is not None, f"no answer to {action}"
        assert response["Response"] == "Success", f"{action} {fields}: {response}"
        return response

    def command(self, line: str) -> str:
        """A line as typed at the console, and what it prints."""
        return self.action("Command", Command=line).get("Output", "")

    def wait_event(self, event: str, timeout: float = 15, **fields: str) -> Packet:
        """The next event with these fields that nobody has waited for yet."""
        deadline = time.monotonic() + timeout
        wanted = {"Event": event, **fields}
        with self._changed:
            while True:
                for position, packet in enumerate(self.events):
                    if wanted.items() <= packet.items():
                        return self.events.pop(position)
                left = deadline - time.monotonic()
                if left <= 0 or self._over:
                    seen = "\n".join(str(packet) for packet in self.events[-40:])
                    raise AssertionError(f"no event {wanted} within {timeout:g} s; waiting:\n{seen}")
                self._changed.wait(left)

    def forget_events(self) -> None:
        """What has happened so far is no answer to what is asked next."""
        with self._changed:
            self.events.clear()

    def _read(self) -> None:
        try:
            with self._socket.makefile("r", encoding="utf-8", errors="replace", newline="\r\n") as lines:
                packet: Packet = {}
                for line in lines:
                    line = line.rstrip("\r\n")
                    name, separator, value = line.partition(": ")
                    if separator:
                        # Only "Output" comes more than once, and only there the lines belong together.
                        packet[name] = f"{packet[name]}\n{value}" if name in packet else value
                    elif not line:
                        self._take(packet)
                        packet = {}
        except OSError:
            pass  # closed, by us or by Asterisk's end
        with self._changed:
            self._over = True
            self._changed.notify_all()

    def _take(self, packet: Packet) -> None:
        with self._changed:
            if "Event" in packet:  # OriginateResponse has a "Response", too
                self.events.append(packet)
            elif "Response" in packet:
                self._responses[packet.get("ActionID", "")] = packet
            self._changed.notify_all()
