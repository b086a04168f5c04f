"""The planner's rules, each a few lines that a person can check: energy and delay budgets, and when to change plans."""

from __future__ import annotations

import math
from dataclasses import dataclass

_SECONDS_PER_HOUR = 3600.0
_LEAST_MISSION_S = 1.0
_ROUNDING = 1.05
"""Up to which a battery's share of its charge is a full one, and not percent."""
_ROUNDING_LOSS = 1e-9
"""Losses come from a table with three digits, and often differ by just the tolerance."""
_LEAST_SHARE = 0.01
"""From which the charge of a battery tells its capacity."""


@dataclass(frozen=True, slots=True)
class Battery:
    """What a battery tells; NaN where it does not, as in `sensor_msgs/BatteryState`.

    Attributes:
        percentage: charge, 0 to 1.
        charge_ah, capacity_ah, design_capacity_ah: left, when full, and when new.
        voltage_v: now.
    """

    percentage: float = math.nan
    charge_ah: float = math.nan
    capacity_ah: float = math.nan
    design_capacity_ah: float = math.nan
    voltage_v: float = math.nan


@dataclass(frozen=True, slots=True)
class Goals:
    """What a person wants of the planner.

    Attributes:
        deadline_s: from the image to its result; 0 for none.
        mission_s: how long the battery must last from the start on; 0 puts no limit on energy.
        battery_share: part of the battery that inference may use, 0 to 1.
        battery_reserve: charge that must be left at the end of the mission, 0 to 1.
        battery_capacity_wh: of the full battery where it does not tell; 0 where nobody knows.
        quality_tolerance: quality losses that differ by less count as equal.
        link_quantile: share of the link's recent packets that a forecast must cover, 0.5 to 1.
        link_timeout_s: news of the link older than this are stale.
        battery_timeout_s: news of the battery older than this are stale.
        dwell_s: a plan stays at least so long, unless it has become infeasible.
        margin: a change must save this share of energy, and a new plan must keep the deadline with this share to spare.
    """

    deadline_s: float = 0.0
    mission_s: float = 0.0
    battery_share: float = 0.2
    battery_reserve: float = 0.1
    battery_capacity_wh: float = 0.0
    quality_tolerance: float = 0.003
    link_quantile: float = 0.9
    link_timeout_s: float = 10.0
    battery_timeout_s: float = 30.0
    dwell_s: float = 3.0
    margin: float = 0.15


@dataclass(frozen=True, slots=True)
class Reading:
    """A number, and what had to be assumed for it; `remark` is empty where nothing had to."""

    value: float
    remark: str = ""


def charge(battery: Battery) -> Reading:
    """Charge of the battery, 0 to 1; NaN where it tells nothing.

    `percentage` goes first. Above 1, as many drivers send it against the message's definition, it counts as percent;
    but just above 1, as of a battery that holds a little more than it should, as full.
    """
    share = battery.percentage
    if 0 <= share <= 1:
        return Reading(share)
    if 1 < share <= _ROUNDING:
        return Reading(1.0, f"battery percentage {share:g} is above 1 and counts as full")
    if _ROUNDING < share <= 100:
        return Reading(share / 100, f"battery percentage {share:g} is above 1 and counts as percent")
    full_ah = _first(battery.capacity_ah, battery.design_capacity_ah)
    if 0 <= battery.charge_ah < math.inf and full_ah > 0:
        return Reading(min(1.0, battery.charge_ah / full_ah), "battery charge from its ampere-hours")
    return Reading(math.nan, f"battery percentage {share:g} says nothing")


def battery_energy_j(battery: Battery, capacity_wh: float = 0.0) -> Reading:
    """Energy of the full battery in joules: capacity in ampere-hours times voltage, or what a person says.

    Args:
        capacity_wh: in watt-hours; wins over what the battery tells where it is not 0.
    """
    if capacity_wh > 0:
        return Reading(capacity_wh * _SECONDS_PER_HOUR)
    full_ah = _first(battery.capacity_ah, battery.design_capacity_ah)
    share = charge(battery).value
    if math.isnan(full_ah) and share >= _LEAST_SHARE:
        full_ah = _first(battery.charge_ah / share)
    full_j = full_ah * battery.voltage_v * _SECONDS_PER_HOUR
    if 0 < full_j < math.inf:
        return Reading(full_j)
    return Reading(math.nan, "the battery tells no capacity or voltage: set battery_capacity_wh")


def energy_budget_j(battery: Battery | None, goals: Goals, mission_left_s: float, frame_period_s: float) -> Reading:
    """Joules that one frame may cost the robot: its share of what is left above the reserve, over the frames to come.

    Args:
        battery: the newest news; None where there is none, or it is stale.
        mission_left_s: until the battery may be empty but for its reserve.
        frame_period_s: from one frame to the next.

    Returns:
        infinity, with the reason, where energy is not limited or not known.
    """
    if not goals.mission_s:
        return Reading(math.inf)
    if battery is None:
        return Reading(math.inf, "no news of the battery: energy is not limited")
    share, full_j = charge(battery), battery_energy_j(battery, goals.battery_capacity_wh)
    if math.isnan(share.value) or math.isnan(full_j.value):
        unknown = share if math.isnan(share.value) else full_j
        return Reading(math.inf, f"{unknown.remark}: energy is not limited")
    left_j = max(0.0, share.value - goals.battery_reserve) * full_j.value * goals.battery_share
    frames = max(mission_left_s, _LEAST_MISSION_S) / frame_period_s
    return Reading(left_j / max(frames, 1.0), share.remark)


def delay_budget_s(deadline_s: float) -> float:
    """Longest time from image to result; infinite where there is no deadline."""
    return deadline_s if deadline_s > 0 else math.inf


def should_switch(
    goals: Goals,
    *,
    gain_loss: float,
    gain_energy: float,
    since_switch_s: float,
    feasible_now: bool,
    feasible_then: bool,
) -> bool:
    """Whether a better plan is worth the change.

    Args:
        gain_loss: quality loss now less then, with the price of energy in both.
        gain_energy: share of energy that the change saves; below 0 where it costs more.
        since_switch_s: since the plan was changed last.
        feasible_now, feasible_then: whether the plan in force, and the other one, keep the limits.
    """
    if feasible_then != feasible_now:
        return feasible_then
    better = gain_loss > goals.quality_tolerance
    # Quality goes first: a plan that is only cheaper must not be worse, such as one with more of the deadline to spare.
    cheaper = gain_energy > goals.margin and gain_loss >= -goals.quality_tolerance - _ROUNDING_LOSS
    return (better or cheaper) and since_switch_s >= goals.dwell_s


def saved_share(now: float, then: float) -> float:
    """Share of a cost that a change saves; below 0 where it costs more, 0 where nothing is spent now."""
    return 1 - then / now if now > 0 else 0.0


def _first(*values: float) -> float:
    """The first that is a positive number, else NaN."""
    return next((value for value in values if value > 0 and math.isfinite(value)), math.nan)
