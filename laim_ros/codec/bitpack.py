"""Small integers packed without gaps: 8 values of b bits in b bytes."""

from __future__ import annotations

import numpy as np

# Eight values of one byte each are one little-endian 64-bit word. Three steps of shift-and-or close the gaps between
# neighbours: 8 lanes of b bits, 4 lanes of 2b, 2 lanes of 4b, 1 of 8b bits = b bytes. All on whole arrays of words.
_LOW_LANES = tuple(np.uint64(mask) for mask in (0x00FF00FF00FF00FF, 0x0000FFFF0000FFFF, 0x00000000FFFFFFFF))


def packed_bytes(count: int, bits: int) -> int:
    """Bytes that `count` values of `bits` bits take."""
    return (count * bits + 7) // 8


def pack_bits(values: np.ndarray, bits: int) -> bytes:
    """Pack a flat uint8 array; each value must be below 2**bits, bits 1–8. The first value lies in the lowest bits."""
    count = values.size
    if bits == 8:
        return values.tobytes()
    words = np.zeros(-(-count // 8), "<u8")
    words.view(np.uint8)[:count] = values
    for step, low in enumerate(_LOW_LANES):
        gap = np.uint64((8 - bits) << step)
        high = words & ~low
        high >>= gap
        words &= low
        words |= high
    return words.view(np.uint8).reshape(-1, 8)[:, :bits].tobytes()[: packed_bytes(count, bits)]


def unpack_bits(packed: bytes | memoryview, bits: int, count: int) -> np.ndarray:
    """Undo `pack_bits`: a flat uint8 array of `count` values, each below 2**bits.

    Raises:
        ValueError: `packed` has not exactly `packed_bytes(count, bits)` bytes.
    """
    source = np.frombuffer(packed, np.uint8)
    if source.size != packed_bytes(count, bits):
        raise ValueError(f"{source.size} bytes where {count} values of {bits} bits take {packed_bytes(count, bits)}")
    if bits == 8:
        return source
    words = np.zeros(-(-count // 8), "<u8")
    lanes = words.view(np.uint8).reshape(-1, 8)
    whole = source.size // bits
    lanes[:whole, :bits] = source[: whole * bits].reshape(whole, bits)
    if whole < len(lanes):
        rest = source[whole * bits :]
        lanes[whole, : rest.size] = rest
    # Two lanes of 4b bits, four of 2b, eight of b: what lies above each lane moves up by the gap.
    for step in reversed(range(len(_LOW_LANES))):
        lane_bits = bits << step
        keep = np.uint64(sum(((1 << lane_bits) - 1) << start for start in range(0, 64, 16 << step)))
        gap = np.uint64((8 - bits) << step)
        high = words & (keep << np.uint64(lane_bits))
        high <<= gap
        words &= keep
        words |= high
    return words.view(np.uint8)[:count]
