"""Codec `klt` between the halves: the same texts, calibrations that must agree, and differences over a bad link."""

from __future__ import annotations

import sys
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from laim_ros.codec import HEADER_BYTES, CodecError, Codecs, Packet, unpack
from laim_ros.codec.prediction import MOST_IN_A_ROW, References
from laim_ros.coinference import EdgeHalf, RobotHalf
from laim_ros.models import Generation, load
from laim_ros.plan import Plan

sys.path.insert(0, str(Path(__file__).parents[1] / "codec"))

from made_calibration import made_calibration


def picture(seed: int) -> np.ndarray:
    """Flat colours with a bright corner, all different."""
    random = np.random.default_rng(seed)
    image = np.tile(random.integers(0, 255, 3, np.uint8), (40, 60, 1))
    image[: 10 + seed, : 5 + 3 * seed] = 255 - image[0, 0]
    return image


@pytest.fixture(scope="module")
def model(checkpoint):
    return load(checkpoint)


@pytest.fixture(scope="module")
def features(model) -> np.ndarray:
    """Of eight pictures, after the Q-Former."""
    half = RobotHalf(model, "/robot")
    return np.stack([half.features(picture(seed), "qformer")[0] for seed in range(8)])


@pytest.fixture
def halves(model, features) -> tuple[RobotHalf, EdgeHalf]:
    """Both calibrated after the Q-Former, each for itself."""
    calibrations = {"qformer": made_calibration(features)}
    return RobotHalf(model, "/robot", codecs=Codecs(calibrations)), EdgeHalf(model, Codecs(calibrations))


def packed(robot: RobotHalf, stream, sequence: int, frame: np.ndarray, **limits: int | None) -> Packet:
    return unpack(robot.pack(stream, sequence, frame, time.perf_counter(), **limits))


def test_texts_are_those_of_the_unsplit_model(halves, unsplit):
    robot, edge = halves
    stream = robot.describe(Plan(codec="klt"), ("", "a"))
    edge.check(stream)
    for seed in range(3):
        features, _ = robot.features(picture(seed), "qformer")
        packet = packed(robot, stream, seed, features)
        assert len(packet.payload) < len(packed(robot, robot.describe(Plan()), seed, features).payload)
        texts = edge.finish([(stream, edge.decode(stream, packet.payload, seed))], Generation(max_new_tokens=8))
        assert texts == [unsplit.texts(picture(seed), ("", "a"))]


def test_without_the_calibration_both_sides_refuse_and_say_what_would_help(halves, model, features):
    robot, edge = halves
    stream = robot.describe(Plan(codec="klt12"))
    with pytest.raises(CodecError, match="codec klt is not calibrated at 'vision'"):
        robot.check(Plan("vision", codec="klt"))
    with pytest.raises(CodecError, match="needs a calibration of the model at 'qformer', and there is none here"):
        EdgeHalf(model, Codecs({})).check(stream)
    other = EdgeHalf(model, Codecs({"qformer": made_calibration(2 * features)}))
    with pytest.raises(CodecError, match=r"'/robot' codes 'qformer' with calibration \w+, here is \w+; give both"):
        other.check(stream)
    edge.check(stream)
    assert not robot.describe(Plan("vision"), predictive=True).predictive, "plain codes every frame by itself"


def test_a_limit_of_bytes_holds_for_the_whole_packet_and_the_edge_needs_no_word_of_it(halves, features):
    robot, edge = halves
    stream, frame = robot.describe(Plan(codec="klt")), features[3]
    free = robot.pack(stream, 1, frame, 0.0)
    errors = []
    for most_bytes in (len(free), 2 * len(free) // 3, HEADER_BYTES + 8):
        packet = robot.pack(stream, 1, frame, 0.0, most_bytes=most_bytes)
        assert len(packet) <= most_bytes
        errors.append(float(np.abs(edge.decode(stream, unpack(packet).payload) - frame).mean()))
    assert errors == sorted(set(errors)), "the fewer bytes, the coarser"
    for plan in (Plan(), Plan("input", codec="jpeg90")):
        big = frame if plan.split_point == "qformer" else np.zeros(robot.model.boundary_shape("input"), np.uint8)
        with pytest.raises(CodecError, match=r"\d+"):
            robot.pack(robot.describe(plan), 1, big, 0.0, most_bytes=HEADER_BYTES + 1)


def test_differences_over_a_link_that_loses_a_fifth_cost_fewer_bytes_and_only_lost_frames(halves, features):
    robot, edge = halves
    random, frames = np.random.default_rng(0), 240
    # From one picture's features to the next one's, slowly.
    where = np.linspace(0, len(features) - 1.001, frames)
    path = [(1 - at % 1) * features[int(at)] + at % 1 * features[int(at) + 1] for at in where]
    path = [np.float32(each + random.normal(0, 0.002, each.shape)) for each in path]
    arrives = random.random(frames) > 0.2
    plan = Plan(codec="klt20")
    alone, stream = robot.describe(plan), robot.describe(plan, predictive=True)
    references, referred, sizes, errors, intra = References(), [], [], [], []
    for sequence, frame in enumerate(path):
        if sequence >= 2 and arrives[sequence - 2]:  # answers take two frames
            references.confirmed(sequence - 2)
        referred.append(references.next(stream.stream_id))
        packet = packed(robot, stream, sequence, frame, reference=referred[-1])
        references.sent(stream.stream_id, sequence, referred[-1])
        sizes.append(len(packet.payload))
        decoded_alone = edge.decode(alone, packed(robot, alone, sequence, frame).payload)
        intra.append((len(packed(robot, alone, sequence, frame).payload), np.square(decoded_alone - frame).mean()))
        if arrives[sequence]:
            errors.append(np.square(edge.decode(stream, packet.payload, packet.sequence) - frame).mean())
    intra_bytes, intra_errors = np.array(intra).T
    assert np.sum(sizes) < 0.9 * intra_bytes.sum()
    assert np.mean(errors) < 1.1 * intra_errors.mean()
    by_themselves = [-1, *(number for number, reference in enumerate(referred) if reference is None)]
    assert max(after - before for before, after in pairwise(by_themselves)) <= MOST_IN_A_ROW + 1
    # One after each loss (or after several at once), as soon as a later frame's answer tells of it.
    for lost in np.flatnonzero(~arrives[:-20]):
        told = lost + 1 + int(np.argmax(arrives[lost + 1 :])) + 2
        assert None in referred[lost + 1 : told + 1], lost
    assert len(by_themselves) <= np.count_nonzero(~arrives) + frames // MOST_IN_A_ROW


def test_an_edge_without_the_reference_refuses_one_frame_and_goes_on_with_the_next(halves, model, features):
    robot, edge = halves
    stream, references = robot.describe(Plan(codec="klt20"), predictive=True), References()

    def send(sequence: int, to: EdgeHalf) -> None:
        reference = references.next(stream.stream_id)
        packet = packed(robot, stream, sequence, features[0], reference=reference)
        references.sent(stream.stream_id, sequence, reference)
        to.decode(stream, packet.payload, packet.sequence)
        references.confirmed(sequence)

    send(6, edge)
    send(7, edge)
    new_edge = EdgeHalf(model, Codecs(edge.codecs.calibrations))
    with pytest.raises(CodecError, match="frame 8 refers to frame 7, which was not decoded here"):
        send(8, new_edge)
    references.lost(8)
    send(9, new_edge)
    send(10, new_edge)
