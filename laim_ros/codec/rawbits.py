"""What of a level is not modelled: its sign, where in its bucket it lies, which bucket an escape means."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from laim_ros.codec.bigint import Sink, Source
from laim_ros.codec.errors import CodecError
from laim_ros.codec.probabilities import (
    BUCKETS,
    ESCAPE,
    ESCAPE_BITS,
    SINGLE_MAGNITUDES,
    bucket_edges,
    buckets_of,
    extra_bits,
    tables,
)


def symbols_of(levels: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """uint8 (K,): the symbol that stands for each level in its class, a bucket or `ESCAPE`."""
    symbols = buckets_of(np.abs(levels))
    # Where a class lists few buckets, most levels are 0, which all classes list.
    large = np.flatnonzero(symbols > 1)
    escaped = large[tables().frequencies[classes[large], symbols[large]] == 0]
    symbols[escaped] = ESCAPE
    return symbols


def push_raw(state: Sink, levels: np.ndarray, symbols: np.ndarray) -> None:
    """Put the raw bits of levels that are not 0 into a state, each level's together."""
    magnitudes = np.abs(levels)
    buckets = buckets_of(magnitudes)
    raw = magnitudes.astype(np.int64) - bucket_edges()[buckets]
    escaped = symbols == ESCAPE
    raw = np.where(escaped, raw << ESCAPE_BITS | buckets, raw) << 1 | (levels < 0)
    bits = extra_bits()[buckets] + 1 + ESCAPE_BITS * escaped
    for value, count in zip(raw[::-1].tolist(), bits[::-1].tolist(), strict=True):
        state.push(value, 1, count)


def pop_raw(state: Source, symbols: list[int], classes: list[int]) -> list[int]:
    """The levels, none of them 0, whose symbols are known.

    Raises:
        CodecError: an escape to a bucket that the class lists, or to none.
    """
    edges, extra, listed = bucket_edges().tolist(), extra_bits().tolist(), tables().frequencies
    levels = []
    for symbol, model in zip(symbols, classes, strict=True):
        bits = 1
        if symbol == ESCAPE:
            bits += ESCAPE_BITS
            symbol = state.slot(bits) >> 1
            if symbol >= BUCKETS or listed[model, symbol]:
                raise _bad_escape()
        # All at once: the state may take in a word after each step.
        raw = state.pop_raw(bits + extra[symbol])
        magnitude = edges[symbol] + (raw >> bits)
        levels.append(-magnitude if raw & 1 else magnitude)
    return levels


def raw_bits(levels: np.ndarray, symbols: np.ndarray) -> np.ndarray:
    """The raw bits of many levels: uint8 of 0 and 1.

    First all signs of levels that are not 0, then the buckets of all escapes, then the places in buckets, those of the
    narrowest buckets first.
    """
    parts = [(levels[symbols > 0] < 0).view(np.uint8)]
    large = np.flatnonzero(symbols >= SINGLE_MAGNITUDES)
    magnitudes = np.abs(levels[large])
    buckets = buckets_of(magnitudes)
    parts.append(_bits_of(buckets[symbols[large] == ESCAPE], ESCAPE_BITS))
    widths, places = extra_bits()[buckets], magnitudes - bucket_edges()[buckets]
    for width in _wide(widths):
        parts.append(_bits_of(places[widths == width], width))
    return np.concatenate(parts)


def levels_of(symbols: np.ndarray, classes: np.ndarray, take: Callable[[int], np.ndarray]) -> np.ndarray:
    """int32 (K,) levels from their symbols and raw bits; undoes `raw_bits`.

    Args:
        symbols: uint8 (K,).
        classes: uint16 (K,).
        take: gives the next so many raw bits, uint8 of 0 and 1.

    Raises:
        CodecError: an escape to a bucket that the class lists, or to none; and what `take` raises.
    """
    nonzero = np.flatnonzero(symbols)
    negative = take(nonzero.size)
    large = np.flatnonzero(symbols >= SINGLE_MAGNITUDES)
    buckets = symbols[large]
    escaped = np.flatnonzero(buckets == ESCAPE)
    means = _numbers_of(take(ESCAPE_BITS * escaped.size), ESCAPE_BITS)
    if escaped.size:
        if int(means.max()) >= BUCKETS or tables().frequencies[classes[large[escaped]], means].any():
            raise _bad_escape()
        buckets[escaped] = means
    magnitudes = bucket_edges()[buckets]
    widths = extra_bits()[buckets]
    for width in _wide(widths):
        chosen = np.flatnonzero(widths == width)
        magnitudes[chosen] += _numbers_of(take(width * chosen.size), width)
    levels = symbols.astype(np.int32)
    levels[large] = magnitudes
    minus = nonzero[negative.view(bool)]
    levels[minus] = -levels[minus]
    return levels


def _wide(widths: np.ndarray) -> list[int]:
    """The widths that occur, without 0."""
    return [width for width, count in enumerate(np.bincount(widths)) if width and count]


def _bits_of(numbers: np.ndarray, width: int) -> np.ndarray:
    data = numbers.astype("<u4").view(np.uint8).reshape(-1, 4)
    return np.unpackbits(data, axis=1, count=width, bitorder="little").reshape(-1)


def _numbers_of(bits: np.ndarray, width: int) -> np.ndarray:
    """int64, from `width` bits each."""
    data = np.zeros((bits.size // width, 4), np.uint8)
    packed = np.packbits(bits.reshape(-1, width), axis=1, bitorder="little")
    data[:, : packed.shape[1]] = packed
    return data.reshape(-1).view("<u4").astype(np.int64)


def _bad_escape() -> CodecError:
    return CodecError("levels: an escape to what needs none")
