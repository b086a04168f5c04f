"""The model id is the same for every half of the same checkpoint, and for no other checkpoint."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import Blip2ForConditionalGeneration

from laim_ros.models import load, source
from laim_ros.models.random_checkpoint import Blip2Sizes


def identity(folder: Path, **half: str) -> str:
    return load(str(folder), **(half or {"last": "input"})).model_id


def test_all_halves_have_the_same_id(checkpoint):
    halves = [{"last": "qformer"}, {"first": "qformer"}, {"first": "vit.1", "last": "vit.2"}, {"dtype": "bfloat16"}, {}]
    ids = {identity(checkpoint, **half) for half in halves}
    assert len(ids) == 1
    assert int(ids.pop(), 16) > 0


def test_cutting_into_shards_and_saving_again_keep_the_id(make_checkpoint, tmp_path):
    folder = make_checkpoint()
    expected = identity(folder)
    again = tmp_path / "again"
    Blip2ForConditionalGeneration.from_pretrained(folder).save_pretrained(again, max_shard_size="60KB")
    (again / "processor_config.json").write_bytes((folder / "processor_config.json").read_bytes())
    assert len(list(again.glob("*.safetensors"))) > 1
    assert identity(again) == expected


def test_shards_in_any_order_keep_the_id(make_checkpoint):
    folder = make_checkpoint()
    expected = identity(folder)
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    shards = {key: f"part{index % 3}.safetensors" for index, key in enumerate(sorted(tensors, reverse=True))}
    for shard in set(shards.values()):
        save_file({key: tensors[key] for key in tensors if shards[key] == shard}, folder / shard)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    assert identity(folder) == expected


def test_another_library_version_or_path_keeps_the_id(make_checkpoint):
    folder = make_checkpoint()
    expected = identity(folder)
    config = json.loads((folder / "config.json").read_text())
    config.update(transformers_version="4.40.0", _name_or_path="elsewhere", torch_dtype="float32")
    config["text_config"]["_name_or_path"] = "elsewhere"
    (folder / "config.json").write_text(json.dumps(config))
    assert identity(folder) == expected


@pytest.mark.parametrize("key", ["query_tokens", "language_projection.weight", "language_projection.bias"])
def test_a_change_of_one_value_changes_the_id(make_checkpoint, key):
    folder = make_checkpoint()
    expected = identity(folder)
    tensors = load_file(folder / "model.safetensors")
    tensors[key].view(-1)[0] += 1e-3
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    assert identity(folder) != expected


def test_another_stored_precision_of_one_tensor_changes_the_id(make_checkpoint):
    folder = make_checkpoint()
    expected = identity(folder)
    tensors = load_file(folder / "model.safetensors")
    key = "language_model.model.decoder.layers.0.fc1.weight"
    save_file({**tensors, key: tensors[key].half()}, folder / "model.safetensors")
    assert identity(folder) != expected


def test_other_sizes_dtypes_and_settings_change_the_id(make_checkpoint):
    folder = make_checkpoint()
    ids = {identity(folder), identity(make_checkpoint(sizes=Blip2Sizes(text_layers=3)))}
    ids.add(identity(make_checkpoint(dtype=torch.bfloat16)))
    ids.add(identity(make_checkpoint(seed=1)))
    config = json.loads((folder / "config.json").read_text())
    config["vision_config"]["layer_norm_eps"] = 1e-3
    (folder / "config.json").write_text(json.dumps(config))
    ids.add(identity(folder))
    assert len(ids) == 5


def test_only_headers_and_a_few_small_tensors_are_read(checkpoint, monkeypatch):
    ranges = []
    read = source.ModelSource._read

    def counting(self: source.ModelSource, shard: str, begin: int, end: int) -> bytes:
        ranges.append(end - begin)
        return read(self, shard, begin, end)

    monkeypatch.setattr(source.ModelSource, "_read", counting)
    identity(checkpoint)
    tensors = load_file(checkpoint / "model.safetensors")
    small = sum(t.nbytes for k, t in tensors.items() if k.startswith(("query_tokens", "language_projection")))
    data = sum(tensor.nbytes for tensor in tensors.values())
    headers = (checkpoint / "model.safetensors").stat().st_size - data
    assert sum(ranges) <= small + 2 * headers
    assert small < data / 10
