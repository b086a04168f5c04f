"""Pictures as payloads that the picture tests share, and AVIF files taken apart and put together otherwise."""

import io
import struct

import msgspec
import numpy as np
from codec_streams import photograph, picture_stream
from PIL import Image

from laim_ros.codec.picture import PictureCodec
from laim_ros.plan import PICTURE_FORMATS, Plan

FORMATS = PICTURE_FORMATS
LABELS = {"jpeg": "JPEG", "webp": "WebP", "avif": "AVIF"}


def stream_as(codec, height, width):
    plan = Plan(split_point="input", codec=codec)
    return msgspec.structs.replace(picture_stream(height, width), plan=plan)


def codec_as(codec, height, width):
    return PictureCodec(stream_as(codec, height, width))


def payload_as(codec, height, width):
    return codec_as(codec, height, width).encode(photograph(height, width))


def noise(height, width, extremes=False):
    values = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return (values >> 7) * np.uint8(255) if extremes else values


def by_pillow(picture, name, **options):
    """Another writer's file; `picture` is an array or a Pillow image."""
    image = Image.fromarray(picture) if isinstance(picture, np.ndarray) else picture
    file = io.BytesIO()
    image.save(file, name, **options)
    return file.getvalue()


def read_by_pillow(payload):
    with Image.open(io.BytesIO(payload)) as image:
        return np.asarray(image.convert("RGB"))


def box(name, content):
    return struct.pack(">I4s", 8 + len(content), name) + content


def content_of(data, name):
    """What the only box of this name holds."""
    at = data.index(name)
    return data[at + 4 : at - 4 + int.from_bytes(data[at - 4 : at], "big")]


def avif_with(payload, frame=None, brands=None, after=b"", meta=None, properties=None, in_meta=b"", **changed):
    """`payload` with the content of boxes `changed` (by name), and `iloc` and the lengths made to fit again."""
    contents = {name: content_of(payload, name.encode()) for name in ("hdlr", "pitm", "iinf", "ipma")} | changed
    named = {name: content_of(payload, name.encode()) for name in ("ispe", "pixi", "av1C", "colr")} | changed
    if properties is None:
        properties = b"".join(box(name.encode(), named[name]) for name in ("ispe", "pixi", "av1C", "colr"))
    frame = content_of(payload, b"mdat") if frame is None else frame
    start = box(b"ftyp", content_of(payload, b"ftyp") if brands is None else b"avif\0\0\0\0" + brands)
    described = box(b"iprp", box(b"ipco", properties) + box(b"ipma", contents["ipma"]))

    def meta_box(at):
        location = bytes.fromhex("00000000 4400 0001 0001 0000 0001") + struct.pack(">II", at, len(frame))
        parts = [box(b"hdlr", contents["hdlr"]), box(b"pitm", contents["pitm"])]
        parts += [box(b"iloc", changed.get("iloc", location)), box(b"iinf", contents["iinf"]), in_meta, described]
        return box(b"meta", bytes(4) + b"".join(parts))

    meta = meta_box(len(start) + len(meta_box(0)) + 8) if meta is None else meta
    return start + meta + box(b"mdat", frame) + after


def bits(*fields):
    """Bytes of (value, how many bits) in order, zeros at the end."""
    text = "".join(f"{value:0{count}b}" for value, count in fields)
    return int(text.ljust(-(-len(text) // 8) * 8, "0"), 2).to_bytes(-(-len(text) // 8), "big")


def av1_frame(header, frame=None, between=b"", after=b""):
    """What `mdat` holds: a delimiter, the sequence header, the frame."""
    frame = b"\x32\x01\x00" if frame is None else frame
    return b"\x12\x00" + b"\x0a" + bytes([len(header)]) + header + between + frame + after


def sequence_header(columns, rows, **fields):
    """An AV1 sequence header as libaom writes it for a still picture of 4:2:0; `fields` changes single ones."""
    parts = {
        "profile": (0, 3),
        "still": (1, 1),
        "short": (1, 1),
        "level": (0, 5),
        "width_bits": (15, 4),
        "height_bits": (15, 4),
        "width": (columns - 1, 16),
        "height": (rows - 1, 16),
        "tools": (0b011, 3),
        "superres": (0, 1),
        "filters": (0b10, 2),
        "deep": (0, 1),
        "grey": (0, 1),
        "described": (1, 1),
        "primaries": (1, 8),
        "transfer": (13, 8),
        "matrix": (6, 8),
        "full_range": (1, 1),
        "position": (0, 2),
        "separate": (0, 1),
        "grain": (0, 1),
        "end": (1, 1),
    }
    return bits(*((fields.get(name, value), count) for name, (value, count) in parts.items()))
