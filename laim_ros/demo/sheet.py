"""The contact sheet: frames as the camera published them, with the caption given and the true one."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw

from laim_ros.demo.frames import Frame
from laim_ros.drawing import contact_sheet, fitted, write_line
from laim_ros.records import coded_in_words

TILE_WIDTH, PICTURE_HEIGHT = 400, 300
_TEXT_HEIGHT = 96
_COLUMNS = 4
_MOST_TILES = 16
_MARGIN = 10
_TITLE_HEIGHT = 84

_PANEL = (250, 250, 250)
_RIGHT, _WRONG = (22, 128, 61), (200, 30, 40)
_INK, _PALE = (40, 40, 40), (110, 110, 110)
_TITLE_BACKGROUND, _TITLE_INK, _SUBTITLE_INK = (24, 24, 24), (255, 255, 255), (190, 190, 190)


class Album:
    """Keeps frames with their pictures, spread evenly over time, in bounded memory."""

    def __init__(self, most: int = 8 * _MOST_TILES) -> None:
        self._most = most
        self._every = 1
        self._seen = 0
        self._kept: list[Frame] = []

    def add(self, frame: Frame) -> None:
        """Keeps the frame if it has a picture and its turn has come."""
        if frame.picture is None:
            return
        if self._seen % self._every == 0:
            self._kept.append(frame)
            if len(self._kept) > self._most:
                self._kept = self._kept[::2]
                self._every *= 2
        self._seen += 1

    def chosen(self, most: int = _MOST_TILES) -> list[Frame]:
        """At most so many frames, evenly spread over time: the middle one of each scene and plan, right or wrong."""
        groups = [list(group) for _, group in groupby(self._kept, lambda frame: (frame.true_caption, frame.plan))]
        middles = [group[len(group) // 2] for group in groups]
        indices = np.linspace(0, len(middles) - 1, min(most, len(middles)))
        return [middles[round(index)] for index in indices]


def thumbnail(picture: np.ndarray) -> np.ndarray:
    """The picture as a tile shows it: uint8 (h, w, 3), at most 300 x 400."""
    return fitted(picture, PICTURE_HEIGHT, TILE_WIDTH)


def draw_sheet(
    frames: Sequence[Frame], title: str, subtitle: str, below: Callable[[int], np.ndarray] | None = None
) -> np.ndarray:
    """All frames as tiles under a title.

    Args:
        below: draws what stands under the tiles, uint8 (h, width, 3), for a width of four tiles.

    Returns:
        uint8 (H, W, 3), RGB.
    """
    tiles = contact_sheet([_tile(frame) for frame in frames], columns=_COLUMNS, tile_width=TILE_WIDTH)
    if below is not None:
        width = max(tiles.shape[1], _COLUMNS * TILE_WIDTH)
        tiles = cv2.copyMakeBorder(tiles, 0, 0, 0, width - tiles.shape[1], cv2.BORDER_REPLICATE)
        tiles = np.vstack([tiles, below(width)])
    head = Image.new("RGB", (tiles.shape[1], _TITLE_HEIGHT), _TITLE_BACKGROUND)
    pen = ImageDraw.Draw(head)
    width = tiles.shape[1] - 2 * _MARGIN
    write_line(pen, (_MARGIN, 12), title, 28, width, _TITLE_INK)
    write_line(pen, (_MARGIN, 52), subtitle, 18, width, _SUBTITLE_INK)
    return np.vstack([np.asarray(head), tiles])


def save_png(path: Path, picture: np.ndarray) -> None:
    """Writes uint8 (H, W, 3) RGB as PNG.

    Raises:
        OSError: the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    encoded = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1]
    path.write_bytes(encoded.tobytes())


def _tile(frame: Frame) -> np.ndarray:
    panel = Image.new("RGB", (TILE_WIDTH, PICTURE_HEIGHT + _TEXT_HEIGHT), _PANEL)
    picture = fitted(frame.picture, PICTURE_HEIGHT, TILE_WIDTH, enlarge=True)
    left, top = (TILE_WIDTH - picture.shape[1]) // 2, (PICTURE_HEIGHT - picture.shape[0]) // 2
    panel.paste((0, 0, 0), (0, 0, TILE_WIDTH, PICTURE_HEIGHT))
    panel.paste(Image.fromarray(picture), (left, top))
    pen = ImageDraw.Draw(panel)
    colour = _RIGHT if frame.right else _WRONG
    pen.rectangle((0, PICTURE_HEIGHT, TILE_WIDTH, PICTURE_HEIGHT + 4), fill=colour)
    _mark(pen, (_MARGIN, PICTURE_HEIGHT + 15), frame.right, colour)
    given = frame.error or frame.caption or "(no words)"
    indent, width = _MARGIN + 24, TILE_WIDTH - 2 * _MARGIN - 24
    write_line(pen, (indent, PICTURE_HEIGHT + 12), given, 17, width, colour)
    write_line(pen, (indent, PICTURE_HEIGHT + 40), f"true: {frame.true_caption or 'not known'}", 15, width, _INK)
    write_line(pen, (indent, PICTURE_HEIGHT + 66), _figures(frame), 14, width, _PALE)
    return np.asarray(panel)


def _figures(frame: Frame) -> str:
    split_point, sent_as, weights = frame.plan
    parts = [split_point]
    if split_point != "output":
        parts.append(coded_in_words(sent_as))
    if weights.isdigit():
        parts.append(f"weights {weights} bits")
    parts.append(f"{frame.packet_bytes:,} bytes")
    if math.isfinite(frame.latency_s):
        parts.append(f"{1e3 * frame.latency_s:.0f} ms")
    return " · ".join(parts)


def _mark(pen: ImageDraw.ImageDraw, corner: tuple[int, int], right: bool, colour: tuple[int, int, int]) -> None:
    """A tick or a cross; the font has neither."""
    x, y = corner
    if right:
        pen.line([(x, y + 8), (x + 5, y + 13), (x + 15, y + 1)], fill=colour, width=3)
    else:
        pen.line([(x + 1, y + 1), (x + 13, y + 13)], fill=colour, width=3)
        pen.line([(x + 13, y + 1), (x + 1, y + 13)], fill=colour, width=3)
