"""Bad images, bad packets, bad messages and bad QoS: each gives one clear message, and the system goes on."""

from __future__ import annotations

import re
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from tempfile import TemporaryDirectory
from types import SimpleNamespace

import msgspec
import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from pipeline import EDGE, ROBOT, Diagnostics, Robot, calibrate, new_stamp, picture, random_model, resident_bytes, small
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from ros_harness import Observer, start_node
from sensor_msgs.msg import CompressedImage
from std_msgs.msg import Header, String

from laim_ros.codec import WIRE_VERSION, Packet, StreamDescription, pack
from laim_ros.coinference import RobotHalf
from laim_ros.models import load
from laim_ros.nodes import messages, qos
from laim_ros.nodes.images import compressed_message, rgb_message
from laim_ros.plan import Plan
from laim_ros.records import UNKNOWN_SEQUENCE, FrameResult


class Sender:
    """A robot made of nothing but topics, which can send anything at all."""

    def __init__(self, observer: Observer, namespace: str) -> None:
        self.observer = observer
        self.half = RobotHalf(load(random_model(), last="qformer"), f"{namespace}/robot")
        self.stream = self.half.describe(Plan("qformer"))
        self.features, _ = self.half.features(picture(1), "qformer")
        self._results = observer.subscribe(DiagnosticArray, f"{namespace}/laim/results", qos.RESULTS)
        self._streams = observer.node.create_publisher(String, f"{namespace}/laim/stream", qos.STREAM)
        self._packets = observer.publisher(CompressedImage, f"{namespace}/laim/features", qos.FEATURES_OUT)
        self._sequence = 0

    def packet(self, stream: StreamDescription | None = None) -> bytes:
        """A good packet."""
        self._sequence += 1
        return self.half.pack(stream or self.stream, self._sequence, self.features, time.perf_counter())

    def describe(self, stream: StreamDescription | str) -> None:
        """Publishes a stream description, or any text in its place."""
        self._streams.publish(String(data=stream if isinstance(stream, str) else stream.to_json()))

    def send(self, packet: bytes, form: str = messages.PACKET_FORMAT) -> Header:
        """Publishes bytes as a packet."""
        header = Header(stamp=new_stamp(), frame_id="camera")
        self._packets.publish(CompressedImage(header=header, format=form, data=packet))
        return header

    def result_of(self, header: Header) -> FrameResult | None:
        """The result with this header, if it has come."""
        found = (message for message in reversed(self._results) if message.header == header)
        return next(map(messages.result_from, found), None)

    def outcome(self, packet: bytes, form: str = messages.PACKET_FORMAT) -> FrameResult:
        """What becomes of a packet."""
        header = self.send(packet, form)
        return self.observer.wait_for(lambda: self.result_of(header), what="a result")

    def wake(self) -> None:
        """Sends good packets until one is answered."""
        self.describe(self.stream)
        headers = []

        def answered() -> bool:
            headers.append(self.send(self.packet()))
            time.sleep(0.2)
            return any(map(self.result_of, headers))

        self.observer.wait_for(answered, what="the edge to answer")


@pytest.fixture(scope="module")
def running():
    """Robots for raw and compressed images (the latter has its own calibration), a sender of anything, and one edge."""
    with ExitStack() as stack:
        other = shutil.copytree(random_model(), stack.enter_context(TemporaryDirectory()), dirs_exist_ok=True)
        calibrate(other, pictures=5)
        observer = stack.enter_context(closing(Observer()))
        diagnostics = Diagnostics(observer)
        raw, compressed = Robot(observer, "/raw"), Robot(observer, "/jpeg", compressed=True)
        start = {"ready": None, "parameters": small()}
        edge_process = stack.enter_context(start_node(EDGE, **start))
        raw_process = stack.enter_context(start_node(ROBOT, namespace="raw", **start))
        start["parameters"] |= {"image_transport": "compressed", "model": other, "codec": "plain"}
        compressed_process = stack.enter_context(start_node(ROBOT, namespace="jpeg", **start))
        sender = Sender(observer, "/sender")
        raw.wake()
        compressed.wake()
        sender.wake()
        yield SimpleNamespace(
            observer=observer,
            diagnostics=diagnostics,
            raw=raw,
            compressed=compressed,
            sender=sender,
            edge_process=edge_process,
            raw_process=raw_process,
            compressed_process=compressed_process,
        )


def warnings_in(output: str, reason: str) -> list[str]:
    return [line for line in output.splitlines() if line.startswith("[WARN]") and re.search(reason, line)]


# Images.


def spoilt(**fields):
    """A good raw image with some fields changed."""
    message = rgb_message(picture(1), new_stamp(), "camera")
    for name, value in fields.items():
        setattr(message, name, value)
    return message


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"height": 0, "width": 0, "step": 0, "data": b""}, "has no pixels: 0 x 0"),
        ({"step": 100}, "step 100; a row takes at least 192 bytes"),
        ({"step": 200}, "holds 9216 bytes; 48 rows of step 200 take 9600"),
        ({"data": b"abc"}, "holds 3 bytes"),
        ({"encoding": "yuv999"}, "unknown image encoding 'yuv999'; known are rgb8"),
        ({"width": 4_000_000_000, "step": 3}, "claims 4000000000 x 48 pixels"),
    ],
)
def test_a_bad_image_gets_a_result_that_says_why_and_one_warning(running, fields, reason):
    robot = running.raw
    result = robot.frame(spoilt(**fields))
    assert re.search(reason, result.error), result.error
    assert result.texts == ()
    assert len(warnings_in(running.raw_process.output(), reason)) == 1
    assert robot.frame(picture(1)).texts[0]


def cut_jpeg(share: float):
    message = compressed_message(picture(1, 480, 640), new_stamp(), "camera")
    message.data = message.data[: int(len(message.data) * share)]
    return message


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: cut_jpeg(0.7), "truncated JPEG: .* without an end-of-image marker"),
        (lambda: cut_jpeg(0.002), "truncated JPEG: .* end inside its header"),
        (lambda: cut_jpeg(0.0), "neither JPEG nor PNG: 0 bytes"),
        (
            lambda: CompressedImage(
                header=Header(stamp=new_stamp(), frame_id="camera"), format="jpeg", data=b"GIF89a" * 50
            ),
            "neither JPEG nor PNG: 300 bytes",
        ),
    ],
)
def test_a_bad_compressed_image_gets_a_result_that_says_why_and_one_warning(running, make, reason):
    robot = running.compressed
    result = robot.frame(make())
    assert re.search(reason, result.error), result.error
    assert len(warnings_in(running.compressed_process.output(), reason)) == 1
    assert robot.frame(picture(1)).texts[0]


def test_bad_images_are_counted_and_do_not_flood_the_log(running):
    robot = running.raw
    before = running.diagnostics.figure("/raw/robot", "images_bad")
    lines_before = len(warnings_in(running.raw_process.output(), ""))
    for size in range(1, 31):
        assert robot.frame(spoilt(data=bytes(size))).error
    assert len(warnings_in(running.raw_process.output(), "")) - lines_before < 25
    running.diagnostics.wait_for("/raw/robot", lambda _, __, figures: int(figures["images_bad"]) >= before + 30)
    assert robot.frame(picture(1)).texts[0]


# Packets.


def flipped(packet: bytes, at: int) -> bytes:
    return packet[:at] + bytes([packet[at] ^ 4]) + packet[at + 1 :]


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda packet: packet[:-5], "announces .* bytes of payload, .* arrived"),
        (lambda packet: packet[:10], "too short, 10 bytes"),
        (lambda packet: b"", "too short, 0 bytes"),
        (lambda packet: packet + b"x", "announces"),
        (lambda packet: flipped(packet, 40), "damaged on the way"),
        (lambda packet: flipped(packet, 9), "damaged on the way"),
        (lambda packet: packet[:2] + b"\x09" + packet[3:], f"wire version 9, this side speaks {WIRE_VERSION}"),
        (lambda packet: np.random.default_rng(0).bytes(5000), "not from laim_ros"),
    ],
    ids=["cut", "header_cut", "empty", "too_long", "payload_flipped", "header_flipped", "other_wire", "random"],
)
def test_a_damaged_packet_gets_a_result_that_says_why_and_the_edge_goes_on(running, spoil, reason):
    sender, before = running.sender, running.diagnostics.figure("/edge", "refused")
    result = sender.outcome(spoil(sender.packet()))
    assert re.search(reason, result.error), result.error
    assert (result.texts, result.sequence) == ((), UNKNOWN_SEQUENCE)
    assert warnings_in(running.edge_process.output(), f"packet of '/sender' refused: .*{reason}")
    running.diagnostics.wait_for("/edge", lambda _, __, figures: int(figures["refused"]) > before)
    assert sender.outcome(sender.packet()).texts[0]


def test_a_picture_on_the_features_topic_is_refused(running):
    result = running.sender.outcome(b"\xff\xd8\xff\xd9", form="jpeg")
    assert "format 'jpeg' is not 'laim/1'" in result.error


def test_a_packet_of_another_model_is_refused_by_name(running):
    stranger = RobotHalf(load(random_model(7), last="qformer"), "/sender/robot")
    stream = stranger.describe(Plan("qformer"))
    running.sender.describe(stream)
    result = running.sender.outcome(running.sender.packet(stream))
    assert "give both the same model" in result.error
    assert stranger.model.model_id in result.error
    assert running.sender.half.model.model_id in result.error


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"shape": (60_000, 1_000)}, r"shape \(60000, 1000\) at 'qformer' is not the model's \(4, 24\)"),
        ({"shape": (24,)}, r"shape \(24,\) at 'qformer'"),
        ({"plan": Plan("vit.77")}, "nothing to finish after split point 'vit.77'"),
        ({"plan": Plan("output")}, "nothing to finish after split point 'output'"),
        ({"plan": Plan("vision", codec="klt"), "shape": (17, 32), "calibration": "ff"}, "there is none here"),
    ],
)
def test_a_stream_that_the_model_does_not_have_is_refused(running, change, reason):
    sender = running.sender
    stream = msgspec.structs.replace(sender.stream, **change)
    sender.describe(stream)
    before_bytes = resident_bytes(running.edge_process.process.pid)
    result = sender.outcome(pack(Packet(stream.stream_id, 1, bytes(100))))
    assert re.search(reason, result.error), result.error
    assert resident_bytes(running.edge_process.process.pid) < before_bytes + 20e6  # 60 million floats are 240 MB
    assert sender.outcome(sender.packet()).texts[0]


@pytest.mark.parametrize("payload", [b"", bytes(7), bytes(100_000), b"\x28\xb5\x2f\xfd" + bytes(60)])
def test_a_payload_that_is_not_what_the_stream_promises_is_refused(running, payload):
    sender = running.sender
    result = sender.outcome(pack(Packet(sender.stream.stream_id, 77, payload)))
    assert result.error
    assert result.sequence == 77
    assert sender.outcome(sender.packet()).texts[0]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("not JSON", "not JSON"),
        ("{}", "'wire' must be the wire version"),
        ('{"wire": 1}', f"wire version 1, this side speaks {WIRE_VERSION}"),
        ("[" * 20_000, "more than 16384 bytes"),
        (f'{{"wire": {WIRE_VERSION}, "shape": [99999999999, 99999999999]}}', "stream description"),
    ],
)
def test_a_bad_stream_description_is_one_warning(running, text, reason):
    running.sender.describe(text)
    running.edge_process.wait_for_output(f"'/sender': stream description: .*{reason}|'/sender': .*{reason}")
    assert running.sender.outcome(running.sender.packet()).texts[0]


def test_an_edge_with_another_calibration_refuses_and_the_robot_says_so_everywhere(running):
    robot = running.compressed
    robot.set(codec="auto", describe_timeout_s=2.0)
    reason = "'/jpeg/robot' codes 'qformer' with calibration .* give both sides the same codec.safetensors"
    result = robot.frame(picture(1))
    assert re.search(reason, result.error), result.error
    with ThreadPoolExecutor(1) as other:
        answer = other.submit(robot.observer.call_trigger, "/jpeg/robot/describe")
        while not answer.done():
            robot.frame(picture(1))
    assert not answer.result().success
    assert re.search(reason, answer.result().message), answer.result().message
    assert len(warnings_in(running.compressed_process.output(), f"a packet was refused: .*{reason}")) == 1
    running.diagnostics.wait_for(
        "/jpeg/robot", lambda level, text, _: level == DiagnosticStatus.WARN and re.search(reason, text)
    )
    robot.set(codec="plain", describe_timeout_s=10.0)
    assert robot.frame(picture(1)).texts[0]


def test_a_packet_before_its_description_waits_for_it(running):
    """The edge meets an unknown stream, and answers the packet when the description comes."""
    sender = running.sender
    met = running.diagnostics.figure("/edge", "unknown_stream")
    for number in range(4):  # topics have no order between them: now and then the description overtakes the packet
        stream = msgspec.structs.replace(sender.stream, prompts=("", f"Question: what {number}? Answer:"))
        header = sender.send(sender.packet(stream))
        time.sleep(0.2)
        assert sender.result_of(header) is None
        sender.describe(stream)
        result = running.observer.wait_for(lambda header=header: sender.result_of(header), what="the late result")
        assert not result.error
        assert len(result.texts) == 2
    running.diagnostics.wait_for("/edge", lambda _, __, figures: int(figures["unknown_stream"]) > met)


def test_the_edges_memory_does_not_grow_with_bad_packets(running):
    sender, process = running.sender, running.edge_process.process
    random = np.random.default_rng(1)

    def send_bad(count: int) -> None:
        for number in range(count):
            kind = number % 3
            if kind == 0:
                sender.outcome(random.bytes(50_000))
            elif kind == 1:
                sender.outcome(flipped(sender.packet(), 30))
            else:
                sender.outcome(pack(Packet(sender.stream.stream_id, number, random.bytes(50_000))))

    send_bad(30)
    before_bytes = resident_bytes(process.pid)
    send_bad(300)
    assert resident_bytes(process.pid) < before_bytes + 8e6  # what was sent is 10 MB
    assert sender.outcome(sender.packet()).texts[0]


# Other messages, and QoS.


def test_results_and_questions_of_others_do_not_disturb_the_robot(running):
    observer, process = running.observer, running.raw_process
    strange = observer.publisher(DiagnosticArray, "/raw/laim/results", qos.RESULTS)
    strange.publish(DiagnosticArray())
    process.wait_for_output(r"\[WARN\].*laim/results: a result without a status")
    strange.publish(DiagnosticArray(status=[DiagnosticStatus(name="cpu", message="hot")]))
    process.wait_for_output(r"\[WARN\].*laim/results: FrameResult.\w+ should be \w+, it is missing")
    nonsense = FrameResult(texts=("x",), sequence=-(10**30), robot_s=float("nan"), edge_s=float("-inf"))
    strange.publish(messages.result_message(Header(), "/x", nonsense))
    running.raw.ask("?" * 600)
    process.wait_for_output(r"\[WARN\].*a question of 600 characters is ignored; ask with 1 to 512")
    assert running.raw.frame(picture(1)).texts[0]
    observer.node.destroy_publisher(strange)


RELIABLE, BEST_EFFORT = ReliabilityPolicy.RELIABLE, ReliabilityPolicy.BEST_EFFORT


@pytest.mark.parametrize(
    ("kind", "topic", "profile", "line"),
    [
        (CompressedImage, "/raw/laim/features", QoSProfile(depth=1, reliability=BEST_EFFORT), "RELIABILITY.*reliab"),
        (String, "/raw/laim/stream", QoSProfile(depth=1), "DURABILITY.*latched .transient local."),
    ],
)
def test_a_publisher_that_the_edge_cannot_hear_is_told_with_the_fix(running, kind, topic, profile, line):
    publisher = running.observer.node.create_publisher(kind, topic, profile)
    running.edge_process.wait_for_output(
        rf"\[ERROR\].*a publisher of '{topic}' offers an incompatible QoS \({line}.*ros2 topic info -v"
    )
    running.observer.node.destroy_publisher(publisher)
    assert running.raw.frame(picture(1)).texts[0]


@pytest.mark.parametrize("topic", ["laim/question", "laim/results"])
def test_a_publisher_that_the_robot_cannot_hear_is_told_with_the_fix(running, topic):
    kind = String if topic == "laim/question" else DiagnosticArray
    publisher = running.observer.node.create_publisher(
        kind, f"/raw/{topic}", QoSProfile(depth=1, reliability=BEST_EFFORT)
    )
    running.raw_process.wait_for_output(rf"\[ERROR\].*a publisher of '/raw/{topic}' offers an incompatible QoS")
    running.observer.node.destroy_publisher(publisher)


def test_a_subscriber_that_asks_too_much_is_told(running):
    profile = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL, reliability=RELIABLE)
    node = running.observer.node
    subscription = node.create_subscription(CompressedImage, "/raw/laim/features", lambda _: None, profile)
    running.raw_process.wait_for_output(
        r"\[ERROR\].*a subscriber of '/raw/laim/features' asks for an incompatible QoS \(DURABILITY\)"
    )
    node.destroy_subscription(subscription)
    assert running.raw.frame(picture(1)).texts[0]


def test_nothing_of_all_this_raised(running):
    for process in (running.raw_process, running.compressed_process, running.edge_process):
        assert process.process.poll() is None
        assert "Traceback" not in process.output()
        assert "frame lost" not in process.output()
