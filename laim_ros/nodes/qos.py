"""Quality-of-service profiles of every topic, and what to say when two ends do not match."""

from __future__ import annotations

from rclpy.duration import Duration
from rclpy.event_handler import PublisherEventCallbacks, SubscriptionEventCallbacks
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy, qos_policy_name_from_kind

STREAMS_KEPT = 8
"""How many stream descriptions a robot keeps latched."""


def _profile(depth: int, *, reliable: bool, latched: bool = False, lifespan_s: float = 0.0) -> QoSProfile:
    profile = QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=depth,
        reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
    )
    if lifespan_s:
        profile.lifespan = Duration(seconds=lifespan_s)
    return profile


IMAGE = _profile(1, reliable=False)
"""Sensor data: only the newest frame matters, and a reliable reader would refuse a best-effort camera."""

FEATURES_IN = _profile(1, reliable=True)
FEATURES_OUT = _profile(1, reliable=True, lifespan_s=5.0)
"""The lifespan is the writer's alone: a reader's would compare two machines' clocks and drop everything, silently."""

PROBE = _profile(1, reliable=False)
"""Probes have a topic of their own. On that of the features, whose writer and reader keep one packet, a probe would
push out a frame that has not been sent, or taken, yet; and a lost one must not be sent again: it would tell of the
loss as if the link were slow."""

STREAM = _profile(STREAMS_KEPT, reliable=True, latched=True)
LATCHED = _profile(1, reliable=True, latched=True)
RESULTS = _profile(8, reliable=True)
"""A few results may arrive together when the edge finishes a batch; none should overwrite another."""

QUESTION = _profile(8, reliable=True)
DIAGNOSTICS = _profile(8, reliable=True)
PLOT = _profile(1, reliable=True)


def subscription_events(node: Node, topic: str) -> SubscriptionEventCallbacks:
    """Callbacks that log, with the fix, a publisher whose QoS this subscription cannot accept."""

    def incompatible(event: object) -> None:
        policy = qos_policy_name_from_kind(event.last_policy_kind)
        node.get_logger().error(
            f"a publisher of '{node.resolve_topic_name(topic)}' offers an incompatible QoS ({policy}): nothing will "
            f"arrive from it; make it offer {_asked(policy, topic)}"
        )

    return SubscriptionEventCallbacks(incompatible_qos=incompatible)


def publisher_events(node: Node, topic: str) -> PublisherEventCallbacks:
    """Callbacks that log, with the fix, a subscriber that asks for more than this publisher offers."""

    def incompatible(event: object) -> None:
        policy = qos_policy_name_from_kind(event.last_policy_kind)
        node.get_logger().error(
            f"a subscriber of '{node.resolve_topic_name(topic)}' asks for an incompatible QoS ({policy}): it will get "
            "nothing; subscribe with the publisher's profile (`ros2 topic info -v` shows it)"
        )

    return PublisherEventCallbacks(incompatible_qos=incompatible)


def _asked(policy: str, topic: str) -> str:
    kind = "latched (transient local)" if policy == "DURABILITY" else policy.lower()
    return f"{kind} as this node asks for on {topic} (`ros2 topic info -v` shows both ends)"
