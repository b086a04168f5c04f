"""Captions on pictures of any size and background, and contact sheets."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laim_ros.drawing import MIN_HEIGHT, MIN_WIDTH, captioned, contact_sheet, fitted

DETAILS = ["qformer · 8 bits · 612 bytes", "42 ms = robot 12 + link 10 + edge 20"]


def flat(height, width, value):
    return np.full((height, width, 3), value, np.uint8)


@pytest.mark.parametrize("value", [0, 128, 255])
def test_text_is_bright_on_a_dark_band_whatever_lies_below(value):
    picture = captioned(flat(480, 640, value), "A red ball is left of a blue cube.", DETAILS)
    changed = (picture != value).any(-1).any(1)
    band = picture[np.argmax(changed) :] if value else picture[400:]
    background = np.median(band.reshape(-1, 3), axis=0)
    assert (background <= 90).all(), "dark"
    assert (band.min(-1) > 200).sum() > 200, "with white letters"
    assert np.median(picture[:300]) == value, "and the rest of the picture as it was"


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((480, 640), (480, 640)),
        ((1080, 1920), (1080, 1920)),
        ((96, 96), (MIN_HEIGHT, MIN_WIDTH)),
        ((1, 1), (MIN_HEIGHT, MIN_WIDTH)),
        ((2000, 10), (2000, MIN_WIDTH)),
        ((20, 900), (MIN_HEIGHT, 900)),
    ],
)
def test_size_depends_on_the_picture_alone(size, expected):
    for title in ("", "A cat.", "A very long caption that goes on and on. " * 30):
        assert captioned(flat(*size, 99), title, DETAILS).shape == (*expected, 3)


def test_the_picture_given_is_left_alone_and_without_text_returned():
    picture = np.random.default_rng(0).integers(0, 256, (300, 400, 3)).astype(np.uint8)
    before = picture.copy()
    assert (captioned(picture, "A cat.") != before).any()
    np.testing.assert_array_equal(picture, before)
    np.testing.assert_array_equal(captioned(picture, ""), before)


def ink(picture, background):
    """Rows and columns of the white letters' box."""
    letters = (picture.min(-1) > 200) & (background.min(-1) <= 200)
    rows, columns = np.nonzero(letters.any(1))[0], np.nonzero(letters.any(0))[0]
    return rows[0], rows[-1], columns[0], columns[-1]


def test_long_captions_wrap_inside_the_picture():
    black = flat(480, 640, 0)
    short = ink(captioned(black, "A cat."), black)
    long = ink(captioned(black, "a cat sits on a red cushion beside the window, " * 4), black)
    word = ink(captioned(black, "m" * 200), black)
    for top, bottom, left, right in (long, word):
        assert bottom - top > 2 * (short[1] - short[0]), "several lines"
        assert left >= 1
        assert right <= 638
        assert bottom <= 478


def test_what_never_fits_is_cut_above_the_details():
    black = flat(480, 640, 0)
    endless, more = (captioned(black, "word " * n, DETAILS) for n in (300, 10_000))
    np.testing.assert_array_equal(endless, more)
    assert (endless[:190] == 0).all(), "at most 60 % of the height"
    np.testing.assert_array_equal(endless[-50:], captioned(black, "word", DETAILS)[-50:])


def test_different_texts_look_different():
    looks = {captioned(flat(240, 320, 80), text).tobytes() for text in ("a red ball", "a red cube", "été", "ete", "中")}
    assert len(looks) == 4, "only été and ete look the same"


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(1, 700),
    width=st.integers(1, 700),
    title=st.text(max_size=300),
    details=st.lists(st.text(max_size=60), max_size=4),
)
def test_any_text_on_any_picture(height, width, title, details):
    picture = captioned(flat(height, width, 50), title, details)
    assert picture.shape == (max(height, MIN_HEIGHT), max(width, MIN_WIDTH), 3)
    assert picture.dtype == np.uint8


def test_contact_sheet_holds_every_picture():
    colours = [(200, 10 * n, 90) for n in range(1, 8)]
    sheet = contact_sheet([np.full((48 + n, 64, 3), c, np.uint8) for n, c in enumerate(colours)], 3, 200)
    for colour in colours:
        assert (sheet == colour).all(-1).sum() > 0.8 * 200 * 150
    assert sheet.shape[1] < 3 * 200 + 20
    assert contact_sheet([]).ndim == 3


def test_fitted_keeps_the_shape_and_enlarges_only_when_asked():
    picture = flat(300, 600, 1)
    assert fitted(picture, 480, 640) is picture
    assert fitted(picture, 100, 640).shape == (100, 200, 3)
    assert fitted(picture, 1_000, 1_200, enlarge=True).shape == (600, 1_200, 3)
    assert fitted(flat(1, 900, 1), 9, 9).shape == (1, 9, 3)
