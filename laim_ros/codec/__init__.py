"""Boundary tensors and pictures to bytes and back: the stream description, the packet, the codecs."""

from laim_ros.codec.choose import Codec, codec_for
from laim_ros.codec.errors import CodecError
from laim_ros.codec.packet import HEADER_BYTES, Packet, pack, unpack
from laim_ros.codec.stream import WIRE_VERSION, StreamDescription, json_stream_id

__all__ = [
    "HEADER_BYTES",
    "WIRE_VERSION",
    "Codec",
    "CodecError",
    "Packet",
    "StreamDescription",
    "codec_for",
    "json_stream_id",
    "pack",
    "unpack",
]
