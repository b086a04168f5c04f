"""The planner's rules, with examples that can be worked out by hand."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laim_ros.planning import Battery, Goals
from laim_ros.planning.policy import (
    battery_energy_j,
    charge,
    delay_budget_s,
    energy_budget_j,
    saved_share,
    should_switch,
)

GOALS = Goals(mission_s=3600.0, battery_share=0.2, battery_reserve=0.1)
FULL = Battery(percentage=1.0, capacity_ah=5.0, voltage_v=20.0)
"""100 Wh, 360 kJ."""


# The battery.


@pytest.mark.parametrize(
    ("battery", "share", "remark"),
    [
        (Battery(percentage=0.6), 0.6, ""),
        (Battery(percentage=0.0), 0.0, ""),
        (Battery(percentage=1.0), 1.0, ""),
        (Battery(percentage=55.0), 0.55, "above 1 and counts as percent"),
        (Battery(percentage=1.02), 1.0, "above 1 and counts as full"),
        (Battery(charge_ah=2.0, capacity_ah=5.0), 0.4, "ampere-hours"),
        (Battery(charge_ah=2.0, capacity_ah=math.nan, design_capacity_ah=8.0), 0.25, "ampere-hours"),
        (Battery(percentage=150.0, charge_ah=6.0, capacity_ah=5.0), 1.0, "ampere-hours"),
        (Battery(), math.nan, "percentage nan says nothing"),
        (Battery(percentage=150.0), math.nan, "percentage 150 says nothing"),
        (Battery(percentage=-0.1, charge_ah=1.0), math.nan, "says nothing"),
        (Battery(percentage=math.inf, charge_ah=math.inf, capacity_ah=5.0), math.nan, "says nothing"),
    ],
)
def test_charge(battery: Battery, share: float, remark: str) -> None:
    reading = charge(battery)
    assert reading.value == pytest.approx(share, nan_ok=True)
    assert remark in reading.remark
    assert bool(remark) == bool(reading.remark)


@pytest.mark.parametrize(
    ("battery", "capacity_wh", "energy_j"),
    [
        (FULL, 0.0, 360_000.0),
        (FULL, 50.0, 180_000.0),  # what a person says goes first
        (Battery(capacity_ah=math.nan, design_capacity_ah=5.0, voltage_v=20.0), 0.0, 360_000.0),
        (Battery(percentage=0.5, charge_ah=2.5, voltage_v=20.0), 0.0, 360_000.0),
        (Battery(percentage=50.0, charge_ah=2.5, voltage_v=20.0), 0.0, 360_000.0),
        (Battery(capacity_ah=5.0), 0.0, math.nan),
        (Battery(capacity_ah=5.0, voltage_v=0.0), 0.0, math.nan),
        (Battery(capacity_ah=5.0, voltage_v=-20.0), 0.0, math.nan),
        (Battery(capacity_ah=0.0, voltage_v=20.0), 0.0, math.nan),
        (Battery(capacity_ah=-5.0, charge_ah=2.0, percentage=1e-320, voltage_v=20.0), 0.0, math.nan),
        (Battery(capacity_ah=5.0, voltage_v=math.inf), 0.0, math.nan),
        (Battery(), 0.0, math.nan),
    ],
)
def test_energy_of_the_full_battery(battery: Battery, capacity_wh: float, energy_j: float) -> None:
    reading = battery_energy_j(battery, capacity_wh)
    assert reading.value == pytest.approx(energy_j, nan_ok=True)
    assert ("set battery_capacity_wh" in reading.remark) == math.isnan(energy_j)


@pytest.mark.parametrize(
    ("battery", "goals", "mission_left_s", "frame_period_s", "budget_j"),
    [
        # (1 - 0.1) · 360 kJ · 0.2 = 64.8 kJ for 3600 frames
        (FULL, GOALS, 3600.0, 1.0, 18.0),
        (FULL, GOALS, 3600.0, 0.5, 9.0),
        (FULL, GOALS, 1800.0, 1.0, 36.0),
        (Battery(percentage=0.2, capacity_ah=5.0, voltage_v=20.0), GOALS, 3600.0, 1.0, 2.0),
        (Battery(percentage=20.0, capacity_ah=5.0, voltage_v=20.0), GOALS, 3600.0, 1.0, 2.0),
        (Battery(charge_ah=1.0, capacity_ah=5.0, voltage_v=20.0), GOALS, 3600.0, 1.0, 2.0),
        # the reserve is all that is left, or more than that
        (Battery(percentage=0.1, capacity_ah=5.0, voltage_v=20.0), GOALS, 3600.0, 1.0, 0.0),
        (Battery(percentage=0.05, capacity_ah=5.0, voltage_v=20.0), GOALS, 3600.0, 1.0, 0.0),
        # the mission is over: what is above the reserve may go, but no frame gets more than all
        (FULL, GOALS, 0.0, 1.0, 64_800.0),
        (FULL, GOALS, -500.0, 10.0, 64_800.0),
        (Battery(percentage=1.0), Goals(mission_s=3600.0, battery_capacity_wh=100.0), 3600.0, 1.0, 18.0),
    ],
)
def test_energy_budget_of_a_frame(
    battery: Battery, goals: Goals, mission_left_s: float, frame_period_s: float, budget_j: float
) -> None:
    assert energy_budget_j(battery, goals, mission_left_s, frame_period_s).value == pytest.approx(budget_j)


@pytest.mark.parametrize(
    ("battery", "remark"),
    [
        (None, "no news of the battery: energy is not limited"),
        (Battery(), "battery percentage nan says nothing: energy is not limited"),
        (Battery(percentage=0.5), "set battery_capacity_wh: energy is not limited"),
        (Battery(percentage=50.0, capacity_ah=5.0, voltage_v=0.0), "set battery_capacity_wh: energy is not limited"),
    ],
)
def test_a_battery_that_does_not_tell_limits_nothing_and_that_is_said(battery: Battery | None, remark: str) -> None:
    reading = energy_budget_j(battery, GOALS, 3600.0, 1.0)
    assert reading.value == math.inf
    assert reading.remark.endswith(remark)


def test_without_a_mission_nothing_is_limited_and_nothing_need_be_said() -> None:
    reading = energy_budget_j(None, Goals(), 3600.0, 1.0)
    assert (reading.value, reading.remark) == (math.inf, "")
    assert delay_budget_s(0.0) == math.inf
    assert delay_budget_s(0.4) == 0.4


FIGURES = st.floats(width=32) | st.sampled_from([math.nan, 0.0, 1.0, 5e-324, 1e308])


@settings(deadline=None, max_examples=40, derandomize=True)
@given(st.builds(Battery, FIGURES, FIGURES, FIGURES, FIGURES, FIGURES), st.floats(-1e9, 1e9))
def test_any_battery_gives_a_budget(battery: Battery, mission_left_s: float) -> None:
    budget = energy_budget_j(battery, GOALS, mission_left_s, 0.5)
    assert budget.value >= 0
    assert math.isfinite(budget.value) or "not limited" in budget.remark


# When to change plans.

DWELT, FRESH = GOALS.dwell_s, GOALS.dwell_s / 2
BETTER, ALIKE, WORSE = 2 * GOALS.quality_tolerance, 0.0, -2 * GOALS.quality_tolerance
CHEAPER, SAME, DEARER = 2 * GOALS.margin, 0.0, -1.0


def test_should_switch_in_every_case() -> None:
    cases = itertools.product((BETTER, ALIKE, WORSE), (CHEAPER, SAME, DEARER), (DWELT, FRESH), *[(True, False)] * 2)
    for gain_loss, gain_energy, since_s, feasible_now, feasible_then in cases:
        if feasible_now == feasible_then:
            better = gain_loss == BETTER or (gain_loss == ALIKE and gain_energy == CHEAPER)
            expected = better and since_s == DWELT
        else:
            expected = feasible_then  # at once, whatever else
        found = should_switch(
            GOALS,
            gain_loss=gain_loss,
            gain_energy=gain_energy,
            since_switch_s=since_s,
            feasible_now=feasible_now,
            feasible_then=feasible_then,
        )
        assert found == expected, (gain_loss, gain_energy, since_s, feasible_now, feasible_then)


def test_gains_within_tolerance_and_margin_are_not_worth_a_change() -> None:
    facts = {"since_switch_s": 100.0, "feasible_now": True, "feasible_then": True}
    assert not should_switch(GOALS, gain_loss=GOALS.quality_tolerance, gain_energy=GOALS.margin, **facts)
    assert should_switch(GOALS, gain_loss=GOALS.quality_tolerance * 1.01, gain_energy=-5.0, **facts)
    assert should_switch(GOALS, gain_loss=-GOALS.quality_tolerance, gain_energy=GOALS.margin * 1.01, **facts)


def test_saved_share() -> None:
    assert saved_share(4.0, 1.0) == 0.75
    assert saved_share(1.0, 3.0) == -2.0
    assert saved_share(0.0, 3.0) == 0.0
    assert not saved_share(math.inf, math.inf) > 0  # not a number, and so no gain
