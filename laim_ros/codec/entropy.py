"""zstd with bounded memory: frames made so that they decode in small blocks, and checked before they are decoded."""

from __future__ import annotations

from functools import cached_property

import zstandard

from laim_ros.codec.errors import CodecError

_LEVEL = 3
"""On bell-shaped features all levels gain the same, by their Huffman stage. Where a few outliers leave the rest almost
constant, level 3 is up to 15 % smaller than level 1; level 6 wins 5 % more for two to five times the time."""

_WINDOW_LOG = 17
_WINDOW_BYTES = 1 << _WINDOW_LOG
"""How far back a frame refers, and so what a decoder holds beside its output."""

_SMALLEST_BLOCK_BYTES = 1024
"""Mean size below which blocks are not zstd's own making; bounds the walk over a hostile frame."""

_RUN, _RESERVED = 1, 3


class Zstd:
    """Compressor and decompressor, made at first use and kept from frame to frame; for one thread at a time."""

    @cached_property
    def _compressor(self) -> zstandard.ZstdCompressor:
        parameters = zstandard.ZstdCompressionParameters.from_level(_LEVEL, window_log=_WINDOW_LOG, write_dict_id=False)
        return zstandard.ZstdCompressor(compression_params=parameters)

    @cached_property
    def _decompressor(self) -> zstandard.ZstdDecompressor:
        return zstandard.ZstdDecompressor(max_window_size=_WINDOW_BYTES)

    def compress(self, data: bytes) -> bytes:
        """One frame that says how many bytes it holds."""
        return self._compressor.compress(data)

    def reader(self, frame: memoryview, content_bytes: int) -> FrameReader:
        """A reader of `frame`, once its structure and announced size have been checked; nothing is decoded yet.

        Raises:
            CodecError: not exactly one whole frame of `content_bytes` in a window of at most 128 KiB.
        """
        _check_frame(frame, content_bytes)
        return FrameReader(self._decompressor.stream_reader(frame), content_bytes)


class FrameReader:
    """The content of one frame, from front to back."""

    def __init__(self, source: zstandard.ZstdDecompressionReader, content_bytes: int) -> None:
        self._source = source
        self._left_bytes = content_bytes

    def read(self, size_bytes: int) -> bytes:
        """The next `size_bytes`, which must be there.

        Raises:
            CodecError: damaged, or another size than announced.
        """
        try:
            data = self._source.read(size_bytes)
            self._left_bytes -= len(data)
            surplus = self._source.read(1) if self._left_bytes == 0 else b""
        except zstandard.ZstdError as error:
            raise CodecError(f"features: damaged zstd frame ({error})") from error
        if len(data) != size_bytes or surplus:
            raise CodecError("features: the zstd frame holds another size than it announces")
        return data


def _check_frame(frame: memoryview, content_bytes: int) -> None:
    try:
        header = zstandard.get_frame_parameters(frame)
        position = zstandard.frame_header_size(frame)
    except zstandard.ZstdError as error:
        raise CodecError(f"features: not a zstd frame ({error})") from error
    if header.content_size != content_bytes:
        raise CodecError(
            f"features: a zstd frame of {header.content_size} bytes, where the shape takes {content_bytes}"
        )
    if header.window_size > _WINDOW_BYTES:
        raise CodecError(f"features: a zstd window of {header.window_size} bytes, at most {_WINDOW_BYTES} are allowed")
    if header.dict_id or header.has_checksum:
        raise CodecError("features: zstd frame with a dictionary or a checksum, which no encoder here writes")
    for _ in range(2 + content_bytes // _SMALLEST_BLOCK_BYTES):
        block = int.from_bytes(frame[position : position + 3], "little")
        last, kind, size_bytes = block & 1, block >> 1 & 3, block >> 3
        position += 3 + (1 if kind == _RUN else size_bytes)
        if kind == _RESERVED or position > len(frame):
            break
        if last:
            if position != len(frame):
                raise CodecError("features: data follows the zstd frame")
            return
    raise CodecError("features: the zstd frame is cut or damaged")
