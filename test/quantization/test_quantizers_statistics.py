"""Fits, distances and curves: beside the table of theory.md, numeric integrals and scipy."""

import math

import numpy as np
import pytest
import torch
from quantizer_oracles import exponential_quantiles, signed_exponential

from laim_ros.quantization import statistics
from laim_ros.quantization.errors import QuantizationError
from laim_ros.quantization.quantize import quantize

# theory.md, section 2, for λ = 1: R, D^L, exact, D^U.
CURVES = [
    (1, 0.25000, 0.28768, 0.61803),
    (2, 0.12500, 0.13353, 0.26376),
    (3, 0.06250, 0.06454, 0.12678),
    (4, 0.03125, 0.03175, 0.06273),
    (5, 0.01562, 0.01575, 0.03128),
    (6, 0.00781, 0.00784, 0.01563),
]
BEST_SCALAR = [(1, 0.405465), (2, 0.223144), (3, 0.117783), (4, 0.060625), (5, 0.030772), (6, 0.015504), (7, 0.007782)]


@pytest.mark.parametrize(("rate_bits", "lower", "exact", "upper"), CURVES)
def test_curves_have_the_tables_values(rate_bits, lower, exact, upper):
    assert statistics.shannon_lower_bound(rate_bits) == pytest.approx(lower, abs=6e-6)
    assert statistics.rate_distortion(rate_bits) == pytest.approx(exact, abs=6e-6)
    assert statistics.paper_upper_bound(rate_bits) == pytest.approx(upper, abs=6e-6)


@pytest.mark.parametrize(("rate_bits", "distortion"), BEST_SCALAR)
def test_best_scalar_has_the_tables_values(rate_bits, distortion):
    assert statistics.best_scalar(rate_bits) == pytest.approx(distortion, abs=6e-7)


@pytest.mark.parametrize("rate_bits", [0, 0.1, 0.5, 1, 2.5, 4, 7])
def test_curves_are_in_order_and_invert(rate_bits):
    exact = statistics.rate_distortion(rate_bits)
    assert -math.log2(2 * (1 - math.exp(-exact))) == pytest.approx(rate_bits, abs=1e-9)
    assert statistics.shannon_lower_bound(rate_bits) < exact <= statistics.best_scalar(rate_bits)
    assert statistics.best_scalar(rate_bits) < statistics.paper_upper_bound(rate_bits)


def test_no_bits_for_the_magnitude():
    assert statistics.rate_distortion(0) == pytest.approx(math.log(2))
    assert statistics.best_scalar(0) == pytest.approx(math.log(2))
    assert statistics.paper_upper_bound(0) == math.inf


@pytest.mark.parametrize("rate", [0.01, 1.0, 50.0])
def test_the_rate_of_exponential_magnitudes_is_found(rate):
    weight = torch.from_numpy((exponential_quantiles(1_500_000) / rate).astype(np.float32)).view(1000, 1500)
    assert statistics.fit_exponential(weight) == pytest.approx(rate, rel=1e-4)
    assert statistics.fit_exponential(-weight.to(torch.float64)) == pytest.approx(rate, rel=1e-4)
    assert statistics.ks_distance(weight, rate) < 1e-5


@pytest.mark.parametrize("rate", [0.5, 1.0, 2.0])
def test_ks_distance_is_scipys(rate):
    from scipy import stats

    weight = torch.randn((37, 53), generator=torch.Generator().manual_seed(1))
    expected = stats.kstest(weight.abs().numpy().ravel().astype(np.float64), "expon", args=(0, 1 / rate)).statistic
    assert statistics.ks_distance(weight, rate) == pytest.approx(expected, abs=1e-6)


def test_ks_distance_of_normal_weights_is_the_known_one():
    """sup |erf(x/√2) - (1 - e^(-λx))| with λ = √(π/2), by a dense grid."""
    grid = np.linspace(0, 6, 200_001)
    normal = np.array([math.erf(x / math.sqrt(2)) for x in grid])
    expected = np.abs(normal + np.expm1(-math.sqrt(math.pi / 2) * grid)).max()
    weight = torch.randn((1000, 1000), generator=torch.Generator().manual_seed(2))
    assert statistics.ks_distance(weight, statistics.fit_exponential(weight)) == pytest.approx(expected, abs=2e-3)


def test_distortion_does_not_depend_on_units():
    weight = signed_exponential(50, 400)
    for unit in (1e-12, 1.0, 1e12):
        found = statistics.distortion(weight * unit, quantize(weight * unit, 4, "exponential", "tensor").dequantize())
        assert found == pytest.approx(statistics.best_scalar(3), rel=0.02)
    assert statistics.distortion(weight, weight) == 0
    assert statistics.distortion(weight, torch.zeros_like(weight)) == pytest.approx(1)


def test_distortion_of_different_shapes():
    with pytest.raises(QuantizationError, match=r"\(2, 3\) and its approximation of \(3, 2\) differ"):
        statistics.distortion(torch.ones(2, 3), torch.ones(3, 2))


@pytest.mark.parametrize(
    "weight", [torch.zeros(3, 3), torch.ones(0, 3), torch.tensor([1.0, float("nan")]), torch.tensor([float("inf")])]
)
def test_what_no_exponential_fits(weight):
    with pytest.raises(QuantizationError, match="no exponential distribution fits"):
        statistics.fit_exponential(weight)
