"""The camera as a process of its own: what arrives over DDS, how it ends, what it says about bad sources."""

import time

import cv2
import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.qos import QoSProfile, ReliabilityPolicy
from ros_harness import start_node
from sensor_msgs.msg import BatteryState, CompressedImage, Image
from skimage import data as photographs

from laim_ros.nodes import messages, qos
from laim_ros.nodes.images import compressed_to_rgb, to_rgb
from laim_ros.scenes import Scene, captions, render

CAMERA = "laim_ros.nodes.camera_node"
SMALL = {"width": 64, "height": 48, "rate_hz": 20.0}


EVERY_IMAGE = QoSProfile(depth=50, reliability=ReliabilityPolicy.BEST_EFFORT)
"""Not newest wins: a busy machine must not make a test miss one."""


def stamp(message):
    return message.header.stamp.sec, message.header.stamp.nanosec


@pytest.fixture
def folder(tmp_path):
    """Three pictures, told apart by their shapes."""
    for name, picture in (("a.png", photographs.coffee()), ("b.jpg", photographs.rocket()), ("c.png", TALL)):
        cv2.imwrite(str(tmp_path / name), picture[..., ::-1])
    return tmp_path


TALL = np.full((60, 20, 3), (10, 200, 90), np.uint8)
SHAPES = [(400, 600, 3), (427, 640, 3), (60, 20, 3)]


def test_scenes_come_with_their_truth(observer):
    with start_node(CAMERA, namespace="r2", parameters={**SMALL, "frame_id": "head", "image_transport": "both"}):
        references = observer.subscribe(DiagnosticArray, "/r2/laim/reference", qos.RESULTS)
        raw = observer.subscribe(Image, "/r2/image", EVERY_IMAGE)
        jpeg = observer.subscribe(CompressedImage, "/r2/image/compressed", EVERY_IMAGE)

        def complete():
            everywhere = {stamp(m) for m in raw} & {stamp(m) for m in jpeg} & {stamp(m) for m in references}
            return everywhere if len(everywhere) >= 5 else None

        everywhere = observer.wait_for(complete)
    for image in raw:
        if stamp(image) not in everywhere:
            continue
        reference = messages.reference_from(next(m for m in references if stamp(m) == stamp(image)))
        scene = Scene.from_json(reference.scene)
        np.testing.assert_array_equal(to_rgb(image), render(scene, 48, 64).image)
        assert reference.caption == captions(scene)[0]
        compressed = next(m for m in jpeg if stamp(m) == stamp(image))
        assert np.abs(compressed_to_rgb(compressed).astype(int) - to_rgb(image)).mean() < 12
        assert image.header.frame_id == compressed.header.frame_id == "head"
    assert len({to_rgb(image).tobytes() for image in raw}) == len(raw), "the camera moves"


def test_full_hd_arrives(observer, tmp_path):
    """Six megabytes a message: many times what the middleware has room for by default."""
    noise = np.random.default_rng(0).integers(0, 256, (1080, 1920, 3)).astype(np.uint8)
    cv2.imwrite(str(tmp_path / "noise.png"), noise[..., ::-1])
    with start_node(CAMERA, parameters={"source": str(tmp_path), "width": 1920, "height": 1080, "rate_hz": 5.0}):
        images = observer.subscribe(Image, "/image", EVERY_IMAGE)
        observer.wait_for(lambda: len(images) >= 4)
    for image in images:
        np.testing.assert_array_equal(to_rgb(image), noise)


def test_a_folder_waits_for_a_subscriber_plays_once_and_again(observer, folder):
    with start_node(CAMERA, parameters={"source": str(folder), "loop": False, "rate_hz": 4.0}) as camera:
        observer.wait_for(lambda: observer.node.count_publishers("/image") == 1)
        time.sleep(1.0)  # time in which three pictures would be lost
        images = observer.subscribe(Image, "/image", EVERY_IMAGE)
        camera.wait_for_output("ended after 3 images")
        observer.wait_for(lambda: len(images) >= 3)
        assert observer.state("/camera") == "active", "it lives on"
        assert [to_rgb(image).shape for image in images] == SHAPES
        np.testing.assert_array_equal(to_rgb(images[2]), TALL)

        assert observer.change_state("/camera", "deactivate")
        assert observer.change_state("/camera", "activate")
        observer.wait_for(lambda: len(images) >= 6)
        assert [to_rgb(image).shape for image in images[3:]] == SHAPES


def test_deactivation_stops_the_images_and_a_new_source_may_follow(observer, folder):
    with start_node(CAMERA, parameters=SMALL) as camera:
        images = observer.subscribe(Image, "/image", EVERY_IMAGE)
        observer.wait_for(lambda: len(images) >= 3)
        assert "configured" in observer.set_parameter("/camera", "source", str(folder)).reason
        assert observer.change_state("/camera", "deactivate")
        observer.wait_for(lambda: observer.node.count_publishers("/image") == 0)
        before = len(images)
        time.sleep(0.5)
        assert len(images) == before
        assert observer.change_state("/camera", "cleanup")
        assert observer.set_parameter("/camera", "source", str(folder / "c.png")).successful
        assert observer.change_state("/camera", "configure")
        assert observer.change_state("/camera", "activate")
        observer.wait_for(lambda: len(images) > before)
        assert to_rgb(images[-1]).shape == (48, 16, 3), "fitted into 64 x 48"
        assert "no more images" not in camera.output(), "it stopped as asked, not by an error"


def test_broken_pictures_are_skipped_with_a_warning(observer, folder):
    (folder / "b.jpg").write_bytes(b"broken")
    with start_node(CAMERA, parameters={"source": str(folder), "rate_hz": 10.0}) as camera:
        images = observer.subscribe(Image, "/image", EVERY_IMAGE)
        observer.wait_for(lambda: len(images) >= 4)
        camera.wait_for_output("b.jpg' is skipped: it cannot be read")
    assert {to_rgb(image).shape for image in images} == {SHAPES[0], SHAPES[2]}


@pytest.mark.parametrize(
    ("source", "reason"),
    [("no/such/place", "'no/such/place' does not exist; give `scenes`"), ("/dev/video97", "no camera /dev/video97")],
)
def test_a_bad_source_is_one_clear_message(observer, source, reason):
    diagnostics = observer.subscribe(DiagnosticArray, "/diagnostics", qos.DIAGNOSTICS)
    with start_node(CAMERA, parameters={"source": source}, ready=None) as camera:
        camera.wait_for_output(reason)
        camera.wait_for_state("unconfigured")
        observer.wait_for(lambda: any(reason in m.status[0].message for m in diagnostics))
        assert observer.set_parameter("/camera", "source", "scenes").successful
        assert observer.change_state("/camera", "configure"), "and the node can go on"


def test_battery_drains_within_its_life(observer):
    with start_node(CAMERA, parameters={**SMALL, "publish_battery": True, "battery_life_s": 2.0}):
        batteries = observer.subscribe(BatteryState, "/battery", qos.PLOT)
        observer.wait_for(lambda: batteries and batteries[-1].percentage == 0.0)
    charges = [battery.percentage for battery in batteries]
    assert charges == sorted(charges, reverse=True)
    assert len(batteries) <= 4, "one a second"
    assert batteries[0].present
    assert (batteries[0].current < 0) == (charges[0] > 0)
    assert batteries[-1].charge == batteries[-1].current == 0.0
