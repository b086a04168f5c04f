"""Weights that are odd, broken, or laid out differently; choices that cannot be carried out; memory."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from quantizer_oracles import assert_nearest, signed_exponential

from laim_ros.quantization.errors import QuantizationError
from laim_ros.quantization.granularity import Granularity
from laim_ros.quantization.quantize import QUANTIZER_NAMES, family_of, quantize

ALL_BITS = range(1, 9)
GRANULARITIES = ["tensor", "channel", "group:4"]

every_quantizer = pytest.mark.parametrize("quantizer", QUANTIZER_NAMES)
every_width = pytest.mark.parametrize("bits", ALL_BITS)


@every_quantizer
@every_width
@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_zeros_stay_zeros(quantizer, bits, granularity):
    quantized = quantize(torch.zeros(3, 8), bits, quantizer, granularity)
    assert not quantized.dequantize().any()
    assert not quantized.scale.any()


@every_quantizer
@every_width
def test_a_zero_row_does_not_disturb_its_neighbours(quantizer, bits):
    weight = signed_exponential(3, 64)
    weight[1] = 0
    quantized = quantize(weight, bits, quantizer)
    alone = quantize(weight[[0, 2]], bits, quantizer)
    assert torch.equal(quantized.dequantize()[[0, 2]], alone.dequantize())
    assert not quantized.dequantize()[1].any()


@every_quantizer
@every_width
@pytest.mark.parametrize("magnitude", [1.0, 0.1, 3.7e-5, 1234.567, 1e-20, 1e29])
def test_rows_of_one_magnitude_are_exact(quantizer, bits, magnitude):
    weight = torch.full((2, 12), magnitude)
    weight[:, ::5] *= -1
    found = quantize(weight, bits, quantizer).dequantize()
    if family_of(quantizer) == "exponential":
        torch.testing.assert_close(found, weight, rtol=2**-22, atol=0)
    else:
        assert torch.equal(found, weight)


@every_quantizer
@every_width
def test_single_weights(quantizer, bits):
    weight = torch.tensor([[-0.3]])
    torch.testing.assert_close(quantize(weight, bits, quantizer, "tensor").dequantize(), weight, rtol=2**-22, atol=0)


@every_quantizer
@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_outliers_and_sparse_rows(quantizer, bits):
    """The search starts at the mean, far from where these need it to end."""
    weight = torch.zeros(4, 2000)
    weight[0, 7] = 5.0
    weight[1, ::40] = torch.linspace(-1, 1, 50)
    weight[2] = torch.linspace(-1e-3, 1e-3, 2000)
    weight[2, 0] = 1000.0
    weight[3] = signed_exponential(1, 2000)[0] * 1e-25
    quantized = quantize(weight, bits, quantizer)
    assert_nearest(weight, quantized)
    error = (quantized.dequantize() - weight).abs().sum(1)
    if family_of(quantizer) == "uniform" and bits > 1 and quantizer != "uniform_absmax":
        assert float(error[0]) < 0.05
        assert float(error[1]) < 0.5 * float(weight[1].abs().sum())


@every_quantizer
def test_signs_survive_and_minus_zero_is_nothing_special(quantizer):
    weight = signed_exponential(4, 100)
    weight[0, 0], weight[1, 0] = -0.0, 0.0
    found = quantize(weight, 4, quantizer).dequantize()
    assert bool((found * weight >= 0).all())
    if family_of(quantizer) != "uniform":
        assert float(found[0, 0]) > 0


@every_quantizer
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_widths_count_as_float32(quantizer, dtype):
    weight = (signed_exponential(6, 96) * 0.02).to(dtype)
    found, expected = quantize(weight, 4, quantizer), quantize(weight.to(torch.float32), 4, quantizer)
    assert torch.equal(found.codes(), expected.codes())
    assert torch.equal(found.scale, expected.scale)


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_layout_in_memory_does_not_matter_and_the_weight_stays_as_it_was(granularity):
    weight = signed_exponential(48, 32)
    kept = weight.clone()
    found = quantize(weight.t(), 3, "uniform", granularity)
    expected = quantize(weight.t().contiguous(), 3, "uniform", granularity)
    assert torch.equal(found.dequantize(), expected.dequantize())
    assert torch.equal(weight, kept)


@pytest.mark.parametrize("granularity", ["channel", "group:32"])
def test_rows_do_not_depend_on_the_chunk_they_are_in(granularity):
    weight = signed_exponential(700, 1024)
    whole = quantize(weight, 4, "exponential_l1", granularity)
    for rows in (slice(0, 1), slice(255, 257), slice(690, 700)):
        part = quantize(weight[rows], 4, "exponential_l1", granularity)
        torch.testing.assert_close(part.dequantize(), whole.dequantize()[rows], rtol=1e-5, atol=1e-6)


@every_quantizer
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf"), 2e30])
@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_broken_weights_are_refused(quantizer, value, granularity):
    weight = signed_exponential(300, 1000)
    weight[299, 998] = value
    with pytest.raises(QuantizationError, match="NaN, infinity or a magnitude above 1e\\+30"):
        quantize(weight, 4, quantizer, granularity)


def test_nan_in_a_very_long_row_is_found_outside_the_sample():
    weight = torch.ones(1, (1 << 20) + 12345)
    for place in (0, 77, weight.shape[1] - 1):
        broken = weight.clone()
        broken[0, place] = float("nan")
        with pytest.raises(QuantizationError, match="NaN"):
            quantize(broken, 4)


@pytest.mark.parametrize("shape", [(8,), (2, 3, 4), ()])
def test_only_matrices(shape):
    with pytest.raises(QuantizationError, match="two dimensions"):
        quantize(torch.ones(shape), 4)


@pytest.mark.parametrize("shape", [(0, 4), (4, 0), (0, 0)])
@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_no_elements(shape, granularity):
    with pytest.raises(QuantizationError, match="no elements"):
        quantize(torch.ones(shape), 4, "uniform", granularity)


@pytest.mark.parametrize("dtype", [torch.int8, torch.bool, torch.complex64])
def test_only_floats(dtype):
    with pytest.raises(QuantizationError, match="floating point"):
        quantize(torch.ones(2, 2, dtype=dtype), 4)


@pytest.mark.parametrize("bits", [0, 9, -1, 16, 4.5, True, "4", None])
def test_bits_out_of_range(bits):
    with pytest.raises(QuantizationError, match="bits per weight must be a whole number of 1 to 8"):
        quantize(torch.ones(2, 2), bits)


@pytest.mark.parametrize("quantizer", ["", "Uniform", "l2", "exponential_l2", "uniform_", "power_of_two_l1"])
def test_unknown_quantizers(quantizer):
    with pytest.raises(QuantizationError, match="must be one of uniform, uniform_l1"):
        quantize(torch.ones(2, 2), 4, quantizer)


@pytest.mark.parametrize(
    "text", ["", "row", "group", "group:", "group:0", "group:-4", "group:1.5", "group:4 ", "Tensor"]
)
def test_unknown_granularities(text):
    with pytest.raises(QuantizationError, match="must be 'tensor', 'channel'"):
        quantize(torch.ones(2, 8), 4, "uniform", text)


def test_groups_must_divide_the_inputs():
    with pytest.raises(QuantizationError, match=r"groups of 3 do not divide the 8 inputs of a weight of \(2, 8\)"):
        quantize(torch.ones(2, 8), 4, "uniform", "group:3")
    with pytest.raises(QuantizationError, match="groups of 16 do not divide"):
        quantize(torch.ones(2, 8), 4, "uniform", "group:16")


@pytest.mark.parametrize("text", ["tensor", "channel", "group:128"])
def test_granularity_is_written_as_it_is_read(text):
    assert str(Granularity.parse(text)) == text


MEASURE = """
import torch
from laim_ros.quantization.nested import derive, quantize_nested
from laim_ros.quantization.quantize import QUANTIZER_NAMES, quantize

def memory_bytes(name):
    for line in open("/proc/self/status"):
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024

def work(weight):
    for name in QUANTIZER_NAMES if len(weight) < 100 else ("uniform", "exponential_l1"):
        for granularity in ("tensor", "channel", "group:128"):
            quantize(weight, 3, name, granularity)
    derive(quantize_nested(weight), 5)

work(torch.randn(64, 1408))
weight = torch.randn(6144, 1408)
before = memory_bytes("VmRSS")
open("/proc/self/clear_refs", "w").write("5")  # the peak starts again from here
work(weight)
print((memory_bytes("VmHWM") - before) / weight.nbytes)
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux's account of peak memory")
def test_quantizing_takes_little_more_memory_than_the_weight_itself():
    done = subprocess.run(
        [sys.executable, "-c", MEASURE],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 2.2
