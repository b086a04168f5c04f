"""The bag of photographs: every message, as rclpy and as rosbags give it, becomes the photograph again."""

import sys
from pathlib import Path

import numpy as np
import pytest
from rosbags.rosbag2 import Reader
from rosbags.typesys import Stores, get_typestore

from laim_ros.nodes.images import ENCODINGS, compressed_to_rgb, to_rgb

sys.path.insert(0, str(Path(__file__).parent.parent / "system"))

import photo_bag


@pytest.fixture(scope="module", params=[True, False], ids=["mcap", "sqlite3"])
def bag(request, tmp_path_factory):
    """Folder of a bag with every encoding that is known, and what was written to it."""
    folder = tmp_path_factory.mktemp("bag") / "photographs"
    return folder, photo_bag.write(folder, raw=ENCODINGS, mcap=request.param)


def picture_of(message):
    return to_rgb(message) if hasattr(message, "encoding") else compressed_to_rgb(message)


def test_every_message_becomes_its_photograph(bag):
    folder, written = bag
    pictures = photo_bag.photographs()
    recorded = list(photo_bag.read(folder))
    assert len(recorded) == len(written) == len(pictures) * (len(ENCODINGS) + 2)
    assert len({each.time_ns for each in recorded}) == len(recorded)
    for each, (name, encoding) in zip(recorded, written, strict=True):
        message = each.message()
        assert message.header.frame_id == f"{name}/{encoding}"
        stamp = message.header.stamp
        assert stamp.sec * 10**9 + stamp.nanosec == each.time_ns
        image = picture_of(message)
        assert image.shape == pictures[name].shape
        if encoding not in ("16UC1", "32FC1"):
            grey = encoding in ("mono8", "mono16", "8UC1")
            expected = (pictures[name] @ np.array([0.299, 0.587, 0.114]))[..., None] if grey else pictures[name]
            error = np.abs(image.astype(float) - expected).mean()
            assert error < (0.6 if encoding in ("png", "rgb8", "mono8") else 14), (name, encoding, error)


def test_messages_of_rosbags_do_as_well(bag):
    folder, _ = bag
    store = get_typestore(Stores.ROS2_KILTED)
    with Reader(folder) as reader:
        theirs = [store.deserialize_cdr(data, connection.msgtype) for connection, _, data in reader.messages()]
    for message, recorded in zip(theirs, photo_bag.read(folder), strict=True):
        np.testing.assert_array_equal(picture_of(message), picture_of(recorded.message()))
