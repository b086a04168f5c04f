"""`PlainCodec`: features by per-token uniform quantization, bit packing and zstd; or as floats.

Payload at 1–8 bits (little-endian):

    form       u8            bit 0: the values are one zstd frame; bit 1: the ranges are float32, else float16
    ranges     2 × tokens    the lowest value of every token, then the highest of every token
    values                   levels 0 … 2**bits − 1, row by row, packed without gaps; inside a zstd frame 3-bit values
                             take 4 bits and 5- to 7-bit values a byte

Payload at 16 and 32 bits: the elements themselves, little-endian IEEE 754.

A token is one row of the last axis. Its levels are spread evenly between its lowest and its highest value, as sent:
step = (highest − lowest) / (2**bits − 1), and |x − x̂| ≤ step/2 + 2**-20 · max(|lowest|, |highest|), where the second
term is what float32 arithmetic may add. Ranges are sent as float16, rounded outwards, unless that would widen a
token's range by more than 1 % (a token far from zero, constant, tiny, or beyond float16).

zstd sees whole values in a byte: its Huffman stage then codes them near their entropy, which for the bell-shaped values
of features is below b bits; values that straddle bytes would not compress at all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np

from laim_ros.codec.bitpack import pack_bits, packed_bytes, unpack_bits
from laim_ros.codec.entropy import Zstd
from laim_ros.codec.errors import CodecError
from laim_ros.codec.stream import StreamDescription

LARGEST = 1e38
"""Largest magnitude that 1–8 bits take: beyond, a range would overflow float32."""

_FLOAT16_MAX = 65504.0
_FORM_ZSTD, _FORM_WIDE = 1, 2
_WIDENING = 1.01
_SMALLEST_RANGE = 2.0**-110
"""Narrower ranges are widened to this, so that 1/step stays finite in float32."""
_BLOCK_VALUES = 1 << 15
"""Values worked on at once: few enough for every pass over them to stay in the processor's cache."""


class PlainCodec:
    """float32 tensors of one stream to bytes and back.

    Not for two threads at once (the zstd contexts are reused); make one for each, it is cheap.
    """

    name = "plain"

    def __init__(self, stream: StreamDescription) -> None:
        """Codec for `stream`, whose plan must send features."""
        self.shape = stream.shape
        self.bits = int(stream.plan.feature_bits)
        self._elements = math.prod(stream.shape)
        self._channels = stream.shape[-1]
        self._tokens = self._elements // self._channels
        # Blocks of a multiple of 8 rows begin on a whole byte, whatever the number of channels.
        self._block_rows = 8 * max(1, _BLOCK_VALUES // (8 * self._channels))
        self._zstd = Zstd()
        self._zstd_bits = 8 // (8 // self.bits) if self.bits <= 8 else 0

    def encode(self, array: np.ndarray, most_bytes: int = 0) -> bytes:
        """Code one frame.

        Args:
            array: the stream's shape, float32.
            most_bytes: of the payload, which this codec cannot make smaller; 0 for no limit.

        Returns:
            At 1–8 bits at most 1 + 8·tokens + ⌈elements·bits/8⌉ bytes, at 16 and 32 bits exactly elements·bits/8. At 16
            bits, values beyond ±65504 become ±65504.

        Raises:
            CodecError: wrong shape or dtype; a NaN or infinity; at 1–8 bits a magnitude above 1e38; more bytes than
                allowed.
        """
        payload = self._encoded(array)
        if most_bytes and len(payload) > most_bytes:
            raise CodecError(
                f"features: {len(payload)} bytes where {most_bytes} are allowed, and codec plain has no coarser step: "
                "take fewer feature_bits, or codec klt"
            )
        return payload

    def _encoded(self, array: np.ndarray) -> bytes:
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
        """Decode one frame.

        All sizes are checked before anything is allocated: then the tensor and, beside it, no more than 2 MiB (or eight
        bytes for each element of 8 rows, where that is more).

        Returns:
            A new array of the stream's shape, float32, finite.

        Raises:
            CodecError: the payload is not one of this stream.
        """
        if self.bits <= 8:
            return self._decode_levels(memoryview(payload))
        expected = self._elements * self.bits // 8
        if len(payload) != expected:
            raise CodecError(f"features: {len(payload)} bytes, {self.shape} at {self.bits} bits takes {expected}")
        array = np.frombuffer(payload, "<f2" if self.bits == 16 else "<f4").astype(np.float32).reshape(self.shape)
        _finite_range(array, "decoded features")
        return array

    def _encode_levels(self, rows: np.ndarray) -> bytes:
        lowest, highest = rows.min(axis=1), rows.max(axis=1)
        # NaN and infinity show in these, so that the tensor needs no pass of its own; NaN fails the comparison.
        if not max(-lowest.min(), highest.max()) <= LARGEST:
            raise CodecError(f"features to encode: NaN, infinite, or beyond ±{LARGEST:g}")
        form, ranges = _ranges_to_send(lowest, highest)
        lowest, step = _grid(ranges, self.bits)
        per_step = np.divide(1, step, out=np.zeros_like(step), where=step > 0)
        levels = np.empty(rows.shape, np.uint8)
        scratch = np.empty((min(self._block_rows, self._tokens), self._channels), np.float32)
        for block in self._blocks():
            scaled = np.subtract(rows[block], lowest[block], out=scratch[: block.stop - block.start])
            scaled *= per_step[block]
            scaled += 0.5
            levels[block] = scaled  # truncates; with the half added, to the nearest level
        levels = levels.reshape(-1)
        values = pack_bits(levels, self._zstd_bits)
        frame = self._zstd.compress(values)
        if len(frame) < packed_bytes(self._elements, self.bits):
            form, values = form | _FORM_ZSTD, frame
        elif self._zstd_bits != self.bits:
            values = pack_bits(levels, self.bits)
        return b"".join((bytes([form]), ranges.tobytes(), values))

    def _decode_levels(self, payload: memoryview) -> np.ndarray:
        form = payload[0] if len(payload) else 0
        if form & ~(_FORM_ZSTD | _FORM_WIDE):
            raise CodecError(f"features: unknown form {form} of payload")
        dtype = np.dtype("<f4" if form & _FORM_WIDE else "<f2")
        values_start = 1 + 2 * self._tokens * dtype.itemsize
        if len(payload) < values_start:
            raise CodecError(f"features: {len(payload)} bytes, the ranges of {self._tokens} tokens alone take more")
        ranges = np.frombuffer(payload[1:values_start], dtype).reshape(2, self._tokens)
        if not (max(-float(ranges[0].min()), float(ranges[1].max())) <= LARGEST and (ranges[0] <= ranges[1]).all()):
            raise CodecError("features: a token's range is infinite, NaN or upside down")
        read, bits = self._values_reader(payload[values_start:], bool(form & _FORM_ZSTD))
        lowest, step = _grid(ranges, self.bits)
        array = np.empty((self._tokens, self._channels), np.float32)
        top = (1 << self.bits) - 1
        for block in self._blocks():
            rows = array[block]
            levels = unpack_bits(read(packed_bytes(rows.size, bits)), bits, rows.size)
            if bits > self.bits and levels.max() > top:
                raise CodecError(f"features: a value is above {top}, the highest of {self.bits} bits")
            np.multiply(levels.reshape(rows.shape), step[block], out=rows)
            rows += lowest[block]
        return array.reshape(self.shape)

    def _values_reader(self, values: memoryview, compressed: bool) -> tuple[Callable[[int], bytes | memoryview], int]:
        """What gives the next n bytes of packed values, and how many bits each takes; all sizes are checked here."""
        expected = packed_bytes(self._elements, self.bits)
        if compressed:
            if len(values) >= expected:
                raise CodecError(f"features: a zstd frame of {len(values)} bytes where packing takes {expected}")
            return self._zstd.reader(values, packed_bytes(self._elements, self._zstd_bits)).read, self._zstd_bits
        if len(values) != expected:
            raise CodecError(
                f"features: {len(values)} bytes of values, {self.shape} at {self.bits} bits takes {expected}"
            )
        position = 0

        def read(size_bytes: int) -> memoryview:
            nonlocal position
            position += size_bytes
            return values[position - size_bytes : position]

        return read, self.bits

    def _blocks(self) -> Iterator[slice]:
        for start in range(0, self._tokens, self._block_rows):
            yield slice(start, min(start + self._block_rows, self._tokens))


def _finite_range(array: np.ndarray, what: str) -> tuple[float, float]:
    """Lowest and highest value; without the mask that isfinite would allocate."""
    lowest, highest = float(array.min()), float(array.max())
    if not (math.isfinite(lowest) and math.isfinite(highest)):
        raise CodecError(f"{what}: NaN or infinite")
    return lowest, highest


def _ranges_to_send(lowest: np.ndarray, highest: np.ndarray) -> tuple[int, np.ndarray]:
    """The payload's form and the ranges, (2, tokens), float16 or float32; none narrower than given."""
    span = highest.astype(np.float64) - lowest
    with np.errstate(over="ignore"):
        low, high = lowest.astype("<f2"), highest.astype("<f2")
        low = np.where(low > lowest, np.nextafter(low, np.float16(-np.inf)), low)
        high = np.where(high < highest, np.nextafter(high, np.float16(np.inf)), high)
    if (high.astype(np.float64) - low <= _WIDENING * span).all():  # fails, too, where one became infinite
        return 0, np.stack((low, high)).astype("<f2", copy=False)
    narrow = (span > 0) & (span < _SMALLEST_RANGE)
    highest = np.where(narrow, lowest + np.float32(_SMALLEST_RANGE), highest)
    return _FORM_WIDE, np.stack((lowest, highest)).astype("<f4", copy=False)


def _grid(ranges: np.ndarray, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """Lowest value and step of every token, (tokens, 1), float32, from the ranges as sent: the same on both sides."""
    lowest, highest = ranges.astype(np.float64)
    step = (highest - lowest) / ((1 << bits) - 1)
    return lowest.astype(np.float32)[:, None], step.astype(np.float32)[:, None]
