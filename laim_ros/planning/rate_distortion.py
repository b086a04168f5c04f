"""What bits do to weights of exponential magnitude: bounds, the truth, the best quantizer [theory.md, section 2].

A magnitude follows Exp(λ) and its distortion D is the mean absolute error. All functions speak of λD, which has no
unit: divide by λ (see `fit_exponential`) for the error in units of the weights. A b-bit weight spends one bit on its
sign, so its magnitude has R = b - 1 bits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from laim_ros.planning.errors import PlanningError

Numbers = float | NDArray[np.float64]
"""A float for a single number, an array of the same shape for an array."""

_GRID_STEP = 1 / 16
_GRID_END = 16.0
_MOST_SLOPE = 256.0
_MOST_ROUNDS = 5_000
_OVER_RELAXATION = 1.9


@dataclass(frozen=True, slots=True)
class ExponentialFit:
    """The exponential distribution of most likelihood for some magnitudes, and how well it describes them.

    Attributes:
        inverse_mean: λ = 1/mean|w|, per unit of the weights.
        ks_distance: Kolmogorov–Smirnov distance, the largest gap between the two distribution functions, 0–1.
        count: how many weights were seen.
    """

    inverse_mean: float
    ks_distance: float
    count: int


def fit_exponential(weights: ArrayLike) -> ExponentialFit:
    """λ by maximum likelihood, and the goodness of fit [theory.md, section 1].

    `laim_ros.quantization.statistics` has the same two figures for torch: tensors of 10⁸ elements stay where they are
    and are read in pieces there, while the planner must not load torch.

    Args:
        weights: any shape and real type; signs are ignored, all are sorted in float64.

    Raises:
        PlanningError: no elements, all zero, NaN or infinity.
    """
    magnitudes = np.sort(np.abs(np.asarray(weights, dtype=np.float64)).ravel())
    total = magnitudes.sum()
    if not (len(magnitudes) and 0 < total < math.inf):
        raise PlanningError(
            f"no exponential distribution fits {len(magnitudes)} weights whose magnitudes sum to {total:g}"
        )
    count = len(magnitudes)
    expected = -np.expm1(-magnitudes * (count / total))
    below = np.arange(count) / count
    distance = np.maximum(expected - below, below + 1 / count - expected).max()
    return ExponentialFit(inverse_mean=count / float(total), ks_distance=float(distance), count=count)


def shannon_lower_bound(rate_bits: ArrayLike) -> Numbers:
    """λD^L = 2^-(R+1), below which no code of R bits per magnitude gets; never attained [paper, eq. 24].

    Args:
        rate_bits: R ≥ 0.

    Raises:
        PlanningError: R is negative or NaN.
    """
    return _plain(0.5 * np.exp2(-_rates(rate_bits)))


def exact_distortion(rate_bits: ArrayLike) -> Numbers:
    """λD of the best code of any length at R bits per magnitude: -ln(1 - 2^-(R+1)) [theory.md, section 2].

    Args:
        rate_bits: R ≥ 0; at 0 all magnitudes become the median, λD = ln 2.

    Raises:
        PlanningError: R is negative or NaN.
    """
    return _plain(-np.log1p(-0.5 * np.exp2(-_rates(rate_bits))))


def exact_rate_bits(distortion: ArrayLike) -> Numbers:
    """R, the fewest bits per magnitude for λD: -log₂[2(1 - e^-λD)], the inverse of `exact_distortion`.

    Args:
        distortion: λD ≥ 0; no bits are needed from ln 2 on, infinitely many at 0.

    Raises:
        PlanningError: λD is negative or NaN.
    """
    values = np.asarray(distortion, dtype=np.float64)
    if not (values >= 0).all():
        raise PlanningError(f"distortion {distortion} must be at least 0")
    with np.errstate(divide="ignore"):
        return _plain(np.maximum(0.0, -1 - np.log2(-np.expm1(-values))))


def paper_upper_bound(rate_bits: ArrayLike) -> Numbers:
    """λD^U = (√(1 + 4/(2^R - 1)) - 1)/2 [paper, eq. 26]; infinite at R = 0.

    It bounds the best code from above, and of the quantizers of single weights only the best: uniform and power-of-two
    levels pass it from 4 bits per weight on.

    Args:
        rate_bits: R ≥ 0.

    Raises:
        PlanningError: R is negative or NaN.
    """
    with np.errstate(divide="ignore", over="ignore"):
        others = np.expm1(_rates(rate_bits) * math.log(2))
        # The same without the difference, which would lose the digits of many bits.
        return _plain(2 / (others + np.sqrt(others * (others + 4))))


def best_scalar(rate_bits: ArrayLike) -> Numbers:
    """λD of the best quantizer of single magnitudes with N = 2^R levels: ln(1 + 1/N) [theory.md, section 2].

    Args:
        rate_bits: R ≥ 0; a quantizer exists where N is whole.

    Raises:
        PlanningError: R is negative or NaN.
    """
    return _plain(np.log1p(np.exp2(-_rates(rate_bits))))


def best_scalar_levels(count: int) -> NDArray[np.float64]:
    """Levels of the best scalar quantizer, λl_k = ln[N(N + 1)/(N - k)²], rising [theory.md, section 2].

    Each is the median of the magnitudes that become it.

    Args:
        count: N ≥ 1.

    Returns:
        float64 (N,).

    Raises:
        PlanningError: there is no level.
    """
    left = _left_above(count)
    return np.log(count * (count + 1)) - 2 * np.log(left)


def best_scalar_thresholds(count: int) -> NDArray[np.float64]:
    """Where the cells of the best scalar quantizer begin: λt_k = ln[N(N + 1)/((N - k)(N - k + 1))], t_0 = 0.

    Each but the first is the middle between its two levels [theory.md, section 2].

    Args:
        count: N ≥ 1.

    Returns:
        float64 (N,), rising; the last cell has no end.

    Raises:
        PlanningError: there is no level.
    """
    left = _left_above(count)
    return np.log(count * (count + 1)) - np.log(left * (left + 1))


class OperatingPoint(NamedTuple):
    """A point that a code reaches, found by `blahut_arimoto`.

    Attributes:
        rate_bits: R per magnitude.
        distortion: λD.
        gap_bits: how far R can be above the least for this λD, on the grid.
    """

    rate_bits: float
    distortion: float
    gap_bits: float


def blahut_arimoto(slope: float, tolerance_bits: float = 9e-4) -> OperatingPoint:
    """The rate-distortion function of Exp(1) under absolute error where it falls with a slope, by iteration.

    It knows nothing of the closed forms. The source is cut into cells of width min(1, 1/s)/16 up to 16 and one cell
    from there on; a magnitude is known by its cell, which stands at the mean of the magnitudes in it. Reproductions
    are the cells' edges. None lies inside a cell, so the distance to them is linear there, and the distortion is that
    of the continuous source: nothing is truncated, and what is found can be reached. The cells cost at most 3e-4 bit
    of rate (0.06 (sh)² bit for cells of width h, 2e-7·s bit for the last one, as finer and longer grids show).

    Args:
        slope: s = -dR/dλD in nats, above 0 and at most 256 (R = 7), which takes half a second; s = 2^(R+1) - 1, and
            R is 0 up to s = 1.
        tolerance_bits: ends the iteration, by the duality gap.

    Returns:
        The point, with `gap_bits` ≤ `tolerance_bits`.

    Raises:
        PlanningError: the slope is out of its range, or the tolerance is too small to be reached.
    """
    if not 0 < slope <= _MOST_SLOPE:
        raise PlanningError(f"slope {slope} must be above 0 and at most {_MOST_SLOPE:g}")
    channel = _Channel(slope)
    shares = channel.probabilities.copy()
    for _ in range(_MOST_ROUNDS):
        sums = channel.to_cells(shares)
        gains = channel.to_edges(channel.probabilities / sums)
        outputs = shares * gains
        spent = float(outputs @ np.log(gains))
        gap_bits = (math.log(gains.max()) - spent) / math.log(2)
        if gap_bits <= tolerance_bits:
            distortion = channel.distortion(shares, sums)
            rate_bits = (-slope * distortion - float(channel.probabilities @ np.log(sums)) - spent) / math.log(2)
            return OperatingPoint(rate_bits, distortion, gap_bits)
        # A longer step than Blahut's and Arimoto's, which halves the rounds; the gap tells whether it led anywhere.
        shares = shares * gains**_OVER_RELAXATION
        shares /= shares.sum()
    raise PlanningError(
        f"the duality gap is still {gap_bits:.2g} bit after {_MOST_ROUNDS} rounds: allow more than {tolerance_bits:g}"
    )


class _Channel:
    """Sums over exp(-s·distance) between cells and edges of the grid of `blahut_arimoto`, in linear time."""

    def __init__(self, slope: float) -> None:
        self._step = min(1.0, 1 / slope) * _GRID_STEP
        cells = math.ceil(_GRID_END / self._step)
        edges = self._step * np.arange(cells + 1)
        self.probabilities = np.exp(-edges)
        self.probabilities[:-1] *= -math.expm1(-self._step)
        # Exp(1) forgets: its mean lies equally far into each cell, and 1 into the open one.
        inside = 1 - self._step / math.expm1(self._step)
        self._past_left = np.append(np.full(cells, inside), 1.0)
        self._before_right = np.append(np.full(cells, -inside), 0.0)
        self._fade = math.exp(-slope * self._step)
        self._left_factor = np.exp(-slope * self._past_left)
        self._right_factor = np.exp(-slope * self._before_right)

    def to_cells(self, of_edges: NDArray[np.float64]) -> NDArray[np.float64]:
        """Σ_j v_j exp(-s|x_i - y_j|) for each cell i."""
        left, right = self._sides(of_edges)
        return self._left_factor * left + self._right_factor * right

    def to_edges(self, of_cells: NDArray[np.float64]) -> NDArray[np.float64]:
        """Σ_i v_i exp(-s|x_i - y_j|) for each edge j."""
        above = self._decayed((self._left_factor * of_cells)[::-1])[::-1]
        return above + self._shifted(self._decayed(self._right_factor * of_cells))

    def distortion(self, shares: NDArray[np.float64], sums: NDArray[np.float64]) -> float:
        """Σ |x_i - y_j| p_i Q(j|i) for the test channel Q(j|i) = shares_j exp(-s|x_i - y_j|)/sums_i."""
        left, right = self._sides(shares)
        # Distances in steps, Σ n v a^n, follow the recursion of Σ v a^n once more.
        left_steps = self._decayed(self._shifted(left))
        right_steps = self._decayed(self._shifted(self._decayed(shares[::-1])))[::-1]
        errors = self._left_factor * (self._step * left_steps + self._past_left * left)
        errors += self._right_factor * (self._step * right_steps + self._before_right * right)
        return float(self.probabilities @ (errors / sums))

    def _sides(self, of_edges: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Σ_j v_j a^|i-j| over j ≤ i and over j > i."""
        return self._decayed(of_edges), self._shifted(self._decayed(of_edges[::-1]))[::-1]

    def _shifted(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        return self._fade * np.append(0.0, values[:-1])

    def _decayed(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Σ_{j ≤ i} v_j a^(i-j) for each i: runs of 2, 4, 8 … are added until the factor vanishes."""
        total = values.copy()
        run, factor = 1, self._fade
        while run < len(total) and factor > 1e-17:
            total[run:] += factor * total[:-run]
            run, factor = 2 * run, factor * factor
        return total


def _rates(rate_bits: ArrayLike) -> NDArray[np.float64]:
    values = np.asarray(rate_bits, dtype=np.float64)
    if not (values >= 0).all():
        raise PlanningError(f"rate_bits {rate_bits} must be at least 0")
    return values


def _left_above(count: int) -> NDArray[np.float64]:
    """N - k for k = 0 … N - 1."""
    if count < 1:
        raise PlanningError(f"a quantizer of {count} levels: it needs at least 1")
    return np.arange(count, 0, -1, dtype=np.float64)


def _plain(values: NDArray[np.float64]) -> Numbers:
    return float(values) if np.ndim(values) == 0 else values
