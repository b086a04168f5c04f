"""What this machine's processor computes fast, as far as PyTorch can tell."""

from __future__ import annotations

import platform

import torch


def is_x86() -> bool:
    """Whether oneDNN's own kernels, made for x86-64, are what PyTorch runs."""
    return platform.machine() in ("x86_64", "AMD64")


def has_int8(device: torch.device) -> bool:
    """Whether products of int8 are faster than floating point there, not merely possible."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    # Elsewhere than on x86 PyTorch multiplies integers one by one.
    return is_x86() and _says("_is_vnni_supported")


def fast_float(device: torch.device) -> torch.dtype:
    """bfloat16 where the device multiplies it natively, else float32."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.get_device_capability(device) >= (8, 0) else torch.float32
    return torch.bfloat16 if is_x86() and _says("_is_avx512_bf16_supported") else torch.float32


def _says(question: str) -> bool:
    """PyTorch's answer; no where this version does not know the question."""
    function = getattr(torch.cpu, question, None)
    return function is not None and bool(function())
