"""The robot: camera images in, packets of compressed features out, results back."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.callback_groups import ReentrantCallbackGroup
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Float32, Header, String
from std_srvs.srv import Trigger

from laim_ros.nodes import messages, qos
from laim_ros.nodes.images import ImageError, compressed_to_rgb, to_rgb
from laim_ros.nodes.ledger import Ledger
from laim_ros.nodes.lifecycle import LaimNode, run
from laim_ros.nodes.messages import MessageError
from laim_ros.nodes.publishing import ResultPublisher, profile_of
from laim_ros.nodes.robot_settings import Questions, Repeater, RobotSettings, in_words
from laim_ros.nodes.sending import PacketSender
from laim_ros.nodes.waiting import ResultWaiters
from laim_ros.nodes.worker import ThrottledLog, Worker
from laim_ros.parameters import ROBOT, ParameterValue
from laim_ros.records import UNKNOWN_SEQUENCE, FrameResult

_SILENCE_S = 5.0


@dataclass(frozen=True, slots=True)
class _Frame:
    message: Image | CompressedImage
    received_s: float


class RobotNode(LaimNode):
    """Runs the head of the model on the newest image and publishes its boundary tensor."""

    def __init__(self) -> None:
        self._half = None
        self._worker: Worker[_Frame] | None = None
        super().__init__("robot", ROBOT)
        self._settings = RobotSettings.read(self.values)
        self._questions = Questions()
        self._warn = ThrottledLog(self.get_logger().warning)
        self._sender = PacketSender(self)
        self._inputs: list = []
        self._links = self.create_publisher(DiagnosticArray, "laim/link", qos.RESULTS)
        self._latency_s = self.create_publisher(Float32, "laim/latency_s", qos.PLOT)
        self._profile = self.create_publisher(DiagnosticArray, "laim/robot_profile", qos.LATCHED)
        self._results = ResultPublisher(self, "")
        # The service waits for a result, so it must not hold up the callbacks that bring it.
        self._waiters = ResultWaiters(self)
        self.create_service(Trigger, "~/describe", self._on_describe, callback_group=ReentrantCallbackGroup())
        self._reset()

    def _reset(self) -> None:
        self._ledger = Ledger()
        self._repeater: Repeater[_Frame] = Repeater()
        self._refusal, self._refused_s = "", -math.inf
        self._last_start_s = -math.inf
        self._last_image_s = -math.inf
        self._images = self._overtaken = self._bad_images = self._repeated = 0

    # Lifecycle.

    def configure(self) -> None:
        """Loads the stages up to `last_split` and runs them once."""
        # Imported here, so that the node is on the graph and can be interrupted while PyTorch loads.
        import torch

        from laim_ros.coinference import RobotHalf
        from laim_ros.models import Generation, load

        values = self.values
        if values["num_threads"]:
            torch.set_num_threads(values["num_threads"])
        dtype = {32: "float32", 16: "bfloat16"}[values["weight_bits"]]
        model = load(values["model"], last=values["last_split"], dtype=dtype, device=values["device"])
        half = RobotHalf(model, self.get_fully_qualified_name())
        half.check(self._settings.plan)
        warm_up, _ = half.features(
            np.zeros((480, 640, 3), np.uint8), "qformer" if model.last == "output" else model.last
        )
        if model.last == "output":
            half.finish(warm_up, [""], Generation(max_new_tokens=2))
        self._half = half
        name = self.get_fully_qualified_name()
        profile = profile_of(values["model"], model)
        self._profile.publish(messages.profile_message(self.stamp_now(), name, profile))
        self.get_logger().info(
            f"{model.name}: stages up to {model.last}, {model.weight_bytes / 1e6:.1f} MB of weights on {model.device}"
        )

    def activate(self) -> None:
        """Subscribes to the camera and starts the worker."""
        self._reset()
        self._worker = Worker(self._work, self._on_work_failed, pause_s=self._pause_s)
        compressed = self.values["image_transport"] == "compressed"
        topic, kind = ("image/compressed", CompressedImage) if compressed else ("image", Image)
        inputs = [
            (kind, topic, self._on_image, qos.IMAGE),
            (String, "laim/question", self._on_question, qos.QUESTION),
            (DiagnosticArray, "laim/results", self._on_result, qos.RESULTS),
        ]
        self._inputs = [
            self.create_subscription(*each, event_callbacks=qos.subscription_events(self, each[1])) for each in inputs
        ]
        self.get_logger().info(f"watching {self.resolve_topic_name(topic)}")

    def deactivate(self) -> None:
        """Stops inference after the frame in hand."""
        worker, self._worker = self._worker, None
        if worker is None:
            return
        while self._inputs:
            self.destroy_subscription(self._inputs.pop())
        worker.stop()
        self._waiters.give_up("the robot was deactivated")

    def cleanup(self) -> None:
        """Lets the model go."""
        self._half = None

    # Parameters.

    def check_parameters(self, values: Mapping[str, ParameterValue]) -> None:
        """Refuses plans that this robot cannot carry out."""
        settings, half = RobotSettings.read(values), self._half
        if half is not None:
            half.check(settings.plan)

    def parameters_changed(self, values: Mapping[str, ParameterValue]) -> None:
        """Takes effect from the next frame on."""
        before, self._settings = self._settings, RobotSettings.read(values)
        worker = self._worker
        if worker is not None:
            worker.wake()
        if self._settings.plan != before.plan:
            self.get_logger().info(f"plan: {in_words(self._settings.plan)}")

    # Callbacks: none of them waits.

    def _on_image(self, message: Image | CompressedImage) -> None:
        worker, now_s = self._worker, time.perf_counter()
        if worker is None:
            return
        self._images += 1
        self._last_image_s = now_s
        if worker.waiting.put(_Frame(message, now_s)) is not None:
            self._overtaken += 1

    def _on_question(self, message: String) -> None:
        refusal = self._questions.ask(message.data, time.perf_counter())
        if refusal:
            self._warn(refusal)

    def _ask_again(self) -> None:
        for question in self._ledger.take_unanswered_questions():
            refusal = self._questions.ask_again(question, time.perf_counter())
            if refusal:
                self._warn(refusal)

    def _on_result(self, message: DiagnosticArray) -> None:
        now_s = time.perf_counter()
        try:
            result = messages.result_from(message)
        except MessageError as error:
            self._warn(f"laim/results: {error}")
            return
        if message.status[0].name == self.get_fully_qualified_name():
            return
        report = self._ledger.settle(result, messages.stamp_of(message.header), now_s, self._settings.deadline_s)
        if result.error:
            self._refusal, self._refused_s = result.error, now_s
        if report is None:
            return
        self._links.publish(messages.link_message(message.header, self.get_fully_qualified_name(), report))
        self._latency_s.publish(Float32(data=report.latency_s))
        self._ask_again()
        self._conclude(result)

    async def _on_describe(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        if self._worker is None:
            response.message = (
                f"the robot is {self.state}; run `ros2 lifecycle set {self.get_fully_qualified_name()} activate`"
            )
            return response
        asked_s, timeout_s = time.perf_counter(), self.values["describe_timeout_s"]
        result = await self._waiters.next_result(timeout_s)
        if result is None:
            response.message = f"no result within {timeout_s:g} s: {self._why_silent(asked_s)}"
        else:
            response.success, response.message = not result.error, result.error or result.texts[0]
        return response

    # The worker: one frame at a time.

    def _pause_s(self) -> float:
        rate_hz = self._settings.rate_hz
        return self._last_start_s + 1.0 / rate_hz - time.perf_counter() if rate_hz else 0.0

    def _work(self, frames: list[_Frame]) -> None:
        frame, settings = frames[0], self._settings
        self._last_start_s = time.perf_counter()
        header = frame.message.header
        try:
            image = to_rgb(frame.message) if isinstance(frame.message, Image) else compressed_to_rgb(frame.message)
        except ImageError as error:
            self._bad_images += 1
            self._warn(f"image ignored: {error}")
            self._publish_own(header, FrameResult(error=f"image ignored: {error}", sequence=UNKNOWN_SEQUENCE), frame)
            return
        at_output = settings.plan.split_point == "output"
        features, _ = self._half.features(image, "qformer" if at_output else settings.plan.split_point)
        questions = self._questions.take()
        now_s = time.perf_counter()
        if not questions and self._repeater.same_as_last(features, settings.prompt, settings.min_change, now_s):
            repeated = self._repeater.result_or_hold(frame)
            if repeated is not None:
                self._repeat(frame, repeated)
            return
        asked = [settings.template.replace("{question}", question.text) for question in questions]
        prompts = (settings.prompt, *asked)
        if at_output:
            self._finish_here(header, features, prompts, frame, settings)
            return
        sequence = self._sender.send(
            self._half, self._ledger, header, features, prompts, settings, frame.received_s, questions
        )
        self._repeater.sent(sequence, features, settings.prompt, now_s)
        self._ask_again()

    def _finish_here(
        self, header: Header, features: np.ndarray, prompts: Sequence[str], frame: _Frame, settings: RobotSettings
    ) -> None:
        from laim_ros.models import Generation

        generation = Generation(self.values["num_beams"], self.values["max_new_tokens"])
        texts = self._half.finish(features, prompts, generation)
        plan = {"split_point": settings.plan.split_point, "weight_bits": settings.plan.weight_bits}
        sequence = self._sender.next_sequence()
        self._repeater.sent(sequence, features, settings.prompt, time.perf_counter())
        self._publish_own(header, FrameResult(tuple(texts), tuple(prompts), sequence, **plan), frame)

    def _repeat(self, frame: _Frame, result: FrameResult) -> None:
        self._repeated += 1
        self._publish_own(frame.message.header, result, frame)

    def _publish_own(self, header: Header, result: FrameResult, frame: _Frame) -> None:
        """Publishes a result that needed no edge."""
        latency_s = time.perf_counter() - frame.received_s
        result = replace(result, robot_s=latency_s, link_s=0.0, edge_s=0.0, packet_bytes=0)
        self._results.publish(header, result)
        if result.error:
            self._refusal, self._refused_s = result.error, time.perf_counter()
            return
        self._ledger.finished_here(latency_s, self._settings.deadline_s)
        self._latency_s.publish(Float32(data=latency_s))
        self._conclude(result)

    def _conclude(self, result: FrameResult) -> None:
        self._waiters.resolve(result)
        held = self._repeater.finished(result)
        if held is not None:
            self._repeat(*held)

    def _on_work_failed(self, frames: list[_Frame], error: Exception) -> None:
        reason = f"frame lost: {type(error).__name__}: {error}"
        self._warn(reason)
        for frame in frames:
            self._publish_own(frame.message.header, FrameResult(error=reason, sequence=UNKNOWN_SEQUENCE), frame)

    # What goes on, in words and figures.

    def _why_silent(self, since_s: float) -> str:
        topic = "image/compressed" if self.values["image_transport"] == "compressed" else "image"
        if self._last_image_s < since_s:
            return f"no image on {self.resolve_topic_name(topic)} (`ros2 topic hz` it; remap with image:=TOPIC)"
        if self._refused_s >= since_s:
            return self._refusal
        if self._settings.plan.split_point == "output":
            return "the model is still at work; raise describe_timeout_s"
        if not self._sender.readers:
            return f"no edge reads {self._sender.topic}; start edge_node, or look at domain and network"
        return f"{self._ledger.waiting} packets wait for the edge's answer"

    def diagnostics(self) -> tuple[bytes, str, Mapping[str, object]]:
        """Level, plan in words, and the counters."""
        ledger, plan = self._ledger, self._settings.plan
        figures = {
            "images": self._images,
            "images_overtaken": self._overtaken,
            "images_bad": self._bad_images,
            "frames_repeated": self._repeated,
            "packets_sent": ledger.sent,
            "results": ledger.answered,
            "packets_unanswered": ledger.unanswered,
            "packets_refused": ledger.refused,
            "deadline_misses": ledger.deadline_misses,
            "latency_s": ledger.last_latency_s,
            "link_s": ledger.last_link_s,
            "weight_bytes": self._half.model.weight_bytes,
        }
        now_s = time.perf_counter()
        since_s = now_s - _SILENCE_S
        overdue = plan.split_point != "output" and ledger.oldest_waits_s(now_s) > _SILENCE_S
        if self._last_image_s < since_s or self._refused_s >= since_s or overdue:
            return DiagnosticStatus.WARN, self._why_silent(since_s), figures
        return DiagnosticStatus.OK, in_words(plan), figures


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of the executable `robot_node`."""
    return run(RobotNode, arguments)


if __name__ == "__main__":
    raise SystemExit(main())
