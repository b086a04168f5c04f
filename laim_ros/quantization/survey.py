"""`Survey`: what quantizing a head did to its weights, gathered while it is done."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from laim_ros.quantization.quantized_weight import QuantizedWeight

_ROWS_PER_LAYER = 24
"""Enough for a smooth histogram: about a million weights of the smallest model that is of use."""


@dataclass(frozen=True, slots=True)
class LayerSample:
    """Some rows of one linear layer's weight, before quantization.

    Attributes:
        rows: float32 (n, K), evenly spread over the outputs.
        mean_magnitude: mean |w| of the whole weight.
    """

    rows: torch.Tensor
    mean_magnitude: float


class Survey:
    """An observer for `CheckpointStore`: errors of all layers together, and a sample of the weights.

    Args:
        sampled: whether rows are kept, for a report.

    Attributes:
        samples: one per layer, in order; empty unless `sampled`.
    """

    def __init__(self, *, sampled: bool = False) -> None:
        self.samples: list[LayerSample] = []
        self._sampled = sampled
        self._error = self._magnitude = 0.0

    def __call__(self, prefix: str, weight: torch.Tensor, quantized: QuantizedWeight) -> None:
        """Takes a layer in: its weight (N, K) and what became of it."""
        magnitude = _sum_of_magnitudes(weight)
        self._magnitude += magnitude
        self._error += _sum_of_magnitudes(quantized.dequantize().sub_(weight))
        if self._sampled:
            step = max(1, len(weight) // _ROWS_PER_LAYER)
            self.samples.append(LayerSample(weight[::step].clone(), magnitude / weight.numel()))

    @property
    def relative_error(self) -> float:
        """Σ|w - ŵ| / Σ|w| over all layers; 0 for a head of zeros."""
        return self._error / self._magnitude if self._magnitude else 0.0


def _sum_of_magnitudes(matrix: torch.Tensor) -> float:
    # Rows in float32, which is fast; rows together in float64, which is exact enough for any number of them.
    return float(torch.linalg.vector_norm(matrix, ord=1, dim=1).sum(dtype=torch.float64))
