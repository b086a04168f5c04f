"""Captions drawn on pictures, and contact sheets of captioned pictures.

Text stands in a dark band at the bottom of the picture, so that it can be read on any background. Pictures are
`uint8 (H, W, 3)` RGB; none is changed in place.
"""

from __future__ import annotations

import math
import unicodedata
from bisect import bisect_right
from collections.abc import Sequence
from functools import lru_cache

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

MIN_WIDTH, MIN_HEIGHT = 320, 240
"""A smaller picture is enlarged and padded to this size: text on it could not be read otherwise."""

_MIN_FONT_PX = 12
_MOST_CHARACTERS = 1_000  # of one text; measuring endless ones would hold up the pictures behind it
_FONT_SHARE = 0.035  # of the geometric mean of the picture's sides
_BAND_SHARE = 0.6  # of the height; what does not fit is cut
_BAND_BRIGHTNESS = 0.3  # what shows through; white text on it keeps a contrast of at least 8 to 1
_DETAIL_SIZE = 0.75
_TITLE_COLOUR, _DETAIL_COLOUR = (255, 255, 255), (255, 222, 130)
_SHEET_BACKGROUND = 24


def captioned(image: np.ndarray, title: str, details: Sequence[str] = ()) -> np.ndarray:
    """A copy of a picture with text at its bottom.

    The size of the answer depends on the picture's size alone, so a stream of equal frames stays one.

    Args:
        image: uint8 (H, W, 3), any size.
        title: drawn large; wrapped, and cut with an ellipsis if it would fill more than 60 % of the height.
        details: further lines, drawn smaller, wrapped too; they keep their place when the title is cut.

    Returns:
        uint8 (max(H, 240), max(W, 320), 3).
    """
    canvas = _canvas(image)
    height, width = canvas.shape[:2]
    title_px = max(_MIN_FONT_PX, round(min(_FONT_SHARE * math.sqrt(height * width), width / 16)))
    detail_px = max(_MIN_FONT_PX, round(_DETAIL_SIZE * title_px))
    margin = title_px // 2
    room_px = int(_BAND_SHARE * height) - 2 * margin

    detail_lines = [line for text in details for line in _wrapped(text, detail_px, width - 2 * margin)]
    detail_lines = _cut(detail_lines, (room_px - _line_height_px(title_px)) // _line_height_px(detail_px))
    room_px -= len(detail_lines) * _line_height_px(detail_px)
    title_lines = _cut(_wrapped(title, title_px, width - 2 * margin), room_px // _line_height_px(title_px))
    lines = [(line, title_px, _TITLE_COLOUR) for line in title_lines]
    lines += [(line, detail_px, _DETAIL_COLOUR) for line in detail_lines]
    if lines:
        _draw_band(canvas, lines, margin)
    return canvas


def contact_sheet(images: Sequence[np.ndarray], columns: int = 4, tile_width: int = 480) -> np.ndarray:
    """Pictures side by side, in rows of `columns`, each fitted into a tile that has the shape of the first one.

    Returns:
        uint8 (rows of tiles, `columns` tiles, 3), at least one tile.
    """
    shape = images[0].shape if images else (MIN_HEIGHT, MIN_WIDTH, 3)
    tile_height = max(1, round(tile_width * shape[0] / shape[1]))
    columns = max(1, min(columns, len(images)))
    rows = max(1, math.ceil(len(images) / columns))
    gap = max(2, tile_width // 80)
    size = (gap + rows * (tile_height + gap), gap + columns * (tile_width + gap), 3)
    sheet = np.full(size, _SHEET_BACKGROUND, np.uint8)
    for index, image in enumerate(images):
        row, column = divmod(index, columns)
        top, left = gap + row * (tile_height + gap), gap + column * (tile_width + gap)
        fitted_image = fitted(image, tile_height, tile_width, enlarge=True)
        height, width = fitted_image.shape[:2]
        top, left = top + (tile_height - height) // 2, left + (tile_width - width) // 2
        sheet[top : top + height, left : left + width] = fitted_image
    return sheet


def fitted(image: np.ndarray, height: int, width: int, *, enlarge: bool = False) -> np.ndarray:
    """The picture shrunk (and with `enlarge` also enlarged) to fit into `height` x `width`; its shape is kept."""
    scale = min(height / image.shape[0], width / image.shape[1])
    if scale == 1 or (scale > 1 and not enlarge):
        return image
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)


def write_line(
    pen: ImageDraw.ImageDraw,
    corner: tuple[float, float],
    text: str,
    size_px: int,
    width_px: float,
    colour: tuple[int, ...],
    least_px: int = _MIN_FONT_PX,
) -> float:
    """Writes one line, made smaller to fit down to `least_px`, and cut with an ellipsis where that is not enough.

    Args:
        corner: left and top, in pixels.

    Returns:
        its width in pixels.
    """
    text = text[: max(1, int(width_px))]  # no letter is narrower than a pixel; measuring endless babble takes seconds
    while size_px > least_px and _font(size_px).getlength(text) > width_px:
        size_px -= 1
    font = _font(size_px)
    if font.getlength(text) > width_px:
        fitting = bisect_right(range(1, len(text)), width_px, key=lambda n: font.getlength(f"{text[:n]}…"))
        text = f"{text[:fitting]}…"
    pen.text(corner, text, fill=colour, font=font)
    return font.getlength(text)


def text_width_px(text: str, size_px: int) -> float:
    """Width of a line of this size."""
    return _font(size_px).getlength(text)


def _canvas(image: np.ndarray) -> np.ndarray:
    """A copy of the picture that is large enough for text."""
    if image.shape[0] < MIN_HEIGHT and image.shape[1] < MIN_WIDTH:
        image = fitted(image, MIN_HEIGHT, MIN_WIDTH, enlarge=True)
    height, width = image.shape[:2]
    canvas = np.zeros((max(height, MIN_HEIGHT), max(width, MIN_WIDTH), 3), np.uint8)
    top, left = (canvas.shape[0] - height) // 2, (canvas.shape[1] - width) // 2
    canvas[top : top + height, left : left + width] = image
    return canvas


def _draw_band(canvas: np.ndarray, lines: Sequence[tuple[str, int, tuple[int, int, int]]], margin: int) -> None:
    """Darkens the bottom of the canvas and writes (text, size in pixels, colour) lines there."""
    band_height = 2 * margin + sum(_line_height_px(size_px) for _, size_px, _ in lines)
    band = canvas[canvas.shape[0] - band_height :]
    picture = Image.fromarray(cv2.convertScaleAbs(band, alpha=_BAND_BRIGHTNESS))
    pen = ImageDraw.Draw(picture)
    top = margin
    for text, size_px, colour in lines:
        pen.text((margin, top), text, fill=colour, font=_font(size_px))
        top += _line_height_px(size_px)
    band[:] = np.asarray(picture)


@lru_cache(maxsize=64)
def _font(size_px: int) -> ImageFont.FreeTypeFont:
    # Pillow's own font is the same on every machine; OpenCV's is ASCII only before version 5.
    return ImageFont.load_default(size_px)


def _line_height_px(size_px: int) -> int:
    return round(1.3 * size_px)


def _drawable(text: str) -> str:
    """One line of characters that the font has: accents are left away, what remains unknown becomes `?`."""
    text = " ".join(text[:_MOST_CHARACTERS].split())
    for dash in "–—−":
        text = text.replace(dash, "-")
    plain = "".join(letter for letter in unicodedata.normalize("NFKD", text) if not unicodedata.combining(letter))
    return "".join(letter if letter.isascii() or letter in "·…“”‘’" else "?" for letter in plain)


def _wrapped(text: str, size_px: int, width_px: int) -> list[str]:
    """The text in lines no wider than `width_px`; a single word that is wider is broken."""
    font = _font(size_px)
    lines: list[str] = []
    line = ""
    for word in _drawable(text).split():
        joined = f"{line} {word}" if line else word
        if font.getlength(joined) <= width_px:
            line = joined
            continue
        if line:
            lines.append(line)
        while font.getlength(word) > width_px and len(word) > 1:
            fitting = bisect_right(range(1, len(word)), width_px, key=lambda n: font.getlength(word[:n]))
            lines.append(word[: max(1, fitting)])
            word = word[max(1, fitting) :]
        line = word
    return [*lines, line] if line else lines


def _cut(lines: list[str], most: int) -> list[str]:
    """At most so many lines, but one at least; an ellipsis ends what was cut."""
    most = max(1, most)
    if len(lines) <= most:
        return lines
    return [*lines[: most - 1], lines[most - 1].rstrip(" .,") + "…"]
