"""Pictures as JPEG: colours, sizes, what is refused before a pixel is decoded; all formats: test_picture_formats.py."""

import struct
import tracemalloc

import cv2
import numpy as np
import pytest
from codec_streams import photograph, picture_stream

from laim_ros.codec import CodecError, codec_for
from laim_ros.codec import picture as picture_module


def jpeg(picture, *parameters):
    return cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), parameters)[1].tobytes()


def with_frame(payload, height, width, marker=None):
    """`payload` with another size (and marker) in its frame header."""
    position = payload.index(b"\xff\xc0")
    marker = payload[position : position + 2] if marker is None else bytes([0xFF, marker])
    return (
        payload[:position]
        + marker
        + payload[position + 2 : position + 5]
        + struct.pack(">HH", height, width)
        + payload[position + 9 :]
    )


def test_one_pixel_columns_of_colour_survive():
    """4:2:0 would average neighbouring columns of red and blue into one purple."""
    picture = np.zeros((32, 32, 3), np.uint8)
    picture[:, ::2, 0] = 255
    picture[:, 1::2, 2] = 255
    codec = codec_for(picture_stream(32, 32, 95))
    assert np.abs(codec.decode(codec.encode(picture)).astype(int) - picture).mean() < 10


def test_a_flipped_view_is_coded_as_seen():
    picture = photograph(24, 40)
    codec = codec_for(picture_stream(24, 40))
    assert codec.encode(picture[::-1, ::-1]) == codec.encode(picture[::-1, ::-1].copy())


@pytest.mark.parametrize("array", [np.zeros((95, 96, 3), np.uint8), np.zeros((96, 96, 3), np.float32)])
def test_another_picture_than_announced_is_refused(array):
    with pytest.raises(CodecError, match=r"takes uint8 \(96, 96, 3\), not"):
        codec_for(picture_stream(96, 96)).encode(array)


def no_pixels(*_args):
    raise AssertionError("the pixels were decoded")


@pytest.mark.parametrize(("height", "width"), [(65535, 65535), (97, 96), (96, 97), (0, 0)])
def test_another_size_is_refused_before_decoding(height, width, monkeypatch):
    codec = codec_for(picture_stream(96, 96))
    payload = with_frame(codec.encode(photograph(96, 96)), height, width)
    monkeypatch.setattr(picture_module.cv2, "imdecode", no_pixels)
    tracemalloc.start()
    try:
        with pytest.raises(CodecError, match=rf"JPEG is {width}×{height}, the stream announced 96×96"):
            codec.decode(payload)
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


GOOD = jpeg(photograph(96, 96))
START = GOOD.index(b"\xff\xda")
SCAN = GOOD[START:-2]
FRAME_COMPONENTS = GOOD.index(b"\xff\xc0") + 9


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (b"", "not a JPEG"),
        (cv2.imencode(".png", photograph(96, 96))[1].tobytes(), "not a JPEG"),
        (GOOD[:1], "not a JPEG"),
        (GOOD[:2], "header is cut"),
        (GOOD[:START], "header is cut"),
        (GOOD[: START + 5], "header is cut"),
        (GOOD[: START + 200], "cut or followed"),
        (GOOD[:-2], "cut or followed"),
        (GOOD[:-1], "cut or followed"),
        (GOOD[:-1] + b"\xd8", "cut or followed"),
        (GOOD + b"\0", "cut or followed"),
        (GOOD + GOOD, "cut or followed"),
        (GOOD[: START + 200] + b"\xff\xd9" + GOOD[START + 200 :], "cut or followed"),
        (GOOD[:-2] + SCAN + b"\xff\xd9", "cut or followed"),
        (GOOD[: START + 200] + b"\xff\xc4" + GOOD[START + 200 :], "cut or followed"),
        (GOOD[:START] + b"\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00" + SCAN[14:] + b"\xff\xd9", "one scan of three"),
        (b"\xff\xd8" + b"\xff\xe0\x00\x02" * 100 + GOOD[2:], "header is cut or damaged"),
        (b"\xff\xd8" + b"\xff\xe0\x00\x01" + GOOD[2:], "header is cut or damaged"),
        (b"\xff\xd8\x00" + GOOD[2:], "header is cut or damaged"),
        (b"\xff\xd8\x00" + GOOD[3:], "header is cut or damaged"),
        (GOOD[:FRAME_COMPONENTS] + b"\x04" + GOOD[FRAME_COMPONENTS + 1 :], "three 8-bit components"),
        (jpeg(photograph(96, 96), cv2.IMWRITE_JPEG_PROGRESSIVE, 1), "only baseline"),
        (with_frame(GOOD, 96, 96, marker=0xC3), "only baseline"),
        (cv2.imencode(".jpg", photograph(96, 96)[:, :, 0])[1].tobytes(), "three 8-bit components"),
        (GOOD[:2] + GOOD[GOOD.index(b"\xff\xc0") :][:19] + GOOD[2:], "one frame"),
    ],
)
def test_anything_but_one_whole_baseline_jpeg_is_refused(payload, message, monkeypatch):
    monkeypatch.setattr(picture_module.cv2, "imdecode", no_pixels)
    with pytest.raises(CodecError, match=message):
        codec_for(picture_stream(96, 96)).decode(payload)


def test_the_orientation_tag_turns_nothing():
    """A camera's own JPEG may be handed on as it is; the picture must stay as announced."""
    exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"  # one tag: orientation 6
    plain = jpeg(photograph(24, 40))
    payload = plain[:2] + b"\xff\xe1" + struct.pack(">H", 2 + len(exif)) + exif + plain[2:]
    assert cv2.imdecode(np.frombuffer(payload, np.uint8), cv2.IMREAD_COLOR).shape == (40, 24, 3)
    codec = codec_for(picture_stream(24, 40))
    assert np.array_equal(codec.decode(payload), codec.decode(plain))


def test_a_cameras_restart_markers_are_read():
    payload = jpeg(photograph(96, 96), cv2.IMWRITE_JPEG_RST_INTERVAL, 4)
    assert b"\xff\xd0" in payload
    codec = codec_for(picture_stream(96, 96))
    assert np.array_equal(codec.decode(payload), codec.decode(jpeg(photograph(96, 96))))
