"""`laim/plan`: what this planner says there, and which other planners do."""

from __future__ import annotations

import math

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.publisher import Publisher

from laim_ros.nodes import messages, qos
from laim_ros.nodes.lifecycle import LaimNode
from laim_ros.records import PlanReport

_TOPIC = "laim/plan"
_SAID_AGAIN_S = 3.0
"""How often a report is published that stays as it is."""


class PlanTopic:
    """Publishes reports while it is shown, and sees who else does."""

    def __init__(self, node: LaimNode) -> None:
        self._node = node
        self._publisher: Publisher | None = None
        self._said: tuple = ()
        self._said_s = -math.inf

    def others(self) -> list[str]:
        """Names of the other nodes that publish on the topic."""
        own = self._node.get_fully_qualified_name()
        publishers = self._node.get_publishers_info_by_topic(self._node.resolve_topic_name(_TOPIC))
        found = [f"{each.node_namespace.rstrip('/')}/{each.node_name}" for each in publishers]
        if self._publisher is not None and own in found:
            found.remove(own)
        return found

    def show(self, shown: bool) -> None:
        """Makes or takes down the publisher, which is what other planners see of this one."""
        if shown and self._publisher is None:
            self._publisher = self._node.create_publisher(DiagnosticArray, _TOPIC, qos.LATCHED)
            self._said = ()
        elif not shown and self._publisher is not None:
            self._node.destroy_publisher(self._publisher)
            self._publisher = None

    def say(self, report: PlanReport, now_s: float) -> None:
        """Publishes a report that says something new, or that was said a while ago."""
        said = _gist(report)
        if self._publisher is None or (said == self._said and now_s - self._said_s < _SAID_AGAIN_S):
            return
        self._said, self._said_s = said, now_s
        header, name = self._node.stamp_now(), self._node.get_fully_qualified_name()
        self._publisher.publish(messages.plan_message(header, name, report))


def _gist(report: PlanReport) -> tuple:
    """The plan and the sentences; figures alone are no news."""
    plan = (report.split_point, report.weight_bits, report.feature_bits, report.codec, report.robot_clock_hz)
    return plan, report.mode, report.reason, report.remarks
