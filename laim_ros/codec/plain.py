"""`PlainCodec`: features by per-token uniform quantization, bit packing and zstd; or as floats.

Payload at 1–8 bits (little-endian):

    form       u8         bit 0: the values are one zstd frame; bit 1: the ranges are float32, else float16
    ranges     2 × tokens the lowest value of every token, then the highest
    values                levels 0 … 2**bits − 1, row by row: packed without gaps, or one per byte inside a zstd frame

Payload at 16 and 32 bits: the elements themselves, little-endian IEEE 754.

A token is one row of the last axis. Its levels are spread evenly between its lowest and its highest value, as sent:
step = (highest − lowest) / (2**bits − 1), and |x − x̂| ≤ step/2 + 2**-20 · max(|lowest|, |highest|) (the last term is float32
arithmetic). Ranges are sent as float16, rounded outwards, unless that would widen some token's range by more than 1 %.

zstd sees one value per byte: its Huffman stage then codes each value near its entropy, which for the bell-shaped values of
features is below b bits for every b; packed 3-, 5-, 6- and 7-bit values straddle bytes and would not compress at all.
"""

from __future__ import annotations

import math

import numpy as np
import zstandard

from laim_ros.codec.bitpack import pack_bits, packed_bytes, unpack_bits
from laim_ros.codec.errors import CodecError
from laim_ros.codec.stream import StreamDescription

LARGEST = 1e38
"""Largest magnitude that 1–8 bits take: beyond, a range would overflow float32."""

_FLOAT16_MAX = 65504.0
_ZSTD, _WIDE = 1, 2
_ZSTD_LEVEL = 1
_WINDOW_LOG = 17
_WINDOW_BYTES = 1 << _WINDOW_LOG
"""Bound on zstd's window, so that decoding in blocks holds no more than that beside the tensor."""
_BLOCK_VALUES = 1 << 15
"""Values worked on at once: small enough for every pass to stay in the L2 cache."""
_SMALLEST_RANGE = 2.0**-110
"""Narrower ranges are widened to this, so that 1/step stays finite in float32."""


class PlainCodec:
    """float32 tensors of one stream to bytes and back.

    Not for use by two threads at once (the zstd contexts are reused); make one per thread, it is cheap.
    """

    name = "plain"

    def __init__(self, stream: StreamDescription) -> None:
        """Codec for `stream`, whose plan must send features."""
        self.shape = stream.shape
        self.bits = int(stream.plan.feature_bits)
        self._elements = math.prod(stream.shape)
        self._channels = stream.shape[-1]
        self._tokens = self._elements // self._channels
        # Blocks of a multiple of 8 rows begin on a byte boundary, whatever the number of channels.
        self._block_rows = 8 * max(1, _BLOCK_VALUES // (8 * self._channels))
        if self.bits <= 8:
            parameters = zstandard.ZstdCompressionParameters.from_level(
                _ZSTD_LEVEL, window_log=_WINDOW_LOG, write_checksum=False, write_dict_id=False
            )
            self._compressor = zstandard.ZstdCompressor(compression_params=parameters)
            self._decompressor = zstandard.ZstdDecompressor(max_window_size=_WINDOW_BYTES)

    def encode(self, array: np.ndarray) -> bytes:
        """Code one frame.

        Args:
            array: the stream's shape, float32.

        Returns:
            At most 1 + 8·tokens + elements·bits/8 bytes (rounded up); exactly elements·bits/8 at 16 and 32 bits. At 16 bits,
            values beyond ±65504 become ±65504.

        Raises:
            CodecError: wrong shape or dtype; a NaN or infinity; at 1–8 bits a magnitude above 1e38.
        """
        if array.shape != self.shape or array.dtype != np.float32:
            raise CodecError(
                f"features: the stream takes float32 {self.shape}, not {array.dtype} {array.shape}; "
                f"a changed shape needs a new stream description"
            )
        rows = np.ascontiguousarray(array).reshape(self._tokens, self._channels)
        if self.bits <= 8:
            return self._encode_levels(rows)
        lowest, highest = _finite_range(rows, "features to encode")
        if self.bits == 16 and max(-lowest, highest) > _FLOAT16_MAX:
            rows = np.clip(rows, -_FLOAT16_MAX, _FLOAT16_MAX)
        return rows.astype("<f2" if self.bits == 16 else "<f4", copy=False).tobytes()

    def decode(self, payload: bytes | memoryview) -> np.ndarray:
        """Decode one frame; allocates the tensor and at most a few hundred KiB (or 64 rows of it) besides.

        Returns:
            A new array of the stream's shape, float32, finite.

        Raises:
            CodecError: the payload is not one of this stream.
        """
        if self.bits <= 8:
            return self._decode_levels(memoryview(payload))
        expected = self._elements * self.bits // 8
        if len(payload) != expected:
            raise CodecError(
                f"features: payload of {len(payload)} bytes, {self.shape} at {self.bits} bits takes {expected}"
            )
        array = np.frombuffer(payload, "<f2" if self.bits == 16 else "<f4").astype(np.float32).reshape(self.shape)
        _finite_range(array, "decoded features")
        return array

    def _encode_levels(self, rows: np.ndarray) -> bytes:
        lowest, highest = rows.min(axis=1), rows.max(axis=1)
        # NaN and infinity show in these, so that the tensor needs no pass of its own; NaN fails the comparison.
        if not max(-lowest.min(), highest.max()) <= LARGEST:
            raise CodecError(f"features to encode: NaN, infinite, or beyond ±{LARGEST:g}")
        form, ranges = _pack_ranges(lowest, highest)
        lowest, step = _grid(*ranges, self.bits)
        with np.errstate(divide="ignore"):
            scale = np.where(step > 0, 1 / step, 0).astype(np.float32)
        levels = np.empty(rows.shape, np.uint8)
        scratch = np.empty((min(self._block_rows, self._tokens), self._channels), np.float32)
        for block in self._blocks():
            scaled = np.subtract(rows[block], lowest[block], out=scratch[: block.stop - block.start])
            scaled *= scale[block]
            scaled += 0.5
            levels[block] = scaled  # truncates: with the half added, rounds to the nearest level
        ranges = b"".join(ends.tobytes() for ends in ranges)
        frame = self._compressor.compress(levels)
        if len(frame) < packed_bytes(self._elements, self.bits):
            return b"".join((bytes([form | _ZSTD]), ranges, frame))
        return b"".join((bytes([form]), ranges, pack_bits(levels.reshape(-1), self.bits)))

    def _decode_levels(self, payload: memoryview) -> np.ndarray:
        form = payload[0] if len(payload) else 0
        if form & ~(_ZSTD | _WIDE):
            raise CodecError(f"features: unknown form {form} of payload")
        dtype = np.dtype("<f4" if form & _WIDE else "<f2")
        ranges_end = 1 + 2 * self._tokens * dtype.itemsize
        if len(payload) < ranges_end:
            raise CodecError(f"features: payload of {len(payload)} bytes ends before its {self._tokens} ranges")
        ends = np.frombuffer(payload[1:ranges_end], dtype).reshape(2, self._tokens)
        if not (np.abs(ends, dtype=np.float32).max() <= LARGEST and (ends[0] <= ends[1]).all()):
            raise CodecError("features: payload holds a range that is infinite, NaN or upside down")
        lowest, step = _grid(ends[0], ends[1], self.bits)
        values = payload[ranges_end:]
        read = self._zstd_reader(values) if form & _ZSTD else self._packed_reader(values)
        array = np.empty((self._tokens, self._channels), np.float32)
        for block in self._blocks():
            out = array[block]
            np.multiply(read(out.size).reshape(out.shape), step[block], out=out)
            out += lowest[block]
        return array.reshape(self.shape)

    def _packed_reader(self, values: memoryview):
        """A function that returns the next n levels; n times bits is a multiple of 8, except at the end."""
        expected = packed_bytes(self._elements, self.bits)
        if len(values) != expected:
            raise CodecError(
                f"features: {len(values)} bytes of values, {self.shape} at {self.bits} bits takes {expected}"
            )
        position = 0

        def read(count: int) -> np.ndarray:
            nonlocal position
            start, position = position, position + packed_bytes(count, self.bits)
            return unpack_bits(values[start:position], self.bits, count)

        return read

    def _zstd_reader(self, frame: memoryview):
        """A function that returns the next n levels of a zstd frame, whose size is checked before anything is allocated."""
        try:
            header = zstandard.get_frame_parameters(frame)
            if header.content_size != self._elements or header.window_size > max(_WINDOW_BYTES, 0):
                raise CodecError(
                    f"features: the zstd frame announces {header.content_size} values in a window of {header.window_size}, "
                    f"{self.shape} has {self._elements} and the window is at most {_WINDOW_BYTES}"
                )
            if len(frame) >= packed_bytes(self._elements, self.bits):
                raise CodecError("features: the zstd frame is longer than plain packing")
        except zstandard.ZstdError as error:
            raise CodecError(f"features: not a zstd frame ({error})") from error
        source = self._decompressor.stream_reader(frame, read_across_frames=False)
        buffer = np.empty(min(self._elements, self._block_rows * self._channels), np.uint8)
        top = (1 << self.bits) - 1
        left = self._elements

        def read(count: int) -> np.ndarray:
            nonlocal left
            levels = buffer[:count]
            filled = 0
            try:
                while filled < count:
                    got = source.readinto(levels[filled:])
                    if got == 0:
                        raise CodecError("features: the zstd frame is cut")
                    filled += got
            except zstandard.ZstdError as error:
                raise CodecError(f"features: damaged zstd frame ({error})") from error
            if levels.max() > top:
                raise CodecError(f"features: a value is above {top}, the highest level of {self.bits} bits")
            left -= count
            return levels

        return read

    def _blocks(self):
        for start in range(0, self._tokens, self._block_rows):
            yield slice(start, min(start + self._block_rows, self._tokens))


def _finite_range(array: np.ndarray, what: str) -> tuple[float, float]:
    """Lowest and highest value; without the mask that isfinite would allocate."""
    lowest, highest = float(array.min()), float(array.max())
    if not (math.isfinite(lowest) and math.isfinite(highest)):
        raise CodecError(f"{what}: NaN or infinite")
    return lowest, highest


def _pack_ranges(lowest: np.ndarray, highest: np.ndarray) -> tuple[int, tuple[np.ndarray, np.ndarray]]:
    """The ranges as they will be sent, never narrower than given, and the bit for the payload's form."""
    span = highest.astype(np.float64) - lowest
    with np.errstate(over="ignore"):
        low16, high16 = lowest.astype("<f2"), highest.astype("<f2")
        low16 = np.where(low16 > lowest, np.nextafter(low16, np.float16(-np.inf)), low16)
        high16 = np.where(high16 < highest, np.nextafter(high16, np.float16(np.inf)), high16)
        if (high16.astype(np.float64) - low16 <= 1.01 * span).all():  # an overflow to infinity fails this too
            return 0, (low16, high16)
    narrow = (span > 0) & (span < _SMALLEST_RANGE)
    if narrow.any():
        highest = np.where(narrow, lowest + np.float32(_SMALLEST_RANGE), highest)
    return _WIDE, (lowest.astype("<f4"), highest.astype("<f4"))


def _grid(lowest: np.ndarray, highest: np.ndarray, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """Columns of the lowest value and of the step, float32, from ranges as sent: the same on both sides."""
    step = (highest.astype(np.float64) - lowest) / ((1 << bits) - 1)
    return lowest.astype(np.float32)[:, None], step.astype(np.float32)[:, None]
