"""Weights in chunks of rows that share a scale, checked, with what the choice of a scale needs to know of them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from laim_ros.quantization.errors import QuantizationError

LARGEST = 1e30
"""Largest magnitude of a weight that is taken: no trained weight comes near, and sums stay finite in float32."""
SMALLEST = 1e-30
"""A row without any magnitude above this counts as zero: its scale would leave the range of float32."""

_CHUNK = 1 << 18
"""Weights worked on at once: few enough for the passes over them to stay in the processor's cache."""
_SAMPLE = 1 << 20
"""Weights of a longer row, such as a whole tensor, that its scale is searched on."""
_GOLDEN = (math.sqrt(5) - 1) / 2


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some rows of (S, n).

    Attributes:
        part: which rows.
        magnitudes: float32 (s, n); of very long rows a sample of 2^20.
        mean, smallest, largest: of all magnitudes of each row, float32 (s,).
    """

    part: slice
    magnitudes: torch.Tensor
    mean: torch.Tensor
    smallest: torch.Tensor
    largest: torch.Tensor


def check_weight(weight: torch.Tensor) -> None:
    """Raises QuantizationError for what is no weight matrix; its values are checked by `chunks`."""
    if weight.ndim != 2:
        raise QuantizationError(f"a weight of shape {tuple(weight.shape)} must have two dimensions: outputs, inputs")
    if not weight.numel():
        raise QuantizationError(f"a weight of shape {tuple(weight.shape)} has no elements; nothing to quantize")
    if not weight.dtype.is_floating_point:
        raise QuantizationError(f"a weight to quantize must be floating point, not {weight.dtype}")


def chunks(rows: torch.Tensor) -> Iterator[Chunk]:
    """Cuts rows (S, n), floating point, into chunks of some hundred thousand weights (one row at least).

    Raises:
        QuantizationError: NaN, infinity, or a magnitude above 1e30.
    """
    for part in _parts(*rows.shape):
        if rows.shape[1] <= _SAMPLE:
            magnitudes = rows[part].to(torch.float32).abs().contiguous()
            mean, smallest, largest = magnitudes.mean(1), magnitudes.amin(1), magnitudes.amax(1)
        else:
            row = rows[part.start]
            magnitudes = _sample(row)[None]
            mean, smallest, largest = (value[None] for value in _of_long_row(row))
        if not bool((largest <= LARGEST).all()):  # false for NaN, too
            raise QuantizationError(
                f"the weight holds NaN, infinity or a magnitude above {LARGEST:g} (in row {part.start} to "
                f"{part.stop - 1} of {rows.shape[0]} that have a scale of their own); the checkpoint is broken: fetch "
                "it again"
            )
        yield Chunk(part, magnitudes, mean, smallest, largest)


def pieces(rows: torch.Tensor) -> Iterator[tuple[slice, slice]]:
    """Rows and columns of (S, n) in pieces of some hundred thousand weights, for what works weight by weight."""
    for part in _parts(*rows.shape):
        for start in range(0, rows.shape[1], _CHUNK):
            yield part, slice(start, min(start + _CHUNK, rows.shape[1]))


def _parts(count: int, length: int) -> Iterator[slice]:
    step = max(1, _CHUNK // length)
    for start in range(0, count, step):
        yield slice(start, min(start + step, count))


def _sample(row: torch.Tensor) -> torch.Tensor:
    """Magnitudes of 2^20 places spread evenly by multiples of the golden ratio, which fall in step with no layout."""
    places = torch.arange(_SAMPLE, dtype=torch.float64, device=row.device).mul_(_GOLDEN).frac_()
    chosen = places.mul_(len(row)).long().clamp_(max=len(row) - 1)
    return row[chosen].to(torch.float32).abs_()


def _of_long_row(row: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Mean, smallest and largest magnitude."""
    facts = []
    for piece in row.split(_CHUNK):
        magnitudes = piece.to(torch.float32).abs()
        facts.append(torch.stack([magnitudes.sum(), magnitudes.amin(), magnitudes.amax()]))
    sums, smallest, largest = torch.stack(facts).unbind(1)
    return sums.sum() / len(row), smallest.amin(), largest.amax()
