"""A bag of real photographs in every encoding, played into the running system, one frame after the last one's result.

Two robots read it, one the raw and one the compressed images; one edge serves both. Features are sent at 32 bits, so
every caption must be the one that the unsplit transformers model gives for the same message.
"""

from __future__ import annotations

from contextlib import ExitStack, closing
from types import SimpleNamespace

import photo_bag
import pytest
from pipeline import EDGE, ROBOT, Robot, random_model
from ros_harness import Observer, start_node
from unsplit import Unsplit

from laim_ros.models import shipped_models
from laim_ros.nodes.images import compressed_to_rgb, to_rgb
from laim_ros.parameters import DEFAULT_MODEL
from laim_ros.paths import checkpoints_directory

TOKENS = 20


@pytest.fixture(scope="module")
def model() -> str:
    """The model that ships, or a random one where it is not there."""
    return str(checkpoints_directory() / DEFAULT_MODEL) if DEFAULT_MODEL in shipped_models() else random_model()


@pytest.fixture(scope="module")
def running(model):
    """The three processes; the robots split at different points."""
    parameters = {"model": model, "num_threads": 1}
    with ExitStack() as stack:
        observer = stack.enter_context(closing(Observer()))
        robots = {"/image": Robot(observer, "/raw"), "/image/compressed": Robot(observer, "/jpeg", compressed=True)}
        edge = {**parameters, "max_new_tokens": TOKENS}
        raw = {**parameters, "feature_bits": 32, "split_point": "vit.2"}
        compressed = {**parameters, "feature_bits": 32, "image_transport": "compressed"}
        processes = [
            stack.enter_context(start_node(EDGE, parameters=edge, ready=None)),
            stack.enter_context(start_node(ROBOT, namespace="raw", parameters=raw, ready=None)),
            stack.enter_context(start_node(ROBOT, namespace="jpeg", parameters=compressed, ready=None)),
        ]
        for robot in robots.values():
            robot.wake()
        yield SimpleNamespace(robots=robots, processes=processes)


def test_every_frame_gets_the_caption_of_the_unsplit_model(running, model, tmp_path):
    written = photo_bag.write(tmp_path / "bag")
    recorded = list(photo_bag.read(tmp_path / "bag"))
    assert len(written) == len(recorded) >= 5 * (len(photo_bag.RAW_ENCODINGS) + len(photo_bag.COMPRESSED))
    pictures, captions = [], []
    for frame in recorded:
        message = frame.message()
        result = running.robots[frame.topic].frame(message)  # the result that carries the message's own header
        assert not result.error, f"{message.header.frame_id}: {result.error}"
        assert result.texts, message.header.frame_id
        pictures.append((to_rgb if frame.topic == "/image" else compressed_to_rgb)(message))
        captions.append(result.texts[0])

    oracle, expected = Unsplit(model), []
    for start in range(0, len(pictures), 16):
        expected += oracle.batch(pictures[start : start + 16], "", max_new_tokens=TOKENS)
    assert dict(enumerate(captions)) == dict(enumerate(expected))
    assert len(set(captions)) > 1
    for process in running.processes:
        for bad in ("[WARN]", "[ERROR]", "Traceback", "Exception"):
            assert bad not in process.output()
