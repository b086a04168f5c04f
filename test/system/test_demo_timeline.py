"""The demo's timeline, without processes: what counts as a change, and that the picture shows it."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from laim_ros.demo.frames import Frame
from laim_ros.demo.sheet import draw_sheet
from laim_ros.demo.summary import in_time_share, report
from laim_ros.demo.timeline import Timeline, report_words
from laim_ros.demo.timeline_picture import draw_timeline
from laim_ros.records import PlanReport

PICTURES = PlanReport(split_point="input", weight_bits=8, feature_bits=8, codec="jpeg90", battery=0.9, goodput_bps=1e6)
FEATURES = PlanReport(split_point="qformer", weight_bits=32, feature_bits=4, codec="klt", battery=0.5, reason="slow")
ALONE = PlanReport(split_point="output", weight_bits=32, feature_bits=4, codec="plain", battery=0.2, goodput_bps=0.0)
WIDTH = 900


def a_frame(at_s: float, latency_s: float) -> Frame:
    return Frame(
        stamp_ns=1, true_caption="", scene=None, caption="", right=False, reason="", at_s=at_s, latency_s=latency_s
    )


def a_timeline(*reports: tuple[float, PlanReport]) -> Timeline:
    timeline = Timeline(links=[(0.0, 2e6), (4.0, 16e3), (7.0, 0.0)])
    for at_s, each in reports:
        timeline.add_report(at_s, each)
    return timeline


def test_a_change_is_another_way_to_run_not_another_figure() -> None:
    timeline = Timeline()
    assert timeline.add_report(0.0, PICTURES).words == "input, jpeg90"
    other_figures = PlanReport(split_point="input", weight_bits=4, feature_bits=2, codec="jpeg90", battery=0.8)
    assert timeline.add_report(1.0, other_figures) is None, "where pictures are sent, bits mean nothing"
    change = timeline.add_report(2.0, FEATURES)
    assert (change.at_s, change.words, change.report.reason) == (2.0, "qformer, 4 bits (klt)", "slow")
    decibels = PlanReport(split_point="qformer", weight_bits=32, feature_bits=4, codec="klt12")
    assert report_words(decibels) == "qformer, klt12"
    assert timeline.add_report(3.0, ALONE).words == "all on the robot"
    history = json.loads(report([], [], timeline.history()), parse_constant=pytest.fail)
    assert [(each["at_s"], each["split_point"]) for each in history["plan_history"]] == [
        (0.0, "input"),
        (2.0, "qformer"),
        (3.0, "output"),
    ]
    assert [each["charge"] for each in history["battery"]] == [0.9, 0.8, 0.5, 0.2]
    assert history["goodput"][1]["goodput_bps"] is None


def test_the_share_in_time_is_of_frames_whose_latency_is_known() -> None:
    frames = [a_frame(1, 0.1), a_frame(2, 0.7), a_frame(3, math.nan), a_frame(4, 0.6)]
    assert math.isclose(in_time_share(frames, 0.6), 2 / 3)
    assert math.isnan(in_time_share(frames, 0.0))


GREEN, RED = (22, 128, 61), (200, 30, 40)


def pixels(picture: np.ndarray, colour: tuple[int, int, int]) -> int:
    return int((np.abs(picture.astype(int) - colour).max(axis=2) < 40).sum())


def test_late_frames_and_outages_are_red_and_changes_are_explained() -> None:
    timeline = a_timeline((0.0, PICTURES), (5.0, FEATURES), (8.0, ALONE))
    in_time = draw_timeline(timeline, [a_frame(1.0, 0.1), a_frame(5.5, 0.3)], 10.0, 0.6, WIDTH)
    late = draw_timeline(timeline, [a_frame(1.0, 0.1), a_frame(5.5, 0.9)], 10.0, 0.6, WIDTH)
    assert in_time.dtype == np.uint8
    assert in_time.shape[1:] == (WIDTH, 3)
    assert in_time.shape == late.shape
    assert pixels(in_time, GREEN) > pixels(late, GREEN) + 5, "a point less"
    no_deadline = draw_timeline(timeline, [a_frame(1.0, 0.1), a_frame(5.5, 0.9)], 10.0, 0.0, WIDTH)
    assert pixels(no_deadline, RED) == 0 < pixels(in_time, RED), "the deadline is a red line"
    assert pixels(no_deadline, GREEN) == pixels(in_time, GREEN)
    outage = (np.abs(late.astype(int) - (250, 221, 219)).max(axis=2) < 3).sum(axis=1).max()
    assert 0.25 < outage / (0.85 * WIDTH) < 0.4, "three of ten seconds"
    fewer = draw_timeline(a_timeline((0.0, PICTURES), (5.0, FEATURES)), [], 10.0, 0.6, WIDTH)
    assert fewer.shape[0] < late.shape[0], "a lane and a line less"


def test_a_timeline_can_be_drawn_whatever_is_missing() -> None:
    nothing = PlanReport(split_point="vit.2", reason="x" * 500)
    many = [(0.1 * number, (PICTURES, FEATURES)[number % 2]) for number in range(60)]
    for timeline in (Timeline(), a_timeline((0.0, nothing)), a_timeline(*many), a_timeline((99.0, ALONE))):
        for frames in ([], [a_frame(math.nan, 0.1), a_frame(2.0, math.nan), a_frame(3.0, 0.0), a_frame(50.0, 1e4)]):
            assert draw_timeline(timeline, frames, 0.0 if frames else 86_400.0, 0.0, 600).shape[0] < 1200


def test_the_sheet_has_the_timeline_under_its_tiles() -> None:
    frame = Frame(1, "a cube", None, "a cube", True, "", picture=np.zeros((300, 400, 3), np.uint8))
    alone = draw_sheet([frame], "title", "subtitle")
    widths = []

    def below(width: int) -> np.ndarray:
        widths.append(width)
        return np.full((50, width, 3), 7, np.uint8)

    sheet = draw_sheet([frame], "title", "subtitle", below)
    assert sheet.shape == (alone.shape[0] + 50, widths[0], 3)
    assert widths[0] >= 1600
    assert (sheet[-50:] == 7).all()
