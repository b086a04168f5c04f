"""The curves for exponential magnitudes: beside theory.md's tables, Blahut–Arimoto, scipy and Lloyd's iteration."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from laim_ros.planning.errors import PlanningError
from laim_ros.planning.rate_distortion import (
    best_scalar,
    best_scalar_levels,
    best_scalar_thresholds,
    blahut_arimoto,
    exact_distortion,
    exact_rate_bits,
    fit_exponential,
    paper_upper_bound,
    shannon_lower_bound,
)

# theory.md, section 2, for λ = 1: R, D^L, exact, D^U.
CURVES = [
    (1, 0.25000, 0.28768, 0.61803),
    (2, 0.12500, 0.13353, 0.26376),
    (3, 0.06250, 0.06454, 0.12678),
    (4, 0.03125, 0.03175, 0.06273),
    (5, 0.01562, 0.01575, 0.03128),
    (6, 0.00781, 0.00784, 0.01563),
]
# The second table: b, best scalar, D^U(b - 1).
QUANTIZERS = [
    (2, 0.405465, 0.61803),
    (3, 0.223144, 0.26376),
    (4, 0.117783, 0.12678),
    (5, 0.060625, 0.06273),
    (6, 0.030772, 0.03128),
    (7, 0.015504, 0.01563),
    (8, 0.007782, 0.00781),
]
CELLS_BITS = 3e-4
"""What the grid of `blahut_arimoto` may cost, by its docstring."""


def exponential_quantiles(count: int) -> np.ndarray:
    """Rising magnitudes that stand for Exp(1): the middle of each of `count` equal shares."""
    return -np.log1p(-(np.arange(count) + 0.5) / count)


def dense_blahut_arimoto(lam: float, slope: float, points: int = 500, rounds: int = 400) -> tuple[float, float]:
    """R in bits and D in units of the magnitudes, the textbook way, with all distances.

    From the means of equal shares of Exp(λ) to where the shares begin: |x - y| is linear within a share.
    """
    above = 1 - np.arange(points + 1) / points
    masses = above * (1 - np.log(np.maximum(above, 1e-300)))
    distances = np.abs(points * (masses[:-1, None] - masses[1:, None]) + np.log(above[:-1])) / lam
    kernel = np.exp(-slope * distances)
    shares = np.full(points, 1 / points)
    for _ in range(rounds):
        shares = shares * ((1 / (kernel @ shares)) @ kernel) / points
    joint = kernel * shares / (kernel @ shares)[:, None] / points
    with np.errstate(divide="ignore", invalid="ignore"):
        information = np.where(joint > 0, joint * np.log2(joint / joint.sum(0) * points), 0).sum()
    return float(information), float((joint * distances).sum())


@pytest.mark.parametrize(("rate_bits", "lower", "exact", "upper"), CURVES)
def test_curves_have_the_tables_values(rate_bits: int, lower: float, exact: float, upper: float) -> None:
    assert shannon_lower_bound(rate_bits) == pytest.approx(lower, abs=6e-6)
    assert exact_distortion(rate_bits) == pytest.approx(exact, abs=6e-6)
    assert paper_upper_bound(rate_bits) == pytest.approx(upper, abs=6e-6)
    assert exact_rate_bits(exact_distortion(rate_bits)) == pytest.approx(rate_bits, abs=1e-9)


@pytest.mark.parametrize(("weight_bits", "scalar", "upper"), QUANTIZERS)
def test_the_best_quantizer_has_the_tables_values(weight_bits: int, scalar: float, upper: float) -> None:
    assert best_scalar(weight_bits - 1) == pytest.approx(scalar, abs=6e-7)
    assert paper_upper_bound(weight_bits - 1) == pytest.approx(upper, abs=6e-6)


@pytest.mark.parametrize("rate_bits", [0.0, 0.4, 1, 2, 3, 4, 5, 6])
def test_blahut_arimoto_finds_the_exact_curve(rate_bits: float) -> None:
    found = blahut_arimoto(2 ** (rate_bits + 1) - 1)
    excess_bits = found.rate_bits - exact_rate_bits(found.distortion)
    assert found.gap_bits < 1e-3
    assert 0 <= excess_bits <= found.gap_bits + CELLS_BITS
    assert found.rate_bits == pytest.approx(rate_bits, abs=0.01 if rate_bits < 1 else 2e-3)
    assert shannon_lower_bound(found.rate_bits) < found.distortion < paper_upper_bound(found.rate_bits)


@pytest.mark.parametrize("slope", [0.02, 0.7])
def test_below_a_slope_of_one_no_bits_are_worth_their_price(slope: float) -> None:
    found = blahut_arimoto(slope)
    # What s·D + R can miss by is the gap; the best is s·ln 2.
    assert 0 <= slope * (found.distortion - math.log(2)) / math.log(2) + found.rate_bits <= 1e-3 + CELLS_BITS
    assert 0 <= found.rate_bits < 5e-3


@pytest.mark.parametrize("lam", [0.02, 1.0, 35.0])
@pytest.mark.parametrize("rate_bits", [0.5, 2])
def test_curves_scale_with_lambda(lam: float, rate_bits: float) -> None:
    reached_bits, distortion = dense_blahut_arimoto(lam, slope=lam * (2 ** (rate_bits + 1) - 1))
    assert reached_bits == pytest.approx(rate_bits, abs=0.02)
    assert exact_distortion(reached_bits) / lam <= distortion <= 1.02 * exact_distortion(reached_bits) / lam
    assert shannon_lower_bound(reached_bits) / lam < distortion < paper_upper_bound(reached_bits) / lam


@settings(deadline=None, derandomize=True)
@given(st.floats(0, 30), st.floats(1e-3, 1e3))
def test_curves_are_in_order_and_invert(rate_bits: float, step_bits: float) -> None:
    exact = exact_distortion(rate_bits)
    assert shannon_lower_bound(rate_bits) < exact <= best_scalar(rate_bits) < paper_upper_bound(rate_bits)
    assert exact_rate_bits(exact) == pytest.approx(rate_bits, abs=1e-9)
    for curve in (shannon_lower_bound, exact_distortion, best_scalar, paper_upper_bound):
        assert 0 <= curve(rate_bits + step_bits) < curve(rate_bits)


def test_the_ends_of_the_curves() -> None:
    assert exact_distortion(0) == best_scalar(0) == pytest.approx(math.log(2))
    assert paper_upper_bound(0) == math.inf
    assert exact_rate_bits(0) == math.inf
    assert exact_rate_bits(math.log(2)) == pytest.approx(0, abs=1e-12)
    assert exact_rate_bits(5) == 0
    # Many bits: D^U is twice the truth, to the last digit of float64.
    assert paper_upper_bound(40) / exact_distortion(40) == pytest.approx(2, rel=1e-11)
    assert paper_upper_bound(5000) == exact_distortion(math.inf) == 0


@pytest.mark.parametrize("curve", [shannon_lower_bound, exact_distortion, exact_rate_bits, paper_upper_bound])
def test_arrays_give_arrays_and_numbers_give_floats(curve) -> None:
    values = np.array([[0.0, 0.3], [0.5, 7.0]])
    found = curve(values)
    assert found.shape == values.shape
    assert found.tolist() == [[curve(value) for value in row] for row in values.tolist()]
    assert type(curve(1)) is float
    for wrong in (-0.1, [1, -1], math.nan):
        with pytest.raises(PlanningError, match="must be at least 0"):
            curve(wrong)


@pytest.mark.parametrize("count", [1, 2, 3, 8, 128])
def test_the_best_quantizer_is_a_fixed_point_with_the_closed_forms_error(count: int) -> None:
    levels, thresholds = best_scalar_levels(count), best_scalar_thresholds(count)
    edges = [*thresholds, math.inf]
    assert thresholds[0] == pytest.approx(0, abs=1e-12)
    np.testing.assert_allclose(thresholds[1:], (levels[1:] + levels[:-1]) / 2)
    below, above = np.exp(-thresholds), np.append(np.exp(-thresholds[1:]), 0)
    np.testing.assert_allclose(np.exp(-levels), (below + above) / 2)  # medians of their cells
    error = sum(
        integrate.quad(lambda x, y=level: abs(x - y) * math.exp(-x), low, high)[0]
        for level, start, end in zip(levels, edges[:-1], edges[1:], strict=True)
        for low, high in ((start, level), (level, end))
    )
    assert error == pytest.approx(best_scalar(math.log2(count)), rel=1e-9)


@pytest.mark.parametrize("lam", [0.01, 30.0])
def test_lloyds_iteration_finds_no_better_levels(lam: float) -> None:
    """From evenly spaced levels, on 200,000 equal shares of Exp(λ), in units of the magnitudes."""
    magnitudes = exponential_quantiles(200_000) / lam
    levels = np.linspace(0, 4, 8) / lam
    for _ in range(300):
        starts = np.searchsorted(magnitudes, (levels[1:] + levels[:-1]) / 2)
        edges = np.concatenate([[0], starts, [len(magnitudes)]])
        levels = magnitudes[(edges[:-1] + edges[1:]) // 2]
    np.testing.assert_allclose(levels * lam, best_scalar_levels(8), rtol=2e-3)
    np.testing.assert_allclose(magnitudes[starts] * lam, best_scalar_thresholds(8)[1:], rtol=2e-3)
    error = np.abs(magnitudes - np.repeat(levels, np.diff(edges))).mean()
    assert error * fit_exponential(magnitudes).inverse_mean == pytest.approx(best_scalar(3), rel=1e-3)


@pytest.mark.parametrize("lam", [0.01, 50.0])
def test_lambda_and_goodness_of_fit_are_scipys(lam: float) -> None:
    random = np.random.default_rng(0)
    for weights in (random.exponential(1 / lam, (30, 40)), random.normal(scale=1 / lam, size=(30, 40))):
        signed = weights * random.choice([-1, 1], weights.shape)
        fit = fit_exponential(signed)
        _, mean = stats.expon.fit(np.abs(weights), floc=0)
        assert fit.inverse_mean == pytest.approx(1 / mean)
        assert fit.ks_distance == pytest.approx(
            stats.kstest(np.abs(weights).ravel(), "expon", args=(0, mean)).statistic
        )
        assert fit.count == 1200
    assert fit_exponential([lam]).inverse_mean == pytest.approx(1 / lam)


@pytest.mark.parametrize("weights", [[], [0.0, -0.0], [1.0, math.nan], [[math.inf], [1.0]]])
def test_what_no_exponential_fits(weights: list) -> None:
    with pytest.raises(PlanningError, match="no exponential distribution fits"):
        fit_exponential(weights)


def test_what_cannot_be_asked() -> None:
    for count in (0, -3):
        with pytest.raises(PlanningError, match="at least 1"):
            best_scalar_levels(count)
        with pytest.raises(PlanningError, match="at least 1"):
            best_scalar_thresholds(count)
    for slope in (0, -1, 257, math.nan):
        with pytest.raises(PlanningError, match="slope"):
            blahut_arimoto(slope)
    with pytest.raises(PlanningError, match="allow more than 0"):
        blahut_arimoto(0.5, tolerance_bits=0)
