"""How nodes start and end: by themselves or when told, with what is wrong told once, and cleanly on any signal."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from contextlib import closing

import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from pipeline import EDGE, ROBOT, Diagnostics, random_model, resident_bytes, small
from rclpy.exceptions import InvalidHandle
from ros_harness import PATIENCE_S, Observer, start_node

from laim_ros.nodes.lifecycle import LostTopics


@pytest.fixture(scope="module")
def observer():
    with closing(Observer()) as made:
        yield made


@pytest.fixture(scope="module")
def diagnostics(observer):
    return Diagnostics(observer)


def test_topics_that_vanish_are_told_and_borne_until_they_are_too_many():
    told: list[str] = []
    lost = LostTopics(told.append)
    assert not any(lost.too_many(InvalidHandle("gone"), float(second)) for second in range(60)), "now and then"
    assert told == ["a topic went while it was waited for: gone"] * 60
    assert not any(lost.too_many(InvalidHandle("gone"), 100.0) for _ in range(19))
    assert lost.too_many(InvalidHandle("gone"), 100.5)


def errors_in(output: str) -> list[str]:
    return re.findall(r"^\[(?:ERROR|FATAL)\].*$", output, re.MULTILINE)


# Starting.


def test_without_autostart_a_node_waits_and_a_missing_model_can_be_put_right(observer, diagnostics):
    parameters = small(model="no/such/folder", autostart=False)
    with start_node(ROBOT, name="slow", parameters=parameters, ready="unconfigured") as node:
        diagnostics.wait_for("/slow", lambda level, text, _: (level, text) == (DiagnosticStatus.WARN, "unconfigured"))
        assert errors_in(node.output()) == []
        assert not observer.change_state("/slow", "configure")
        assert observer.state("/slow") == "unconfigured"
        (error,) = errors_in(node.output())
        assert "cannot configure: model 'no/such/folder'" in error
        assert "Traceback" not in node.output()

        def told(level, text, _):
            return level == DiagnosticStatus.ERROR and "no/such/folder" in text

        diagnostics.wait_for("/slow", told)
        outcome = observer.set_parameters("/slow", {"model": random_model()})
        assert outcome.successful, outcome.reason
        assert observer.change_state("/slow", "configure")
        assert observer.state("/slow") == "inactive"
        assert observer.change_state("/slow", "activate")
        diagnostics.wait_for("/slow", lambda level, text, _: level == DiagnosticStatus.WARN and "no image" in text)
        assert len(errors_in(node.output())) == 1
        assert not observer.change_state("/slow", "activate")
        assert observer.state("/slow") == "active"


def test_an_edge_without_its_model_stays_and_says_so(observer, diagnostics):
    """Also while the simulated clock stands still: a bag is not played yet."""
    parameters = small(model="laim-none", use_sim_time=True)
    with start_node(EDGE, name="lost", parameters=parameters, ready=None) as node:
        diagnostics.wait_for("/lost", lambda level, text, _: level == DiagnosticStatus.ERROR and "laim-none" in text)
        assert observer.state("/lost") == "unconfigured"
        (error,) = errors_in(node.output())
        assert "laim-none" in error


@pytest.mark.parametrize(
    ("module", "assignment", "reasons"),
    [
        (ROBOT, "feature_bits:=9", ["feature_bits", "9", "1, 2, 3, 4, 5, 6, 7, 8, 16, 32"]),
        (ROBOT, "codec:=jpeg75", ["jpeg75", "does not code features"]),
        (ROBOT, "rate_hz:=fast", ["rate_hz", "number"]),
        (ROBOT, "feature_bits:=4.0", ["feature_bits takes an integer, not 4.0"]),
        (EDGE, "max_batch:=0", ["max_batch", "1"]),
    ],
)
def test_a_wrong_parameter_value_at_the_start_ends_the_node_with_the_reason(module, assignment, reasons):
    command = [sys.executable, "-m", module, "--ros-args", "-p", assignment]
    ended = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=PATIENCE_S)
    assert ended.returncode == 2
    assert "Traceback" not in ended.stdout
    (error,) = errors_in(ended.stdout)
    assert all(reason in error for reason in reasons), error


def test_a_misspelt_parameter_is_told():
    with start_node(EDGE, parameters={"max_bach": 2, "autostart": False}, ready="unconfigured") as node:
        assert "there is no parameter 'max_bach'; known: model, first_split" in node.output()


def test_a_split_point_after_the_last_split_is_told_when_the_model_is_known(diagnostics):
    parameters = small(last_split="vit.1", split_point="vit.3")
    with start_node(ROBOT, name="short", parameters=parameters, ready=None) as node:
        diagnostics.wait_for("/short", lambda level, _, __: level == DiagnosticStatus.ERROR)
        (error,) = errors_in(node.output())
        assert "'vit.3' is after 'vit.1', the last stage that is loaded" in error


def test_cleanup_gives_the_memory_back(observer, tmp_path):
    from laim_ros.models.random_checkpoint import Blip2Sizes, make_random_blip2

    large = make_random_blip2(tmp_path, Blip2Sizes(vision_width=512, vision_mlp=4096, vision_blocks=5, vision_heads=8))
    with start_node(ROBOT, name="heavy", parameters=small(model=str(large))) as node:
        loaded_bytes = resident_bytes(node.process.pid)
        assert observer.change_state("/heavy", "deactivate")
        assert observer.change_state("/heavy", "cleanup")
        assert resident_bytes(node.process.pid) < loaded_bytes - 60e6  # of 106 MB of weights


# Ending.


@pytest.mark.parametrize(("module", "how"), [(ROBOT, signal.SIGTERM), (EDGE, signal.SIGINT)])
def test_an_idle_node_ends_cleanly(module, how):
    with start_node(module, parameters={"autostart": False}, ready="unconfigured") as node:
        node.end(how)
        assert errors_in(node.output()) == []


@pytest.mark.parametrize(("module", "how"), [(ROBOT, signal.SIGINT), (EDGE, signal.SIGTERM)])
def test_a_node_that_loads_its_model_ends_cleanly(module, how):
    with start_node(module, parameters=small(), ready="configuring") as node:
        node.end(how)
        assert errors_in(node.output()) == []
        assert "rosout" not in node.output()  # what rcl complains of when the context went first


def test_an_impatient_user_ends_a_node_cleanly():
    with start_node(ROBOT, parameters=small(), ready="active") as node:
        for _ in range(30):  # at different moments of its end
            node.process.send_signal(signal.SIGINT)
            time.sleep(0.0005)
        node.end(signal.SIGINT)
        assert errors_in(node.output()) == []
