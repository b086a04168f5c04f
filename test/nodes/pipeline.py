"""A robot seen from outside: pictures go in, results come out, as a camera and a viewer would see it."""

from __future__ import annotations

import atexit
import functools
import itertools
import math
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray
from ros_harness import PATIENCE_S, Observer, start_node
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Float32, Header, String

from laim_ros.nodes import messages, qos
from laim_ros.nodes.dds import give_images_room
from laim_ros.nodes.images import compressed_message, rgb_message
from laim_ros.records import FrameResult, LinkReport

sys.path.insert(0, str(Path(__file__).parents[1] / "codec"))

# Before the first context of this process, or raw images on their way to the nodes are lost.
give_images_room()

ROBOT = "laim_ros.nodes.robot_node"
EDGE = "laim_ros.nodes.edge_node"

RESENT_AFTER_S = 1.0
_frames = itertools.count(1)


@functools.cache
def random_model(seed: int = 8) -> str:
    """Folder of a small random model, gone when this process ends; with seed 8, captions differ and none is empty.

    Codec `klt` is calibrated after its Q-Former.
    """
    from laim_ros.models.random_checkpoint import make_random_blip2

    folder = tempfile.mkdtemp(prefix="laim_ros_test_model_")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    calibrate(str(make_random_blip2(folder, seed=seed)))
    return folder


def calibrate(folder: str, pictures: int = 16) -> None:
    """Calibrates codec `klt` after the Q-Former of a model, on so many pictures."""
    from made_calibration import made_calibration

    from laim_ros.codec.calibration import CODEC_FILE, write_calibrations
    from laim_ros.coinference import RobotHalf
    from laim_ros.models import load

    half = RobotHalf(load(folder, last="qformer"), "/robot")
    features = np.stack([half.features(picture(seed), "qformer")[0] for seed in range(pictures)])
    made = {"qformer": made_calibration(features)}
    write_calibrations(Path(folder, CODEC_FILE), half.model.model_id, made, f"{pictures} pictures of the tests")


def picture(seed: int, height: int = 48, width: int = 64) -> np.ndarray:
    """A coloured ramp with noise, uint8 RGB; pictures of different seeds differ clearly."""
    random = np.random.default_rng(seed)
    ramp = np.linspace(0, 1, height)[:, None, None] * random.integers(0, 255, 3)
    return (ramp + random.integers(0, 60, (height, width, 3))).clip(0, 255).astype(np.uint8)


def small(**others: Any) -> dict[str, Any]:
    """Parameters for a robot or an edge with the small random model, and others."""
    return {"model": random_model(), "num_threads": 1, "max_new_tokens": 5, **others}


def new_stamp() -> Time:
    """A stamp that no other frame of this process has, and that no node would make up."""
    number = next(_frames)
    return Time(sec=1_000 + number, nanosec=number)


class Robot:
    """The topics of one robot.

    Args:
        observer: the node that publishes and listens.
        namespace: of the robot, such as `/r1`; empty for the root.
        compressed: whether the robot takes `image/compressed`.
    """

    def __init__(self, observer: Observer, namespace: str = "", *, compressed: bool = False) -> None:
        self.observer, self.namespace, self._compressed = observer, namespace, compressed
        self.name = f"{namespace}/robot"
        self._results = observer.subscribe(DiagnosticArray, self.topic("laim/results"), qos.RESULTS)
        self._links = observer.subscribe(DiagnosticArray, self.topic("laim/link"), qos.RESULTS)
        self.packets = observer.subscribe(CompressedImage, self.topic("laim/features"), qos.FEATURES_IN)
        self.streams = observer.subscribe(String, self.topic("laim/stream"), qos.STREAM)
        self.captions = observer.subscribe(String, self.topic("laim/caption"), qos.PLOT)
        self.latencies_s = observer.subscribe(Float32, self.topic("laim/latency_s"), qos.PLOT)
        kind, name = (CompressedImage, "image/compressed") if compressed else (Image, "image")
        self.camera = observer.node.create_publisher(kind, self.topic(name), qos.IMAGE)
        self._question = observer.node.create_publisher(String, self.topic("laim/question"), qos.QUESTION)

    def topic(self, name: str) -> str:
        """Full name of a topic of this robot."""
        return f"{self.namespace}/{name}"

    # Pictures in.

    def publish(self, image: np.ndarray | Image | CompressedImage) -> Header:
        """Publishes a picture under a new header, or a message as it is; returns the header."""
        if isinstance(image, np.ndarray):
            make = compressed_message if self._compressed else rgb_message
            image = make(image, new_stamp(), "camera")
        self.camera.publish(image)
        return image.header

    def wake(self, image: np.ndarray | None = None) -> FrameResult:
        """Publishes pictures until one is answered: until every end has found every other, some go nowhere."""
        image = picture(0) if image is None else image
        deadline_s, headers = time.monotonic() + PATIENCE_S, []
        while time.monotonic() < deadline_s:
            headers.append(self.publish(image))
            resent_s = time.monotonic() + RESENT_AFTER_S
            while time.monotonic() < resent_s:
                answered = [result for result in map(self.result_of, headers) if result and not result.error]
                if answered:
                    return answered[0]
                time.sleep(0.01)
        raise AssertionError(f"none of {len(headers)} pictures for {self.name} was answered")

    def frame(self, image: np.ndarray | Image | CompressedImage) -> FrameResult:
        """The result of one picture, whatever it is, once it comes."""
        header = self.publish(image)
        return self.observer.wait_for(lambda: self.result_of(header), what=f"a result of {self.name}")

    def ask(self, question: str) -> None:
        """Asks a question about the next picture."""
        self.observer.wait_for(self._question.get_subscription_count, what="a robot that listens to questions")
        self._question.publish(String(data=question))

    # Results out.

    def result_of(self, header: Header) -> FrameResult | None:
        """The result with the header of an image, if it has come."""
        return _record_of(header, self._results, messages.result_from)

    def link_of(self, header: Header) -> LinkReport | None:
        """The link report with the header of an image, if it has come."""
        return _record_of(header, self._links, messages.link_from)

    def packet_of(self, header: Header) -> CompressedImage | None:
        """The packet with the header of an image, if it has come."""
        return _record_of(header, self.packets, lambda message: message)

    def link_reports(self) -> list[LinkReport]:
        """All link reports so far, oldest first."""
        return [messages.link_from(message) for message in list(self._links)]

    def result_messages(self) -> list[DiagnosticArray]:
        """All results so far, as they came."""
        return list(self._results)

    # Parameters and health.

    def set(self, **values: Any) -> None:
        """Sets parameters, all at once; an AssertionError with the reason where they are refused."""
        outcome = self.observer.set_parameters(self.name, values)
        assert outcome.successful, outcome.reason

    def refusal(self, **values: Any) -> str:
        """The reason why parameters are refused."""
        outcome = self.observer.set_parameters(self.name, values)
        assert not outcome.successful, f"{values} was taken"
        return outcome.reason


def _record_of(header: Header, recorded: list, read: Callable[[Any], Any]) -> Any:
    return next((read(message) for message in reversed(recorded) if message.header == header), None)


class SlowLink:
    """What a robot sends passes here on its way to the edge, one packet after the other, each as long as it takes.

    Args:
        namespace: of the robot, which is started with `REMAPPINGS`.

    Attributes:
        goodput_bps: bits per second; without limit at first.
        loses: how many of the next frames get lost.
    """

    REMAPPINGS: ClassVar = {f"laim/{name}": f"laim/{name}_in" for name in ("features", "probe")}

    def __init__(self, namespace: str) -> None:
        self.goodput_bps = math.inf
        self.loses = 0
        self._observer = Observer("slow_link")
        paths = (("features", qos.FEATURES_IN, qos.FEATURES_OUT), ("probe", qos.PROBE, qos.PROBE))
        for name, profile_in, profile_out in paths:
            topic = f"{namespace}/laim/{name}"
            publisher = self._observer.node.create_publisher(CompressedImage, topic, profile_out)

            def pass_on(message: CompressedImage, publisher=publisher, frames=name == "features") -> None:
                if frames and self.loses:
                    self.loses -= 1
                    return
                time.sleep(8 * len(message.data) / self.goodput_bps)
                publisher.publish(message)

            self._observer.node.create_subscription(CompressedImage, f"{topic}_in", pass_on, profile_in)

    def close(self) -> None:
        """Takes the link away."""
        self._observer.close()


class Diagnostics:
    """The latest status of each node on `/diagnostics`."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._recorded = observer.subscribe(DiagnosticArray, "/diagnostics", qos.DIAGNOSTICS)

    def status(self, node: str) -> tuple[bytes, str, dict[str, str]] | None:
        """Level, sentence and figures of a node, such as `/r1/robot`; None before the first."""
        for message in reversed(self._recorded):
            status = message.status[0]
            if status.name == node:
                return status.level, status.message, {pair.key: pair.value for pair in status.values}
        return None

    def figure(self, node: str, key: str) -> float:
        """One figure of a node; NaN before the first."""
        status = self.status(node)
        return float(status[2].get(key, "nan")) if status else float("nan")

    def wait_for(self, node: str, accept: Callable[[bytes, str, dict[str, str]], bool]) -> None:
        """Waits for a status that `accept` takes."""

        def accepted() -> bool:
            status = self.status(node)
            return status is not None and accept(*status)

        try:
            self._observer.wait_for(accepted, what=f"a status of {node}")
        except AssertionError as error:
            raise AssertionError(f"{error}; the last is {self.status(node)}") from None


class Running:
    """A robot and an edge in the root namespace, each in its process, awake.

    Args:
        stack: ends them.
        robot, edge: their parameters, beside those of `small`.

    Attributes:
        observer: the node that publishes and listens.
        robot: the robot seen from outside.
        diagnostics: of both nodes.
        robot_process, edge_process: the processes.
        first: the first result.
    """

    def __init__(
        self, stack: ExitStack, robot: Mapping[str, Any] | None = None, edge: Mapping[str, Any] | None = None
    ) -> None:
        self.observer = stack.enter_context(closing(Observer()))
        self.diagnostics, self.robot = Diagnostics(self.observer), Robot(self.observer)
        self.robot_process = stack.enter_context(start_node(ROBOT, parameters=small(**(robot or {})), ready=None))
        self.edge_process = stack.enter_context(start_node(EDGE, parameters=small(**(edge or {})), ready=None))
        self.robot_process.wait_for_state("active")
        self.edge_process.wait_for_state("active")
        self.first = self.robot.wake()


def resident_bytes(process_id: int) -> int:
    """Memory of a process that is not shared with files."""
    with open(f"/proc/{process_id}/status", encoding="ascii") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))
