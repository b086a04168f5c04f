"""Results on their way out: the full one, and the plain text and figures for people and plots."""

from __future__ import annotations

from typing import TYPE_CHECKING

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from rclpy.publisher import Publisher
from std_msgs.msg import Float32, Header, String

from laim_ros.nodes import messages, qos
from laim_ros.records import FrameResult, LinkReport, Profile

if TYPE_CHECKING:  # PyTorch takes seconds to import, and nodes are on the graph before
    from laim_ros.coinference import EdgeHalf, RobotHalf


def profile_of(name: str, half: RobotHalf | EdgeHalf, costs: str) -> Profile:
    """What a machine can do with the part of a model that it loaded under `name`, and what that costs (JSON)."""
    model, calibrations = half.model, half.codecs.calibrations
    calibrated = (point for point in model.split_points if point in calibrations)
    return Profile(
        model=name,
        model_id=model.model_id,
        first=model.first,
        last=model.last,
        split_points=" ".join(model.split_points),
        device=str(model.device),
        dtype=str(model.dtype).removeprefix("torch."),
        weight_bytes=model.weight_bytes,
        weight_bits=model.weight_bits,
        engine=model.engine,
        calibrations=" ".join(f"{point}={calibrations[point].digest}" for point in calibrated),
        costs=costs,
    )


def publish_profile(node: Node, publisher: Publisher, profile: Profile) -> None:
    """Publishes what a node can do, on the system's or the simulated clock."""
    header = Header(stamp=node.get_clock().now().to_msg())
    publisher.publish(messages.profile_message(header, node.get_fully_qualified_name(), profile))


class LinkPublisher:
    """Publishes what one robot measures of its frames and of its link."""

    def __init__(self, node: Node) -> None:
        self._name = node.get_fully_qualified_name()
        self._reports = node.create_publisher(DiagnosticArray, "laim/link", qos.RESULTS)
        self._latency_s = node.create_publisher(Float32, "laim/latency_s", qos.PLOT)

    def publish(self, header: Header, report: LinkReport) -> None:
        """Publishes a report; `header` is the image's own where it is about a frame."""
        self._reports.publish(messages.link_message(header, self._name, report))

    def plot(self, latency_s: float) -> None:
        """Publishes the latency of a frame alone, for plots."""
        self._latency_s.publish(Float32(data=latency_s))


class ResultPublisher:
    """Publishes results for one robot.

    Args:
        node: the node that publishes.
        prefix: namespace of the robot with a trailing slash, or empty for the node's own namespace.
    """

    def __init__(self, node: Node, prefix: str) -> None:
        self._node = node
        self._destroyed = False
        self._name = node.get_fully_qualified_name()
        self._results = node.create_publisher(DiagnosticArray, f"{prefix}laim/results", qos.RESULTS)
        self._caption = node.create_publisher(String, f"{prefix}laim/caption", qos.PLOT)
        self._packet_bytes = node.create_publisher(Float32, f"{prefix}laim/packet_bytes", qos.PLOT)

    def publish(self, header: Header, result: FrameResult) -> None:
        """Publishes a result, unless the topics were taken down meanwhile; `header` is the image's own."""
        if self._destroyed:
            return
        self._results.publish(messages.result_message(header, self._name, result))
        if result.texts:
            self._caption.publish(String(data=result.texts[0]))
            self._packet_bytes.publish(Float32(data=float(result.packet_bytes)))

    def destroy(self) -> None:
        """Takes the topics down."""
        self._destroyed = True
        for publisher in (self._results, self._caption, self._packet_bytes):
            self._node.destroy_publisher(publisher)
