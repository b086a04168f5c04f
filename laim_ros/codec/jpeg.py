"""`jpeg_size`: what a JPEG would decode to, from its markers alone."""

from __future__ import annotations

import re

from laim_ros.codec.errors import CodecError

_START, _END = b"\xff\xd8", b"\xff\xd9"
_BASELINE, _SCAN = 0xC0, 0xDA
_OTHER_FRAMES = frozenset(range(0xC1, 0xD0)) - {0xC4, 0xC8, 0xCC}  # C4 and CC are tables, C8 is reserved
_MAX_SEGMENTS = 64
_FRAME_BYTES = 17  # length, precision, height, width, 3 components of 3 bytes
_SCAN_BYTES = 12  # length, 3 components of 2 bytes, 3 bytes that baseline does not use
_MARKER_AFTER_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7]", re.DOTALL)  # anything but a stuffed 255 or a restart marker


def jpeg_size(data: bytes) -> tuple[int, int]:
    """Height and width of the one picture in `data`.

    OpenCV reads any picture format, and decoders allocate what the header claims. So only what our encoder writes
    passes: marker after marker without a gap, baseline, 8 bits, three components in one scan that ends with the data.
    (Each further scan would make the decoder go over the whole picture again, for a dozen bytes.) A camera's own JPEG
    is of that kind, too.

    Raises:
        CodecError: anything else.
    """
    if data[:2] != _START:
        raise CodecError("picture: not a JPEG")
    position, size = 2, None
    for _ in range(_MAX_SEGMENTS):
        if position + 4 > len(data) or data[position] != 0xFF:
            break
        marker = data[position + 1]
        length = int.from_bytes(data[position + 2 : position + 4], "big")
        segment = data[position + 2 : position + 2 + length]
        if length < 2 or len(segment) < length:
            break
        position += 2 + length
        if marker == _SCAN:
            if size is None:
                break
            if length != _SCAN_BYTES or segment[2] != 3:
                raise CodecError("picture: only JPEG with one scan of three components is read")
            _check_end(data, position)
            return size
        if marker in _OTHER_FRAMES:
            raise CodecError("picture: only baseline JPEG is read")
        if marker == _BASELINE:
            if size is not None or length != _FRAME_BYTES or segment[2] != 8 or segment[7] != 3:
                raise CodecError("picture: only JPEG with one frame of three 8-bit components is read")
            size = int.from_bytes(segment[3:5], "big"), int.from_bytes(segment[5:7], "big")
    raise CodecError("picture: the JPEG's header is cut or damaged")


def _check_end(data: bytes, position: int) -> None:
    marker = _MARKER_AFTER_SCAN.search(data, position)
    if marker is None or marker[0] != _END or marker.end() != len(data):
        raise CodecError("picture: the JPEG is cut or followed by other data (no end marker at its end)")
