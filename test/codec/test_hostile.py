"""Bytes that someone made up: only ever a CodecError, and never a large allocation."""

import os
import random
import subprocess
import sys
import tracemalloc
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import zstandard
from codec_streams import ALL_BITS, bell_shaped, feature_stream, klt_stream, photograph, picture_stream
from made_calibration import bell_shaped_calibration
from mutation import mutated

from laim_ros.codec import HEADER_BYTES, CodecError, Packet, codec_for, pack, unpack
from laim_ros.codec.bitpack import packed_bytes

BESIDE_THE_TENSOR_BYTES = 2 * 1024 * 1024
CALIBRATIONS = {made.digest: made for made in map(bell_shaped_calibration, ((4, 32), (16, 256)))}
STREAMS = [
    *(feature_stream((8, 128), bits) for bits in ALL_BITS),
    *(feature_stream((3, 5, 7), bits) for bits in ALL_BITS),
    feature_stream((64, 2048), 3),
    feature_stream((64, 2048), 6),
    picture_stream(64, 96),
    *(
        klt_stream(made, (made.mean.size // 64, 64), bits=bits)
        for made, bits in zip(CALIBRATIONS.values(), (8, 2), strict=True)
    ),
]


@cache
def codec_of(stream):
    return codec_for(stream, CALIBRATIONS.get(stream.calibration))


def frame_of(stream):
    return photograph(*stream.shape[:2]) if stream.plan.sends_picture else bell_shaped(stream.shape, outliers=True)


def tensor_bytes(stream):
    return int(np.prod(stream.shape)) * (1 if stream.plan.sends_picture else 4)


def decode_or_refuse(stream, payload):
    """True if the payload decoded; whatever it decoded to has the shape and is finite."""
    try:
        array = codec_of(stream).decode(payload)
    except CodecError:
        return False
    assert array.shape == stream.shape
    assert np.isfinite(array).all()
    return True


def peak_bytes(call):
    tracemalloc.start()
    try:
        result = call()
        return tracemalloc.get_traced_memory()[1], result
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("seed", range(6))
def test_mutated_packets_are_refused(seed):
    """Under the CRC, a mutation that changes anything must not pass."""
    dice = random.Random(seed)
    for stream in STREAMS:
        good = pack(Packet(stream.stream_id, 3, codec_of(stream).encode(frame_of(stream))))
        assert unpack(good).payload
        for _ in range(40):
            bad = mutated(good, dice)
            with pytest.raises(CodecError):
                unpack(bad)


@pytest.mark.parametrize(
    "stream", STREAMS, ids=lambda stream: f"{stream.plan.codec}-{stream.plan.feature_bits}-{stream.shape}"
)
def test_mutated_payloads_are_refused_or_decode_to_something_finite(stream):
    """What a hostile sender can do, whose CRC is right: at worst the wrong values, of the right shape."""
    dice = random.Random(1)
    good = codec_of(stream).encode(frame_of(stream))
    assert decode_or_refuse(stream, good)
    payloads = [mutated(good, dice) for _ in range(150)]
    peak, outcomes = peak_bytes(lambda: [decode_or_refuse(stream, payload) for payload in payloads])
    assert not all(outcomes)
    assert peak < 2 * tensor_bytes(stream) + BESIDE_THE_TENSOR_BYTES  # isfinite in the check above takes its share


@pytest.mark.parametrize(
    "stream",
    [stream for stream in STREAMS if stream.plan.codec != "klt"],  # most bytes are some frame's: the header has the CRC
    ids=lambda stream: f"{stream.plan.codec}-{stream.plan.feature_bits}-{stream.shape}",
)
def test_a_payload_that_is_cut_or_extended_is_refused(stream):
    good = codec_of(stream).encode(frame_of(stream))
    for bad in (good[:-1], good[: len(good) // 2], good[:1], b"", good + b"\0", good + good):
        assert not decode_or_refuse(stream, bad)


@pytest.mark.parametrize("bits", ALL_BITS)
def test_decoding_takes_the_tensor_and_little_more(bits):
    stream = feature_stream((1024, 4096), bits)
    for array in (bell_shaped(stream.shape), bell_shaped(stream.shape, outliers=True)):
        payload, codec = codec_for(stream).encode(array), codec_for(stream)
        peak, _ = peak_bytes(lambda payload=payload, codec=codec: codec.decode(payload))
        assert peak < tensor_bytes(stream) + BESIDE_THE_TENSOR_BYTES


def payload_with(frame, tokens=8, form=1):
    return bytes([form]) + np.zeros((2, tokens), "<f2").tobytes() + frame


def frame_announcing(size_bytes, window_log=None):
    """A short zstd frame that claims to hold `size_bytes`; with a window of its own if told."""
    if window_log is None:
        return b"\x28\xb5\x2f\xfd\xe0" + size_bytes.to_bytes(8, "little") + b"\x01\x00\x00"
    return (
        b"\x28\xb5\x2f\xfd\xc0" + bytes([(window_log - 10) << 3]) + size_bytes.to_bytes(8, "little") + b"\x01\x00\x00"
    )


def zstd_frame(data, **parameters):
    parameters = zstandard.ZstdCompressionParameters(**parameters)
    return zstandard.ZstdCompressor(compression_params=parameters).compress(data)


BOMB = zstandard.ZstdCompressor().compress(bytes(10_000_000))
BLOCKS_OF_NOTHING = frame_announcing(512)[:-3] + b"\x00\x00\x00" * 200 + b"\x01\x00\x00"
LONGER_THAN_IT_SAYS = frame_announcing(512)[:-3] + (((100_000 << 3) | 0b011).to_bytes(3, "little")) + b"\x07"
SHORTER_THAN_IT_SAYS = frame_announcing(512)[:-3] + (((100 << 3) | 0b011).to_bytes(3, "little")) + b"\x07"


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (BOMB[:400], "frame of 10000000 bytes, where the shape takes 512"),
        (frame_announcing(2**63), "frame of 9223372036854775808 bytes"),
        (frame_announcing(512, window_log=31), "window of 2147483648 bytes"),
        (frame_announcing(512), "another size|damaged"),
        (LONGER_THAN_IT_SAYS, "another size|damaged"),
        (SHORTER_THAN_IT_SAYS, "another size|damaged"),
        (BLOCKS_OF_NOTHING[:511], "cut or damaged"),
        (zstd_frame(bytes(512), write_content_size=0), "where the shape takes 512"),
        (zstd_frame(bytes(512), write_checksum=1), "checksum"),
        (zstd_frame(bytes(512)) * 2, "data follows"),
        (zstd_frame(bytes(512))[:-1], "cut or damaged"),
        (frame_announcing(512)[:-3] + (512 << 3 | 1).to_bytes(3, "little") + bytes(512), "where packing takes 512"),
        (b"not zstd at all", "not a zstd frame"),
        (b"", "not a zstd frame"),
    ],
)
def test_zstd_frames_of_other_making_are_refused(frame, message):
    codec = codec_for(feature_stream((8, 128), 4))

    def attempt():
        with pytest.raises(CodecError, match=message):
            codec.decode(payload_with(frame))

    peak, _ = peak_bytes(attempt)
    assert peak < 1_000_000


def test_a_bomb_that_fits_its_stream_is_still_within_the_tensor():
    """A huge shape is a huge tensor: the stream's bound on elements is what limits it."""
    stream = feature_stream((4096, 4096), 8)
    payload = payload_with(zstd_frame(bytes(4096 * 4096), window_log=17), tokens=4096)
    assert len(payload) < 20_000
    peak, _ = peak_bytes(lambda: codec_for(stream).decode(payload))
    assert peak < tensor_bytes(stream) + BESIDE_THE_TENSOR_BYTES


@pytest.mark.parametrize(
    ("ranges", "message"),
    [
        ([[0, np.nan], [1, 1]], "range is infinite, NaN or upside down"),
        ([[0, 0], [1, np.inf]], "range is infinite, NaN or upside down"),
        ([[-np.inf, 0], [1, 1]], "range is infinite, NaN or upside down"),
        ([[0, 2], [1, 1]], "range is infinite, NaN or upside down"),
        ([[0, -3e38], [1, 3e38]], "range is infinite, NaN or upside down"),
    ],
)
def test_impossible_ranges_are_refused(ranges, message):
    codec = codec_for(feature_stream((2, 8), 8))
    with pytest.raises(CodecError, match=message):
        codec.decode(b"\x02" + np.array(ranges, "<f4").tobytes() + bytes(16))


@pytest.mark.parametrize("bits", [3, 5, 6, 7])
def test_levels_above_the_top_are_refused(bits):
    codec = codec_for(feature_stream((8, 128), bits))
    values = np.full(packed_bytes(1024, 4 if bits == 3 else 8), 0xFF, np.uint8).tobytes()
    with pytest.raises(CodecError, match=f"above {2**bits - 1}, the highest of {bits} bits"):
        codec.decode(payload_with(zstd_frame(values)))


def test_an_unknown_form_is_refused():
    codec = codec_for(feature_stream((8, 128), 4))
    with pytest.raises(CodecError, match="unknown form 4"):
        codec.decode(payload_with(bytes(512), form=4))


def test_a_packet_of_another_stream_is_refused_by_its_size():
    payload = codec_for(feature_stream((8, 128), 8)).encode(bell_shaped((8, 128)))
    for shape in ((8, 127), (9, 128), (128, 8), (1, 1)):
        assert not decode_or_refuse(feature_stream(shape, 8), payload)


def test_the_header_adds_nothing_to_a_lie():
    with pytest.raises(CodecError, match="announces"):
        unpack(pack(Packet(1, 2, bytes(10)))[:HEADER_BYTES])


WITHIN_ITS_MEMORY = """
import resource, sys
sys.path.insert(0, sys.argv[1])
import test_hostile as hostile

features, pictures = hostile.feature_stream((8, 128), 4), hostile.picture_stream(64, 96)
good_picture = hostile.codec_for(pictures).encode(hostile.frame_of(pictures))
size = good_picture.index(b"\\xff\\xc0") + 5
attacks = [
    (features, hostile.payload_with(frame))
    for frame in (
        hostile.BOMB[:400],
        hostile.frame_announcing(2**40),
        hostile.frame_announcing(512, window_log=27),
        hostile.frame_announcing(512, window_log=17),
        hostile.LONGER_THAN_IT_SAYS,
    )
]
attacks.append((pictures, good_picture[:size] + b"\\xff\\xff\\xff\\xff" + good_picture[size + 4 :]))
for stream in (features, pictures):  # what is loaded at first use does not count
    assert hostile.decode_or_refuse(stream, hostile.codec_for(stream).encode(hostile.frame_of(stream)))
hostile.decode_or_refuse(*attacks[-2])

with open("/proc/self/statm") as file:
    used_bytes = int(file.read().split()[0]) * resource.getpagesize()
limit_bytes = used_bytes + 8 * 1024 * 1024
resource.setrlimit(resource.RLIMIT_AS, (limit_bytes, limit_bytes))
try:
    bytearray(16 * 1024 * 1024)
    sys.exit("the limit does not work")
except MemoryError:
    pass
assert not any(hostile.decode_or_refuse(*attack) for attack in attacks)
print("refused", len(attacks))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc, sets RLIMIT_AS")
def test_attacks_are_refused_within_8_mib_of_address_space():
    """tracemalloc sees Python's and NumPy's memory only; this limit holds for zstd's and OpenCV's own, too."""
    here = Path(__file__).parent
    environment = os.environ | {"PYTHONPATH": str(here.parents[1]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", WITHIN_ITS_MEMORY, str(here)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout == "refused 6\n", done.stderr
