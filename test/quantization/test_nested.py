"""Lower widths out of the 8-bit form: as good as direct quantization, and from the stored form alone."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from quantizer_oracles import assert_nearest, error_at, signed_exponential

from laim_ros.models.source import find_source
from laim_ros.quantization.errors import QuantizationError
from laim_ros.quantization.nested import derive, quantize_nested
from laim_ros.quantization.quantize import quantize
from laim_ros.quantization.quantized_weight import QuantizedWeight

LOWER = range(1, 8)
GRANULARITIES = ["tensor", "channel", "group:128"]


def mean_error(weight, quantized):
    return float((quantized.dequantize() - weight).abs().mean())


@pytest.fixture(scope="module")
def weights():
    generator = torch.Generator().manual_seed(0)
    return {
        "exponential": signed_exponential(96, 1408),
        "normal": torch.randn((96, 1408), generator=generator) * 0.02,
        "heavy": torch.from_numpy(np.random.default_rng(0).standard_t(4, (96, 1408)).astype(np.float32)),
    }


@pytest.mark.parametrize("kind", ["exponential", "normal", "heavy"])
@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_distortion_is_close_to_direct_quantization(weights, kind, granularity):
    weight = weights[kind]
    weight8 = quantize_nested(weight, granularity)
    for bits in LOWER:
        direct = mean_error(weight, quantize(weight, bits, "uniform", granularity))
        derived = mean_error(weight, derive(weight8, bits))
        # At 7 bits the steps of both roundings are nearly alike, and their errors add up.
        assert derived <= direct * (1.05 if bits < 7 else 1.15), bits


@pytest.mark.parametrize("granularity", ["tensor", "channel", "group:16"])
def test_the_8_bit_codes_are_those_of_direct_quantization(granularity):
    weight = signed_exponential(7, 48)
    nested, direct = quantize_nested(weight, granularity), quantize(weight, 8, "uniform", granularity)
    assert torch.equal(nested.codes(), direct.codes())
    assert torch.equal(nested.scale, direct.scale)
    assert nested.lower_scales.shape == (7, *direct.scale.shape)
    assert nested.lower_scales.dtype == torch.float32
    assert derive(nested, 8) is nested


@pytest.mark.parametrize("bits", LOWER)
@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_the_same_without_stored_scales(weights, bits, granularity):
    weight8 = quantize_nested(weights["normal"], granularity)
    stored, found = derive(weight8, bits), derive(replace(weight8, lower_scales=None), bits)
    torch.testing.assert_close(found.scale, stored.scale)
    # Counting in other chunks may round a scale otherwise; then codes at a threshold may move.
    assert float((found.codes() != stored.codes()).float().mean()) < 1e-4


@pytest.mark.parametrize("bits", LOWER)
def test_what_is_derived_is_the_nearest_level_to_the_8_bit_weights(weights, bits):
    weight8 = quantize_nested(weights["exponential"])
    derived = derive(weight8, bits)
    assert (derived.bits, derived.quantizer, derived.shape) == (bits, "uniform", weight8.shape)
    assert derived.lower_scales is None
    assert_nearest(weight8.dequantize(), derived)


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 5, 6])
def test_scales_out_of_the_histogram_are_as_good_as_out_of_the_weights(bits):
    """Brute force over scales, each judged by the original weights after both roundings."""
    weight = signed_exponential(3, 1408, seed=5)
    weight8 = quantize_nested(weight)
    rows8 = weight8.dequantize().double().numpy()
    derived = derive(weight8, bits)
    for row, (original, rounded, scale) in enumerate(zip(weight.double().numpy(), rows8, derived.scale, strict=True)):
        found = np.square(derived.dequantize()[row].double().numpy() - original).mean()
        best = min(
            np.square(original - twice_rounded(rounded, bits, float(scale) * 1.005**step)).mean()
            for step in range(-120, 121)
        )
        # The steps of 6 bits are near those of 8: the error ripples, and squares show it more.
        assert found <= best * (1.01 if bits < 6 else 1.03)


def twice_rounded(rounded, bits, scale):
    if bits == 1:
        return np.where(rounded < 0, -scale, scale)
    top = 2 ** (bits - 1) - 1
    return scale * np.clip(np.round(rounded / scale), -top, top)


@pytest.mark.parametrize("bits", LOWER)
def test_zero_rows_and_rows_of_one_magnitude_stay_exact(bits):
    weight = torch.stack([torch.zeros(24), torch.full((24,), 0.37), signed_exponential(1, 24)[0]])
    weight[1, ::3] *= -1
    weight8 = quantize_nested(weight)
    for form in (weight8, replace(weight8, lower_scales=None)):
        found = derive(form, bits).dequantize()
        assert not found[0].any()
        assert torch.equal(found[1], weight[1])


@given(st.integers(0, 10**6), st.integers(1, 7), st.sampled_from(["tensor", "channel", "group:4"]))
@settings(deadline=None, max_examples=40)
def test_any_codes_can_be_narrowed(seed, bits, granularity):
    """Forms from elsewhere: no lower scales, the code -128, scales of zero."""
    random = np.random.default_rng(seed)
    shape = (int(random.integers(1, 9)), 4 * int(random.integers(1, 9)))
    codes = torch.from_numpy(random.integers(-128, 128, shape).astype(np.int8) // random.integers(1, 130)).to(
        torch.int8
    )
    scale_shape = {"tensor": (1, 1), "channel": (shape[0], 1), "group:4": (shape[0], shape[1] // 4)}[granularity]
    scale = torch.from_numpy(random.choice([0.0, 1e-6, 0.02, 3.0], scale_shape).astype(np.float32))
    weight8 = QuantizedWeight.from_codes(codes, scale, 8, "uniform")
    derived = derive(weight8, bits)
    assert bool(torch.isfinite(derived.scale).all())
    assert bool((derived.scale >= 0).all())
    assert_nearest(weight8.dequantize(), derived)


def test_a_group_beats_a_channel_beats_a_tensor(weights):
    weight = weights["heavy"]
    errors = [mean_error(weight, derive(quantize_nested(weight, kind), 4)) for kind in GRANULARITIES]
    assert errors == sorted(errors, reverse=True)


def test_the_shipped_models_weights():
    from safetensors.torch import load_file

    tensors = load_file(find_source("laim-mini-blip2").folder / "model.safetensors")
    for key in ("vision_model.encoder.layers.0.mlp.fc1.weight", "vision_model.encoder.layers.3.self_attn.qkv.weight"):
        weight8 = quantize_nested(tensors[key])
        for bits in (3, 4, 5, 6):
            direct = quantize(tensors[key], bits)
            assert mean_error(tensors[key], derive(weight8, bits)) <= 1.05 * mean_error(tensors[key], direct)
            row, scale = tensors[key][0].double().numpy(), float(direct.scale[0])
            first = float((direct.dequantize()[0] - tensors[key][0]).abs().mean())
            assert first == pytest.approx(error_at(row, "uniform", bits, scale), rel=1e-4)


@pytest.mark.parametrize(
    ("bits", "quantizer"), [(4, "uniform"), (8, "exponential"), (8, "power_of_two"), (1, "uniform")]
)
def test_other_forms_hold_no_lower_widths(bits, quantizer):
    with pytest.raises(QuantizationError, match=f"not {bits}-bit {quantizer}; quantize the original weights"):
        derive(quantize(torch.ones(2, 2), bits, quantizer), 2)


@pytest.mark.parametrize("bits", [0, 9, True, 2.5])
def test_bits_out_of_range(bits):
    with pytest.raises(QuantizationError, match="whole number of 1 to 8"):
        derive(quantize_nested(torch.ones(2, 2)), bits)


def test_broken_weights_are_refused():
    with pytest.raises(QuantizationError, match="NaN"):
        quantize_nested(torch.tensor([[1.0, float("nan")]]))
