"""The robot's `weight_bits` set while it drives: captions go on, results say what really ran, refusals say why."""

from __future__ import annotations

import itertools
import shutil
import time
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from pipeline import EDGE, ROBOT, Diagnostics, Robot, Running, picture, random_model, small
from ros_harness import Observer, start_node

from laim_ros.models import load
from laim_ros.models.source import find_source
from laim_ros.nodes import messages, qos
from laim_ros.planning.profiles import MachineProfile
from laim_ros.quantization.storage.write import Packing


@pytest.fixture(scope="module")
def running():
    with ExitStack() as stack:
        made = Running(stack, robot={"profile_limit_s": 0.5, "active_w": 7.0}, edge={"profile": True})
        made.profiles = made.observer.subscribe(DiagnosticArray, "/laim/robot_profile", qos.LATCHED)
        made.edge_profiles = made.observer.subscribe(DiagnosticArray, "/laim/edge_profile", qos.LATCHED)
        yield made


@pytest.fixture
def robot(running):
    """The robot with weights as they are; they are set back afterwards."""
    yield running.robot
    running.robot.set(weight_bits=32, split_point="qformer")
    until(running, 32)


def until(running: Running, bits: int) -> None:
    """Pictures, until one has gone through a head of so many bits."""
    running.observer.wait_for(lambda: running.robot.wake().weight_bits == bits, what=f"weights of {bits} bits")


@pytest.fixture(scope="module")
def packed(tmp_path_factory) -> dict[str, str]:
    """Folders that `laim quantize` wrote, by quantizer."""
    folders = {}
    for quantizer, bits in (("uniform", 8), ("exponential", 4)):
        folder: Path = tmp_path_factory.mktemp("packed") / quantizer
        Packing(find_source(random_model()), bits, quantizer).write(folder)
        folders[quantizer] = str(folder)
    return folders


def test_no_frame_is_lost_while_the_weights_change(running, robot):
    # One after the other, so that none is overtaken: whatever gets no result was lost.
    results = [robot.frame(picture(0))]
    for bits in (4, 8, 1, 16):
        robot.set(weight_bits=bits)
        for seed in itertools.count(1):
            results.append(robot.frame(picture(seed)))
            if results[-1].weight_bits == bits:
                break
            assert seed < 2000, "the weights do not change"
        results += [robot.frame(picture(seed)) for seed in range(3)]
    assert not any(result.error for result in results)
    sequences = [result.sequence for result in results]
    assert sequences == sorted(set(sequences))
    # From the old head to the new one, never back and forth, and no other.
    assert [bits for bits, _ in itertools.groupby(result.weight_bits for result in results)] == [32, 4, 8, 1, 16]
    assert all(result.texts[0] for result in results)


def test_a_camera_that_does_not_wait_sees_results_go_on(running, robot):
    known = len(robot.result_messages())
    for bits in (8, 4, 32):
        robot.set(weight_bits=bits)
        deadline_s = time.monotonic() + 100
        while messages.result_from(robot.result_messages()[-1]).weight_bits != bits:
            robot.publish(picture(3))
            time.sleep(0.02)
            assert time.monotonic() < deadline_s
    results = [messages.result_from(message) for message in robot.result_messages()[known:]]
    assert not any(result.error for result in results)
    sequences = [result.sequence for result in results]
    assert sequences == sorted(set(sequences))


def test_the_newest_of_many_wishes_is_what_comes(running, robot):
    for bits in (2, 3, 5, 6, 7, 4):
        robot.set(weight_bits=bits)
    until(running, 4)
    assert robot.frame(picture(1)).weight_bits == 4


def test_diagnostics_and_profile_tell_what_is_in_force(running, robot):
    robot.set(weight_bits=4)
    until(running, 4)

    def shows_four(level: bytes, text: str, figures: dict[str, str]) -> bool:
        return (
            figures.get("weight_bits") == "4" and "weight_bits_wanted" not in figures and level == DiagnosticStatus.OK
        )

    running.diagnostics.wait_for("/robot", shows_four)
    _, text, figures = running.diagnostics.status("/robot")
    assert "weights at 4 bits" in text
    whole = load(random_model(), last="qformer")
    assert 0 < int(figures["head_bytes"]) < whole.head_bytes
    assert figures["engine"] in ("onednn", "torch")
    running.observer.wait_for(lambda: messages.profile_from(running.profiles[-1]).weight_bits == 4)
    profile = messages.profile_from(running.profiles[-1])
    assert (profile.engine, profile.weight_bytes) == (figures["engine"], int(figures["weight_bytes"]))
    # What was measured at the start goes along.
    costs = MachineProfile.from_json(profile.costs)
    assert (costs.model_id, costs.split_points) == (profile.model_id, tuple(profile.split_points.split()))
    assert 32 in costs.weight_bits
    assert costs.times_at(32).stage_s["qformer"] > 0
    assert costs.power_source != "assumed" or costs.modes[0].active_w == 7.0


def test_a_planner_sets_the_plan_from_what_both_tell(running, robot):
    plans = running.observer.subscribe(DiagnosticArray, "/laim/plan", qos.LATCHED)
    allowed = {"split_points": ["vit.1"], "feature_bits": ["4"], "deadline_s": 3600.0}
    with start_node("laim_ros.nodes.planner_node", parameters=allowed):
        running.observer.wait_for(lambda: robot.wake().split_point == "vit.1", what="a frame of the planner's plan")
        sent = robot.frame(picture(2))
        assert (sent.split_point, sent.feature_bits, sent.error) == ("vit.1", 4, "")

        def told() -> bool:
            robot.wake()
            return bool(plans) and "link unknown" not in messages.plan_from_message(plans[-1]).reason

        running.observer.wait_for(told, what="a plan for a link that was measured")
        report = messages.plan_from_message(plans[-1])
        assert (report.split_point, report.feasible, report.deadline_s) == ("vit.1", True, 3600.0)
        assert 0 < report.delay_s < 3600
        assert report.energy_j > 0
        running.observer.wait_for(lambda: running.observer.get_parameter("/robot", "probe_period_s") == 2.0)
    running.observer.wait_for(lambda: running.observer.get_parameter("/robot", "probe_period_s") == 0.0)
    assert running.observer.get_parameter("/robot", "split_point") == "vit.1", "the plan outlives the planner"


def test_the_edge_tells_what_its_stages_cost(running):
    running.observer.wait_for(lambda: running.edge_profiles, what="the edge's profile")
    profile = messages.profile_from(running.edge_profiles[-1])
    costs = MachineProfile.from_json(profile.costs)
    assert costs.model_id == profile.model_id
    assert costs.times_at(32).stage_s["output"] > 0


@pytest.mark.parametrize(
    ("name", "value", "reasons"),
    [
        ("weight_bits", 9, ["weight_bits takes one of 1, 2, 3, 4, 5, 6, 7, 8, 16, 32", "9"]),
        ("weight_bits", 4.0, ["weight_bits takes an integer"]),
        ("quantizer", "exponential", ["quantizer", "cleanup"]),
        ("engine", "torch", ["engine", "cleanup"]),
        ("prune", "heads:0.5", ["prune", "cleanup"]),
    ],
)
def test_refused_values_come_with_a_reason(robot, name, value, reasons):
    reason = robot.refusal(**{name: value})
    assert all(part in reason for part in reasons), reason


def test_weights_set_while_inactive_are_there_when_active(running, robot):
    assert running.observer.change_state("/robot", "deactivate")
    robot.set(weight_bits=8)
    running.observer.wait_for(lambda: messages.profile_from(running.profiles[-1]).weight_bits == 8)
    assert running.observer.change_state("/robot", "activate")
    assert robot.wake().weight_bits == 8


def test_weights_set_while_unconfigured_are_loaded_at_once_and_bad_choices_fail_with_the_reason(running, robot):
    for transition in ("deactivate", "cleanup"):
        assert running.observer.change_state("/robot", transition)
    robot.set(weight_bits=3, quantizer="exponential", engine="torch", prune="heads:0.5")
    for transition in ("configure", "activate"):
        assert running.observer.change_state("/robot", transition)
    assert robot.wake().weight_bits == 3
    running.diagnostics.wait_for("/robot", lambda _, __, figures: figures.get("quantizer") == "exponential")
    figures = running.diagnostics.status("/robot")[2]
    assert (figures["engine"], figures["prune"], figures["weight_bits"]) == ("torch", "heads:0.5", "3")
    for transition in ("deactivate", "cleanup"):
        assert running.observer.change_state("/robot", transition)
    robot.set(prune="limbs:1")
    assert not running.observer.change_state("/robot", "configure")
    running.robot_process.wait_for_output(r"cannot configure: .*limbs")
    running.diagnostics.wait_for("/robot", lambda level, text, _: level == DiagnosticStatus.ERROR and "limbs" in text)
    # A codec that is not to be had is found out then, too.
    robot.set(prune="", codec="klt", split_point="vit.1")
    assert not running.observer.change_state("/robot", "configure")
    running.robot_process.wait_for_output(r"cannot configure: codec klt is not calibrated at 'vit\.1'")
    robot.set(weight_bits=32, quantizer="auto", engine="auto", codec="auto", split_point="qformer")
    for transition in ("configure", "activate"):
        assert running.observer.change_state("/robot", transition)
    assert robot.wake().weight_bits == 32


def test_a_robot_that_runs_all_keeps_its_tail(running, robot):
    for transition in ("deactivate", "cleanup"):
        assert running.observer.change_state("/robot", transition)
    robot.set(last_split="output", split_point="output")
    for transition in ("configure", "activate"):
        assert running.observer.change_state("/robot", transition)
    texts = robot.wake(picture(2)).texts
    robot.set(weight_bits=16)
    until(running, 16)
    robot.set(weight_bits=32)
    until(running, 32)
    result = robot.frame(picture(2))
    assert (result.split_point, result.weight_bits, result.texts) == ("output", 32, texts)
    for transition in ("deactivate", "cleanup"):
        assert running.observer.change_state("/robot", transition)
    robot.set(last_split="qformer", split_point="qformer")
    for transition in ("configure", "activate"):
        assert running.observer.change_state("/robot", transition)
    robot.wake()


def test_nothing_of_this_made_a_traceback(running):
    assert "Traceback" not in running.robot_process.output()


def test_a_packed_head_runs_with_an_edge_that_has_the_model(packed):
    with ExitStack() as stack:
        observer = stack.enter_context(closing(Observer()))
        diagnostics = Diagnostics(observer)
        robots = {name: Robot(observer, f"/{name}") for name in packed}
        for name, folder in packed.items():
            stack.enter_context(start_node(ROBOT, namespace=name, parameters=small(model=folder), ready=None))
        # An edge that is given a packed head takes the model that it was made of.
        stack.enter_context(
            start_node(EDGE, namespace="packed", parameters=small(model=packed["uniform"], robots=list(packed)))
        )
        assert robots["uniform"].wake().weight_bits == 8
        assert robots["exponential"].wake().weight_bits == 4
        # The default, 32, is the model as it is, and can be gone back to.
        assert observer.get_parameter("/exponential/robot", "weight_bits") == 32
        for bits in (4, 32):
            robots["exponential"].set(weight_bits=bits)
            assert robots["exponential"].wake().weight_bits == 4
        robots["uniform"].set(weight_bits=3)
        observer.wait_for(lambda: robots["uniform"].wake().weight_bits == 3)
        robots["uniform"].set(weight_bits=32)
        observer.wait_for(lambda: robots["uniform"].wake().weight_bits == 8)
        assert "weights of 4 bits, not 8" in robots["exponential"].refusal(weight_bits=8)
        assert "of 1 to 8 bits, not 16" in robots["uniform"].refusal(weight_bits=16)
        assert robots["exponential"].frame(picture(2)).weight_bits == 4
        for name, bits in (("exponential", "4"), ("uniform", "8")):
            diagnostics.wait_for(
                f"/{name}/robot",
                lambda _, text, figures, bits=bits: (
                    figures.get("weight_bits") == bits
                    and "weight_bits_wanted" not in figures
                    and f"weights at {bits} bits" in text
                ),
            )
        # And the model that it was made of comes as it is, too.
        for transition in ("deactivate", "cleanup"):
            assert observer.change_state("/uniform/robot", transition)
        robots["uniform"].set(model=random_model())
        for transition in ("configure", "activate"):
            assert observer.change_state("/uniform/robot", transition)
        assert robots["uniform"].wake().weight_bits == 32


def test_a_wish_that_cannot_be_fulfilled_is_told_and_captions_go_on(tmp_path):
    folder = Path(shutil.copytree(random_model(), tmp_path / "model"))
    with ExitStack() as stack:
        observer = stack.enter_context(closing(Observer()))
        diagnostics, robot = Diagnostics(observer), Robot(observer, "/broken")
        process = stack.enter_context(
            start_node(ROBOT, namespace="broken", parameters=small(model=str(folder), weight_bits=8))
        )
        stack.enter_context(
            start_node(EDGE, namespace="broken", parameters=small(model=str(folder), robots=["broken"]))
        )
        assert robot.wake().weight_bits == 8
        (folder / "model.safetensors").rename(tmp_path / "aside")
        robot.set(weight_bits=4)
        process.wait_for_output(r"weight_bits stays 8, 4 could not be loaded: .*model\.safetensors")
        assert robot.frame(picture(1)).weight_bits == 8
        robot.wake()

        def told(level: bytes, text: str, figures: dict[str, str]) -> bool:
            return level == DiagnosticStatus.WARN and "4 could not be loaded" in text

        diagnostics.wait_for("/broken/robot", told)
        figures = diagnostics.status("/broken/robot")[2]
        assert (figures["weight_bits"], figures["weight_bits_wanted"]) == ("8", "4")
        assert observer.get_parameter("/broken/robot", "weight_bits") == 4
        # Only what is said of the weights tries again.
        (tmp_path / "aside").rename(folder / "model.safetensors")
        robot.set(prompt="a picture of")
        for _ in range(3):
            assert robot.wake().weight_bits == 8
        assert process.output().count("could not be loaded") == 1
        robot.set(weight_bits=4)
        observer.wait_for(lambda: robot.wake().weight_bits == 4)
        diagnostics.wait_for("/broken/robot", lambda level, _, figures: level == DiagnosticStatus.OK)
