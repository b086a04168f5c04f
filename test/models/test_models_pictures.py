"""Pictures are prepared exactly as transformers' own image processor does."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from transformers import BlipImageProcessorPil

from laim_ros.models import ModelError, load
from laim_ros.models.pictures import PicturePreparation

SETTINGS = {
    "default": {},
    "own constants": {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.1], "rescale_factor": 1 / 127.5},
    "not square": {"size": {"height": 31, "width": 57}},
    "bilinear": {"resample": 2},
    "nearest": {"resample": 0},
}
SIZES = [(480, 640), (1080, 1920), (1, 1), (3, 200), (31, 57), (28, 28), (17, 13)]


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_resize_and_pixel_values_are_equal_to_the_bit(settings):
    settings = {"size": {"height": 28, "width": 28}, **settings}
    ours, theirs = PicturePreparation.from_config(settings, "here"), BlipImageProcessorPil(**settings)
    for height, width in SIZES:
        image = np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)
        only_resized = theirs(image, do_rescale=False, do_normalize=False, input_data_format="channels_last")
        resized = ours.resize(image)
        assert resized.dtype == np.uint8
        np.testing.assert_array_equal(resized, only_resized["pixel_values"][0].transpose(1, 2, 0))
        expected = theirs(image, return_tensors="pt", input_data_format="channels_last")["pixel_values"]
        assert torch.equal(ours.pixel_values(torch.from_numpy(resized)[None]), expected)


def test_a_picture_that_is_not_contiguous_is_fine():
    ours = PicturePreparation.from_config({"size": 28}, "here")
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    np.testing.assert_array_equal(ours.resize(image[:, ::-1]), ours.resize(np.ascontiguousarray(image[:, ::-1])))
    assert ours.resize(image).flags.writeable


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((0, 10, 3), np.uint8), "10 × 0 pixels"),
        (np.zeros((10, 0, 3), np.uint8), "0 × 10 pixels"),
        (np.zeros((10, 10), np.uint8), "uint8 array"),
        (np.zeros((10, 10, 4), np.uint8), r"\(10, 10, 4\)"),
        (np.zeros((10, 10, 3), np.float32), "float32"),
        ([[0]], "list"),
    ],
)
def test_what_is_no_picture_is_refused(image, message):
    with pytest.raises(ModelError, match=message):
        PicturePreparation.from_config({}, "here").resize(image)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"do_center_crop": True}, "do_center_crop true"),
        ({"do_pad": True}, "do_pad true"),
        ({"do_resize": False}, "do_resize false"),
        ({"do_normalize": False}, "do_normalize false"),
        ({"do_rescale": False}, "do_rescale false"),
        ({"size": {"shortest_edge": 224}}, "height and width"),
        ({"size": {"height": 0, "width": 10}}, "positive"),
        ({"image_mean": [0.5, 0.5]}, "per channel"),
        ({"image_std": [0.5, 0.0, 0.5]}, "positive"),
        ({"rescale_factor": "a lot"}, "a lot"),
        ({"resample": 77}, "77"),
        ({"image_processor_type": "CLIPImageProcessor"}, "CLIPImageProcessor"),
    ],
)
def test_a_preparation_that_is_not_carried_out_is_refused(settings, message):
    with pytest.raises(ModelError, match=f"here: .*{message}"):
        PicturePreparation.from_config(settings, "here")


def test_both_places_of_the_configuration_are_read(make_checkpoint):
    """Older checkpoints have preprocessor_config.json; where there are both, transformers takes the nested one."""
    folder = make_checkpoint()
    nested = json.loads((folder / "processor_config.json").read_text())
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    old = {**nested["image_processor"], "resample": 0}
    (folder / "preprocessor_config.json").write_text(json.dumps(old))
    for expected in (nested["image_processor"], old):
        assert BlipImageProcessorPil.from_pretrained(folder).resample == expected["resample"]
        resized = load(str(folder), last="input").resize(image)
        np.testing.assert_array_equal(resized, PicturePreparation.from_config(expected, "here").resize(image))
        del nested["image_processor"]
        (folder / "processor_config.json").write_text(json.dumps(nested))
        nested = {"image_processor": {}}
