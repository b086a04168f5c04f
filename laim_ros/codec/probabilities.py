"""Static models of quantized coefficients: integer tables that are the same on every machine.

A coefficient y is quantized with step Δ and a dead zone, `level = sign(y) · floor(|y|/Δ + ROUNDING)`, so that zero is
|y| < ⅔ Δ and magnitude m > 0 is m − ⅓ ≤ |y|/Δ < m + ⅔. Its model, a *class*, is a generalised Gaussian with density
∝ exp(−(|y|/α)^p), α = σ·√(Γ(1/p)/Γ(3/p)): one of the exponents `SHAPES`, and σ/Δ in quarter octaves.

Magnitudes fall into buckets: 0 … 15 each in its own, above that four per octave with raw extra bits. A class lists the
buckets worth listing, with integer frequencies that sum to 2**14; `ESCAPE` announces any other. So every class can code
every level: a strange scene costs bytes, never correctness.

The tables come from floating point and are rounded once; from there on everything is integer. No number lies within
2e-5 of where rounding turns, so machines with sound arithmetic agree; `tables_digest` names the tables, so that those
that do not, or of another version, refuse each other's bytes.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

PRECISION_BITS = 14
TOTAL = 1 << PRECISION_BITS
"""What the frequencies of a class sum to."""

ROUNDING = 1 / 3
"""Of the quantizer; ½ would be plain rounding, less widens the interval of zero."""

SHAPES = (0.6, 1.0, 1.5, 2.5, 8.0)
"""Exponents p of the generalised Gaussians: 1 is Laplace, 2 would be Gauss, 8 is almost uniform."""

LOWEST_RATIO, HIGHEST_RATIO = -24, 56
"""σ/Δ in quarter octaves, from 2**-6 to 2**14. In halves, features of vision towers took up to 9 % more bits."""
RATIOS = HIGHEST_RATIO - LOWEST_RATIO + 1
CLASSES = len(SHAPES) * RATIOS

SINGLE_MAGNITUDES = 16
"""Magnitudes below this have a bucket each."""
_PER_OCTAVE = 4
MAGNITUDE_BITS = 20
MAX_MAGNITUDE = (1 << MAGNITUDE_BITS) - 1
BUCKETS = SINGLE_MAGNITUDES + _PER_OCTAVE * (MAGNITUDE_BITS - 4)
ESCAPE = BUCKETS
"""The symbol after the buckets: the bucket's number follows, as `ESCAPE_BITS` raw bits."""
SYMBOLS = BUCKETS + 1
ESCAPE_BITS = 7

HAZARD_BITS = 24
"""What zeros cost is counted in units of 2**-24 bits, where runs of them are coded."""

_WORTH_LISTING = 2.0**-15
"""Listing a bucket takes at least 1/2**14 from the others, 0.9e-4 bits for each level of the class, and saves the 7
bits of an escape whenever it occurs: worth it from 1.3e-5 on, if the model is right."""
_NODES = 32


@dataclass(frozen=True, slots=True)
class Tables:
    """All classes; a class is a row. Arrays are read-only."""

    frequencies: np.ndarray
    """int64 (CLASSES, SYMBOLS), rows sum to `TOTAL`; 0 where a bucket is not listed, never 0 for `ESCAPE`."""
    starts: np.ndarray
    """int64 (CLASSES, SYMBOLS), sum of the frequencies before."""
    cost_bits: np.ndarray
    """float32 (CLASSES, BUCKETS), ideal length of a level of this bucket, all raw bits included."""
    offsets: np.ndarray
    """float32 (CLASSES, BUCKETS), in steps: what is added to a magnitude to rebuild |y|/Δ."""
    hazards: np.ndarray
    """int64 (CLASSES,), what a zero costs, in 2**-HAZARD_BITS bits."""
    halvings: tuple[np.ndarray, np.ndarray]
    """Two int64 (2**12,): 2**30 · 2**(−i / 2**12) and 2**30 · 2**(−i / 2**24)."""


@lru_cache(maxsize=1)
def bucket_edges() -> np.ndarray:
    """int64 (BUCKETS + 1,): bucket b holds the magnitudes edges[b] … edges[b + 1] − 1."""
    octaves = [
        (_PER_OCTAVE + quarter) << (octave - 2) for octave in range(4, MAGNITUDE_BITS) for quarter in range(_PER_OCTAVE)
    ]
    return _frozen(np.array([*range(SINGLE_MAGNITUDES), *octaves, 1 << MAGNITUDE_BITS], np.int64))


@lru_cache(maxsize=1)
def extra_bits() -> np.ndarray:
    """int64 (BUCKETS,): raw bits that say where in its bucket a magnitude lies."""
    return _frozen(np.array([int(width).bit_length() - 1 for width in np.diff(bucket_edges())], np.int64))


@lru_cache(maxsize=1)
def _bucket_of_magnitude() -> np.ndarray:
    return _frozen(np.repeat(np.arange(BUCKETS, dtype=np.uint8), np.diff(bucket_edges())))


def buckets_of(magnitudes: np.ndarray) -> np.ndarray:
    """uint8 bucket of each magnitude; magnitudes are integers 0 … MAX_MAGNITUDE."""
    return _bucket_of_magnitude().take(magnitudes)


def class_indices(scales: np.ndarray, shapes: np.ndarray, step: int) -> np.ndarray:
    """The class of each coefficient at a quantizer step, in integers, so that robot and edge agree.

    Args:
        scales: integer array, σ in quarter octaves (σ = 2**(scale/4)).
        shapes: integer array of the same shape, indices into `SHAPES`.
        step: Δ in eighth octaves (Δ = 2**(step/8)).

    Returns:
        uint16, the same shape: shape · RATIOS + ratio, σ/Δ rounded to quarter octaves and clipped to the tables' ends.

    Raises:
        IndexError: an index into `SHAPES` that is not one.
    """
    if shapes.size and not 0 <= int(shapes.min()) <= int(shapes.max()) < len(SHAPES):
        raise IndexError(f"shape indices {shapes.min()} … {shapes.max()}, must be 0 … {len(SHAPES) - 1}")
    ratios = (2 * scales.astype(np.int32) - (step - 1)) >> 1
    np.clip(ratios, LOWEST_RATIO, HIGHEST_RATIO, out=ratios)
    ratios -= LOWEST_RATIO
    ratios += shapes.astype(np.int32) * RATIOS
    return ratios.astype(np.uint16)


def quantize(scaled: np.ndarray) -> np.ndarray:
    """Dead-zone levels of coefficients in steps (y/Δ, finite floats): int32, beyond ±MAX_MAGNITUDE clipped."""
    magnitudes = np.abs(scaled)
    magnitudes += magnitudes.dtype.type(ROUNDING)
    np.minimum(magnitudes, MAX_MAGNITUDE, out=magnitudes)
    np.floor(magnitudes, out=magnitudes)
    return np.copysign(magnitudes, scaled, out=magnitudes).astype(np.int32)


def rebuild(levels: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Coefficients in steps (y/Δ) from levels: the mean of the level's interval under its class.

    Above the highest bucket that a class lists, where its model says nothing, a level stands for itself.

    Args:
        levels: int32, magnitudes up to MAX_MAGNITUDE.
        classes: uint16, the same shape.

    Returns:
        float32, the same shape; 0 for level 0.
    """
    magnitudes = np.abs(levels)
    values = magnitudes.astype(np.float32)
    values += tables().offsets.reshape(-1).take(classes * np.int32(BUCKETS) + buckets_of(magnitudes))
    return np.copysign(values, levels, out=values)


def cost_bits(levels: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Ideal code length of each level in bits, signs and other raw bits included: float32, the levels' shape.

    Args:
        levels: int32, magnitudes up to MAX_MAGNITUDE.
        classes: uint16, the same shape.
    """
    return tables().cost_bits.reshape(-1).take(classes * np.int32(BUCKETS) + buckets_of(np.abs(levels)))


@lru_cache(maxsize=1)
def tables() -> Tables:
    """All classes, made at first use (some 30 ms)."""
    masses = _bucket_masses()
    frequencies = _frequencies(masses)
    listed = frequencies[:, :BUCKETS] > 0
    starts = np.cumsum(frequencies, axis=1) - frequencies
    raw_bits = extra_bits() + (np.arange(BUCKETS) > 0)
    symbol_bits = PRECISION_BITS - np.log2(np.maximum(frequencies, 1))
    cost = np.where(listed, symbol_bits[:, :BUCKETS], symbol_bits[:, ESCAPE:] + ESCAPE_BITS) + raw_bits
    highest = BUCKETS - 1 - np.argmax(listed[:, ::-1], axis=1)
    known = np.arange(BUCKETS) <= highest[:, None]
    known[:, 0] = False
    offsets = np.where(known, _interval_means(), 0)
    unit = 1 << HAZARD_BITS
    steps = np.arange(1 << 12)
    return Tables(
        frequencies=_frozen(frequencies),
        starts=_frozen(starts),
        cost_bits=_frozen(cost.astype(np.float32)),
        offsets=_frozen(offsets.astype(np.float32)),
        hazards=_frozen(np.rint(symbol_bits[:, 0] * unit).astype(np.int64)),
        halvings=tuple(_frozen(np.rint(np.exp2(30 - steps / size)).astype(np.int64)) for size in (1 << 12, unit)),
    )


@lru_cache(maxsize=1)
def tables_digest() -> str:
    """Hex name of everything here that decides what bytes mean: 16 digits."""
    layout = (PRECISION_BITS, SHAPES, LOWEST_RATIO, HIGHEST_RATIO, ESCAPE_BITS, bucket_edges().tolist())
    digest = hashlib.blake2b(repr(layout).encode(), digest_size=8)
    digest.update(tables().frequencies.astype("<i2").tobytes())
    for array in (tables().hazards, *tables().halvings):
        digest.update(array.astype("<i4").tobytes())
    return digest.hexdigest()


def _frozen(array: np.ndarray) -> np.ndarray:
    array.setflags(write=False)
    return array


def _class_parameters() -> tuple[np.ndarray, np.ndarray]:
    """Exponent p and α/Δ of every class, each (CLASSES, 1, 1)."""
    exponents = np.repeat(np.array(SHAPES), RATIOS)
    ratios = np.tile(np.exp2(np.arange(LOWEST_RATIO, HIGHEST_RATIO + 1) / 4), len(SHAPES))
    spread = np.array([math.sqrt(math.gamma(1 / shape) / math.gamma(3 / shape)) for shape in SHAPES])
    return exponents[:, None, None], (ratios * np.repeat(spread, RATIOS))[:, None, None]


def _bucket_masses() -> np.ndarray:
    """Probability of every bucket: float64 (CLASSES, BUCKETS), by Gauss–Legendre quadrature of the density.

    Zero, where the density may have a peak, is what the others leave.
    """
    exponents, alphas = _class_parameters()
    edges = bucket_edges()[1:] - ROUNDING
    low, width = edges[:-1, None], np.diff(edges)[:, None]
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    points = low + width * (nodes + 1) / 2
    normal = np.array([shape / math.gamma(1 / shape) for shape in SHAPES]).repeat(RATIOS)[:, None, None] / alphas
    # Underflow is what far tails are.
    with np.errstate(under="ignore", over="ignore"):
        density = normal * np.exp(-((points / alphas) ** exponents))
        masses = (density * weights).sum(-1) * (width[:, 0] / 2)
    return np.concatenate((1 - masses.sum(1, keepdims=True), masses), axis=1)


def _frequencies(masses: np.ndarray) -> np.ndarray:
    """Integers that sum to `TOTAL`.

    Each is rounded by itself and the most frequent takes what is left: ranking remainders would hang on the last bits
    of nearly equal ones, and with them on the machine.
    """
    listed = masses >= _WORTH_LISTING
    # Real coefficients have heavier tails than models: a one must not cost an escape even where it should not occur.
    listed[:, :2] = True
    rest = np.where(listed, 0, masses).sum(1, keepdims=True)
    wanted = np.concatenate((np.where(listed, masses, 0), rest), axis=1) * TOTAL
    frequencies = np.rint(wanted).astype(np.int64)
    floor = np.concatenate((listed, np.ones((CLASSES, 1), bool)), axis=1).astype(np.int64)
    np.maximum(frequencies, floor, out=frequencies)
    rows = np.arange(CLASSES)
    frequencies[rows, frequencies.argmax(1)] += TOTAL - frequencies.sum(1)
    return frequencies


def _interval_means() -> np.ndarray:
    """Mean of |y|/Δ in a magnitude's interval, less the magnitude: float64 (CLASSES, BUCKETS).

    For buckets of many magnitudes, that of the middle one.
    """
    exponents, alphas = _class_parameters()
    edges = bucket_edges()
    middle = (edges[:-1] + edges[1:] - 1) / 2
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    within = (nodes + 1) / 2 - ROUNDING
    points = np.maximum(middle[:, None] + within, 0)
    with np.errstate(under="ignore", over="ignore"):
        exponent = (points / alphas) ** exponents
        density = np.exp(exponent.min(-1, keepdims=True) - exponent) * weights
    return (density * within).sum(-1) / density.sum(-1)
