"""Raw image messages of every encoding, against encoders written here by hand, cv2's inverses and rosbags-image."""

import array
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from picture_encodings import encode
from rosbags.image import image_to_cvimage
from skimage import data as photographs

from laim_ros.nodes.images import ENCODINGS, MAX_SIDE, ImageError, depth_to_grey, rgb_message, to_rgb

pytestmark = pytest.mark.filterwarnings("error")  # such as a cast of NaN, which would flood a node's log

PHOTOGRAPH = np.ascontiguousarray(photographs.astronaut()[100:340, 60:380])  # 320 x 240, even sides
GREY = PHOTOGRAPH @ np.array([0.299, 0.587, 0.114])


def message(encoding, pixels, *, padding=0, big_endian=False, height=None):
    """An image message of (rows, W) or (rows, W, channels) pixels, its rows padded with bytes that must not be seen."""
    pixels = np.ascontiguousarray(pixels)
    if big_endian:
        pixels = pixels.astype(pixels.dtype.newbyteorder(">"))
    rows = pixels.view(np.uint8).reshape(pixels.shape[0], -1)
    rows = np.pad(rows, ((0, 0), (0, padding)), constant_values=0xA5)
    return SimpleNamespace(
        encoding=encoding,
        height=height or pixels.shape[0],
        width=pixels.shape[1],
        step=rows.shape[1],
        is_bigendian=int(big_endian),
        data=array.array("B", rows.tobytes()),
    )


def psnr_db(a, b):
    return 10 * np.log10(255**2 / np.mean((a.astype(float) - b) ** 2).clip(1e-9))


DEPTH = ("16UC1", "32FC1")
PICTURES = [encoding for encoding in ENCODINGS if encoding not in DEPTH]
LOSSY = [encoding for encoding in PICTURES if encoding.startswith(("bayer", "yuv", "uyvy", "yuyv", "nv"))]
EXACT = [encoding for encoding in PICTURES if encoding not in LOSSY]


def as_message(encoding, **options):
    height = PHOTOGRAPH.shape[0] if encoding.startswith("nv") else None
    return message(encoding, encode(encoding, PHOTOGRAPH), height=height, **options)


def test_everything_that_the_issue_lists_is_known():
    bayer = {f"bayer_{pattern}8" for pattern in ("rggb", "bggr", "gbrg", "grbg")}
    assert {"rgb8", "bgr8", "mono8", "rgba8", "bgra8", "yuv422", "16UC1", *bayer} <= set(ENCODINGS)


@pytest.mark.parametrize("encoding", EXACT)
def test_exact(encoding):
    image = to_rgb(as_message(encoding))
    one_channel = encoding in ("mono8", "mono16", "8UC1")
    expected = np.repeat(GREY.round().astype(np.uint8)[..., None], 3, -1) if one_channel else PHOTOGRAPH
    np.testing.assert_array_equal(image, expected)
    assert image.dtype == np.uint8
    assert image.flags.c_contiguous


@pytest.mark.parametrize("encoding", LOSSY)
def test_close(encoding):
    """Shared chroma and demosaicing lose something; a swapped channel or pattern loses far more (below 22 dB)."""
    image = to_rgb(as_message(encoding))
    assert image.shape == PHOTOGRAPH.shape
    assert image.dtype == np.uint8
    assert image.flags.c_contiguous
    assert psnr_db(image[2:-2, 2:-2], PHOTOGRAPH[2:-2, 2:-2]) > 28


def test_chroma_conversions_match_those_of_cv2():
    """cv2 (5) knows the inverse of the packed orders; a flat colour needs no sharing, so all must agree to rounding."""
    flat = np.full((8, 8, 3), (200, 90, 30), np.uint8)
    for encoding, order in (("yuv422", "UYVY"), ("yuv422_yuy2", "YUY2")):
        packed = cv2.cvtColor(flat, getattr(cv2, f"COLOR_RGB2YUV_{order}"))
        assert np.abs(to_rgb(message(encoding, packed)).astype(int) - flat).max() <= 3


@pytest.mark.parametrize("encoding", [e for e in PICTURES if e not in ("nv12", "nv21") and not e.startswith("8UC")])
def test_agrees_with_rosbags_image(encoding):
    other = image_to_cvimage(as_message(encoding), "rgb8")
    assert np.abs(to_rgb(as_message(encoding)).astype(int) - other).max() <= 1  # it cuts 16 bits to 8, we round


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("padding", [1, 6, 64])
def test_row_padding_is_not_seen(encoding, padding):
    np.testing.assert_array_equal(to_rgb(as_message(encoding, padding=padding)), to_rgb(as_message(encoding)))


@pytest.mark.parametrize("encoding", [e for e in ENCODINGS if "16" in e or e == "32FC1"])
def test_byte_order(encoding):
    big = as_message(encoding, big_endian=True, padding=3)
    np.testing.assert_array_equal(to_rgb(big), to_rgb(as_message(encoding)))


@pytest.mark.parametrize("encoding", ["16UC1", "32FC1"])
def test_depth_is_scaled_over_what_was_measured(encoding):
    far = 9_000 if encoding == "16UC1" else 9.0
    depth = np.linspace(far / 10, far, 320)[None].repeat(240, 0).astype("u2" if encoding == "16UC1" else "f4")
    depth[:, :40] = 0
    depth[5, 5] = 65_535 if encoding == "16UC1" else np.inf
    if encoding == "32FC1":
        depth[:, 40:50] = np.nan
        depth[7, 300] = -1
    grey = to_rgb(message(encoding, depth))
    assert (grey[..., 0] == grey[..., 1]).all()
    assert (grey[..., 0] == grey[..., 2]).all()
    assert (grey[6, :40] == 0).all(), "nothing was measured there"
    if encoding == "32FC1":
        assert grey[5, 5, 0] == 0
        assert (grey[:, 40:50] == 0).all()
        assert grey[7, 300, 0] == 0
    row = grey[100, 50:, 0].astype(int)
    assert (np.diff(row) >= 0).all(), "far is bright"
    assert row[-1] == 255, "one wild pixel does not darken the rest"
    assert 1 <= row[0] < 20
    middle = (depth[100, 180] - depth[100, 50]) / (depth[100, -1] - depth[100, 50])
    assert row[130] / 255 == pytest.approx(middle, abs=0.06)


def test_depth_without_contrast_or_without_any_measurement():
    assert (depth_to_grey(np.full((4, 5), 700, np.uint16)) == 128).all()
    assert (depth_to_grey(np.zeros((4, 5), np.uint16)) == 0).all()
    assert (depth_to_grey(np.full((4, 5), np.nan, np.float32)) == 0).all()
    lonely = np.zeros((2_000, 2_000), np.uint16)
    lonely[1_001, 777] = 500  # missed by any sample
    assert depth_to_grey(lonely)[1_001, 777] == 128


def test_depth_leaves_the_message_alone():
    depth = np.array([[0.0, np.nan, 2.0, 4.0]], np.float32)
    original = message("32FC1", depth)
    before = original.data.tobytes()
    to_rgb(original)
    assert original.data.tobytes() == before


def test_rgb8_is_a_view_of_the_message():
    original = message("rgb8", PHOTOGRAPH)
    image = to_rgb(original)
    original.data[0] = (int(PHOTOGRAPH[0, 0, 0]) + 1) % 256
    assert image[0, 0, 0] == original.data[0]


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("size", [(2, 2), (1, 2), (2, 1), (3, 5), (5, 4), (2, 500)])
def test_small_and_odd_sizes(encoding, size):
    height, width = size
    pixel_bytes = {"rgb8": 3, "bgr8": 3, "8UC3": 3, "rgba8": 4, "bgra8": 4, "8UC4": 4, "32FC1": 4, "rgb16": 6}
    pixel_bytes |= {"bgr16": 6, "rgba16": 8, "bgra16": 8, "yuv422": 2, "uyvy": 2, "yuv422_yuy2": 2, "yuyv": 2}
    step = width * pixel_bytes.get(encoding, 2 if "16" in encoding else 1)
    rows = height * 3 // 2 if encoding.startswith("nv") else height
    small = SimpleNamespace(
        encoding=encoding, height=height, width=width, step=step, is_bigendian=0, data=bytes(step * rows)
    )
    shared_chroma = encoding.startswith(("yuv", "uyvy", "yuyv", "nv"))
    if (shared_chroma and width % 2) or (encoding.startswith("nv") and height % 2):
        with pytest.raises(ImageError, match=f"{encoding}.*even"):
            to_rgb(small)
    else:
        assert to_rgb(small).shape == (height, width, 3)


def bad(**changes):
    broken = message("rgb8", PHOTOGRAPH)
    for name, value in changes.items():
        setattr(broken, name, value)
    return broken


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (bad(width=0), "encoding rgb8 has no pixels: 0 x 240"),
        (bad(height=0), "no pixels: 320 x 0"),
        (bad(height=0, width=0, step=0, data=array.array("B")), "no pixels: 0 x 0"),
        (bad(step=320), "step 320; a row takes at least 960 bytes"),
        (bad(step=0), "step 0"),
        (bad(step=961), "holds 230400 bytes; 240 rows of step 961 take 230640"),
        (bad(data=array.array("B", bytes(230_399))), "holds 230399 bytes"),
        (bad(data=array.array("B", bytes(230_401))), "holds 230401 bytes"),
        (bad(data=array.array("B")), "holds 0 bytes"),
        (bad(encoding="rgb9"), "unknown image encoding 'rgb9'; known are rgb8, bgr8"),
        (bad(encoding=""), "unknown image encoding ''"),
        (bad(encoding="bgra8"), "encoding bgra8, 320 x 240, has step 960; a row takes at least 1280 bytes"),
        (bad(width=2**32 - 1, height=2**32 - 1), "4294967295 x 4294967295"),
        (bad(width=MAX_SIDE + 1), f"{MAX_SIDE + 1} x 240"),
        (bad(width=MAX_SIDE, height=MAX_SIDE), "at most"),
        (bad(encoding="yuv422", width=319), "yuv422 has 319 x 240 pixels; its width must be even"),
        (bad(encoding="nv12", height=239), "width and height must be even"),
    ],
)
def test_bad_messages_are_refused_with_the_reason(broken, reason):
    with pytest.raises(ImageError, match=reason):
        to_rgb(broken)


@settings(max_examples=300, deadline=None)
@given(
    encoding=st.sampled_from((*ENCODINGS, "nonsense")),
    height=st.integers(0, 40),
    width=st.integers(0, 40),
    step=st.integers(0, 400),
    slack=st.integers(-3, 3),
    fill=st.binary(min_size=1, max_size=8),
    big_endian=st.integers(0, 2),
)
def test_any_message_gives_a_picture_or_an_image_error(encoding, height, width, step, slack, fill, big_endian):
    length = max(0, step * height + (slack if abs(slack) == 3 else 0))
    data = array.array("B", (fill * (length // len(fill) + 1))[:length])
    any_message = SimpleNamespace(
        encoding=encoding, height=height, width=width, step=step, is_bigendian=big_endian, data=data
    )
    try:
        image = to_rgb(any_message)
    except ImageError:
        return
    assert image.shape == (height, width, 3)
    assert image.dtype == np.uint8


def test_maker_and_reader_agree():
    from builtin_interfaces.msg import Time

    made = rgb_message(PHOTOGRAPH, Time(sec=3, nanosec=4), "camera")
    assert isinstance(made.data, array.array)
    assert (made.header.stamp.sec, made.header.stamp.nanosec, made.header.frame_id) == (3, 4, "camera")
    np.testing.assert_array_equal(to_rgb(made), PHOTOGRAPH)
    view = PHOTOGRAPH[::2, ::-3]
    np.testing.assert_array_equal(to_rgb(rgb_message(view, Time())), view)


@pytest.mark.parametrize("picture", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)])
def test_maker_refuses_what_is_no_picture(picture):
    from builtin_interfaces.msg import Time

    with pytest.raises(ImageError, match="height, width, 3"):
        rgb_message(picture, Time())
