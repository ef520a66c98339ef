"""What is going on between us and a model of the OpenAI family: its replies, their items, the tool calls still owed.

The wire allows one response at a time, wants every tool call answered before the next one, and does not know what the
caller heard. This is the bookkeeping for that; it builds no message and knows no socket.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

from sipbridge.audio import Played

_ITEMS_KEPT = 64
"""Items whose length is remembered for truncation; a caller can't interrupt what was said long ago."""
_REPLIES_KEPT = 16
_REPLIES_OWING = 64
"""With those that a tool's result is still to come for."""
CALLS_KEPT = 128
"""Tool calls of one reply: beyond that it is no model any more that asks."""
TEXT_KEPT = 256 * 1024
"""Characters of one reply that are remembered until its last form comes."""
_UNCONFIRMED_KEPT = 64
"""Tool results of which a server may owe us the sight; some never show them."""
RETRIES = 2
"""How often a response refused for its rate is asked for again."""
OWED_WAIT = 20.0
"""Seconds for which a tool result that does not come may hold up what else we want to say."""
LOST_AFTER = 10.0
"""Seconds after which a request that was neither taken nor refused holds up no other one."""
BLIND_WAIT = 1.0
"""Seconds before asking again where the server says a response is active that we know nothing of."""


@dataclass(slots=True)
class Request:
    """A `response.create` of ours: waiting, sent, or become a reply."""

    response: dict[str, Any] | None = None
    """None: a plain one, to go on with the conversation as it stands."""
    event_id: str = ""
    not_before: float = 0.0
    sent_at: float = 0.0
    attempts: int = 0
    cancelled: bool = False


@dataclass(slots=True)
class Item:
    """An assistant message with audio."""

    reply_id: str
    content_index: int
    named: bool = True
    """The server has said how it is called."""
    received: int = 0
    """Octets of audio the server has sent of it."""
    handed_on: int = 0
    """Of these, how many went to the call."""
    cut_ms: int | None = None
    """Where we told the server to truncate it."""


@dataclass(slots=True)
class Reply:
    id: str
    request: Request | None = None
    """Ours, or None where the server answers a turn by itself."""
    cancelled: bool = False
    """After our cancel: its audio is dropped."""
    cut_at: float | None = None
    """When the server said that the caller speaks, whereupon it cuts this reply by itself."""
    cancel_sent: bool = False
    done: bool = False
    waits_until: float = 0.0
    """Until when its owed results hold up other requests."""
    names: dict[str, str] = field(default_factory=dict)
    """Call id -> tool, as announced."""
    announced: set[str] = field(default_factory=set)
    """Calls whose arguments have begun to come."""
    nameless: dict[str, str] = field(default_factory=dict)
    """Complete calls whose name may still come with their item -> their arguments."""
    calls: set[str] = field(default_factory=set)
    """Complete calls, handed out."""
    owed: set[str] = field(default_factory=set)
    texts: dict[str, list[str]] = field(default_factory=dict)
    """Item -> text deltas whose whole text has not come yet."""
    text_kept: int = 0
    """Characters of these and of `written`."""
    written: dict[str, str] = field(default_factory=dict)
    """Item -> its whole text, where a session writes what another voice speaks."""
    heard: str | None = None
    """How much of that was heard, where it was not all."""


@dataclass(frozen=True, slots=True)
class Cut:
    item_id: str
    content_index: int
    audio_end_ms: int


class Replies:
    def __init__(self, bytes_per_second: int) -> None:
        self._bytes_per_second = bytes_per_second
        self.active: Reply | None = None
        self.in_flight: Request | None = None
        """Sent, not yet created."""
        self.held_until = 0.0
        """No request of ours is sent before, e.g. where the server takes none while the caller speaks."""
        self._waiting: deque[Request] = deque()
        self._replies: dict[str, Reply] = {}
        self._items: dict[str, Item] = {}
        self._unconfirmed: dict[str, None] = {}
        """Tool results sent that the server has not yet shown as items of the conversation."""

        self.to_cancel: list[str] = []
        """Responses the server has to be told to cancel ("": the one in flight), in the order they came up."""
        self.to_cut: list[Cut] = []
        """Items it has to be told to truncate; after the cancels."""
        self.to_replace: list[tuple[str, str]] = []
        """Items in text of which only this was heard; "": nothing."""
        self.to_revoke: list[str] = []
        """Tool calls that nobody will answer any more: the server is given something, so that it does not wait."""

    # asking for replies

    def want(self, request: Request) -> None:
        """Plain requests that wait are one: each asks to go on with all there is."""
        if request.response is None and any(waiting.response is None for waiting in self._waiting):
            return
        self._waiting.append(request)

    def next_request(self, now: float) -> Request | None:
        """The next request that may be sent now: none is active and no tool result is owed. Counts as sent."""
        due = self.get_timer()
        if due is None or due > now:
            return None
        self.in_flight = self._waiting.popleft()
        self.in_flight.sent_at = now
        return self.in_flight

    def get_timer(self) -> float | None:
        """When `next_request` has something; None: not before something else happens."""
        if not self._waiting or self.active is not None:
            return None
        if self.in_flight is not None:
            return max(self._waiting[0].not_before, self.in_flight.sent_at + LOST_AFTER)
        owing = [reply.waits_until for reply in self._replies.values() if reply.owed]
        due = max(self._waiting[0].not_before, self.held_until, *owing)
        return due if isfinite(due) else None

    def refused(self, event_id: str, now: float) -> None:
        """The server says that another response is active: ask again when it is done."""
        request = self._forget(event_id)
        if request is not None and not request.cancelled:
            request.not_before = 0.0 if self.active else now + BLIND_WAIT
            self._waiting.appendleft(request)

    def rejected(self, event_id: str) -> Request | None:
        """The server does not take this request at all. None: it was none of ours."""
        return self._forget(event_id)

    def _forget(self, event_id: str) -> Request | None:
        """The request with this id (or the one in flight, where the server names none), no longer sent."""
        request = self.in_flight
        if request is not None and event_id in ("", request.event_id):
            self.in_flight = None
            return request
        # The turn detection's own response came first and was taken for ours.
        if self.active and self.active.request and self.active.request.event_id == event_id:
            request, self.active.request = self.active.request, None
            return request
        return None

    def retry(self, reply: Reply, now: float) -> bool:
        """Ask again for a reply that failed for its rate. False: often enough."""
        return not reply.cancelled and self.ask_again(reply.request or Request(), now)

    def ask_again(self, request: Request, now: float) -> bool:
        """A while later, and each time a longer one. False: often enough, or nobody wants it any more."""
        request.attempts += 1
        if request.attempts > RETRIES or request.cancelled:
            return False
        request.not_before = now + request.attempts
        self._waiting.appendleft(request)
        return True

    # the life of a reply

    def created(self, reply_id: str) -> Reply:
        reply = Reply(reply_id, request=self.in_flight)
        if self.in_flight is not None:
            reply.cancelled = self.in_flight.cancelled
            reply.cancel_sent = reply.cancelled
            self.in_flight = None
            self._unconfirmed.clear()  # all that were sent came before the request that has become this reply
        elif not self._unconfirmed:
            # The server's own answer to a turn has seen all tool results: nothing is left to ask for.
            self._waiting = deque(request for request in self._waiting if request.response is not None)
        self._replies[reply_id] = self.active = reply
        for old in list(self._replies.values())[:-_REPLIES_KEPT]:
            if not old.owed or len(self._replies) > _REPLIES_OWING:
                del self._replies[old.id]
        return reply

    def find(self, reply_id: str) -> Reply | None:
        """Some servers leave the id out; then it is the active one."""
        return self._replies.get(reply_id) if reply_id else self.active

    def done(self, reply: Reply, now: float, *, went_well: bool) -> None:
        if reply.cancelled:
            self._cut_unheard(reply)
        reply.done = True
        reply.waits_until = now + OWED_WAIT
        if self.active is reply:
            self.active = None
        if not went_well:
            # It was cut or failed: what its calls return is for the record, the caller has moved on.
            reply.cancelled = True
        self._replace_unheard(reply)
        self._continue(reply)

    def open_replies(self) -> list[Reply]:
        return [reply for reply in self._replies.values() if not reply.done]

    # tool calls

    def called(self, reply: Reply, call_id: str) -> bool:
        """Whether to hand it out: it is new, and the caller has not cut the reply before it came."""
        if call_id in reply.calls or len(reply.calls) >= CALLS_KEPT:
            return False
        reply.calls.add(call_id)
        if reply.cancelled:
            self.to_revoke.append(call_id)
            return False
        reply.owed.add(call_id)
        return True

    def called_before(self, call_ids: Sequence[str]) -> None:
        """Calls of an earlier session of this conversation, whose results are still to come."""
        reply = self._replies[""] = Reply("", done=True)
        reply.calls.update(call_ids)
        reply.owed.update(call_ids)

    def answered(self, call_id: str) -> bool:
        """A result goes out. False: nobody asked for it, or it was answered before."""
        for reply in self._replies.values():
            if call_id in reply.owed:
                reply.owed.discard(call_id)
                self._unconfirmed[call_id] = None
                if len(self._unconfirmed) > _UNCONFIRMED_KEPT:
                    del self._unconfirmed[next(iter(self._unconfirmed))]
                self._continue(reply)
                return True
        return False

    def confirmed(self, call_id: str) -> None:
        self._unconfirmed.pop(call_id, None)

    def _continue(self, reply: Reply) -> None:
        if reply.done and reply.calls and not reply.owed and not reply.cancelled:
            self.want(Request())

    # audio, and what was heard of it

    def audio(self, reply: Reply, item_id: str, content_index: int, size: int, named: bool = True) -> bool:
        """Account for a delta. False: it came too late and is not to be heard."""
        item = self._items.get(item_id)
        if item is None:
            item = self._items[item_id] = Item(reply.id, content_index, named)
            if len(self._items) > _ITEMS_KEPT:
                del self._items[next(iter(self._items))]
        item.received += size
        if reply.cancelled or reply.done:
            return False
        item.handed_on += size
        return True

    def taken_back(self, item_id: str, size: int) -> None:
        """Audio that was accounted for and never reached the call."""
        if item := self._items.get(item_id):
            item.handed_on -= size

    # barge-in

    def interrupt(self, played: Sequence[Played]) -> list[str]:
        """The caller has the floor: stop what is being generated, cut what he did not hear. Returns the tool calls that
        go with it: those of the reply under way and of replies that were being heard. Others go on."""
        # What only asked to go on is settled by his turn.
        self._waiting = deque(request for request in self._waiting if request.response is not None)
        if self.in_flight is not None and not self.in_flight.cancelled:
            self.in_flight.cancelled = True
            self.to_cancel.append("")
        reply = self.active
        if reply is not None and not reply.cancelled:
            reply.cancelled = True
            if reply.cut_at is None:
                self.cancel(reply)
        self._cut(played)
        if reply is not None:
            self._cut_unheard(reply)
        revoked = [] if reply is None else self._revoke(reply)
        for heard in played:
            audible = self._replies.get(heard.reply_id)
            if audible is not None:
                revoked += self._revoke(audible)
        return revoked

    def _revoke(self, reply: Reply) -> list[str]:
        revoked = sorted(reply.owed)
        if revoked:
            reply.cancelled = True  # what went before is for the record: nothing more is asked for
            reply.owed.clear()
            self.to_revoke += revoked
        return revoked

    def cancel(self, reply: Reply) -> None:
        if not reply.cancel_sent:
            reply.cancel_sent = True
            self.to_cancel.append(reply.id)

    def _cut(self, played: Sequence[Played]) -> None:
        """Never beyond what the server sent, which it would refuse, and never later than it was told before."""
        for heard in played:
            item = self._items.get(heard.item_id)
            if item is None or not item.named or (item.cut_ms is not None and item.cut_ms <= heard.played_ms):
                continue
            sent_ms = item.received * 1000 // self._bytes_per_second
            generating = self.active is not None and self.active.id == item.reply_id
            if heard.played_ms < sent_ms or generating:
                item.cut_ms = max(0, min(heard.played_ms, sent_ms))
                self.to_cut.append(Cut(heard.item_id, item.content_index, item.cut_ms))

    def _cut_unheard(self, reply: Reply) -> None:
        """The items of a cancelled reply of which nothing reached the call, so that it can't report on them."""
        mine = [(item_id, item) for item_id, item in self._items.items() if item.reply_id == reply.id]
        self._cut([Played(reply.id, item_id, 0) for item_id, item in mine if item.handed_on <= 0])

    # what was heard of words that another voice spoke

    def heard(self, reply_id: str, text: str) -> None:
        """Of all that this reply wrote, its beginning up to here. Settled when the reply is done."""
        reply = self._replies.get(reply_id)
        if reply is not None:
            reply.heard = text.strip()
            if reply.done:
                self._replace_unheard(reply)

    def _replace_unheard(self, reply: Reply) -> None:
        if reply.heard is None:
            return
        rest, reply.heard = reply.heard, None
        for item_id, text in reply.written.items():
            whole = text.strip()
            if len(rest) < len(whole):
                self.to_replace.append((item_id, rest))
            rest = rest[len(whole) :].lstrip()
        reply.written.clear()
