"""`webp_size`: what a lossy WebP would decode to, from its headers alone (RFC 9649, RFC 6386 section 9.1)."""

from __future__ import annotations

import struct

from laim_ros.codec.errors import CodecError

# RIFF, bytes that follow, WEBP; the chunk's name and bytes; frame tag of 3 bytes, start code, width, height.
_HEADER = struct.Struct("<4sI4s4sI3s3sHH")
_CHUNK_AT = 20
_START_CODE = b"\x9d\x01\x2a"
_NO_SCALING = 1 << 14  # the two bits above a side ask the player to enlarge the picture
_MAX_VERSION = 3


def webp_size(data: bytes) -> tuple[int, int]:
    """Height and width of the one picture in `data`.

    Only what our encoder writes passes: one `VP8 ` chunk with one key frame that is shown, and nothing after it. So
    there is no lossless WebP (VP8L), and nothing that needs the extended form (VP8X), such as animation, transparency
    and orientation.

    Raises:
        CodecError: anything else.
    """
    if data[:4] != b"RIFF" or data[8:12] != b"WEBP":
        raise CodecError("picture: not a WebP")
    if len(data) < _HEADER.size:
        raise CodecError("picture: the WebP's header is cut")
    _, following_bytes, _, chunk, chunk_bytes, tag, start_code, width, height = _HEADER.unpack_from(data)
    if chunk != b"VP8 ":
        raise CodecError("picture: only lossy WebP of one still picture is read (one chunk, 'VP8 ')")
    end = _CHUNK_AT + chunk_bytes
    if following_bytes != len(data) - 8 or end + end % 2 != len(data) or any(data[end:]):
        raise CodecError("picture: the WebP is cut or followed by other data")
    # Bit 0: not a key frame; bits 1 to 3: version; bit 4: shown; then 19 bits: size of the first partition.
    bits = int.from_bytes(tag, "little")
    if bits & 1 or (bits >> 1 & 7) > _MAX_VERSION or not bits >> 4 & 1 or start_code != _START_CODE:
        raise CodecError("picture: the WebP does not begin with a key frame that is shown")
    if not 0 < bits >> 5 < chunk_bytes - (_HEADER.size - _CHUNK_AT):
        raise CodecError("picture: the WebP's first partition does not lie within its frame")
    if width >= _NO_SCALING or height >= _NO_SCALING:
        raise CodecError("picture: the WebP asks to be enlarged")
    return height, width
