"""What the robot decides without ROS: which frames repeat a result, and which questions are asked again."""

from __future__ import annotations

import re

import numpy as np
import pytest

from laim_ros.nodes.robot_settings import MOST_QUESTIONS, QUESTION_LIFE_S, Questions, Repeater, RobotSettings
from laim_ros.parameters import ROBOT
from laim_ros.records import FrameResult

FEATURES = np.linspace(-1, 1, 32, dtype=np.float32).reshape(4, 8)


def result(sequence: int, text: str = "a mug") -> FrameResult:
    return FrameResult(texts=(text, "red"), prompts=("", "Question: colour? Answer:"), sequence=sequence)


def same(repeater: Repeater, features=FEATURES, prompt="", min_change=0.1, now_s=0.5) -> bool:
    return repeater.same_as_last(features, prompt, min_change, now_s)


def test_a_frame_like_the_last_repeats_its_first_text():
    repeater = Repeater()
    repeater.sent(5, FEATURES, "", 0.0)
    assert repeater.finished(result(5)) is None
    assert same(repeater, FEATURES * 1.05)
    repeated = repeater.result_or_hold("next")
    assert (repeated.texts, repeated.prompts, repeated.repeated) == (("a mug",), ("",), True)


@pytest.mark.parametrize(
    "other",
    [
        {"features": FEATURES * 1.2},
        {"features": FEATURES[:2]},
        {"prompt": "a photo of"},
        {"min_change": 0.0},
    ],
)
def test_what_differs_is_sent(other):
    repeater = Repeater()
    assert not same(repeater)
    repeater.sent(5, FEATURES, "", 0.0)
    repeater.finished(result(5))
    assert same(repeater)
    assert not same(repeater, **other)


def test_on_a_slow_link_the_newest_equal_frame_waits_for_the_result_under_way():
    """Latency above the frame period is where repeating saves most."""
    repeater = Repeater()
    repeater.sent(5, FEATURES, "", 0.0)
    assert same(repeater)
    assert repeater.result_or_hold("second") is None
    assert repeater.result_or_hold("third") is None
    frame, repeated = repeater.finished(result(5))
    assert (frame, repeated.texts, repeated.repeated) == ("third", ("a mug",), True)
    assert repeater.finished(repeated) is None


def test_nothing_waits_for_ever_for_a_result_that_was_lost():
    repeater = Repeater()
    repeater.sent(5, FEATURES, "", 0.0)
    assert not same(repeater, now_s=1.5)
    repeater.finished(result(5))
    assert same(repeater, now_s=1.5)


def test_results_of_older_frames_and_refusals_do_not_count():
    repeater = Repeater()
    repeater.sent(5, FEATURES, "", 0.0)
    repeater.sent(6, FEATURES, "", 0.2)
    repeater.finished(result(5, "of another frame"))
    repeater.finished(FrameResult(error="refused", sequence=6))
    assert repeater.result_or_hold("frame") is None
    repeater.finished(result(6))
    assert repeater.result_or_hold("frame").texts == ("a mug",)


def test_after_a_refusal_the_next_frame_is_sent_unless_another_edge_has_a_result():
    """A robot that waited for the result would be silent for a second after each."""
    repeater = Repeater()
    repeater.sent(5, FEATURES, "", 0.0)
    repeater.refused(4)
    assert same(repeater)
    repeater.refused(5)
    assert not same(repeater)
    repeater.finished(result(5))
    assert same(repeater)


def test_a_result_holds_for_its_own_prompt_and_plan():
    values = {entry.name: entry.default for entry in ROBOT}
    settings = RobotSettings.read(values)
    for change in ({"prompt": "a photo of"}, {"feature_bits": 2}, {"codec": "klt12"}, {"weight_bits": 4}):
        assert RobotSettings.read({**values, **change}).asked != settings.asked
    for change in ({"robot_clock_hz": 1e9}, {"predictive": True}, {"rate_hz": 2.0}):
        assert RobotSettings.read({**values, **change}).asked == settings.asked


def test_codec_auto_is_klt_where_that_is_calibrated():
    values = {entry.name: entry.default for entry in ROBOT}
    for change, codec, why in (
        ({}, "klt", ""),
        ({"split_point": "vit.2"}, "plain", r"no calibration of klt at 'vit\.2' \(it has one at qformer\)"),
        ({"feature_bits": 16}, "plain", "klt takes feature_bits of 1 to 8, not 16"),
        ({"split_point": "input"}, "jpeg90", ""),
        ({"split_point": "output"}, "plain", ""),
        ({"codec": "plain"}, "plain", ""),
    ):
        settings = RobotSettings.read({**values, **change}, ("qformer",))
        assert settings.plan.codec == codec
        assert re.search(why, settings.why_plain) if why else settings.why_plain == ""
    assert RobotSettings.read(values).plan.codec == "plain", "while no model is loaded"


def test_a_limit_that_the_header_alone_would_break_is_refused():
    values = {entry.name: entry.default for entry in ROBOT}
    assert RobotSettings.read({**values, "max_packet_bytes": 25}).max_packet_bytes == 25
    with pytest.raises(ValueError, match="more than 24, which the header has already, not 24"):
        RobotSettings.read({**values, "max_packet_bytes": 24})


def test_questions_wait_for_one_frame():
    questions = Questions()
    assert questions.ask("  what is it? ", 1.0) == ""
    assert [question.text for question in questions.take()] == ["what is it?"]
    assert questions.take() == ()
    assert "0 characters" in questions.ask("   ", 1.0)
    assert "513 characters" in questions.ask("x" * 513, 1.0)


def test_a_question_of_an_overtaken_frame_is_asked_again_while_it_is_young():
    questions = Questions()
    questions.ask("what is it?", 1.0)
    (question,) = questions.take()
    assert questions.ask_again(question, 1.0 + QUESTION_LIFE_S) == ""
    assert questions.take() == (question,)
    assert "no answer" in questions.ask_again(question, 1.1 + QUESTION_LIFE_S)
    assert questions.take() == ()


def test_more_questions_than_a_stream_holds_are_refused_by_name():
    questions = Questions()
    for number in range(MOST_QUESTIONS):
        assert questions.ask(f"question {number}?", 1.0) == ""
    assert "'one more?'" in questions.ask("one more?", 1.0)
