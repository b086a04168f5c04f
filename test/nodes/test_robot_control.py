"""One robot and one edge under control: parameters set while they run, and lifecycle states.

The two nodes are started once for all tests here, and each test leaves them active and with their default plan.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from pipeline import Running, picture, random_model

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


# Live parameters.


@pytest.mark.parametrize("split_point", ["vit.2", "vit.1", "vision", "qformer", "input"])
def test_the_very_next_frame_has_the_new_split_point(robot, split_point):
    robot.set(split_point="qformer" if split_point != "qformer" else "vit.1")
    robot.frame(picture(0))
    robot.set(split_point=split_point)
    result = robot.frame(picture(1))
    assert (result.error, result.split_point) == ("", split_point)
    assert result.codec == {"input": "jpeg90", "qformer": "klt"}.get(split_point, "plain")
    assert result.texts[0]


def test_feature_bits_change_from_frame_to_frame(robot):
    sizes = {}
    for bits in (1, 4, 8, 16, 32, 2):
        robot.set(feature_bits=bits)
        result = robot.frame(picture(4))
        assert (result.error, result.feature_bits, result.codec) == ("", bits, "klt" if bits <= 8 else "plain")
        sizes[bits] = result.packet_bytes
    assert sizes[1] < sizes[4] < sizes[8] < sizes[16] < sizes[32]


def test_several_parameters_change_at_once_or_not_at_all(robot):
    robot.set(split_point="input", codec="jpeg75", feature_bits=3)
    result = robot.frame(picture(1))
    assert (result.split_point, result.codec) == ("input", "jpeg75")
    reason = robot.refusal(split_point="vit.1", codec="plain", feature_bits=9)
    assert "feature_bits" in reason
    assert robot.observer.get_parameter("/robot", "split_point") == "input"
    assert robot.frame(picture(1)).codec == "jpeg75"
    robot.set(split_point="vit.1", codec="plain")
    assert robot.frame(picture(1)).split_point == "vit.1"


def test_the_pictures_quality_matters(robot):
    robot.set(split_point="input", codec="jpeg95")
    fine = robot.frame(picture(1)).packet_bytes
    robot.set(codec="jpeg10")
    assert robot.frame(picture(1)).packet_bytes < fine


@pytest.mark.parametrize(
    ("name", "value", "reasons"),
    [
        ("split_point", "vit.9", ["vit.9", "none of this model's", "vit.3"]),
        ("split_point", "foo", ["foo", "vit.K"]),
        ("split_point", "output", ["after 'qformer'", "last_split: output"]),
        ("split_point", 3, ["split_point takes a string, not 3"]),
        ("feature_bits", 9, ["feature_bits", "1, 2, 3, 4, 5, 6, 7, 8, 16, 32", "9"]),
        ("feature_bits", 4.0, ["feature_bits takes an integer, not 4.0"]),
        ("codec", "jpeg75", ["jpeg75", "does not code features", "auto"]),
        ("codec", "zip", ["zip", "plain"]),
        ("codec", "klt61", ["klt61", "klt1 to klt60"]),
        ("max_packet_bytes", 24, ["max_packet_bytes", "0 (no limit)"]),
        ("predictive", 1, ["predictive takes true or false, not 1"]),
        ("rate_hz", -1.0, ["rate_hz", "1000"]),
        ("rate_hz", "fast", ["rate_hz", "number"]),
        ("min_change", 1.5, ["min_change", "Max: 1.0"]),
        ("question_template", "Tell me", ["question_template", "{question}"]),
        ("describe_timeout_s", 0.0, ["describe_timeout_s", "0.1"]),
        ("model", "another", ["model", "cleanup"]),
        ("last_split", "output", ["last_split", "cleanup"]),
        ("image_transport", "compressed", ["image_transport", "cleanup"]),
        ("clock", "cpufreq", ["clock", "cleanup"]),
        ("probe_period_s", -1.0, ["probe_period_s", "3600"]),
    ],
)
def test_refused_values_come_with_a_reason(robot, name, value, reasons):
    before = robot.observer.get_parameter("/robot", name)
    reason = robot.refusal(**{name: value})
    assert all(part in reason for part in reasons), reason
    assert robot.observer.get_parameter("/robot", name) == before


def test_a_codec_that_cannot_be_had_is_refused_and_auto_says_once_why_it_is_another(running, robot):
    robot.set(codec="klt")
    reason = robot.refusal(split_point="vit.2")
    assert "codec klt is not calibrated at 'vit.2'" in reason
    assert "feature_bits 16 is more than codec klt takes" in robot.refusal(feature_bits=16)
    for _ in range(2):
        robot.set(codec="auto", split_point="vit.2")
        assert robot.frame(picture(1)).codec == "plain"
        robot.set(split_point="qformer", codec="klt12")
        assert robot.frame(picture(1)).codec == "klt12"
    said = "codec auto: plain, because the model has no calibration of klt at 'vit.2' (it has one at qformer)"
    assert running.robot_process.output().count(said) == 1


def test_a_parameter_that_does_not_exist_is_refused(robot):
    assert robot.refusal(split_pint="vit.2")


def test_an_integer_is_taken_where_a_number_is_asked_for(robot):
    robot.set(rate_hz=500, deadline_s=30)
    assert not robot.frame(picture(1)).error
    assert robot.observer.get_parameter("/robot", "rate_hz") == 500


def test_rate_limits_the_frames_and_the_newest_wins(robot):
    robot.set(rate_hz=2.0)
    began_s = time.monotonic()
    for seed in range(4):
        robot.frame(picture(seed))
    # No measure of speed: however slow the machine, the fourth frame may not begin before 1.5 s.
    assert time.monotonic() - began_s > 1.49
    headers = [robot.publish(picture(seed)) for seed in range(12)]
    robot.observer.wait_for(lambda: robot.result_of(headers[-1]), what="the newest frame's result")
    assert sum(robot.result_of(header) is not None for header in headers) < len(headers)


def test_generation_of_the_edge_changes_live(running, robot):
    long = robot.frame(picture(1)).texts[0]
    assert running.observer.set_parameters("/edge", {"max_new_tokens": 1}).successful
    short = robot.frame(picture(1)).texts[0]
    assert running.observer.set_parameters("/edge", {"max_new_tokens": 5, "num_beams": 3}).successful
    assert not robot.frame(picture(1)).error
    refused = running.observer.set_parameters("/edge", {"num_beams": 0})
    assert "num_beams out of range. Min: 1, Max: 16" in refused.reason
    assert running.observer.set_parameters("/edge", {"num_beams": 1}).successful
    assert len(short) < len(long)
    assert long.startswith(short)


# Lifecycle.


def test_deactivated_means_no_inference_and_activated_resumes(running, robot):
    robot.frame(picture(1))
    assert running.observer.change_state("/robot", "deactivate")
    assert running.observer.state("/robot") == "inactive"
    running.observer.wait_for(lambda: not robot.camera.get_subscription_count(), what="the robot to look away")
    unseen = [robot.publish(picture(seed)) for seed in range(3)]
    answer = running.observer.call_trigger("/robot/describe")
    assert not answer.success
    assert "the robot is inactive" in answer.message
    assert "lifecycle set /robot activate" in answer.message
    running.diagnostics.wait_for("/robot", lambda level, text, _: (level, text) == (DiagnosticStatus.WARN, "inactive"))
    assert running.observer.change_state("/robot", "activate")
    robot.wake()
    assert not any(robot.result_of(header) for header in unseen)
    assert not any(robot.packet_of(header) for header in unseen)


def test_a_call_that_waits_is_answered_when_the_robot_is_deactivated(running, robot):
    robot.set(describe_timeout_s=600.0)
    with ThreadPoolExecutor(1) as other:
        answer = other.submit(robot.observer.call_trigger, "/robot/describe")
        assert running.observer.change_state("/robot", "deactivate")
        assert "activ" in answer.result().message  # "was deactivated", or it came too late: "is inactive"
    assert not answer.result().success
    assert running.observer.change_state("/robot", "activate")
    robot.wake()


def test_parameters_set_while_inactive_hold_when_active(running, robot):
    assert running.observer.change_state("/robot", "deactivate")
    robot.set(split_point="vit.1", feature_bits=4)
    assert running.observer.change_state("/robot", "activate")
    result = robot.wake()
    assert (result.split_point, result.feature_bits) == ("vit.1", 4)


def test_cleaned_up_and_configured_anew(running, robot):
    for transition, state in [("deactivate", "inactive"), ("cleanup", "unconfigured")]:
        assert running.observer.change_state("/robot", transition)
        assert running.observer.state("/robot") == state
    assert "the robot is unconfigured" in running.observer.call_trigger("/robot/describe").message
    robot.set(last_split="vit.2", split_point="vit.2", model=random_model())
    assert running.observer.change_state("/robot", "configure")
    assert "after 'vit.2'" in robot.refusal(split_point="vision")
    assert running.observer.change_state("/robot", "activate")
    assert robot.wake().split_point == "vit.2"
    for transition in ("deactivate", "cleanup"):
        assert running.observer.change_state("/robot", transition)
    robot.set(last_split="qformer", split_point="qformer")
    for transition in ("configure", "activate"):
        assert running.observer.change_state("/robot", transition)
    assert robot.wake().split_point == "qformer"


def test_the_edge_pauses_and_goes_on_too(running, robot):
    assert running.observer.change_state("/edge", "deactivate")
    unseen = robot.publish(picture(1))
    assert running.observer.change_state("/edge", "cleanup")
    assert running.observer.change_state("/edge", "configure")
    assert running.observer.change_state("/edge", "activate")
    robot.wake()
    assert robot.result_of(unseen) is None


def test_nothing_of_all_this_was_worth_an_error(running):
    for process in (running.robot_process, running.edge_process):
        output = process.output()
        assert "Traceback" not in output
        assert "[ERROR]" not in output
