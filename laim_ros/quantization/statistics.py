"""How weights are distributed, what quantizing did to them, and what theory says of it (theory.md, sections 1 and 2).

Distortion is mean absolute error times λ = 1/mean|w|: dimensionless, so that weights of any size compare. A b-bit
weight spends one bit on its sign and R = b - 1 on its magnitude.
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


def shannon_lower_bound(rate_bits: float) -> float:
    """λD below which no code of `rate_bits` R ≥ 0 per magnitude gets: 2^-(R+1); never attained [paper, eq. 24]."""
    return 2.0 ** -(rate_bits + 1)


def rate_distortion(rate_bits: float) -> float:
    """λD of the best code of any length at R ≥ 0 bits per magnitude: -ln(1 - 2^-(R+1)) [theory.md, section 2]."""
    return -math.log1p(-(2.0 ** -(rate_bits + 1)))


def best_scalar(rate_bits: float) -> float:
    """λD of the best quantizer of single magnitudes with N = 2^R levels: ln(1 + 1/N) [theory.md, section 2]."""
    return math.log1p(2.0**-rate_bits)


def paper_upper_bound(rate_bits: float) -> float:
    """λD^U = (√(1 + 4/(2^R - 1)) - 1)/2 [paper, eq. 26]; infinite at R = 0.

    It bounds the best code from above, no real quantizer but the best scalar one: uniform and power-of-two levels pass
    it from 4 bits per weight on.
    """
    if rate_bits == 0:
        return math.inf
    return (math.sqrt(1 + 4 / (2.0**rate_bits - 1)) - 1) / 2


def _pieces(weight: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return weight.detach().reshape(-1).split(_CHUNK)
