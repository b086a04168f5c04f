"""Results on their way out: the full one, and the plain text and figures for people and plots."""

from __future__ import annotations

from typing import TYPE_CHECKING

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from rclpy.publisher import Publisher
from std_msgs.msg import Float32, Header, String

from laim_ros.nodes import messages, qos
from laim_ros.records import FrameResult, Profile

if TYPE_CHECKING:  # PyTorch takes seconds to import, and nodes are on the graph before
    from laim_ros.models import SplitModel


def profile_of(name: str, model: SplitModel) -> Profile:
    """What a machine can do with the part of a model that it loaded under `name`."""
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
    )


def publish_profile(node: Node, publisher: Publisher, profile: Profile) -> None:
    """Publishes what a node can do, on the system's or the simulated clock."""
    header = Header(stamp=node.get_clock().now().to_msg())
    publisher.publish(messages.profile_message(header, node.get_fully_qualified_name(), profile))


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
