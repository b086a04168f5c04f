"""Boundary tensors and pictures to bytes and back: the stream description, the packet, the codecs."""

from laim_ros.codec.calibration import SplitCalibration, find_calibrations
from laim_ros.codec.choose import Codec, Codecs, codec_for
from laim_ros.codec.errors import CodecError
from laim_ros.codec.packet import HEADER_BYTES, Packet, pack, unpack
from laim_ros.codec.stream import WIRE_VERSION, StreamDescription, json_stream_id

__all__ = [
    "HEADER_BYTES",
    "WIRE_VERSION",
    "Codec",
    "CodecError",
    "Codecs",
    "Packet",
    "SplitCalibration",
    "StreamDescription",
    "codec_for",
    "find_calibrations",
    "json_stream_id",
    "pack",
    "unpack",
]
