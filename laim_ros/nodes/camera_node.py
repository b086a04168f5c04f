"""The camera: publishes images of synthetic scenes, a folder, a video file or a V4L2 device.

While nobody subscribes, nothing is taken from the source: a folder or a video starts when someone looks on, and a robot
that still loads its model has the processor for itself.
"""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Mapping, Sequence, Set

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from sensor_msgs.msg import BatteryState, CompressedImage, Image

from laim_ros.nodes import messages, qos
from laim_ros.nodes.images import compressed_message, rgb_message
from laim_ros.nodes.lifecycle import LaimNode, run
from laim_ros.parameters import CAMERA, ParameterValue
from laim_ros.records import Reference
from laim_ros.sources import Frame, FrameSource, SourceError, open_source

_LOOK_FOR_SUBSCRIBERS_S = 0.1
_STOP_TIMEOUT_S = 30.0  # a V4L2 device that went silent is waited for by its driver for 10 s
_BATTERY_PERIOD_S = 1.0
_BATTERY_CAPACITY_AH = 5.0


class CameraNode(LaimNode):
    """Publishes frames, and with each that has a known truth a `laim/reference` of the same stamp."""

    def __init__(self) -> None:
        self._source: FrameSource | None = None
        self._thread: threading.Thread | None = None
        self._entities: list = []
        self._published, self._over, self._watched = 0, "", False
        super().__init__("camera", CAMERA)

    # Lifecycle.

    def configure(self) -> None:
        """Opens the source."""
        self._source = self._open()

    def activate(self) -> None:
        """Begins to publish, from the start of the source."""
        values = self.values
        if self._source is None:  # it was closed, so that others could use the device
            self._source = self._open()
        self._published, self._over, self._watched = 0, "", False
        self._raw = self._compressed = self._reference = None
        if values["image_transport"] in ("raw", "both"):
            self._raw = self._publish_on(Image, "image", qos.IMAGE)
        if values["image_transport"] in ("compressed", "both"):
            self._compressed = self._publish_on(CompressedImage, "image/compressed", qos.IMAGE)
        self._reference = self._publish_on(DiagnosticArray, "laim/reference", qos.RESULTS)
        self._battery_timer = None
        if values["publish_battery"]:
            self._battery = self._publish_on(BatteryState, "battery", qos.PLOT)
            self._battery_full_s = time.perf_counter()
            # Never at the same time as a transition, which would take its publisher down.
            self._battery_timer = self.create_wall_timer(_BATTERY_PERIOD_S, self._publish_battery, self._transitions)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="laim-camera", daemon=True)
        self._thread.start()
        topics = ", ".join(each.topic_name for each in (self._raw, self._compressed) if each is not None)
        self.get_logger().info(f"publishing {values['source']} on {topics} at {values['rate_hz']:g} Hz")

    def deactivate(self) -> None:
        """Stops publishing after the frame in hand, and lets the source go."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._stopping.set()
            thread.join(_STOP_TIMEOUT_S)
            if self._battery_timer is not None:
                self.destroy_timer(self._battery_timer)
            while self._entities:
                self.destroy_publisher(self._entities.pop())
        self.cleanup()

    def cleanup(self) -> None:
        """Lets the source go."""
        source, self._source = self._source, None
        if source is not None:
            source.close()

    def parameters_changed(self, values: Mapping[str, ParameterValue], names: Set[str]) -> None:
        """Fills the made-up battery where it is told how long to last."""
        if "battery_life_s" in names:
            self._battery_full_s = time.perf_counter()

    def _open(self) -> FrameSource:
        values = self.values
        names = ("height", "width", "rate_hz", "seed", "loop")
        warn = self.get_logger().warning
        return open_source(values["source"], warn=warn, **{name: values[name] for name in names})

    def _publish_on(self, kind: type, topic: str, profile: qos.QoSProfile):
        events = qos.publisher_events(self, topic)
        publisher = self.create_publisher(kind, topic, profile, event_callbacks=events)
        self._entities.append(publisher)
        return publisher

    # The thread that takes frames from the source; no callback ever waits for it.

    def _run(self) -> None:
        try:
            self._stream(self._source)
        except SourceError as error:
            self._over = str(error)
            self.get_logger().error(f"no more images: {error}")
        except Exception as error:
            if self.context.ok():  # otherwise the program is ending, and took the topics down first
                self._over = f"{type(error).__name__}: {error}"
                self.get_logger().error(f"no more images: {self._over}\n{traceback.format_exc()}")

    def _stream(self, source: FrameSource) -> None:
        values = self.values
        period_s = 1.0 / values["rate_hz"]
        played_s = 0.0
        last_s = next_s = time.perf_counter()
        while not self._stopping.wait(max(0.0, next_s - time.perf_counter())):
            now_s = time.perf_counter()
            watched_before, self._watched = self._watched, self._is_watched()
            if not self._watched:
                next_s = now_s + min(period_s, _LOOK_FOR_SUBSCRIBERS_S)
                continue
            played_s += now_s - last_s if watched_before else 0.0
            last_s = now_s
            next_s = max(next_s + period_s, now_s)  # a frame that took too long delays the next, which do not catch up
            frame = source.frame(played_s)
            if frame is None:
                self._over = f"{values['source']} ended after {self._published} images"
                self.get_logger().info(f"{self._over}; set loop to start over at the end")
                return
            self._publish(frame, values["frame_id"], values["jpeg_quality"])

    def _is_watched(self) -> bool:
        # Not the battery, which has a timer of its own.
        publishers = (self._raw, self._compressed, self._reference)
        return any(each.get_subscription_count() for each in publishers if each is not None)

    def _publish(self, frame: Frame, frame_id: str, quality: int) -> None:
        header = self.stamp_now(frame_id)
        if frame.caption is not None:  # before the image, so that the truth is there when the result comes
            reference = Reference(frame.caption, frame.scene or "")
            name = self.get_fully_qualified_name()
            self._reference.publish(messages.reference_message(header, name, reference))
        if self._raw is not None:
            self._raw.publish(rgb_message(frame.image, header.stamp, frame_id))
        if self._compressed is not None and self._compressed.get_subscription_count():
            self._compressed.publish(compressed_message(frame.image, header.stamp, frame_id, quality))
        self._published += 1

    def _publish_battery(self) -> None:
        """A made-up battery that is empty after `battery_life_s`."""
        life_s = self.values["battery_life_s"]
        charge = max(0.0, 1.0 - (time.perf_counter() - self._battery_full_s) / life_s)
        self._battery.publish(
            BatteryState(
                header=self.stamp_now(),
                voltage=10.5 + 2.1 * charge,
                current=-_BATTERY_CAPACITY_AH * 3600 / life_s if charge else 0.0,
                charge=_BATTERY_CAPACITY_AH * charge,
                capacity=_BATTERY_CAPACITY_AH,
                design_capacity=_BATTERY_CAPACITY_AH,
                percentage=charge,
                temperature=float("nan"),
                power_supply_status=BatteryState.POWER_SUPPLY_STATUS_DISCHARGING,
                power_supply_health=BatteryState.POWER_SUPPLY_HEALTH_GOOD,
                power_supply_technology=BatteryState.POWER_SUPPLY_TECHNOLOGY_LION,
                present=True,
                location="made up",
            )
        )

    # What goes on, in words and figures.

    def diagnostics(self) -> tuple[bytes, str, Mapping[str, object]]:
        """Level, what the source is doing, and the number of images."""
        figures = {"source": self.values["source"], "images": self._published}
        if self._over:
            return DiagnosticStatus.WARN, self._over, figures
        if not self._watched:
            return DiagnosticStatus.OK, "waiting for a subscriber", figures
        return DiagnosticStatus.OK, "publishing", figures


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of the executable `camera_node`."""
    return run(CameraNode, arguments)


if __name__ == "__main__":
    raise SystemExit(main())
