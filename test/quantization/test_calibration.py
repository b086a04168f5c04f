"""Pictures for pruning: what the model makes of them, that packing uses them, and that it helps."""

from __future__ import annotations

import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from block_samples import weights_of
from transformers import Blip2ForConditionalGeneration, BlipImageProcessorPil

from laim_ros.models import load
from laim_ros.models.random_checkpoint import Blip2Sizes, make_random_blip2
from laim_ros.models.source import ModelSource, find_source
from laim_ros.paths import checkpoints_directory
from laim_ros.quantization import Heads
from laim_ros.quantization.calibration import Calibration
from laim_ros.quantization.errors import QuantizationError
from laim_ros.quantization.pruning import Pruning, prune_magnitude, prune_tower
from laim_ros.quantization.quantize import quantize
from laim_ros.quantization.storage.read import PackedStore
from laim_ros.quantization.storage.write import Packing
from laim_ros.quantization.stores import CheckpointStore
from laim_ros.scenes import render, sample_scene

BLOCKS = 4
BLOCK = "vision_model.encoder.layers.{}."
NAMES = ("qkv", "projection", "fc1", "fc2")
MODEL = "laim-mini-blip2"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sizes = Blip2Sizes(vision_width=48, vision_mlp=160, vision_blocks=BLOCKS)
    return make_random_blip2(tmp_path_factory.mktemp("checkpoint"), sizes)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of several sizes and formats, and what is none."""
    folder = tmp_path_factory.mktemp("pictures") / "kitchen"
    folder.mkdir()
    for seed in range(7):
        scene = render(sample_scene(seed, "held_out"), 60 + 11 * seed, 90).image
        assert cv2.imwrite(str(folder / f"{seed}.{'png' if seed % 2 else 'BMP'}"), scene[..., ::-1])
    (folder / "notes.txt").write_text("none")
    return folder


def pictures_in(folder: Path) -> list[np.ndarray]:
    paths = sorted(path for path in folder.iterdir() if path.suffix != ".txt")
    return [cv2.imread(str(path))[..., ::-1].copy() for path in paths]


def embedded(checkpoint: Path, pictures: list[np.ndarray]) -> torch.Tensor:
    """As a user of transformers would do it."""
    model = Blip2ForConditionalGeneration.from_pretrained(checkpoint).eval()
    pixels = BlipImageProcessorPil.from_pretrained(checkpoint)(images=pictures, return_tensors="pt").pixel_values
    with torch.no_grad():
        return model.vision_model.embeddings(pixels)


def relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float(((found - expected).abs().sum() / expected.abs().sum()).detach())


def test_the_tokens_are_what_the_embeddings_make_of_a_folder(checkpoint: Path, folder: Path) -> None:
    calibration = Calibration.of(ModelSource("random", checkpoint), str(folder))
    assert calibration.pictures == "7 pictures of kitchen"
    assert calibration.tokens.dtype == torch.float32
    assert torch.allclose(calibration.tokens, embedded(checkpoint, pictures_in(folder)), atol=1e-6)


@pytest.mark.parametrize(("pictures", "count"), [("scenes:1", 1), ("scenes:19", 19), ("scenes", 64)])
def test_scenes_are_the_first_of_those_for_training(checkpoint: Path, pictures: str, count: int) -> None:
    calibration = Calibration.of(ModelSource("random", checkpoint), pictures)
    assert calibration.pictures == f"{count} picture{'s' if count > 1 else ''} of scenes"
    drawn = [render(sample_scene(seed, "train"), 480, 640).image for seed in range(count)]
    assert torch.allclose(calibration.tokens, embedded(checkpoint, drawn), atol=1e-6)


def test_of_many_pictures_some_are_taken_all_through(checkpoint: Path, tmp_path: Path) -> None:
    for number in range(130):
        cv2.imwrite(str(tmp_path / f"{number:03}.png"), np.full((9, 9, 3), number, np.uint8))
    calibration = Calibration.of(ModelSource("random", checkpoint), str(tmp_path))
    taken = [np.full((9, 9, 3), int(number * 130 / 64), np.uint8) for number in range(64)]
    assert torch.allclose(calibration.tokens, embedded(checkpoint, taken), atol=1e-6)


def test_a_picture_that_cannot_be_read_is_named_and_skipped(checkpoint: Path, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "good.png").write_bytes((folder / "1.png").read_bytes())
    (tmp_path / "torn.jpg").write_bytes(b"\xff\xd8")
    told: list[str] = []
    calibration = Calibration.of(ModelSource("random", checkpoint), str(tmp_path), told.append)
    assert len(calibration.tokens) == 1
    assert told == [f"picture '{tmp_path / 'torn.jpg'}' is skipped: it cannot be read"]


@pytest.mark.parametrize(
    ("pictures", "told"),
    [
        ("no/such", "pictures 'no/such': there is no such folder; give a folder of pictures, or scenes:64"),
        ("empty", "pictures 'empty': the folder holds none (.bmp, "),
        ("torn", "pictures 'torn': none of the pictures can be read; give another folder"),
        ("torn/torn.png", "there is no such folder"),
        ("scenes:0", "pictures 'scenes:0': '0' is no number of scenes from 1 to 1024; write for instance scenes:64"),
        ("scenes:", "'' is no number of scenes"),
        ("scenes:-3", "'-3' is no number of scenes"),
        ("scenes:1025", "'1025' is no number of scenes"),
        ("scenes:²", "'²' is no number of scenes"),
        ("", "there is no such folder"),
        ("~nobody/pictures", "there is no such folder"),
    ],
)
def test_bad_pictures_are_named(
    pictures: str, told: str, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "torn.png").write_bytes(b"none")
    with pytest.raises(QuantizationError, match=re.escape(told)):
        Calibration.of(ModelSource("random", checkpoint), pictures)


@pytest.mark.parametrize("prune", ["neurons:0.5", "heads:0.25,neurons:0.25,blocks:1", "blocks:2", "heads:0.5,blocks:1"])
@pytest.mark.parametrize("magnitude", [0.0, 0.3])
def test_a_packed_head_is_the_pruned_tower_quantized(
    checkpoint: Path, folder: Path, tmp_path: Path, prune: str, magnitude: float
) -> None:
    source, structured = ModelSource("random", checkpoint), Pruning.parse(prune)
    pruning = Pruning.parse(f"{prune},magnitude:{magnitude}")
    calibration = Calibration.of(source, str(folder))
    Packing(source, 8, "uniform_absmax", pruning=pruning, calibration=calibration).write(tmp_path / "packed")
    store = PackedStore(find_source(str(tmp_path / "packed")), 8)
    assert (store.manifest.prune, store.manifest.calibration) == (str(pruning), "7 pictures of kitchen")

    layers = Blip2ForConditionalGeneration.from_pretrained(checkpoint).eval().vision_model.encoder.layers
    blocks = [weights_of(layer) for layer in layers]
    tokens = embedded(checkpoint, pictures_in(folder))
    with torch.no_grad():
        pruned = list(prune_tower(blocks.__getitem__, BLOCKS, structured, tokens))
    assert pruned.count(None) == structured.blocks
    for index, expected in enumerate(pruned):
        block = store.block(BLOCK.format(index))
        if expected is None:
            assert block is None
            continue
        assert (block.heads, block.head_width) == (expected.heads, expected.head_width)
        for name in NAMES:
            found, wanted = getattr(block, name), getattr(expected, name)
            weight = prune_magnitude(wanted.weight, magnitude)
            # The embeddings may differ in the last digit.
            assert relative(found.weight.dequantize(), quantize(weight, 8, "uniform_absmax").dequantize()) < 1e-3
            assert torch.allclose(found.bias, wanted.bias, atol=1e-4)


def test_blocks_come_in_any_order_and_again(checkpoint: Path, folder: Path) -> None:
    source, pruning = ModelSource("random", checkpoint), Pruning(neurons=0.5, blocks=1)
    calibration = Calibration.of(source, str(folder))
    store = CheckpointStore(source, 32, pruning=pruning, calibration=calibration)
    (gone,) = store.dropped
    left = [index for index in range(BLOCKS) if index != gone]
    first = {index: store.block(BLOCK.format(index)).fc2.weight for index in left}
    for index in (left[1], left[1], left[0], left[2]):
        assert torch.equal(store.block(BLOCK.format(index)).fc2.weight, first[index])
    assert store.block(BLOCK.format(gone)) is None


def test_pictures_of_nothing_finite_name_the_block(checkpoint: Path) -> None:
    calibration = Calibration(torch.full((2, 17, 48), torch.nan), "none")
    store = CheckpointStore(
        ModelSource("random", checkpoint), 32, pruning=Pruning(neurons=0.5), calibration=calibration
    )
    for _ in range(2):  # and it is no other error the second time
        with pytest.raises(QuantizationError, match=r"model 'random': .*layers\.1\.: pruning with pictures: NaN"):
            store.block(BLOCK.format(1))


def test_without_pictures_the_manifest_names_none(checkpoint: Path, tmp_path: Path) -> None:
    Packing(ModelSource("random", checkpoint), 2, "uniform", pruning=Pruning(heads=0.5)).write(tmp_path / "packed")
    assert json.loads((tmp_path / "packed" / "quantization.json").read_text())["calibration"] == ""


@pytest.mark.skipif(not (checkpoints_directory() / MODEL).is_dir(), reason=f"{MODEL} is not in this tree")
def test_with_pictures_less_is_lost_of_what_the_model_says(tmp_path: Path) -> None:
    model = load(MODEL, last="qformer")
    shown = [model.resize(render(sample_scene(seed, "held_out"), 480, 640).image) for seed in range(12)]
    batch = torch.from_numpy(np.stack(shown))
    wanted = model.run(batch, "input", "qformer")
    errors = {}
    source = find_source(MODEL)
    for name, calibration in (("blind", None), ("seeing", Calibration.of(source, "scenes:32"))):
        packing = Packing(source, 8, "uniform", pruning=Pruning(neurons=0.25), calibration=calibration)
        packing.write(tmp_path / name)
        head = Heads(str(tmp_path / name), device="cpu", engine="torch").load(8)
        errors[name] = relative(head.run(batch, "input", "qformer"), wanted)
    assert errors["seeing"] < 0.6 * errors["blind"]
