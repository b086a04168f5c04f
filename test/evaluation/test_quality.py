"""Every row of the table, held against the unsplit transformers model that is given what the packets carry."""

from __future__ import annotations

import time
from collections import Counter

import numpy as np
import pytest
from unsplit_tower import UnsplitTower

from laim_ros.codec import codec_for, unpack
from laim_ros.coinference import EdgeHalf, RobotHalf
from laim_ros.evaluation.errors import EvaluationError
from laim_ros.evaluation.frames import Frames
from laim_ros.evaluation.grid import Grid, usual_split_points
from laim_ros.evaluation.quality import Meter
from laim_ros.models import SplitModel, load
from laim_ros.parameters import DEFAULT_MODEL
from laim_ros.paths import checkpoints_directory
from laim_ros.plan import Plan
from laim_ros.quantization import Heads
from laim_ros.scenes import caption_truth

FOLDER = checkpoints_directory() / DEFAULT_MODEL
PLACES = {"vit.2": "vision_model.encoder.layers.1", "vision": "vision_model.post_layernorm", "qformer": "qformer"}


@pytest.fixture(scope="module")
def whole() -> UnsplitTower:
    return UnsplitTower(FOLDER)


def received(robot: RobotHalf, plan: Plan, pictures: np.ndarray) -> tuple[list[int], np.ndarray]:
    """Sizes of the packets of single frames, and what is in them."""
    stream, sizes, decoded = robot.describe(plan), [], []
    for number, picture in enumerate(pictures):
        packet = robot.pack(stream, number, robot.features(picture, plan.split_point)[0], time.perf_counter())
        sizes.append(len(packet))
        calibration = robot.codecs.calibration(plan)
        decoded.append(codec_for(stream, calibration).decode(unpack(packet).payload))
    return sizes, np.stack(decoded)


@pytest.mark.parametrize(
    "plan",
    [
        Plan("input", 32, 32, "jpeg5"),
        Plan("vit.2", 32, 1),
        Plan("vision", 2, 2),
        Plan("vision", 32, 32, "klt15"),
        Plan("qformer", 2, 3),
        Plan("qformer", 2, 2, "klt"),
        Plan("output", 2, 32),
    ],
    ids=lambda plan: f"{plan.split_point} {plan.codec}",
)
def test_a_row_is_what_the_unsplit_model_makes_of_the_packets(
    plan: Plan, whole: UnsplitTower, trained: SplitModel, scenes: Frames
) -> None:
    heads = Heads(DEFAULT_MODEL, device="cpu", engine="float")
    (row,) = Meter(EdgeHalf(trained), heads, scenes).rows([plan])
    expected, same = whole.outcome(scenes.pixels)
    if plan.split_point == "output":
        other = UnsplitTower(FOLDER)
        other.quantize_head(plan.weight_bits)
        sizes, (features, texts) = [0], other.outcome(scenes.pixels)
    else:
        robot = RobotHalf(heads.load(plan.weight_bits), "test")
        sizes, decoded = received(robot, plan, scenes.pixels)
        if plan.split_point == "input":
            features, texts = whole.outcome(decoded)
        else:
            features, texts = whole.outcome(scenes.pixels, PLACES[plan.split_point], decoded)
            if plan.split_point == "qformer":
                features = decoded
    assert (row.split_point, row.weight_bits, row.feature_bits, row.codec) == (
        *(plan.split_point, plan.weight_bits, plan.feature_bits),
        plan.codec,
    )
    # Frames that run together round otherwise in the last digit.
    assert row.packet_bytes == pytest.approx(np.mean(sizes), rel=0.005, abs=0.1)
    assert row.packet_bytes_p95 == pytest.approx(np.quantile(sizes, 0.95), rel=0.01, abs=0.1)
    assert row.distortion == pytest.approx(np.abs(features - expected).sum() / np.abs(expected).sum(), rel=0.02)
    assert row.distortion > 0.01
    assert row.same_share == pytest.approx(np.mean([a == b for a, b in zip(texts, same, strict=True)]), abs=1e-6)
    complete = [caption_truth(text, scene).complete for text, scene in zip(texts, scenes.scenes, strict=True)]
    assert row.true_share == pytest.approx(np.mean(complete), abs=1e-6)


def test_the_reference_is_the_unsplit_model(whole: UnsplitTower, trained: SplitModel, scenes: Frames) -> None:
    meter = Meter(EdgeHalf(trained), Heads(DEFAULT_MODEL, device="cpu"), scenes)
    texts = whole.outcome(scenes.pixels)[1]
    complete = [caption_truth(text, scene).complete for text, scene in zip(texts, scenes.scenes, strict=True)]
    assert meter.true_share == pytest.approx(np.mean(complete), abs=1e-6)
    assert meter.cider_d > 2


def test_full_width_changes_nothing_at_any_split_point(
    random_edge: EdgeHalf, random_heads: Heads, noise: Frames
) -> None:
    points = random_edge.model.split_points
    plans = Grid(points, (32,), (32,)).plans()
    rows = [row for row in Meter(random_edge, random_heads, noise).rows(plans) if row.split_point != "input"]
    assert [row.split_point for row in rows] == list(points[1:])
    assert {(row.same_share, row.distortion) for row in rows} == {(1.0, 0.0)}
    assert {(row.true_share, row.cider_d) for row in rows} == {(None, None)}
    floats = 4 * 17 * 32
    assert [row.packet_bytes for row in rows] == [24 + floats] * 4 + [24 + 4 * 4 * 24, 0]


def test_heads_and_captions_are_made_once(
    random_edge: EdgeHalf, random_heads: Heads, noise: Frames, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: Counter = Counter()

    def counted(what: type, name: str) -> None:
        original = getattr(what, name)

        def call(self: object, *given: object, **named: object) -> object:
            calls[f"{name} {given[0]} {named}" if what is Heads else name] += 1
            return original(self, *given, **named)

        monkeypatch.setattr(what, name, call)

    counted(Heads, "load")
    counted(EdgeHalf, "finish")
    plans = Grid(("vit.2", "qformer", "output"), (4, 32), (32,)).plans()
    rows = list(Meter(random_edge, random_heads, noise).rows(plans))
    assert len(rows) == 6
    # Two batches of the reference, which are those of 32 bits, and of the head of 4 bits: vit.2 and the Q-Former's.
    assert calls == {"load 4 {'last': 'qformer'}": 1, "load 32 {'last': 'qformer'}": 1, "finish": 2 + 2 * 2}


def test_the_work_that_is_told_is_the_work_that_was_promised(
    random_edge: EdgeHalf, random_heads: Heads, noise: Frames
) -> None:
    points, told = random_edge.model.split_points, []
    plans = Grid(usual_split_points(points), (2, 32), (1, 8), ("jpeg50",)).plans()
    meter = Meter(random_edge, random_heads, noise, told.append)
    reference = sum(told)
    assert len(list(meter.rows(plans))) == len(plans)
    assert 0 < reference < sum(told) == Meter.work(plans, points, len(noise.pixels))


def test_an_edge_without_its_beginning_is_no_reference(checkpoint: str, random_heads: Heads, noise: Frames) -> None:
    late = EdgeHalf(load(checkpoint, first="vision"))
    with pytest.raises(EvaluationError, match="begins after 'vision'"):
        Meter(late, random_heads, noise)
