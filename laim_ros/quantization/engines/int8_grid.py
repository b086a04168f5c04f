"""Quantized weights as int8 with one scale per output, where that grid holds them without harm."""

from __future__ import annotations

from functools import lru_cache

import torch

from laim_ros.quantization.levels import levels_of
from laim_ros.quantization.quantized_weight import QuantizedWeight

MOST_HARM = 0.05
"""Most that the int8 grid may add to the distortion of the weights, as a share of it."""

_MOST_GROUP_BITS = 4
"""Finest codes with a scale per group that a scale per output still holds: later the grid's own steps show."""


def to_int8(weight: QuantizedWeight) -> tuple[torch.Tensor, torch.Tensor] | None:
    """The weight on a grid of int8 per output, or None where that would raise its distortion by more than MOST_HARM.

    Exact for uniform weights with a scale per tensor or channel.

    Returns:
        int8 (N, K) and float32 (N,): the weight is their product, row by row.
    """
    rows, groups = weight.shape[0], weight.scale.shape[1]
    if groups > 1:
        return _regrid(weight.dequantize()) if weight.bits <= _MOST_GROUP_BITS else None
    scale = weight.scale[:, 0].expand(rows)
    levels = levels_of(weight.quantizer, weight.bits)
    if levels is None:
        return weight.codes(), scale.contiguous()
    if grid_harm(weight.quantizer, weight.bits) > MOST_HARM:
        return None
    unit = float(levels.max()) / 127
    steps = (levels / unit).round().to(torch.int8)
    table = torch.cat([steps, -steps.flip(0)]).to(weight.scale.device)
    return table[weight.codes().to(torch.int32) % len(table)], scale * unit


@lru_cache
def grid_harm(quantizer: str, bits: int) -> float:
    """Share by which an int8 grid raises the mean absolute error of a quantizer with levels, for Exp(1) magnitudes."""
    levels = levels_of(quantizer, bits).to(torch.float64).sort().values
    unit = levels.max() / 127
    gridded = (levels / unit).round() * unit
    count = 20_000
    magnitudes = -torch.log1p(-(torch.arange(count, dtype=torch.float64) + 0.5) / count)
    between = (levels[1:] + levels[:-1]) / 2
    # The exponential quantizer's scale is 1/λ; others have none of their own, so their best one is looked for.
    scales = [1.0] if quantizer == "exponential" else torch.linspace(0.25, 8, 156, dtype=torch.float64).tolist()
    chosen = [(magnitudes, torch.bucketize(magnitudes / scale, between), scale) for scale in scales]
    errors = [float((m - scale * levels[cell]).abs().mean()) for m, cell, scale in chosen]
    best = min(range(len(scales)), key=errors.__getitem__)
    magnitude, cell, scale = chosen[best]
    return float((magnitude - scale * gridded[cell]).abs().mean()) / errors[best] - 1


def _regrid(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    scale = values.abs().amax(dim=1) / 127
    steps = values / scale.clamp(min=torch.finfo(torch.float32).tiny)[:, None]
    return steps.round_().to(torch.int8), scale
