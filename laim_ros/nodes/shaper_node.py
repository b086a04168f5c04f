"""The shaper: a slow link made up on one machine, for demonstrations and tests.

It stands in the path of the packets. Start the robot with `laim/features` and `laim/probe` remapped to
`laim/features_in` and `laim/probe_in`; the edge, which serves every topic that ends in `/laim/features`, then sees what
has passed the bucket alone. Results come back unhindered: they are small.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence, Set

from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.publisher import Publisher
from sensor_msgs.msg import CompressedImage

from laim_ros.nodes import qos
from laim_ros.nodes.lifecycle import LaimNode, run
from laim_ros.nodes.shaping import SlowLink
from laim_ros.parameters import SHAPER, ParameterValue

_PATHS = (
    ("laim/features_in", "laim/features", qos.FEATURES_IN, qos.FEATURES_OUT),
    ("laim/probe_in", "laim/probe", qos.PROBE, qos.PROBE),
)
"""Topics in and out, of one link, with the profiles of the edge that reads and of the robot that writes."""

_LONGEST_SLEEP_S = 1.0
_STOP_TIMEOUT_S = 5.0


class ShaperNode(LaimNode):
    """Passes packets and probes on through one token bucket."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._link: SlowLink[CompressedImage] | None = None
        self._changed = threading.Condition()
        super().__init__("shaper", SHAPER)
        self._outputs = {target: self._publish_on(target, profile) for _, target, _, profile in _PATHS}
        for source, target, profile, _ in _PATHS:
            self._subscribe(source, target, profile)

    # Lifecycle.

    def activate(self) -> None:
        """Begins to pass packets on."""
        self._link = SlowLink(*self._figures(self.values), time.perf_counter())
        self._thread = threading.Thread(target=self._run, name="laim-shaper", daemon=True)
        self._thread.start()
        self.get_logger().info(f"{self._in_words()} between {self.resolve_topic_name(_PATHS[0][0])} and the edge")

    def deactivate(self) -> None:
        """Stops; what is on its way is lost."""
        thread, self._thread = self._thread, None
        if thread is not None:
            with self._changed:
                self._link = None
                self._changed.notify()
            thread.join(_STOP_TIMEOUT_S)

    def parameters_changed(self, values: Mapping[str, ParameterValue], names: Set[str]) -> None:
        """Takes effect at once, for the packet on its way too."""
        with self._changed:
            if self._link is not None:
                self._link.set(*self._figures(values), time.perf_counter())
                self._changed.notify()
        if "goodput_bps" in names:
            self.get_logger().info(self._in_words())

    @staticmethod
    def _figures(values: Mapping[str, ParameterValue]) -> tuple[float, int, float]:
        return values["goodput_bps"], values["burst_bytes"], values["latency_s"]

    # Topics.

    def _publish_on(self, topic: str, profile: qos.QoSProfile) -> Publisher:
        events = qos.publisher_events(self, topic)
        return self.create_publisher(CompressedImage, topic, profile, event_callbacks=events)

    def _subscribe(self, source: str, target: str, profile: qos.QoSProfile) -> None:
        def arrived(message: CompressedImage) -> None:
            with self._changed:
                if self._link is not None:
                    self._link.put(target, message, len(message.data), time.perf_counter())
                    self._changed.notify()

        events = qos.subscription_events(self, source)
        self.create_subscription(CompressedImage, source, arrived, profile, event_callbacks=events)

    # The thread that passes packets on when they are due.

    def _run(self) -> None:
        while True:
            with self._changed:
                link = self._link
                if link is None:
                    return
                due = link.take(time.perf_counter())
                if not due:
                    self._changed.wait(min(max(0.0, link.next_s - time.perf_counter()), _LONGEST_SLEEP_S))
            for target, message in due:
                self._outputs[target].publish(message)

    # What goes on, in words and figures.

    def diagnostics(self) -> tuple[bytes, str, Mapping[str, object]]:
        """Level, the speed, and the counters of packets and probes together."""
        with self._changed:
            link = self._link  # there is one while the node is active
            figures = {
                "goodput_bps": self.values["goodput_bps"],
                "received": link.received,
                "passed": link.passed,
                "dropped": link.replaced,
                "waiting": link.waiting,
            }
        return DiagnosticStatus.OK, self._in_words(), figures

    def _in_words(self) -> str:
        goodput_bps = self.values["goodput_bps"]
        return f"a made-up link of {goodput_bps / 1e3:g} kbit/s" if goodput_bps else "a made-up outage"


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of the executable `shaper_node`."""
    return run(ShaperNode, arguments)


if __name__ == "__main__":
    raise SystemExit(main())
