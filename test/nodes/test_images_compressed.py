"""Compressed image messages: JPEG, PNG and compressedDepth, whole, cut, broken and lying about their size."""

import array
import io
import struct
import zlib
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as PillowImage
from skimage import data as photographs

from laim_ros.nodes.images import (
    ImageError,
    compressed_message,
    compressed_to_rgb,
    depth_to_grey,
    picture_size,
    to_rgb,
)

PHOTOGRAPH = np.ascontiguousarray(photographs.astronaut()[100:340, 60:380])
GREY = cv2.cvtColor(PHOTOGRAPH, cv2.COLOR_RGB2GRAY)


def message(data, text="jpeg"):
    return SimpleNamespace(format=text, data=array.array("B", bytes(data)))


def pillow_file(picture, kind, **options):
    """A file written by Pillow, so that reader and writer are not the same library."""
    buffer = io.BytesIO()
    PillowImage.fromarray(picture).save(buffer, kind, **options)
    return buffer.getvalue()


def pillow_picture(file):
    return np.asarray(PillowImage.open(io.BytesIO(file)).convert("RGB"))


JPEG = pillow_file(PHOTOGRAPH, "JPEG", quality=90)
PNG = pillow_file(PHOTOGRAPH, "PNG")


@pytest.mark.parametrize("text", ["jpeg", "jpg", "", "rgb8; jpeg compressed bgr8", "bgr8; jpeg compressed bgr8", "png"])
def test_jpeg_whatever_the_format_says(text):
    image = compressed_to_rgb(message(JPEG, text))
    assert image.shape == PHOTOGRAPH.shape
    assert image.dtype == np.uint8
    assert image.flags.c_contiguous
    assert np.abs(image.astype(int) - pillow_picture(JPEG)).max() <= 3
    assert np.abs(image.astype(int) - PHOTOGRAPH).mean() < 4


@pytest.mark.parametrize("options", [{"progressive": True}, {"subsampling": 0}, {"exif": b"Exif\0\0" + bytes(90)}])
def test_other_kinds_of_jpeg(options):
    file = pillow_file(PHOTOGRAPH, "JPEG", quality=90, **options)
    assert picture_size(file) == (240, 320)
    assert np.abs(compressed_to_rgb(message(file)).astype(int) - pillow_picture(file)).max() <= 3


def test_grey_jpeg():
    image = compressed_to_rgb(message(pillow_file(GREY, "JPEG", quality=95), "mono8; jpeg compressed "))
    assert (image[..., 0] == image[..., 2]).all()
    assert np.abs(image[..., 0].astype(int) - GREY).mean() < 3


def test_jpeg_followed_by_padding():
    """Webcams send MJPEG frames in buffers of fixed size."""
    np.testing.assert_array_equal(compressed_to_rgb(message(JPEG + bytes(500))), compressed_to_rgb(message(JPEG)))


@pytest.mark.parametrize("text", ["png", "rgb8; png compressed bgr8", "nonsense", "16UC1; png compressed "])
def test_png_is_exact(text):
    np.testing.assert_array_equal(compressed_to_rgb(message(PNG, text)), PHOTOGRAPH)


def test_png_with_alpha_palette_and_16_bits():
    alpha = np.dstack((PHOTOGRAPH, GREY))
    np.testing.assert_array_equal(compressed_to_rgb(message(pillow_file(alpha, "PNG"))), PHOTOGRAPH)
    palette = PillowImage.fromarray(PHOTOGRAPH).quantize(64)
    buffer = io.BytesIO()
    palette.save(buffer, "PNG")
    np.testing.assert_array_equal(compressed_to_rgb(message(buffer.getvalue())), np.asarray(palette.convert("RGB")))
    deep = pillow_file(GREY.astype(np.uint16) * 257, "PNG")
    np.testing.assert_array_equal(compressed_to_rgb(message(deep, "mono16; png compressed "))[..., 1], GREY)


def test_mosaic_inside_a_file_of_one_channel():
    """compressed_image_transport stores Bayer pictures as they are and names the pattern in the format."""
    raw = np.zeros_like(GREY)
    for row, column, colour in ((0, 0, 0), (0, 1, 1), (1, 0, 1), (1, 1, 2)):
        raw[row::2, column::2] = PHOTOGRAPH[row::2, column::2, colour]
    file = pillow_file(raw, "PNG")
    plain = SimpleNamespace(encoding="bayer_rggb8", height=240, width=320, step=320, is_bigendian=0, data=raw.tobytes())
    np.testing.assert_array_equal(compressed_to_rgb(message(file, "bayer_rggb8; png compressed ")), to_rgb(plain))


DEPTH_MM = (GREY.astype(np.uint16) * 20 + 400) * (GREY > 40)


def compressed_depth(picture, text, a=0.0, b=0.0):
    return message(struct.pack("<iff", 0, a, b) + pillow_file(picture, "PNG"), text)


def test_depth_in_a_png():
    expected = np.repeat(depth_to_grey(DEPTH_MM)[..., None], 3, -1)
    png = message(pillow_file(DEPTH_MM, "PNG"), "16UC1; png compressed ")
    np.testing.assert_array_equal(compressed_to_rgb(png), expected)
    for text in ("16UC1; compressedDepth png", "16UC1; compressedDepth"):
        np.testing.assert_array_equal(compressed_to_rgb(compressed_depth(DEPTH_MM, text)), expected)


def test_inverse_depth_in_a_png():
    """As compressed_depth_image_transport writes floats: a / depth + b, for depths up to 10 m quantized at 100."""
    depth_m = DEPTH_MM / 1000
    a = 100 * (100 + 1)
    b = 1 - a / 10
    with np.errstate(divide="ignore"):
        stored = np.where(depth_m > 0, a / depth_m + b, 0).round().astype(np.uint16)
    image = compressed_to_rgb(compressed_depth(stored, "32FC1; compressedDepth png", a, b))
    expected = depth_to_grey(depth_m.astype(np.float32))
    assert np.abs(image[..., 0].astype(int) - expected).max() <= 1


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (compressed_depth(DEPTH_MM, "16UC1; compressedDepth rvl"), "RVL is not supported.*png"),
        (message(bytes(11), "16UC1; compressedDepth png"), "holds 11 bytes; its header alone takes 12"),
        (message(bytes(12), "16UC1; compressedDepth png"), "neither JPEG nor PNG: 0 bytes"),
        (compressed_depth(GREY, "16UC1; compressedDepth png"), "uint8.*one channel of 16 bits"),
    ],
)
def test_bad_depth_is_refused_with_the_reason(broken, reason):
    with pytest.raises(ImageError, match=reason):
        compressed_to_rgb(broken)


@pytest.mark.parametrize("file", [JPEG, PNG, pillow_file(PHOTOGRAPH, "JPEG", progressive=True)])
@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9, 0.999])
def test_truncated_files_are_refused(file, kept):
    with pytest.raises(ImageError, match=r"format 'jpeg': truncated (JPEG|PNG): \d+ bytes"):
        compressed_to_rgb(message(file[: int(len(file) * kept)]))


def test_a_thumbnail_does_not_hide_a_truncated_picture():
    thumbnail = pillow_file(PHOTOGRAPH[::8, ::8].copy(), "JPEG")
    file = pillow_file(PHOTOGRAPH, "JPEG", exif=b"Exif\0\0" + thumbnail)
    assert picture_size(file) == (240, 320)
    with pytest.raises(ImageError, match="without an end-of-image marker"):
        compressed_to_rgb(message(file[: len(file) // 2]))


def jpeg_of_size(height, width):
    """The photograph's JPEG with another size in its header."""
    at = JPEG.index(b"\xff\xc0") + 5
    return JPEG[:at] + struct.pack(">HH", height, width) + JPEG[at + 4 :]


def png_of_size(height, width):
    head = b"IHDR" + struct.pack(">II", width, height) + PNG[24:29]
    return PNG[:12] + head + struct.pack(">I", zlib.crc32(head)) + PNG[33:]


@pytest.mark.parametrize("file", [jpeg_of_size(65_500, 65_500), png_of_size(2**31 - 1, 2**31 - 1)])
def test_absurd_sizes_are_refused_before_decoding(file, monkeypatch):
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("decoded"))
    with pytest.raises(ImageError, match=r"claims \d+ x \d+ pixels; at most"):
        compressed_to_rgb(message(file))


@pytest.mark.parametrize("file", [jpeg_of_size(0, 320), png_of_size(240, 0)])
def test_no_pixels(file):
    with pytest.raises(ImageError, match="has no pixels"):
        compressed_to_rgb(message(file))


@pytest.mark.parametrize(
    ("file", "reason"),
    [
        (b"", "0 bytes"),
        (b"GIF89a" + bytes(40), "begin with '47 49 46 38'"),
        (b"\xff\xd8", "truncated JPEG"),
        (b"\xff\xd8\xff\xd9", "truncated JPEG"),
        (b"\xff\xd8" + bytes(40), "no marker at byte 2"),
        (b"\x89PNG\r\n\x1a\n", "truncated PNG"),
        (PNG[:60] + bytes(2_000) + PNG[-12:], "broken"),
    ],
)
def test_what_is_no_picture(file, reason):
    with pytest.raises(ImageError, match=reason):
        compressed_to_rgb(message(file))


@settings(max_examples=300, deadline=None)
@given(
    file=st.sampled_from((JPEG[:4_000] + JPEG[-2:], PNG[:4_000] + PNG[-12:])),
    at=st.integers(0, 3_999),
    junk=st.binary(min_size=1, max_size=12),
    text=st.sampled_from(("jpeg", "bayer_rggb8; jpeg compressed ", "16UC1; compressedDepth png", "32FC1")),
)
def test_any_damage_gives_a_picture_or_an_image_error(file, at, junk, text):
    try:
        image = compressed_to_rgb(message(file[:at] + junk + file[at + len(junk) :], text))
    except ImageError:
        return
    assert image.ndim == 3
    assert image.shape[2] == 3
    assert image.dtype == np.uint8


def test_maker_and_reader_agree():
    from builtin_interfaces.msg import Time

    made = compressed_message(PHOTOGRAPH, Time(sec=3, nanosec=4), "camera", quality=95)
    assert isinstance(made.data, array.array)
    assert (made.header.stamp.sec, made.header.stamp.nanosec, made.header.frame_id) == (3, 4, "camera")
    assert np.abs(compressed_to_rgb(made).astype(int) - PHOTOGRAPH).mean() < 3
    assert len(compressed_message(PHOTOGRAPH, Time(), quality=20).data) < len(made.data) / 3
