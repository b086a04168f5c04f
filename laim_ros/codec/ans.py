"""Levels and side information to bytes and back: `LevelWriter` and `LevelReader`.

Up to `SMALL` levels go one by one into a Python integer (`bigint`). Of more, those whose class makes zero likely are
coded by the distance to the next that is not 0 (`gaps`), and the others one by one, or, where they are many, in lanes
(`lanes`). From what probability of zero on a class counts as sparse is the writer's choice, by the time that it takes:
the bits are the same. The levels after the last that is not 0 are then not coded at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from laim_ros.codec import gaps, lanes
from laim_ros.codec.bigint import Sink, Source
from laim_ros.codec.errors import CodecError
from laim_ros.codec.probabilities import CLASSES, HAZARD_BITS, MAX_MAGNITUDE, PRECISION_BITS, TOTAL, tables
from laim_ros.codec.rawbits import levels_of, pop_raw, push_raw, raw_bits, symbols_of

SMALL = 2048
"""Levels up to which all of them go one by one."""

MOST_NUMBER = 1 << 16

_SPARSE_FROM = (TOTAL, 16320, 16000, 15000, 13000, 10000, 6000, 0)
"""Frequencies of zero from which on a class is sparse, to choose from; the first makes none so, the last all."""

_LOOKED_AT = 1 << 13
"""Levels by which that choice is made."""

_PARTS = 255
_LANES_UNIT, _LANES_UNITS = 8, 512
_ROWS = 512
"""Rows of lanes that are not exceeded for want of raw bits: N lanes without cost at most 20·N bits."""

_GAP_US, _REACH_US, _SINGLE_US, _LANE_US, _LANES_US = 7.0, 0.5, 0.4, 0.04, 600.0
"""Times, roughly: of a level that is not 0, of a bit's worth of zeros, of one by itself, in lanes, to start those."""


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
        if not 0 <= value < size:
            raise CodecError(f"number {value} is not one of 0 … {size - 1}")
        self._side.append(_share(int(value), size))

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
        if self._levels is None:
            state = Sink()
        elif self._levels[0].size <= SMALL:
            state = Sink()
            _push_singly(state, *self._levels)
        else:
            state = _push_many(*self._levels)
        for symbol in reversed(self._side):
            state.push(*symbol)
        return state.to_bytes()


class LevelReader:
    """Reads a payload; any bytes give values or a CodecError."""

    def __init__(self, payload: bytes | memoryview) -> None:
        """Reader of a whole payload.

        Raises:
            CodecError: it ends in a byte that no writer puts there.
        """
        self._state = Source(payload)

    def pick(self, frequencies: Sequence[int]) -> int:
        """What `LevelWriter.pick` said, with the same frequencies.

        Raises:
            CodecError: the frequencies do not sum to 2**14.
        """
        _check_frequencies(frequencies)
        slot, start, value = self._state.slot(PRECISION_BITS), 0, 0
        while slot >= start + frequencies[value]:
            start += frequencies[value]
            value += 1
        self._state.pop(start, frequencies[value], PRECISION_BITS)
        return value

    def number(self, size: int) -> int:
        """What `LevelWriter.number` said, with the same size.

        Raises:
            CodecError: the size is not 1 … 65536.
        """
        return _pop_number(self._state, size)

    def levels(self, classes: np.ndarray) -> np.ndarray:
        """The levels: int32 (K,), magnitudes up to MAX_MAGNITUDE.

        Args:
            classes: uint16 (K,), as the writer had them.

        Raises:
            CodecError: the payload holds no such levels.
        """
        _check_classes(classes)
        if classes.size <= SMALL:
            return _pop_singly(self._state, classes)
        return _pop_many(self._state, classes)

    def end(self) -> None:
        """Check that the payload held what was read, and nothing else.

        Raises:
            CodecError: there is more.
        """
        self._state.end()


def _push_singly(state: Sink, levels: np.ndarray, classes: np.ndarray) -> None:
    symbols = symbols_of(levels, classes)
    nonzero = np.flatnonzero(levels)
    # Raw bits at the bottom: the more there is in the state, the less is lost when a symbol goes in.
    push_raw(state, levels[nonzero], symbols[nonzero])
    choices: list[tuple[int, int] | None] = [None] * levels.size
    for place, choice in zip(nonzero.tolist(), gaps.choices_of(symbols[nonzero], classes[nonzero]), strict=True):
        choices[place] = choice
    state.push_symbols(_zero_frequencies().take(classes).tolist(), choices)


def _pop_singly(state: Source, classes: np.ndarray) -> np.ndarray:
    models = classes.tolist()
    zeros = _zero_frequencies().take(classes).tolist()
    places, symbols = state.pop_symbols(zeros, lambda place, slot: gaps.choose(models[place], slot))
    levels = np.zeros(classes.size, np.int32)
    if places:
        levels[places] = pop_raw(state, symbols, [models[place] for place in places])
    return levels


def _push_many(levels: np.ndarray, classes: np.ndarray) -> Sink:
    nonzero = levels != 0
    parts = -(-(levels.size - int(nonzero[::-1].argmax())) // _part(levels.size)) if nonzero.any() else 0
    end = min(parts * _part(levels.size), levels.size)
    levels, classes, nonzero = levels[:end], classes[:end], nonzero[:end]
    choice = _quickest(classes, nonzero)
    symbols = symbols_of(levels, classes)
    dense, sparse = _split(classes, choice)
    if not gaps.fits(np.count_nonzero(nonzero[sparse]), classes[sparse]):
        choice = 0
        dense, sparse = _split(classes, choice)
    numbers = [_share(parts, _PARTS + 1), _share(choice, len(_SPARSE_FROM))]
    dense_levels, dense_classes = levels[dense], classes[dense]
    if dense_levels.size > SMALL:
        dense_symbols = symbols[dense]
        raw = raw_bits(dense_levels, dense_symbols)
        units = _lane_units(dense_levels.size, raw.size)
        numbers.append(_share(units - 1, _LANES_UNITS))
        state = Sink(lanes.pack(dense_symbols, dense_classes, raw, units * _LANES_UNIT))
    else:
        state = Sink()
        _push_singly(state, dense_levels, dense_classes)
    if sparse.size:
        marked = sparse[nonzero[sparse]]
        push_raw(state, levels[marked], symbols[marked])
        gaps.push_gaps(state, symbols[sparse], classes[sparse])
    for number in reversed(numbers):
        state.push(*number)
    return state


def _pop_many(state: Source, classes: np.ndarray) -> np.ndarray:
    levels = np.zeros(classes.size, np.int32)
    end = min(_pop_number(state, _PARTS + 1) * _part(classes.size), classes.size)
    classes = classes[:end]
    dense, sparse = _split(classes, _pop_number(state, len(_SPARSE_FROM)))
    dense_classes = classes[dense]
    units = 1 + _pop_number(state, _LANES_UNITS) if dense_classes.size > SMALL else 0
    if units and units < _fewest_units(dense_classes.size):
        raise CodecError(f"levels: {units * _LANES_UNIT} lanes are too few for {dense_classes.size} levels")
    if sparse.size:
        places, symbols = gaps.pop_gaps(state, classes[sparse])
        marked = sparse[places]
        levels[marked] = pop_raw(state, symbols, classes[marked].tolist())
    if units:
        unpacked = lanes.Unpacked(state.tail(), dense_classes, units * _LANES_UNIT)
        levels[dense] = levels_of(unpacked.symbols, dense_classes, unpacked.take)
        unpacked.end()
    else:
        levels[dense] = _pop_singly(state, dense_classes)
    return levels


def _split(classes: np.ndarray, choice: int) -> tuple[slice | np.ndarray, np.ndarray]:
    """Which levels are coded for themselves, and which by their distances; a slice where that is all."""
    if choice == 0:
        return slice(0, classes.size), np.zeros(0, np.intp)
    sparse = (_zero_frequencies() >= _SPARSE_FROM[choice]).take(classes)
    return (~sparse).nonzero()[0], sparse.nonzero()[0]


def _part(size: int) -> int:
    """Levels in one of the parts in which it is said how far levels are coded."""
    return -(-size // _PARTS)


def _quickest(classes: np.ndarray, nonzero: np.ndarray) -> int:
    """Which of `_SPARSE_FROM` makes coding quickest, by a sample."""
    stride = 1 + classes.size // _LOOKED_AT
    looked_at = classes[::stride]
    count = stride * np.bincount(looked_at, minlength=CLASSES)
    occupied = stride * np.bincount(looked_at[nonzero[::stride]], minlength=CLASSES)
    # (choices, CLASSES) @ (CLASSES,)
    sparse = _zero_frequencies() >= np.array(_SPARSE_FROM)[:, None]
    gaps_occupied, dense = sparse @ occupied, ~sparse @ count
    certain_bits = sparse @ (count * tables().hazards) / 2**HAZARD_BITS
    times_us = _GAP_US * gaps_occupied + _REACH_US * certain_bits
    times_us += np.where(dense > SMALL, _LANES_US + _LANE_US * dense, _SINGLE_US * dense)
    return int(times_us.argmin())


def _lane_units(dense: int, raw: int) -> int:
    """How many lanes, in units: as many as raw bits fill, but few rows, and rows of a useful length."""
    return min(max(raw // (lanes.RAW_BITS_PER_LANE * _LANES_UNIT), _fewest_units(dense)), _LANES_UNITS)


def _fewest_units(dense: int) -> int:
    """Units of lanes below which rows would be too many: hostile bytes, too, must not take long."""
    return min(-(-dense // (_ROWS * _LANES_UNIT)), _LANES_UNITS)


@lru_cache(maxsize=1)
def _zero_frequencies() -> np.ndarray:
    return np.ascontiguousarray(tables().frequencies[:, 0])


def _share(value: int, size: int) -> tuple[int, int, int]:
    """Start, frequency and bits of the total of one of `size` numbers, which share a power of two."""
    if not 1 <= size <= MOST_NUMBER:
        raise CodecError(f"a number out of {size}; at most {MOST_NUMBER}")
    bits = size.bit_length() + 6
    start = (value << bits) // size
    return start, (value + 1 << bits) // size - start, bits


def _pop_number(state: Source, size: int) -> int:
    bits = _share(0, size)[2]
    value = ((state.slot(bits) + 1) * size - 1) >> bits
    state.pop(*_share(value, size))
    return value


def _check_frequencies(frequencies: Sequence[int]) -> None:
    if sum(frequencies) != TOTAL or min(frequencies) < 0:
        raise CodecError(f"frequencies must sum to {TOTAL}: {tuple(frequencies)}")


def _check_classes(classes: np.ndarray) -> None:
    if classes.ndim != 1 or classes.dtype != np.uint16 or (classes.size and int(classes.max()) >= CLASSES):
        raise CodecError(f"classes must be uint16 (K,) below {CLASSES}, not {classes.dtype} {classes.shape}")
