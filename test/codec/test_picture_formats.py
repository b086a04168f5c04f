"""JPEG, WebP and AVIF alike: what comes back, what another reader makes of it, bytes within a bound."""

import itertools

import cv2
import numpy as np
import pytest
import skimage
from codec_streams import photograph
from hypothesis import given, settings
from hypothesis import strategies as st
from picture_making import FORMATS, LABELS, by_pillow, codec_as, noise, payload_as, read_by_pillow

from laim_ros.codec import CodecError
from laim_ros.codec import picture as picture_module
from laim_ros.codec.picture import picture_formats_here

pytestmark = pytest.mark.skipif(picture_formats_here() != FORMATS, reason="this OpenCV lacks a format")


@given(st.sampled_from(FORMATS), st.integers(1, 70), st.integers(1, 70), st.integers(1, 100))
@settings(max_examples=60)
def test_shape_and_dtype_come_back(name, height, width, quality):
    codec = codec_as(f"{name}{quality}", height, width)
    decoded = codec.decode(codec.encode(photograph(height, width)))
    assert decoded.shape == (height, width, 3)
    assert decoded.dtype == np.uint8
    assert decoded.flags.writeable
    assert decoded.flags.c_contiguous


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("colour", [(255, 0, 0), (0, 0, 255), (200, 120, 30)])
def test_colours_are_rgb_on_both_sides(name, colour):
    codec = codec_as(f"{name}90", 32, 48)
    decoded = codec.decode(codec.encode(np.full((32, 48, 3), colour, np.uint8)))
    assert np.abs(decoded.astype(int) - colour).max() <= 4


@pytest.mark.parametrize(("name", "quality"), list(itertools.product(FORMATS, (1, 60, 100))))
def test_another_reader_sees_the_same_picture(name, quality):
    codec = codec_as(f"{name}{quality}", 33, 50)
    payload = codec.encode(photograph(33, 50))
    assert np.abs(codec.decode(payload).astype(int) - read_by_pillow(payload)).max() <= 2  # libraries round apart


@pytest.mark.parametrize("name", FORMATS)
def test_another_writers_plain_picture_is_read(name):
    payload = by_pillow(photograph(48, 64), LABELS[name].upper(), quality=90)
    decoded = codec_as(f"{name}50", 48, 64).decode(payload)
    assert np.abs(decoded.astype(int) - read_by_pillow(payload)).max() <= 2


@pytest.mark.parametrize("name", FORMATS)
def test_quality_buys_fidelity_with_bytes(name):
    picture = photograph(96, 96)
    sizes, errors = [], []
    for quality in (5, 50, 95):
        codec = codec_as(f"{name}{quality}", 96, 96)
        payload = codec.encode(picture)
        sizes.append(len(payload))
        errors.append(np.abs(codec.decode(payload).astype(int) - picture).mean())
    assert sizes == sorted(sizes)
    assert errors == sorted(errors, reverse=True)


def test_webp_is_lossy_at_every_quality_and_avif_below_100():
    picture = noise(40, 40)
    exact = {
        codec
        for codec in ("webp1", "webp100", "avif1", "avif99", "avif100")
        if np.array_equal(codec_as(codec, 40, 40).decode(codec_as(codec, 40, 40).encode(picture)), picture)
    }
    assert exact == {"avif100"}


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize(
    "picture",
    [noise(96, 96), noise(96, 96, extremes=True), noise(2, 600, extremes=True)],
    ids=["noise", "extremes", "thin"],
)
def test_the_noisiest_picture_is_within_the_bound_on_bytes(name, picture):
    codec = codec_as(f"{name}100", *picture.shape[:2])
    payload = codec.encode(picture)
    assert codec.decode(payload).shape == picture.shape
    with pytest.raises(CodecError, match=rf"the most that a {LABELS[name]} of"):
        codec.decode(payload + bytes(10 * picture.size + 100_000))


@pytest.mark.parametrize("name", FORMATS)
def test_bytes_are_bound_by_a_lower_quality(name):
    picture = photograph(96, 96) ^ (noise(96, 96) >> 4)
    codec = codec_as(f"{name}90", 96, 96)
    free, smallest = codec.encode(picture), codec_as(f"{name}1", 96, 96).encode(picture)
    assert codec.encode(picture, len(free)) == free
    assert len(codec.encode(picture, len(smallest))) <= len(smallest)
    most = (len(free) + len(smallest)) // 2
    bound = codec.encode(picture, most)
    assert 0.8 * most < len(bound) <= most  # the best that fits, not just any
    worst, best, between = (
        np.abs(codec.decode(payload).astype(int) - picture).mean() for payload in (smallest, free, bound)
    )
    assert best < between < worst
    with pytest.raises(
        CodecError, match=rf"{len(smallest)} bytes even at quality 1, more than the {len(smallest) - 1}"
    ):
        codec.encode(picture, len(smallest) - 1)


def test_avif_is_smaller_than_in_opencvs_haste():
    picture = cv2.resize(skimage.data.astronaut(), (96, 96), interpolation=cv2.INTER_AREA)
    hasty = cv2.imencode(".avif", picture[..., ::-1].copy(), [cv2.IMWRITE_AVIF_QUALITY, 50])[1]
    assert len(codec_as("avif50", 96, 96).encode(picture)) < 0.95 * len(hasty)


def test_a_bound_takes_few_tries(monkeypatch):
    tries = []
    monkeypatch.setattr(picture_module.cv2, "imencode", lambda *args, real=cv2.imencode: tries.append(0) or real(*args))
    with pytest.raises(CodecError, match="even at quality 1"):
        codec_as("jpeg100", 96, 96).encode(photograph(96, 96), 1)
    assert len(tries) <= 8
    tries.clear()
    picture = noise(96, 96)
    codec_as("jpeg90", 96, 96).encode(picture, 10_000)
    assert len(tries) <= 5


@pytest.fixture
def fresh_formats():
    picture_formats_here.cache_clear()
    yield
    picture_formats_here.cache_clear()


def fails_for(suffix, real):
    def call(first, *args):
        if (first if isinstance(first, str) else f".{first[8:12].tobytes().decode(errors='replace')}") == suffix:
            error = cv2.error()
            error.err = "not built"
            raise error
        return real(first, *args)

    return call


@pytest.mark.parametrize(
    ("function", "replacement"),
    [
        ("haveImageWriter", lambda suffix: suffix != ".avif"),
        ("imencode", fails_for(".avif", cv2.imencode)),
        ("imdecode", fails_for(".avif", cv2.imdecode)),
    ],
)
@pytest.mark.usefixtures("fresh_formats")
def test_a_format_that_opencv_lacks_is_refused_at_once(function, replacement, monkeypatch):
    monkeypatch.setattr(picture_module.cv2, function, replacement)
    assert picture_formats_here() == ("jpeg", "webp")
    with pytest.raises(CodecError, match="does not write and read AVIF; use another codec, one of jpeg, webp with"):
        codec_as("avif50", 96, 96)
    assert codec_as("webp50", 96, 96).decode(payload_as("webp50", 96, 96)).shape == (96, 96, 3)


def test_a_picture_too_large_for_its_format_is_refused():
    with pytest.raises(CodecError, match=r"cannot write \(1, 20000, 3\) as WebP"):
        codec_as("webp50", 1, 20000).encode(np.zeros((1, 20000, 3), np.uint8))


@pytest.mark.parametrize("name", ["webp", "avif"])
def test_damage_leaves_the_console_quiet_and_the_log_as_it_was(name, capfd):
    level = cv2.utils.logging.getLogLevel()
    payload = bytearray(payload_as(f"{name}50", 96, 96))
    payload[-300:] = bytes(300)
    codec = codec_as(f"{name}50", 96, 96)
    for data in (bytes(payload), payload_as(f"{name}50", 96, 96)):
        try:
            codec.decode(data)
        except CodecError:
            assert data == payload
    assert capfd.readouterr() == ("", "")
    assert cv2.utils.logging.getLogLevel() == level
    assert level != cv2.utils.logging.LOG_LEVEL_SILENT
