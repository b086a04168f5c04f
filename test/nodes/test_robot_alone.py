"""A robot that holds the whole model and reads compressed images: it needs no edge, and says so where it would."""

from __future__ import annotations

import math
import signal
from contextlib import ExitStack, closing
from types import SimpleNamespace

import pytest
import torch
from diagnostic_msgs.msg import DiagnosticStatus
from pipeline import ROBOT, Diagnostics, Robot, new_stamp, picture, random_model, small
from ros_harness import Observer, start_node

from laim_ros.models import Generation, load
from laim_ros.nodes.images import compressed_message, compressed_to_rgb


@pytest.fixture(scope="module")
def running():
    # The clock is one that nobody sets here.
    plan = {"last_split": "output", "split_point": "output", "robot_clock_hz": 1e9}
    parameters = small(image_transport="compressed", **plan)
    with ExitStack() as stack:
        observer = stack.enter_context(closing(Observer()))
        diagnostics, robot = Diagnostics(observer), Robot(observer, "/alone", compressed=True)
        process = stack.enter_context(start_node(ROBOT, namespace="alone", parameters=parameters))
        robot.wake()
        yield SimpleNamespace(observer=observer, robot=robot, diagnostics=diagnostics, process=process)


def test_captions_and_answers_come_without_an_edge(running):
    robot = running.robot
    first, second = (robot.frame(picture(seed)) for seed in (1, 2))
    assert first.texts[0]
    assert first.texts != second.texts
    assert (first.split_point, first.packet_bytes, first.link_s, first.edge_s) == ("output", 0, 0.0, 0.0)
    assert first.robot_s > 0
    robot.ask("how many mugs are there?")
    answered = robot.frame(picture(1))
    assert answered.prompts == ("", "Question: how many mugs are there? Answer:")
    assert answered.texts[0] == first.texts[0]
    assert len(answered.texts) == 2
    assert not robot.packets


def test_a_frame_that_needed_no_edge_is_reported_without_a_link(running):
    robot = running.robot
    header = robot.publish(compressed_message(picture(1), new_stamp(), "camera"))
    report = running.observer.wait_for(lambda: robot.link_of(header), what="a link report")
    result = running.observer.wait_for(lambda: robot.result_of(header), what="its result")
    assert (report.sequence, report.split_point, report.weight_bits) == (result.sequence, "output", 32)
    assert (report.packet_bytes, report.packets_sent, report.edge_s, report.unanswered_s) == (0, 0, 0.0, 0.0)
    assert math.isnan(report.link_s)
    assert 0 <= report.robot_wait_s < report.robot_s == report.latency_s <= result.robot_s


def test_a_clock_that_cannot_be_had_is_left_alone_and_told(running):
    assert running.observer.get_parameter("/alone/robot", "robot_clock_hz") == 0.0
    reason = "robot_clock_hz 1e+09 cannot be had, 0 can: clock is none; set clock: cpufreq"
    assert reason in running.process.output()
    assert reason in running.robot.refusal(robot_clock_hz=1e9)


def test_the_caption_is_the_models_for_the_compressed_image(running):
    model = load(random_model())
    message = compressed_message(picture(4), new_stamp(), "camera")
    batch = torch.from_numpy(model.resize(compressed_to_rgb(message))[None])
    expected = model.generate(model.run(batch, "input", "qformer"), [""], Generation(max_new_tokens=5))
    assert list(running.robot.frame(message).texts) == expected


def test_frames_that_hardly_change_are_repeated_here_too(running):
    running.robot.set(min_change=0.05)
    first = running.robot.frame(picture(1))
    again = running.robot.frame(picture(1))
    assert (first.repeated, again.repeated, again.texts) == (False, True, first.texts)
    assert not running.robot.frame(picture(2)).repeated
    running.robot.set(min_change=0.0)


def test_where_an_edge_is_needed_its_absence_is_told(running):
    robot = running.robot
    robot.set(split_point="qformer", describe_timeout_s=1.0)
    # The watching test reads packets as an edge would; the robot cannot tell, and waits for its answer.
    first = robot.publish(picture(1))
    running.observer.wait_for(lambda: robot.packet_of(first), what="a packet")
    robot.publish(picture(2))
    running.observer.wait_for(lambda: len(robot.packets) >= 2, what="another packet")
    answer = running.observer.call_trigger("/alone/robot/describe")
    assert not answer.success
    assert "no result within 1 s" in answer.message

    def told(level, text, figures):
        return level == DiagnosticStatus.WARN and int(figures["packets_sent"]) >= 2 and text

    running.diagnostics.wait_for("/alone/robot", told)
    robot.set(split_point="output", describe_timeout_s=10.0)
    assert not robot.frame(picture(1)).error


def test_a_working_robot_ends_cleanly_when_it_is_terminated(running):
    running.robot.frame(picture(1))
    running.process.end(signal.SIGTERM)
    assert "[ERROR]" not in running.process.output()
