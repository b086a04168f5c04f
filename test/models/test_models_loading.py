"""A half reads and holds its own stages only, strictly; what cannot be loaded is one clear error."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from laim_ros.models import Generation, ModelError, SplitModel, Stage, load, weights
from laim_ros.models.random_checkpoint import Blip2Sizes


@pytest.fixture
def read_keys(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of all tensors whose data is read from shards, in order."""
    keys: list[str] = []
    open_shard = weights.safe_open

    class Counting:
        def __init__(self, *arguments: object, **options: object) -> None:
            self._shard = open_shard(*arguments, **options)

        def __enter__(self) -> Counting:
            self._shard.__enter__()
            return self

        def __exit__(self, *error: object) -> None:
            self._shard.__exit__(*error)

        def get_tensor(self, key: str) -> torch.Tensor:
            keys.append(key)
            return self._shard.get_tensor(key)

    monkeypatch.setattr(weights, "safe_open", Counting)
    return keys


def stored(folder: Path) -> dict[str, torch.Tensor]:
    return {key: tensor for shard in folder.glob("*.safetensors") for key, tensor in load_file(shard).items()}


def bytes_of(tensors: dict[str, torch.Tensor], *prefixes: str) -> int:
    return sum(tensor.nbytes for key, tensor in tensors.items() if key.startswith(prefixes))


def batch(model: SplitModel, rows: int = 1) -> torch.Tensor:
    return torch.randint(0, 255, (rows, *model.boundary_shape("input")), dtype=torch.uint8)


def edit_config(folder: Path, filename: str, **changes: object) -> None:
    content = json.loads((folder / filename).read_text())
    (folder / filename).write_text(json.dumps({**content, **changes}))


@pytest.mark.parametrize("max_shard_size", ["50GB", "60KB"])
def test_the_robot_half_reads_no_weight_of_the_language_model(make_checkpoint, read_keys, max_shard_size):
    folder = make_checkpoint(max_shard_size=max_shard_size)
    tensors = stored(folder)
    model = load(str(folder), last="qformer")
    expected = {key for key in tensors if not key.startswith(("language_model.", "language_projection."))}
    assert sorted(read_keys) == sorted(expected)
    assert model.weight_bytes == bytes_of(tensors, "vision_model.", "query_tokens", "qformer.")
    assert [stage.name for stage in model.stages] == ["vit.1", "vit.2", "vit.3", "vision", "qformer"]
    assert model.tail is None


@pytest.mark.parametrize("max_shard_size", ["50GB", "60KB"])
def test_the_edge_half_reads_no_weight_of_the_vision_tower(make_checkpoint, read_keys, max_shard_size):
    folder = make_checkpoint(max_shard_size=max_shard_size)
    tensors = stored(folder)
    model = load(str(folder), first="qformer")
    expected = {key for key in tensors if key.startswith(("language_model.", "language_projection."))}
    assert sorted(read_keys) == sorted(expected)
    assert model.weight_bytes == bytes_of(tensors, "language_model.", "language_projection.")
    assert model.stages == []


def test_a_middle_part_reads_its_blocks_only(checkpoint, read_keys):
    load(str(checkpoint), first="vit.1", last="vit.2")
    assert read_keys
    assert all(key.startswith("vision_model.encoder.layers.1.") for key in read_keys)


def test_a_half_may_be_empty(checkpoint):
    model = load(str(checkpoint), first="input", last="input")
    assert model.weight_bytes == 0
    pictures = batch(model)
    assert torch.equal(model.run(pictures, "input", "input"), pictures)


def test_the_parts_together_weigh_what_the_whole_weighs(checkpoint):
    whole = load(str(checkpoint)).weight_bytes
    assert whole == load(str(checkpoint), last="vit.2").weight_bytes + load(str(checkpoint), first="vit.2").weight_bytes


@pytest.mark.parametrize(("dtype", "bytes_each"), [("float32", 4), ("bfloat16", 2), ("float16", 2)])
def test_weights_take_the_dtype_that_was_asked_for(checkpoint, dtype, bytes_each):
    count = bytes_of(stored(checkpoint), "language_model.", "language_projection.") // 4
    model = load(str(checkpoint), first="qformer", dtype=dtype)
    assert model.weight_bytes == count * bytes_each
    assert model.dtype == getattr(torch, dtype)


def test_weights_do_not_change_when_the_file_does(make_checkpoint):
    """What was loaded is a copy: training may write a new checkpoint while a robot runs on the old one."""
    folder = make_checkpoint()
    model = load(str(folder), last="qformer")
    pictures = batch(model)
    before = model.run(pictures, "input", "qformer").clone()
    shard = folder / "model.safetensors"
    shard.write_bytes(bytes(shard.stat().st_size))
    assert torch.equal(model.run(pictures, "input", "qformer"), before)


@pytest.mark.parametrize(
    ("key", "half"),
    [
        ("vision_model.encoder.layers.1.mlp.fc1.weight", {"last": "vit.2"}),
        ("query_tokens", {"last": "qformer"}),
        ("language_projection.bias", {"first": "qformer"}),
        ("language_model.model.decoder.layers.0.fc1.weight", {"first": "qformer"}),
        ("language_model.model.decoder.embed_tokens.weight", {"first": "qformer"}),
    ],
)
def test_a_missing_weight_is_an_error_that_names_it(make_checkpoint, key, half):
    folder = make_checkpoint()
    tensors = stored(folder)
    del tensors[key]
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(ModelError, match=key.replace(".", r"\.")):
        load(str(folder), **half)


def test_a_missing_head_that_is_not_tied_is_an_error(make_checkpoint):
    folder = make_checkpoint(sizes=Blip2Sizes(tied=False))
    tensors = stored(folder)
    del tensors["language_model.lm_head.weight"]
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(ModelError, match=r"language_model\.lm_head\.weight"):
        load(str(folder))


def test_a_tied_head_that_is_stored_twice_is_held_once(make_checkpoint):
    folder = make_checkpoint()
    once = load(str(folder)).weight_bytes
    tensors = stored(folder)
    tensors["language_model.lm_head.weight"] = tensors["language_model.model.decoder.embed_tokens.weight"].clone()
    save_file(tensors, folder / "model.safetensors")
    assert load(str(folder)).weight_bytes == once


def test_an_unknown_weight_is_a_warning(make_checkpoint, caplog):
    folder = make_checkpoint()
    save_file({**stored(folder), "vision_model.extra": torch.ones(1)}, folder / "model.safetensors")
    with caplog.at_level(logging.WARNING):
        load(str(folder), last="vision")
    assert "vision_model.extra" in caplog.text


def test_a_weight_of_another_shape_is_an_error(make_checkpoint):
    folder = make_checkpoint()
    save_file({**stored(folder), "query_tokens": torch.ones(1, 9, 24)}, folder / "model.safetensors")
    with pytest.raises(ModelError, match=r"query_tokens has shape \(1, 9, 24\)"):
        load(str(folder))


def test_stages_outside_the_loaded_range_are_refused(checkpoint):
    robot = load(str(checkpoint), last="vit.2")
    edge = load(str(checkpoint), first="qformer")
    features = torch.zeros(1, *edge.boundary_shape("qformer"))
    with pytest.raises(ModelError, match=r"holds 'input' to 'vit\.2'"):
        robot.run(batch(robot), "input", "vision")
    with pytest.raises(ModelError, match=r"holds 'input' to 'vit\.2'"):
        robot.generate(features, [""], Generation())
    with pytest.raises(ModelError, match=r"holds 'input' to 'vit\.2'"):
        robot.logits(features, [""])
    with pytest.raises(ModelError, match="holds 'qformer' to 'output'"):
        edge.run(batch(edge), "input", "qformer")


def test_a_stage_can_be_replaced(checkpoint):
    model = load(str(checkpoint), last="qformer")
    place = [stage.name for stage in model.stages].index("vision")
    model.stages[place] = Stage("vision", torch.zeros_like)
    assert not model.run(batch(model), "input", "vision").any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"model": "no-such-model"}, "no-such-model.*shipped"),
        ({"model": "./no/such/folder"}, "no/such/folder.*shipped"),
        ({"first": "vit.9"}, "'vit.9' is none of this model's: input, vit.1 … vit.3, vision, qformer, output"),
        ({"last": "vit.0"}, "vit.0"),
        ({"first": "vision", "last": "vit.1"}, "'vit.1' comes before 'vision'"),
        ({"dtype": "int8"}, "int8.*float32, bfloat16, float16"),
        ({"device": "tpu"}, "tpu.*cpu, cuda"),
        ({"device": "mps"}, "mps.*cpu, cuda"),
    ],
)
def test_a_wrong_argument_is_one_clear_error(checkpoint, arguments, message):
    with pytest.raises(ModelError, match=message):
        load(**{"model": str(checkpoint), **arguments})


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_where_there_is_none_is_an_error_with_the_fix(checkpoint):
    with pytest.raises(ModelError, match=r"no CUDA device.*'cpu' or 'auto'"):
        load(str(checkpoint), device="cuda")
    assert load(str(checkpoint), device="auto").device.type == "cpu"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_cuda_the_result_is_the_same(checkpoint):
    here, there = load(str(checkpoint)), load(str(checkpoint), device="auto")
    pictures = batch(here, 2)
    features = there.run(pictures, "input", "qformer")
    torch.testing.assert_close(features.cpu(), here.run(pictures, "input", "qformer"), atol=1e-3, rtol=1e-3)
    expected = here.generate(features.cpu(), ["", "Question: kind? Answer:"], Generation(1, 8))
    assert there.generate(features, ["", "Question: kind? Answer:"], Generation(1, 8)) == expected


@pytest.mark.parametrize(
    ("missing", "half", "message"),
    [
        ("config.json", {}, "config.json is missing"),
        ("processor_config.json", {}, "preprocessor_config.json is missing"),
        ("model.safetensors", {}, "model.safetensors is missing"),
        ("tokenizer.json", {}, "tokenizer"),
    ],
)
def test_a_missing_file_is_named(make_checkpoint, missing, half, message):
    folder = make_checkpoint()
    (folder / missing).unlink()
    with pytest.raises(ModelError, match=message):
        load(str(folder), **half)


def test_the_robot_half_needs_no_tokenizer(make_checkpoint):
    folder = make_checkpoint()
    for path in folder.glob("tokenizer*"):
        path.unlink()
    load(str(folder), last="qformer")


def test_a_missing_shard_is_named(make_checkpoint):
    folder = make_checkpoint(max_shard_size="60KB")
    shard = sorted(folder.glob("*.safetensors"))[1]
    shard.unlink()
    with pytest.raises(ModelError, match=shard.name):
        load(str(folder))


@pytest.mark.parametrize(
    "content", [b"", b"\x00" * 100, b"\xff" * 100, b"\x02\0\0\0\0\0\0\0[]", b"<html>sign in</html>"]
)
def test_a_file_that_is_no_safetensors_is_an_error(make_checkpoint, content):
    folder = make_checkpoint()
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(ModelError, match=r"model\.safetensors"):
        load(str(folder), last="qformer")


def test_a_cut_file_is_an_error(make_checkpoint):
    folder = make_checkpoint()
    shard = folder / "model.safetensors"
    shard.write_bytes(shard.read_bytes()[: shard.stat().st_size // 2])
    with pytest.raises(ModelError, match=r"model\.safetensors"):
        load(str(folder))


def test_an_index_cannot_point_out_of_its_folder(make_checkpoint):
    folder = make_checkpoint(max_shard_size="60KB")
    edit_config(folder, "model.safetensors.index.json", weight_map={"query_tokens": "../other/model.safetensors"})
    with pytest.raises(ModelError, match="weight_map"):
        load(str(folder))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "llava"}, "of type 'llava'; supported are blip-2"),
        ({"text_config": {"model_type": "t5", "is_encoder_decoder": True}}, "'t5' language model"),
        ({"quantization_config": {"bits": 4}}, "unquantized"),
        ({"vision_config": {"image_size": "large"}}, r"config\.json"),
        ({"vision_config": {"image_size": [28, 28]}}, "square"),
        ({"vision_config": {"image_size": 224, "num_hidden_layers": 0}}, "no block"),
        ({"vision_config": {"image_size": 56, "num_hidden_layers": 2}}, "28 × 28.*56 × 56"),
    ],
)
def test_a_checkpoint_that_cannot_be_split_is_refused(make_checkpoint, changes, message):
    folder = make_checkpoint()
    edit_config(folder, "config.json", **changes)
    with pytest.raises(ModelError, match=message):
        load(str(folder))


def test_broken_json_is_an_error(make_checkpoint):
    folder = make_checkpoint()
    (folder / "config.json").write_text('{"model_type": "blip-2"')
    with pytest.raises(ModelError, match=r"config\.json cannot be read"):
        load(str(folder))
    (folder / "config.json").write_text("[]")
    with pytest.raises(ModelError, match=r"config\.json holds no JSON object"):
        load(str(folder))


def test_a_shipped_name_is_found_in_the_share_folder(checkpoint, tmp_path, monkeypatch):
    shutil.copytree(checkpoint, tmp_path / "checkpoints" / "some-model")
    monkeypatch.setattr("laim_ros.models.source.checkpoints_directory", lambda: tmp_path / "checkpoints")
    assert load("some-model", last="vit.1").name == "some-model"
    with pytest.raises(ModelError, match="shipped are: some-model"):
        load("some-modle")
