"""Sample rate conversion of a live stream: a linear-phase polyphase FIR, 2 ms of delay.

Between two rates lies a virtual one, their least common multiple, where the low-pass works; only the products that a
wanted output needs are made. Filters are Kaiser windows (beta 6): for a factor of 2 a half-band of 63 taps, else 32
taps per factor (95 for 3) with the cut-off at 95 % of the lower rate's half. At 8 kHz that is flat to 3.4 kHz, and what
would fold or mirror to below 3.4 kHz is more than 60 dB down.

Outputs are computed in blocks of `_BLOCK` groups (a group is the shortest run of input that makes whole outputs), as
one matrix product: rows are overlapping windows of the input, columns the filter at each output's place. Numbers are
chosen so that nothing is ever rounded before the end: 16-bit samples times coefficients of 30 fractional bits, summed
in float64, are exact in any order. So the output does not depend on how the stream was cut into chunks, nor on the
machine.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import cache
from math import gcd
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_BLOCK = 16
# The longest run filtered at once: 128 ms at 8 kHz output, so that a model's usual 100 ms are one run.
_MAX_BLOCKS = 64
_MAX_FACTOR = 6
# The rates of some servers' voices: their groups are up to 20 ms long, so that a block is one group.
_ODD_RATES = frozenset({22050, 44100})
_TAPS_PER_FACTOR = 32
_KAISER_BETA = 6.0
_FRACTION = 1 << 30
# Multiplications of one matrix product: below what OpenBLAS gives to several threads (2**18).
_MAX_PRODUCT = 240_000


class _Kernel:
    """The filter for one reduced ratio up:down, as the matrix that one window of input is multiplied with."""

    def __init__(self, up: int, down: int) -> None:
        self.up = up
        self.down = down
        self.block = _BLOCK if max(up, down) <= _MAX_FACTOR else 1
        taps = design(up, down)
        self.delay = (len(taps) - 1) / 2
        """In samples of the virtual rate."""
        self.history = (len(taps) - 1) // up
        """Input samples before a block that its outputs still need."""
        position = np.arange(self.block * up) * down  # of the block's outputs at the virtual rate
        source = np.arange(-self.history, self.block * down) * up  # of its window's inputs
        tap = position[np.newaxis, :] - source[:, np.newaxis]
        inside = (tap >= 0) & (tap < len(taps))
        self.weights: NDArray[np.float64] = np.where(inside, taps[np.clip(tap, 0, len(taps) - 1)], 0.0)
        self.group_bytes = 2 * down
        self.tail_groups = -(-int(self.delay) // (up * down))
        self.max_rows = _MAX_PRODUCT // self.weights.size
        self.max_blocks = min(_MAX_BLOCKS, self.max_rows)


def design(up: int, down: int) -> NDArray[np.float64]:
    """The low-pass at the virtual rate with gain `up`, in steps of 2**-30.

    Each of its `up` phases passes DC alike, which puts a zero on every image of DC and hum.
    """
    factor = max(up, down)
    count = _TAPS_PER_FACTOR * factor - 1
    cutoff = (1.0 if factor == 2 else 0.95) / factor  # of half the virtual rate
    offset = np.arange(count) - (count - 1) / 2
    taps = np.sinc(cutoff * offset) * np.kaiser(count, _KAISER_BETA)
    for phase in range(up):
        taps[phase::up] /= taps[phase::up].sum()
    exact: NDArray[np.float64] = np.rint(taps * _FRACTION) / _FRACTION
    return exact


@cache
def _kernel(up: int, down: int) -> _Kernel:
    return _Kernel(up, down)


class _Plan(NamedTuple):
    """The arrays for one product of so many rows, each a window of the input."""

    stream: NDArray[np.int16]
    """The workspace's input as overlapping windows: what the rows are where all are of one stream."""
    window: NDArray[np.float64]
    product: NDArray[np.float64]
    output: NDArray[np.int16]
    flat_output: NDArray[np.int16]


class _Workspace:
    """Where a kernel's products are made. All streams share it, one after the other: it stays in the processor's cache,
    where buffers of fifty legs would not, and a stream keeps nothing but its history."""

    def __init__(self, kernel: _Kernel) -> None:
        rows, self._step = kernel.max_rows, kernel.block * kernel.down
        self._kernel = kernel
        self.input = memoryview(bytearray(2 * (kernel.history + rows * self._step)))
        self._window = np.zeros((rows, len(kernel.weights)))
        self._product = np.zeros((rows, kernel.block * kernel.up))
        self._output = np.zeros((rows, kernel.block * kernel.up), "<i2")
        self._plans: dict[int, _Plan] = {}

    def plan(self, rows: int) -> _Plan:
        plan = self._plans.get(rows)
        if plan is None:
            shape = (rows, len(self._kernel.weights))
            stream: NDArray[np.int16] = np.ndarray(shape, "<i2", self.input, strides=(2 * self._step, 2))
            output = self._output[:rows]
            plan = _Plan(stream, self._window[:rows], self._product[:rows], output, output.reshape(-1))
            self._plans[rows] = plan
        return plan

    def multiply(self, plan: _Plan) -> None:
        """From `plan.window` to `plan.output`."""
        product = plan.product
        np.matmul(plan.window, self._kernel.weights, out=product)
        np.rint(product, out=product)
        np.maximum(product, _LOWEST, out=product)
        np.minimum(product, _HIGHEST, out=product)
        plan.output[...] = product


class _Workspaces(threading.local):
    """Of each thread its own."""

    def __init__(self) -> None:
        self._of: dict[_Kernel, _Workspace] = {}

    def of(self, kernel: _Kernel) -> _Workspace:
        workspace = self._of.get(kernel)
        if workspace is None:
            workspace = self._of[kernel] = _Workspace(kernel)
        return workspace


_workspaces = _Workspaces()
_LOWEST = np.array(-32768.0)  # arrays: a plain number costs numpy a conversion at each call
_HIGHEST = np.array(32767.0)


class Resampler:
    """One direction of one stream of mono 16-bit little-endian PCM. Not to be shared between threads.

    Any two rates whose reduced ratio has no side above 6 will do: all of 8, 16, 24 and 48 kHz among each other. So will
    22.05 and 44.1 kHz with any of these, up to 20 ms later, as only whole groups are converted.
    """

    def __init__(self, source_rate: int, target_rate: int) -> None:
        """Raises ValueError for a ratio out of reach: a mistake of ours, rates are never a stranger's choice."""
        if source_rate <= 0 or target_rate <= 0:
            raise ValueError(f"cannot resample {source_rate} to {target_rate} Hz")
        divisor = gcd(source_rate, target_rate)
        up, down = target_rate // divisor, source_rate // divisor
        if max(up, down) > _MAX_FACTOR and (source_rate not in _ODD_RATES or target_rate % 1000):
            raise ValueError(f"cannot resample {source_rate} to {target_rate} Hz")
        self.source_rate = source_rate
        self.target_rate = target_rate
        self._kernel = None if up == down else _kernel(up, down)
        self.delay_ms = 0.0 if self._kernel is None else self._kernel.delay * 1000 / (source_rate * up)
        """How much later a sound comes out than it went in."""
        self._rest = b""
        if self._kernel is not None:
            self._history = bytes(2 * self._kernel.history)
            self._max_bytes = self._kernel.max_blocks * self._kernel.block * self._kernel.group_bytes

    def process(self, pcm: bytes) -> bytes:
        """What follows from `pcm` and all before it, any length.

        Input that makes no whole group waits for the next call; apart from that the output is exactly input times
        ratio, from the first call on (silence is taken to come before the first sample).
        """
        kernel = self._kernel
        if kernel is None:
            return pcm
        if self._rest:
            pcm = self._rest + pcm
            self._rest = b""
        size = len(pcm)
        extra = size % kernel.group_bytes
        if extra:
            size -= extra
            self._rest = pcm[size:]
            pcm = pcm[:size]
        if size <= self._max_bytes:
            return self._filter(kernel, pcm, size)
        # Pieces of equal length, so that they share one plan.
        block_bytes = kernel.block * kernel.group_bytes
        count = -(-size // self._max_bytes)
        step = -(-size // (count * block_bytes)) * block_bytes
        pieces = (pcm[start : start + step] for start in range(0, size, step))
        return b"".join(self._filter(kernel, piece, len(piece)) for piece in pieces)

    def flush(self) -> bytes:
        """The end of the stream: what is still inside the filter, a little over `delay_ms`. Then as new."""
        kernel = self._kernel
        if kernel is None:
            return b""
        missing = -len(self._rest) % kernel.group_bytes
        tail = self.process(bytes(missing + kernel.tail_groups * kernel.group_bytes))
        self.reset()
        return tail

    def reset(self) -> None:
        """Forget the stream so far."""
        self._rest = b""
        if self._kernel is not None:
            self._history = bytes(2 * self._kernel.history)

    def _filter(self, kernel: _Kernel, pcm: bytes, size: int) -> bytes:
        if not size:
            return b""
        groups = size // kernel.group_bytes
        workspace = _workspaces.of(kernel)
        plan = workspace.plan(-(-groups // kernel.block))
        samples, history = workspace.input, len(self._history)
        samples[:history] = self._history
        # What lies behind `pcm` in the buffer is old, but it only reaches outputs that are cut off below.
        samples[history : history + size] = pcm
        self._history = bytes(samples[size : size + history])
        plan.window[...] = plan.stream
        workspace.multiply(plan)
        return plan.flat_output[: groups * kernel.up].tobytes()


def process_together(streams: Sequence[Resampler], chunks: Sequence[bytes]) -> list[bytes]:
    """What `process` of each stream would return for its chunk, a stream no more than once: the live path of many legs.

    Streams that convert alike, and whose chunks are equally long and whole blocks, share a matrix product: for a dozen
    legs that costs less than half.
    """
    out = [b""] * len(streams)
    alike: dict[tuple[_Kernel, int], list[int]] = {}
    for index, (stream, chunk) in enumerate(zip(streams, chunks, strict=True)):
        kernel = stream._kernel
        if kernel is None or stream._rest or len(chunk) % (kernel.block * kernel.group_bytes) or not chunk:
            out[index] = stream.process(chunk)
        else:
            alike.setdefault((kernel, len(chunk)), []).append(index)
    for (kernel, size), indices in alike.items():
        blocks = size // (kernel.block * kernel.group_bytes)
        most = kernel.max_rows // blocks
        if most < 2 or len(indices) < 3 or size < 2 * kernel.history:
            for index in indices:
                out[index] = streams[index].process(chunks[index])
            continue
        step = -(-len(indices) // -(-len(indices) // most))  # parts of equal size
        for start in range(0, len(indices), step):
            part = indices[start : start + step]
            results = _filter_alike(kernel, blocks, [streams[n] for n in part], [chunks[n] for n in part])
            for index, result in zip(part, results, strict=True):
                out[index] = result
    return out


def _filter_alike(kernel: _Kernel, blocks: int, streams: list[Resampler], chunks: list[bytes]) -> list[bytes]:
    history = 2 * kernel.history
    size = len(chunks[0])
    step = 2 * kernel.block * kernel.down
    parts: list[bytes] = []
    for stream, chunk in zip(streams, chunks, strict=True):
        parts.append(stream._history)
        parts.append(chunk)
        stream._history = chunk[size - history :]
    shape = (len(streams), blocks, len(kernel.weights))
    windows: NDArray[np.int16] = np.ndarray(shape, "<i2", b"".join(parts), strides=(history + size, step, 2))
    workspace = _workspaces.of(kernel)
    plan = workspace.plan(len(streams) * blocks)
    plan.window.reshape(shape)[...] = windows
    workspace.multiply(plan)
    samples = plan.flat_output.tobytes()
    length = len(samples) // len(streams)
    return [samples[start : start + length] for start in range(0, len(samples), length)]
