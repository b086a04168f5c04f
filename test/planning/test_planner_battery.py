"""Stories of a battery through `Planner`: what it tells, and what plans may then cost."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from small_world import JPEG, MISSION, QUALITY, START, Story, edge_profile, robot_profile, story, whole_robot

from laim_ros.plan import Plan
from laim_ros.planning import Allowed, Battery, Planner, PowerMode, build_choices
from laim_ros.records import LinkReport


def battery(percentage: float) -> Battery:
    return Battery(percentage=percentage, voltage_v=20.0)


FRAMES = 300


def short_mission(percentage: float, left: float = 0.1) -> Story:
    """At 1 Hz, FRAMES long, over a link that is good for everything; what is not kept for the end drains evenly."""
    goals = replace(MISSION, mission_s=float(FRAMES), battery_capacity_wh=10 * FRAMES / 3600)
    run = story(goals=goals, period_s=1.0)
    began_s = run.now_s
    run.battery = lambda: battery(left + (percentage - left) * max(0.0, 1 - (run.now_s - began_s) / FRAMES))
    return run


@pytest.mark.parametrize(("percentage", "budget_j"), [(1.0, 1.8), (0.3, 0.4), (0.25, 0.3), (0.2, 0.2), (0.15, 0.1)])
def test_the_budget_of_a_mission_is_spent_and_no_more(percentage: float, budget_j: float) -> None:
    """The budget is 2 J · (charge - 0.1); vision takes 0.54 J, JPEG 35 mJ: more than enough, or a part of the frames.

    The round trip, 20 mJ, is spent but not sent in, and the planner does not count it.
    """
    run = short_mission(percentage)
    run.run(FRAMES)
    plans = [decision.plan for decision in run.decisions]
    assert set(plans[1:]) <= {Plan("vision", 8, 8), JPEG, START}
    most_j = min(budget_j, 0.53)
    assert 0.97 * most_j <= run.spent_j / FRAMES <= most_j + 0.02
    assert (plans.count(JPEG) == 0) == (budget_j > 0.54)
    changed = [number for number, decision in enumerate(run.decisions) if decision.changed]
    assert min(np.diff(changed), default=math.inf) >= MISSION.dwell_s  # what was saved up pays for the whole dwell


def test_at_the_reserve_the_cheapest_plan_runs_and_is_said_to_be_too_dear() -> None:
    run = story(goals=MISSION, period_s=1.0)
    run.battery = lambda: battery(0.8)
    assert run.run(20).plan == Plan("vision", 8, 8)
    run.battery = lambda: battery(0.1)
    decision = run.run(10)
    assert decision.plan == JPEG
    assert not decision.report.feasible
    assert decision.report.reason.startswith("no plan keeps all limits; ")
    assert decision.report.energy_budget_j == 0


def test_one_absurd_reading_does_not_stop_the_robot() -> None:
    run = story(goals=MISSION, period_s=1.0)
    run.battery = lambda: battery(0.9)
    run.run(20)
    facts = {"packet_bytes": 18_000, "robot_s": 0.051, "link_s": 0.01, "edge_s": 0.041, "packets_sent": 21}
    run.planner.observe_link(LinkReport(1, "vision", 8, 8, "plain", **facts, energy_j=1e12), run.now_s)
    assert run.run(90).plan == Plan("vision", 8, 8)


@pytest.mark.parametrize(
    ("news", "remark"),
    [
        (Battery(), "battery percentage nan says nothing: energy is not limited"),
        (Battery(percentage=150.0), "battery percentage 150 says nothing: energy is not limited"),
        (Battery(percentage=15.0), "battery percentage 15 is above 1 and counts as percent"),
        (None, "no news of the battery: energy is not limited"),
    ],
)
def test_what_a_battery_does_not_tell_is_said(news: Battery | None, remark: str) -> None:
    run = story(goals=MISSION)
    run.battery = None if news is None else lambda: news
    decision = run.run(5)
    assert remark in decision.report.remarks
    assert decision.report.feasible
    limited = news is not None and news.percentage == 15.0
    assert (decision.report.energy_budget_j < math.inf) == limited
    assert (decision.report.battery == 0.15) == limited


def test_old_news_of_the_battery_do_not_count_also_when_the_clock_was_set_back() -> None:
    run = story(goals=MISSION)
    run.battery = lambda: battery(0.15)
    run.run(5)
    run.battery = None
    assert "battery" not in run.run(25).report.remarks
    assert "no news of the battery" in run.run(10).report.remarks
    run.planner.observe_battery(battery(0.15), run.now_s)
    run.now_s -= 600
    assert "battery" not in run.run(5).report.remarks
    assert "no news of the battery" in run.run(40).report.remarks


def test_a_clock_that_was_set_back_does_not_hold_a_price() -> None:
    run = story(goals=MISSION, period_s=1.0)
    run.battery = lambda: battery(0.2)
    assert run.run(30).limits.price_per_j > 0
    run.now_s -= 600
    run.battery = lambda: battery(1.0)
    assert run.run(30).limits.price_per_j == 0


def test_no_mission_no_limit() -> None:
    run = story()
    run.battery = lambda: battery(0.02)
    decision = run.run(5)
    assert decision.plan == Plan("vision", 8, 8)
    assert decision.report.energy_budget_j == math.inf


def test_a_tight_battery_slows_the_clock() -> None:
    modes = (PowerMode(2e9, 1.0, 10.0), PowerMode(1e9, 2.0, 1.25))
    run = story(whole_robot(modes=modes), goals=replace(MISSION, deadline_s=0.4), period_s=1.0)
    run.battery = lambda: battery(1.0)
    assert run.run(10).plan == Plan("vision", 8, 8, robot_clock_hz=1e9)  # equally good, and four times cheaper
    run.planner.goals = replace(MISSION, deadline_s=0.14)
    assert run.run(20).plan == Plan("vision", 8, 8, robot_clock_hz=2e9)


def test_being_late_for_want_of_energy_is_not_said_to_be_for_want_of_a_plan() -> None:
    run = story(goals=MISSION, period_s=1.0)
    run.battery = lambda: battery(0.2)
    run.run(30)
    run.goodput_bps = 0
    decision = run.run(20)
    assert decision.plan == JPEG  # output comes in time, for 2.6 J of 0.2 J, and there are no savings to pay for it
    assert not decision.report.feasible
    assert decision.report.feasible_choices == 0
    assert decision.report.reason.startswith("no plan keeps all limits; link silent")
    run.goodput_bps = 20e6
    run.run(500)
    run.goodput_bps = 0
    outage = [run.run(1) for _ in range(30)]
    assert any(each.plan.split_point == "output" and each.report.feasible for each in outage)
    assert outage[-1].plan == JPEG  # the savings are there, but are worth more to the frames to come
    assert not outage[-1].report.feasible
    assert outage[-1].report.feasible_choices == 1
    assert outage[-1].report.reason.startswith("to be in time would cost more energy than it is worth; link silent")


def test_with_nothing_left_to_spend_a_plan_that_comes_in_time_replaces_one_that_does_not() -> None:
    """Both cost the same, and the other comes 5 ms sooner."""
    planner = Planner(MISSION, Allowed(split_points=("qformer",)), START, 1000.0)
    planner.set_profiles(robot_profile(radio_w=0.0), edge_profile(), QUALITY)
    run = Story(planner, build_choices(robot_profile(), edge_profile(), QUALITY))
    run.battery = lambda: battery(0.1)
    run.goodput_bps, run.round_trip_s = 1e6, 0.19
    decision = run.run(20)
    assert decision.plan == Plan("qformer", 8, 2)
    assert not decision.report.feasible


@pytest.mark.parametrize("lost", [0, 100])
def test_frames_that_never_came_back_have_cost_as_much(lost: int) -> None:
    """2 J each, where 0.4 J is the budget and vision takes 0.54 J: after a hundred it cannot be had any more."""
    run = short_mission(0.3)
    run.run(60)
    facts = {"packet_bytes": 18_000, "robot_s": 0.051, "link_s": 0.01, "edge_s": 0.041, "energy_j": 2.0}
    run.frames += 1 + lost
    run.planner.observe_link(LinkReport(run.frames, "vision", 8, 8, "plain", **facts), run.now_s)
    run.run(10)
    run.decisions.clear()
    run.run(FRAMES - 80)
    assert any(decision.plan == Plan("vision", 8, 8) for decision in run.decisions) == (not lost)
