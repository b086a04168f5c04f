"""The edge's end of one robot: its streams, its packets on arrival, its result topics."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from sensor_msgs.msg import CompressedImage
from std_msgs.msg import Header, String

from laim_ros.codec import CodecError, Codecs, StreamDescription, json_stream_id, unpack
from laim_ros.nodes import messages, qos
from laim_ros.nodes.messages import MessageError
from laim_ros.nodes.publishing import ResultPublisher, publish_profile
from laim_ros.nodes.worker import ThrottledLog
from laim_ros.records import UNKNOWN_SEQUENCE, FrameResult, Profile

_STREAMS_KNOWN = 4 * qos.STREAMS_KEPT
_ABANDONED_AFTER_S = 10.0
_EARLY_LIFE_S = 5.0
"""How long a packet waits for the description of its stream; as long as its robot's writer keeps it."""


@dataclass(frozen=True, slots=True)
class WaitingPacket:
    """A packet whose stream is known, on its way to the worker. Times are of the edge's steady clock, in seconds."""

    port: RobotPort
    header: Header
    stream: StreamDescription
    sequence: int
    payload: bytes
    packet_bytes: int
    robot_s: float
    arrived_s: float


class RobotPort:
    """Subscriptions and publishers for one robot.

    Args:
        node: the edge node.
        namespace: the robot's namespace without a trailing slash; empty for the root.
        profile: what this edge can do, published latched.
        codecs: for the packets of this robot alone.
        check: raises CodecError for a stream that this edge cannot serve.
        ready: takes a packet whose stream is known.
        refused: told of a packet that cannot be finished: port, header, reason, sequence.
    """

    def __init__(
        self,
        node: Node,
        namespace: str,
        profile: Profile,
        codecs: Codecs,
        *,
        check: Callable[[StreamDescription], None],
        ready: Callable[[WaitingPacket], None],
        refused: Callable[[RobotPort, Header, str, int], None],
    ) -> None:
        self.namespace, self.codecs = namespace, codecs
        self.unknown_stream = self.probes = 0
        self.last_link_s = math.nan
        self._node, self._check, self._ready, self._refused = node, check, ready, refused
        self._warn = ThrottledLog(node.get_logger().warning)
        self._streams: OrderedDict[int, StreamDescription | str] = OrderedDict()
        self._early: tuple[CompressedImage, float] | None = None
        self._silent_since_s: float | None = None
        self.results = ResultPublisher(node, f"{namespace}/")
        self._profile = node.create_publisher(DiagnosticArray, f"{namespace}/laim/edge_profile", qos.LATCHED)
        publish_profile(node, self._profile, profile)
        self._subscriptions = [
            self._subscribe(String, "laim/stream", self._on_stream, qos.STREAM),
            self._subscribe(DiagnosticArray, "laim/link", self._on_link, qos.RESULTS),
            self._subscribe(CompressedImage, "laim/features", self._on_packet, qos.FEATURES_IN),
            self._subscribe(CompressedImage, "laim/probe", self._on_probe, qos.PROBE),
        ]

    def _subscribe(self, kind: type, topic: str, callback: Callable, profile: qos.QoSProfile):
        full = f"{self.namespace}/{topic}"
        events = qos.subscription_events(self._node, full)
        return self._node.create_subscription(kind, full, callback, profile, event_callbacks=events)

    def is_abandoned(self) -> bool:
        """Whether nobody has published features here for a while."""
        if self._node.count_publishers(f"{self.namespace}/laim/features"):
            self._silent_since_s = None
            return False
        now_s = time.monotonic()
        if self._silent_since_s is None:
            self._silent_since_s = now_s
        return now_s - self._silent_since_s > _ABANDONED_AFTER_S

    def destroy(self) -> None:
        """Takes the topics down."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._node.destroy_publisher(self._profile)
        self.results.destroy()

    def _on_stream(self, message: String) -> None:
        stream_id = json_stream_id(message.data)
        try:
            stream = StreamDescription.from_json(message.data)
            stream_id = stream.stream_id
            self._check(stream)
            known: StreamDescription | str = stream
        except CodecError as error:
            # Remembered, so that each packet of the stream is refused with the reason instead of waiting for ever.
            self._warn(f"'{self.namespace or '/'}': {error}")
            known = str(error)
        self._streams[stream_id] = known
        self._streams.move_to_end(stream_id)
        while len(self._streams) > _STREAMS_KNOWN:
            self._streams.popitem(last=False)
        early, self._early = self._early, None
        if early is not None and time.perf_counter() - early[1] < _EARLY_LIFE_S:
            self._take(*early)

    def _on_link(self, message: DiagnosticArray) -> None:
        try:
            report = messages.link_from(message)
        except MessageError as error:
            self._warn(f"'{self.namespace or '/'}': laim/link: {error}")
            return
        # Of frames alone: probes have other sizes, and silence and the robot's own results tell of no link.
        if report.packet_bytes and not report.probe:
            self.last_link_s = report.link_s

    def _on_packet(self, message: CompressedImage) -> None:
        self._early = None  # newest wins
        self._take(message, time.perf_counter())
        self.unknown_stream += self._early is not None

    def _on_probe(self, message: CompressedImage) -> None:
        self._take(message, time.perf_counter())

    def _take(self, message: CompressedImage, arrived_s: float) -> None:
        try:
            data = messages.packet_bytes(message)
            packet = unpack(data)
        except (MessageError, CodecError) as error:
            self._refused(self, message.header, str(error), UNKNOWN_SEQUENCE)
            return
        if packet.is_probe:
            # At once and not by the worker: it is the link that is measured.
            self.probes += 1
            edge_s = time.perf_counter() - arrived_s
            echo = FrameResult(prompts=(), sequence=packet.sequence, packet_bytes=len(data), edge_s=edge_s, probe=True)
            self.results.publish(message.header, echo)
            return
        stream = self._streams.get(packet.stream_id)
        if stream is None:
            # The description travels on another topic and may come later; the newest such packet waits for it.
            self._early = (message, arrived_s)
        elif isinstance(stream, str):
            self._refused(self, message.header, stream, packet.sequence)
        else:
            self._ready(
                WaitingPacket(
                    port=self,
                    header=message.header,
                    stream=stream,
                    sequence=packet.sequence,
                    payload=packet.payload,
                    packet_bytes=len(data),
                    robot_s=packet.robot_s,
                    arrived_s=arrived_s,
                )
            )
