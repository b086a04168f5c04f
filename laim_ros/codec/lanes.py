"""Many symbols at once: interleaved rANS, one state per lane, whole rows of lanes by numpy.

Symbol i belongs to lane i mod N, row i // N. States are 2**16 … 2**32 − 1 and pass 16-bit words to and from one common
stream, in the order of the lanes [Giesen, arXiv 1402.3392].

What N states cost would spoil it: a last state is worth log2 x bits, anything from 16 to 32, and starting from a fixed one
wastes another 16. So states begin as raw bits that must be sent anyway, four that say how long and then 16 … 31 others, and
the last states are written in the same way: both are spread evenly over the logarithm, and what is lost at one end
is won at the other. N lanes cost about N/2 bits more or less, not 20·N more.

Bytes: 4 bits of each lane's length, the lanes' bits, padded to a byte; the words; the raw bits that found no place.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from laim_ros.codec.errors import CodecError
from laim_ros.codec.probabilities import CLASSES, PRECISION_BITS, SYMBOLS, TOTAL, tables

RAW_BITS_PER_LANE = 28
"""What a lane's first state takes in, in the mean."""

_WORD_BITS = 16
_LOW = 1 << _WORD_BITS
_LENGTH_BITS = 4
_MOST_BITS = 31
_WORD_MASK = _LOW - 1
_ROOM_BITS = 2 * _WORD_BITS - PRECISION_BITS
_STATE = np.int64


def pack(symbols: np.ndarray, classes: np.ndarray, raw: np.ndarray, lanes: int) -> bytes:
    """Symbols and raw bits to bytes.

    Args:
        symbols: uint8 (K,).
        classes: uint16 (K,).
        raw: uint8 of 0 and 1.
        lanes: at least 1.
    """
    states, used = _states_of(raw, lanes)
    rows = classes * np.int64(SYMBOLS) + symbols
    frequencies = tables().frequencies.reshape(-1).take(rows)
    starts = tables().starts.reshape(-1).take(rows)
    words = np.empty(symbols.size, "<u2")
    end = words.size
    full = np.empty(lanes, bool)
    scratch = np.empty(lanes, _STATE)
    for begin in range((symbols.size - 1) // lanes * lanes, -1, -lanes):
        frequency, start = frequencies[begin : begin + lanes], starts[begin : begin + lanes]
        width = frequency.size
        state, quotient, over = states[:width], scratch[:width], full[:width]
        np.right_shift(state, _ROOM_BITS, out=quotient)
        np.greater_equal(quotient, frequency, out=over)
        moved = state[over]
        if moved.size:
            words[end - moved.size : end] = moved
            end -= moved.size
            moved >>= _WORD_BITS
            state[over] = moved
        np.floor_divide(state, frequency, out=quotient)
        state += start
        np.subtract(TOTAL, frequency, out=frequency)
        quotient *= frequency
        state += quotient
    return b"".join((_packed(_bits_of_states(states)), words[end:].tobytes(), _packed(raw[used:])))


class Unpacked:
    """Undoes `pack`: first the symbols, then the raw bits, then the end."""

    def __init__(self, data: memoryview, classes: np.ndarray, lanes: int) -> None:
        """Read the symbols.

        Raises:
            CodecError: too few bytes.
        """
        states, position = _read_states(data, lanes)
        words = np.frombuffer(data[position : position + (len(data) - position) // 2 * 2], "<u2").astype(_STATE)
        self.symbols = np.empty(classes.size, np.uint8)
        used = self._rows(states, classes, words)
        self._rest = data[position + 2 * used :]
        self._raw = _bits_of_states(states)
        self._inside = self._raw.size
        self._taken = 0
        self._raw = np.concatenate((self._raw, np.unpackbits(np.frombuffer(self._rest, np.uint8), bitorder="little")))

    def take(self, count: int) -> np.ndarray:
        """The next raw bits.

        Raises:
            CodecError: there are not so many.
        """
        bits = self._raw[self._taken : self._taken + count]
        if bits.size != count:
            raise CodecError("levels: cut")
        self._taken += count
        return bits

    def end(self) -> None:
        """Check that nothing is left.

        Raises:
            CodecError: there is more.
        """
        left = max(0, self._taken - self._inside)
        if len(self._rest) != (left + 7) // 8 or self._raw[self._taken :].any():
            raise CodecError("levels: more bytes than the levels take")

    def _rows(self, states: np.ndarray, classes: np.ndarray, words: np.ndarray) -> int:
        """Take the symbols out of the states: how many words that took."""
        lanes = states.size
        symbol_of_slot = _symbols_of_slots()
        frequencies, starts = tables().frequencies.reshape(-1), tables().starts.reshape(-1)
        slot_bases = classes * _STATE(TOTAL)
        bases = classes * _STATE(SYMBOLS)
        slots, rows, numbers = (np.empty(lanes, _STATE) for _ in range(3))
        low = np.empty(lanes, bool)
        used = 0
        for begin in range(0, classes.size, lanes):
            base = bases[begin : begin + lanes]
            width = base.size
            state, slot, row, number, empty = (array[:width] for array in (states, slots, rows, numbers, low))
            symbol = self.symbols[begin : begin + width]
            np.bitwise_and(state, TOTAL - 1, out=slot)
            np.add(slot, slot_bases[begin : begin + width], out=row)
            symbol_of_slot.take(row, out=symbol, mode="clip")
            np.add(base, symbol, out=row)
            state >>= PRECISION_BITS
            frequencies.take(row, out=number, mode="clip")
            state *= number
            starts.take(row, out=number, mode="clip")
            slot -= number
            state += slot
            np.less(state, _LOW, out=empty)
            refilled = state[empty]
            if refilled.size:
                new = words[used : used + refilled.size]
                if new.size != refilled.size:
                    raise CodecError("levels: cut")
                used += new.size
                refilled <<= _WORD_BITS
                refilled |= new
                state[empty] = refilled
        return used


@lru_cache(maxsize=1)
def _symbols_of_slots() -> np.ndarray:
    """uint8 (CLASSES · TOTAL,): which symbol holds a slot."""
    return np.repeat(np.tile(np.arange(SYMBOLS, dtype=np.uint8), CLASSES), tables().frequencies.reshape(-1))


def _states_of(raw: np.ndarray, lanes: int) -> tuple[np.ndarray, int]:
    """First states, and how many raw bits went into them; where there are too few, zeros follow."""
    bits = np.zeros(max(raw.size, lanes * (_LENGTH_BITS + _MOST_BITS)), np.uint8)
    bits[: raw.size] = raw
    states, used = _parsed(bits, lanes)
    return states, min(used, raw.size)


def _read_states(data: memoryview, lanes: int) -> tuple[np.ndarray, int]:
    """Last states, and the bytes that they take."""
    most = lanes * (_LENGTH_BITS + _MOST_BITS)
    bits = np.zeros(most + 7, np.uint8)
    given = np.unpackbits(np.frombuffer(data[: (most + 7) // 8], np.uint8), bitorder="little")
    bits[: given.size] = given
    states, used = _parsed(bits, lanes)
    if used > given.size or given[used : (used + 7) // 8 * 8].any():
        raise CodecError("levels: cut or damaged")
    return states, (used + 7) // 8


def _parsed(bits: np.ndarray, lanes: int) -> tuple[np.ndarray, int]:
    """States from bits, of which there are enough, and how many they take; undoes `_bits_of_states`."""
    weights = 1 << np.arange(_LENGTH_BITS)
    lengths = _WORD_BITS + bits[: lanes * _LENGTH_BITS].reshape(lanes, _LENGTH_BITS) @ weights
    used = lanes * _LENGTH_BITS + int(lengths.sum())
    inside = np.arange(_MOST_BITS) < lengths[:, None]
    field = np.zeros((lanes, 32), np.uint8)
    field[:, :_MOST_BITS][inside] = bits[lanes * _LENGTH_BITS : used]
    field[np.arange(lanes), lengths] = 1
    return np.packbits(field, axis=1, bitorder="little").reshape(-1).view("<u4").astype(_STATE), used


def _bits_of_states(states: np.ndarray) -> np.ndarray:
    # Exact: a state has 32 bits, a float64 53.
    lengths = np.frexp(states.astype(np.float64))[1] - 1
    head = (lengths[:, None] - _WORD_BITS >> np.arange(_LENGTH_BITS)) & 1
    field = np.unpackbits(states.astype("<u4").view(np.uint8).reshape(-1, 4), axis=1, bitorder="little")
    inside = np.arange(32) < lengths[:, None]
    return np.concatenate((head.astype(np.uint8).reshape(-1), field[inside]))


def _packed(bits: np.ndarray) -> bytes:
    return np.packbits(bits, bitorder="little").tobytes()
