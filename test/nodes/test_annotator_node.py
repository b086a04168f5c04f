"""The annotator as a process of its own, fed with images and results by the test over DDS."""

import time

import cv2
import numpy as np
import pytest
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray
from ros_harness import start_node
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from laim_ros.drawing import captioned
from laim_ros.nodes import messages, qos
from laim_ros.nodes.annotator_node import in_words
from laim_ros.nodes.images import compressed_message, compressed_to_rgb, rgb_message
from laim_ros.records import FrameResult

ANNOTATOR = "laim_ros.nodes.annotator_node"
ANNOTATED = "/image/annotated/compressed"
RESULT = FrameResult(
    texts=("A red ball.",),
    sequence=7,
    split_point="qformer",
    weight_bits=32,
    feature_bits=8,
    codec="plain",
    packet_bytes=612,
    robot_s=0.012,
    link_s=0.0104,
    edge_s=0.02,
)
LEVELS = (60, 120, 180, 240)


def flat(level):
    return np.full((240, 320, 3), level, np.uint8)


def time_of(second):
    return Time(sec=1_000 + second, nanosec=second)


def result_message(second, result=RESULT):
    return messages.result_message(Header(stamp=time_of(second), frame_id="head"), "/edge", result)


def level_of(message):
    return round(float(np.median(compressed_to_rgb(message)[:100])))


class Desk:
    """The topics around the annotator, and its figures on /diagnostics."""

    def __init__(self, observer, kind=Image, topic="/image"):
        self.observer = observer
        self._diagnostics = observer.subscribe(DiagnosticArray, "/diagnostics", qos.DIAGNOSTICS)
        self.annotated = observer.subscribe(CompressedImage, ANNOTATED, qos.IMAGE)
        self._images = observer.publisher(kind, topic, qos.IMAGE)
        self._results = observer.publisher(DiagnosticArray, "/laim/results", qos.RESULTS)

    def figure(self, name):
        if not self._diagnostics:
            return 0
        return int({pair.key: pair.value for pair in self._diagnostics[-1].status[0].values}.get(name, 0))

    def see(self, *images):
        """Publishes images, one after the arrival of the other; again if one gets lost, as best effort allows."""
        for image in images:
            seen = self.figure("images")
            again_s = 0.0

            def arrived(image=image, seen=seen):
                nonlocal again_s
                if time.monotonic() > again_s:
                    self._images.publish(image)
                    again_s = time.monotonic() + 5.0
                return self.figure("images") > seen

            self.observer.wait_for(arrived, what="the image's arrival")

    def tell(self, result):
        self._results.publish(result)

    def wait_for_figure(self, name, value):
        self.observer.wait_for(lambda: self.figure(name) == value, what=f"{name} = {value}")

    def next_annotated(self, count):
        self.observer.wait_for(lambda: len(self.annotated) >= count, what=f"annotated image {count}")
        return self.annotated[-1]


def test_each_result_is_drawn_on_the_frame_it_belongs_to(observer):
    with start_node(ANNOTATOR, parameters={"jpeg_quality": 95}):
        desk = Desk(observer)
        desk.see(*(rgb_message(flat(level), time_of(n), "head") for n, level in enumerate(LEVELS)))
        for count, n in enumerate((2, 0, 3), 1):
            desk.tell(result_message(n))
            picture = desk.next_annotated(count)
            assert level_of(picture) == pytest.approx(LEVELS[n], abs=2)
            assert picture.header.stamp == time_of(n)
            assert picture.header.frame_id == "head"
            expected = captioned(flat(LEVELS[n]), *in_words(RESULT))
            assert np.abs(compressed_to_rgb(picture).astype(int) - expected).mean() < 3
            assert np.abs(flat(LEVELS[n]).astype(int) - expected).mean() > 10, "there is something to see"
        desk.tell(messages.result_message(Header(stamp=time_of(1)), "/edge", FrameResult(prompts=(), probe=True)))
        desk.tell(result_message(2))
        desk.tell(result_message(77))
        desk.wait_for_figure("results_without_image", 2)
        assert desk.figure("images_drawn") == 3


def test_only_the_last_frames_are_kept(observer):
    with start_node(ANNOTATOR, parameters={"buffer_frames": 2}):
        desk = Desk(observer)
        desk.see(*(rgb_message(flat(level), time_of(n)) for n, level in enumerate(LEVELS[:3])))
        desk.tell(result_message(0))
        desk.wait_for_figure("results_without_image", 1)
        desk.tell(result_message(1))
        assert level_of(desk.next_annotated(1)) == pytest.approx(LEVELS[1], abs=3)


def test_compressed_images(observer):
    with start_node(ANNOTATOR, parameters={"image_transport": "compressed"}):
        desk = Desk(observer, CompressedImage, "/image/compressed")
        desk.see(compressed_message(flat(120), time_of(0)))
        desk.tell(result_message(0))
        assert level_of(desk.next_annotated(1)) == pytest.approx(120, abs=3)


def test_nothing_is_read_while_nobody_looks_on(observer):
    with start_node(ANNOTATOR):
        observer.wait_for(lambda: observer.node.count_publishers(ANNOTATED) == 1)
        for _ in range(2):
            assert observer.node.count_subscribers("/image") == 0
            assert observer.node.count_subscribers("/laim/results") == 0
            viewer = observer.node.create_subscription(CompressedImage, ANNOTATED, lambda _: None, 1)
            observer.wait_for(lambda: observer.node.count_subscribers("/image") == 1)
            observer.wait_for(lambda: observer.node.count_subscribers("/laim/results") == 1)
            observer.node.destroy_subscription(viewer)
            observer.wait_for(lambda: observer.node.count_subscribers("/image") == 0)
            observer.wait_for(lambda: observer.node.count_subscribers("/laim/results") == 0)


def test_deactivation_and_activation_again(observer):
    with start_node(ANNOTATOR):
        desk = Desk(observer)
        assert observer.change_state("/annotator", "deactivate")
        observer.wait_for(lambda: observer.node.count_subscribers("/image") == 0)
        assert observer.change_state("/annotator", "activate")
        observer.wait_for(lambda: observer.node.count_subscribers("/image") == 1)
        desk.wait_for_figure("images", 0)
        desk.see(rgb_message(flat(180), time_of(5)))
        desk.tell(result_message(5))
        assert level_of(desk.next_annotated(1)) == pytest.approx(180, abs=3)


def test_bad_images_and_results_cost_one_warning(observer):
    with start_node(ANNOTATOR) as annotator:
        desk = Desk(observer)
        bad = rgb_message(flat(60), time_of(1))
        bad.step = 5
        desk.see(bad)
        desk.tell(result_message(1))
        annotator.wait_for_output("image ignored: image of encoding rgb8, 320 x 240, has step 5")
        desk.tell(DiagnosticArray())
        annotator.wait_for_output("laim/results: a result without a status")
        desk.see(rgb_message(flat(240), time_of(2)))
        desk.tell(result_message(2))
        assert level_of(desk.next_annotated(1)) == pytest.approx(240, abs=3)
        desk.wait_for_figure("images_bad", 1)


def test_words():
    title, details = in_words(RESULT)
    assert title == "A red ball."
    plan = "split at qformer · weights 32 bits · 8 bits (plain) · 612 bytes sent"
    assert details == [plan, "42 ms = robot 12 + link 10 + edge 20"]


def test_words_of_answers_pictures_errors_and_unknown_links():
    asked = FrameResult(
        texts=("A red ball.", "red"),
        prompts=("", "Question: what colour is the ball? Answer:"),
        split_point="input",
        weight_bits=32,
        feature_bits=8,
        codec="jpeg75",
        packet_bytes=9_000,
        robot_s=0.004,
        edge_s=0.05,
    )
    assert in_words(asked) == (
        "A red ball.",
        [
            "Question: what colour is the ball? Answer: red",
            "split at input · weights 32 bits · jpeg75 · 9000 bytes sent",
            "? ms = robot 4 + link ? + edge 50",
        ],
    )
    assert in_words(FrameResult(error="the model is another"))[0] == "no caption: the model is another"
    assert "as before" in in_words(FrameResult(texts=("A cat.",), repeated=True))[1][0]


def test_a_viewer_can_open_what_is_published(observer):
    """Any viewer: the data is a plain JPEG file."""
    with start_node(ANNOTATOR):
        desk = Desk(observer)
        desk.see(rgb_message(np.zeros((30, 40, 3), np.uint8), time_of(0)))
        desk.tell(result_message(0))
        picture = cv2.imdecode(np.frombuffer(desk.next_annotated(1).data, np.uint8), cv2.IMREAD_COLOR)
        assert picture.shape == (240, 320, 3)
