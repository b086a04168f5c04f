"""The quantizers beside theory, and beside oracles that know nothing of how they search."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from quantizer_oracles import (
    assert_nearest,
    error_at,
    exponential_quantiles,
    least_error,
    levels,
    lloyd_medians,
    signed_exponential,
)

from laim_ros.quantization.levels import levels_of
from laim_ros.quantization.quantize import QUANTIZER_NAMES, family_of, quantize

EXPONENTIAL = torch.from_numpy(exponential_quantiles(1 << 20).astype(np.float32))[:, None]
ALL_BITS = range(1, 9)

# theory.md, section 2: λD of b-bit quantizers on Exp(1).
BEST_SCALAR = {2: 0.405465, 3: 0.223144, 4: 0.117783, 5: 0.060625, 6: 0.030772, 7: 0.015504, 8: 0.007782}
MID_TREAD = {2: 0.50000, 3: 0.27019, 4: 0.14984, 5: 0.08365, 6: 0.04660, 7: 0.02582, 8: 0.01421}
ABSMAX_OF_128 = {2: 0.8765, 3: 0.4267, 4: 0.1952, 5: 0.0943, 6: 0.0480, 7: 0.0258, 8: 0.0150}
POWER_OF_TWO = {2: 0.50000, 3: 0.25349, 4: 0.17156, 5: 0.16992, 6: 0.16992, 7: 0.16992, 8: 0.16992}


def distortion_on_exponential(bits, quantizer):
    return float((quantize(EXPONENTIAL, bits, quantizer, "tensor").dequantize() - EXPONENTIAL).abs().mean())


@pytest.mark.parametrize("bits", BEST_SCALAR)
@pytest.mark.parametrize("quantizer", ["exponential", "exponential_l1"])
def test_exponential_reaches_the_closed_form_and_nothing_less(bits, quantizer):
    # The sample's tail ends where a continuous one goes on; that is worth 0.2 % at 8 bits.
    assert distortion_on_exponential(bits, quantizer) == pytest.approx(BEST_SCALAR[bits], rel=3e-3)


@pytest.mark.parametrize("bits", MID_TREAD)
def test_uniform_reaches_the_best_mid_tread_value(bits):
    assert distortion_on_exponential(bits, "uniform_l1") == pytest.approx(MID_TREAD[bits], rel=2e-3)


@pytest.mark.parametrize("bits", POWER_OF_TWO)
def test_power_of_two_floors_where_theory_says(bits):
    """The table's column spends one level on zero; ours does not, and is better where levels are few."""
    found = distortion_on_exponential(bits, "power_of_two")
    if bits >= 5:
        assert found == pytest.approx(POWER_OF_TWO[bits], rel=1e-3)
    else:
        assert found < POWER_OF_TWO[bits]
    sample = exponential_quantiles(1 << 14)
    assert found == pytest.approx(least_error(sample, "power_of_two", bits), rel=3e-3)


@pytest.mark.parametrize("bits", POWER_OF_TWO)
def test_the_tables_power_of_two_column_is_that_with_a_zero(bits):
    sample = exponential_quantiles(1 << 14)
    with_zero = np.array([0.0, *(2.0**-k for k in range(2 ** (bits - 1) - 1))])
    midpoints = np.sort((np.sort(with_zero)[1:] + np.sort(with_zero)[:-1]) / 2)
    found = min(
        float(np.abs(sample - scale * np.sort(with_zero)[np.searchsorted(midpoints, sample / scale)]).mean())
        for scale in 0.5 * 1.01 ** np.arange(400)
    )
    assert found == pytest.approx(POWER_OF_TWO[bits], rel=2e-3)


@pytest.mark.parametrize("bits", ABSMAX_OF_128)
def test_absmax_of_groups_of_128_clips_nothing(bits):
    """The table takes the mean of the largest of 128, H_128 = 5.43, for the largest, so that e^-5.43 is clipped off."""
    weight = signed_exponential(512, 1024)
    found = float((quantize(weight, bits, "uniform_absmax", "group:128").dequantize() - weight).abs().mean())
    assert found < ABSMAX_OF_128[bits]
    if bits >= 5:
        clipped = np.exp(-sum(1 / n for n in range(1, 129)))
        assert found == pytest.approx(ABSMAX_OF_128[bits] - clipped, rel=0.015)


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 5])
def test_levels_are_those_of_lloyds_iteration_with_medians(bits):
    sample = exponential_quantiles(40_000)
    expected, least = lloyd_medians(sample, 2 ** (bits - 1))
    np.testing.assert_allclose(levels_of("exponential", bits).numpy(), expected, rtol=0.01)
    weight = torch.from_numpy(sample.astype(np.float32))[None]
    found = float((quantize(weight, bits, "exponential").dequantize() - weight).abs().mean())
    assert found == pytest.approx(least, rel=2e-3)


@pytest.mark.parametrize("bits", ALL_BITS)
@pytest.mark.parametrize("family", ["power_of_two", "exponential"])
def test_levels_are_as_defined(family, bits):
    np.testing.assert_allclose(levels_of(family, bits).numpy(), levels(family, bits)[: 2 ** (bits - 1)], rtol=1e-6)


@pytest.mark.parametrize("shape", ["exponential", "normal", "heavy"])
@pytest.mark.parametrize("quantizer", ["uniform", "uniform_l1", "power_of_two", "exponential_l1"])
@pytest.mark.parametrize("bits", [1, 2, 3, 4, 6])
def test_scale_is_near_the_best_of_a_dense_search(quantizer, bits, shape):
    random = np.random.default_rng(bits)
    draw = {
        "exponential": random.laplace,
        "normal": random.normal,
        "heavy": lambda size: random.standard_t(3, size),
    }[shape]
    weight = (0.02 * draw(size=(4, 1408))).astype(np.float32)
    power = 2 if quantizer == "uniform" else 1
    quantized = quantize(torch.from_numpy(weight), bits, quantizer)
    dense = [least_error(row.astype(np.float64), family_of(quantizer), bits, power) for row in weight]
    found = (np.abs(quantized.dequantize().double().numpy() - weight) ** power).mean(1)
    # Many levels make many ripples in the error over the scale, and outliers make several valleys.
    assert found.mean() <= np.mean(dense) * (1.005 if bits <= 4 and shape != "heavy" else 1.02)


@given(
    hnp.arrays(
        np.float32, st.tuples(st.integers(1, 5), st.sampled_from([1, 2, 6, 12])), elements=st.floats(-4, 4, width=32)
    ),
    st.sampled_from(ALL_BITS),
    st.sampled_from(QUANTIZER_NAMES),
    st.sampled_from(["tensor", "channel", "group:2", "group:3"]),
)
@settings(deadline=None)
def test_every_weight_becomes_the_nearest_level(array, bits, quantizer, granularity):
    group = int(granularity.partition(":")[2] or 1)
    weight = torch.from_numpy(np.ascontiguousarray(array[:, : array.shape[1] // group * group]))
    if not weight.numel():
        return
    quantized = quantize(weight, bits, quantizer, granularity)
    assert quantized.bits == bits
    assert quantized.shape == tuple(weight.shape)
    assert quantized.scale.dtype == torch.float32
    assert bool((quantized.scale >= 0).all())
    codes = quantized.codes()
    assert int(codes.min()) >= -(2 ** (bits - 1))
    assert int(codes.max()) < 2 ** (bits - 1)
    if family_of(quantizer) == "uniform" and bits > 1:
        assert int(codes.min()) > -(2 ** (bits - 1))
    assert_nearest(weight, quantized)


@given(st.integers(0, 10**6), st.integers(2, 8))
@settings(deadline=None, max_examples=25)
def test_searched_scales_are_never_worse_than_plain_ones(seed, bits):
    random = np.random.default_rng(seed)
    weight = torch.from_numpy((random.standard_normal((3, 40)) ** 3).astype(np.float32))

    def error(quantizer, power):
        return (quantize(weight, bits, quantizer).dequantize() - weight).abs().pow(power).mean(1)

    slack = 1 + 1e-5
    assert bool((error("uniform_l1", 1) <= error("uniform_absmax", 1) * slack).all())
    assert bool((error("uniform", 2) <= error("uniform_absmax", 2) * slack).all())
    assert bool((error("exponential_l1", 1) <= error("exponential", 1) * slack).all())


@pytest.mark.parametrize("granularity", ["tensor", "channel", "group:16"])
def test_one_bit_has_the_closed_form_scale(granularity):
    weight = signed_exponential(6, 48, seed=3)
    rows = {"tensor": weight.view(1, -1), "channel": weight, "group:16": weight.view(-1, 16)}[granularity]
    shape = {"tensor": (1, 1), "channel": (6, 1), "group:16": (6, 3)}[granularity]
    medians = rows.abs().median(1).values.view(shape)
    means = rows.abs().mean(1).view(shape)
    for quantizer, expected in (("uniform_l1", medians), ("power_of_two", medians), ("uniform", means)):
        torch.testing.assert_close(quantize(weight, 1, quantizer, granularity).scale, expected)
    found = quantize(weight, 1, "exponential_l1", granularity)
    torch.testing.assert_close(found.scale * np.log(2), medians)
    torch.testing.assert_close(quantize(weight, 5, "exponential", granularity).scale, means)


def test_the_scale_of_a_very_long_row_is_found_on_a_sample_and_serves_all_of_it():
    weight = signed_exponential(1500, 1000)  # more than the 2^20 that are looked at
    for quantizer, bits in (("uniform_l1", 4), ("exponential_l1", 3), ("uniform_absmax", 8)):
        quantized = quantize(weight, bits, quantizer, "tensor")
        values = weight.double().numpy().ravel()
        found = np.abs(quantized.dequantize().double().numpy().ravel() - values).mean()
        family = family_of(quantizer)
        assert found == pytest.approx(error_at(values, family, bits, float(quantized.scale)), rel=1e-5)
        if quantizer == "uniform_absmax":
            assert float(quantized.scale) == pytest.approx(np.abs(values).max() / 127)
        else:
            best = min(error_at(values, family, bits, float(quantized.scale) * 1.02**step) for step in range(-5, 6))
            assert found <= best * 1.002
