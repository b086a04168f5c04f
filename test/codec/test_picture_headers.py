"""WebP and AVIF: which headers pass, all found out before a pixel is decoded."""

import struct

import numpy as np
import pytest
from codec_streams import photograph
from picture_making import (
    FORMATS,
    LABELS,
    av1_frame,
    avif_with,
    box,
    by_pillow,
    codec_as,
    content_of,
    payload_as,
    sequence_header,
)
from PIL import Image

from laim_ros.codec import CodecError
from laim_ros.codec import picture as picture_module
from laim_ros.codec.avif import avif_size
from laim_ros.codec.picture import picture_formats_here
from laim_ros.codec.webp import webp_size

if picture_formats_here() != FORMATS:
    pytest.skip("this OpenCV lacks a format", allow_module_level=True)

PICTURE = photograph(48, 64)
ALPHA = np.dstack((PICTURE, PICTURE[..., 0]))
TURNED = Image.Exif()
TURNED[0x112] = 6  # orientation
TWO = {"save_all": True, "append_images": [Image.fromarray(255 - PICTURE)]}


@pytest.fixture
def no_pixels(monkeypatch):
    def decode(*_args):
        raise AssertionError("the pixels were decoded")

    picture_formats_here()  # which decodes, at first
    monkeypatch.setattr(picture_module.cv2, "imdecode", decode)


@pytest.mark.parametrize("name", ["webp", "avif"])
@pytest.mark.parametrize(("height", "width"), [(97, 96), (96, 97), (48, 192)])
@pytest.mark.usefixtures("no_pixels")
def test_another_size_is_refused_before_decoding(name, height, width):
    with pytest.raises(CodecError, match=rf"{LABELS[name]} is {width}×{height}, the stream announced 96×96"):
        codec_as(f"{name}50", 96, 96).decode(payload_as(f"{name}50", height, width))


@pytest.mark.parametrize(
    ("name", "picture", "options", "message"),
    [
        ("webp", PICTURE, {"lossless": True}, "only lossy WebP of one still"),
        ("webp", ALPHA, {}, "only lossy WebP of one still"),
        ("webp", PICTURE, {"exif": TURNED}, "only lossy WebP of one still"),
        ("webp", PICTURE, {"icc_profile": bytes(200)}, "only lossy WebP of one still"),
        ("webp", PICTURE, TWO, "only lossy WebP of one still"),
        ("avif", ALPHA, {}, "no whole 'iprp' box"),
        ("avif", PICTURE, {"exif": TURNED}, "goes on after its 'colr' box"),
        ("avif", PICTURE, {"icc_profile": bytes(200)}, "goes on after its 'colr' box"),
        ("avif", PICTURE[..., 0], {}, "'pixi' box"),
        ("avif", PICTURE, {"subsampling": "4:2:2"}, "8-bit colour with short headers"),
        ("avif", PICTURE, TWO, "not an AVIF"),
        ("webp", None, {}, "not a WebP"),
        ("avif", None, {}, "not an AVIF"),
    ],
)
@pytest.mark.usefixtures("no_pixels")
def test_other_kinds_of_the_format_are_refused(name, picture, options, message):
    payload = b"" if picture is None else by_pillow(picture, name.upper(), **options)
    with pytest.raises(CodecError, match=message):
        codec_as(f"{name}50", 48, 64).decode(payload)


WEBP = payload_as("webp50", 48, 64)
FRAME_TAG = 20


def webp_of(chunk, name=b"VP8 ", following=0):
    return struct.pack("<4sI4s4sI", b"RIFF", 12 + len(chunk) + following, b"WEBP", name, len(chunk)) + chunk


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (WEBP[:29], "header is cut"),
        (WEBP[:-1], "cut or followed"),
        (WEBP[:-2], "cut or followed"),
        (WEBP + b"\0\0", "cut or followed"),
        (webp_of(WEBP[FRAME_TAG:], following=12) + b"EXIF" + bytes(8), "cut or followed"),
        (webp_of(WEBP[FRAME_TAG : FRAME_TAG + 201], following=1) + b"\1", "cut or followed"),
        (webp_of(WEBP[FRAME_TAG : FRAME_TAG + 201]), "cut or followed"),
        (webp_of(bytes([WEBP[FRAME_TAG] ^ 1]) + WEBP[FRAME_TAG + 1 :]), "begin with a key frame"),
        (webp_of(bytes([WEBP[FRAME_TAG] ^ 16]) + WEBP[FRAME_TAG + 1 :]), "key frame that is shown"),
        (webp_of(WEBP[FRAME_TAG:], b"VP8X"), "only lossy WebP"),
        (webp_of(WEBP[FRAME_TAG : FRAME_TAG + 10]), "first partition"),
        (WEBP[:26] + struct.pack("<HH", 64 | 1 << 14, 48) + WEBP[30:], "asks to be enlarged"),
        (WEBP[:26] + struct.pack("<HH", 64, 48 | 3 << 14) + WEBP[30:], "asks to be enlarged"),
        (WEBP[:26] + struct.pack("<HH", 16383, 16383) + WEBP[30:], "is 16383×16383, the stream announced 64×48"),
    ],
)
@pytest.mark.usefixtures("no_pixels")
def test_anything_but_one_whole_lossy_webp_is_refused(payload, message):
    with pytest.raises(CodecError, match=message):
        codec_as("webp50", 48, 64).decode(payload)


AVIF = payload_as("avif50", 48, 64)
FRAME = content_of(AVIF, b"mdat")
SIZE, DEPTH, CONFIGURATION, COLOURS = (
    box(name, content_of(AVIF, name)) for name in (b"ispe", b"pixi", b"av1C", b"colr")
)
ITEM = content_of(AVIF, b"infe")


def lying(**fields):
    """An AVIF whose boxes are right and whose sequence header has other `fields`."""
    return avif_with(AVIF, av1_frame(sequence_header(64, 48, **fields)))


def test_the_tests_avif_files_are_sound():
    """Else what follows would be refused for another reason than it should."""
    assert avif_with(AVIF) == AVIF
    assert avif_size(lying()) == (48, 64)
    assert avif_size(avif_with(AVIF, after=b"", in_meta=b"")) == (48, 64)


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (lying(width=65535, height=65535), "says 64×48, the AV1 picture in it is 65536×65536"),
        (lying(width=64), "says 64×48, the AV1 picture in it is 65×48"),
        (avif_with(AVIF, ispe=struct.pack(">III", 0, 64, 49)), "says 64×49, the AV1 picture in it is 64×48"),
        (lying(short=0), "short headers"),
        (lying(still=0), "short headers"),
        (lying(profile=2), "short headers"),
        (lying(superres=1), "super-resolution"),
        (lying(deep=1), "more than 8 bits"),
        (lying(grey=1), "grey"),
        (lying(matrix=0), "sRGB itself"),
        (lying(grain=1), "film grain"),
        (lying(end=0), "header is damaged"),
        (lying(level=8), "'av1C' box"),
        (lying(position=1), "'av1C' box"),
        (avif_with(AVIF, av1_frame(sequence_header(64, 48)[:6])), "header is cut"),
        (avif_with(AVIF, FRAME[:-1]), "AV1 picture in the AVIF is cut"),
        (avif_with(AVIF, FRAME[:13]), "sequence header and then one frame"),
        (avif_with(AVIF, b"\x12\x00\x0a\xff\xff\xff\xff\x01" + FRAME), "AV1 picture in the AVIF is cut"),
        (avif_with(AVIF, FRAME + b"\x12\x00"), "more than one frame"),
        (avif_with(AVIF, FRAME + FRAME[2:]), "more than one frame"),
        (avif_with(AVIF, av1_frame(sequence_header(64, 48), between=b"\x2a\x01\x00")), "and then one frame"),
        (avif_with(AVIF, av1_frame(sequence_header(64, 48), b"\x32\0")), "AV1 picture in the AVIF is cut"),
        (avif_with(AVIF, b""), "sequence header and then"),
        (AVIF[:-1], "no whole 'mdat'"),
        (AVIF + b"\0", "goes on after its 'mdat'"),
        (avif_with(AVIF, after=box(b"mdat", FRAME)), "goes on after its 'mdat'"),
        (avif_with(AVIF, brands=b"avifavis"), "one still picture"),
        (avif_with(AVIF, brands=b"avif" * 9), "one still picture"),
        (avif_with(AVIF, in_meta=box(b"iref", bytes(18))), "no whole 'iprp'"),
        (avif_with(AVIF, in_meta=box(b"idat", bytes(8))), "no whole 'iprp'"),
        (avif_with(AVIF, properties=SIZE + DEPTH + CONFIGURATION + COLOURS + box(b"irot", b"\1")), "after its 'colr'"),
        (avif_with(AVIF, properties=SIZE + DEPTH + CONFIGURATION + box(b"imir", b"\1")), "no whole 'colr'"),
        (avif_with(AVIF, properties=SIZE + DEPTH + CONFIGURATION), "no whole 'colr'"),
        (avif_with(AVIF, properties=SIZE + SIZE + CONFIGURATION + COLOURS), "no whole 'pixi'"),
        (avif_with(AVIF, colr=b"prof" + bytes(7)), "'colr' box"),
        (avif_with(AVIF, colr=content_of(AVIF, b"colr") + b"\0"), "'colr' box"),
        (avif_with(AVIF, ispe=content_of(AVIF, b"ispe") + b"\0"), "'ispe' box"),
        (avif_with(AVIF, pixi=b"\0\0\0\0\3\x0a\x0a\x0a"), "'pixi' box"),
        (avif_with(AVIF, av1C=b"\x81\x20\0\0"), "'av1C' box"),
        (avif_with(AVIF, av1C=content_of(AVIF, b"av1C") + sequence_header(64, 48)), "'av1C' box"),
        (avif_with(AVIF, hdlr=bytes(8) + b"vide" + bytes(13)), "'hdlr' box"),
        (avif_with(AVIF, pitm=b"\0\0\0\0\0\2"), "'infe' box"),
        (avif_with(AVIF, pitm=b"\0\0\0\0\0\0\1"), "'pitm' box"),
        (avif_with(AVIF, pitm=b"\1\0\0\0\0\0\0\1"), "'pitm' box"),
        (avif_with(AVIF, iinf=b"\0\0\0\0\0\2" + box(b"infe", ITEM) * 2), "'iinf' box"),
        (avif_with(AVIF, iinf=b"\0\0\0\0\0\1" + box(b"infe", ITEM.replace(b"av01", b"grid"))), "'infe' box"),
        (avif_with(AVIF, iinf=b"\0\0\0\0\0\1" + box(b"infe", ITEM.replace(b"Color\0", b""))), "'infe' box"),
        (avif_with(AVIF, ipma=content_of(AVIF, b"ipma")[:-1]), "'ipma' box"),
        (avif_with(AVIF, ipma=content_of(AVIF, b"ipma") + b"\x01"), "'ipma' box"),
        (avif_with(AVIF, iloc=content_of(AVIF, b"iloc")[:-4] + b"\xff\xff\xff\xff"), "'iloc' box"),
        (avif_with(AVIF, meta=box(b"meta", b"\1" + content_of(AVIF, b"meta")[1:])), "'meta' box"),
    ],
)
@pytest.mark.usefixtures("no_pixels")
def test_anything_but_one_plain_avif_is_refused(payload, message):
    with pytest.raises(CodecError, match=message):
        codec_as("avif50", 48, 64).decode(payload)


def bits_that_pass(payload, size, until):
    """Positions of the bytes below `until` in which some bit can be changed so that `size` still gives 48 × 64."""
    passing = set()
    for position in range(until):
        for bit in range(8):
            changed = bytearray(payload)
            changed[position] ^= 1 << bit
            try:
                assert size(bytes(changed)) == (48, 64) or position in SIZES[size]
                passing.add(position)
            except CodecError:
                continue
    return passing


SIZES = {webp_size: range(26, 30), avif_size: ()}


def test_which_bits_of_a_webp_are_free():
    """The two sides, which the stream's shape settles; the bitstream's version and the first partition's size."""
    assert bits_that_pass(WEBP, webp_size, 30) == {FRAME_TAG, FRAME_TAG + 1, *SIZES[webp_size]}


def test_which_bits_of_an_avif_are_free():
    """Version and brands that go unread, names, colour numbers, "essential" marks, tools in the sequence header."""
    at = {name: AVIF.index(name) + 4 for name in (b"ftyp", b"hdlr", b"infe", b"colr", b"ipma", b"mdat")}
    header = at[b"mdat"] + 4
    free = {
        *range(at[b"ftyp"] + 4, at[b"ftyp"] + 24),
        *range(at[b"hdlr"] + 12, at[b"hdlr"] + 25),
        *range(at[b"infe"] + 12, at[b"infe"] + 18),
        *range(at[b"colr"] + 4, at[b"colr"] + 11),
        *range(at[b"ipma"] + 11, at[b"ipma"] + 15),
        *range(header + 3, header + len(sequence_header(64, 48))),
    }
    assert bits_that_pass(AVIF, avif_size, header + 9) <= free
