"""Packed folders and checkpoints that are damaged: one clear error, nothing half-loaded and nothing half-written."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from laim_ros.models import ModelError
from laim_ros.models.identity import model_id
from laim_ros.models.random_checkpoint import make_random_blip2
from laim_ros.models.source import ModelSource, find_source
from laim_ros.quantization.errors import QuantizationError
from laim_ros.quantization.pruning import Pruning
from laim_ros.quantization.storage.read import PackedStore
from laim_ros.quantization.storage.write import Packing
from laim_ros.quantization.stores import CheckpointStore

BLOCK = "vision_model.encoder.layers.0."
FC1 = f"{BLOCK}mlp.fc1.weight"
QUERY = "qformer.encoder.layer.0.attention.attention.query"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_random_blip2(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="module")
def whole(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A packed folder that is in order; not to be changed."""
    folder = tmp_path_factory.mktemp("whole") / "packed"
    Packing(ModelSource("checkpoint", checkpoint), 4, "uniform_absmax").write(folder)
    return folder


@pytest.fixture(scope="module")
def nested(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One of 8 uniform bits with all fewer ones; not to be changed."""
    folder = tmp_path_factory.mktemp("nested") / "packed"
    Packing(ModelSource("checkpoint", checkpoint), 8, "uniform").write(folder)
    return folder


@pytest.fixture
def packed(whole: Path, tmp_path: Path) -> Path:
    """A packed folder to spoil."""
    return shutil.copytree(whole, tmp_path / "packed")


def opened(folder: Path) -> PackedStore:
    return PackedStore(find_source(str(folder)), 4)


def edit(folder: Path, **fields: object) -> None:
    path = folder / "quantization.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def without(folder: Path, field: str) -> None:
    path = folder / "quantization.json"
    content = json.loads(path.read_text())
    del content[field]
    path.write_text(json.dumps(content))


def cut(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])


@pytest.mark.parametrize("size", [0, 5, 100, -1])
def test_a_truncated_file_is_noticed_before_anything_is_read(packed: Path, size: int) -> None:
    cut(packed / "model.safetensors", size)
    with pytest.raises((QuantizationError, ModelError), match=r"model\.safetensors"):
        opened(packed)


def test_a_longer_file_is_noticed(packed: Path) -> None:
    with (packed / "model.safetensors").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(QuantizationError, match=r"bytes, where quantization\.json says"):
        opened(packed)


@pytest.mark.parametrize("version", [0, 2, "1", None, [1]])
def test_another_version_is_refused(packed: Path, version: object) -> None:
    edit(packed, version=version)
    with pytest.raises(QuantizationError, match="this version of laim_ros reads format 1; pack it again"):
        opened(packed)


@pytest.mark.parametrize(
    "fields",
    [
        {"version": True},
        {"bits": 0},
        {"bits": 9},
        {"bits": "4"},
        {"quantizer": "cubic"},
        {"granularity": "row"},
        {"prune": "half"},
        {"calibration": 64},
        {"calibration": "pictures" * 200},
        {"blocks": []},
        {"blocks": [{"heads": 0, "head_width": 8, "neurons": 64}] * 3},
        {"blocks": [{"heads": 4, "head_width": 8, "neurons": 10**9}] * 3},
        {"blocks": 3},
        {"file_bytes": -1},
        {"nested": 1},
        {"other": 1},
    ],
)
def test_a_manifest_out_of_bounds_is_refused(packed: Path, fields: dict[str, object]) -> None:
    edit(packed, **fields)
    with pytest.raises(QuantizationError, match=r"quantization\.json cannot be used: .*; pack it again"):
        opened(packed)


@pytest.mark.parametrize(
    "fields",
    [
        {"granularity": "tensor"},
        {"quantizer": "exponential"},
        {"prune": "heads:0.5"},
        {"calibration": "64 pictures of scenes"},
        {"nested": True},
        {"blocks": [None, None, None]},
        {"blocks": [{"heads": 2, "head_width": 8, "neurons": 64}] * 3},
    ],
)
def test_a_manifest_of_another_file_is_refused(packed: Path, fields: dict[str, object]) -> None:
    edit(packed, **fields)
    with pytest.raises(QuantizationError, match="do not belong together"):
        opened(packed)


@pytest.mark.parametrize(
    ("field", "value"),
    [("model", None), ("model", 7), *(("model_id", value) for value in (None, 7, "", "A" * 32, "../..", "0" * 33))],
)
def test_without_a_source_model_it_is_nothing(packed: Path, field: str, value: object) -> None:
    edit(packed, **{field: value})
    for use in (opened, lambda folder: model_id(find_source(str(folder)))):
        with pytest.raises(ModelError, match="names no source model"):
            use(packed)


@pytest.mark.parametrize("field", ["bits", "blocks", "file_bytes", "quantizer"])
def test_a_missing_field_is_named(packed: Path, field: str) -> None:
    without(packed, field)
    with pytest.raises(QuantizationError, match=field):
        opened(packed)


def test_blocks_of_another_model_are_refused(packed: Path, checkpoint: Path) -> None:
    edit(packed, blocks=[None])
    with pytest.raises(QuantizationError, match=r"1 blocks, where config\.json has 3"):
        opened(packed)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "\xff"])
def test_a_manifest_that_is_no_json_is_refused(packed: Path, text: str) -> None:
    (packed / "quantization.json").write_text(text, encoding="latin-1")
    with pytest.raises(ModelError, match=r"quantization\.json"):
        opened(packed)


def test_tensors_that_are_not_as_described_are_refused(packed: Path) -> None:
    """The same size and the same digest, but another tensor's name."""
    path = packed / "model.safetensors"
    path.write_bytes(path.read_bytes().replace(b"layers.0.mlp.fc1.weight.scale", b"layers.0.mlp.fc1.weight.Scale"))
    with pytest.raises(QuantizationError, match=r"does not hold 'vision_model\.encoder\.layers\.0\.mlp\.fc1\.weight"):
        opened(packed)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_missing_file_is_named(packed: Path, name: str) -> None:
    (packed / name).unlink()
    with pytest.raises(ModelError, match=name):
        opened(packed)


@pytest.mark.parametrize(
    ("key", "read"),
    [
        (f"{FC1}.scale", lambda store: store.block(BLOCK)),
        (f"{FC1}.lower_scales", lambda store: store.block(BLOCK)),
        (FC1.replace("weight", "bias"), lambda store: store.block(BLOCK)),
        (f"{BLOCK}layer_norm2.weight", lambda store: store.block(BLOCK)),
        (f"{BLOCK}layer_norm1.bias", lambda store: store.block(BLOCK)),
        (f"{QUERY}.bias", lambda store: store.linear(QUERY)),
        ("query_tokens", lambda store: store.tensor("query_tokens")),
    ],
)
@pytest.mark.parametrize("bits", [8, 3])
def test_floats_that_are_not_finite_are_named(
    nested: Path, tmp_path: Path, key: str, read: Callable[[PackedStore], object], bits: int
) -> None:
    folder = shutil.copytree(nested, tmp_path / "packed")
    source = find_source(str(folder))
    place = source.tensors[key]
    with (folder / "model.safetensors").open("r+b") as file:
        file.seek(place.begin)
        file.write(b"\xff" * 4)
    with pytest.raises(QuantizationError, match=rf": {re.escape(key)} holds NaN or infinite values; copy it again"):
        read(PackedStore(source, bits))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("key", [FC1, FC1.replace("weight", "bias"), "vision_model.post_layernorm.weight"])
def test_weights_that_are_not_finite_leave_nothing_behind(
    checkpoint: Path, tmp_path: Path, key: str, value: float
) -> None:
    folder = shutil.copytree(checkpoint, tmp_path / "broken")
    tensors = load_file(folder / "model.safetensors")
    tensors[key].view(-1)[3] = value
    save_file(tensors, folder / "model.safetensors")
    packing = Packing(ModelSource("broken", folder), 4, "uniform_absmax")
    with pytest.raises(QuantizationError, match=f"^model 'broken': {key}[: ].*holds NaN") as raised:
        packing.write(tmp_path / "out")
    assert str(raised.value).count("model 'broken'") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["broken"]


def test_constant_and_zero_weights_are_packed(checkpoint: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(checkpoint, tmp_path / "odd")
    tensors = load_file(folder / "model.safetensors")
    tensors[FC1].fill_(0.25)
    tensors[FC1][1] = 0
    save_file(tensors, folder / "model.safetensors")
    Packing(ModelSource("odd", folder), 4, "uniform").write(tmp_path / "packed")
    weight = opened(tmp_path / "packed").block("vision_model.encoder.layers.0.").fc1.weight.dequantize()
    assert torch.equal(weight, tensors[FC1])


def test_weights_of_another_shape_are_refused(checkpoint: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(checkpoint, tmp_path / "odd")
    config = json.loads((folder / "config.json").read_text())
    config["vision_config"]["intermediate_size"] = 96
    (folder / "config.json").write_text(json.dumps(config))
    told = r"^model 'odd': vision_model\.\S+\.fc1\.\w+ has shape \(64[^']*config\.json asks for \(96[^']*$"
    with pytest.raises(QuantizationError, match=told):
        Packing(ModelSource("odd", folder), 4, "uniform").write(tmp_path / "packed")
    assert not (tmp_path / "packed").exists()


def test_a_checkpoint_without_a_weight_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(checkpoint, tmp_path / "odd")
    tensors = load_file(folder / "model.safetensors")
    del tensors[FC1]
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(ModelError, match=f"lacks 1 weights that its config.json asks for: {FC1}"):
        Packing(ModelSource("odd", folder), 4, "uniform").write(tmp_path / "packed")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"bits": 16}, "16 bits"),
        ({"bits": 0}, "0 bits"),
        ({"quantizer": "cubic"}, "quantizer 'cubic'"),
        ({"granularity": "row"}, "granularity 'row'"),
        ({"granularity": "group:5"}, "groups of 5 do not divide"),
        ({"pruning": Pruning(blocks=3)}, "the vision tower has 3 blocks"),
        ({"pruning": Pruning(magnitude=0.5), "quantizer": "exponential"}, "no level at zero"),
    ],
)
def test_choices_that_cannot_be_had_are_refused_at_once(
    checkpoint: Path, arguments: dict[str, object], told: str
) -> None:
    choices: dict[str, object] = {"bits": 4, "quantizer": "uniform", **arguments}
    with pytest.raises(QuantizationError, match=told):
        Packing(ModelSource("checkpoint", checkpoint), **choices)


def test_another_activation_than_the_engines_have_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(checkpoint, tmp_path / "odd")
    config = json.loads((folder / "config.json").read_text())
    config["vision_config"]["hidden_act"] = "quick_gelu"
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(QuantizationError, match="asks for 'quick_gelu'"):
        CheckpointStore(ModelSource("odd", folder), 4)


def test_packing_twice_is_refused(packed: Path) -> None:
    with pytest.raises(QuantizationError, match="is packed already; give the model that it was made of: 'checkpoint'"):
        Packing(find_source(str(packed)), 2, "uniform")


@pytest.mark.parametrize("make", [Path.mkdir, lambda path: path.write_text("mine")])
def test_nothing_is_ever_overwritten(checkpoint: Path, tmp_path: Path, make: Callable[[Path], object]) -> None:
    out = tmp_path / "out"
    make(out)
    if out.is_dir():
        (out / "mine").write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(QuantizationError, match="exists already"):
        Packing(ModelSource("checkpoint", checkpoint), 4, "uniform").write(out)
    assert sorted(tmp_path.rglob("*")) == before


def test_an_empty_folder_is_taken(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    Packing(ModelSource("checkpoint", checkpoint), 4, "uniform_absmax").write(tmp_path / "out")
    assert opened(tmp_path / "out").manifest.bits == 4
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_an_interruption_leaves_nothing_behind(checkpoint: Path, tmp_path: Path) -> None:
    def interrupt(done: int) -> None:
        if done > 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Packing(ModelSource("checkpoint", checkpoint), 4, "uniform_absmax").write(tmp_path / "out", interrupt)
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written_is_named(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(QuantizationError, match=r"file/out cannot be written"):
        Packing(ModelSource("checkpoint", checkpoint), 4, "uniform_absmax").write(tmp_path / "file" / "out")
