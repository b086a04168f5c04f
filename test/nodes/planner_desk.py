"""What stands around a planner: a node that takes plans as a robot does, and what its topics would say."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from typing import Any

import rclpy
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import SetParametersResult
from rclpy.context import Context
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from ros_harness import Observer
from sensor_msgs.msg import BatteryState
from std_msgs.msg import Header

from laim_ros.nodes import messages, qos
from laim_ros.planning import MachineProfile, PowerMode, StageTimes
from laim_ros.records import UNKNOWN_SEQUENCE, LinkReport, PlanReport, Profile

MODEL = "model of the desk"
SPLIT_POINTS = ("input", "vit.1", "vision", "qformer", "output")
SHAPES = {"input": (224, 224, 3), "vit.1": (257, 64), "vision": (257, 64), "qformer": (32, 64)}
PICTURE_BYTES, FEATURE_BYTES = 17_560, 2_200
PLAN_DEFAULTS = {
    "split_point": "qformer",
    "weight_bits": 32,
    "feature_bits": 8,
    "codec": "auto",
    "robot_clock_hz": 0.0,
    "deadline_s": 0.0,
    "probe_period_s": 0.0,
}


def machine(stages: tuple[str, ...], stage_s: float, model_id: str = "m1") -> MachineProfile:
    """A machine on which each of these stages takes so long."""
    times = tuple(StageTimes(bits, dict.fromkeys(stages, stage_s)) for bits in (32, 8))
    modes = (PowerMode(active_w=10.0),)
    return MachineProfile("desk", MODEL, model_id, "none", SPLIT_POINTS, SHAPES, times, modes, radio_w=1.0)


ROBOT_COSTS = machine(SPLIT_POINTS[:-1], 0.01).to_json()
EDGE_COSTS = machine(SPLIT_POINTS, 0.005).to_json()


class TakesPlans:
    """A node named `robot` that has the robot's plan parameters and tells what was set, all at once each time."""

    def __init__(self) -> None:
        self._context = Context()
        rclpy.init(args=[], context=self._context, signal_handler_options=rclpy.SignalHandlerOptions.NO)
        self.node = Node("robot", context=self._context, enable_rosout=False)
        for name, value in PLAN_DEFAULTS.items():
            self.node.declare_parameter(name, value)
        self.asked: list[dict[str, Any]] = []
        self.refuses: dict[str, Any] = {}
        self.node.add_on_set_parameters_callback(self._on_set)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()

    def _spin(self) -> None:
        with contextlib.suppress(ExternalShutdownException):
            self._executor.spin()

    def close(self) -> None:
        """Leaves the graph, as a robot that is switched off."""
        self._executor.shutdown()
        self._thread.join()
        self.node.destroy_node()
        self._context.try_shutdown()

    def _on_set(self, parameters: list) -> SetParametersResult:
        values = {parameter.name: parameter.value for parameter in parameters}
        self.asked.append(values)
        wrong = [name for name, value in self.refuses.items() if values.get(name) == value]
        return SetParametersResult(successful=not wrong, reason=f"no {wrong[0]} here" if wrong else "")

    def value(self, name: str) -> Any:
        """Value of one parameter."""
        return self.node.get_parameter(name).value

    @property
    def plans(self) -> list[dict[str, Any]]:
        """The whole plans that were asked for, oldest first; a person sets a parameter or two."""
        return [values for values in self.asked if {"split_point", "feature_bits"} <= values.keys()]


class Desk:
    """The topics around a planner in the root namespace."""

    def __init__(self, observer: Observer) -> None:
        self.observer = observer
        self._plans = observer.subscribe(DiagnosticArray, "/laim/plan", qos.LATCHED)
        self._links = observer.node.create_publisher(DiagnosticArray, "/laim/link", qos.RESULTS)
        self._batteries = observer.node.create_publisher(BatteryState, "/battery", 10)
        self._profiles = {
            who: observer.node.create_publisher(DiagnosticArray, f"/laim/{who}_profile", qos.LATCHED)
            for who in ("robot", "edge")
        }
        self._sent, self._next_s = 0, 0.0

    @property
    def report(self) -> PlanReport:
        """The newest that the planner has said."""
        return messages.plan_from_message(self._plans[-1]) if self._plans else PlanReport()

    def wait_for(
        self, accept: Callable[[PlanReport], bool], what: str, meanwhile: Callable[[], None] = lambda: None
    ) -> PlanReport:
        """The first report from now on that is accepted; `meanwhile` is called again and again until it comes."""
        seen = max(0, len(self._plans) - 1)

        def accepted() -> PlanReport | None:
            meanwhile()
            reports = map(messages.plan_from_message, self._plans[seen:])
            return next((report for report in reports if accept(report)), None)

        try:
            return self.observer.wait_for(accepted, what=what)
        except AssertionError as error:
            raise AssertionError(f"{error}; the last report is {self.report}") from None

    def wait_for_remark(self, words: str) -> PlanReport:
        """The first report with these words among its remarks."""
        return self.wait_for(lambda report: words in report.remarks, f"the remark '{words}'")

    def profile(self, who: str, costs: str, model_id: str = "m1", calibrations: str = "") -> None:
        """Publishes the profile of `robot` or `edge`."""
        profile = Profile(model=MODEL, model_id=model_id, costs=costs, calibrations=calibrations)
        self._profiles[who].publish(messages.profile_message(Header(), f"/{who}", profile))

    def link(self, goodput_bps: float, accept: Callable[[PlanReport], bool], what: str) -> PlanReport:
        """Reports frames that came back over a link that carries so much, until a report is accepted."""
        return self.wait_for(accept, what, lambda: self._frames(goodput_bps))

    def _frames(self, goodput_bps: float) -> None:
        if time.monotonic() < self._next_s:
            return
        self._next_s = time.monotonic() + 0.05  # a camera's pace: more would be lost on a busy machine
        for packet_bytes in (FEATURE_BYTES, PICTURE_BYTES):
            self._sent += 1
            link_s = 0.004 + 8 * packet_bytes / goodput_bps
            self.tell(LinkReport(self._sent, packet_bytes=packet_bytes, link_s=link_s, packets_sent=self._sent))

    def silence(self, unanswered_s: float) -> None:
        """Reports that nothing comes back."""
        self.tell(LinkReport(sequence=UNKNOWN_SEQUENCE, unanswered_s=unanswered_s, packets_sent=self._sent))

    def tell(self, report: LinkReport) -> None:
        """Publishes a link report."""
        self._links.publish(messages.link_message(Header(stamp=Time()), "/robot", report))

    def battery(self, **fields: float) -> None:
        """Publishes news of the battery."""
        self._batteries.publish(BatteryState(**fields))
