"""The timeline as a picture: battery, link, plan and latency above one another, plan changes numbered and explained."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import cv2
import numpy as np
from PIL import Image, ImageDraw

from laim_ros.demo.frames import Frame, plan_in_force
from laim_ros.demo.link import goodput_words
from laim_ros.demo.timeline import Timeline
from laim_ros.drawing import text_width_px, write_line
from laim_ros.planning.reasons import seconds_in_words
from laim_ros.records import coded_in_words

_FINE = 2
"""Everything is drawn so much larger and shrunk: Pillow's lines have no smooth edges of their own."""

_LEFT, _RIGHT, _TOP = 190, 36, 16
_GAP, _MARKS, _AXIS, _LINE = 22, 34, 44, 25
_BATTERY, _LINK, _LANE, _LATENCY = 70, 150, 34, 170
_WORDS_ROOM = 14
_MOST_EXPLAINED = 12
_TITLE_PX, _TEXT_PX, _SMALL_PX = 17, 15, 14

_PAPER, _PANEL, _GRID = (250, 250, 250), (255, 255, 255), (228, 228, 228)
_INK, _PALE = (40, 40, 40), (110, 110, 110)
_SET, _OUTAGE = (205, 210, 218), (250, 221, 219)
_COUNTED, _CHARGE = (29, 92, 191), (22, 128, 61)
_IN_TIME, _LATE = (22, 128, 61), (200, 30, 40)
_BARS = ((217, 119, 6), (124, 58, 237), (2, 132, 199), (13, 148, 136), (190, 24, 93), (77, 98, 20))
_WHITE = (255, 255, 255)


def draw_timeline(
    timeline: Timeline, frames: Sequence[Frame], seconds: float, deadline_s: float, width: int
) -> np.ndarray:
    """Everything over the same time, the plan changes marked and explained below.

    Args:
        timeline: decisions and link.
        frames: that came back, with `at_s`.
        seconds: length of the time axis.
        deadline_s: drawn into the latencies; 0 is none.
        width: of the picture, at least 600.

    Returns:
        uint8 (H, width, 3), RGB.
    """
    return _Drawing(timeline, frames, seconds, deadline_s, width).picture()


class _Drawing:
    def __init__(
        self, timeline: Timeline, frames: Sequence[Frame], seconds: float, deadline_s: float, width: int
    ) -> None:
        self._timeline, self._seconds, self._deadline_s = timeline, max(seconds, 1e-3), deadline_s
        self._frames = [frame for frame in frames if math.isfinite(frame.at_s)]
        self._lanes = _lanes(timeline)
        self._width = width
        explained = min(len(timeline.changes), _MOST_EXPLAINED)
        explained += len(timeline.changes) > explained
        panels = _BATTERY + _LINK + _LANE * len(self._lanes) + _LATENCY + 3 * _GAP
        self._height = _TOP + _MARKS + panels + _AXIS + _LINE * explained + _TOP
        self._canvas = Image.new("RGB", (_FINE * width, _FINE * self._height), _PAPER)
        self._pen = ImageDraw.Draw(self._canvas)

    def picture(self) -> np.ndarray:
        top = _TOP + _MARKS
        first = top
        top = self._battery(top) + _GAP
        top = self._link(top) + _GAP
        top = self._plans(top) + _GAP
        top = self._latencies(top)
        self._time_axis(top)
        self._marks(first, top)
        self._explain(top + _AXIS)
        size = (self._width, self._height)
        return cv2.resize(np.asarray(self._canvas), size, interpolation=cv2.INTER_AREA)

    # The panels; each returns where it ends.

    def _battery(self, top: int) -> int:
        bottom = self._panel(top, _BATTERY, "battery", "charge")
        for share in (0.0, 0.5, 1.0):
            self._grid(bottom - share * _BATTERY, f"{100 * share:.0f} %")
        points = [(at_s, report.battery) for at_s, report in self._timeline.reports if math.isfinite(report.battery)]
        self._curve([(self._x(at_s), bottom - charge * _BATTERY) for at_s, charge in points], _CHARGE)
        return bottom

    def _link(self, top: int) -> int:
        bottom = self._panel(top, _LINK, "link", "as set", "counted on")
        counted = [(at_s, report.goodput_bps) for at_s, report in self._timeline.reports]
        speeds = [speed for _, speed in (*self._timeline.links, *counted) if speed > 0 and math.isfinite(speed)]
        scale = _LogScale(speeds or [1e5], top + _WORDS_ROOM, bottom)
        for at_s, until_s, speed in self._spans(self._timeline.links):
            left, right = self._x(at_s), self._x(until_s)
            level = scale.y(speed) if speed else top
            self._box(left, level, right, bottom, _SET if speed else _OUTAGE)
            words = goodput_words(speed) if speed else "outage"
            self._words(left + 6, top + 3, words, right - left - 8, _PALE)
        for decade in scale.decades():
            self._grid(scale.y(decade), goodput_words(decade).replace(".0 ", " "))
        pieces: list[list[tuple[float, float]]] = [[]]
        for at_s, until_s, speed in self._spans(counted):
            if speed > 0 and math.isfinite(speed):
                pieces[-1] += [(self._x(at_s), scale.y(speed)), (self._x(until_s), scale.y(speed))]
            elif pieces[-1]:
                pieces.append([])
        for piece in pieces:
            self._curve(piece, _COUNTED)
        self._key(top + 30, _SET, True)
        self._key(top + 50, _COUNTED, False)
        return bottom

    def _plans(self, top: int) -> int:
        bottom = self._panel(top, _LANE * len(self._lanes), "plan")
        for number, lane in enumerate(self._lanes):
            level = top + _LANE * number
            if number:
                self._pen.line(self._fine(_LEFT, level, self._width - _RIGHT, level), fill=_GRID, width=_FINE)
            width = text_width_px(lane, _SMALL_PX)
            self._words(_LEFT - 10 - width, level + 8, lane, width + 2, _INK)
        for at_s, until_s, report in self._spans([(each.at_s, each.report) for each in self._timeline.changes]):
            level = top + _LANE * self._lanes.index(report.split_point)
            colour = _BARS[self._lanes.index(report.split_point) % len(_BARS)]
            left, right = self._x(at_s), max(self._x(until_s), self._x(at_s) + 3)
            self._box(left, level + 4, right, level + _LANE - 4, colour)
            plan = plan_in_force(report.split_point, report.weight_bits, report.feature_bits, report.codec)
            words = coded_in_words(plan.sent_as).replace("–", "nothing sent")
            words += f" · weights {plan.weights} bits" if plan.weights.isdigit() and plan.weights != "32" else ""
            if right - left > 40:
                self._words(left + 8, level + 8, words, right - left - 12, _WHITE)
        return bottom

    def _latencies(self, top: int) -> int:
        bottom = self._panel(top, _LATENCY, "latency", "image to result")
        known = [frame for frame in self._frames if math.isfinite(frame.latency_s) and frame.latency_s > 0]
        limits = [self._deadline_s] if self._deadline_s else []
        scale = _LogScale([*(frame.latency_s for frame in known), *limits] or [1.0], top, bottom)
        for decade in scale.decades():
            self._grid(scale.y(decade), seconds_in_words(decade).replace(".0 ", " "))
        if limits:
            level = scale.y(self._deadline_s)
            self._dashed(_LEFT, level, self._width - _RIGHT, level, _LATE)
            words = f"deadline {seconds_in_words(self._deadline_s)}"
            place = self._width - _RIGHT - text_width_px(words, _SMALL_PX) - 6
            self._words(place, level - 20, words, 400, _LATE)
        for frame in known:
            late = bool(limits) and frame.latency_s > self._deadline_s
            x, y = self._x(frame.at_s), scale.y(frame.latency_s)
            self._pen.ellipse(self._fine(x - 3, y - 3, x + 3, y + 3), fill=_LATE if late else _IN_TIME)
        return bottom

    def _time_axis(self, bottom: int) -> None:
        step = next(
            step for step in (1, 2, 5, 10, 30, 60, 300, 600, 3600, 21_600, 86_400) if self._seconds / step <= 16
        )
        for number in range(int(self._seconds / step) + 1):
            x = self._x(number * step)
            self._pen.line(self._fine(x, bottom, x, bottom + 5), fill=_PALE, width=_FINE)
            words = f"{number * step} s"
            self._words(x - text_width_px(words, _SMALL_PX) / 2, bottom + 8, words, 80, _PALE)

    def _marks(self, top: int, bottom: int) -> None:
        """A numbered mark for each change, and a line through all panels; marks that would overlap move aside."""
        last = -math.inf
        for number, change in enumerate(self._timeline.changes, start=1):
            x = self._x(change.at_s)
            self._dashed(x, top - 6, x, bottom, _PALE)
            last = max(x, last + 24)
            self._number(last, top - 18, number)

    def _explain(self, top: int) -> None:
        changes = self._timeline.changes
        for number, change in enumerate(changes[:_MOST_EXPLAINED], start=1):
            y = top + _LINE * (number - 1)
            self._number(28, y + 11, number)
            self._words(48, y + 3, f"{change.at_s:.1f} s", 70, _PALE)
            self._words(108, y + 3, change.words, 280, _INK, _TEXT_PX)
            self._words(400, y + 3, change.report.reason, self._width - 400 - _RIGHT, _PALE, _TEXT_PX)
        if len(changes) > _MOST_EXPLAINED:
            y = top + _LINE * _MOST_EXPLAINED
            self._words(48, y + 3, f"and {len(changes) - _MOST_EXPLAINED} more", 200, _PALE)

    # Pieces.

    def _panel(self, top: int, height: int, title: str, *about: str) -> int:
        bottom = top + height
        self._box(_LEFT, top, self._width - _RIGHT, bottom, _PANEL)
        self._words(16, top + 2, title, 100, _INK, _TITLE_PX)
        for number, words in enumerate(about):
            self._words(36 if len(about) > 1 else 16, top + 23 + 20 * number, words, 110, _PALE)
        return bottom

    def _key(self, level: float, colour: tuple[int, ...], filled: bool) -> None:
        half = 5 if filled else 1.5
        self._box(16, level - half, 30, level + half, colour)

    def _grid(self, level: float, words: str) -> None:
        self._pen.line(self._fine(_LEFT, level, self._width - _RIGHT, level), fill=_GRID, width=_FINE)
        width = text_width_px(words, _SMALL_PX)
        self._words(_LEFT - 8 - width, level - 9, words, width + 2, _PALE)

    def _spans(self, points: Sequence[tuple[float, object]]) -> list[tuple[float, float, object]]:
        """(from, until, value) of values that hold until the next."""
        ends = [*(at_s for at_s, _ in points[1:]), self._seconds]
        return [(at_s, max(at_s, end_s), value) for (at_s, value), end_s in zip(points, ends, strict=False)]

    def _x(self, at_s: float) -> float:
        share = min(max(at_s / self._seconds, 0.0), 1.0)
        return _LEFT + share * (self._width - _RIGHT - _LEFT)

    def _box(self, left: float, top: float, right: float, bottom: float, colour: tuple[int, ...]) -> None:
        self._pen.rectangle(self._fine(left, top, right, bottom), fill=colour)

    def _curve(self, points: Sequence[tuple[float, float]], colour: tuple[int, ...]) -> None:
        fine = [(_FINE * x, _FINE * y) for x, y in points]
        if len(fine) > 1:
            self._pen.line(fine, fill=colour, width=2 * _FINE, joint="curve")

    def _dashed(self, left: float, top: float, right: float, bottom: float, colour: tuple[int, ...]) -> None:
        length = math.hypot(right - left, bottom - top)
        steps = np.arange(0.0, length, 6.0)
        for begin, end in pairwise([*steps, length]):
            if round(begin / 6.0) % 2 == 0:
                shares = begin / length, min(end, length) / length
                ends = [(left + share * (right - left), top + share * (bottom - top)) for share in shares]
                self._pen.line(self._fine(*ends[0], *ends[1]), fill=colour, width=_FINE)

    def _number(self, x: float, y: float, number: int) -> None:
        self._pen.ellipse(self._fine(x - 11, y - 11, x + 11, y + 11), fill=_INK)
        words = str(number)
        self._words(x - text_width_px(words, _SMALL_PX) / 2, y - 9, words, 22, _WHITE)

    def _words(
        self, x: float, y: float, text: str, width: float, colour: tuple[int, ...], size_px: int = _SMALL_PX
    ) -> None:
        if width > 0:
            write_line(self._pen, (_FINE * x, _FINE * y), text, _FINE * size_px, _FINE * width, colour, _FINE * 11)

    @staticmethod
    def _fine(*places: float) -> tuple[float, ...]:
        return tuple(_FINE * place for place in places)


class _LogScale:
    """Decades over a panel's height, with a little room at both ends."""

    def __init__(self, values: Sequence[float], top: float, bottom: float) -> None:
        self._low, self._high = math.log10(min(values)) - 0.25, math.log10(max(values)) + 0.25
        if self._high - self._low < 1.2:
            middle = (self._high + self._low) / 2
            self._low, self._high = middle - 0.6, middle + 0.6
        self._top, self._bottom = top, bottom

    def y(self, value: float) -> float:
        share = (math.log10(value) - self._low) / (self._high - self._low)
        return self._bottom - min(max(share, 0.0), 1.0) * (self._bottom - self._top)

    def decades(self) -> list[float]:
        return [10.0**power for power in range(math.ceil(self._low), math.floor(self._high) + 1)]


def _lanes(timeline: Timeline) -> list[str]:
    """Split points that were in force, as the model has them in order."""
    order = {"input": 0, "vision": 1000, "qformer": 1001, "output": 1002}
    points = {change.report.split_point for change in timeline.changes}
    return sorted(points, key=lambda point: order.get(point, int(point.rpartition(".")[2] or 0) if "." in point else 0))
