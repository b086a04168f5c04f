"""The plain parts of the demo, without processes: matching, scoring, questions, the sheet, the screens."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from laim_ros.demo.frames import Frame, Matcher
from laim_ros.demo.questions import Answered, Questioner
from laim_ros.demo.screen import LiveScreen, PlainScreen, screen_for
from laim_ros.demo.sheet import Album, draw_sheet, thumbnail
from laim_ros.demo.summary import report, summarise
from laim_ros.records import FrameResult, LinkReport, PlanReport, Reference
from laim_ros.scenes import captions, questions, sample_scene

SCENE = sample_scene(5, "held_out")
TRUE = captions(SCENE)[0]
REFERENCE = Reference(TRUE, SCENE.to_json())
RESULT = FrameResult(
    texts=(TRUE,), split_point="qformer", weight_bits=4, feature_bits=8, codec="plain", packet_bytes=900, link_s=9.0
)
LINK = LinkReport(packet_bytes=900, robot_s=0.01, link_s=0.02, edge_s=0.03, latency_s=0.06)


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def matcher(clock: Clock) -> Matcher:
    return Matcher(clock)


def a_frame(**changes: object) -> Frame:
    frame = Frame(
        stamp_ns=1,
        true_caption=TRUE,
        scene=SCENE,
        caption=TRUE,
        right=True,
        reason="",
        split_point="qformer",
        weight_bits=32,
        feature_bits=8,
        codec="klt",
        packet_bytes=900,
        robot_s=0.01,
        link_s=0.02,
        edge_s=0.03,
        latency_s=0.06,
    )
    return replace(frame, **changes)


# Matching.


def add_all(matcher: Matcher, stamp_ns: int = 7) -> list[Callable[[], None]]:
    return [
        lambda: matcher.add_picture(stamp_ns, np.zeros((3, 4, 3), np.uint8)),
        lambda: matcher.add_reference(stamp_ns, REFERENCE),
        lambda: matcher.add_result(stamp_ns, RESULT),
        lambda: matcher.add_link(stamp_ns, LINK),
    ]


def test_a_frame_is_there_once_all_that_matters_is(matcher: Matcher) -> None:
    steps = add_all(matcher)
    for step in steps[:3]:
        step()
        assert matcher.take() == []
    steps[3]()
    (frame,) = matcher.take()
    assert (frame.stamp_ns, frame.caption, frame.true_caption, frame.right) == (7, TRUE, TRUE, True)
    assert (frame.robot_s, frame.link_s, frame.edge_s, frame.latency_s) == (0.01, 0.02, 0.03, 0.06)
    assert frame.plan == ("qformer", "8 plain", "4")
    assert frame.picture.shape == (3, 4, 3)
    assert matcher.take() == []


def test_the_order_of_arrival_does_not_matter(matcher: Matcher) -> None:
    for step in reversed(add_all(matcher)):
        step()
    assert [frame.latency_s for frame in matcher.take()] == [0.06]


def test_things_with_other_stamps_never_mix(matcher: Matcher) -> None:
    matcher.add_reference(1, REFERENCE)
    matcher.add_result(2, RESULT)
    matcher.add_link(2, LINK)
    assert matcher.take() == []


def test_a_result_whose_link_report_is_lost_comes_late_and_without_times(matcher: Matcher, clock: Clock) -> None:
    matcher.add_reference(1, REFERENCE)
    matcher.add_result(1, RESULT)
    assert matcher.take() == []
    clock.now_s += 5
    (frame,) = matcher.take()
    assert math.isnan(frame.latency_s)
    assert math.isnan(frame.link_s)


def test_an_error_and_a_robot_on_its_own_have_no_link_report(matcher: Matcher) -> None:
    matcher.add_reference(1, REFERENCE)
    matcher.add_result(1, FrameResult(error="too dark"))
    matcher.add_reference(2, REFERENCE)
    matcher.add_result(2, FrameResult(texts=(TRUE,), split_point="output", robot_s=0.5, link_s=0.0, edge_s=0.0))
    broken, alone = matcher.take()
    assert (broken.error, broken.caption, broken.right) == ("too dark", "", False)
    assert (alone.latency_s, alone.right) == (0.5, True)


def test_a_wrong_caption_is_wrong_and_says_why(matcher: Matcher) -> None:
    matcher.add_reference(1, REFERENCE)
    matcher.add_result(1, replace(RESULT, texts=("a pink elephant",)))
    matcher.add_link(1, LINK)
    (frame,) = matcher.take()
    assert not frame.right
    assert frame.reason


def test_frames_that_never_come_back_do_not_fill_the_memory(matcher: Matcher) -> None:
    for stamp_ns in range(10_000):
        matcher.add_picture(stamp_ns, np.zeros((3, 4, 3), np.uint8))
    assert len(matcher._waiting) <= 1024


# Figures.


def test_figures() -> None:
    frames = [
        a_frame(latency_s=0.1 * number, right=number != 3, packet_bytes=100 * number) for number in (1, 2, 3, 4, 5)
    ]
    summary = summarise(frames)
    assert (summary.frames, summary.errors, summary.true_share) == (5, 0, 0.8)
    assert summary.bytes_per_frame == 300
    assert math.isclose(summary.latency_p50_s, 0.3)
    assert math.isclose(summary.latency_p95_s, 0.48)


def test_the_report_is_strict_json_and_keeps_plans_apart() -> None:
    picture = {"split_point": "input", "codec": "jpeg90", "latency_s": math.nan}
    frames = [a_frame(), a_frame(**picture, packet_bytes=2000), a_frame(weight_bits=4, packet_bytes=700)]
    # Where pictures are sent, the head has no part in it.
    frames.append(a_frame(**picture, packet_bytes=2000, weight_bits=4))
    text = report(frames, [Answered("how many?", "count", "2", "1")], {"model": "m"})
    figures = json.loads(text, parse_constant=pytest.fail)
    assert [(plan["split_point"], plan["sent_as"], plan["weights"]) for plan in figures["plans"]] == [
        ("qformer", "8 klt", "32"),
        ("input", "jpeg90", "–"),
        ("qformer", "8 klt", "4"),
    ]
    assert [plan["bytes_per_frame"] for plan in figures["plans"]] == [900, 2000, 700]
    assert [frame["weight_bits"] for frame in figures["each_frame"]] == [32, 32, 4, 4]
    assert figures["plans"][1]["latency_p50_s"] is None
    assert figures["questions"]["true_share"] == 0
    assert figures["model"] == "m"


def test_nothing_at_all_is_reported_as_unknown() -> None:
    figures = json.loads(report([], [], {}))
    assert (figures["frames"], figures["true_share"], figures["latency_p50_s"]) == (0, None, None)


# Questions.


def test_answers_find_their_questions_and_their_truth() -> None:
    questioner = Questioner()
    asked = [questioner.next_question(SCENE) for _ in range(5)]
    known = {question.text: question.answer for number in range(5) for question in questions(SCENE, number)}
    prompts = [f"Question: {question} Answer:" for question in asked]
    found = questioner.answers(a_frame(answers=((prompts[1], known[asked[1]]), (prompts[0], "no such thing"))))
    assert [(each.question, each.true_answer, each.right) for each in found] == [
        (asked[1], known[asked[1]], True),
        (asked[0], known[asked[0]], False),
    ]
    assert questioner.answers(a_frame(answers=((prompts[0], "again"),))) == []


def test_an_answer_about_another_scene_does_not_count() -> None:
    questioner = Questioner()
    prompt = f"Question: {questioner.next_question(SCENE)} Answer:"
    assert questioner.answers(a_frame(true_caption="something else", answers=((prompt, "yes"),))) == []


# The sheet.


def test_the_sheet_is_green_for_right_and_red_for_wrong() -> None:
    picture = np.full((300, 400, 3), 128, np.uint8)
    sizes, tints = [], []
    for right in (True, False):
        sheet = draw_sheet([a_frame(right=right, picture=picture)], "title", "subtitle")
        sizes.append(sheet.shape)
        colourful = sheet[np.ptp(sheet.astype(int), axis=2) > 60].astype(int)
        tints.append(float((colourful[:, 1] - colourful[:, 0]).mean()))
    assert sizes[0] == sizes[1]
    assert sizes[0][0] > 396
    assert tints[0] > 50
    assert tints[1] < -50


def test_babble_stays_on_its_tile() -> None:
    picture = np.zeros((300, 400, 3), np.uint8)
    short = draw_sheet([a_frame(picture=picture)], "t", "s")
    long = draw_sheet([a_frame(picture=picture, caption="word " * 60)], "t", "s" * 500)
    assert long.shape == short.shape


def test_the_album_shows_one_frame_of_each_scene_and_plan_in_bounded_memory() -> None:
    album = Album(most=20)
    picture = thumbnail(np.zeros((480, 640, 3), np.uint8))
    for number in range(1000):
        caption, bits = f"scene {number // 100}", 8 if number < 550 else 2
        album.add(a_frame(stamp_ns=number, true_caption=caption, feature_bits=bits, picture=picture))
    assert picture.shape == (300, 400, 3)
    assert len(album._kept) <= 20
    shown = album.chosen(most=16)
    assert [frame.true_caption for frame in shown] == sorted([*(f"scene {number}" for number in range(10)), "scene 5"])
    assert len(album.chosen(most=4)) == 4
    assert Album().chosen() == []


# The screens.


def play(screen: PlainScreen | LiveScreen) -> None:
    screen.say("edge ready after 3.0 s")
    screen.status(PlanReport(battery=0.62, goodput_bps=14e3, deadline_s=0.6))
    screen.link("16 kbit/s")
    screen.begin(30)
    screen.plan("qformer, 8 bits", "the link is slow")
    screen.show(a_frame(), 0.5)
    screen.show(a_frame(right=False, caption="a wrong caption", weight_bits=4), 1.0)
    screen.answer(Answered("how many?", "count", "2", "1"))
    screen.tick(1.2)
    screen.close()
    screen.close()


@pytest.mark.parametrize("width", [80, 120, 180])
def test_both_screens_show_what_was_said_and_what_is_true(width: int) -> None:
    for make in (PlainScreen, LiveScreen):
        written = io.StringIO()
        play(make(Console(file=written, width=width, height=40, force_terminal=make is LiveScreen, color_system=None)))
        shown = written.getvalue()
        for expected in ("edge ready", TRUE, "✓", "a wrong caption", "✗", "qformer", "8 klt", "900"):
            assert expected in shown, (make.__name__, expected)
        for expected in ("the link is slow", "16 kbit/s (a token bucket inside this demo)"):
            assert expected in shown, (make.__name__, expected)


def test_the_live_screen_is_for_terminals() -> None:
    assert isinstance(screen_for(Console(file=io.StringIO())), PlainScreen)
    assert isinstance(screen_for(Console(file=io.StringIO(), force_terminal=True, height=30)), LiveScreen)
