"""The media engine: the RTP sockets of all legs and the one clock that serves them.

Shaped for all legs at once, so that a native engine can take its place: commands name a leg by its handle, and what
happens comes back as one list of events per tick. The clock ticks every 5 ms, by absolute deadlines. At each tick the
legs whose packet time it is send theirs, then all sockets that have something are read, and the events of all legs are
handed out. Legs are spread over four phases of 20 ms, so that no burst of packets leaves at once. A leg that has been
silent and gets speech sends it at the next tick, up to 15 ms before its turn (`Rota` in `clock` says what becomes of
its time then).

Sockets are not given to the event loop one by one: asking once per tick which of them can be read costs one system call
for all legs, where a wake-up of the loop for each packet costs several. Only while there are few legs does the loop
watch them, as one, so that a packet does not have to wait for the tick.

What belongs to one leg (order, latching, codec, pacing) is in `leg` and below it and does no I/O.
"""

from __future__ import annotations

import asyncio
import base64
import secrets
import socket
import time
from collections.abc import Callable
from functools import partial
from itertools import islice
from math import ceil

import structlog

from sipbridge.audio import Played
from sipbridge.media.alarm import open_alarm
from sipbridge.media.clock import TICK_SECONDS, Rota, TickClock
from sipbridge.media.dtls import DtlsIdentity
from sipbridge.media.ear import Ear
from sipbridge.media.events import Audio, Handle, MediaEvent, MediaStats
from sipbridge.media.leg import Leg
from sipbridge.media.params import MediaParams, MediaSettings
from sipbridge.media.ports import LocalPort, PortPool
from sipbridge.media.rtcp_session import RtcpSession
from sipbridge.media.rtp import Sequencer
from sipbridge.media.seat import Seat
from sipbridge.media.sockets import MediaSockets, Readable, drain
from sipbridge.media.tap import Tap
from sipbridge.media.together import convert_slices, take_audio
from sipbridge.media.vad import Detector

log = structlog.get_logger(__name__)

_MAX_DATAGRAMS_PER_TICK = 16
_MAX_SPARE_DATAGRAMS_PER_TICK = 256  # beyond one for each leg, of all together: half a millisecond's work in a flood
# Speech of so many legs, 100 ms of each, is converted in one tick: some 0.5 ms of work.
_MAX_SLICES_PER_TICK = 20
# While there are few legs, a packet is read when it comes and not at the next tick: 2.5 ms earlier on average, for a
# wake-up each. That makes 24 legs cost what 50 do without it; with more, packets come so densely that the ticks are
# kept busy anyway. Not more often than this per tick, or a flood would keep the loop busy.
_FEW_LEGS = 24
_EARLY_READS_PER_TICK = 3


class MediaEngine:
    """Commands may be given at any time between two ticks, from the loop's thread. A handle that was closed is a
    KeyError."""

    def __init__(
        self,
        settings: MediaSettings,
        *,
        clock: Callable[[], float] = time.monotonic,
        random_bits: Callable[[int], int] = secrets.randbits,
        wall_clock: Callable[[], float] = time.time,
        identity: DtlsIdentity | None = None,
    ) -> None:
        """`random_bits(n)` makes SSRCs and the first numbers of each stream (RFC 3550 §5.1: not to be guessed).
        `wall_clock` is asked once per leg, for what sender reports say of the time. `identity` is who we are to peers
        that want DTLS; None: there is none."""
        self._settings = settings
        self._now = clock
        self._random_bits = random_bits
        self._wall_clock = wall_clock
        self._identity = identity
        self.fingerprint = None if identity is None else identity.fingerprint
        """Of our certificate."""
        self._pool = PortPool(settings.ports, rest_seconds=settings.port_rest_seconds)
        self._reserved: dict[LocalPort, MediaSockets] = {}
        self._seats: dict[Handle, Seat] = {}
        self._next_handle = 1
        self._readable: Readable[tuple[Seat, socket.socket]] = Readable()
        self.clock = TickClock(clock())
        self._rota: Rota[Seat] = Rota()
        self._backlog: dict[Handle, Seat] = {}  # those whose speech is not yet as it is sent
        self._advancing: list[Seat] = []  # those whose packet time this tick is
        self._events: list[MediaEvent] = []
        self._leg_started = asyncio.Event()
        self._watching = False  # the loop calls us when there is something to read
        self._early_reads = 0

    # --- legs ---------------------------------------------------------------------------------------------------------

    def reserve(self) -> LocalPort:
        """A port that is bound from now on, RTCP's with it. Then `start` it or `release` it.

        Raises NoPortAvailableError when every one of the range is in use.
        """
        port, sockets = self._pool.acquire(partial(MediaSockets, self._settings.address), self._now())
        local_port = LocalPort(self._settings.address, port)
        self._reserved[local_port] = sockets
        return local_port

    def release(self, local_port: LocalPort) -> None:
        """Give back a port that was never started."""
        self._reserved.pop(local_port).close()
        self._pool.give_back(local_port.port, self._now())

    def start(self, local_port: LocalPort, params: MediaParams) -> Handle:
        """Begin to send and receive on a reserved port, which now belongs to the leg. What came before is nobody's: a
        network's ringing tone, say, which would be taken for what is said from now on."""
        sockets = self._reserved.pop(local_port)
        hellos = drain(sockets.rtp)
        handle = self._next_handle
        self._next_handle += 1
        # The sequence number starts in its lower half: see Sequencer.
        sequencer = Sequencer(self._random_bits(32), self._random_bits(15), self._random_bits(32))
        timeout = self._settings.media_timeout_seconds
        rtcp = self._rtcp_session(sequencer.ssrc, params)
        leg = Leg(handle, params, sequencer, self._now(), timeout_seconds=timeout, rtcp=rtcp, identity=self._identity)
        seat = self._seats[handle] = Seat(leg, local_port, sockets)
        self._rota.enter(seat, self.clock.tick)
        for sock in (sockets.rtp, sockets.rtcp):
            self._readable.add(sock, (seat, sock))
        for data, source in hellos if leg.security is not None else ():
            leg.receive(data, source, self._now(), self._events)
        seat.shake_hands()
        self._leg_started.set()
        return handle

    def _rtcp_session(self, ssrc: int, params: MediaParams) -> RtcpSession:
        return RtcpSession(
            ssrc,
            base64.b64encode(self._random_bits(96).to_bytes(12, "big")),  # RFC 7022 §5
            self._now(),
            clock_rate=params.codec.clock_rate,
            wall_time=self._wall_clock(),
            chance=lambda: self._random_bits(32) / 0x100000000,
        )

    def update(self, handle: Handle, params: MediaParams) -> None:
        """After a new offer and answer (hold, resume, another codec or address). Speech that waits is kept."""
        self._seats[handle].update(params, self._now())

    def confirm(self, handle: Handle) -> None:
        """Where `MediaParams.confirmed` was False: packets may be sent from now on."""
        self._seats[handle].leg.latch.confirm()

    def close(self, handle: Handle, reason: str = "") -> MediaStats | None:
        """End a leg and give back its port; its final figures, or None where it is closed already. No event follows.
        `reason` goes to the far end with RTCP's BYE."""
        seat = self._seats.pop(handle, None)
        if seat is None:
            return None
        seat.open = False
        seat.leg.listeners.end(self._now())
        if seat.leg.security is not None:
            seat.leg.security.close()
            seat.shake_hands()
        seat.send_rtcp(seat.leg.rtcp.bye(self._now(), reason))
        self._rota.leave(seat)
        self._backlog.pop(handle, None)
        self._readable.remove(seat.sockets.rtp)
        self._readable.remove(seat.sockets.rtcp)
        seat.sockets.close()
        self._pool.give_back(seat.local_port.port, self._now())
        return seat.leg.stats()

    def shut_down(self) -> None:
        """Close all legs and ports, once `run` has been cancelled."""
        for handle in tuple(self._seats):
            self.close(handle)
        for local_port in tuple(self._reserved):
            self.release(local_port)
        self._readable.close()

    # --- the agent's speech -------------------------------------------------------------------------------------------

    def push(self, handle: Handle, data: bytes, reply_id: str, item_id: str) -> None:
        """Speech in `MediaParams.downlink`, as fast as it comes: there is room for minutes."""
        seat = self._seats[handle]
        downlink = seat.leg.downlink
        seat.leg.push(data, reply_id, item_id, self._now())
        if downlink.backlog:
            self._backlog[handle] = seat
        if not downlink.talking:
            self._start_early(seat)

    def finish(self, handle: Handle, item_id: str) -> None:
        """The item is complete: `Drained` follows when its last packet has been sent."""
        self._seats[handle].leg.downlink.finish(item_id)

    def pause(self, handle: Handle) -> None:
        """No speech after the next packet, which fades out."""
        self._seats[handle].leg.downlink.pacer.pause()

    def resume(self, handle: Handle) -> None:
        """After `pause`: go on where it stopped."""
        self._seats[handle].leg.downlink.pacer.resume()

    def discard(self, handle: Handle) -> tuple[Played, ...]:
        """Throw away all speech that waits, paused or not; what was heard of each item that is not drained."""
        return self._seats[handle].leg.discard(self._now())

    def position(self, handle: Handle) -> tuple[Played, ...]:
        """The same, with nothing thrown away."""
        return self._seats[handle].leg.downlink.pacer.position()

    def started_at(self, handle: Handle, item_id: str) -> float | None:
        """When the first packet of an item left; None: none has, or it is one of long ago."""
        return self._seats[handle].leg.downlink.pacer.started_at(item_id)

    def send_key(self, handle: Handle, digit: str) -> bool:
        """Press a key (telephone-event), after those that wait; speech waits meanwhile. False: the other side takes
        none.

        Raises ValueError where `digit` is no key.
        """
        return self._seats[handle].leg.downlink.send_key(digit)

    def tap(self, handle: Handle, sink: Tap | None) -> None:
        """From now on `sink` is told what the leg really sends and receives; None: nobody is."""
        self._seats[handle].leg.listeners.use_tap(sink, self._now())

    def listen(self, handle: Handle, detector: Detector | None) -> None:
        """From now on `SpeechStarted` and `SpeechEnded` tell when the far end speaks, by this detector (of this leg's
        own); None: nobody listens."""
        self._seats[handle].leg.ear = None if detector is None else Ear(detector)

    def route(self, source: Handle, sink: Handle, gain: float = 1.0) -> None:
        """What the one leg says is played to the other from now on, mixed with all else that it hears. Again: with
        another gain. Raises ValueError where both are the same: nobody wants to hear himself."""
        if source == sink:
            raise ValueError("a leg does not hear itself")
        self._seats[source].leg.listeners.add(self._seats[sink].leg.listeners, gain)

    def unroute(self, source: Handle, sink: Handle) -> None:
        """No more. Also where there is no such route; the end of a leg ends all of its routes."""
        self._seats[source].leg.listeners.remove(self._seats[sink].leg.listeners)

    def stats(self, handle: Handle) -> MediaStats:
        return self._seats[handle].leg.stats()

    def part(self, handle: Handle) -> MediaStats:
        """The figures of the party that has been on the leg so far; another is from now on."""
        return self._seats[handle].leg.part()

    @property
    def legs(self) -> int:
        return len(self._seats)

    @property
    def free_ports(self) -> int:
        return self._pool.free

    # --- the clock ----------------------------------------------------------------------------------------------------

    async def run(self, dispatch: Callable[[MediaEvent], None]) -> None:
        """Serve all legs until cancelled. `dispatch` gets each event, on the loop's thread; it must not block. Where it
        raises, that is logged and concerns only that event: one call's fault must not silence the others."""
        self.clock.restart(self._now())
        deliver = partial(self._deliver, dispatch)
        alarm = open_alarm(self._now)
        try:
            while True:
                if not self._seats:  # an idle gateway has no use for 200 wake-ups a second
                    self._leg_started.clear()
                    await self._leg_started.wait()
                    self.clock.restart(self._now())
                self._watch(deliver if len(self._seats) <= _FEW_LEGS else None)
                await alarm.wait_until(self.clock.deadline)
                self.tick()
                deliver()
        finally:
            alarm.close()
            self._watch(None)

    def _watch(self, deliver: Callable[[], None] | None) -> None:
        self._early_reads = 0
        if self._watching == (deliver is not None):
            return
        self._watching = deliver is not None
        loop = asyncio.get_running_loop()
        if deliver is not None:
            loop.add_reader(self._readable.fileno(), self._read_early, deliver)
        else:
            loop.remove_reader(self._readable.fileno())

    def _read_early(self, deliver: Callable[[], None]) -> None:
        deliver()
        self._early_reads += 1
        if self._early_reads >= _EARLY_READS_PER_TICK:
            self._watch(None)

    def _deliver(self, dispatch: Callable[[MediaEvent], None]) -> None:
        for event in self.collect():
            seat = self._seats.get(event.handle)
            if seat is None:
                continue  # closed by the handler of an earlier event
            try:
                dispatch(event)
                if seat.leg.timing.due and isinstance(event, Audio):
                    seat.leg.delivered(event, self._now())
            except Exception:
                log.exception("media event not handled", event_type=type(event).__name__)

    def tick(self) -> None:
        """Send the packets that are due. `run` does this every 5 ms."""
        now = self._now()
        late, given_up = self.clock.step(now)
        if given_up:
            for seat in self._seats.values():
                seat.leg.stalled(given_up)
        if self._backlog and late < TICK_SECONDS / 2:
            self._convert_speech()
        events = self._events
        for seat in self._rota.take(self.clock.tick):
            seat.send(now, late, events)
            talking = seat.leg.downlink.talking
            self._rota.again(seat, silent=not talking)
            if not talking:
                self._start_early(seat)
            self._advancing.append(seat)
            if now >= seat.leg.rtcp.due_at:
                seat.leg.timing.due = True
                seat.send_rtcp(seat.leg.rtcp.report(now))

    def _start_early(self, seat: Seat) -> None:
        """A leg is silent: where there is speech for it, its next packet does not wait for its time."""
        wait_ms = seat.leg.downlink.starts_in_ms if seat.leg.sending else None
        if wait_ms is not None and self._rota.hasten(seat, self.clock.tick + ceil(wait_ms / 1000 / TICK_SECONDS)):
            seat.leg.rephased += 1

    def _convert_speech(self) -> None:
        """What is not done here is done by the packet that needs it."""
        seats = list(islice(self._backlog.items(), _MAX_SLICES_PER_TICK))
        convert_slices([seat.leg.downlink for _, seat in seats if seat.leg.downlink.backlog])
        for handle, seat in seats:  # whoever has more waits for another turn
            del self._backlog[handle]
            if seat.leg.downlink.backlog:
                self._backlog[handle] = seat

    def collect(self) -> list[MediaEvent]:
        """What happened on all legs since the last call: reads the sockets."""
        events, tick = self._events, self.clock.tick
        now = self._now()
        heard: list[Seat] = []
        spare = _MAX_SPARE_DATAGRAMS_PER_TICK
        for seat, sock in self._readable.now():
            if sock is not seat.rtp:
                spare -= max(0, seat.read_rtcp(min(_MAX_DATAGRAMS_PER_TICK, 1 + spare), now) - 1)
                continue
            # One packet is what there nearly always is; asking for a second costs more than the next tick's finding it.
            # Where the tick before has found one as well, there is a queue.
            limit = min(_MAX_DATAGRAMS_PER_TICK, 1 + spare) if seat.busy_at >= tick - 1 else 1
            seat.busy_at = tick
            spare -= max(0, seat.read(limit, now, events) - 1)
            heard.append(seat)
        for seat in self._advancing:
            seat.leg.advance(now, events)
        self._advancing, due = [], self._advancing
        self._events = []
        seats = [seat for seat in dict.fromkeys(heard + due) if seat.open]
        for seat in seats:
            if seat.leg.security is not None:
                seat.shake_hands()
        take_audio([seat.leg for seat in seats], now, events)
        return events
