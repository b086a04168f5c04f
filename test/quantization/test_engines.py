"""Layers that run against the same weights in plain float32, and against transformers' own block."""

from __future__ import annotations

import platform

import pytest
import torch
from block_samples import tokens, transformers_block, weights_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.nn import functional as F
from transformers.models.blip_2.modeling_blip_2 import Blip2EncoderLayer

from laim_ros.quantization.engines import ENGINES, activations, make_engine, portable
from laim_ros.quantization.engines.activations import to_int8_rows, to_uint8
from laim_ros.quantization.engines.int8_grid import grid_harm, to_int8
from laim_ros.quantization.engines.layers import FloatLinear, VisionBlock
from laim_ros.quantization.errors import QuantizationError
from laim_ros.quantization.levels import levels_of
from laim_ros.quantization.quantized_weight import QuantizedWeight
from laim_ros.quantization.weights import LinearWeights

CPU = torch.device("cpu")
HERE = [name for name in ENGINES if name != "auto"]


def quantized(bits: int, quantizer: str = "uniform", rows: int = 40, columns: int = 64, seed: int = 0):
    """Random codes with a scale per output."""
    generator = torch.Generator().manual_seed(seed)
    lowest = -(1 << (bits - 1)) + (1 if quantizer == "uniform" and bits > 1 else 0)
    codes = torch.randint(lowest, 1 << (bits - 1), (rows, columns), dtype=torch.int8, generator=generator)
    scale = (0.5 + torch.rand((rows, 1), generator=generator)) / (1 << bits)
    return QuantizedWeight.from_codes(codes, scale, bits, quantizer)


def relative_error(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).abs().sum() / expected.abs().sum())


@pytest.fixture(params=HERE)
def engine(request):
    try:
        return make_engine(request.param, CPU)
    except QuantizationError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("activation", ["", "gelu"])
@pytest.mark.parametrize("bits", range(1, 9))
def test_a_uniform_layer_computes_with_the_weights_that_its_codes_stand_for(engine, bits, activation) -> None:
    weight, bias = quantized(bits), torch.linspace(-1, 1, 40)
    x = torch.randn((2, 9, 64), generator=torch.Generator().manual_seed(1))
    expected = F.linear(x, weight.dequantize(), bias)
    expected = F.gelu(expected) if activation else expected
    assert relative_error(engine.linear(LinearWeights(weight, bias), activation)(x), expected) < 0.02


@pytest.mark.parametrize("quantizer", ["power_of_two", "exponential"])
@pytest.mark.parametrize("bits", range(1, 9))
def test_so_does_a_layer_on_other_levels(engine, bits, quantizer) -> None:
    weight = quantized(bits, quantizer)
    x = torch.randn((1, 9, 64), generator=torch.Generator().manual_seed(1))
    expected = F.linear(x, weight.dequantize())
    assert relative_error(engine.linear(LinearWeights(weight, None))(x), expected) < 0.03


@pytest.mark.parametrize("bits", [2, 4, 6, 8])
def test_so_does_a_layer_with_a_scale_per_group(engine, bits) -> None:
    codes = quantized(bits).codes()
    weight = QuantizedWeight.from_codes(codes, torch.rand((40, 4)) + 0.5, bits, "uniform")
    x = torch.randn((1, 9, 64), generator=torch.Generator().manual_seed(1))
    assert relative_error(engine.linear(LinearWeights(weight, None))(x), F.linear(x, weight.dequantize())) < 0.03


def test_a_scale_for_the_whole_tensor_fits_too(engine) -> None:
    weight = QuantizedWeight.from_codes(quantized(5).codes(), torch.full((1, 1), 0.1), 5, "uniform")
    x = torch.randn((1, 9, 64), generator=torch.Generator().manual_seed(1))
    assert relative_error(engine.linear(LinearWeights(weight, None))(x), F.linear(x, weight.dequantize())) < 0.02


def test_a_frame_does_not_depend_on_the_others_of_its_batch(engine) -> None:
    layer = engine.linear(LinearWeights(quantized(8), None))
    quiet, loud = torch.randn((1, 9, 64)), 100 * torch.randn((1, 9, 64))
    together = layer(torch.cat([quiet, loud]))
    assert torch.allclose(together, torch.cat([layer(quiet), layer(loud)]), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("x", [torch.zeros((1, 3, 64)), torch.full((1, 3, 64), 7.0), -torch.ones((1, 3, 64))])
def test_activations_without_a_range_are_no_trouble(engine, x) -> None:
    weight, bias = quantized(8), torch.ones(40)
    expected = F.linear(x, weight.dequantize(), bias)
    assert torch.allclose(engine.linear(LinearWeights(weight, bias))(x), expected, rtol=0.01, atol=0.01)


def test_the_packed_engine_holds_b_bits_per_weight() -> None:
    engine = make_engine("torch", CPU)
    for bits in range(1, 9):
        layer = engine.linear(LinearWeights(quantized(bits, rows=64, columns=1024), None))
        assert layer.nbytes == 64 * 1024 * bits / 8 + 2 * 4 * 64  # and a scale and a bias per output


def test_without_int8_products_the_packed_engine_computes_in_floats(monkeypatch) -> None:
    monkeypatch.setattr(portable, "has_int8", lambda _: False)
    x = torch.randn((1, 9, 64), generator=torch.Generator().manual_seed(1))
    for bits in range(1, 9):
        layer = make_engine("torch", CPU).linear(LinearWeights(quantized(bits), None))
        assert relative_error(layer(x), F.linear(x, quantized(bits).dequantize())) < 0.01


@pytest.fixture
def block() -> Blip2EncoderLayer:
    return transformers_block()


def test_a_block_of_floats_is_transformers_block(engine, block) -> None:
    x = tokens(batch=2)
    with torch.inference_mode():
        expected = block(x)
        found = engine.block(weights_of(block))(x)
    tolerance = 0.01 if engine.attention_dtype == torch.bfloat16 else 1e-5
    assert relative_error(found - x, expected - x) < tolerance


def test_a_block_of_floats_with_float_attention_is_exactly_transformers_block(block) -> None:
    weights, x = weights_of(block), tokens(batch=2)
    layers = {
        name: FloatLinear(getattr(weights, name).weight, getattr(weights, name).bias, "gelu" if name == "fc1" else "")
        for name in ("qkv", "projection", "fc1", "fc2")
    }
    ours = VisionBlock(weights, **layers, attention_dtype=torch.float32, device=CPU)
    with torch.inference_mode():
        assert torch.allclose(ours(x), block(x), atol=1e-6)


@pytest.mark.parametrize("one_pass", [False, True])
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=50),
    st.floats(1e-3, 1e3),
)
def test_eight_bit_activations_are_within_half_a_step(monkeypatch, one_pass, values, factor) -> None:
    if one_pass and not activations._IN_ONE_PASS:
        pytest.skip("this PyTorch has no quantized tensors of its own")
    monkeypatch.setattr(activations, "_IN_ONE_PASS", one_pass)
    x = torch.tensor([values], dtype=torch.float32) * factor
    q, scale, zero_point = to_uint8(x)
    assert 0 <= zero_point <= 254
    found = (q.to(torch.float64) - zero_point) * scale
    assert float((found - x).abs().max()) <= scale * 0.501
    rows, row_scale = to_int8_rows(x)
    assert float((rows.to(torch.float64) * row_scale - x).abs().max()) <= float(row_scale) * 0.501


def test_activations_that_are_not_finite_are_told() -> None:
    for value in (float("nan"), float("inf")):
        with pytest.raises(QuantizationError, match="not finite"):
            to_uint8(torch.tensor([[1.0, value]]))


@pytest.mark.parametrize(("bits", "percent"), [(6, 10), (7, 48), (8, 167)])
def test_what_an_int8_grid_does_to_the_exponential_quantizer(bits, percent) -> None:
    assert grid_harm("exponential", bits) == pytest.approx(percent / 100, abs=0.01)


@pytest.mark.parametrize("bits", range(1, 9))
def test_the_grid_is_exact_or_close_or_refused(bits) -> None:
    codes, scale = to_int8(quantized(bits))
    assert torch.allclose(codes * scale[:, None], quantized(bits).dequantize(), rtol=1e-6)
    gridded = to_int8(quantized(bits, "exponential"))
    assert (gridded is None) == (bits >= 6)
    if gridded is not None:
        exact = quantized(bits, "exponential").dequantize()
        step = gridded[1] * 0.501
        assert ((gridded[0] * gridded[1][:, None] - exact).abs() <= step[:, None]).all()
    assert levels_of("uniform", 2) is None


def test_an_engine_that_cannot_run_says_why_and_what_can() -> None:
    with pytest.raises(QuantizationError, match="none of auto, onednn, torch, float"):
        make_engine("warp", CPU)
    with pytest.raises(QuantizationError, match=r"cannot run here: it runs on the CPU, not on cuda; use engine auto"):
        make_engine("onednn", torch.device("cuda"))


def test_auto_is_int8_where_the_processor_has_it() -> None:
    fast = platform.machine() == "x86_64" and torch.cpu._is_vnni_supported()
    assert make_engine("auto", CPU).name == ("onednn" if fast else "torch")
