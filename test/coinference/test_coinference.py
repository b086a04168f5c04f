"""RobotHalf → packet → EdgeHalf gives what the unsplit model gives; what an edge cannot finish, it refuses."""

from __future__ import annotations

import gc
import time
import weakref
from dataclasses import replace

import cv2
import msgspec
import numpy as np
import pytest

from laim_ros.codec import CodecError, StreamDescription, unpack
from laim_ros.coinference import EdgeHalf, RobotHalf
from laim_ros.models import Generation, ModelError, load
from laim_ros.plan import Plan

PROMPTS = ("", "Question: how many mugs are there? Answer:", "Question: what colour is the ball? Answer:")
GENERATION = Generation(max_new_tokens=8)


def picture(seed: int) -> np.ndarray:
    """A coloured ramp with noise: pictures of different seeds differ in size and colour."""
    random = np.random.default_rng(seed)
    height, width = 40 + 7 * seed, 90 - 5 * seed
    ramp = np.linspace(0, 1, height)[:, None, None] * random.integers(0, 255, 3)
    return (ramp + random.integers(0, 60, (height, width, 3))).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def robot(checkpoint):
    return RobotHalf(load(checkpoint, last="qformer"), "/robot")


@pytest.fixture(scope="module")
def edge(checkpoint):
    return EdgeHalf(load(checkpoint))


def plan_at(split_point: str, feature_bits: int = 32) -> Plan:
    return Plan(split_point, feature_bits=feature_bits, codec="jpeg90" if split_point == "input" else "plain")


def sent(
    robot: RobotHalf, image: np.ndarray, plan: Plan, prompts: tuple[str, ...] = ("",)
) -> tuple[StreamDescription, bytes]:
    """One frame as it crosses the network: the description as parsed from its JSON, and the packet's payload."""
    features, _ = robot.features(image, plan.split_point)
    stream = robot.describe(plan, prompts)
    packet = unpack(robot.pack(stream, 7, features, time.perf_counter()))
    received = StreamDescription.from_json(stream.to_json())
    assert packet.stream_id == received.stream_id
    assert packet.sequence == 7
    return received, packet.payload


def finished(edge: EdgeHalf, *frames: tuple[StreamDescription, bytes], generation: Generation = GENERATION) -> list:
    for stream, _ in frames:
        edge.check(stream)
    return edge.finish([(stream, edge.decode(stream, payload)) for stream, payload in frames], generation)


def feature_points(half: RobotHalf) -> list[str]:
    return [point for point in half.model.split_points if point not in ("input", "output")]


def test_oracle_tells_pictures_and_prompts_apart(unsplit):
    """If it did not, equality with it would prove nothing."""
    texts = {tuple(unsplit.texts(picture(seed), PROMPTS)) for seed in range(4)}
    assert len(texts) == 4
    assert all(len(set(row)) == len(PROMPTS) for row in texts)


def test_every_split_point_gives_the_texts_of_the_unsplit_model(robot, edge, unsplit):
    points = feature_points(robot)
    assert points == ["vit.1", "vit.2", "vit.3", "vision", "qformer"]
    for seed, point in enumerate(points):
        expected = unsplit.texts(picture(seed), PROMPTS)
        assert finished(edge, sent(robot, picture(seed), plan_at(point), PROMPTS)) == [expected], point


def test_beams(robot, edge, unsplit):
    expected = unsplit.texts(picture(1), PROMPTS[:2], num_beams=3, max_new_tokens=5)
    got = finished(edge, sent(robot, picture(1), plan_at("vit.2"), PROMPTS[:2]), generation=Generation(3, 5))
    assert got == [expected]


def test_input_gives_the_texts_of_the_unsplit_model_on_the_decoded_jpeg(robot, edge, unsplit):
    stream, payload = sent(robot, picture(2), plan_at("input"), PROMPTS)
    decoded = cv2.cvtColor(cv2.imdecode(np.frombuffer(payload, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    assert decoded.shape == stream.shape
    assert finished(edge, (stream, payload)) == [unsplit.texts(decoded, PROMPTS)]


def test_a_batch_may_mix_split_points_bit_widths_and_prompts(robot, edge, unsplit):
    frames, expected = [], []
    for seed, point in enumerate(["vit.1", "qformer", "vit.3", "qformer", "vision", "vit.1"]):
        prompts = PROMPTS[seed % 3 :]
        frames.append(sent(robot, picture(seed), plan_at(point), prompts))
        expected.append(unsplit.texts(picture(seed), prompts))
    frames.append(sent(robot, picture(0), plan_at("vit.1", feature_bits=4), PROMPTS[:1]))
    expected.append(finished(edge, frames[-1])[0])
    assert finished(edge, *frames) == expected


def test_everything_on_the_robot(checkpoint, unsplit):
    whole = RobotHalf(load(checkpoint), "/robot")
    whole.check(Plan("output"))
    features, _ = whole.features(picture(3), "qformer")
    assert whole.finish(features, PROMPTS, GENERATION) == unsplit.texts(picture(3), PROMPTS)


def test_coarser_features_make_smaller_packets(robot):
    sizes = [len(sent(robot, picture(0), plan_at("vit.2", bits))[1]) for bits in (2, 4, 8, 16, 32)]
    assert sizes == sorted(sizes)
    assert len(set(sizes)) == len(sizes)


def test_packet_tells_how_long_the_robot_took(robot):
    stream = robot.describe(plan_at("qformer"))
    features, timings = robot.features(picture(0), "qformer")
    packet = unpack(robot.pack(stream, 0, features, time.perf_counter() - 2.5))
    assert 2.5 <= packet.robot_s < 30
    assert timings.resize_s > 0
    assert timings.model_s > 0


def test_sequence_numbers_wrap_on_the_wire(robot, edge):
    stream = robot.describe(plan_at("qformer"))
    features, _ = robot.features(picture(0), "qformer")
    assert unpack(robot.pack(stream, 2**32 - 1, features, time.perf_counter())).sequence == 2**32 - 1


def test_damaged_features_are_refused_on_the_robot(robot):
    stream = robot.describe(plan_at("qformer"))
    features, _ = robot.features(picture(0), "qformer")
    with pytest.raises(CodecError):
        robot.pack(stream, 0, np.full_like(features, np.nan), 0.0)
    with pytest.raises(CodecError):
        robot.pack(stream, 0, features[1:], 0.0)


def test_a_later_split_than_loaded_is_refused_with_the_fix(checkpoint):
    short = RobotHalf(load(checkpoint, last="vit.2"), "/robot")
    short.check(Plan("vit.2"))
    with pytest.raises(ModelError, match=r"'vision' is after 'vit.2'.*last_split: vision"):
        short.check(Plan("vision"))
    with pytest.raises(ModelError, match=r"'output' is after 'vit.2'"):
        short.describe(Plan("output"))
    with pytest.raises(ModelError, match=r"'vit.9' is none of this model's: input, vit.1"):
        short.check(Plan("vit.9"))


def test_halves_need_their_end_of_the_model(checkpoint):
    with pytest.raises(ModelError, match=r"from 'input' on, these begin after 'vit\.1'"):
        RobotHalf(load(checkpoint, first="vit.1"), "/robot")
    with pytest.raises(ModelError, match="up to 'output', these end at 'qformer'"):
        EdgeHalf(load(checkpoint, last="qformer"))


def test_an_earlier_split_than_the_edge_loaded_is_refused_with_the_fix(checkpoint, robot):
    late = EdgeHalf(load(checkpoint, first="vision"))
    late.check(robot.describe(plan_at("vision")))
    late.check(robot.describe(plan_at("qformer")))
    for point in ("vit.3", "input"):
        with pytest.raises(CodecError, match=f"'{point}' is before 'vision'.*first_split: {point}"):
            late.check(robot.describe(plan_at(point)))


def test_another_models_stream_is_refused(edge, other_checkpoint):
    stranger = RobotHalf(load(other_checkpoint, last="qformer"), "/stranger")
    with pytest.raises(CodecError, match=r"'/stranger' runs model .*give both the same model"):
        edge.check(stranger.describe(plan_at("qformer")))


def test_streams_that_contradict_the_model_are_refused(robot, edge):
    stream = robot.describe(plan_at("qformer"))
    with pytest.raises(CodecError, match=r"shape \(4, 25\) at 'qformer' is not the model's \(4, 24\)"):
        edge.check(msgspec.structs.replace(stream, shape=(4, 25)))
    with pytest.raises(CodecError, match=r"nothing to finish after split point 'output'"):
        edge.check(msgspec.structs.replace(stream, plan=Plan("output")))
    with pytest.raises(CodecError, match=r"nothing to finish after split point 'vit.4'"):
        edge.check(msgspec.structs.replace(stream, plan=replace(stream.plan, split_point="vit.4")))


def test_the_prompt_must_fit_the_wire(robot):
    with pytest.raises(CodecError, match="prompt 1 has 2000 characters"):
        robot.describe(plan_at("qformer"), ("?" * 2000,))


def test_the_weights_go_when_the_halves_go(checkpoint):
    """Without waiting for the garbage collector: a model may fill the memory."""
    robot, edge = RobotHalf(load(checkpoint, last="qformer"), "/robot"), EdgeHalf(load(checkpoint))
    finished(edge, sent(robot, picture(0), plan_at("qformer")))
    models = weakref.ref(robot.model), weakref.ref(edge.model)
    gc.disable()
    try:
        del robot, edge
        assert [model() for model in models] == [None, None]
    finally:
        gc.enable()
