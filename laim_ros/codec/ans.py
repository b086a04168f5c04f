"""Levels and side information to bytes and back: range asymmetric numeral systems (rANS).

One Python integer x is the state [Duda, arXiv 1311.2540]: coding a symbol of frequency f that begins at c, out of a total
of 2**14, makes x ← ⌊x/f⌋ · 2**14 + c + x mod f, which is x divided by the symbol's probability; decoding undoes that, so
it meets symbols in the reverse order of coding. Coding starts at 0 and decoding must end there. Up to 64 bytes the payload
is x itself: nothing is spent on ending. Beyond, x stays within 2**256 … 2**512 and its lowest 32 bytes move out or in.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from laim_ros.codec.errors import CodecError
from laim_ros.codec.probabilities import (
    BUCKETS,
    CLASSES,
    ESCAPE,
    ESCAPE_BITS,
    MAX_MAGNITUDE,
    PRECISION_BITS,
    TOTAL,
    bucket_edges,
    buckets_of,
    extra_bits,
    tables,
)

_WORD_BYTES = 32
_WORD_BITS = 8 * _WORD_BYTES
_WORD_MASK = (1 << _WORD_BITS) - 1
_LOW = 1 << _WORD_BITS
MOST_NUMBER = 1 << 16


class LevelWriter:
    """Collects what a payload says, in the order in which `LevelReader` asks for it."""

    def __init__(self) -> None:
        self._side: list[tuple[int, int, int]] = []
        self._levels: tuple[np.ndarray, np.ndarray] | None = None

    def pick(self, value: int, frequencies: Sequence[int]) -> None:
        """Say one of several things: `value` < len(frequencies), which sum to 2**14.

        Raises:
            CodecError: no such value, its frequency is 0, or the frequencies sum to something else.
        """
        _check_frequencies(frequencies)
        if not 0 <= value < len(frequencies) or frequencies[value] <= 0:
            raise CodecError(f"cannot say {value} with frequencies {tuple(frequencies)}")
        self._side.append((sum(frequencies[:value]), int(frequencies[value]), PRECISION_BITS))

    def number(self, value: int, size: int) -> None:
        """Say a number out of 0 … size − 1, all equally likely; size is at most 65536.

        Raises:
            CodecError: another value or size.
        """
        bits = _number_bits(size)
        if not 0 <= value < size:
            raise CodecError(f"number {value} is not one of 0 … {size - 1}")
        start = (int(value) << bits) // size
        self._side.append((start, (int(value) + 1 << bits) // size - start, bits))

    def levels(self, levels: np.ndarray, classes: np.ndarray) -> None:
        """The levels, once and last, those that are likely to matter most first.

        Args:
            levels: int32 (K,), magnitudes up to MAX_MAGNITUDE.
            classes: uint16 (K,), the same as the reader will give.

        Raises:
            CodecError: shapes or values that are not such.
        """
        _check_classes(classes)
        if levels.shape != classes.shape or levels.dtype != np.int32:
            raise CodecError(
                f"levels must be int32 {classes.shape}, as their classes, not {levels.dtype} {levels.shape}"
            )
        if levels.size and max(-int(levels.min()), int(levels.max())) > MAX_MAGNITUDE:
            raise CodecError(f"levels reach beyond ±{MAX_MAGNITUDE}")
        if self._levels is not None:
            raise CodecError("a payload holds levels once")
        self._levels = levels, classes

    def to_bytes(self) -> bytes:
        """The payload."""
        state = _Sink()
        if self._levels is not None:
            _push_levels(state, *self._levels)
        for start, frequency, bits in reversed(self._side):
            state.push(start, frequency, bits)
        return state.to_bytes()


class LevelReader:
    """Reads a payload; any bytes give values or a CodecError."""

    def __init__(self, payload: bytes | memoryview) -> None:
        """Reader of a whole payload.

        Raises:
            CodecError: it ends in a byte that no writer puts there.
        """
        self._state = _Source(payload)

    def pick(self, frequencies: Sequence[int]) -> int:
        """What `LevelWriter.pick` said, with the same frequencies."""
        _check_frequencies(frequencies)
        slot = self._state.slot(PRECISION_BITS)
        start = 0
        for value, frequency in enumerate(frequencies):
            if slot < start + frequency:
                self._state.pop(start, frequency, PRECISION_BITS)
                return value
            start += frequency
        raise CodecError("no such value")

    def number(self, size: int) -> int:
        """What `LevelWriter.number` said, with the same size."""
        bits = _number_bits(size)
        value = ((self._state.slot(bits) + 1) * size - 1) >> bits
        start = (value << bits) // size
        self._state.pop(start, (value + 1 << bits) // size - start, bits)
        return value

    def levels(self, classes: np.ndarray) -> np.ndarray:
        """The levels: int32 (K,), magnitudes up to MAX_MAGNITUDE.

        Args:
            classes: uint16 (K,), as the writer had them.

        Raises:
            CodecError: the payload holds no such levels.
        """
        _check_classes(classes)
        return _pop_levels(self._state, classes)

    def end(self) -> None:
        """Check that the payload held what was read, and nothing else.

        Raises:
            CodecError: there is more.
        """
        self._state.end()


class _Sink:
    """The state while it takes symbols in."""

    def __init__(self) -> None:
        self.value = 0
        self.words: list[bytes] = []

    def push(self, start: int, frequency: int, bits: int) -> None:
        value = self.value
        if value >= frequency << (2 * _WORD_BITS - bits):
            value = self.spill(value)
        self.value = (value // frequency << bits) + start + value % frequency

    def spill(self, value: int) -> int:
        self.words.append((value & _WORD_MASK).to_bytes(_WORD_BYTES, "little"))
        return value >> _WORD_BITS

    def to_bytes(self) -> bytes:
        head = self.value.to_bytes((self.value.bit_length() + 7) // 8, "little")
        return b"".join((head, *reversed(self.words)))


class _Source:
    """The state while it gives symbols out."""

    def __init__(self, payload: bytes | memoryview) -> None:
        size = len(payload)
        self._payload = payload
        # A writer's last state is below 2**512, and at least 2**256 where words have moved out.
        self._position = size if size <= 2 * _WORD_BYTES else _WORD_BYTES + 1 + (size - _WORD_BYTES - 1) % _WORD_BYTES
        if size and not payload[self._position - 1]:
            raise CodecError("levels: padded with zeros")
        self.value = int.from_bytes(payload[: self._position], "little")
        self.low = _LOW if self._position < size else 0

    def slot(self, bits: int) -> int:
        return self.value & (1 << bits) - 1

    def pop(self, start: int, frequency: int, bits: int) -> None:
        value = (self.value >> bits) * frequency + self.slot(bits) - start
        self.value = self.refill(value) if value < self.low else value

    def refill(self, value: int) -> int:
        word = self._payload[self._position : self._position + _WORD_BYTES]
        self._position += _WORD_BYTES
        if self._position >= len(self._payload):
            self.low = 0
        return value << _WORD_BITS | int.from_bytes(word, "little")

    def end(self) -> None:
        if self.value or self._position < len(self._payload):
            raise CodecError("levels: more bytes than the levels take")


def _check_frequencies(frequencies: Sequence[int]) -> None:
    if sum(frequencies) != TOTAL or min(frequencies) < 0:
        raise CodecError(f"frequencies must sum to {TOTAL}: {tuple(frequencies)}")


def _number_bits(size: int) -> int:
    """Bits of the total among which `size` numbers share: a power of two, so that words move out and in at one place."""
    if not 1 <= size <= MOST_NUMBER:
        raise CodecError(f"a number out of {size}; at most {MOST_NUMBER}")
    return size.bit_length() + 6


def _check_classes(classes: np.ndarray) -> None:
    if classes.ndim != 1 or classes.dtype != np.uint16 or (classes.size and int(classes.max()) >= CLASSES):
        raise CodecError(f"classes must be uint16 (K,) below {CLASSES}, not {classes.dtype} {classes.shape}")


@lru_cache(maxsize=CLASSES)
def _symbols(model: int) -> tuple[list[int], list[int], list[int]]:
    """Starts, frequencies and symbols of what a class lists, in order."""
    frequencies = tables().frequencies[model]
    listed = np.flatnonzero(frequencies)
    return tables().starts[model, listed].tolist(), frequencies[listed].tolist(), listed.tolist()


def _push_levels(state: _Sink, levels: np.ndarray, classes: np.ndarray) -> None:
    magnitudes = np.abs(levels)
    buckets = buckets_of(magnitudes)
    frequencies = tables().frequencies[classes, buckets]
    escaped = frequencies == 0
    symbols = np.where(escaped, ESCAPE, buckets)
    frequencies = np.where(escaped, tables().frequencies[classes, ESCAPE], frequencies)
    starts = tables().starts[classes, symbols]
    extra = extra_bits()[buckets]
    raw = magnitudes - bucket_edges()[buckets]
    raw = np.where(escaped, raw << ESCAPE_BITS | buckets, raw) << 1 | (levels < 0)
    bits = extra + 1 + ESCAPE_BITS * escaped
    coded = np.flatnonzero(levels)[::-1]
    for value, count in zip(raw[coded].tolist(), bits[coded].tolist(), strict=True):
        state.push(value, 1, count)
    for start, frequency in zip(starts[::-1].tolist(), frequencies[::-1].tolist(), strict=True):
        state.push(start, frequency, PRECISION_BITS)


def _pop_levels(state: _Source, classes: np.ndarray) -> np.ndarray:
    levels = np.zeros(classes.size, np.int32)
    found: list[tuple[int, int, int]] = []
    for position, model in enumerate(classes.tolist()):
        starts, frequencies, symbols = _symbols(model)
        place = bisect_right(starts, state.slot(PRECISION_BITS)) - 1
        state.pop(starts[place], frequencies[place], PRECISION_BITS)
        if place:
            found.append((position, symbols[place], model))
    edges, extra = bucket_edges().tolist(), extra_bits().tolist()
    for position, symbol, model in found:
        count = 1
        if symbol == ESCAPE:
            count += ESCAPE_BITS
            symbol = state.slot(count) >> 1
            if symbol >= BUCKETS or tables().frequencies[model, symbol]:
                raise CodecError("levels: an escape to what needs none")
        raw = state.slot(count + extra[symbol])
        # All at once: the state may take in a word after each step back.
        state.pop(raw, 1, count + extra[symbol])
        magnitude = edges[symbol] + (raw >> count)
        levels[position] = -magnitude if raw & 1 else magnitude
    return levels
