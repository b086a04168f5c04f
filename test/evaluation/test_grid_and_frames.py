"""Which plans are measured, and on which pictures."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from laim_ros.evaluation.errors import EvaluationError
from laim_ros.evaluation.frames import FOR_CODEC, FOR_TABLE, Frames, picture_frames, scene_frames
from laim_ros.evaluation.grid import PICTURES, Grid, usual_split_points
from laim_ros.models import SplitModel
from laim_ros.models.base import split_points
from laim_ros.plan import Plan
from laim_ros.planning.quality import plan_key
from laim_ros.scenes import render, sample_scene


def test_every_combination_that_makes_sense_is_there_once() -> None:
    plans = Grid(("input", "vit.1", "output"), (2, 32), (1, 8), ("jpeg10", "jpeg90", "plain")).plans()
    assert set(plans) == {
        *(Plan("input", 32, 32, "jpeg10"), Plan("input", 32, 32, "jpeg90")),
        *(Plan("vit.1", 2, 1), Plan("vit.1", 2, 8), Plan("vit.1", 32, 1), Plan("vit.1", 32, 8)),
        *(Plan("output", 2, 32), Plan("output", 32, 32)),
    }
    assert len({plan_key(plan) for plan in plans}) == len(plans) == 8


def test_a_kind_of_codec_that_is_not_named_is_the_usual_one() -> None:
    named = Grid(("input", "qformer"), (32,), (8,), ("jpeg33",)).plans()
    assert [plan.codec for plan in named] == ["jpeg33", "plain"]
    assert [plan.codec for plan in Grid(("input",), codecs=("plain", "klt")).plans()] == list(PICTURES)
    assert {codec.rstrip("0123456789") for codec in PICTURES} == {"jpeg", "webp"}


def test_features_are_coded_by_klt_where_it_is_calibrated_and_takes_so_many_bits() -> None:
    plans = Grid(("vit.1", "qformer"), (32,), (2, 8, 16), calibrated={"qformer"}).plans()
    assert [(plan.split_point, plan.codec, plan.feature_bits) for plan in plans] == [
        *(("vit.1", "plain", 2), ("vit.1", "plain", 8), ("vit.1", "plain", 16)),
        *(("qformer", "klt", 2), ("qformer", "klt", 8), ("qformer", "plain", 16)),
    ]
    named = Grid(("qformer",), (32,), (2, 8), ("klt12", "plain", "klt30"), calibrated={"qformer"}).plans()
    assert [(plan.codec, plan.feature_bits) for plan in named] == [
        *(("klt12", 32), ("plain", 2), ("plain", 8), ("klt30", 32))
    ]
    assert len({plan_key(plan) for plan in named}) == 4


def test_the_usual_split_points_are_the_ends_and_the_middle() -> None:
    assert usual_split_points(split_points(1)) == ("input", "vit.1", "vision", "qformer", "output")
    assert usual_split_points(split_points(4))[1] == "vit.2"
    assert usual_split_points(split_points(39))[1] == "vit.20"


def test_scenes_are_the_held_out_ones_at_the_models_size(trained: SplitModel, scenes: Frames) -> None:
    told: list[int] = []
    again = scene_frames(2, trained.resize, told.append)
    assert told == [1, 2]
    assert again.scenes == (sample_scene(0, "held_out"), sample_scene(1, "held_out"))
    picture = trained.resize(render(sample_scene(1, "held_out"), 480, 640).image)
    assert np.array_equal(again.pixels[1], picture)
    assert np.array_equal(again.pixels, scenes.pixels[:2])
    assert again.digest != scenes.digest
    assert again.digest == Frames(again.pixels.copy(), "other name").digest
    others = scene_frames(1, trained.resize, split="train")
    assert (others.scenes, others.source) == ((sample_scene(0, "train"),), "training scenes")


def test_of_many_pictures_some_are_taken_evenly(tmp_path: Path, trained: SplitModel) -> None:
    for number in range(6):
        assert cv2.imwrite(str(tmp_path / f"{number}.png"), np.full((30, 40, 3), 40 * number, np.uint8))
    (tmp_path / "2.png").write_bytes(b"")
    told: list[str] = []
    frames = picture_frames(tmp_path, trained.resize, told.append, most=3)
    assert frames.pixels.mean(axis=(1, 2, 3)).tolist() == [0, 160]
    assert frames.source == f"pictures of {tmp_path.name}"
    assert not frames.scenes
    assert told == [
        f"3 of 6 pictures in '{tmp_path}' are taken, evenly spread",
        f"picture '{tmp_path / '2.png'}' is skipped: it cannot be read",
    ]
    for_table, for_codec = (picture_frames(tmp_path, trained.resize, part=part) for part in (FOR_TABLE, FOR_CODEC))
    assert for_table.pixels.mean(axis=(1, 2, 3)).tolist() == [0, 160]
    assert for_codec.pixels.mean(axis=(1, 2, 3)).tolist() == [40, 120, 200]


def test_folders_without_pictures_are_refused(tmp_path: Path, trained: SplitModel) -> None:
    with pytest.raises(EvaluationError, match="there is no such folder"):
        picture_frames(tmp_path / "none", trained.resize)
    with pytest.raises(EvaluationError, match="the folder holds none"):
        picture_frames(tmp_path, trained.resize)
    (tmp_path / "torn.png").write_bytes(b"torn")
    with pytest.raises(EvaluationError, match="none of the pictures can be read"):
        picture_frames(tmp_path, trained.resize)
