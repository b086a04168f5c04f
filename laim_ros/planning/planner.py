"""`Planner`: takes in what robot, edge, link and battery tell, and says which plan to run and why. No ROS in here.

The planner node and the benchmark drive this class; `laim plan`, which has numbers instead of news, its parts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from laim_ros.plan import Plan
from laim_ros.planning.choices import Allowed, Choices, build_choices, why_no_klt
from laim_ros.planning.design import Corrections, Costs, Limits, Selection, expected_costs, priced_loss, select
from laim_ros.planning.forecast import LinkForecast, LinkForecaster
from laim_ros.planning.observations import LONGEST_S, MOST_BYTES, Observations
from laim_ros.planning.policy import (
    Battery,
    Goals,
    charge,
    delay_budget_s,
    energy_budget_j,
    saved_share,
    should_switch,
)
from laim_ros.planning.profiles import MachineProfile
from laim_ros.planning.quality import QualityTable, uses_feature_bits
from laim_ros.planning.reasons import link_in_words, reason, seconds_in_words
from laim_ros.planning.refusals import Refusals
from laim_ros.records import LinkReport, PlanReport

SILENT_AFTER_S = 1.0
"""A packet that has waited for longer makes the link silent."""

_NONE, _DEAR = "no plan keeps all limits", "to be in time would cost more energy than it is worth"


@dataclass(frozen=True, slots=True)
class Decision:
    """What to run now.

    Attributes:
        plan: the plan.
        changed: whether it is another one than before.
        report: the same with what is expected of it, for people and messages.
        choices, costs, limits, selection: what it was chosen from.
    """

    plan: Plan
    changed: bool
    report: PlanReport
    choices: Choices
    costs: Costs
    limits: Limits
    selection: Selection


class Planner:
    """Keeps a running picture of costs, link and battery, and chooses plans for it.

    Times are of one steady clock, in seconds. Not for two threads at once.

    Args:
        goals: what is wanted; may be replaced at any time.
        allowed: what may be chosen from.
        plan: in force at the start.
        now_s: start of the mission.
    """

    def __init__(self, goals: Goals, allowed: Allowed, plan: Plan, now_s: float) -> None:
        self.goals, self.plan = goals, plan
        self._allowed = allowed
        self._began_s = now_s
        self._switched_s = -math.inf
        self._choices: Choices | None = None
        self._profiles: tuple[MachineProfile, MachineProfile | None, QualityTable | None, str] | None = None
        self._refusals = Refusals()
        self._trouble, self._none_left = "no profile of the robot has come yet", ""
        self._quality_remark = ""
        self._battery: Battery | None = None
        self._battery_s = -math.inf
        self._link = LinkForecaster()
        self._unanswered_s, self._unanswered_at_s = 0.0, -math.inf
        self._heard_s = -math.inf
        self._forecasted = LinkForecast()
        self._price_per_j, self._priced_s = 0.0, -math.inf
        self._seen = Observations()
        self._budget_j = math.inf

    # What is told.

    def set_profiles(
        self, robot: MachineProfile, edge: MachineProfile | None, quality: QualityTable | None, quality_remark: str = ""
    ) -> None:
        """Takes in profiles and the quality table, in the place of earlier ones; trouble with them is told by `decide`.

        Args:
            robot: of the robot.
            edge: of the edge; None while nobody has told it.
            quality: of the model; None ranks by theory.
            quality_remark: what to say about it.
        """
        if self._profiles is None or self._profiles[:3] != (robot, edge, quality):
            self._seen.forget_ratios()
        self._profiles = robot, edge, quality, quality_remark
        self._quality_remark, self._trouble = quality_remark, ""
        if quality is not None and quality.model_id != robot.model_id:
            self._quality_remark = (
                f"the quality table is of another model ({quality.model}): plans are ranked by theory"
            )
            quality = None
        if edge is not None and edge.model_id != robot.model_id:
            self._trouble = f"the edge runs another model ({edge.model}) than the robot ({robot.model})"
            edge = None
        elif edge is None:
            self._trouble = "no profile of the edge that tells times has come yet"
        self._quality_remark = "; ".join(filter(None, [self._quality_remark, why_no_klt(robot, edge, quality)]))
        try:
            choices = build_choices(robot, edge, quality, self._allowed)
        except ValueError as error:
            self._trouble, self._choices = self._trouble or str(error), None
            return
        except (ArithmeticError, LookupError) as error:  # well formed, but no profile of any model
            self._trouble, self._choices = f"the profiles make no sense ({type(error).__name__}: {error})", None
            return
        self._choices = choices

    def forget_profiles(self, why: str) -> None:
        """Leaves nothing to choose from until other profiles come, as where the robot runs a model without one."""
        self._profiles, self._choices, self._trouble = None, None, why

    def set_allowed(self, allowed: Allowed) -> None:
        """Takes in what may be chosen from, in the place of what might before."""
        if allowed == self._allowed:
            return
        self._allowed = allowed
        if self._profiles is not None:
            self.set_profiles(*self._profiles)

    def begin_mission(self, now_s: float) -> None:
        """Lets the mission begin now, with nothing saved or owed: its budget follows from the charge of now."""
        self._began_s = now_s
        self._seen.account.debt_j = 0.0

    def refuse(self, plan: Plan, now_s: float) -> None:
        """Takes in that the robot refused a plan: for a while, plans that ask the same of it are not chosen."""
        self._refusals.add(plan, now_s)

    def observe_battery(self, battery: Battery, now_s: float) -> None:
        """Takes in news of the battery."""
        self._battery, self._battery_s = battery, now_s

    def observe_link(self, report: LinkReport, now_s: float, robot_clock_hz: float | None = None) -> None:
        """Takes in a frame that came back, a probe, or a silence.

        Args:
            robot_clock_hz: in force; None where it is the plan's.
        """
        self._unanswered_s, self._unanswered_at_s = min(max(0.0, report.unanswered_s), LONGEST_S), now_s
        measured = 0 < report.packet_bytes <= MOST_BYTES and math.isfinite(report.link_s)
        if measured:
            self._link.update(report.packet_bytes, report.link_s, now_s)
        if measured or self._unanswered_s > 0:  # a frame that the robot finished by itself is no news of the link
            self._heard_s = now_s
        self._seen.add(
            report,
            now_s,
            choices=self._choices,
            link=self._forecasted,
            robot_clock_hz=self.plan.robot_clock_hz if robot_clock_hz is None else robot_clock_hz,
            budget_j=self._budget_j,
        )

    # What follows from it.

    def decide(self, now_s: float) -> Decision | None:
        """The plan to run now; None, with `trouble` saying why, while there is nothing to choose from."""
        choices = None if self._choices is None else self._refusals.offered(self._choices, self.plan, now_s)
        self._none_left = "" if choices is not None else "the robot has refused every plan lately"
        if choices is None:
            return None
        # A clock that was set back must not keep a plan in force, or old news fresh, until it has caught up.
        self._switched_s, self._battery_s = min(self._switched_s, now_s), min(self._battery_s, now_s)
        self._heard_s, self._unanswered_at_s = min(self._heard_s, now_s), min(self._unanswered_at_s, now_s)
        self._priced_s = min(self._priced_s, now_s)
        goals, remarks = self.goals, [remark for remark in (self._trouble, self._quality_remark) if remark]
        link, link_words = self._forecast(choices, now_s, remarks)
        limits = self._limits(now_s, remarks)
        costs = expected_costs(choices, link, self.corrections, self._seen.wait_s)
        if math.isfinite(self._budget_j) and now_s - self._priced_s >= self.frame_period_s:  # once per frame
            can_pay = costs.energy_j <= max(limits.energy_j, float(costs.energy_j.min()))
            loss = priced_loss(choices, costs, replace(limits, price_per_j=0.0))
            self._seen.account.meet(costs.energy_j[can_pay], loss[can_pay])
            self._priced_s = now_s
        selection = select(choices, costs, limits)
        # A new plan must have something to spare, or the next hiccup would end it; the plan in force need not.
        strict = select(choices, costs, replace(limits, deadline_s=limits.deadline_s / (1 + goals.margin)))
        target = strict if strict.feasible else selection
        row, loss = choices.index(self.plan), priced_loss(choices, costs, limits)
        changed = row is None or (target.index != row and self._worth_it(row, target, loss, costs, selection, now_s))
        if changed:
            row = target.index
            self.plan = self._applied(choices.plans[row])
            self._switched_s = now_s
        if choices.estimated[row]:
            remarks.append(f"{self.plan.weight_bits} bits per weight were never timed: times of another width count")
        feasible = bool(selection.timely[row] and selection.affordable[row])
        best = select(choices, costs, Limits(quality_tolerance=limits.quality_tolerance)).index
        words = reason(link_words, row, best, choices, costs, limits)
        if not feasible:
            kept = bool((selection.timely & selection.affordable).any())
            words = f"{'not for long' if selection.feasible else _DEAR if kept else _NONE}; {words}"
        report = self._report(row, feasible, words, remarks, costs, link, selection, choices)
        return Decision(self.plan, changed, report, choices, costs, limits, selection)

    @property
    def trouble(self) -> str:
        """Why there is nothing to choose from; empty if there is."""
        return self._trouble if self._choices is None else self._none_left

    @property
    def corrections(self) -> Corrections:
        """The running ratios."""
        return self._seen.corrections

    @property
    def frame_period_s(self) -> float:
        """From one frame to the next, as of late."""
        return self._seen.frame_period_s

    def _applied(self, plan: Plan) -> Plan:
        """The plan with what it does not use left as it is: a head that is not run need not be loaded."""
        if plan.sends_picture:
            plan = replace(plan, weight_bits=self.plan.weight_bits)
        return plan if uses_feature_bits(plan) else replace(plan, feature_bits=self.plan.feature_bits)

    def _forecast(self, choices: Choices, now_s: float, remarks: list[str]) -> tuple[LinkForecast, str]:
        goals, unanswered_s = self.goals, self._unanswered_s
        if unanswered_s > 0:  # it goes on, whether or not anybody says so
            unanswered_s += min(now_s - self._unanswered_at_s, goals.link_timeout_s)
            unanswered_s = max(0.0, unanswered_s - self._edge_s(choices))
        link = self._link.forecast(now_s, goals.link_quantile, unanswered_s)
        self._forecasted = link
        age_s = now_s - self._heard_s
        if not link.known:
            remarks.append("no packet has come back yet: the link counts as free of cost")
        elif age_s > goals.link_timeout_s:
            remarks.append(f"no news of the link for {seconds_in_words(age_s)}: it counts as it was")
        return link, link_in_words(link, unanswered_s, SILENT_AFTER_S)

    def _edge_s(self, choices: Choices) -> float:
        """How long the edge may take for a frame of the plan in force: so long, no answer says nothing of the link."""
        row = choices.index(self.plan)
        if row is None:
            return 0.0
        return self._seen.wait_s + (1 + self.goals.margin) * float(choices.edge_s[row]) * self.corrections.edge

    def _limits(self, now_s: float, remarks: list[str]) -> Limits:
        goals = self.goals
        fresh = now_s - self._battery_s <= goals.battery_timeout_s
        period_s = self.frame_period_s
        left_s = goals.mission_s - max(0.0, now_s - self._began_s)
        budget = energy_budget_j(self._battery if fresh else None, goals, left_s, period_s)
        if budget.remark:
            remarks.append(budget.remark)
        self._budget_j = budget.value
        if now_s - self._priced_s >= period_s:
            self._price_per_j = self._seen.account.price_per_j(budget.value, max(left_s, 0.0) / period_s)
        # Savings must last while a new plan stays, or for what is left of that: else it would end after one frame.
        since_s = now_s - self._switched_s
        dwell_s = goals.dwell_s - since_s if since_s < goals.dwell_s else goals.dwell_s
        return Limits(
            deadline_s=delay_budget_s(goals.deadline_s),
            energy_j=self._seen.account.most_j(budget.value, 1 + dwell_s / period_s),
            late_energy_j=budget.value,
            quality_tolerance=goals.quality_tolerance,
            price_per_j=self._price_per_j,
        )

    def _worth_it(
        self, row: int, target: Selection, loss: np.ndarray, costs: Costs, loose: Selection, now_s: float
    ) -> bool:
        goals, then, since_s = self.goals, target.index, now_s - self._switched_s
        timely, affordable = loose.timely[row], loose.affordable[row]
        cheaper = saved_share(float(costs.energy_j[row]), float(costs.energy_j[then]))
        if not target.feasible:
            # In the order in which `select` gives limits up: energy is kept first, then the deadline.
            rescue = not affordable and bool(target.affordable[then] or (target.timely[then] and not timely))
            sooner = saved_share(float(costs.delay_s[row]), float(costs.delay_s[then]))
            return (rescue or max(sooner, cheaper) > goals.margin) and since_s >= goals.dwell_s
        return should_switch(
            goals,
            gain_loss=float(loss[row] - loss[then]),
            gain_energy=cheaper,
            since_switch_s=since_s,
            feasible_now=bool(timely and affordable),
            feasible_then=True,
        )

    def _report(
        self,
        row: int,
        feasible: bool,
        words: str,
        remarks: list[str],
        costs: Costs,
        link: LinkForecast,
        selection: Selection,
        choices: Choices,
    ) -> PlanReport:
        plan, battery = self.plan, self._battery
        return PlanReport(
            split_point=plan.split_point,
            weight_bits=plan.weight_bits,
            feature_bits=plan.feature_bits,
            codec=plan.codec,
            robot_clock_hz=plan.robot_clock_hz,
            feasible=feasible,
            reason=words,
            remarks="; ".join(remarks),
            delay_s=float(costs.delay_s[row]),
            energy_j=float(costs.energy_j[row]),
            quality_loss=float(choices.quality_loss[row]),
            quality_source=choices.quality_source,
            deadline_s=self.goals.deadline_s,
            energy_budget_j=self._budget_j,
            energy_source=self._seen.energy_source or choices.power_source,
            goodput_bps=link.goodput_bps,
            round_trip_s=link.round_trip_s if link.known else math.nan,
            battery=charge(battery).value if battery is not None else math.nan,
            choices=len(choices),
            feasible_choices=int((selection.timely & selection.affordable).sum()),
        )
