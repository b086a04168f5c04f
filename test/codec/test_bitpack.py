"""Small integers packed without gaps."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from laim_ros.codec.bitpack import pack_bits, packed_bytes, unpack_bits


def packed_by_definition(values, bits):
    total = sum(int(value) << (position * bits) for position, value in enumerate(values))
    return total.to_bytes(packed_bytes(len(values), bits), "little")


@given(st.integers(1, 8), st.data())
def test_equals_the_definition_and_comes_back(bits, data):
    values = np.array(data.draw(st.lists(st.integers(0, 2**bits - 1), max_size=70)), np.uint8)
    packed = pack_bits(values, bits)
    assert packed == packed_by_definition(values, bits)
    assert np.array_equal(unpack_bits(packed, bits, len(values)), values)


@pytest.mark.parametrize("bits", range(1, 9))
def test_any_bytes_unpack_to_values_below_the_top(bits):
    random = np.random.default_rng(bits)
    values = unpack_bits(random.bytes(packed_bytes(1001, bits)), bits, 1001)
    assert values.dtype == np.uint8
    assert values.max() == 2**bits - 1


@pytest.mark.parametrize("size_bytes", [2, 4])
def test_a_wrong_size_is_refused(size_bytes):
    with pytest.raises(ValueError, match=r"3 bits take 3"):
        unpack_bits(bytes(size_bytes), 3, 8)
