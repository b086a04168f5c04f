"""The planner: sets the robot's plan for the battery, the link and the deadline of this moment, and says why.

What to run is `laim_ros.planning.Planner`'s to decide. Time is the steady clock's throughout, so a ROS clock that jumps
or stands still changes nothing.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import replace

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from sensor_msgs.msg import BatteryState

from laim_ros.nodes import messages, qos
from laim_ros.nodes.lifecycle import LaimNode, run
from laim_ros.nodes.messages import MessageError
from laim_ros.nodes.planner_claim import Claim
from laim_ros.nodes.planner_facts import Facts
from laim_ros.nodes.planner_robot import Answer, RobotParameters, plan_values
from laim_ros.nodes.planner_settings import PlannerSettings
from laim_ros.nodes.planner_topic import PlanTopic
from laim_ros.nodes.worker import ThrottledLog
from laim_ros.parameters import PLANNER, ParameterValue
from laim_ros.plan import Plan, in_words
from laim_ros.planning import Planner
from laim_ros.planning.planner import SILENT_AFTER_S
from laim_ros.planning.refusals import REFUSED_FOR_S
from laim_ros.records import LinkReport, PlanReport

_PATIENCE_S = 1.0
"""How long the end of the planner waits for the robot."""

_AT_ONCE_S = 0.1
"""Least time between two decisions: a camera's every frame may be late."""


class PlannerNode(LaimNode):
    """Listens to battery, link and profiles, and keeps the robot at the plan that the planner chooses."""

    def __init__(self) -> None:
        self._planner: Planner | None = None
        self._robot: RobotParameters | None = None
        super().__init__("planner", PLANNER)
        self._settings = PlannerSettings.read(self.values)
        self._new_settings: PlannerSettings | None = None
        self._new_mission = False
        self._topic = PlanTopic(self)
        self._warn = ThrottledLog(self.get_logger().warning)
        # Through a function: rclpy refuses two severities from one line, and a ThrottledLog has but one.
        self._error = ThrottledLog(lambda text: self.get_logger().error(text))

    # Lifecycle.

    def activate(self) -> None:
        """Begins the mission: listens, and looks whether another planner is at work."""
        now_s = time.monotonic()
        self._settings, self._new_settings = PlannerSettings.read(self.values), None
        self._facts, self._claim = Facts(), Claim(now_s)
        self._in_force: Plan | None = None
        self._quality = self._refusal = ""
        self._refused_s = -math.inf
        self._refused_probe_s: float | None = None
        self._acted = self._probing = False
        self._report = PlanReport(reason="nothing has been decided yet", feasible=False)
        self._decided_s = -math.inf
        self._plans_set = self._plans_refused = 0
        # All in the group of the transitions: the callbacks are short, and so need no locks.
        self._robot = RobotParameters(self, self.values["robot"], self._transitions)
        self._planner = Planner(self._settings.goals, self._settings.allowed, Plan(), now_s)
        self._inputs = [
            self._subscribe(BatteryState, "battery", self._on_battery, qos.IMAGE),  # newest counts, from any driver
            self._subscribe(DiagnosticArray, "laim/link", self._on_link, qos.RESULTS),
            self._subscribe(DiagnosticArray, "laim/robot_profile", self._profile_taker("robot"), qos.LATCHED),
            self._subscribe(DiagnosticArray, "laim/edge_profile", self._profile_taker("edge"), qos.LATCHED),
        ]
        self._timer = self.create_wall_timer(self.values["period_s"], self._on_timer, self._transitions)

    def deactivate(self) -> None:
        """Leaves the robot at its plan, without probes."""
        planner, self._planner = self._planner, None
        if planner is None:
            return
        self.destroy_timer(self._timer)
        while self._inputs:
            self.destroy_subscription(self._inputs.pop())
        self._topic.show(False)
        if self._probing and self._claim.may_set:
            self._robot.set_at_last({"probe_period_s": 0.0}, _PATIENCE_S)
        self._robot.destroy()

    def _subscribe(self, kind: type, topic: str, callback: Callable, profile: qos.QoSProfile):
        events = qos.subscription_events(self, topic)
        return self.create_subscription(
            kind, topic, callback, profile, callback_group=self._transitions, event_callbacks=events
        )

    # Parameters.

    def check_parameters(self, values: Mapping[str, ParameterValue]) -> None:
        """Refuses lists that hold what no plan has."""
        PlannerSettings.read(values)

    def parameters_changed(self, values: Mapping[str, ParameterValue], names: Set[str]) -> None:
        """Takes effect with the next decision, which is made in another thread."""
        self._new_mission |= "mission_s" in names
        self._new_settings = PlannerSettings.read(values)

    def _take_settings(self, now_s: float) -> None:
        new, self._new_settings = self._new_settings, None
        if new is not None:
            before, self._settings = self._settings, new
            self._planner.set_allowed(new.allowed)
            if new.allowed.clocks != before.allowed.clocks:
                self._begin_from(self._robot_plan)
            if new.quality != before.quality:
                self._tell_facts()
            if new.mode != before.mode:
                self.get_logger().info(f"mode {new.mode}")
            self._refused_probe_s = None
        if self._new_mission:
            self._new_mission = False
            self._planner.begin_mission(now_s)
        goals = self._settings.goals
        self._planner.goals = goals if goals.deadline_s else replace(goals, deadline_s=self._robot.deadline_s)

    # Callbacks: none of them waits.

    def _on_battery(self, message: BatteryState) -> None:
        if self._planner is not None:
            self._planner.observe_battery(messages.battery_from(message), time.monotonic())

    def _profile_taker(self, who: str) -> Callable[[DiagnosticArray], None]:
        def take(message: DiagnosticArray) -> None:
            if self._planner is None:
                return
            try:
                profile = messages.profile_from(message)
                trouble = self._facts.take(who, profile)
                if who == "robot":
                    self._take_calibrated(profile.calibrated)
            except MessageError as error:
                trouble = f"laim/{who}_profile: {error}"
            if trouble:
                self._warn(trouble)
            try:
                self._tell_facts()
            except Exception as error:  # as in `_on_timer`: the next profile may do better
                self._warn(f"laim/{who}_profile: {type(error).__name__}: {error}")
            self._robot.read_again()  # a robot that has begun anew has a profile to tell

        return take

    def _take_calibrated(self, calibrated: tuple[str, ...]) -> None:
        before, self._robot.calibrated = self._robot_plan, calibrated
        plan = self._robot_plan
        if plan != before:  # the robot's codec auto is now known to be another one; nobody has changed it
            self._in_force = plan
            if self._planner.plan == before:
                self._begin_from(plan)

    def _tell_facts(self) -> None:
        before, self._quality = self._quality, self._facts.tell(self._planner, self._settings.quality)
        if self._quality not in ("", before):
            self.get_logger().info(self._quality)

    def _on_link(self, message: DiagnosticArray) -> None:
        if self._planner is None:
            return
        now_s, robot_plan = time.monotonic(), self._robot_plan
        try:
            report = messages.link_from(message)
            clock_hz = None if robot_plan is None else robot_plan.robot_clock_hz
            self._planner.observe_link(report, now_s, clock_hz)
        except (MessageError, ValueError, ArithmeticError) as error:
            self._warn(f"laim/link: {error}")
            return
        if self._is_urgent(report) and now_s - self._decided_s >= _AT_ONCE_S:
            self._on_timer()

    def _is_urgent(self, report: LinkReport) -> bool:
        late = report.latency_s > self._planner.goals.deadline_s > 0 and not report.probe
        return late or report.unanswered_s > SILENT_AFTER_S

    def _on_timer(self) -> None:
        if self._planner is None:
            return
        try:
            self._work(time.monotonic())
        except Exception as error:  # whatever came: the robot goes on with its plan, and the next look may go well
            self._warn(f"cannot decide: {type(error).__name__}: {error}")

    # The work: look, decide, say, set.

    def _work(self, now_s: float) -> None:
        self._decided_s = now_s
        self._take_settings(now_s)
        others = self._topic.others()
        self._claim.update(len(others), now_s)
        self._topic.show(self._claim.publishes)
        answer = self._robot.poll(now_s)
        if answer is not None:
            self._take_answer(answer, now_s)
        if self._acts and not self._acted:
            self._begin_from(self._robot_plan)  # until now it was somebody else's
        self._acted = self._acts
        self._report = self._complete(self._decide(others, now_s), now_s)
        self._topic.say(self._report, now_s)
        if self._claim.may_set and self._robot.ready:
            self._set(now_s)

    @property
    def _acts(self) -> bool:
        return self._settings.mode == "auto" and self._claim.may_set

    @property
    def _robot_plan(self) -> Plan | None:
        """The plan that the robot runs, but for a clock that the planner has no say in: it plans with 0 there."""
        plan = self._robot.plan
        return plan if plan is None or self._settings.allowed.clocks else replace(plan, robot_clock_hz=0.0)

    def _take_answer(self, answer: Answer, now_s: float) -> None:
        plan, name = self._robot_plan, self._robot.name
        if answer.refusal:
            self._take_refusal(answer, now_s)
        elif "split_point" in answer.asked:
            self._plans_set += 1
            self.get_logger().info(f"plan set: {in_words(plan)}; {self._report.reason}")
        elif plan != self._in_force and (self._in_force is None or not self._acts):
            self._begin_from(plan)
        elif plan not in (self._in_force, self._planner.plan):
            self._warn(
                f"{name} runs {in_words(plan)}, which this planner has not set (somebody else has, or the robot began "
                f"anew): {in_words(self._planner.plan)} is set again; mode manual would leave it alone"
            )
        self._in_force = plan

    def _take_refusal(self, answer: Answer, now_s: float) -> None:
        name = self._robot.name
        if "split_point" not in answer.asked:
            self._refused_probe_s, self._probing = answer.asked["probe_period_s"], False
            self._warn(f"{name} refuses probe_period_s {self._refused_probe_s:g}: {answer.refusal}")
            return
        refused = Plan(**answer.asked)
        self._planner.refuse(refused, now_s)
        self._begin_from(self._robot_plan)
        self._refusal, self._refused_s = f"{name} refuses {in_words(refused)}: {answer.refusal}", now_s
        self._plans_refused += 1
        self._warn(f"{self._refusal}; it is not asked again for {REFUSED_FOR_S:g} s")

    def _begin_from(self, plan: Plan | None) -> None:
        """Lets the planner weigh changes against the plan that the robot runs."""
        if plan is not None:
            self._planner.plan = plan

    def _decide(self, others: Sequence[str], now_s: float) -> PlanReport:
        if others:
            reason = f"another planner ({', '.join(others)}) is at work: this one sets nothing until it is alone"
            self._error(reason)
        elif not self._claim.may_set:
            reason = "looking for other planners"
        elif self._robot.plan is None:
            reason = "; ".join(filter(None, (self._robot.trouble, self._planner.trouble)))
        else:
            decision = self._planner.decide(now_s)
            if decision is not None:
                return decision.report
            reason = self._planner.trouble
        deadline_s = self._planner.goals.deadline_s
        return PlanReport(
            **plan_values(self._robot.plan or Plan()), feasible=False, reason=reason, deadline_s=deadline_s
        )

    def _complete(self, report: PlanReport, now_s: float) -> PlanReport:
        """The report with the mode, and with what is wrong outside of the planner."""
        refusal = self._refusal if now_s - self._refused_s < REFUSED_FOR_S else ""
        remarks = (report.remarks, *self._facts.remarks, self._robot.trouble, refusal)
        told = "; ".join(remark for remark in remarks if remark and remark not in report.reason)
        return replace(report, mode=self._settings.mode, remarks=told)

    def _set(self, now_s: float) -> None:
        robot, planner = self._robot, self._planner
        if self._acts and not planner.trouble and self._robot_plan != planner.plan:
            robot.set(plan_values(planner.plan, clock=self._settings.allowed.clocks), now_s)
        elif self._acts or self._probing:
            probe_period_s = self._settings.probe_period_s if self._acts else 0.0
            if robot.probe_period_s == probe_period_s:
                self._probing = probe_period_s > 0
            elif probe_period_s != self._refused_probe_s:
                self._probing = True  # unless it is refused, which is yet to be heard
                robot.set({"probe_period_s": probe_period_s}, now_s)

    # What goes on, in words and figures.

    def diagnostics(self) -> tuple[bytes, str, Mapping[str, object]]:
        """Level, the reason for the plan or why there is none, and the counters."""
        report, plan = self._report, self._robot.plan
        figures = {
            "mode": report.mode,
            "plan": "unknown" if plan is None else in_words(plan),
            "plans_set": self._plans_set,
            "plans_refused": self._plans_refused,
            "choices": report.choices,
            "feasible_choices": report.feasible_choices,
            "remarks": report.remarks,
        }
        if not self._claim.alone:
            return DiagnosticStatus.ERROR, report.reason, figures
        if self._refusal and self._refusal in report.remarks:
            return DiagnosticStatus.WARN, self._refusal, figures
        return DiagnosticStatus.OK if report.feasible else DiagnosticStatus.WARN, report.reason, figures


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of the executable `planner_node`."""
    return run(PlannerNode, arguments)


if __name__ == "__main__":
    raise SystemExit(main())
