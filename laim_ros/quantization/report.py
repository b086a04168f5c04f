"""A picture of a head's weights: their distribution, the levels, and what the bits cost, measured and in theory."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from laim_ros.planning.rate_distortion import best_scalar, exact_distortion, paper_upper_bound, shannon_lower_bound
from laim_ros.quantization import uniform
from laim_ros.quantization.errors import QuantizationError
from laim_ros.quantization.granularity import Granularity
from laim_ros.quantization.levels import levels_of
from laim_ros.quantization.quantize import quantize
from laim_ros.quantization.quantized_weight import BITS
from laim_ros.quantization.statistics import ks_distance
from laim_ros.quantization.storage.manifest import Manifest
from laim_ros.quantization.survey import LayerSample

COMPARED = ("uniform", "power_of_two", "exponential")
"""Quantizers that every report measures, besides the one that was chosen."""

_WIDTH_INCHES, _HEIGHT_INCHES, _DPI = 13.0, 5.4, 120
_SHOWN_MAGNITUDES = 8.0
_BINS = 160
_COLOURS = {"uniform": "tab:blue", "power_of_two": "tab:green", "exponential": "tab:red"}
_THEORY: tuple[tuple[str, Callable[[float], float], str], ...] = (
    ("$D^U$, the paper's upper bound", paper_upper_bound, ":"),
    ("best scalar quantizer", best_scalar, "--"),
    ("exact rate-distortion", exact_distortion, "-"),
    ("$D^L$, Shannon's lower bound", shannon_lower_bound, "-."),
)


def require_matplotlib() -> None:
    """Raises QuantizationError where the report cannot be drawn."""
    if importlib.util.find_spec("matplotlib") is None:
        raise QuantizationError("a report needs matplotlib: `pip install matplotlib`, or leave --report out")


def draw_report(samples: Sequence[LayerSample], made: Manifest, path: Path) -> None:
    """Writes the picture.

    Args:
        samples: rows of every layer, see `Survey`.
        made: how the head was quantized.
        path: of the PNG; its folder is created.

    Raises:
        QuantizationError: matplotlib is missing, the head holds nothing but zeros, or the file cannot be written.
    """
    require_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    magnitudes = normalised_magnitudes(samples, made.granularity)
    # Not by pyplot, which would choose a window system and keep the figure.
    figure = Figure(figsize=(_WIDTH_INCHES, _HEIGHT_INCHES), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    _draw_weights(left, magnitudes, samples, made)
    _draw_distortion(right, samples, made)
    pruned = f", pruned by {made.prune}" if made.prune else ""
    figure.suptitle(f"{made.model} at {made.bits} bits: {made.quantizer} per {made.granularity}{pruned}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, format="png")
    except OSError as error:
        raise QuantizationError(f"{path} cannot be written: {error.strerror or error}; choose another place") from error


def normalised_magnitudes(samples: Sequence[LayerSample], granularity: str) -> torch.Tensor:
    """λ|w| of all sampled weights, float32, 1 in the mean; λ = 1/mean|w| of the weights that share a scale.

    Rows of zeros are left out.

    Raises:
        QuantizationError: there is nothing else.
    """
    per = Granularity.parse(granularity)
    found = []
    for sample in samples:
        rows = per.rows(sample.rows).abs()
        means = torch.tensor([[sample.mean_magnitude]]) if per.kind == "tensor" else rows.mean(dim=1, keepdim=True)
        found.append((rows / means)[(means > 0).expand(rows.shape)])
    together = torch.cat(found) if found else torch.empty(0)
    if not together.numel():
        raise QuantizationError("all weights of the head are zero; there is nothing to report")
    return together


def measured_distortion(samples: Sequence[LayerSample], quantizer: str, granularity: str, bits: int) -> float:
    """λ·mean|w - ŵ| over the sampled rows, λ = 1/mean|w| of the weights that share a scale, as the theory has it."""
    per = Granularity.parse(granularity)
    total, count = 0.0, 0
    for sample in samples:
        error = per.rows(quantize(sample.rows, bits, quantizer, granularity).dequantize().sub_(sample.rows)).abs_()
        magnitude = per.rows(sample.rows).abs()
        alive = magnitude.sum(dim=1) > 0
        total += float((error.mean(dim=1)[alive] / magnitude.mean(dim=1)[alive]).sum())
        count += int(alive.sum())
    return total / count


def _draw_weights(axes: Any, magnitudes: torch.Tensor, samples: Sequence[LayerSample], made: Manifest) -> None:
    density, edges = torch.histogram(magnitudes, _BINS, range=(0.0, _SHOWN_MAGNITUDES))
    density = density / (len(magnitudes) * (edges[1] - edges[0]))
    axes.stairs(density.tolist(), edges.tolist(), fill=True, color="0.8", label=f"{len(magnitudes):,} sampled weights")
    grid = [_SHOWN_MAGNITUDES * step / 200 for step in range(201)]
    distance = ks_distance(magnitudes, 1.0)
    label = f"fitted exponential (Kolmogorov–Smirnov distance {distance:.3f})"
    axes.plot(grid, [math.exp(-x) for x in grid], color="black", label=label)
    levels = typical_levels(samples, made)
    for number, level in enumerate(level for level in levels if level <= _SHOWN_MAGNITUDES):
        axes.axvline(
            level,
            color=_COLOURS[made.family],
            linewidth=max(0.4, 2.4 / math.sqrt(len(levels))),
            alpha=0.8,
            label=f"{len(levels)} levels of {made.quantizer}, in the median" if number == 0 else None,
        )
    axes.set_yscale("log")
    axes.set_ylim(1e-4, 3)
    axes.set_xlim(0, _SHOWN_MAGNITUDES)
    shared = {"tensor": "their tensor", "channel": "their output channel"}.get(made.granularity, "their group")
    axes.set_xlabel(f"magnitude, in units of the mean of {shared}")
    axes.set_ylabel("density")
    axes.set_title("Magnitudes of the weights")
    axes.legend(loc="upper right", fontsize=8, framealpha=1)


def typical_levels(samples: Sequence[LayerSample], made: Manifest) -> list[float]:
    """Magnitudes that the codes stand for, in units of 1/λ, at the median of scale · λ over the sampled rows."""
    per = Granularity.parse(made.granularity)
    ratios = []
    for sample in samples:
        scale = quantize(sample.rows, made.bits, made.quantizer, made.granularity).scale.flatten()
        mean = per.rows(sample.rows).abs().mean(dim=1)
        ratios.append((scale / mean)[mean > 0])
    ratio = float(torch.cat(ratios).median())
    levels = levels_of(made.family, made.bits)
    steps = range(uniform.largest_code(made.bits) + 1) if levels is None else sorted(levels.tolist())
    return [ratio * step for step in steps]


def _draw_distortion(axes: Any, samples: Sequence[LayerSample], made: Manifest) -> None:
    for label, bound, style in _THEORY:
        # Above ln 2 nothing is worse than sending no magnitude at all, so the infinite value at 1 bit is left out.
        points = [(bits, bound(bits - 1)) for bits in BITS if math.isfinite(bound(bits - 1))]
        axes.plot(*zip(*points, strict=True), style, color="0.35", linewidth=1, label=f"theory: {label}")
    for quantizer in dict.fromkeys((*COMPARED, made.quantizer)):
        measured = {bits: measured_distortion(samples, quantizer, made.granularity, bits) for bits in BITS}
        chosen = quantizer == made.quantizer
        style = {"color": _COLOURS.get(quantizer, "tab:purple"), "label": f"measured: {quantizer}"}
        axes.plot(list(measured), list(measured.values()), "o-", markersize=4, linewidth=2 if chosen else 1, **style)
        if chosen:
            ring = {"markerfacecolor": "none", "markeredgecolor": style["color"], "markeredgewidth": 2}
            axes.plot([made.bits], [measured[made.bits]], "o", markersize=14, label="this head", **ring)
    axes.set_yscale("log")
    axes.set_xticks(list(BITS))
    axes.set_xlabel("bits per weight (1 for the sign)")
    axes.set_ylabel(r"$\lambda\,\mathrm{mean}|w - \hat w|$")
    axes.set_title("Distortion; theory is that of exponential magnitudes")
    axes.grid(visible=True, which="both", alpha=0.25)
    axes.legend(fontsize=8, framealpha=1)
