"""The annotator: draws each result on the image it belongs to, while someone looks on.

It runs wherever images are at hand, usually beside the camera; the edge never sees pictures.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from sensor_msgs.msg import CompressedImage, Image

from laim_ros.drawing import captioned
from laim_ros.nodes import messages, qos
from laim_ros.nodes.images import ImageError, compressed_message, compressed_to_rgb, to_rgb
from laim_ros.nodes.lifecycle import LaimNode, run
from laim_ros.nodes.messages import MessageError
from laim_ros.nodes.worker import ThrottledLog, Worker
from laim_ros.parameters import ANNOTATOR
from laim_ros.records import FrameResult, coded_as, coded_in_words

_LOOK_FOR_SUBSCRIBERS_S = 0.2

_ImageMessage = Image | CompressedImage


class AnnotatorNode(LaimNode):
    """Keeps the last images, and publishes those whose result arrives; without subscribers it does nothing at all."""

    def __init__(self) -> None:
        self._worker: Worker[tuple[_ImageMessage, FrameResult]] | None = None
        self._inputs: list = []
        super().__init__("annotator", ANNOTATOR)
        self._warn = ThrottledLog(self.get_logger().warning)
        self._reset()

    def _reset(self) -> None:
        self._frames: OrderedDict[tuple[int, int], _ImageMessage] = OrderedDict()
        self._images = self._drawn = self._without_image = self._overtaken = self._bad_images = 0

    # Lifecycle.

    def activate(self) -> None:
        """Offers the annotated images and waits for someone to look on."""
        self._reset()
        self._most_frames = self.values["buffer_frames"]
        self._jpeg_quality = self.values["jpeg_quality"]
        topic = "image/annotated/compressed"
        # Reliable, because viewers ask for either kind and a reliable publisher serves both.
        self._annotated = self.create_publisher(CompressedImage, topic, qos.PLOT)
        self._worker = Worker(self._work, self._on_work_failed)
        # In the group of the transitions, as all callbacks here: they are short, and so need no locks.
        self._watch_timer = self.create_wall_timer(_LOOK_FOR_SUBSCRIBERS_S, self._follow_subscribers, self._transitions)

    def deactivate(self) -> None:
        """Stops drawing after the image in hand."""
        worker, self._worker = self._worker, None
        if worker is None:
            return
        self.destroy_timer(self._watch_timer)
        self._stop_listening()
        worker.stop()
        self.destroy_publisher(self._annotated)

    # Callbacks: none of them waits.

    def _follow_subscribers(self) -> None:
        if self._worker is None:
            return
        watched = self._annotated.get_subscription_count() > 0
        if watched and not self._inputs:
            compressed = self.values["image_transport"] == "compressed"
            kind, topic = (CompressedImage, "image/compressed") if compressed else (Image, "image")
            self._inputs = [
                self._subscribe(kind, topic, self._on_image, qos.IMAGE),
                self._subscribe(DiagnosticArray, "laim/results", self._on_result, qos.RESULTS),
            ]
        elif not watched and self._inputs:
            self._stop_listening()

    def _subscribe(self, kind: type, topic: str, callback, profile: qos.QoSProfile):
        events = qos.subscription_events(self, topic)
        return self.create_subscription(
            kind, topic, callback, profile, callback_group=self._transitions, event_callbacks=events
        )

    def _stop_listening(self) -> None:
        while self._inputs:
            self.destroy_subscription(self._inputs.pop())
        self._frames.clear()

    def _on_image(self, message: _ImageMessage) -> None:
        self._images += 1
        self._frames[messages.stamp_of(message.header)] = message
        while len(self._frames) > self._most_frames:
            self._frames.popitem(last=False)

    def _on_result(self, message: DiagnosticArray) -> None:
        try:
            result = messages.result_from(message)
        except MessageError as error:
            self._warn(f"laim/results: {error}")
            return
        if result.probe:
            return
        image = self._frames.pop(messages.stamp_of(message.header), None)
        worker = self._worker
        if image is None:
            self._without_image += 1
        elif worker is not None and worker.waiting.put((image, result)) is not None:
            self._overtaken += 1

    # The worker: one image at a time.

    def _work(self, waiting: list[tuple[_ImageMessage, FrameResult]]) -> None:
        message, result = waiting[0]
        try:
            image = to_rgb(message) if isinstance(message, Image) else compressed_to_rgb(message)
        except ImageError as error:
            self._bad_images += 1
            self._warn(f"image ignored: {error}")
            return
        title, details = in_words(result)
        header = message.header
        annotated = captioned(image, title, details)
        self._annotated.publish(compressed_message(annotated, header.stamp, header.frame_id, self._jpeg_quality))
        self._drawn += 1

    def _on_work_failed(self, _: list, error: Exception) -> None:
        if self.context.ok():  # otherwise the program is ending, and took the topics down first
            self._warn(f"image lost: {type(error).__name__}: {error}")

    # What goes on, in words and figures.

    def diagnostics(self) -> tuple[bytes, str, Mapping[str, object]]:
        """Level, whether someone looks on, and the counters."""
        figures = {
            "images": self._images,
            "images_drawn": self._drawn,
            "images_bad": self._bad_images,
            "results_without_image": self._without_image,
            "results_overtaken": self._overtaken,
        }
        return DiagnosticStatus.OK, "drawing" if self._inputs else "waiting for a subscriber", figures


def in_words(result: FrameResult) -> tuple[str, list[str]]:
    """A result as a title (the caption), and further lines: answers, the plan, the latency and its parts."""
    title = f"no caption: {result.error}" if result.error else " ".join(result.texts[:1])
    answers = [f"{prompt} {text}" for prompt, text in zip(result.prompts[1:], result.texts[1:], strict=False)]
    return title, [*answers, _plan_in_words(result), _latency_in_words(result)]


def _plan_in_words(result: FrameResult) -> str:
    if result.repeated:
        return "hardly changed: as before"
    if not result.split_point:
        return ""
    coding = coded_in_words(coded_as(result.split_point, result.feature_bits, result.codec))
    sent = [] if result.split_point == "output" else [coding, f"{result.packet_bytes} bytes sent"]
    return " · ".join([f"split at {result.split_point}", f"weights {result.weight_bits} bits", *sent])


def _latency_in_words(result: FrameResult) -> str:
    parts = " + ".join(
        f"{name} {_milliseconds(value_s)}"
        for name, value_s in (("robot", result.robot_s), ("link", result.link_s), ("edge", result.edge_s))
    )
    return f"{_milliseconds(result.latency_s)} ms = {parts}"


def _milliseconds(value_s: float) -> str:
    return f"{value_s * 1e3:.0f}" if math.isfinite(value_s) else "?"


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of the executable `annotator_node`."""
    return run(AnnotatorNode, arguments)


if __name__ == "__main__":
    raise SystemExit(main())
