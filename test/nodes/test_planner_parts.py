"""The planner node's parts that need no ROS: who may set plans, what parameters mean, which profiles count."""

from __future__ import annotations

import math

import pytest
from planner_desk import EDGE_COSTS, MODEL, ROBOT_COSTS, machine
from sensor_msgs.msg import BatteryState

from laim_ros.nodes.messages import battery_from
from laim_ros.nodes.planner_claim import SETTLE_S, Claim
from laim_ros.nodes.planner_facts import Facts
from laim_ros.nodes.planner_settings import PlannerSettings
from laim_ros.parameters import TABLES, ParameterValueError
from laim_ros.plan import Plan
from laim_ros.planning import Allowed, Battery, Goals, Planner
from laim_ros.planning.refusals import REFUSED_FOR_S
from laim_ros.records import Profile

DEFAULTS = {entry.name: entry.default for entry in TABLES["planner"]}
PLAN = Plan("qformer", 8, 4)


def run(claims: dict[str, Claim], seen_after_s: float, until_s: float, begins_s: dict[str, float]) -> list[set[str]]:
    """Who may set plans, ten times a second, where a publisher is seen by the others only after a while."""
    made_s: dict[str, float] = {}
    history = []
    for tick in range(int(until_s * 10)):
        now_s = tick / 10
        for name, claim in claims.items():
            if now_s < begins_s[name]:
                continue
            others = sum(other != name and now_s - at_s >= seen_after_s for other, at_s in made_s.items())
            claim.update(others, now_s)
            if claim.publishes:
                made_s.setdefault(name, now_s)
            else:
                made_s.pop(name, None)
        history.append({name for name, claim in claims.items() if claim.may_set})
    return history


@pytest.mark.parametrize("second_s", [0.0, 0.3, 1.0, 1.5, 7.0])
def test_never_two_planners_set_and_one_does_in_the_end(second_s):
    lots = iter([0.1, 0.9, 0.5, 0.2, 0.8, 0.3] * 20)
    claims = {name: Claim(begin, lambda: next(lots)) for name, begin in (("a", 0.0), ("b", second_s))}
    history = run(claims, seen_after_s=0.4, until_s=30.0, begins_s={"a": 0.0, "b": second_s})
    assert max(map(len, history)) == 1
    assert all(len(setting) == 1 for setting in history[-50:])
    if second_s > 2 * SETTLE_S:
        assert history[-1] == {"a"}, "who is at work stays"


def test_planners_that_meet_while_both_are_at_work_pause_and_one_gives_way():
    lots = iter([0.2, 0.9] * 20)
    claims = {name: Claim(0.0, lambda: next(lots)) for name in "ab"}
    for name, claim in claims.items():
        assert [len(run({name: claim}, 0.0, 3.0, {name: 0.0})[-1])] == [1]
    for claim in claims.values():
        claim.update(1, 3.0)
        assert not claim.may_set
    history = run(claims, seen_after_s=0.0, until_s=40.0, begins_s=dict.fromkeys("ab", 3.0))
    assert max(map(len, history[31:])) == 1
    assert len(history[-1]) == 1


def test_defaults_are_those_of_the_planning_part():
    settings = PlannerSettings.read(DEFAULTS)
    assert (settings.mode, settings.goals, settings.allowed) == ("auto", Goals(), Allowed())


def test_lists_of_choices():
    lists = {"split_points": ["input", " vit.2"], "weight_bits": ["4", "16"], "feature_bits": []}
    codecs = ("jpeg75", "klt", "klt12", "plain")
    allowed = PlannerSettings.read({**DEFAULTS, **lists, "codecs": list(codecs), "clocks": False}).allowed
    assert allowed == Allowed(("input", "vit.2"), (4, 16), (), codecs, clocks=False)
    for name, wrong in (("weight_bits", "9"), ("feature_bits", "four"), ("split_points", "vit"), ("codecs", "png")):
        with pytest.raises(ParameterValueError, match=f"{name}: .*'{wrong}'"):
            PlannerSettings.read({**DEFAULTS, name: [wrong]})


def profile(costs: str, model_id: str = "m1") -> Profile:
    return Profile(model=MODEL, model_id=model_id, costs=costs)


def test_a_profile_that_cannot_be_read_leaves_the_one_before_of_the_same_model():
    facts, planner = Facts(), Planner(Goals(), Allowed(), Plan(), 0.0)
    assert "no profile" in planner.trouble
    assert facts.take("robot", profile(ROBOT_COSTS)) == ""
    facts.take("edge", profile(EDGE_COSTS))
    assert "no quality table" in facts.tell(planner, "")
    assert planner.decide(1.0).report.choices > 0
    for costs, trouble in (("", "tells no times"), ("{", "is damaged"), ('{"version": 2}', "is damaged")):
        assert trouble in facts.take("robot", profile(costs))
        assert facts.remarks[0].endswith("the one before counts")
        facts.tell(planner, "")
        assert planner.trouble == ""
    modes = '{"clock_hz": 1.0},' * 1000
    endless = ROBOT_COSTS.replace('"modes":[', f'"modes":[{modes}')
    assert "Expected `array` of length <= 64" in facts.take("robot", profile(endless))
    facts.take("robot", profile("", model_id="another"))
    facts.tell(planner, "")
    assert planner.decide(2.0) is None
    assert planner.trouble == f"the robot's profile of {MODEL} tells no times"


def test_a_quality_table_that_cannot_be_read_is_told(tmp_path):
    facts, planner = Facts(), Planner(Goals(), Allowed(), Plan(), 0.0)
    facts.take("robot", profile(ROBOT_COSTS))
    facts.take("edge", profile(EDGE_COSTS))
    words = facts.tell(planner, str(tmp_path / "none.json"))
    assert "none.json: No such file or directory: plans are ranked by theory" in words
    assert words in planner.decide(1.0).report.remarks


def test_refused_plans_and_their_like_are_left_out_for_a_while():
    allowed = Allowed(split_points=("qformer", "vision"), weight_bits=(8,), feature_bits=(4, 8))
    planner = Planner(Goals(dwell_s=0.0), allowed, PLAN, 0.0)
    whole = [
        machine(stages, 0.01) for stages in (("input", "vit.1", "vision", "qformer"), ("vision", "qformer", "output"))
    ]
    planner.set_profiles(*whole, None)
    first = planner.decide(0.0)
    assert {plan.split_point for plan in first.choices.plans} == {"qformer", "vision"}
    planner.plan = Plan("input", 8, codec="jpeg90")
    planner.refuse(Plan("vision", 8, 4), 1.0)
    assert {plan.split_point for plan in planner.decide(2.0).choices.plans} == {"qformer"}
    planner.plan = Plan("vision", 8, 8)
    planner.refuse(PLAN, 2.0)
    assert planner.decide(3.0).choices.plans == (planner.plan,), "what is carried out is not refused"
    planner.plan = Plan("input", 8, codec="jpeg90")
    assert planner.decide(4.0) is None
    assert planner.trouble == "the robot has refused every plan lately"
    assert len(planner.decide(2.5 + REFUSED_FOR_S).choices) == len(first.choices)
    assert planner.trouble == ""


def test_other_allowed_choices_count_at_once():
    planner = Planner(Goals(), Allowed(), PLAN, 0.0)
    planner.set_allowed(Allowed(split_points=("qformer",)))
    assert "no profile" in planner.trouble
    planner.set_profiles(machine(("input", "vit.1", "vision", "qformer"), 0.01), machine(("output",), 0.01), None)
    planner.set_allowed(Allowed(feature_bits=(3,)))
    assert {plan.feature_bits for plan in planner.decide(1.0).choices.plans if plan.split_point == "qformer"} == {3}
    planner.set_allowed(Allowed(split_points=("input",)))
    assert "no plan is left" in planner.trouble


def test_a_mission_may_begin_anew():
    planner = Planner(Goals(mission_s=100.0), Allowed(), PLAN, 0.0)
    planner.set_profiles(machine(("input", "vit.1", "vision", "qformer"), 0.01), machine(("output",), 0.01), None)
    planner.observe_battery(Battery(percentage=0.5, capacity_ah=1.0, voltage_v=10.0), 50.0)
    late = planner.decide(50.0).report.energy_budget_j
    planner.begin_mission(50.0)
    assert planner.decide(50.0).report.energy_budget_j == pytest.approx(late / 2)


@pytest.mark.parametrize(
    ("fields", "percentage"),
    [
        ({"percentage": 0.4, "voltage": 12.0}, 0.4),
        ({"percentage": 150.0}, 150.0),
        ({"percentage": math.nan}, math.nan),
        ({"percentage": 0.0, "voltage": 11.0}, 0.0),  # an empty battery
        ({"percentage": 0.0, "voltage": 12.0, "charge": 2.0}, math.nan),  # drivers that do not fill it in
        ({}, math.nan),
    ],
)
def test_batteries(fields, percentage):
    battery = battery_from(BatteryState(**fields))
    assert battery.percentage == pytest.approx(percentage, nan_ok=True)


def test_every_figure_of_a_battery_arrives():
    message = BatteryState(
        percentage=0.5, charge=2.0, capacity=4.0, design_capacity=5.0, voltage=12.0, current=-1.5, present=False
    )
    assert battery_from(message) == Battery(0.5, 2.0, 4.0, 5.0, 12.0)
