"""`Packet`: one frame on the wire, a short fixed header and the payload."""

from __future__ import annotations

import math
import struct
import zlib
from dataclasses import dataclass

from laim_ros.codec.errors import CodecError
from laim_ros.codec.stream import WIRE_VERSION, wrong_wire_version

MAGIC = b"LM"

# Little-endian: magic, wire version u8, flags u8, stream id u32, sequence u32, time on the robot in microseconds u32,
# payload length u32; then the CRC-32 u32 of these 20 bytes and the payload.
_FIELDS = struct.Struct("<2sBBIIII")
_CRC = struct.Struct("<I")
HEADER_BYTES = _FIELDS.size + _CRC.size  # 24

_UINT32_MAX = (1 << 32) - 1

PROBE = 1
"""Flag of a packet that only measures the link: its payload is random, belongs to no stream and is never decoded."""


@dataclass(frozen=True, slots=True)
class Packet:
    """One coded frame.

    Attributes:
        stream_id: `StreamDescription.stream_id` of the stream that it belongs to, u32.
        sequence: number of the frame in its stream, u32; counts modulo 2**32.
        payload: what the stream's codec made of the frame.
        flags: u8; 0 where nothing is flagged, else `PROBE`. The other bits are free for senders to come.
        robot_s: seconds that the frame took on the robot, from the arrival of the image on; to the microsecond on the
            wire, and at most 4294 s.
    """

    stream_id: int
    sequence: int
    payload: bytes
    flags: int = 0
    robot_s: float = 0.0

    @property
    def is_probe(self) -> bool:
        """Whether the packet only measures the link."""
        return bool(self.flags & PROBE)


def pack(packet: Packet) -> bytes:
    """Header and payload as bytes.

    Raises:
        CodecError: a field does not fit its place in the header.
    """
    if math.isnan(packet.robot_s):
        raise CodecError("packet: robot_s is NaN")
    robot_us = round(min(max(packet.robot_s * 1e6, 0), _UINT32_MAX))
    ids = packet.flags, packet.stream_id, packet.sequence
    try:
        fields = _FIELDS.pack(MAGIC, WIRE_VERSION, *ids, robot_us, len(packet.payload))
    except struct.error as error:
        raise CodecError(
            f"packet: flags {packet.flags} (0 to 255), stream_id {packet.stream_id}, sequence {packet.sequence} or "
            f"{len(packet.payload)} bytes of payload (0 to {_UINT32_MAX}) does not fit the header"
        ) from error
    return b"".join((fields, _CRC.pack(zlib.crc32(packet.payload, zlib.crc32(fields))), packet.payload))


def unpack(data: bytes | bytearray | memoryview) -> Packet:
    """The packet in `data`, which must hold exactly one; validated in full before the payload is copied.

    Raises:
        CodecError: too short, not ours, another wire version, wrong length, or damaged: each with its own message.
    """
    view = memoryview(data)
    if view.itemsize != 1 or not view.c_contiguous:
        raise CodecError("packet: must be contiguous bytes")
    if len(view) < HEADER_BYTES:
        raise CodecError(f"packet: too short, {len(view)} bytes where the header alone takes {HEADER_BYTES}")
    magic, wire, flags, stream_id, sequence, robot_us, payload_bytes = _FIELDS.unpack_from(view)
    if magic != MAGIC:
        raise CodecError(
            "packet: not from laim_ros (it does not start with 'LM'); does another node publish on this topic?"
        )
    if wire != WIRE_VERSION:
        raise wrong_wire_version("packet", wire)
    present = len(view) - HEADER_BYTES
    if payload_bytes != present:
        raise CodecError(
            f"packet: the header announces {payload_bytes} bytes of payload, {present} arrived (cut or extended)"
        )
    (crc,) = _CRC.unpack_from(view, _FIELDS.size)
    payload = view[HEADER_BYTES:]
    if zlib.crc32(payload, zlib.crc32(view[: _FIELDS.size])) != crc:
        raise CodecError("packet: damaged on the way (CRC-32 does not match)")
    return Packet(stream_id, sequence, bytes(payload), flags, robot_us * 1e-6)
