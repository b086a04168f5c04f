"""A packed folder read by hand: numpy and the documented format alone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load_file

PLANES = {1: (1,), 2: (2,), 3: (2, 1), 4: (4,), 5: (4, 1), 6: (4, 2), 7: (4, 2, 1), 8: (8,)}


def codes_by_hand(planes: list[np.ndarray], bits: int, rows: int) -> np.ndarray:
    """Two's-complement codes (rows, columns) of planes, most significant first, one element at a time."""
    columns = planes[0].shape[1]
    codes = np.zeros((rows, columns), np.int64)
    for plane, width in zip(planes, PLANES[bits], strict=True):
        for row in range(rows):
            place, packed_row = divmod(row, plane.shape[0])
            field = (plane[packed_row].astype(np.int64) >> (width * place)) & ((1 << width) - 1)
            codes[row] = (codes[row] << width) | field
    return np.where(codes >= 1 << (bits - 1), codes - (1 << bits), codes)


def weight_by_hand(folder: Path, prefix: str) -> np.ndarray:
    """Weight (N, K) of a linear layer, float64."""
    manifest = json.loads((folder / "quantization.json").read_text())
    tensors = load_file(folder / "model.safetensors")
    bits, quantizer = manifest["bits"], manifest["quantizer"]
    planes = [tensors[f"{prefix}.weight.planes.{number}"] for number in range(len(PLANES[bits]))]
    scale = tensors[f"{prefix}.weight.scale"].astype(np.float64)
    codes = codes_by_hand(planes, bits, len(tensors[f"{prefix}.bias"]))
    count = 1 << (bits - 1)
    magnitude = np.where(codes < 0, -codes - 1, codes)
    if quantizer == "exponential":
        values = np.log(count * (count + 1) / (count - magnitude) ** 2) * np.where(codes < 0, -1, 1)
    elif quantizer == "power_of_two":
        values = 2.0**-magnitude * np.where(codes < 0, -1, 1)
    else:
        values = codes if bits > 1 else np.where(codes < 0, -1, 1)
    rows, groups = scale.shape
    if rows == 1:
        return values * scale
    return values * np.repeat(scale, codes.shape[1] // groups, axis=1)


def file_bytes_by_hand(tensors: dict[str, torch.Tensor], bits: int) -> float:
    """Codes, one float32 scale per channel, and everything else of a checkpoint's head as it is."""
    linears = {key for key, tensor in tensors.items() if key.endswith(".weight") and tensor.ndim == 2}
    codes = sum(tensors[key].numel() for key in linears) * bits / 8
    scales = 4 * sum(len(tensors[key]) for key in linears)
    return codes + scales + sum(tensor.nbytes for key, tensor in tensors.items() if key not in linears)


def relative_l1(actual: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(actual - expected).sum() / np.abs(expected).sum())
