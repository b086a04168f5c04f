"""Codes of b bits in memory of b bits: planes of 4, 2 and 1 bits, most significant first, that unpack by shifts alone.

Several rows of a matrix share a byte (row r with row r + R, r + 2R …), never several columns, so that packing and
unpacking run along contiguous memory: a 4-bit matrix of 6144 × 1408 unpacks in about a tenth of a millisecond.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

PLANE_WIDTHS: dict[int, tuple[int, ...]] = {
    1: (1,),
    2: (2,),
    3: (2, 1),
    4: (4,),
    5: (4, 1),
    6: (4, 2),
    7: (4, 2, 1),
    8: (8,),
}
"""Widths in bits of the planes of a code of so many bits, most significant first."""


def plane_shapes(shape: tuple[int, int], bits: int) -> list[tuple[int, int]]:
    """Shapes of the uint8 planes of a matrix (rows, columns) of `bits` per code."""
    rows, columns = shape
    return [(-(-rows * width // 8), columns) for width in PLANE_WIDTHS[bits]]


def pack(codes: torch.Tensor, bits: int) -> tuple[torch.Tensor, ...]:
    """Packs two's-complement codes.

    Args:
        codes: int8 (rows, columns), each within -2^(bits-1) … 2^(bits-1) - 1.
        bits: 1–8.

    Returns:
        uint8 planes, (ceil(rows · width / 8), columns) each.
    """
    planes, below = [], bits
    for width in PLANE_WIDTHS[bits]:
        below -= width
        parts = codes.bitwise_right_shift(below).view(torch.uint8).bitwise_and_((1 << width) - 1)
        per_byte = 8 // width
        packed_rows = -(-codes.shape[0] // per_byte)
        plane = torch.zeros((packed_rows, codes.shape[1]), dtype=torch.uint8, device=codes.device)
        for place in range(per_byte):
            part = parts[place * packed_rows : (place + 1) * packed_rows]
            plane[: len(part)].bitwise_or_(part.bitwise_left_shift(width * place))
        planes.append(plane)
    return tuple(planes)


def unpack(planes: Sequence[torch.Tensor], bits: int, rows: int, out: torch.Tensor | None = None) -> torch.Tensor:
    """The inverse of `pack`, with the codes at the upper end of each byte: code · 2^(8 - bits).

    Args:
        planes: as `pack` returns them.
        bits: 1–8.
        rows: of the matrix.
        out: int8 (rows, columns) to write into; None makes it.

    Returns:
        int8 (rows, columns); shift right by 8 - bits for the codes themselves.
    """
    columns = planes[0].shape[1]
    if bits == 8:
        whole = planes[0].view(torch.int8)
        return whole if out is None else out.copy_(whole)
    if out is None:
        out = torch.empty((rows, columns), dtype=torch.int8, device=planes[0].device)
    target, above = out.view(torch.uint8), 0
    for plane, width in zip(planes, PLANE_WIDTHS[bits], strict=True):
        above += width
        mask = ((1 << width) - 1) << (8 - above)
        packed_rows = plane.shape[0]
        for place in range(8 // width):
            part = target[place * packed_rows : (place + 1) * packed_rows]
            shift = 8 - above - width * place
            stored = plane[: len(part)]
            if above == width:
                _shift(stored, shift, part).bitwise_and_(mask)
            else:
                part.bitwise_or_(_shift(stored, shift, None).bitwise_and_(mask))
    return out


def _shift(stored: torch.Tensor, places: int, out: torch.Tensor | None) -> torch.Tensor:
    """To the left, or to the right where negative."""
    if places >= 0:
        return torch.bitwise_left_shift(stored, places, out=out)
    return torch.bitwise_right_shift(stored, -places, out=out)
