"""One robot and one edge: what comes of images, questions and calls.

The two nodes are started once for all tests here, and each test leaves them as it found them.
"""

from __future__ import annotations

import math
import re
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing

import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from pipeline import Running, picture
from ros_harness import Observer

from laim_ros.nodes import messages, qos
from laim_ros.parameters import TABLES

LIVE = {entry.name: entry.default for entry in TABLES["robot"] if entry.live}


@pytest.fixture(scope="module")
def running():
    with ExitStack() as stack:
        yield Running(stack)


@pytest.fixture
def robot(running):
    """The robot with its default live parameters; they are set back afterwards."""
    yield running.robot
    running.robot.set(**LIVE)


# Results.


def test_the_first_image_brings_a_caption(running):
    assert running.first.texts
    assert running.first.texts[0]
    assert not running.first.error


def test_a_result_carries_the_images_stamp_and_the_plan(robot):
    result = robot.frame(picture(1))  # found by its header
    assert result.prompts == ("",)
    plan = (result.split_point, result.weight_bits, result.feature_bits, result.codec)
    assert plan == ("qformer", 32, 8, "klt")
    assert not result.repeated


def test_different_pictures_get_different_captions(robot):
    captions = [robot.frame(picture(seed)).texts for seed in (1, 2, 3, 1)]
    assert len(set(captions[:3])) > 1
    assert captions[3] == captions[0]


def test_every_image_gets_one_result_and_one_packet(robot):
    results_before, packets_before = len(robot.result_messages()), len(robot.packets)
    for seed in range(5):
        robot.frame(picture(seed))
    assert len(robot.result_messages()) == results_before + 5
    robot.observer.wait_for(lambda: len(robot.packets) == packets_before + 5, what="all packets")


def test_latency_is_broken_down(robot):
    robot.frame(picture(1))
    header = robot.publish(picture(2))
    report = robot.observer.wait_for(lambda: robot.link_of(header), what="a link report")
    result = robot.result_of(header)
    assert (report.sequence, report.packet_bytes) == (result.sequence, result.packet_bytes)
    assert report.robot_s + report.link_s + report.edge_s == pytest.approx(report.latency_s, rel=1e-4)
    assert min(report.robot_s, report.edge_s) > 0
    assert report.edge_s == pytest.approx(result.edge_s, rel=1e-4)
    assert result.wait_s + result.decode_s + result.tail_s <= result.edge_s * 1.001
    assert result.tail_s > 0
    # The packet tells the robot's time before it leaves, the report also counts the publishing of the description.
    assert 0 < result.robot_s <= report.robot_s * 1.001
    assert report.round_trip_s > 0
    assert report.results_received <= report.packets_sent
    # The result's own breakdown uses the link time of an earlier frame.
    assert not math.isnan(result.latency_s)
    robot.observer.wait_for(
        lambda: robot.latencies_s and robot.latencies_s[-1].data == pytest.approx(report.latency_s, rel=1e-4),
        what="laim/latency_s",
    )


def test_packets_are_small_and_say_what_they_are(robot):
    header = robot.publish(picture(3))
    message = robot.observer.wait_for(lambda: robot.packet_of(header), what="the packet")
    result = robot.observer.wait_for(lambda: robot.result_of(header), what="the result")
    assert message.format == "laim/1"
    assert len(message.data) == result.packet_bytes < 4 * 4 * 24  # features of 4 × 24 would take that as float32
    robot.set(feature_bits=2)
    result = robot.frame(picture(3))
    assert (result.codec, result.feature_bits, result.error) == ("klt", 2, "")
    assert result.packet_bytes < 60
    assert result.texts[0]


def test_the_caption_alone_is_published_for_plots(robot):
    result = robot.frame(picture(2))
    robot.observer.wait_for(lambda: robot.captions and robot.captions[-1].data == result.texts[0], what="the caption")


def test_profiles_are_latched_and_agree_on_the_model(running):
    with closing(Observer("late_viewer")) as late:
        for topic in ("/laim/robot_profile", "/laim/edge_profile"):
            late.subscribe(DiagnosticArray, topic, qos.LATCHED)
        late.wait_for(lambda: late.latest("/laim/robot_profile"), what="the robot's profile")
        late.wait_for(lambda: late.latest("/laim/edge_profile"), what="the edge's profile")
        robot = messages.profile_from(late.latest("/laim/robot_profile"))
        edge = messages.profile_from(late.latest("/laim/edge_profile"))
    assert robot.model_id == edge.model_id
    assert (robot.first, robot.last, edge.first, edge.last) == ("input", "qformer", "input", "output")
    assert robot.split_points == edge.split_points == "input vit.1 vit.2 vit.3 vision qformer output"
    assert 0 < robot.weight_bytes < edge.weight_bytes
    assert re.fullmatch(r"qformer=[0-9a-f]{16}", robot.calibrations)
    assert edge.calibrations == robot.calibrations
    for process in (running.robot_process, running.edge_process):
        process.wait_for_output(r"\[INFO\].*codec klt as calibrated in \S+/codec.safetensors for qformer")


def test_diagnostics_say_that_all_is_well(running, robot):
    robot.frame(picture(1))

    def robot_is_well(level, text, figures):
        return (
            level == DiagnosticStatus.OK and text.startswith("qformer at 8 bits (klt)") and int(figures["results"]) > 0
        )

    def edge_is_well(level, text, figures):
        return level == DiagnosticStatus.OK and "1 robot" in text and int(figures["finished"]) > 0

    running.diagnostics.wait_for("/robot", robot_is_well)
    running.diagnostics.wait_for("/edge", edge_is_well)


# Prompts and questions.


def test_a_question_is_answered_once_beside_the_caption(robot):
    plain = robot.frame(picture(1))
    robot.ask("how many mugs are there?")
    answered = robot.frame(picture(1))
    assert answered.prompts == ("", "Question: how many mugs are there? Answer:")
    assert len(answered.texts) == 2
    assert answered.texts[0] == plain.texts[0]
    assert robot.frame(picture(1)).prompts == ("",)


def test_questions_wait_for_an_image_and_go_together(robot):
    robot.set(question_template="Q: {question} A:")
    for number in range(3):
        robot.ask(f"what {number}?")
    robot.ask("   ")
    result = robot.frame(picture(2))
    seen = list(result.prompts[1:])
    while len(seen) < 3:  # a question may arrive after the image that was sent later
        seen += robot.frame(picture(2)).prompts[1:]
    assert seen == ["Q: what 0? A:", "Q: what 1? A:", "Q: what 2? A:"]


def test_the_standing_prompt_changes_the_caption(robot):
    free = robot.frame(picture(1)).texts[0]
    robot.set(prompt="there are two")
    led = robot.frame(picture(1))
    assert led.prompts == ("there are two",)
    assert led.texts[0] != free
    robot.set(prompt="")
    assert robot.frame(picture(1)).texts[0] == free


def test_a_prompt_that_is_too_long_is_refused_or_gives_a_reason(robot):
    assert "prompt takes at most 1024 characters, not 1600" in robot.refusal(prompt="mug " * 400)
    assert "question_template takes at most 512" in robot.refusal(question_template="{question}" + "?" * 600)
    # Few enough characters, but more tokens than this model has room for: only the edge knows.
    robot.set(prompt="mug " * 250)
    result = robot.frame(picture(1))
    assert "tokens" in result.error
    assert "shorten the prompt" in result.error
    robot.set(prompt="")
    assert not robot.frame(picture(1)).error


# Frames that need no packet.


def test_a_frame_that_hardly_changed_repeats_the_result(running, robot):
    robot.set(min_change=0.05)
    first = robot.frame(picture(1))
    again_header = robot.publish(picture(1))
    again = robot.observer.wait_for(lambda: robot.result_of(again_header), what="the repeated result")
    assert (again.repeated, again.texts, again.packet_bytes) == (True, first.texts, 0)
    third_header = robot.publish(picture(1))
    assert robot.observer.wait_for(lambda: robot.result_of(third_header), what="another one").repeated
    changed_header = robot.publish(picture(2))
    changed = robot.observer.wait_for(lambda: robot.result_of(changed_header), what="the new result")
    assert not changed.repeated
    robot.observer.wait_for(lambda: robot.packet_of(changed_header), what="its packet")
    assert robot.packet_of(again_header) is None
    assert robot.packet_of(third_header) is None
    running.diagnostics.wait_for("/robot", lambda _, __, figures: int(figures["frames_repeated"]) >= 2)


def test_a_question_about_an_unchanged_frame_is_sent(robot):
    robot.set(min_change=0.05)
    first = robot.frame(picture(1))
    robot.ask("what colour is the ball?")
    asked = robot.frame(picture(1))
    assert not asked.repeated
    assert len(asked.prompts) == 2
    again = robot.frame(picture(1))
    assert again.repeated
    assert (again.prompts, again.texts) == (("",), first.texts)


def test_another_prompt_or_split_is_not_answered_with_the_old_result(robot):
    robot.set(min_change=0.05)
    robot.frame(picture(1))
    robot.set(prompt="there are two")
    assert not robot.frame(picture(1)).repeated
    robot.set(feature_bits=3)
    assert not robot.frame(picture(1)).repeated
    assert robot.frame(picture(1)).repeated
    robot.set(split_point="vit.2")
    result = robot.frame(picture(1))
    assert (result.repeated, result.split_point) == (False, "vit.2")


# Packets that are smaller still.


def test_frames_may_be_differences_to_confirmed_ones_and_every_stream_has_its_own(robot):
    by_itself = robot.frame(picture(1))
    robot.set(predictive=True)
    sizes = [robot.frame(picture(1)).packet_bytes for _ in range(3)]
    assert abs(sizes[0] - by_itself.packet_bytes) <= 1, "nothing has been confirmed yet"
    assert max(sizes[1:]) < sizes[0] / 2, "the same picture differs in nothing"
    robot.ask("what colour is the ball?")
    asked = robot.frame(picture(1))
    while len(asked.prompts) < 2:  # the question may arrive after the image that was sent later
        asked = robot.frame(picture(1))
    assert asked.packet_bytes > sizes[0] / 2
    again = robot.frame(picture(1))
    assert (again.error, again.texts, again.packet_bytes <= max(sizes[1:])) == ("", by_itself.texts, True)
    assert not robot.frame(picture(2)).error
    robot.set(min_change=0.05)
    robot.frame(picture(2))
    assert robot.frame(picture(2)).repeated


def test_a_limit_of_bytes_is_kept_or_the_frame_says_why_not(running, robot):
    free = robot.frame(picture(1))
    robot.set(max_packet_bytes=50)
    tight = robot.frame(picture(1))
    assert (tight.error, tight.codec) == ("", "klt")
    assert tight.packet_bytes <= 50 < free.packet_bytes
    robot.set(codec="plain")
    for _ in range(2):
        result = robot.frame(picture(1))
        assert re.search(r"^frame not sent: .*\d+ bytes where 26 are allowed.*codec klt", result.error), result.error
    assert running.robot_process.output().count("frame not sent: ") == 1, "one warning"
    assert "takes 0 (no limit) or more than 24" in robot.refusal(max_packet_bytes=10)
    running.diagnostics.wait_for("/robot", lambda level, text, _: level == DiagnosticStatus.WARN and "not sent" in text)


# Deadline.


def test_a_frame_past_its_deadline_is_not_finished_and_counted(running, robot):
    robot.set(deadline_s=1e-6)
    result = robot.frame(picture(1))
    assert "later than the deadline of 1e-06 s" in result.error
    running.diagnostics.wait_for("/robot", lambda _, __, figures: int(figures["deadline_misses"]) > 0)
    robot.set(deadline_s=3600)
    header = robot.publish(picture(1))
    robot.observer.wait_for(lambda: robot.link_of(header), what="the link report")
    misses = robot.link_of(header).deadline_misses
    header = robot.publish(picture(1))
    assert robot.observer.wait_for(lambda: robot.link_of(header), what="the link report").deadline_misses == misses


# ~/describe.


def test_describe_answers_with_the_next_caption(robot):
    expected = robot.frame(picture(1)).texts[0]
    with ThreadPoolExecutor(1) as other:
        answer = other.submit(robot.observer.call_trigger, "/robot/describe")
        while not answer.done():
            robot.frame(picture(1))
    assert (answer.result().success, answer.result().message) == (True, expected)


def test_describe_says_why_there_is_no_caption(robot):
    robot.set(describe_timeout_s=0.2)
    answer = robot.observer.call_trigger("/robot/describe")
    assert not answer.success
    assert "no result within 0.2 s: no image on /image" in answer.message
    assert not robot.frame(picture(1)).error


def test_nothing_of_all_this_was_worth_an_error(running):
    for process in (running.robot_process, running.edge_process):
        output = process.output()
        assert "Traceback" not in output
        assert "[ERROR]" not in output
