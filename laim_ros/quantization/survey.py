"""`Survey`: what quantizing a head did to its weights, gathered while it is done."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from laim_ros.quantization.quantized_weight import QuantizedWeight

_ROWS_OF_ERROR = 512
"""Rows of each layer that errors are measured on, all of them up to twice as many: looking at every weight of a real
head would take longer than quantizing does."""

_ROWS_PER_SAMPLE = 24
"""Rows of each layer kept for a report: together a smooth histogram even of the smallest model."""


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
        step = max(1, len(weight) // _ROWS_OF_ERROR)
        rows, outputs = weight[::step], len(weight)
        scale = quantized.scale[::step] if len(quantized.scale) == outputs else quantized.scale
        chosen = QuantizedWeight.from_codes(quantized.codes()[::step], scale, quantized.bits, quantized.quantizer)
        share = outputs / len(rows)
        self._magnitude += share * _sum_of_magnitudes(rows)
        self._error += share * _sum_of_magnitudes(chosen.dequantize().sub_(rows))
        if self._sampled:
            step = max(1, outputs // _ROWS_PER_SAMPLE)
            self.samples.append(LayerSample(weight[::step].clone(), _sum_of_magnitudes(weight) / weight.numel()))

    @property
    def relative_error(self) -> float:
        """Σ|w - ŵ| / Σ|w| over all layers, from at least 512 rows of each; 0 for a head of zeros."""
        return self._error / self._magnitude if self._magnitude else 0.0


def _sum_of_magnitudes(matrix: torch.Tensor) -> float:
    # Rows in float32, which is fast; rows together in float64, which is exact enough for any number of them.
    return float(matrix.abs().sum(dim=1).sum(dtype=torch.float64))
