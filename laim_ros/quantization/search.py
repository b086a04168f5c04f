"""The scale of least error, for many rows at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch

Nearest = Callable[[torch.Tensor], torch.Tensor]
"""Magnitudes, float32 (S, n), divided by their scale, to the nearest levels for a scale of one, as a new tensor."""

_COARSE_RATIO = 1.2
_FINE_REACH = 1.1
_MAX_STEPS_OUT = 64


class Errors(Protocol):
    """The error of each row at a scale."""

    def at(self, scale: torch.Tensor) -> torch.Tensor:
        """Errors, float32 (S,), at scales (S,), > 0."""
        ...

    def of(self, rows: torch.Tensor) -> Errors:
        """The same for some of the rows only, int64 (s,)."""
        ...


@dataclass(frozen=True, slots=True)
class WeightErrors:
    """Mean absolute, or squared, error of magnitudes (S, n), float32."""

    magnitudes: torch.Tensor
    nearest: Nearest
    squared: bool

    def at(self, scale: torch.Tensor) -> torch.Tensor:
        x = self.magnitudes * (1 / scale)[:, None]
        x.sub_(self.nearest(x))
        if self.squared:
            return x.square_().mean(1).mul_(scale).mul_(scale)
        return x.abs_().mean(1).mul_(scale)

    def of(self, rows: torch.Tensor) -> WeightErrors:
        return WeightErrors(self.magnitudes[rows], self.nearest, self.squared)


def least_error_scales(
    errors: Errors,
    start: torch.Tensor,
    fallback: torch.Tensor,
    *,
    coarse_reach: int,
    fine_steps: int,
    coarse_errors: Errors | None = None,
) -> torch.Tensor:
    """The scale of least error of each row.

    The error over the scale is a bowl with ripples: near its bottom, rows of some thousand weights have many local
    minima, the more bits the deeper. So: a coarse grid around the start, further out where its best is at the rim, the
    vertex of the parabola through the best three, and then a fine grid of ± 10 % around it. `bench/quantizers.py` has
    what this leaves of the error against a dense search.

    Args:
        errors: to make small.
        start: float32 (S,), > 0; where the coarse grid is centred.
        fallback: float32 (S,), > 0; a scale that is tried, too, so that the result is never worse.
        coarse_reach: steps of 20 % on the coarse grid to either side of the start.
        fine_steps: scales on the fine grid.
        coarse_errors: what the coarse grid looks at, where that is something cheaper.

    Returns:
        float32 (S,).
    """
    centre = _bottom(coarse_errors or errors, start, coarse_reach)
    best, least = fallback, errors.at(fallback)
    for place in torch.linspace(-1, 1, fine_steps).tolist():
        scale = centre * _FINE_REACH**place
        found = errors.at(scale)
        better = found < least
        best, least = torch.where(better, scale, best), torch.where(better, found, least)
    return best


def _bottom(errors: Errors, start: torch.Tensor, reach: int) -> torch.Tensor:
    """About the bottom of the bowl: from the best scale of a coarse grid and its neighbours."""
    grid = [start * _COARSE_RATIO**step for step in range(-reach, reach + 1)]
    found = torch.stack([errors.at(scale) for scale in grid])
    place = found.argmin(0)
    middle = place.clamp(1, len(grid) - 2)
    below, here, above = (found.gather(0, (middle + side)[None])[0] for side in (-1, 0, 1))
    curvature = below - 2 * here + above
    offset = torch.where(curvature > 0, 0.5 * (below - above) / curvature, 0.0).clamp_(-1, 1)
    bottom = start * torch.pow(_COARSE_RATIO, middle - reach + offset)
    for rim, ratio in ((0, 1 / _COARSE_RATIO), (len(grid) - 1, _COARSE_RATIO)):
        rows = (place == rim).nonzero()[:, 0]
        if len(rows):
            bottom[rows] = _walk(errors.of(rows), grid[rim][rows], ratio)
    return bottom


def _walk(errors: Errors, scale: torch.Tensor, ratio: float) -> torch.Tensor:
    """Steps on from the rim of the coarse grid, each row until it gets worse."""
    best, rows = scale.clone(), torch.arange(len(scale), device=scale.device)
    least = errors.at(scale)
    for _ in range(_MAX_STEPS_OUT):
        scale = scale * ratio
        found = errors.at(scale)
        better = (found < least).nonzero()[:, 0]
        if not len(better):
            break
        rows, scale, least, errors = rows[better], scale[better], found[better], errors.of(better)
        best[rows] = scale
    return best
