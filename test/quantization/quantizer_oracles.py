"""What quantizers are tested against: levels written down one by one, nearest by trying all, and Lloyd's iteration."""

from __future__ import annotations

import numpy as np
import torch

from laim_ros.quantization.quantized_weight import QuantizedWeight


def exponential_quantiles(count: int) -> np.ndarray:
    """`count` magnitudes, float64, rising, that stand for Exp(1): the middle of each of as many equal shares."""
    return -np.log1p(-(np.arange(count) + 0.5) / count)


def signed_exponential(rows: int, columns: int, seed: int = 0) -> torch.Tensor:
    """float32 (rows, columns) of magnitudes Exp(1) with random signs."""
    random = np.random.default_rng(seed)
    values = random.exponential(size=(rows, columns)) * random.choice([-1, 1], (rows, columns))
    return torch.from_numpy(values.astype(np.float32))


def levels(family: str, bits: int) -> np.ndarray:
    """All levels for a scale of one, float64, both signs."""
    count = 2 ** (bits - 1)
    if family == "power_of_two":
        magnitudes = [2.0**-k for k in range(count)]
    elif family == "exponential":
        magnitudes = [np.log(count * (count + 1) / (count - k) ** 2) for k in range(count)]
    else:
        magnitudes = [1.0] if bits == 1 else list(range(count))
    return np.array([*magnitudes, *(-magnitude for magnitude in magnitudes)])


def nearest(values: np.ndarray, all_levels: np.ndarray) -> np.ndarray:
    """The nearest level to each value, float64, by looking for its place between sorted midpoints."""
    rising = np.sort(all_levels)
    return rising[np.searchsorted((rising[1:] + rising[:-1]) / 2, values)]


def error_at(values: np.ndarray, family: str, bits: int, scale: float, power: int = 1) -> float:
    """Mean of |w - ŵ|^power at a scale."""
    return float((np.abs(values - scale * nearest(values / scale, levels(family, bits))) ** power).mean())


def least_error(values: np.ndarray, family: str, bits: int, power: int = 1) -> float:
    """The least error over 1,500 scales, 0.5 % apart, up to twice the largest magnitude."""
    largest = 2 * np.abs(values).max()
    return min(error_at(values, family, bits, largest * 1.005**-step, power) for step in range(1500))


def lloyd_medians(rising: np.ndarray, count: int, rounds: int = 2000) -> tuple[np.ndarray, float]:
    """Levels of least mean absolute error and that error: each level the median of what is nearest to it, repeatedly.

    Args:
        rising: magnitudes, sorted.
        count: levels.
    """
    found = np.quantile(rising, (np.arange(count) + 0.5) / count)
    for _ in range(rounds):
        edges = np.searchsorted(rising, (found[1:] + found[:-1]) / 2)
        edges = np.concatenate([[0], edges, [len(rising)]])
        moved = (rising[(edges[:-1] + edges[1:]) // 2] + rising[(edges[:-1] + edges[1:] - 1) // 2]) / 2
        if np.array_equal(moved, found):
            break
        found = moved
    cells = np.repeat(np.arange(count), np.diff(edges))
    return found, float(np.abs(rising - found[cells]).mean())


def assert_nearest(weight: torch.Tensor, quantized: QuantizedWeight) -> None:
    """Every weight became the nearest level of its row's scale (to within float32's rounding)."""
    groups = quantized.scale.shape[1]
    rows = quantized.shape[0] // quantized.scale.shape[0]
    scale = quantized.scale.double().repeat_interleave(rows, 0).repeat_interleave(quantized.shape[1] // groups, 1)
    values, scales = weight.double().numpy(), scale.numpy()
    approximate = quantized.dequantize().double().numpy()
    distances = np.stack([np.abs(values - scales * each) for each in levels(quantized.quantizer, quantized.bits)])
    slack = 1e-5 * np.maximum(np.abs(values), np.abs(approximate)) + 1e-30
    assert (np.abs(values - approximate) <= distances.min(0) + slack).all()
