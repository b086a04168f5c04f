"""Activations as 8-bit integers, their range taken from each call: nothing to calibrate, nothing that can go stale."""

from __future__ import annotations

import math
import warnings

import torch

from laim_ros.quantization.errors import QuantizationError

_TINY = 1e-30
"""Keeps the scale of an all-zero tensor from dividing by zero."""


def to_uint8(x: torch.Tensor) -> tuple[torch.Tensor, float, int]:
    """Asymmetric quantization with one scale for the whole tensor: x ≈ scale · (q - zero_point).

    Args:
        x: float32, any shape, contiguous.

    Returns:
        uint8 of x's shape, the scale, and the zero point (0–254). Zero is represented exactly.

    Raises:
        QuantizationError: x holds a NaN or an infinity.
    """
    lowest, highest = (bound.item() for bound in torch.aminmax(x))
    lowest, highest = min(lowest, 0.0), max(highest, 0.0)
    # One step less than there are, so that rounding the zero point cannot push an end out of range.
    scale = (highest - lowest) / 254 or _TINY
    if not math.isfinite(scale):
        raise QuantizationError(
            "the head's activations are not finite; its weights are damaged, or made for other pictures"
        )
    zero_point = round(-lowest / scale)
    return _rounded(x, scale, zero_point), scale, zero_point


def _rounded(x: torch.Tensor, scale: float, zero_point: int) -> torch.Tensor:
    """round(x / scale) + zero_point, which is known to lie within 0 … 255, as uint8."""
    if _IN_ONE_PASS:
        quantized = torch.quantize_per_tensor(x, scale, zero_point, torch.quint8)
        return torch.empty(0, dtype=torch.uint8).set_(quantized.untyped_storage(), 0, x.shape)
    # The conversion cuts off the fraction of what is never negative: with the half added, that is rounding.
    return torch.add(x.new_tensor(zero_point + 0.5), x, alpha=1 / scale).to(torch.uint8)


def _quantizes_in_one_pass() -> bool:
    """Whether PyTorch still has its own quantized tensors, which it means to drop: 6 % of a ViT-g block's time."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch says once per process that they will go
        try:
            return torch.quantize_per_tensor(torch.ones(2), 1.0, 0, torch.quint8).untyped_storage().nbytes() >= 2
        except (AttributeError, RuntimeError):
            return False


_IN_ONE_PASS = _quantizes_in_one_pass()


def to_int8_rows(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Symmetric quantization with a scale per row: x ≈ scale · q.

    Args:
        x: float32 (M, K).

    Returns:
        int8 (M, K) within ±127, and the scales, float32 (M, 1).
    """
    scale = x.abs().amax(dim=1, keepdim=True).div_(127).clamp_(min=_TINY)
    return (x / scale).round_().to(torch.int8), scale
