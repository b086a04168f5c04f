"""The robot's parameters as the planner reads and sets them: one request at a time, and nothing waits for an answer."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from rcl_interfaces.msg import ParameterEvent
from rcl_interfaces.srv import GetParameters, SetParametersAtomically
from rclpy.callback_groups import CallbackGroup
from rclpy.node import Node
from rclpy.parameter import Parameter, parameter_value_to_python
from rclpy.qos import qos_profile_parameter_events
from rclpy.task import Future

from laim_ros.parameters import ParameterValue, PlanError, plan_from
from laim_ros.plan import Plan

_PLAN = ("split_point", "weight_bits", "feature_bits", "codec", "robot_clock_hz")
_READ = (*_PLAN, "deadline_s", "probe_period_s")

_PATIENCE_S = 2.0
"""How long an answer may take. Some never come: DDS drops those for a client that was not discovered yet."""


_LOOK_S = 0.01


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a request.

    Attributes:
        asked: the values that were to be set; empty where values were read.
        refusal: why they were not; empty where they were.
    """

    asked: Mapping[str, ParameterValue] = field(default_factory=dict)
    refusal: str = ""


def plan_values(plan: Plan, *, clock: bool = True) -> dict[str, ParameterValue]:
    """The robot's parameters for a plan; without `robot_clock_hz` where `clock` is False."""
    return {name: getattr(plan, name) for name in _PLAN if clock or name != "robot_clock_hz"}


def _setting(values: Mapping[str, ParameterValue]) -> SetParametersAtomically.Request:
    parameters = [Parameter(name, value=value).to_parameter_msg() for name, value in values.items()]
    return SetParametersAtomically.Request(parameters=parameters)


class RobotParameters:
    """Knows the robot's parameters, and reads them again after every change, whoever made it.

    Args:
        node: the planner.
        robot: name of the robot's node, relative to the planner's namespace or absolute.
        group: in which answers and events are handled.

    Attributes:
        name: fully qualified name of the robot.
        calibrated: split points at which the robot has codec `klt` calibrated, by its profile: there `auto` is that.
        deadline_s, probe_period_s: in force; 0 until they were read.
        trouble: why nothing can be read or set; empty if it can.
    """

    def __init__(self, node: Node, robot: str, group: CallbackGroup) -> None:
        self.name = node.resolve_topic_name(robot)
        self.calibrated: tuple[str, ...] = ()
        self._plan_values: Mapping[str, ParameterValue] | None = None
        self.deadline_s = self.probe_period_s = 0.0
        self.trouble = f"no robot answers at {self.name}"
        self._node = node
        self._get = node.create_client(GetParameters, f"{robot}/get_parameters", callback_group=group)
        self._set = node.create_client(
            SetParametersAtomically, f"{robot}/set_parameters_atomically", callback_group=group
        )
        self._events = node.create_subscription(
            ParameterEvent, "/parameter_events", self._on_event, qos_profile_parameter_events, callback_group=group
        )
        self._stale = True
        self._asked: Mapping[str, ParameterValue] = {}
        self._pending: Future | None = None
        self._asked_s = 0.0

    def destroy(self) -> None:
        """Leaves the graph."""
        self._node.destroy_subscription(self._events)
        self._node.destroy_client(self._get)
        self._node.destroy_client(self._set)

    @property
    def plan(self) -> Plan | None:
        """In force; None until it was read."""
        return None if self._plan_values is None else plan_from(self._plan_values, self.calibrated)

    @property
    def ready(self) -> bool:
        """Whether `set` may be called now: all is known, and no request is under way."""
        return not (self.plan is None or self._stale or self.trouble or self._pending is not None)

    def read_again(self) -> None:
        """Takes what is known as old."""
        self._stale = True

    def set(self, values: Mapping[str, ParameterValue], now_s: float) -> None:
        """Asks the robot to take these values, all or none; `poll` tells what it says."""
        self._ask(self._set, _setting(values), values, now_s)

    def set_at_last(self, values: Mapping[str, ParameterValue], patience_s: float) -> None:
        """Asks the robot to take these values, and waits: a request whose sender leaves at once is lost at times.

        For the end, when no executor takes answers any more: it takes them itself.
        """
        if not self._set.service_is_ready():
            return
        asked, until_s = self._set.call_async(_setting(values)), time.monotonic() + patience_s
        while not asked.done() and time.monotonic() < until_s:
            with self._set.handle:
                header, response = self._set.handle.take_response(SetParametersAtomically.Response)
            if header is None:
                time.sleep(_LOOK_S)
                continue
            with contextlib.suppress(KeyError):  # one that nobody waits for
                self._set.get_pending_request(header.request_id.sequence_number).set_result(response)

    def poll(self, now_s: float) -> Answer | None:
        """Takes in an answer that has come, or asks for what is not known; to be called now and then."""
        answer = self._take_answer(now_s)
        if not (self._get.service_is_ready() and self._set.service_is_ready()):
            self.trouble, self._stale = f"no robot answers at {self.name}", True
        elif self._stale and self._pending is None:
            # Before it asks: what changes while the answer is under way is news again.
            self._stale = False
            self._ask(self._get, GetParameters.Request(names=list(_READ)), {}, now_s)
        return answer

    def _ask(self, client: object, request: object, values: Mapping[str, ParameterValue], now_s: float) -> None:
        self._asked, self._asked_s, self._pending = values, now_s, client.call_async(request)

    def _take_answer(self, now_s: float) -> Answer | None:
        pending = self._pending
        if pending is None:
            return None
        if not pending.done():
            if now_s - self._asked_s > _PATIENCE_S:
                pending.cancel()
                self._pending, self._stale = None, True
                self.trouble = f"{self.name} takes more than {_PATIENCE_S:g} s to answer"
            return None
        self._pending = None
        response = pending.result()
        if not self._asked:
            self._read([parameter_value_to_python(value) for value in response.values])
            return Answer()
        if response.result.successful:
            self._take({**self._values(), **self._asked})
            return Answer(self._asked)
        return Answer(self._asked, response.result.reason or "it says no more")

    def _values(self) -> dict[str, ParameterValue]:
        return {**self._plan_values, "deadline_s": self.deadline_s, "probe_period_s": self.probe_period_s}

    def _read(self, found: list[ParameterValue | None]) -> None:
        if len(found) != len(_READ) or None in found:
            self.trouble = f"{self.name} lacks one of the parameters {', '.join(_READ)}: is it a robot of this version?"
            return
        try:
            self._take(dict(zip(_READ, found, strict=True)))
            self.trouble = ""
        except (PlanError, ValueError, TypeError) as error:
            self.trouble = f"{self.name} has parameters that make no plan ({error})"

    def _take(self, values: Mapping[str, ParameterValue]) -> None:
        plan_from(values, self.calibrated)  # or they make no plan
        self._plan_values = {name: values[name] for name in _PLAN}
        self.deadline_s, self.probe_period_s = float(values["deadline_s"]), float(values["probe_period_s"])

    def _on_event(self, event: ParameterEvent) -> None:
        changed = (*event.new_parameters, *event.changed_parameters)
        if event.node == self.name and any(parameter.name in _READ for parameter in changed):
            self._stale = True
