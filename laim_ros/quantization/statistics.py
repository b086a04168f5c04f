"""How the weights of tensors are distributed and what quantizing did to them (theory.md, sections 1 and 2).

Distortion is mean absolute error times λ = 1/mean|w|: dimensionless, so that weights of any size compare. What theory
says of it is in `laim_ros.planning.rate_distortion`, which also fits λ, but with numpy, as the planner has no torch.
Here tensors stay on their device and are summed in pieces: a copy in float64 of 10⁸ weights would take 0.8 GB.
"""

from __future__ import annotations

import math

import torch

from laim_ros.quantization.errors import QuantizationError

_CHUNK = 1 << 20


def fit_exponential(weight: torch.Tensor) -> float:
    """λ of the exponential distribution of most likelihood for the magnitudes: 1/mean|w| [arXiv 2602.13052].

    Args:
        weight: floating point, any shape.

    Raises:
        QuantizationError: no elements, all zero, NaN or infinity.
    """
    total = sum(float(piece.to(torch.float32).abs().sum(dtype=torch.float64)) for piece in _pieces(weight))
    if not (weight.numel() and 0 < total < math.inf):
        raise QuantizationError(
            f"no exponential distribution fits a weight of shape {tuple(weight.shape)}: its magnitudes sum to {total:g}"
        )
    return weight.numel() / total


def ks_distance(weight: torch.Tensor, rate: float) -> float:
    """Kolmogorov–Smirnov distance of the magnitudes from Exp(rate): the largest gap between the distributions, 0–1.

    Args:
        weight: floating point, any shape, at least one element; all of it is sorted.
        rate: λ > 0, per unit of the weights.
    """
    magnitudes = weight.detach().to(torch.float32).abs().flatten().sort().values.to(torch.float64)
    expected = -torch.expm1(-rate * magnitudes)
    count = len(magnitudes)
    below = torch.arange(count, dtype=torch.float64, device=magnitudes.device) / count
    return float(torch.maximum(expected - below, below + 1 / count - expected).max())


def distortion(weight: torch.Tensor, approximation: torch.Tensor) -> float:
    """λ·mean|w - ŵ|: the share of the weights' magnitude that quantizing took, 0 where nothing changed.

    Args:
        weight: floating point, not all zero.
        approximation: ŵ, the same shape.

    Raises:
        QuantizationError: shapes that differ, or as `fit_exponential`.
    """
    if weight.shape != approximation.shape:
        raise QuantizationError(
            f"a weight of shape {tuple(weight.shape)} and its approximation of {tuple(approximation.shape)} differ"
        )
    pairs = zip(_pieces(weight), _pieces(approximation), strict=True)
    total = sum(float((a.to(torch.float32) - b).abs().sum(dtype=torch.float64)) for a, b in pairs)
    return fit_exponential(weight) * total / weight.numel()


def _pieces(weight: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return weight.detach().reshape(-1).split(_CHUNK)
