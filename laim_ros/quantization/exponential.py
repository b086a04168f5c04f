"""The best scalar quantizer for exponential magnitudes, in closed form [theory.md, section 2].

N = 2^(b-1) levels l_k = ln[N(N + 1)/(N - k)²] with thresholds t_k = ln[N(N + 1)/((N - k)(N - k + 1))], k = 0 … N - 1,
times 1/λ, and a sign. No other N levels have a smaller mean absolute error on Exp(λ): ln(1 + 1/N)/λ. Each threshold is
the midpoint of its two levels, so weights that follow another law are still coded to the nearest level.
"""

from __future__ import annotations

import math

import torch


def nearest(x: torch.Tensor, bits: int) -> torch.Tensor:
    """The level nearest to each magnitude, for a scale of one.

    Args:
        x: float32, ≥ 0.
        bits: 1–8.

    Returns:
        A new tensor, float32, the shape of `x`.
    """
    count = 1 << (bits - 1)
    return _rank_from_top(x, count).log_().mul_(-2.0).add_(math.log(count * (count + 1)))


def codes(x: torch.Tensor, bits: int) -> torch.Tensor:
    """Codes of weights divided by their scale; `x`, float32, is overwritten. Returns int8, its shape."""
    count = 1 << (bits - 1)
    complement = (x < 0).to(torch.int8).neg_()  # -1, all ones, where negative
    level = _rank_from_top(x.abs_(), count).neg_().add_(count).to(torch.int8)
    return level.bitwise_xor_(complement)


def _rank_from_top(x: torch.Tensor, count: int) -> torch.Tensor:
    """m = N - k of the nearest level, 1 … N, as a new tensor.

    x ≥ t_k means m(m + 1) ≥ N(N + 1) exp(-x) =: y. The nearest level is the highest of those, so m is the smallest that
    fulfils it, ⌈√(y + ¼) - ½⌉: √(y + ¼) rounded to the nearest whole number.
    """
    y = torch.neg(x).exp_().mul_(count * (count + 1))
    return y.add_(0.25).sqrt_().round_().clamp_(1, count)
