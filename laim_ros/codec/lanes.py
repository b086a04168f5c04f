"""Many symbols at once: interleaved rANS, one state per lane, whole rows of lanes by numpy.

Symbol i belongs to lane i mod N, row i // N. States are 2**16 … 2**32 − 1 and pass 16-bit words to and from one common
stream, in the order of the lanes [Giesen, arXiv 1402.3392].

What N states cost would spoil it: the last ones are worth log2 x bits, anything from 16 to 32, and starting from a
fixed one wastes another 16. So states begin as raw bits that must be sent anyway, four that say how many follow and
then 16 … 31 others, and the last states are written in the same way: both are spread evenly over the logarithm, and
what is lost at one end is won at the other. N lanes cost some √N/2 bits more or less, instead of 20·N more.

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
_INDEX = np.int64


def pack(symbols: np.ndarray, classes: np.ndarray, raw: np.ndarray, lanes: int) -> bytes:
    """Symbols and raw bits to bytes.

    Args:
        symbols: uint8 (K,).
        classes: uint16 (K,).
        raw: uint8 of 0 and 1.
        lanes: at least 1.
    """
    states, inside = _states_of(raw, lanes)
    # Floats divide faster than integers, and hold all that is below 2**53 exactly.
    states = states.astype(np.float64)
    rows = classes * _INDEX(SYMBOLS) + symbols
    frequencies, starts = (array.take(rows) for array in _float_tables())
    words = np.empty(symbols.size, "<u2")
    whole = symbols.size // lanes * lanes
    end = _push_rows(states[: symbols.size - whole], frequencies[None, whole:], starts[None, whole:], words, words.size)
    shape = (-1, lanes)
    end = _push_rows(states, frequencies[:whole].reshape(shape), starts[:whole].reshape(shape), words, end)
    return b"".join((_packed(_bits_of_states(states)), words[end:].tobytes(), _packed(raw[inside:])))


def _push_rows(states: np.ndarray, frequencies: np.ndarray, starts: np.ndarray, words: np.ndarray, end: int) -> int:
    """Put rows of symbols into the states, the last first, and words before place `end`: their new first place."""
    rooms = frequencies * float(1 << _ROOM_BITS)
    growths = TOTAL - frequencies
    quotients, full = np.empty_like(states), np.empty(states.size, bool)
    for room, frequency, growth, start in zip(rooms[::-1], frequencies[::-1], growths[::-1], starts[::-1], strict=True):
        np.greater_equal(states, room, out=full)
        over = full.nonzero()[0]
        if over.size:
            moved = states.take(over).astype(_INDEX)
            words[end - over.size : end] = moved & _WORD_MASK
            end -= over.size
            moved >>= _WORD_BITS
            states[over] = moved
        np.divide(states, frequency, out=quotients)
        np.floor(quotients, out=quotients)
        quotients *= growth
        states += quotients
        states += start
    return end


class Unpacked:
    """Undoes `pack`: first the symbols, then the raw bits, then the end."""

    def __init__(self, data: memoryview, classes: np.ndarray, lanes: int) -> None:
        """Read the symbols.

        Raises:
            CodecError: too few bytes.
        """
        states, position = _read_states(data, lanes)
        words = np.frombuffer(data[position : position + (len(data) - position) // 2 * 2], "<u2").astype(_INDEX)
        self.symbols = np.empty(classes.size, np.uint8)
        whole = classes.size // lanes * lanes
        shape = (-1, lanes)
        used = _pop_rows(states, classes[:whole].reshape(shape), words, 0, self.symbols[:whole].reshape(shape))
        used = _pop_rows(states[: classes.size - whole], classes[None, whole:], words, used, self.symbols[None, whole:])
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


def _pop_rows(states: np.ndarray, classes: np.ndarray, words: np.ndarray, used: int, symbols: np.ndarray) -> int:
    """Take rows of symbols out of the states, and words from place `used` on: the place after those.

    Raises:
        CodecError: too few words.
    """
    symbol_of_slot, frequencies, starts = _symbols_of_slots(), *_tables()
    slots, numbers, rows = (np.empty_like(states) for _ in range(3))
    empty = np.empty(states.size, bool)
    # Arrays, since numpy takes longer to look at a Python number than to work through a few hundred elements.
    mask, bits, low = (np.full_like(states, number) for number in (TOTAL - 1, PRECISION_BITS, _LOW))
    slot_bases, row_bases = classes * _INDEX(TOTAL), classes * _INDEX(SYMBOLS)
    for slot_base, row_base, symbol in zip(slot_bases, row_bases, symbols, strict=True):
        np.bitwise_and(states, mask, out=slots)
        np.add(slots, slot_base, out=rows)
        symbol_of_slot.take(rows, out=symbol, mode="clip")
        np.add(row_base, symbol, out=rows)
        states >>= bits
        frequencies.take(rows, out=numbers, mode="clip")
        states *= numbers
        states += slots
        starts.take(rows, out=numbers, mode="clip")
        states -= numbers
        np.less(states, low, out=empty)
        lacking = empty.nonzero()[0]
        if lacking.size:
            refilled = states.take(lacking)
            refilled <<= _WORD_BITS
            new = words[used : used + lacking.size]
            if new.size != lacking.size:
                raise CodecError("levels: cut")
            refilled |= new
            states[lacking] = refilled
            used += lacking.size
    return used


@lru_cache(maxsize=1)
def _tables() -> tuple[np.ndarray, np.ndarray]:
    """Frequencies and starts, (CLASSES · SYMBOLS,)."""
    return tables().frequencies.reshape(-1), tables().starts.reshape(-1)


@lru_cache(maxsize=1)
def _float_tables() -> tuple[np.ndarray, np.ndarray]:
    return tuple(array.astype(np.float64) for array in _tables())


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
    return np.packbits(field, axis=1, bitorder="little").reshape(-1).view("<u4").astype(_INDEX), used


def _bits_of_states(states: np.ndarray) -> np.ndarray:
    # Exact: a state has 32 bits, a float64 53.
    lengths = np.frexp(states.astype(np.float64))[1] - 1
    head = (lengths[:, None] - _WORD_BITS >> np.arange(_LENGTH_BITS)) & 1
    field = np.unpackbits(states.astype("<u4").view(np.uint8).reshape(-1, 4), axis=1, bitorder="little")
    inside = np.arange(32) < lengths[:, None]
    return np.concatenate((head.astype(np.uint8).reshape(-1), field[inside]))


def _packed(bits: np.ndarray) -> bytes:
    return np.packbits(bits, bitorder="little").tobytes()
