"""One edge serves robots in namespaces, finds them by itself, and may die and come back."""

from __future__ import annotations

import itertools
import math
import signal
import time
from contextlib import ExitStack, closing
from types import SimpleNamespace

import pytest
from pipeline import EDGE, ROBOT, Diagnostics, Robot, SlowLink, picture, small
from ros_harness import Observer, start_node

from laim_ros.nodes import messages
from laim_ros.records import UNKNOWN_SEQUENCE


@pytest.fixture(scope="module")
def running():
    """An edge that was there first, then two robots with different plans."""
    with ExitStack() as stack:
        observer = stack.enter_context(closing(Observer()))
        diagnostics = Diagnostics(observer)
        robots = [Robot(observer, "/r1"), Robot(observer, "/r2")]
        edge_stack = stack.enter_context(ExitStack())
        edge = edge_stack.enter_context(start_node(EDGE, parameters=small()))
        link = stack.enter_context(closing(SlowLink("/r2")))
        for namespace, split_point, remappings in (("r1", "qformer", {}), ("r2", "vit.2", SlowLink.REMAPPINGS)):
            parameters = small(split_point=split_point, feature_bits=32)
            stack.enter_context(
                start_node(ROBOT, namespace=namespace, parameters=parameters, remappings=remappings, ready=None)
            )
        for robot in robots:
            robot.wake()
        yield SimpleNamespace(
            observer=observer, diagnostics=diagnostics, robots=robots, link=link, edge=edge, edge_stack=edge_stack
        )


def test_each_robot_gets_its_own_captions_with_its_own_stamps(running):
    first, second = running.robots
    expected = {seed: first.frame(picture(seed)).texts for seed in range(5)}
    assert len(set(expected.values())) > 1
    for seed in range(5):
        other = (seed + 1) % 5
        headers = first.publish(picture(seed)), second.publish(picture(other))
        results = [
            running.observer.wait_for(lambda robot=robot, header=header: robot.result_of(header), what="both results")
            for robot, header in zip(running.robots, headers, strict=True)
        ]
        assert [result.texts for result in results] == [expected[seed], expected[other]]
        assert [result.split_point for result in results] == ["qformer", "vit.2"]
        # Nothing crosses over.
        assert first.result_of(headers[1]) is None
        assert second.result_of(headers[0]) is None


def test_what_waits_is_finished_together(running):
    """While the edge works on one long answer, the packets of both robots gather."""
    edge = running.diagnostics
    assert running.observer.set_parameters("/edge", {"max_new_tokens": 60}).successful
    finished = edge.figure("/edge", "finished")
    batches = edge.figure("/edge", "batches")
    for _ in range(15):
        headers = [robot.publish(picture(0)) for robot in running.robots]
        headers += [robot.publish(picture(1)) for robot in running.robots]
        for robot, header in zip(running.robots, headers[2:], strict=True):
            running.observer.wait_for(lambda robot=robot, header=header: robot.result_of(header), what="results")

    def shared(_, __, figures):
        done, in_batches = int(figures["finished"]) - finished, int(figures["batches"]) - batches
        return done >= 30 and in_batches < done

    edge.wait_for("/edge", shared)
    assert running.observer.set_parameters("/edge", {"max_new_tokens": 5}).successful


def test_a_robot_with_an_impossible_prompt_does_not_spoil_the_others_frames(running):
    first, second = running.robots
    first.set(prompt="mug " * 250)
    for seed in range(8):
        headers = first.publish(picture(seed)), second.publish(picture(seed))
        spoilt, good = (
            running.observer.wait_for(lambda robot=robot, header=header: robot.result_of(header), what="both results")
            for robot, header in zip(running.robots, headers, strict=True)
        )
        assert "shorten the prompt" in spoilt.error
        assert not good.error
    first.set(prompt="")
    assert not first.frame(picture(1)).error


def test_plans_change_one_robot_alone(running):
    first, second = running.robots
    first.set(split_point="vision", feature_bits=8)
    assert first.frame(picture(1)).split_point == "vision"
    assert second.frame(picture(1)).split_point == "vit.2"
    first.set(split_point="qformer", feature_bits=32)


def test_probes_reveal_goodput_while_all_frames_are_alike_and_are_no_captions(running):
    robot = running.robots[1]
    robot.set(split_point="qformer", feature_bits=8, codec="plain", probe_period_s=60.0)
    assert running.observer.change_state("/r2/robot", "deactivate")  # it forgets what it knew of the link
    running.link.goodput_bps = 2e4
    reports_before, results_before = len(robot.link_reports()), len(robot.result_messages())
    captions_before = len(robot.captions)
    assert running.observer.change_state("/r2/robot", "activate")
    robot.wake()
    for frames in itertools.count(1):
        header = robot.publish(picture(1))
        report = running.observer.wait_for(lambda header=header: robot.link_of(header), what="a report")
        if not math.isnan(report.goodput_bps):
            break
        assert frames < 300, "goodput stays unknown"
        time.sleep(0.1)  # a probe passes, so that the next frame need not wait for it
    running.link.goodput_bps = math.inf
    # Sleeping never takes too short; how much longer it takes is the machine's matter.
    assert 2e3 < report.goodput_bps < 2.5e4
    reports = robot.link_reports()[reports_before:]
    assert len({each.packet_bytes for each in reports if not each.probe}) == 1
    probes = [each for each in reports if each.probe]
    assert {each.packet_bytes for each in probes} >= {24, 256}
    assert all(each.link_s > 8 * each.packet_bytes / 2e4 for each in probes)
    results = [messages.result_from(message) for message in robot.result_messages()[results_before:]]
    assert sum(result.probe for result in results) >= len(probes)
    shown = [result for result in results if not result.probe]
    assert len(robot.captions) - captions_before <= len(shown)
    # A result tells the link of the frame before it, not that of the small probe that came in between.
    assert all(result.link_s > 8 * result.packet_bytes / 2e4 for result in shown[3:])
    robot.set(split_point="vit.2", feature_bits=32, codec="auto", probe_period_s=0.0)


def test_a_packet_that_is_lost_costs_its_own_frame_alone_and_the_next_comes_by_itself(running):
    robot = running.robots[1]
    robot.set(split_point="qformer", feature_bits=8, predictive=True)
    by_itself, after = (robot.frame(picture(1)).packet_bytes for _ in range(2))
    assert after < by_itself / 2
    running.link.loses = 2
    lost = [robot.publish(picture(1))]
    running.observer.wait_for(lambda: running.link.loses == 1, what="the loss of a frame")
    lost.append(robot.publish(picture(1)))
    running.observer.wait_for(lambda: running.link.loses == 0, what="the loss of another one")
    # The robot learns of the loss with the next answer: until then it refers to what was confirmed before.
    results = [robot.frame(picture(1)) for _ in range(3)]
    assert not any(result.error for result in results)
    assert [result.packet_bytes < by_itself / 2 for result in results] == [True, False, True]
    assert not any(map(robot.result_of, lost))
    robot.set(split_point="vit.2", feature_bits=32, predictive=False)


def test_an_edge_that_dies_is_replaced_and_captions_resume(running):
    """The new edge knows the streams in use, because they are latched; here it is told to serve one robot only."""
    first, second = running.robots
    before = first.frame(picture(1)).texts
    streams_before = len(first.streams)
    running.edge.kill()
    known = len(first.link_reports())
    lost = first.publish(picture(2))
    running.observer.wait_for(lambda: len(first.link_reports()) >= known + 3, what="reports of the silence")
    silence = first.link_reports()[known:]
    assert {report.sequence for report in silence} == {UNKNOWN_SEQUENCE}
    assert 1.0 < silence[0].unanswered_s < silence[1].unanswered_s < silence[2].unanswered_s
    with start_node(EDGE, name="second_edge", parameters=small(robots=["r1/"])):
        first.wake()
        header = first.publish(picture(1))
        assert running.observer.wait_for(lambda: first.result_of(header), what="a result").texts == before
        assert running.observer.wait_for(lambda: first.link_of(header), what="its report").unanswered_s == 0.0
        assert first.result_of(lost) is None or not first.result_of(lost).error
        # The robot did not have to describe its stream again.
        assert len(first.streams) == streams_before
        unserved = second.publish(picture(1))
        running.observer.wait_for(lambda: second.packet_of(unserved), what="the other robot's packet")
        for seed in range(3):
            first.frame(picture(seed))
        assert second.result_of(unserved) is None
    with start_node(EDGE, name="third_edge", parameters=small()) as third:
        for robot in running.robots:
            robot.wake()
        assert first.frame(picture(1)).texts == before
        third.end(signal.SIGTERM)
