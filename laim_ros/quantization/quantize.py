"""`quantize`: float weights to b-bit codes and scales, by one of six quantizers."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch

from laim_ros.quantization import exponential, power_of_two, uniform
from laim_ros.quantization.errors import QuantizationError
from laim_ros.quantization.granularity import Granularity
from laim_ros.quantization.levels import levels_of
from laim_ros.quantization.quantized_weight import BITS, QuantizedWeight
from laim_ros.quantization.rows import SMALLEST, Chunk, check_weight, chunks, pieces
from laim_ros.quantization.search import WeightErrors, least_error_scales

QUANTIZER_NAMES = ("uniform", "uniform_l1", "uniform_absmax", "power_of_two", "exponential", "exponential_l1")
"""Quantizers that can be asked for.

- `uniform`: equal steps; scale of least squared error.
- `uniform_l1`: the same levels; scale of least absolute error, the paper's measure of distortion.
- `uniform_absmax`: the same levels; the largest magnitude is the highest level.
- `power_of_two`: each level half of the one before; scale of least absolute error.
- `exponential`: the best levels for exponential magnitudes; 1/λ = mean|w|, the maximum-likelihood estimate.
- `exponential_l1`: the same levels; 1/λ of least absolute error.

On exponential weights the last two are alike. On trained ones, which are more bell-shaped, the search takes 5 to 15 %
off the absolute error, yet captions at 2 and 3 bits are worse for it, as they are with `uniform_l1` against `uniform`
at 1–4 bits: large weights, which the least absolute error clips, matter more than their number (`bench/quantizers.py`).
"""

_LONG_ROW = 1024
_FAMILIES = {"uniform": uniform, "power_of_two": power_of_two, "exponential": exponential}


def quantize(
    weight: torch.Tensor, bits: int, quantizer: str = "uniform", granularity: str = "channel"
) -> QuantizedWeight:
    """Quantizes a weight; every weight gets the level nearest to it.

    Rows are the weights that share a scale. An all-zero row becomes scale 0, which stands for exact zeros. A row of one
    magnitude is exact with uniform and power-of-two levels, and within float32's rounding with exponential ones. Large
    weights take less memory on the way than their float32 does.

    Args:
        weight: (N, K), floating point of any width.
        bits: 1–8.
        quantizer: one of `QUANTIZER_NAMES`.
        granularity: `tensor`, `channel` or `group:G`: which weights share a scale.

    Returns:
        The codes and scales, on the weight's device; its `quantizer` is the family (`uniform` for all three).

    Raises:
        QuantizationError: unknown quantizer or granularity, bits out of range, a group that does not divide K, or a
            weight that is not two-dimensional, has no elements, is not floating point, or holds NaN, infinity or a
            magnitude above 1e30.
    """
    check_bits(bits)
    check_weight(weight)
    if quantizer not in QUANTIZER_NAMES:
        raise QuantizationError(f"quantizer '{quantizer}' must be one of {', '.join(QUANTIZER_NAMES)}")
    kind = Granularity.parse(granularity)
    rows = kind.rows(weight)
    codes = torch.empty(rows.shape, dtype=torch.int8, device=weight.device)
    scales = torch.empty(len(rows), dtype=torch.float32, device=weight.device)
    for chunk in chunks(rows):
        scales[chunk.part] = _scales(chunk, bits, quantizer)
    family = family_of(quantizer)
    for part, columns in pieces(rows):
        x = rows[part, columns].to(torch.float32) * inverse(scales[part])[:, None]
        codes[part, columns] = _FAMILIES[family].codes(x, bits)
    shape = (weight.shape[0], weight.shape[1])
    return QuantizedWeight.from_codes(codes.view(shape), scales.view(kind.scale_shape(shape)), bits, family)


def family_of(quantizer: str) -> str:
    """`uniform`, `power_of_two` or `exponential`: whose levels one of `QUANTIZER_NAMES` uses."""
    return next(family for family in _FAMILIES if quantizer.startswith(family))


def check_bits(bits: int) -> None:
    """Raises QuantizationError unless 1 ≤ bits ≤ 8."""
    if isinstance(bits, bool) or bits not in BITS:
        raise QuantizationError(f"{bits} bits per weight must be a whole number of 1 to 8")


def inverse(scale: torch.Tensor) -> torch.Tensor:
    """1 / scale, and 0 where the scale is 0."""
    return torch.where(scale > 0, 1 / scale, 0.0)


def _scales(chunk: Chunk, bits: int, quantizer: str) -> torch.Tensor:
    """The scale of each row, float32 (s,)."""
    zero, one_magnitude = chunk.largest < SMALLEST, chunk.largest
    if quantizer == "uniform_absmax":
        scale = chunk.largest / uniform.largest_code(bits)
    elif quantizer == "exponential":
        scale = chunk.mean
    else:
        scale = _searched(chunk, bits, quantizer, zero)
    if family_of(quantizer) == "exponential":
        one_magnitude = chunk.largest / levels_of("exponential", bits)[-1].item()
    scale = torch.where(chunk.smallest == chunk.largest, one_magnitude, scale)
    return torch.where(zero, 0.0, scale)


def _searched(chunk: Chunk, bits: int, quantizer: str, zero: torch.Tensor) -> torch.Tensor:
    """The scale of least error of each row; anything for rows of zeros."""
    squared = quantizer == "uniform"
    if bits == 1:  # one level: the mean has the least squared error, the median the least absolute one
        level = chunk.mean if squared else _medians(chunk.magnitudes)
        return level / levels_of("exponential", 1).item() if quantizer == "exponential_l1" else level
    family = _FAMILIES[family_of(quantizer)]
    if family is exponential:
        start, fallback = chunk.mean, chunk.mean
    else:
        fallback = chunk.largest / (uniform.largest_code(bits) if family is uniform else 1)
        start = torch.minimum(chunk.mean * family.BEST_SCALE[bits], fallback) if bits in family.BEST_SCALE else fallback
    nearest = partial(family.nearest, bits=bits)
    start, fallback = torch.where(zero, 1.0, start), torch.where(zero, 1.0, fallback)
    errors = WeightErrors(chunk.magnitudes, nearest, squared)
    if family is exponential:
        # Its levels take six times as long to find, so that the coarse grid looks at every third weight of long rows.
        some = chunk.magnitudes[:, ::3].contiguous() if chunk.magnitudes.shape[1] >= _LONG_ROW else chunk.magnitudes
        coarse = WeightErrors(some, nearest, squared)
        return least_error_scales(errors, start, fallback, coarse_reach=2, fine_steps=6, coarse_errors=coarse)
    rippled = family is uniform and bits > 4
    return least_error_scales(errors, start, fallback, coarse_reach=4, fine_steps=16 if rippled else 8)


def _medians(magnitudes: torch.Tensor) -> torch.Tensor:
    """The (lower) median of each row, float32 (s,)."""
    if magnitudes.device.type != "cpu":
        return magnitudes.median(1).values
    middle = (magnitudes.shape[1] - 1) // 2
    # A tenth of the time of torch's own.
    return torch.from_numpy(np.partition(magnitudes.numpy(), middle, axis=1)[:, middle].copy())
