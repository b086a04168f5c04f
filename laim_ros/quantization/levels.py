"""Where the levels of a quantizer's magnitudes lie, for a scale of one."""

from __future__ import annotations

import math
from functools import lru_cache

import torch

QUANTIZERS = ("uniform", "power_of_two", "exponential")


@lru_cache
def levels_of(quantizer: str, bits: int) -> torch.Tensor | None:
    """Levels of the magnitudes, float32 (2^(bits - 1),), rising or falling; None where codes are the levels themselves.

    - `uniform`: None for 2 bits or more; one level, 1, for 1 bit.
    - `power_of_two`: 1, 1/2, 1/4, … [arXiv 2602.13052].
    - `exponential`: l_k = ln[N(N + 1) / (N - k)²], N = 2^(bits - 1), k = 0 … N - 1: the best levels in the sense of the
      least mean absolute error for magnitudes that follow Exp(1) (theory.md, section 2).
    """
    count = 1 << (bits - 1)
    if quantizer == "power_of_two":
        return torch.tensor([2.0**-k for k in range(count)], dtype=torch.float64).to(torch.float32)
    if quantizer == "exponential":
        values = [math.log(count * (count + 1) / (count - k) ** 2) for k in range(count)]
        return torch.tensor(values, dtype=torch.float32)
    return torch.ones(1, dtype=torch.float32) if bits == 1 else None
