"""One edge serves robots in namespaces, finds them by itself, and may die and come back."""

from __future__ import annotations

import signal
from contextlib import ExitStack, closing
from types import SimpleNamespace

import pytest
from pipeline import EDGE, ROBOT, Diagnostics, Robot, picture, small
from ros_harness import Observer, start_node


@pytest.fixture(scope="module")
def running():
    """An edge that was there first, then two robots with different plans."""
    with ExitStack() as stack:
        observer = stack.enter_context(closing(Observer()))
        diagnostics = Diagnostics(observer)
        robots = [Robot(observer, "/r1"), Robot(observer, "/r2")]
        edge_stack = stack.enter_context(ExitStack())
        edge = edge_stack.enter_context(start_node(EDGE, parameters=small()))
        for namespace, split_point in (("r1", "qformer"), ("r2", "vit.2")):
            parameters = small(split_point=split_point, feature_bits=32)
            stack.enter_context(start_node(ROBOT, namespace=namespace, parameters=parameters, ready=None))
        for robot in robots:
            robot.wake()
        yield SimpleNamespace(
            observer=observer, diagnostics=diagnostics, robots=robots, edge=edge, edge_stack=edge_stack
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


def test_an_edge_that_dies_is_replaced_and_captions_resume(running):
    """The new edge knows the streams in use, because they are latched; here it is told to serve one robot only."""
    first, second = running.robots
    before = first.frame(picture(1)).texts
    streams_before = len(first.streams)
    running.edge.kill()
    lost = first.publish(picture(2))
    with start_node(EDGE, name="second_edge", parameters=small(robots=["r1/"])):
        first.wake()
        assert first.frame(picture(1)).texts == before
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
