"""Activations as 8-bit integers, their range taken from each call: nothing to calibrate, nothing that can go stale."""

from __future__ import annotations

import torch

_TINY = 1e-30
"""Keeps the scale of an all-zero tensor from dividing by zero."""


def to_uint8(x: torch.Tensor) -> tuple[torch.Tensor, float, int]:
    """Asymmetric quantization with one scale for the whole tensor: x ≈ scale · (q - zero_point).

    Args:
        x: float32, any shape.

    Returns:
        uint8 of x's shape, the scale, and the zero point (0–254). Zero is represented exactly.
    """
    lowest, highest = (bound.item() for bound in torch.aminmax(x))
    lowest, highest = min(lowest, 0.0), max(highest, 0.0)
    # One step less than there are, so that rounding the zero point cannot push an end out of range: no clamp is needed.
    scale = (highest - lowest) / 254 or _TINY
    zero_point = round(-lowest / scale)
    # The conversion cuts off the fraction of what is never negative: with the half added, that is rounding.
    return torch.add(x.new_tensor(zero_point + 0.5), x, alpha=1 / scale).to(torch.uint8), scale, zero_point


def to_int8_rows(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Symmetric quantization with a scale per row: x ≈ scale · q.

    Args:
        x: float32 (M, K).

    Returns:
        int8 (M, K) within ±127, and the scales, float32 (M, 1).
    """
    scale = x.abs().amax(dim=1, keepdim=True).div_(127).clamp_(min=_TINY)
    return (x / scale).round_().to(torch.int8), scale
