"""Codes in planes of bits: nothing lost, nothing wasted."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from laim_ros.quantization.errors import QuantizationError
from laim_ros.quantization.planes import PLANE_WIDTHS, pack, plane_shapes, unpack
from laim_ros.quantization.quantized_weight import QuantizedWeight

shapes = st.tuples(st.integers(1, 35), st.integers(1, 9))


def random_codes(shape, bits, seed):
    random = np.random.default_rng(seed)
    return random.integers(-(2 ** (bits - 1)), 2 ** (bits - 1), shape).astype(np.int8)


def bits_of_planes(planes, bits, rows):
    """The codes as unsigned numbers, read off the planes bit by bit as their description says."""
    codes = np.zeros((rows, planes[0].shape[1]), int)
    for plane, width in zip(planes, PLANE_WIDTHS[bits], strict=True):
        packed_rows = plane.shape[0]
        for row in range(rows):
            place, byte_row = divmod(row, packed_rows)
            part = plane.numpy()[byte_row].astype(int) >> (width * place)
            codes[row] = codes[row] << width | part & ((1 << width) - 1)
    return codes


@given(shapes, st.integers(1, 8), st.integers(0, 2**32 - 1))
def test_packing_and_back(shape, bits, seed):
    codes = random_codes(shape, bits, seed)
    planes = pack(torch.from_numpy(codes), bits)
    assert [tuple(plane.shape) for plane in planes] == plane_shapes(shape, bits)
    assert all(plane.dtype == torch.uint8 for plane in planes)
    np.testing.assert_array_equal(bits_of_planes(planes, bits, shape[0]), codes.astype(int) % 2**bits)
    upper = unpack(planes, bits, shape[0])
    assert upper.dtype == torch.int8
    np.testing.assert_array_equal(upper.numpy() >> (8 - bits), codes)
    np.testing.assert_array_equal(upper.numpy().astype(int), codes.astype(int) * 2 ** (8 - bits))


@pytest.mark.parametrize("bits", range(1, 9))
def test_unpacking_into_memory_that_held_something_else(bits):
    codes = torch.from_numpy(random_codes((21, 5), bits, 0))
    out = torch.full((21, 5), -1, dtype=torch.int8)
    found = unpack(pack(codes, bits), bits, 21, out)
    assert found is out
    assert torch.equal(out >> (8 - bits), codes)


@pytest.mark.parametrize("bits", range(1, 9))
def test_exactly_b_bits_per_weight(bits):
    codes = torch.from_numpy(random_codes((64, 48), bits, 1))
    assert sum(plane.nbytes for plane in pack(codes, bits)) == 64 * 48 * bits // 8
    quantized = QuantizedWeight.from_codes(codes, torch.ones(64, 1), bits, "uniform")
    assert quantized.nbytes == 64 * 48 * bits // 8 + 64 * 4
    assert torch.equal(quantized.codes(), codes)


@pytest.mark.parametrize("bits", range(1, 9))
def test_packing_leaves_the_codes_as_they_were(bits):
    codes = torch.from_numpy(random_codes((16, 4), bits, 2))
    kept = codes.clone()
    planes = pack(codes, bits)
    planes[0].zero_()
    assert torch.equal(codes, kept)


@pytest.mark.parametrize("scale_shape", [(1, 1), (8, 1), (8, 3)])
def test_dequantizing_multiplies_each_group_by_its_scale(scale_shape):
    codes = torch.from_numpy(random_codes((8, 12), 5, 3))
    scale = torch.rand(scale_shape)
    found = QuantizedWeight.from_codes(codes, scale, 5, "uniform").dequantize()
    full = scale.expand(8, scale_shape[1]).repeat_interleave(12 // scale_shape[1], 1)
    assert torch.equal(found, codes * full)


@pytest.mark.parametrize("scale_shape", [(3, 1), (8, 5), (8,), (8, 1, 1)])
def test_scales_that_do_not_fit(scale_shape):
    with pytest.raises(QuantizationError, match="do not fit a weight of"):
        QuantizedWeight.from_codes(torch.zeros((8, 12), dtype=torch.int8), torch.ones(scale_shape), 4, "uniform")
