"""Features through the plain codec: error bounds, exactness, sizes, refusals."""

import numpy as np
import pytest
from codec_streams import ALL_BITS, bell_shaped, feature_stream, shapes
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from laim_ros.codec import HEADER_BYTES, WIRE_VERSION, CodecError, Packet, StreamDescription, codec_for, pack
from laim_ros.codec.plain import LARGEST
from laim_ros.plan import Plan

# A warning for each frame (a division by a step that rounds to zero, a cast of infinity) would fill a robot's log.
pytestmark = pytest.mark.filterwarnings("error")

finite = (
    st.floats(-(2.0**99), 2.0**99, width=32) | st.floats(-2, 2, width=32) | st.floats(-(2.0**-120), 2.0**-120, width=32)
)
small_tensors = hnp.arrays(np.float32, hnp.array_shapes(max_dims=4, max_side=4), elements=finite)


@st.composite
def large_tensors(draw):
    """Bell-shaped tokens of any magnitude, some far from zero."""
    shape = draw(shapes)
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    lowest = draw(st.integers(-44, 29))
    exponents = random.uniform(lowest, draw(st.integers(lowest, 29)), (2, *shape[:-1], 1))
    return (random.standard_normal(shape) * 10 ** exponents[0] + 10 ** exponents[1] * draw(st.booleans())).astype(
        np.float32
    )


tensors = small_tensors | large_tensors()


def assert_within_bound(original, decoded, bits):
    """Half a step of the token's range (widened by at most 1 % on the way), and float32 arithmetic."""
    original, decoded = original.astype(np.float64), decoded.astype(np.float64)
    span = np.ptp(original, axis=-1, keepdims=True)
    span = np.where(span > 0, np.maximum(1.01 * span, 2.0**-110), 0)
    largest = np.abs(original).max(axis=-1, keepdims=True)
    bound = span / (2**bits - 1) / 2 + 2.0**-20 * (largest + span)
    assert (np.abs(original - decoded) <= bound).all()


@given(tensors, st.integers(1, 8))
def test_error_is_at_most_half_a_step(array, bits):
    codec = codec_for(feature_stream(array.shape, bits))
    decoded = codec.decode(codec.encode(array))
    assert decoded.dtype == np.float32
    assert decoded.shape == array.shape
    assert_within_bound(array, decoded, bits)


@given(tensors)
def test_32_bits_are_exact(array):
    codec = codec_for(feature_stream(array.shape, 32))
    assert codec.decode(codec.encode(array)).tobytes() == array.tobytes()


@given(tensors)
def test_16_bits_are_float16_and_saturate(array):
    codec = codec_for(feature_stream(array.shape, 16))
    expected = np.clip(array, -65504, 65504).astype(np.float16).astype(np.float32)
    assert np.array_equal(codec.decode(codec.encode(array)), expected)


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("outliers", [False, True])
@pytest.mark.parametrize("shape", [(257, 129), (3, 40_001), (1, 1), (65_535,)])
def test_many_blocks_and_odd_shapes(shape, bits, outliers):
    array = bell_shaped(shape, outliers=outliers)
    codec = codec_for(feature_stream(shape, bits))
    assert_within_bound(array, codec.decode(codec.encode(array)), bits)


@pytest.mark.parametrize("bits", range(1, 9))
def test_decoding_twice_changes_nothing(bits):
    """A second robot in a chain hands on what it got: its error must not add up with the first one's."""
    codec = codec_for(feature_stream((8, 128), bits))
    once = codec.decode(codec.encode(bell_shaped((8, 128))))
    twice = codec.decode(codec.encode(once))
    assert np.abs(twice - once).max() <= 1e-2 * np.ptp(once) / (2**bits - 1)


@pytest.mark.parametrize(
    ("lowest", "span", "wide"),
    [(-1, 2, False), (0.0625, 300, False), (100.03, 4, True), (0, 1e5, True), (0, 1e-7, True), (0, 1e-40, True)],
)
def test_ranges_are_sent_as_float16_where_that_costs_nothing(lowest, span, wide):
    array = np.linspace(lowest, lowest + span, 256, dtype=np.float32)[None]
    codec = codec_for(feature_stream(array.shape, 8))
    payload = codec.encode(array)
    assert bool(payload[0] & 2) == wide
    assert_within_bound(array, codec.decode(payload), 8)


def test_a_token_does_not_spoil_its_neighbours():
    array = bell_shaped((4, 128))
    array[0] *= 1e6
    codec = codec_for(feature_stream((4, 128), 8))
    assert np.abs(codec.decode(codec.encode(array)) - array)[1:].max() < 0.03


@pytest.mark.parametrize("value", [0.0, 1e-40, 0.1, -3e4, 7e7, 1e30, -1e38])
def test_a_constant_token_is_exact(value):
    array = np.full((3, 17), value, np.float32)
    codec = codec_for(feature_stream(array.shape, 1))
    assert np.array_equal(codec.decode(codec.encode(array)), array)


def test_strided_and_transposed_tensors_are_coded_alike():
    array = bell_shaped((16, 32))
    codec = codec_for(feature_stream((16, 32), 4))
    assert codec.encode(np.asfortranarray(array)) == codec.encode(array)
    assert codec.encode(np.repeat(array, 2, axis=0)[::2]) == codec.encode(array)


@pytest.mark.parametrize("bits", ALL_BITS)
def test_size_of_a_packet_from_the_shipped_model(bits):
    """8 tokens of 128 channels: never more than gapless packing, float16 ranges, one byte, and the packet's header."""
    stream = feature_stream((8, 128), bits)
    payload = codec_for(stream).encode(bell_shaped((8, 128)))
    ranges_bytes = 1 + 8 * 2 * 2 if bits <= 8 else 0
    assert len(pack(Packet(stream.stream_id, 1, payload))) <= 8 * 128 * bits // 8 + ranges_bytes + HEADER_BYTES


@pytest.mark.parametrize(("bits", "share"), [(1, 0.5), (2, 0.6), (3, 0.75), (4, 0.85), (5, 0.98)])
def test_zstd_gains_where_outliers_leave_the_rest_almost_constant(bits, share):
    payload = codec_for(feature_stream((32, 768), bits)).encode(bell_shaped((32, 768), outliers=True))
    assert len(payload) < share * 32 * 768 * bits / 8


@given(tensors, st.sampled_from(ALL_BITS), st.sampled_from([np.nan, np.inf, -np.inf]), st.data())
def test_nan_and_infinity_are_refused(array, bits, bad, data):
    array.flat[data.draw(st.integers(0, array.size - 1))] = bad
    with pytest.raises(CodecError, match=r"NaN|infinite"):
        codec_for(feature_stream(array.shape, bits)).encode(array)


@pytest.mark.parametrize("bits", [16, 32])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_are_refused_on_arrival(bits, bad):
    array = np.zeros((2, 3), np.float16 if bits == 16 else np.float32)
    array[1, 1] = bad
    with pytest.raises(CodecError, match=r"NaN or infinite"):
        codec_for(feature_stream((2, 3), bits)).decode(array.tobytes())


def test_what_no_range_can_hold_is_refused():
    array = np.array([[-3e38, 3e38]], np.float32)
    with pytest.raises(CodecError, match=r"beyond ±1e\+38"):
        codec_for(feature_stream((1, 2), 1)).encode(array)
    array = np.array([[-LARGEST, LARGEST]], np.float32)
    codec = codec_for(feature_stream((1, 2), 1))
    assert np.array_equal(codec.decode(codec.encode(array)), array)


@pytest.mark.parametrize("array", [np.zeros((8, 127), np.float32), np.zeros((8, 128), np.float64)])
def test_another_tensor_than_announced_is_refused(array):
    with pytest.raises(CodecError, match=r"takes float32 \(8, 128\), not .* new stream description"):
        codec_for(feature_stream((8, 128), 8)).encode(array)


def test_ready_for_the_model_afterwards():
    """The tensor is the caller's: writable, contiguous, and not a view of the packet."""
    for bits in ALL_BITS:
        codec = codec_for(feature_stream((8, 16), bits))
        decoded = codec.decode(memoryview(codec.encode(bell_shaped((8, 16)))))
        assert decoded.flags.writeable
        assert decoded.flags.c_contiguous


def test_nothing_is_sent_at_output():
    plan = Plan(split_point="output")
    stream = StreamDescription(wire=WIRE_VERSION, robot="robot", model_id="00", plan=plan, shape=(8, 16))
    with pytest.raises(CodecError, match="nothing is sent"):
        codec_for(stream)
