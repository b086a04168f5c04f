"""The packet: round trip, and one clear message for each way to be broken."""

import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laim_ros.codec import HEADER_BYTES, WIRE_VERSION, CodecError, Packet, pack, unpack
from laim_ros.codec.packet import PROBE

uint32 = st.integers(0, 2**32 - 1)
packets = st.builds(
    Packet,
    stream_id=uint32,
    sequence=uint32,
    payload=st.binary(max_size=300),
    flags=st.integers(0, 255),
    robot_s=uint32.map(lambda microseconds: microseconds * 1e-6),
)
GOOD = pack(Packet(stream_id=0xDEADBEEF, sequence=7, payload=b"features" * 10))


def sealed(data: bytes) -> bytes:
    """`data` with the CRC that belongs to it: what a sender with other ideas, not a bad link, would send."""
    crc = zlib.crc32(data[HEADER_BYTES:], zlib.crc32(data[: HEADER_BYTES - 4]))
    return data[: HEADER_BYTES - 4] + struct.pack("<I", crc) + data[HEADER_BYTES:]


@given(packets)
def test_comes_back_equal(packet):
    data = pack(packet)
    assert len(data) == HEADER_BYTES + len(packet.payload)
    for form in (data, bytearray(data), memoryview(data)):
        assert unpack(form) == packet
    assert type(unpack(memoryview(data)).payload) is bytes


@pytest.mark.parametrize(("flags", "is_probe"), [(0, False), (PROBE, True), (PROBE | 0x80, True), (0x80, False)])
def test_a_flag_marks_what_only_measures_the_link(flags, is_probe):
    packet = unpack(pack(Packet(stream_id=0, sequence=7, payload=b"random", flags=flags)))
    assert packet.is_probe is is_probe


def test_the_header_is_small():
    assert HEADER_BYTES <= 24


def test_the_payload_outlives_the_buffer_it_came_in():
    buffer = bytearray(GOOD)
    packet = unpack(buffer)
    buffer[:] = bytes(len(buffer))
    assert packet.payload == b"features" * 10


@pytest.mark.parametrize("robot_s", [-1.0, 1e9, float("inf")])
def test_a_time_that_the_header_cannot_hold_is_clamped(robot_s):
    assert unpack(pack(Packet(1, 2, b"", robot_s=robot_s))).robot_s == pytest.approx(min(max(robot_s, 0), 4294.967295))


@pytest.mark.parametrize(
    "fields", [{"stream_id": -1}, {"stream_id": 2**32}, {"sequence": 2**32}, {"flags": 256}, {"robot_s": float("nan")}]
)
def test_what_does_not_fit_the_header_is_refused(fields):
    with pytest.raises(CodecError, match=r"does not fit|NaN"):
        pack(Packet(**({"stream_id": 1, "sequence": 2, "payload": b""} | fields)))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "too short, 0 bytes"),
        (GOOD[: HEADER_BYTES - 1], "too short, 23 bytes"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "not from laim_ros"),
        (
            GOOD[:2] + bytes([WIRE_VERSION + 1]) + GOOD[3:],
            rf"wire version {WIRE_VERSION + 1}, this side speaks {WIRE_VERSION}; update .*\(this side\)",
        ),
        (GOOD[:2] + b"\0" + GOOD[3:], rf"wire version 0, this side speaks {WIRE_VERSION}; update .*\(the sender\)"),
        (GOOD[:-1], "announces 80 bytes of payload, 79 arrived"),
        (GOOD + b"\0", "announces 80 bytes of payload, 81 arrived"),
        (GOOD[:16] + b"\xff\xff\xff\xff" + GOOD[20:], "announces 4294967295 bytes"),
        (GOOD[:-1] + b"\0", "damaged"),
        (GOOD[:4] + b"\0" + GOOD[5:], "damaged"),
        (memoryview(GOOD)[::2], "contiguous"),
    ],
)
def test_each_way_to_be_broken_has_its_message(data, message):
    with pytest.raises(CodecError, match=message):
        unpack(data)


@given(st.integers(0, 8 * len(GOOD) - 1))
def test_any_flipped_bit_is_noticed(position):
    data = bytearray(GOOD)
    data[position // 8] ^= 1 << position % 8
    with pytest.raises(CodecError):
        unpack(data)


@given(st.binary(max_size=200))
def test_any_bytes_are_refused(data):
    with pytest.raises(CodecError):
        unpack(data)


@given(st.integers(HEADER_BYTES - 4, 0xFFFF), st.binary(max_size=40))
def test_the_length_must_be_true_even_under_a_true_crc(announced, payload):
    data = sealed(GOOD[:16] + struct.pack("<I", announced + 41) + bytes(4) + payload)
    with pytest.raises(CodecError, match="announces"):
        unpack(data)
