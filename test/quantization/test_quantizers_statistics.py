"""Fits, distances and distortion of tensors: beside theory, numeric integrals and scipy."""

import math

import numpy as np
import pytest
import torch
from quantizer_oracles import exponential_quantiles, signed_exponential

from laim_ros.planning.rate_distortion import best_scalar
from laim_ros.planning.rate_distortion import fit_exponential as planners_fit
from laim_ros.quantization import statistics
from laim_ros.quantization.errors import QuantizationError
from laim_ros.quantization.quantize import quantize


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


def test_the_planner_fits_the_same():
    weight = torch.randn((37, 53), generator=torch.Generator().manual_seed(3)) * 0.02
    fit = planners_fit(weight.numpy())
    assert fit.inverse_mean == pytest.approx(statistics.fit_exponential(weight), rel=1e-9)
    assert fit.ks_distance == pytest.approx(statistics.ks_distance(weight, fit.inverse_mean), abs=1e-9)


def test_distortion_does_not_depend_on_units():
    weight = signed_exponential(50, 400)
    for unit in (1e-12, 1.0, 1e12):
        found = statistics.distortion(weight * unit, quantize(weight * unit, 4, "exponential", "tensor").dequantize())
        assert found == pytest.approx(best_scalar(3), rel=0.02)
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
