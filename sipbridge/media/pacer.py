"""Agent speech waiting to be heard on one leg: the only downlink queue, so the only thing a barge-in has to stop.

A model speaks much faster than a caller listens. What it said is kept here as the pieces it came in, in the leg's ring
format, until the clock asks for the next frame; each item knows how much of it has really left as RTP. Nothing here
converts, encodes or keeps time.

`pause()` and `discard()` end the sound with a fade of at most `fade_ms` in the next frame and silence after it. What
fades out counts as played: it was heard. Where the ring runs dry in the middle of an item the sound fades out, too, and
fades in when it goes on; a `Cushion` says whether to gather a little first. The end of a finished item is the model's
own and stays as it is.

Time is what the owner says (`clock_ms`), where a few milliseconds matter; else frames are the clock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from enum import Enum, auto

from sipbridge.audio import AudioFormat, Played
from sipbridge.media import fade
from sipbridge.media.cushion import Cushion

_REMEMBERED_ITEMS = 64
EARLY_MS = 2.0
"""A hold ends with the frame that begins so soon before."""


class _State(Enum):
    PLAYING = auto()
    PAUSING = auto()
    """pause() was called; the next frame carries the fade."""
    PAUSED = auto()


class Item:
    __slots__ = ("finished", "item_id", "promised", "reply_id", "sent", "waiting")

    def __init__(self, reply_id: str, item_id: str) -> None:
        self.reply_id = reply_id
        self.item_id = item_id
        self.sent = 0
        """Bytes handed out that count towards what was played."""
        self.waiting = 0
        """Bytes still in the ring, those that do not count included."""
        self.promised = 0
        """How many microseconds of speech are still to be put there: they are being converted."""
        self.finished = False


class _Segment:
    """One piece of the ring, as it was pushed. `counts` is False for sound that is no progress in its item."""

    __slots__ = ("counts", "data", "item", "position")

    def __init__(self, data: bytes, item: Item, counts: bool) -> None:
        self.data = data
        self.item = item
        self.counts = counts
        self.position = 0


class Pacer:
    """The ring of one leg.

    Items play in the order they were pushed, without a gap between them. An item is *drained* when it is finished and
    its last byte has been handed out; `take_drained()` names it once. Until then `position()` and `discard()` report
    it, also when nothing of it was heard yet, and when all of it was but its end is not known.
    """

    def __init__(self, audio_format: AudioFormat, *, fade_ms: int = 10) -> None:
        self.audio_format = audio_format
        self.underruns = 0
        """How often the ring ran empty in the middle of an item."""
        self.cushion = Cushion()
        self._fade_bytes = fade_ms * audio_format.bytes_per_ms
        self._segments: deque[_Segment] = deque()
        self._items: list[Item] = []
        self._by_id: dict[str, Item] = {}
        self._buffered = 0
        self._promised = 0
        self._state = _State.PLAYING
        self._last = b""  # the frame before, where it ended with speech: stopping now would click
        self._slow = False  # the next frame is no plain slice of the ring
        self._farewell = b""  # the fade that discard() left for the next frame
        self._faded: _Segment | None = None  # what pause() faded out, to be faded in by resume()
        self.clock_ms = 0.0
        """When the next frame begins, or the next piece comes: may be set before either. In silence it goes on by
        itself."""
        self._dry_at: float | None = None  # when speech ended in the middle of an item
        self._fade_in = False
        self._hold_until = 0.0  # speech does not begin before,
        self._gather_ms = 0.0  # unless so much waits
        self._holding = False
        self.starting: deque[Item] = deque()
        """Items of which nothing has been handed out yet."""
        self._started: dict[str, float] = {}
        self._drained: list[str] = []
        self._done: deque[str] = deque(maxlen=_REMEMBERED_ITEMS)  # drained or discarded: their finish() comes too late

    # --- from the agent -----------------------------------------------------------------------------------------------

    def push(self, data: bytes, reply_id: str, item_id: str) -> None:
        """Append speech of an item; any length, whole samples. An item may go on after it was found empty."""
        item = self._item(reply_id, item_id)
        if data:
            self._arriving(item, len(data) / self.audio_format.bytes_per_ms)
            self._append(data, item, counts=True)

    def promise(self, microseconds: int, reply_id: str, item_id: str) -> Item:
        """The same for speech that is not in the ring's format yet. It will be put in with `keep`, piece by piece,
        before what is pushed or promised later and before the frame that needs it."""
        item = self._item(reply_id, item_id)
        self._arriving(item, microseconds / 1000)
        item.promised += microseconds
        self._promised += microseconds
        return item

    def keep(self, item: Item, data: bytes, microseconds: int) -> None:
        """So much of what was promised."""
        item.promised -= microseconds
        self._promised -= microseconds
        if data:
            self._append(data, item, counts=True)
        else:
            self._settle(item)

    def _item(self, reply_id: str, item_id: str) -> Item:
        item = self._by_id.get(item_id)
        if item is None or item.reply_id != reply_id:
            item = Item(reply_id, item_id)
            self._items.append(item)
            self._by_id[item_id] = item
            self.starting.append(item)
        return item

    def _arriving(self, item: Item, ms: float) -> None:
        """Where there was silence before: whether to begin at once, and how."""
        waiting = self.waiting_ms
        if not waiting and not self._last:
            if self._dry_at is not None and item.sent:
                self.cushion.hole(self.clock_ms - self._dry_at)
                self._fade_in = self._slow = self._fade_bytes > 0
            self._dry_at = None
            if self.cushion.ms:
                self._gather_ms = ms + self.cushion.ms
                self._hold_until = self.clock_ms + self.cushion.ms
                self._holding = self._slow = True
        self.cushion.arrived(ms, waiting + ms)

    def push_tail(self, data: bytes) -> None:
        """Append to the last item what a filter still held of it. It is heard, but is no more than was pushed."""
        if data and self._items:
            self._append(data, self._items[-1], counts=False)

    def finish(self, item_id: str) -> None:
        """No more of this item will come. One that never had any audio is drained at once, so that nobody waits for
        it."""
        item = self._by_id.get(item_id)
        if item is not None:
            item.finished = True
            self._settle(item)
        elif item_id not in self._done:
            self._done.append(item_id)
            self._drained.append(item_id)

    def _append(self, data: bytes, item: Item, *, counts: bool) -> None:
        item.waiting += len(data)
        self._buffered += len(data)
        self._segments.append(_Segment(data, item, counts))

    # --- to the clock -------------------------------------------------------------------------------------------------

    def next_frame(self, size: int) -> bytes | None:
        """The next `size` bytes to be sent, padded with silence where the ring runs out; None when there is no
        sound."""
        if self._segments and not self._slow:
            segment = self._segments[0]
            start = segment.position
            end = start + size
            if end < len(segment.data):  # nearly always: one slice of the piece that is being played
                segment.position = end
                segment.item.waiting -= size
                if segment.counts:
                    segment.item.sent += size
                self._buffered -= size
                self._last = segment.data[start:end]
                return self._last
        if self._state is not _State.PLAYING or self._farewell:
            frame = self._frame_while_stopping(size)
        elif not self._segments:
            frame = self._frame_without_speech(size)
        elif self._holding and not self.ready:
            frame = None
        else:
            self._holding = False
            frame = self._frame_of_speech(size)
        self._slow = self._state is not _State.PLAYING or self._fade_in or self._holding
        self.clock_ms += size / self.audio_format.bytes_per_ms
        return frame

    def _frame_of_speech(self, size: int) -> bytes | None:
        heard, sound = self._last, self._take(size)
        if self._fade_in:
            self._fade_in = False
            rising = sound[: self._fade_bytes]
            sound = fade.ramp(self.audio_format, rising, 0.0, 1.0) + sound[len(rising) :]
        if len(sound) < size and self._unfinished:
            return self._run_out(heard, sound, size)
        return self._pad(sound, size)

    def _frame_without_speech(self, size: int) -> bytes | None:
        heard, self._last = self._last, b""
        if not self._unfinished:
            return None
        if heard:  # it ended with the frame before
            return self._run_out(heard, b"", size)
        return None

    @property
    def _unfinished(self) -> bool:
        return bool(self._items) and not self._items[-1].finished

    def _run_out(self, heard: bytes, sound: bytes, size: int) -> bytes | None:
        self.underruns += 1
        missing = size - len(sound)
        self._dry_at = self.clock_ms + len(sound) / self.audio_format.bytes_per_ms
        if self._fade_bytes:
            sound = fade.run_out(self.audio_format, heard, sound, missing, self._fade_bytes)
        frame = self._pad(sound, size) if sound else None
        self._last = b""
        return frame

    def _frame_while_stopping(self, size: int) -> bytes | None:
        sound, self._farewell = self._farewell, b""
        if self._state is _State.PLAYING:
            return self._pad(sound + self._take(size - len(sound)), size)
        if self._state is _State.PAUSING:
            self._state = _State.PAUSED
            sound += self._fade_out(min(self._fade_bytes, size - len(sound)), keep=True)
        frame = self._pad(sound, size) if sound else None
        self._last = b""
        return frame

    def _pad(self, sound: bytes, size: int) -> bytes:
        missing = size - len(sound)
        self._last = b"" if missing > 0 else sound
        if missing <= 0:
            return sound
        return sound + self.audio_format.silence * (missing // self.audio_format.bytes_per_sample)

    def _take(self, size: int) -> bytes:
        """Up to `size` bytes off the front, counted as sent."""
        parts: list[bytes] = []
        wanted = size
        while wanted > 0 and self._segments:
            segment = self._segments[0]
            part = segment.data[segment.position : segment.position + wanted]
            parts.append(part)
            wanted -= len(part)
            segment.position += len(part)
            item = segment.item
            item.waiting -= len(part)
            if segment.counts:
                item.sent += len(part)
            if segment.position == len(segment.data):
                self._segments.popleft()
                self._settle(item)
        self._buffered -= size - wanted
        return b"".join(parts)

    def _settle(self, item: Item) -> None:
        if item.finished and not item.waiting and not item.promised:
            if self._faded is not None and self._faded.item is item:
                self._faded = None  # it ended with the fade, so it was heard: nothing to repeat
            self._forget(item)
            self._drained.append(item.item_id)

    def _forget(self, item: Item) -> None:
        self._items.remove(item)
        if self._by_id.get(item.item_id) is item:
            del self._by_id[item.item_id]
        self._done.append(item.item_id)

    def note_started(self, now: float) -> None:
        """A frame was handed out at this time, and there are items in `starting`."""
        while self.starting and (self.starting[0].sent or self.starting[0].finished):
            item = self.starting[0]
            if item.sent:
                if len(self._started) >= _REMEMBERED_ITEMS:
                    del self._started[next(iter(self._started))]
                self._started[item.item_id] = now
            elif item.waiting or item.promised:
                break
            self.starting.popleft()

    def started_at(self, item_id: str) -> float | None:
        """When the first frame of an item was handed out; None: not yet, or long ago."""
        return self._started.get(item_id)

    def take_drained(self) -> Sequence[str]:
        """Items drained since the last call. Ask after the frame has been sent: then their last packet is out."""
        if not self._drained:
            return ()
        drained, self._drained = self._drained, []
        return drained

    @property
    def buffered(self) -> int:
        """Bytes waiting."""
        return self._buffered

    @property
    def waiting_ms(self) -> float:
        """With what is promised."""
        return self._buffered / self.audio_format.bytes_per_ms + self._promised / 1000

    @property
    def sounding(self) -> bool:
        """The frame before ended with speech."""
        return bool(self._last)

    @property
    def ready(self) -> bool:
        """There is speech for the next frame, and nothing to wait for."""
        if self._state is not _State.PLAYING or not (self._segments or self._promised):
            return False
        if not self._holding or not self._unfinished or self.waiting_ms >= self._gather_ms:
            return True
        return self.clock_ms >= self._hold_until - EARLY_MS

    @property
    def held_ms(self) -> float:
        """How long speech that is not `ready` has to wait yet, where that is a matter of time; else 0."""
        holds = self._holding and bool(self._segments or self._promised) and self._state is _State.PLAYING
        return max(0.0, self._hold_until - self.clock_ms) if holds else 0.0

    @property
    def ending(self) -> bool:
        """The last item is finished: unless another begins, the ring will run empty, and rightly so."""
        return bool(self._items) and self._items[-1].finished

    @property
    def paused(self) -> bool:
        return self._state is not _State.PLAYING

    # --- barge-in -----------------------------------------------------------------------------------------------------

    def pause(self) -> None:
        """Stop sounding: the next frame fades out, then silence. What is pushed meanwhile waits behind the rest."""
        if self._state is _State.PLAYING:
            self._state = _State.PAUSING if self._last else _State.PAUSED
            self._slow = True

    def resume(self) -> None:
        """Go on exactly where it stopped. The part that faded out is heard once more, fading in: at most `fade_ms` is
        repeated, nothing is lost, and the repetition is not counted as played again."""
        faded, self._faded = self._faded, None
        self._state = _State.PLAYING
        if faded is not None:
            faded.item.waiting += len(faded.data)
            self._buffered += len(faded.data)
            self._segments.appendleft(faded)

    def discard(self) -> tuple[Played, ...]:
        """Throw away all that waits and tell what was heard of it; ready for the next reply, also when it was paused.

        If there was sound in the frame before, the next one ends it with the fade, already counted in what is returned.
        """
        if self._last and self._state is not _State.PAUSED:
            self._farewell = self._fade_out(self._fade_bytes, keep=False)
        played = self.position()
        for item in tuple(self._items):
            self._forget(item)
        self.starting.clear()
        self._segments.clear()
        self._buffered = 0
        self._promised = 0
        self._faded = None
        self._last = b""
        self._dry_at = None
        self._holding = False
        self._fade_in = False
        self._state = _State.PLAYING
        self._slow = True
        return played

    def position(self) -> tuple[Played, ...]:
        """What was heard so far of each item that is not drained."""
        return tuple(
            Played(item.reply_id, item.item_id, item.sent // self.audio_format.bytes_per_ms) for item in self._items
        )

    def _fade_out(self, size: int, *, keep: bool) -> bytes:
        item = self._segments[0].item if self._segments else None
        drained = len(self._drained)
        goes_on = self._unfinished
        sound = self._take(size)
        if keep and item is not None and len(self._drained) == drained:
            # An item that ended inside the fade is over: nothing to repeat.
            self._faded = _Segment(fade.ramp(self.audio_format, sound, 0.0, 1.0), item, counts=False)
        missing = size - len(sound)
        if missing and goes_on:  # what comes next is not here yet: no reason for a click
            return fade.run_out(self.audio_format, self._last, sound, missing, size)
        return fade.ramp(self.audio_format, sound, 1.0, 0.0) if sound else b""

    # --- a re-INVITE changed the codec --------------------------------------------------------------------------------

    def convert(self, audio_format: AudioFormat, process: Callable[[bytes], bytes]) -> None:
        """Bring the ring into another format: `process` is given each waiting piece. Positions keep their
        milliseconds."""
        old, new = self.audio_format.bytes_per_ms, audio_format.bytes_per_ms
        self._fade_bytes = self._fade_bytes * new // old
        self.audio_format = audio_format
        self._farewell = self._last = b""
        self._faded = None
        for item in self._items:
            item.sent = item.sent * new // old
            item.waiting = 0
        waiting, self._segments, self._buffered = self._segments, deque(), 0
        for segment in waiting:
            data = process(segment.data[segment.position :])
            if data:
                self._append(data, segment.item, counts=segment.counts)
