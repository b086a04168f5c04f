"""The planner as a process of its own, between a node that takes plans as a robot does and topics that the test fills.

One planner lives through the tests of this file, in their order; each says what it needs to be so.
"""

from __future__ import annotations

import math
from contextlib import ExitStack, closing

import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from pipeline import Diagnostics
from planner_desk import EDGE_COSTS, MODEL, ROBOT_COSTS, Desk, TakesPlans, machine
from rclpy.parameter import Parameter
from ros_harness import Observer, start_node

from laim_ros.records import LinkReport

PLANNER = "laim_ros.nodes.planner_node"
FAST, SLOW = 20e6, 0.2e6
CHOICES = {"split_points": ["input", "qformer"], "weight_bits": ["8"], "codecs": ["jpeg90", "plain"]}
PARAMETERS = {**CHOICES, "feature_bits": ["8"], "period_s": 0.1, "dwell_s": 0.0, "deadline_s": 0.3}
PICTURES = {"split_point": "input", "weight_bits": 32, "feature_bits": 8, "codec": "jpeg90", "robot_clock_hz": 0.0}
FEATURES = {"split_point": "qformer", "weight_bits": 8, "feature_bits": 8, "codec": "plain", "robot_clock_hz": 0.0}


class World:
    """A desk, a node that takes plans, and two planners, of which the second waits to be configured."""

    def __init__(self, stack: ExitStack) -> None:
        self.observer = stack.enter_context(closing(Observer()))
        self.robot = stack.enter_context(closing(TakesPlans()))
        self.desk, self.diagnostics = Desk(self.observer), Diagnostics(self.observer)
        other = {**PARAMETERS, "split_points": ["qformer"], "feature_bits": ["4"], "autostart": False}
        self.planner = stack.enter_context(start_node(PLANNER, parameters=PARAMETERS, ready=None))
        self.other = stack.enter_context(start_node(PLANNER, name="other", parameters=other, ready=None))
        self.planner.wait_for_state("active")

    def set(self, **values: object) -> None:
        """Sets parameters of the planner."""
        outcome = self.observer.set_parameters("/planner", values)
        assert outcome.successful, outcome.reason

    def wait_for_plan(self, **wanted: object) -> None:
        """Waits until the robot has these values."""
        self.observer.wait_for(
            lambda: {name: self.robot.value(name) for name in wanted} == wanted, what=f"the plan {wanted}"
        )

    def wait_for_status(self, level: bytes, words: str, node: str = "/planner") -> None:
        """Waits until a planner says this on /diagnostics."""
        self.diagnostics.wait_for(node, lambda found, text, _: found == level and words in text)


@pytest.fixture(scope="module")
def world():
    with ExitStack() as stack:
        yield World(stack)


def test_what_is_missing_is_said_and_nothing_is_set(world):
    world.desk.wait_for(
        lambda report: report.reason == "no profile of the robot has come yet", "that it has no profile"
    )
    world.desk.profile("robot", "")
    world.desk.wait_for(lambda report: f"the robot's profile of {MODEL} tells no times" in report.reason, "that")
    world.desk.profile("robot", ROBOT_COSTS, calibrations="qformer=ff")
    report = world.desk.wait_for(
        lambda report: "no profile of the edge" in report.reason, "that the edge has no profile"
    )
    assert (report.feasible, report.split_point, report.weight_bits) == (False, "qformer", 32)
    world.desk.wait_for(lambda report: report.codec == "klt", "what codec auto is for this robot")
    assert world.robot.plans == []
    assert "not set" not in world.planner.output(), "nobody has changed the plan"


def test_profiles_bring_a_plan_all_at_once_and_probes(world):
    world.desk.profile("edge", EDGE_COSTS)
    world.wait_for_plan(**PICTURES, probe_period_s=2.0)
    assert world.robot.plans == [PICTURES]
    report = world.desk.wait_for(lambda report: report.split_point == "input", "a report of the plan")
    assert f"no quality table for {MODEL}" in report.remarks
    assert "no packet has come back yet" in report.remarks
    world.wait_for_status(DiagnosticStatus.OK, "pictures as jpeg90")


def test_a_link_that_sags_changes_the_plan_and_is_named(world):
    world.desk.link(FAST, lambda report: report.reason.startswith("link 20.0 Mbit/s: pictures"), "the link")
    report = world.desk.link(SLOW, lambda report: report.split_point == "qformer", "another plan")
    assert report.reason.startswith("link 200 kbit/s: qformer at 8 bits needs")
    world.wait_for_plan(**FEATURES)
    world.desk.silence(20.0)
    report = world.desk.wait_for(lambda report: "link silent for 2" in report.reason, "the silence")
    assert not report.feasible
    world.desk.link(SLOW, lambda report: report.feasible and "kbit/s" in report.reason, "the link again")


def test_strange_news_are_remarked_and_survived(world):
    world.set(mission_s=3600.0)
    world.desk.wait_for_remark("no news of the battery: energy is not limited")
    world.desk.battery(percentage=math.nan)
    world.desk.wait_for_remark("battery percentage nan says nothing: energy is not limited")
    world.desk.battery(percentage=150.0, voltage=12.0)
    world.desk.wait_for_remark("battery percentage 150 says nothing")
    world.desk.battery(percentage=50.0, voltage=12.0, capacity=5.0)
    report = world.desk.wait_for_remark("battery percentage 50 is above 1 and counts as percent")
    # (50 % - 10 %) of 5 Ah at 12 V, a fifth of it for inference, over the frames of an hour.
    assert report.battery == 0.5
    assert 0 < report.energy_budget_j < math.inf
    world.set(mission_s=0.0)
    for strange in (10**30, -5):
        figures = {"link_s": math.inf, "latency_s": -1.0, "unanswered_s": math.nan, "robot_wait_s": math.inf}
        world.desk.tell(LinkReport(sequence=strange, packet_bytes=strange, packets_sent=strange, **figures))
    world.desk.profile("edge", machine(("output",), 0.1, "m2").to_json(), "m2")
    world.desk.wait_for(lambda report: "the edge runs another model" in report.reason, "the other model")
    world.desk.profile("robot", '{"machine": 7}')
    world.desk.wait_for_remark(f"the robot's profile of {MODEL} is damaged")
    assert "the one before counts" in world.desk.report.remarks
    world.desk.profile("robot", ROBOT_COSTS)
    world.desk.profile("edge", EDGE_COSTS)
    world.desk.wait_for(lambda report: report.split_point and not report.remarks.count("damaged"), "a whole profile")


def test_a_clock_that_it_may_not_choose_stays_as_somebody_has_set_it(world):
    world.set(clocks=False)
    world.desk.link(FAST, lambda report: report.split_point == "input", "a plan for a fast link")
    world.wait_for_plan(split_point="input")
    world.robot.node.set_parameters([Parameter("robot_clock_hz", value=1.2e9)])
    asked = len(world.robot.asked)
    world.desk.link(SLOW, lambda report: report.split_point == "qformer", "a plan for a slow one")
    world.wait_for_plan(split_point="qformer", robot_clock_hz=1.2e9)
    assert [set(values) for values in world.robot.asked[asked:]] == [FEATURES.keys() - {"robot_clock_hz"}]
    world.robot.node.set_parameters([Parameter("robot_clock_hz", value=0.0)])
    world.set(clocks=True)


def test_a_refused_plan_is_told_and_another_one_is_taken(world):
    world.robot.refuses["split_point"] = "input"
    refused = len(world.robot.plans)
    report = world.desk.link(FAST, lambda report: "/robot refuses pictures" in report.remarks, "the refusal")
    world.wait_for_status(DiagnosticStatus.WARN, "/robot refuses pictures as jpeg90: no split_point here")
    assert report.split_point == "qformer"
    asked = [plan["split_point"] for plan in world.robot.plans[refused:]]
    assert asked.count("input") == 1, "it is not asked again and again"
    assert world.robot.value("split_point") == "qformer"
    world.robot.refuses.clear()


def test_a_plan_that_somebody_else_sets_is_taken_back(world):
    world.desk.link(SLOW, lambda report: report.split_point == "qformer", "a plan for a slow link")
    world.wait_for_plan(**FEATURES)
    assert world.observer.set_parameters("/robot", {"split_point": "vit.1"}).successful
    world.planner.wait_for_output(r"/robot runs vit\.1 .* not set .*: qformer at 8 bits .* is set again")
    world.wait_for_plan(**FEATURES)


def test_manual_mode_says_what_it_would_do_and_sets_nothing(world):
    world.set(mode="manual")
    world.wait_for_plan(probe_period_s=0.0)
    plans = len(world.robot.plans)
    assert world.observer.set_parameters("/robot", {"split_point": "vision", "weight_bits": 32}).successful
    world.set(split_points=["qformer"])
    report = world.desk.wait_for(lambda report: report.mode == "manual" and report.split_point == "qformer", "its mode")
    assert report.feasible
    assert world.robot.value("split_point") == "vision"
    assert len(world.robot.plans) == plans
    world.set(mode="auto", split_points=["input", "qformer"])
    world.wait_for_plan(**FEATURES, probe_period_s=2.0)


def test_the_robots_deadline_counts_where_the_planner_has_none(world):
    world.set(deadline_s=0.0)
    assert world.observer.set_parameters("/robot", {"deadline_s": 5.0}).successful
    world.desk.wait_for(lambda report: report.deadline_s == 5.0, "the robot's deadline")
    world.set(deadline_s=0.3)
    world.desk.wait_for(lambda report: report.deadline_s == pytest.approx(0.3), "its own deadline")


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"weight_bits": ["4", "9"]}, "weight_bits: '9' is none of 1, 2"),
        ({"split_points": ["vit"]}, "split_points: split_point 'vit' is none of input, vit.K"),
        ({"codecs": ["jpeg0"]}, "codecs: codec 'jpeg0' does not code pictures"),
    ],
)
def test_choices_that_no_plan_has_are_refused(world, values, reason):
    outcome = world.observer.set_parameters("/planner", values)
    assert not outcome.successful
    assert reason in outcome.reason


def test_only_one_of_two_planners_sets_plans(world):
    assert world.observer.change_state("/other", "configure")
    assert world.observer.change_state("/other", "activate")
    world.wait_for_status(DiagnosticStatus.ERROR, "another planner (/planner) is at work", "/other")
    # The second would choose 4 bits, and could have by now: the first goes on.
    world.set(split_points=["qformer"], feature_bits=["7"])
    world.wait_for_plan(split_point="qformer", feature_bits=7)
    assert all(plan["feature_bits"] != 4 for plan in world.robot.plans)
    asked = len(world.robot.asked)
    assert world.observer.change_state("/planner", "deactivate")
    world.observer.wait_for(lambda: {"probe_period_s": 0.0} in world.robot.asked[asked:], what="the end of the probes")
    world.wait_for_plan(feature_bits=4, probe_period_s=2.0)


def test_a_robot_that_begins_anew_gets_its_plan_again_and_one_that_is_gone_is_told(world):
    assert world.robot.value("feature_bits") == 4
    with closing(world.robot):
        pass
    world.wait_for_status(DiagnosticStatus.OK, "qformer", "/other")
    world.desk.wait_for_remark("no robot answers at /robot")
    world.robot = TakesPlans()
    world.wait_for_plan(feature_bits=4, split_point="qformer")
    world.robot.close()
