"""Levels 1, 1/2, 1/4, … 2^(1 - N) times the scale, N = 2^(b-1), and a sign: multiplying by them is a shift.

The logarithmic power-of-two quantizer of arXiv 2602.13052 (PoT-log), without a zero: all 2^b codes are used, and where
the smallest level is tiny it serves as a zero. More levels only reach nearer to zero, never finer elsewhere, so on
exponential magnitudes the distortion floors at 0.16992/λ from 5 bits on (theory.md, section 2).
"""

from __future__ import annotations

import torch

BEST_SCALE = {1: 0.6931, 2: 1.2936, 3: 2.8003, 4: 6.062}
"""Scale of least mean absolute error for magnitudes that follow Exp(1), found numerically: where a search begins.

From 5 bits on the levels reach so low that the largest magnitude is the place to begin.
"""

_EXPONENT = 0x7F800000


def nearest(x: torch.Tensor, bits: int) -> torch.Tensor:
    """The level nearest to each magnitude, for a scale of one.

    The midpoint of two neighbours is 3/4 of the upper one, so the nearest level is the power of two at or below 4/3 x:
    its float32 with the mantissa taken off.

    Args:
        x: float32, ≥ 0.
        bits: 1–8.

    Returns:
        A new tensor, float32, the shape of `x`.
    """
    level = torch.mul(x, 4 / 3)
    level.view(torch.int32).bitwise_and_(_EXPONENT)
    return level.clamp_(2.0 ** (1 - (1 << (bits - 1))), 1.0)


def codes(x: torch.Tensor, bits: int) -> torch.Tensor:
    """Codes of weights divided by their scale; `x`, float32, is overwritten. Returns int8, its shape."""
    complement = (x < 0).to(torch.int8).neg_()  # -1, all ones, where negative
    level = nearest(x.abs_(), bits)
    # 2^-k has the exponent field 127 - k; the subnormal 2^-127 has 0, which is right, too.
    steps = level.view(torch.int32).bitwise_right_shift_(23).neg_().add_(127).to(torch.int8)
    return steps.bitwise_xor_(complement)
