"""Uniform levels, symmetric and mid-tread: 0, ±1, ±2 … ±(2^(b-1) - 1) times the scale; ±1 at 1 bit.

The code -2^(b-1), which has no positive counterpart, stays unused: without it the grid is symmetric, as int8
instructions want it.
"""

from __future__ import annotations

import torch

BEST_SCALE = {1: 0.6931, 2: 1.3728, 3: 0.7946, 4: 0.4647, 5: 0.2676, 6: 0.1553, 7: 0.0877, 8: 0.0488}
"""Scale of least mean absolute error for magnitudes that follow Exp(1), found numerically: where a search begins."""


def largest_code(bits: int) -> int:
    """Of the magnitudes: 2^(b-1) - 1; 1 at 1 bit."""
    return max(1, (1 << (bits - 1)) - 1)


def nearest(x: torch.Tensor, bits: int) -> torch.Tensor:
    """The level nearest to each magnitude, for a scale of one.

    Args:
        x: float32, ≥ 0.
        bits: 1–8.

    Returns:
        A new tensor, float32, the shape of `x`.
    """
    if bits == 1:
        return torch.ones_like(x)
    return torch.round(x).clamp_(max=largest_code(bits))


def codes(x: torch.Tensor, bits: int) -> torch.Tensor:
    """Codes of weights divided by their scale; `x`, float32, is overwritten. Returns int8, its shape."""
    if bits == 1:
        return (x < 0).to(torch.int8).neg_()
    top = largest_code(bits)
    return x.round_().clamp_(-top, top).to(torch.int8)
