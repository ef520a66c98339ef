"""What we tell the peer of the call that its REFER made us place (RFC 3515 §2.4.5): NOTIFYs, one after the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from sipbridge.sip.dialog import Dialog
from sipbridge.sip.message import Request, Response
from sipbridge.sip.refer import EVENT, SIPFRAG, write_sipfrag
from sipbridge.sip.subscription import ReferReports
from sipbridge.sip.usage import Loss, ends_call, loss

if TYPE_CHECKING:
    from sipbridge.sip.core import Core
    from sipbridge.sip.invite import Invite

_MAX_TRIES = 3
_LONGEST_RETRY_S = 32


class ReferNotifier:
    """Tells the peer how the call goes on that it asked for. Commands may be given at any time, also after the call in
    which the REFER came has ended; once it `is_over`, they do nothing."""

    def __init__(
        self,
        core: Core,
        call: Invite,
        dialog: Dialog | None,
        event: str,
        now: float,
        *,
        on_over: Callable[[ReferNotifier], None],
    ) -> None:
        """Without a dialog there is nobody to tell."""
        self._core = core
        self._call = call
        self._dialog = dialog
        self._event = event
        self._on_over = on_over
        self._sending: Request | None = None
        self._tries = 0
        self._retry_at: float | None = None
        self.reports = ReferReports(now)
        if dialog is None:
            self.reports.end()

    @property
    def is_over(self) -> bool:
        """Nothing more will be told: the last was, or the peer does not want to hear it."""
        return self.reports.over and self._sending is None and self._retry_at is None

    def notify(self, status: int, reason: str, now: float) -> None:
        """A response to the call that they asked for, or what is as good as one; from 200 on it is the last."""
        self.reports.happened(status, reason)
        self.tell(now)

    def is_of(self, id_: str | None) -> bool:
        return id_ is None or self._event == f"{EVENT};id={id_}"

    def tell(self, now: float) -> None:
        """Send what is to be told, if it is time for it."""
        report = None if self._dialog is None or self._retry_at is not None else self.reports.next(now)
        if report is not None and self._dialog is not None:
            request = self._sending = self._dialog.request("NOTIFY")
            request.headers.add("Event", self._event)
            request.headers.add("Subscription-State", report.state)
            request.headers.add("Content-Type", SIPFRAG)
            request.body = write_sipfrag(report.status, report.reason)
            self._core.send_in_dialog(self._dialog, request, self, now, beside=self._call.flow)
        self._core.schedule.update(self)

    # input: what becomes of our NOTIFYs

    def receive_response(self, request: Request, response: Response, now: float) -> None:
        if response.status >= 300:
            self._failed(response.status, response.retry_after, now)
        elif response.status >= 200:
            self._sending = None
            self._tries = 0
            self.reports.answered()
            self.tell(now)
            self._finish_if_over()

    def request_failed(self, request: Request, status: int, now: float) -> None:
        self._failed(status, None, now)

    def _failed(self, status: int, retry_after_s: int | None, now: float) -> None:
        """RFC 6665 §4.2.2: they want to hear no more, or not now, or it is as if they had heard it."""
        self._sending = None
        self._tries += 1
        if loss("NOTIFY", status) is not Loss.TRANSACTION:
            self.reports.end()
            if ends_call("NOTIFY", status) and not self._call.is_over:
                self._call.lose(status, now)
        elif retry_after_s is not None and retry_after_s <= _LONGEST_RETRY_S and self._tries < _MAX_TRIES:
            self.reports.refused_for_now()
            self._retry_at = now + retry_after_s
        else:
            self.reports.answered()
            self.tell(now)
        self._core.schedule.update(self)
        self._finish_if_over()

    def _finish_if_over(self) -> None:
        if self.is_over:
            self._core.schedule.update(self)
            self._on_over(self)

    # time

    def get_timer(self) -> float | None:
        if self._retry_at is not None:
            return self._retry_at
        return None if self.reports.over or self._sending is not None else self.reports.expires_at

    def handle_timer(self, now: float) -> None:
        self._retry_at = None
        self.tell(now)
