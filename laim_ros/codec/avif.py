"""`avif_size`: what an AVIF would decode to, from its boxes and the AV1 sequence header alone.

Sources: ISO/IEC 14496-12 (boxes), ISO/IEC 23008-12 (items and their properties), AV1 Image File Format (av1C, what a
still picture may be), AV1 Bitstream & Decoding Process Specification sections 5.3 to 5.5 (OBUs, sequence header).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from laim_ros.codec.errors import CodecError

_MAX_BRANDS = 8
_META_BOXES = (b"hdlr", b"pitm", b"iloc", b"iinf", b"iprp")
_PROPERTIES = (b"ispe", b"pixi", b"av1C", b"colr")
# Version; sizes of fields; count of items; the item, its file, count of its extents; the extent's place and bytes.
_LOCATIONS = struct.Struct(">IBBHHHHII")
_NAMELESS_ITEM = struct.Struct(">IHH4s")  # version, item, protection, type; a name follows
_EXTENTS_OF_4_BYTES, _ITEM_VERSION = 0x44, 2 << 24
_THREE_OF_8_BITS = b"\0\0\0\0\x03\x08\x08\x08"
_NCLX_BYTES = 11
_ESSENTIAL = 0x80

_DELIMITER, _SEQUENCE_HEADER, _FRAME = 1 << 4, 1 << 3, 6 << 3  # OBU types where they stand in an OBU's first byte
_HAS_SIZE = 0x02
_MAX_SIZE_BYTES = 4
_UNSPECIFIED = 2, 2, 2
_SRGB_AS_IT_IS = 1, 13, 0


def avif_size(data: bytes) -> tuple[int, int]:
    """Height and width of the one picture in `data`.

    Decoders allocate what the boxes claim, and again what the AV1 sequence header claims, so both are read and must
    agree. Only what our encoder writes passes: the boxes ftyp, meta and mdat; one item, whole in mdat, with its size,
    depth, configuration and colours as its properties; in it one still AV1 frame of 8-bit colour. So there are no
    grids, transparency, turned or mirrored pictures, metadata, sequences, film grain or super-resolution.

    Raises:
        CodecError: anything else.
    """
    if data[4:12] != b"ftypavif":
        raise CodecError("picture: not an AVIF")
    (brands_at, brands_end), (meta_at, meta_end), (frame_at, frame_end) = _boxes_named(
        data, 0, len(data), (b"ftyp", b"meta", b"mdat")
    )
    brands = data[brands_at + 8 : brands_end]
    if len(brands) > 4 * _MAX_BRANDS or b"avis" in brands:
        raise CodecError("picture: only AVIF of one still picture is read")
    if data[meta_at : meta_at + 4] != bytes(4):
        raise _unlike("meta")
    handler, primary, locations, items, properties = _boxes_named(data, meta_at + 4, meta_end, _META_BOXES)
    if data[slice(*handler)][:12] != bytes(8) + b"pict":
        raise _unlike("hdlr")
    item = _only_item(data, primary, items)
    expected = _LOCATIONS.pack(0, _EXTENTS_OF_4_BYTES, 0, 1, item, 0, 1, frame_at, frame_end - frame_at)
    if data[slice(*locations)] != expected:
        raise _unlike("iloc")
    height, width, configuration = _properties(data, properties, item)
    sequence = _sequence(_sequence_header(data, frame_at, frame_end))
    if (sequence.height, sequence.width) != (height, width):
        raise CodecError(
            f"picture: the AVIF says {width}×{height}, the AV1 picture in it is {sequence.width}×{sequence.height}"
        )
    if sequence.configuration != configuration:
        raise _unlike("av1C")
    return height, width


def _unlike(box: str) -> CodecError:
    return CodecError(f"picture: the AVIF's '{box}' box is damaged, or not of one plain still picture")


def _boxes_named(data: bytes, start: int, end: int, names: tuple[bytes, ...]) -> list[tuple[int, int]]:
    """Where the contents of the boxes lie that fill `start` to `end`; they must have these names, in this order."""
    places, position = [], start
    for name in names:
        length = int.from_bytes(data[position : position + 4], "big")
        if data[position + 4 : position + 8] != name or not 8 <= length <= end - position:
            raise CodecError(f"picture: the AVIF has no whole '{name.decode()}' box where it belongs")
        places.append((position + 8, position + length))
        position += length
    if position != end:
        raise CodecError(f"picture: the AVIF goes on after its '{names[-1].decode()}' box")
    return places


def _only_item(data: bytes, primary: tuple[int, int], items: tuple[int, int]) -> int:
    """Number of the one item, an AV1 picture."""
    at, end = items
    if data[slice(*primary)][:4] != bytes(4) or primary[1] - primary[0] != 6:
        raise _unlike("pitm")
    if data[at : at + 6] != b"\0\0\0\0\0\1":
        raise _unlike("iinf")
    item = int.from_bytes(data[primary[0] + 4 : primary[1]], "big")
    ((info_at, info_end),) = _boxes_named(data, at + 6, end, (b"infe",))
    info, name = data[info_at : info_at + _NAMELESS_ITEM.size], data[info_at + _NAMELESS_ITEM.size : info_end]
    if info != _NAMELESS_ITEM.pack(_ITEM_VERSION, item, 0, b"av01") or name.find(0) + 1 != len(name) or not name:
        raise _unlike("infe")
    return item


def _properties(data: bytes, place: tuple[int, int], item: int) -> tuple[int, int, bytes]:
    """Height, width and AV1 configuration that the item's properties tell."""
    container, association = _boxes_named(data, *place, (b"ipco", b"ipma"))
    size, depth, configuration, colours = (data[slice(*box)] for box in _boxes_named(data, *container, _PROPERTIES))
    if len(size) != 12 or size[:4] != bytes(4):
        raise _unlike("ispe")
    if depth != _THREE_OF_8_BITS:
        raise _unlike("pixi")
    if colours[:4] != b"nclx" or len(colours) != _NCLX_BYTES:
        raise _unlike("colr")
    numbers = data[slice(*association)]
    expected = struct.pack(">IIHB", 0, 1, item, len(_PROPERTIES))
    # Each property once and in their order; whether one may be overlooked is the writer's to say.
    used = [number & ~_ESSENTIAL for number in numbers[len(expected) :]]
    if numbers[: len(expected)] != expected or used != [1, 2, 3, 4]:
        raise _unlike("ipma")
    return int.from_bytes(size[8:], "big"), int.from_bytes(size[4:8], "big"), configuration


def _sequence_header(data: bytes, start: int, end: int) -> bytes:
    """The sequence header in `start` to `end`, which must hold it and then one frame, after a delimiter or none."""
    position, header = start, b""
    if data[position : position + 2] == bytes((_DELIMITER | _HAS_SIZE, 0)):
        position += 2
    for kind in (_SEQUENCE_HEADER, _FRAME):
        if data[position : position + 1] != bytes((kind | _HAS_SIZE,)):
            raise CodecError("picture: the AVIF does not hold a sequence header and then one frame")
        size_bytes, position = _leb128(data, position + 1, end)
        if not 0 < size_bytes <= end - position:
            raise CodecError("picture: the AV1 picture in the AVIF is cut")
        if kind == _SEQUENCE_HEADER:
            header = data[position : position + size_bytes]
        position += size_bytes
    if position != end:
        raise CodecError("picture: the AVIF holds more than one frame")
    return header


def _leb128(data: bytes, position: int, end: int) -> tuple[int, int]:
    """A number of 7 bits a byte, lowest first ([AV1, section 4.10.5]), and where it ends."""
    number = 0
    for index, byte in enumerate(data[position : min(position + _MAX_SIZE_BYTES, end)]):
        number |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            return number, position + index + 1
    raise CodecError("picture: the AV1 picture in the AVIF is cut")


@dataclass(frozen=True, slots=True)
class _Sequence:
    height: int
    width: int
    configuration: bytes  # what the av1C box must hold


class _Bits:
    """Reads an OBU's bits, highest first."""

    def __init__(self, data: bytes) -> None:
        self._number, self._left = int.from_bytes(data, "big"), 8 * len(data)

    def take(self, count: int) -> int:
        self._left -= count
        if self._left < 0:
            raise CodecError("picture: the AV1 sequence header is cut")
        return self._number >> self._left & (1 << count) - 1

    def at_end(self) -> bool:
        """Whether only a 1 and then zeros are left."""
        return self._left > 0 and self._number & (1 << self._left) - 1 == 1 << self._left - 1


def _sequence(header: bytes) -> _Sequence:
    """The sequence header of a still picture with the short form of headers ([AV1, section 5.5])."""
    bits = _Bits(header)
    profile, still_and_short, level = bits.take(3), bits.take(2), bits.take(5)
    # In the long form a frame may have another size than the sequence header says.
    if still_and_short != 0b11 or profile > 1:
        raise CodecError("picture: the AV1 picture is not a still one of 8-bit colour with short headers")
    width_bits, height_bits = bits.take(4) + 1, bits.take(4) + 1
    width, height = bits.take(width_bits) + 1, bits.take(height_bits) + 1
    bits.take(3)  # 128-pixel superblocks, intra filter, intra edge filter
    if bits.take(1):
        raise CodecError("picture: AV1 super-resolution is not read")
    bits.take(2)  # constrained directional enhancement, loop restoration
    if bits.take(1) or (profile == 0 and bits.take(1)):
        raise CodecError("picture: the AV1 picture is grey or has more than 8 bits")
    colours = (bits.take(8), bits.take(8), bits.take(8)) if bits.take(1) else _UNSPECIFIED
    if colours == _SRGB_AS_IT_IS:  # the header would go on otherwise, and none of our encoder's is so
        raise CodecError("picture: AV1 coded as sRGB itself is not read")
    bits.take(1)  # range of values
    whole_colours = profile == 1  # 4:4:4; profile 0 is 4:2:0
    position = 0 if whole_colours else bits.take(2)
    bits.take(1)  # separate quantizers for the two colour planes
    if bits.take(1):
        raise CodecError("picture: AV1 film grain is not read")
    if not bits.at_end():
        raise CodecError("picture: the AV1 sequence header is damaged")
    halved = 0 if whole_colours else 0b11
    return _Sequence(height, width, bytes((0x81, profile << 5 | level, halved << 2 | position, 0)))
