"""Nested bit-widths: one stored 8-bit uniform form, from which every lower width follows without the original weights.

A lower width rounds the 8-bit codes once more. The scale of least error after both roundings is found from the
histogram of a row's 8-bit codes, which holds all that matters: weights of one code end at one level, and are spread
evenly within their cell but for what the density changes there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

import torch

from laim_ros.quantization import uniform
from laim_ros.quantization.errors import QuantizationError
from laim_ros.quantization.quantize import check_bits, inverse, quantize
from laim_ros.quantization.quantized_weight import QuantizedWeight
from laim_ros.quantization.rows import pieces
from laim_ros.quantization.search import Nearest, least_error_scales

LOWER_BITS = range(1, 8)
_MAGNITUDES = 128
"""Magnitudes of 8-bit codes, 0 … 127 (and one for -128, which a file from elsewhere may hold, with 127)."""
_SEARCHED_ROWS = 2048
_FINE_STEPS = {1: 8, 2: 8, 3: 8, 4: 8, 5: 16, 6: 32, 7: 32}
"""Scales tried near the best: where the steps of both widths are similar, the error jumps with their ratio."""


def quantize_nested(weight: torch.Tensor, granularity: str = "channel") -> QuantizedWeight:
    """8-bit uniform codes with the best scales of 1–7 bits beside them.

    Args:
        weight: (N, K), floating point.
        granularity: as for `quantize`.

    Raises:
        QuantizationError: as `quantize`.
    """
    weight8 = quantize(weight, 8, "uniform", granularity)
    rows = _rows(weight8)
    lower = torch.empty((len(LOWER_BITS), len(rows)), dtype=torch.float32, device=weight.device)
    for part, counts in _histograms(rows):
        for bits in LOWER_BITS:
            lower[bits - 1, part] = _ratios(counts, bits)
    lower *= weight8.scale.view(-1)
    return replace(weight8, lower_scales=lower.view(-1, *weight8.scale.shape))


def derive(weight8: QuantizedWeight, bits: int) -> QuantizedWeight:
    """The weight at fewer bits, from its 8-bit uniform form alone.

    Args:
        weight8: 8-bit uniform; where it has no `lower_scales`, they are found from its codes.
        bits: 1–8; at 8 the weight itself comes back.

    Returns:
        Codes of `bits` bits, uniform, without lower scales; on the weight's device.

    Raises:
        QuantizationError: another form than 8-bit uniform, or bits out of range.
    """
    check_bits(bits)
    if weight8.bits != 8 or weight8.quantizer != "uniform":
        raise QuantizationError(
            f"only 8-bit uniform weights hold the lower bit-widths, not {weight8.bits}-bit {weight8.quantizer}; "
            "quantize the original weights to the width that is asked for"
        )
    if bits == 8:
        return weight8
    rows = _rows(weight8)
    scale8 = weight8.scale.view(-1)
    if weight8.lower_scales is not None:
        scale = weight8.lower_scales[bits - 1].view(-1)
    else:
        scale = torch.cat([_ratios(counts, bits) for _, counts in _histograms(rows)]) * scale8
    per_code = scale8 * inverse(scale)
    codes = torch.empty_like(rows)
    for part, columns in pieces(rows):
        x = rows[part, columns].to(torch.float32).mul_(per_code[part, None])
        codes[part, columns] = uniform.codes(x, bits)
    return QuantizedWeight.from_codes(codes.view(weight8.shape), scale.view(weight8.scale.shape), bits, "uniform")


def _rows(weight8: QuantizedWeight) -> torch.Tensor:
    """The codes as (S, n), a row for each scale."""
    return weight8.codes().view(weight8.scale.numel(), -1)


def _histograms(rows: torch.Tensor) -> Iterator[tuple[slice, torch.Tensor]]:
    """Slices of rows, and how often each magnitude of code occurs in them, float32 (s, 128)."""
    for start in range(0, len(rows), _SEARCHED_ROWS):
        batch = rows[start : start + _SEARCHED_ROWS]
        counts = torch.zeros((len(batch), _MAGNITUDES), dtype=torch.int64, device=rows.device)
        for part, columns in pieces(batch):
            magnitudes = batch[part, columns].to(torch.int64).abs_().clamp_(max=_MAGNITUDES - 1)
            first = torch.arange(0, len(magnitudes) * _MAGNITUDES, _MAGNITUDES, device=rows.device)
            found = torch.bincount(magnitudes.add_(first[:, None]).view(-1), minlength=len(magnitudes) * _MAGNITUDES)
            counts[part] += found.view(-1, _MAGNITUDES)
        yield slice(start, start + len(batch)), counts.to(torch.float32)


@dataclass(frozen=True, slots=True)
class _CellErrors:
    """Summed squared error of weights of which the 8-bit codes are known, in units of the 8-bit scale.

    Weights of code c lie evenly in [c - ½, c + ½], so their mean squared distance to a level v is (v - c)² + 1/12; the
    last term is the same for every scale, and left out.

    Attributes:
        counts: float32 (S, 128), how many weights have each magnitude of code.
        nearest: of the lower width.
    """

    counts: torch.Tensor
    nearest: Nearest

    def at(self, scale: torch.Tensor) -> torch.Tensor:
        magnitudes = torch.arange(_MAGNITUDES, dtype=torch.float32, device=scale.device)
        x = magnitudes * (1 / scale)[:, None]
        distance = self.nearest(x).mul_(scale[:, None]).sub_(magnitudes)
        return torch.linalg.vecdot(distance.square_(), self.counts)

    def of(self, rows: torch.Tensor) -> _CellErrors:
        return _CellErrors(self.counts[rows], self.nearest)


def _ratios(counts: torch.Tensor, bits: int) -> torch.Tensor:
    """Best scale at `bits` over the 8-bit scale, float32 (s,), from the histogram of codes (s, 128)."""
    magnitudes = torch.arange(_MAGNITUDES, dtype=torch.float32, device=counts.device)
    largest = ((counts > 0) * magnitudes).amax(1)
    mean = counts @ magnitudes / counts.sum(1)
    zero = largest == 0
    errors = _CellErrors(counts, partial(uniform.nearest, bits=bits))
    start, fallback = mean * uniform.BEST_SCALE[bits], largest / uniform.largest_code(bits)
    start, fallback = torch.where(zero, 1.0, start), torch.where(zero, 1.0, fallback)
    ratio = least_error_scales(errors, start, fallback, coarse_reach=4, fine_steps=_FINE_STEPS[bits])
    # A row of one magnitude stays exact.
    return torch.where((counts > 0).sum(1) == 1, fallback * uniform.largest_code(bits), ratio)
