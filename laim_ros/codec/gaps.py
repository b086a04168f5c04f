"""Sparse levels: how far it is to the next one that is not 0, at exactly the cost of the zeros in between.

Zeros of probability p cost h = −log2 p bits each, and the next level that is not 0 lies beyond position j with
probability 2**−(H[j] − H[here]), H the running sum of h. That is a distribution over positions from which one symbol
can be coded, in integers: H in fixed point, the power of two from two tables. A thousand near-certain zeros then take
no longer than one.
Beyond `_REACH_BITS` the symbol only says that nothing comes so near, and the next one counts from there.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from functools import lru_cache

import numpy as np

from laim_ros.codec.bigint import Sink, Source
from laim_ros.codec.errors import CodecError
from laim_ros.codec.probabilities import CLASSES, HAZARD_BITS, PRECISION_BITS, TOTAL, tables

MOST_NONZERO = 4096
"""Levels that are not 0 which may be coded so; bounds the time that hostile bytes take."""

MOST_CERTAIN_BITS = 1 << 15
"""What the zeros, if all were, may cost together; bounds it, too."""

_REACH_BITS = 6
_REACH = _REACH_BITS << HAZARD_BITS
_CHANCE_BITS = 28
_BEYOND_REACH = 1 << _CHANCE_BITS - _REACH_BITS
_INDEX_MASK = (1 << 12) - 1


def fits(nonzero: int, classes: np.ndarray) -> bool:
    """Whether levels of these classes, so many of them not 0, may be coded here."""
    certain = int(tables().hazards.take(classes).sum())
    return nonzero <= MOST_NONZERO and certain <= MOST_CERTAIN_BITS << HAZARD_BITS


def push_gaps(state: Sink, symbols: np.ndarray, classes: np.ndarray) -> None:
    """Put symbols into a state: uint8 (K,), of uint16 classes (K,), which must fit."""
    total_hazards = _running_hazards(classes)
    hazards = memoryview(total_hazards)
    chance = _Chance()
    nonzero = np.flatnonzero(symbols)
    choices = choices_of(symbols[nonzero], classes[nonzero])
    coded: list[tuple[int, int, int]] = []
    here, end = 0, classes.size
    for place, choice in zip(nonzero.tolist(), choices, strict=True):
        while hazards[place] - hazards[here] > _REACH:
            reached = bisect_right(hazards, hazards[here] + _REACH)
            coded.append((0, chance(hazards[reached] - hazards[here]), _CHANCE_BITS))
            here = reached
        beyond = chance(hazards[place + 1] - hazards[here])
        coded.append((beyond, chance(hazards[place] - hazards[here]) - beyond, _CHANCE_BITS))
        coded.append((*choice, PRECISION_BITS))
        here = place + 1
    while here < end:
        reached = min(bisect_right(hazards, hazards[here] + _REACH), end)
        coded.append((0, chance(hazards[reached] - hazards[here]), _CHANCE_BITS))
        here = reached
    for start, frequency, bits in reversed(coded):
        state.push(start, frequency, bits)


def pop_gaps(state: Source, classes: np.ndarray) -> tuple[list[int], list[int]]:
    """Where the symbols lie that are not 0, and which they are.

    Raises:
        CodecError: they do not fit.
    """
    if not fits(0, classes):
        raise CodecError("levels: too many are taken for sparse")
    total_hazards = _running_hazards(classes)
    hazards = memoryview(total_hazards)
    chance = _Chance()
    places: list[int] = []
    symbols: list[int] = []
    here, end = 0, classes.size
    while here < end:
        base = hazards[here]
        slot = state.slot(_CHANCE_BITS)
        left = hazards[end] - base
        if slot < _BEYOND_REACH or left <= _REACH:
            reached = min(bisect_right(hazards, base + _REACH), end)
            beyond = chance(hazards[reached] - base)
            if slot < beyond:
                state.pop(0, beyond, _CHANCE_BITS)
                here = reached
                continue
        # The logarithm is a guess, the integers decide.
        guess = base + int((_CHANCE_BITS - math.log2(slot + 0.5)) * (1 << HAZARD_BITS))
        place = min(max(bisect_right(hazards, guess, here, end) - 1, here), end - 1)
        near = chance(hazards[place] - base)
        while near <= slot:
            place -= 1
            near = chance(hazards[place] - base)
        beyond = chance(hazards[place + 1] - base)
        while beyond > slot:
            place += 1
            near, beyond = beyond, chance(hazards[place + 1] - base)
        state.pop(beyond, near - beyond, _CHANCE_BITS)
        places.append(place)
        if len(places) > MOST_NONZERO:
            raise CodecError(f"levels: more than {MOST_NONZERO} where hardly any are likely")
        symbol, start, frequency = choose(int(classes[place]), state.slot(PRECISION_BITS))
        state.pop(start, frequency, PRECISION_BITS)
        symbols.append(symbol)
        here = place + 1
    return places, symbols


def choices_of(symbols: np.ndarray, classes: np.ndarray) -> list[tuple[int, int]]:
    """Start and frequency, out of `TOTAL`, of symbols that are known not to be 0."""
    certain = tables().starts[classes, 1]
    first = tables().starts[classes, symbols] - certain
    after = first + tables().frequencies[classes, symbols]
    first, after = ((place << PRECISION_BITS) // (TOTAL - certain) for place in (first, after))
    return list(zip(first.tolist(), (after - first).tolist(), strict=True))


def choose(model: int, slot: int) -> tuple[int, int, int]:
    """The symbol of a class that holds a slot, out of `TOTAL`, if it is known not to be 0; its start and frequency."""
    starts, symbols = _choices(model)
    row = bisect_right(starts, slot) - 1
    return symbols[row], starts[row], starts[row + 1] - starts[row]


@lru_cache(maxsize=CLASSES)
def _choices(model: int) -> tuple[list[int], list[int]]:
    """Where the symbols of a class start that are not 0, and `TOTAL`; and which they are."""
    symbols = 1 + np.flatnonzero(tables().frequencies[model, 1:])
    starts = [start for start, _ in choices_of(symbols, np.full(symbols.size, model))]
    return [*starts, TOTAL], symbols.tolist()


def _running_hazards(classes: np.ndarray) -> np.ndarray:
    """int64 (K + 1,): what all zeros before a position cost together."""
    running = np.zeros(classes.size + 1, np.int64)
    np.cumsum(tables().hazards.take(classes), out=running[1:])
    return running


class _Chance:
    """2**_CHANCE_BITS · 2**(−hazard / 2**HAZARD_BITS), in integers, never rising."""

    def __init__(self) -> None:
        coarse, fine = tables().halvings
        self._coarse, self._fine = memoryview(coarse), memoryview(fine)

    def __call__(self, hazard: int) -> int:
        product = self._coarse[hazard >> 12 & _INDEX_MASK] * self._fine[hazard & _INDEX_MASK]
        return product >> 60 - _CHANCE_BITS + (hazard >> HAZARD_BITS)
