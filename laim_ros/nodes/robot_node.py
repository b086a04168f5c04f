"""The robot: camera images in, packets of compressed features out, results back."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Mapping, Sequence, Set
from dataclasses import replace

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.parameter import Parameter as RosParameter
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import String

from laim_ros.codec import CodecError
from laim_ros.nodes import messages, qos
from laim_ros.nodes.head_switch import HeadSwitch, open_half
from laim_ros.nodes.images import ImageError, compressed_to_rgb, to_rgb
from laim_ros.nodes.ledger import Ledger
from laim_ros.nodes.lifecycle import LaimNode, run
from laim_ros.nodes.link_watch import LinkWatch
from laim_ros.nodes.measuring import robot_costs
from laim_ros.nodes.messages import MessageError
from laim_ros.nodes.outcomes import Frame, Outcomes
from laim_ros.nodes.publishing import LinkPublisher, ResultPublisher, profile_of, publish_profile
from laim_ros.nodes.robot_health import Health
from laim_ros.nodes.robot_power import RobotPower
from laim_ros.nodes.robot_settings import Questions, RobotSettings
from laim_ros.nodes.sending import PacketSender, Turn
from laim_ros.nodes.waiting import ResultWaiters, offer_describe
from laim_ros.nodes.worker import ThrottledLog, Worker
from laim_ros.parameters import ROBOT, ParameterValue, ParameterValueError
from laim_ros.plan import in_words
from laim_ros.records import UNKNOWN_SEQUENCE, FrameResult


class RobotNode(LaimNode):
    """Runs the head of the model on the newest image and publishes its boundary tensor."""

    def __init__(self) -> None:
        self._half = None
        self._costs = ""
        self._switch: HeadSwitch | None = None
        self._worker: Worker[Frame] | None = None
        self._power = RobotPower(
            lambda: self._settings.plan.robot_clock_hz,
            lambda text: self.get_logger().info(text),
            lambda text: self.get_logger().warning(text),
        )
        super().__init__("robot", ROBOT)
        self._reading = threading.Lock()
        self._settings = RobotSettings.read(self.values)
        self._said_plain: set[str] = set()
        self._questions = Questions()
        self._warn = ThrottledLog(self.get_logger().warning)
        self._sender = PacketSender(self)
        self._inputs: list = []
        self._links = LinkPublisher(self)
        self._watch = LinkWatch(self, self._links, lambda: self._settings.probe_period_s)
        self._profile = self.create_publisher(DiagnosticArray, "laim/robot_profile", qos.LATCHED)
        self._results = ResultPublisher(self, "")
        self._waiters = ResultWaiters(self)
        offer_describe(self, self._waiters, self._why_silent)
        self._reset()

    def _reset(self) -> None:
        self._ledger = Ledger()
        self._health = Health(self._ledger, self._sender, self.resolve_topic_name(self._image_topic))
        self._outcomes = Outcomes(
            self._results, self._links, self._waiters, self._ledger, self._health, lambda: self._settings.deadline_s
        )
        self._last_start_s = -math.inf

    # Lifecycle.

    def configure(self) -> None:
        """Loads the stages up to `last_split`, runs them once, and measures what they cost."""
        self._half = open_half(self.values, self._settings.plan, self.get_fully_qualified_name())
        self._said_plain.clear()
        self.get_logger().info(self._half.codecs.source)
        self._read_settings()
        self._half.check(self._settings.plan)  # also of what has been set meanwhile
        self._open_power()
        self._costs = robot_costs(self._half, self.values, self._power, self.get_logger())
        self._switch = HeadSwitch(self._half, self._on_switched, self.get_logger().error)
        self._tell_model(f"stages up to {self._half.model.last}")
        # Nobody listened to what has been set meanwhile.
        self._switch.want(self._settings.plan.weight_bits)

    def _open_power(self) -> None:
        self._power.open(self.values["clock"], self.values["energy_meter"])
        try:
            self._power.check(self._settings.plan.robot_clock_hz)
        except ParameterValueError as error:
            # The parameters tell the plan in force, and with this one every later change would be refused.
            self.get_logger().warning(str(error))
            self.set_parameters([RosParameter("robot_clock_hz", value=0.0)])

    def activate(self) -> None:
        """Subscribes to the camera and starts the worker."""
        self._reset()
        self._sender.begin()
        self._power.begin()
        self._watch.begin(self._ledger)
        self._worker = Worker(self._work, self._on_work_failed, pause_s=self._pause_s)
        topic = self._image_topic
        inputs = [
            (Image if topic == "image" else CompressedImage, topic, self._on_image, qos.IMAGE),
            (String, "laim/question", self._on_question, qos.QUESTION),
            (DiagnosticArray, "laim/results", self._on_result, qos.RESULTS),
        ]
        self._inputs = [
            self.create_subscription(*each, event_callbacks=qos.subscription_events(self, each[1])) for each in inputs
        ]
        self.get_logger().info(f"watching {self.resolve_topic_name(topic)}")

    def deactivate(self) -> None:
        """Stops inference after the frame in hand, and lets the clock go at once: nobody may wait for that frame."""
        self._power.end()
        self._watch.end()
        worker, self._worker = self._worker, None
        if worker is None:
            return
        while self._inputs:
            self.destroy_subscription(self._inputs.pop())
        worker.stop()
        self._waiters.give_up("the robot was deactivated")

    def cleanup(self) -> None:
        """Lets the model go; a head that is being loaded is given up, see `HeadSwitch.close`."""
        switch, self._switch = self._switch, None
        if switch is not None:
            switch.close()
        self._power.close()
        self._half = None
        self._read_settings()

    def _on_switched(self, seconds: float) -> None:
        self._tell_model(f"another head, loaded in {seconds:.1f} s")

    def _tell_model(self, what: str) -> None:
        model = self._half.model
        publish_profile(self, self._profile, profile_of(self.values["model"], self._half, self._costs))
        self.get_logger().info(
            f"{model.name}: {what}; {model.weight_bits} bits per weight, {model.weight_bytes / 1e6:.1f} MB of weights, "
            f"engine {model.engine} on {model.device}"
        )

    @property
    def _image_topic(self) -> str:
        return "image/compressed" if self.values["image_transport"] == "compressed" else "image"

    # Parameters.

    def check_parameters(self, values: Mapping[str, ParameterValue]) -> None:
        """Refuses plans that this robot cannot carry out."""
        half = self._half
        settings = RobotSettings.read(values, () if half is None else half.codecs.calibrations)
        self._power.check(settings.plan.robot_clock_hz)
        if half is not None:
            half.check(settings.plan)

    def parameters_changed(self, values: Mapping[str, ParameterValue], names: Set[str]) -> None:
        """Takes effect from the next frame on, or when the head with other weights is loaded."""
        before = self._settings
        self._read_settings()
        worker, switch = self._worker, self._switch
        if worker is not None:
            worker.wake()
        if switch is not None and "weight_bits" in names:  # said anew, it also tries again what failed
            switch.want(self._settings.plan.weight_bits)
        if self._settings.plan != before.plan:
            self._power.follow()
            half, plan = self._half, self._settings.plan
            plan = plan if half is None else replace(plan, weight_bits=half.bits_for(plan.weight_bits))
            self.get_logger().info(f"plan: {in_words(plan)}")

    def _read_settings(self) -> None:
        """Takes the parameters as they are now: codec `auto` depends on the model that is loaded."""
        with self._reading:  # the thread that configures, and the one that sets parameters: the later has the newest
            half = self._half
            self._settings = RobotSettings.read(self.values, () if half is None else half.codecs.calibrations)
            why_plain = "" if half is None else self._settings.why_plain
            if why_plain and why_plain not in self._said_plain:
                self._said_plain.add(why_plain)
                self.get_logger().info(why_plain)

    # Callbacks: none of them waits.

    def _on_image(self, message: Image | CompressedImage) -> None:
        worker, now_s = self._worker, time.perf_counter()
        if worker is None:
            return
        self._health.images += 1
        self._health.last_image_s = now_s
        if worker.waiting.put(Frame(message, now_s)) is not None:
            self._health.overtaken += 1

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
            self._health.refused(result.error, now_s)
            self._outcomes.repeater.refused(result.sequence)
            self._sender.references.lost(None if result.sequence == UNKNOWN_SEQUENCE else result.sequence)
            self._warn(f"a packet was refused: {result.error}", figures_matter=False)
        if report is None:
            return
        self._links.publish(message.header, report)
        if report.probe:
            self._watch.probe_came(report)
            return
        self._sender.references.confirmed(result.sequence)
        self._links.plot(report.latency_s)
        self._watch.frame_came()
        self._ask_again()
        self._outcomes.conclude(result)

    def _why_silent(self, since_s: float) -> str:
        return self._health.why_silent(since_s, self._settings.plan)

    # The worker: one frame at a time.

    def _pause_s(self) -> float:
        rate_hz = self._settings.rate_hz
        return self._last_start_s + 1.0 / rate_hz - time.perf_counter() if rate_hz else 0.0

    def _work(self, frames: list[Frame]) -> None:
        frame, settings = frames[0], self._settings
        turn = Turn(frame.message.header, frame.received_s, time.perf_counter(), self._power.span())
        self._last_start_s = turn.began_s
        try:
            image = to_rgb(frame.message) if isinstance(frame.message, Image) else compressed_to_rgb(frame.message)
        except ImageError as error:
            self._health.bad += 1
            self._warn(f"image ignored: {error}")
            self._outcomes.publish(frame, FrameResult(error=f"image ignored: {error}", sequence=UNKNOWN_SEQUENCE))
            return
        at_output = settings.plan.split_point == "output"
        features, ran = self._half.features(image, "qformer" if at_output else settings.plan.split_point)
        settings = settings.with_weight_bits(ran.weight_bits)
        questions = self._questions.take()
        now_s = time.perf_counter()
        if not questions and self._outcomes.repeater.same_as_last(features, settings.asked, settings.min_change, now_s):
            repeated = self._outcomes.repeater.result_or_hold(frame)
            if repeated is not None:
                self._outcomes.repeat(frame, repeated)
            return
        asked = [settings.template.replace("{question}", question.text) for question in questions]
        prompts = (settings.prompt, *asked)
        if at_output:
            self._finish_here(turn, features, prompts, frame, settings)
            return
        try:
            sequence = self._sender.send(self._half, self._ledger, turn, features, prompts, settings, questions)
        except CodecError:
            for question in questions:  # a frame that cannot be sent must not cost its questions
                self._questions.ask_again(question, time.perf_counter())
            raise
        self._outcomes.repeater.sent(sequence, features, settings.asked, now_s)
        self._ask_again()

    def _finish_here(
        self, turn: Turn, features: np.ndarray, prompts: Sequence[str], frame: Frame, settings: RobotSettings
    ) -> None:
        from laim_ros.models import Generation

        generation = Generation(self.values["num_beams"], self.values["max_new_tokens"])
        texts = self._half.finish(features, prompts, generation)
        plan = {"split_point": settings.plan.split_point, "weight_bits": settings.plan.weight_bits}
        sequence = self._sender.next_sequence()
        self._outcomes.repeater.sent(sequence, features, settings.asked, time.perf_counter())
        result = FrameResult(tuple(texts), tuple(prompts), sequence, **plan)
        self._outcomes.publish(frame, result, turn.done(sequence, settings.plan))

    def _on_work_failed(self, frames: list[Frame], error: Exception) -> None:
        cannot_be_coded = isinstance(error, CodecError)
        reason = f"frame not sent: {error}" if cannot_be_coded else f"frame lost: {type(error).__name__}: {error}"
        self._warn(reason, figures_matter=not cannot_be_coded)
        for frame in frames:
            self._outcomes.publish(frame, FrameResult(error=reason, sequence=UNKNOWN_SEQUENCE))

    # What goes on, in words and figures.

    def diagnostics(self) -> tuple[bytes, str, Mapping[str, object]]:
        """Level, plan in words, and the counters."""
        plan = self._settings.with_weight_bits(self._half.weight_bits).plan
        figures = {
            **self._health.figures(),
            **self._switch.figures(),
            **self._power.figures(),
            **{name: self.values[name] for name in ("quantizer", "prune") if self.values[name] not in ("auto", "")},
        }
        complaint = self._health.complaint(time.perf_counter(), plan) or self._switch.trouble or self._power.trouble
        if complaint:
            return DiagnosticStatus.WARN, complaint, figures
        return DiagnosticStatus.OK, in_words(plan), figures


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of the executable `robot_node`."""
    return run(RobotNode, arguments)


if __name__ == "__main__":
    raise SystemExit(main())
