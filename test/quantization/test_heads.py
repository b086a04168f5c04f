"""Whole heads at every bit-width against transformers' own model whose weights were replaced."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import Blip2ForConditionalGeneration

from laim_ros.models import ModelError, SplitModel, load
from laim_ros.models.random_checkpoint import make_random_blip2
from laim_ros.models.source import find_source
from laim_ros.quantization import Heads, QuantizationError, quantize
from laim_ros.quantization.storage.write import Packing


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_random_blip2(tmp_path_factory.mktemp("heads") / "model")


@pytest.fixture(scope="module")
def picture() -> torch.Tensor:
    return torch.randint(0, 256, (1, 28, 28, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))


def features(model: SplitModel, picture: torch.Tensor, stop: str = "qformer") -> torch.Tensor:
    return model.run(picture, "input", stop).to(torch.float32)


def relative_error(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).abs().sum() / expected.abs().sum())


def quantized_transformers(folder: Path, bits: int, quantizer: str) -> Blip2ForConditionalGeneration:
    """The unsplit model with the head's linear layers as their codes have them."""
    model = Blip2ForConditionalGeneration.from_pretrained(folder).eval()
    for part in (model.vision_model, model.qformer):
        for module in part.modules():
            if isinstance(module, torch.nn.Linear):
                module.weight.data = quantize(module.weight.data, bits, quantizer).dequantize()
    return model


def unsplit_features(model: Blip2ForConditionalGeneration, split: SplitModel, picture: torch.Tensor) -> torch.Tensor:
    pixels = split._pictures.pixel_values(picture)
    with torch.inference_mode():
        image = model.vision_model(pixel_values=pixels).last_hidden_state
        return model.qformer(query_embeds=model.query_tokens, encoder_hidden_states=image).last_hidden_state


OTHER_LEVELS = [(3, "power_of_two"), (1, "exponential"), (4, "exponential"), (7, "exponential")]
"""The last are levels that int8 does not hold without harm."""


@pytest.mark.parametrize(("bits", "quantizer"), [*((bits, "uniform") for bits in range(1, 9)), *OTHER_LEVELS])
def test_a_head_is_transformers_model_with_the_codes_weights(checkpoint, picture, bits, quantizer) -> None:
    exact = Heads(str(checkpoint), device="cpu", quantizer=quantizer, engine="float").load(bits)
    expected = unsplit_features(quantized_transformers(checkpoint, bits, quantizer), exact, picture)
    assert relative_error(features(exact, picture), expected) < 1e-4
    for engine in ("auto", "torch"):
        head = Heads(str(checkpoint), device="cpu", quantizer=quantizer, engine=engine).load(bits)
        assert head.weight_bits == bits
        assert relative_error(features(head, picture), expected) < 0.1


def test_every_half_of_a_head_can_be_run(checkpoint, picture) -> None:
    head = Heads(str(checkpoint), device="cpu").load(8)
    whole = features(head, picture)
    for split_point in ("vit.1", "vit.2", "vit.3", "vision"):
        first = head.run(picture, "input", split_point)
        assert tuple(first.shape[1:]) == head.boundary_shape(split_point)
        assert torch.equal(head.run(first, split_point, "qformer"), whole)


def test_plain_floats_stay_transformers_own(checkpoint, picture) -> None:
    heads = Heads(str(checkpoint), device="cpu")
    for bits, dtype in ((32, "float32"), (16, "bfloat16")):
        head, expected = heads.load(bits), load(str(checkpoint), last="qformer", dtype=dtype)
        assert (head.weight_bits, head.engine) == (bits, "transformers")
        assert torch.equal(features(head, picture), features(expected, picture))


def test_fewer_bits_take_less_memory(checkpoint) -> None:
    heads = Heads(str(checkpoint), device="cpu", engine="torch")
    sizes = [heads.load(bits).head_bytes for bits in (1, 2, 3, 4, 5, 6, 7, 8, 16, 32)]
    assert sizes == sorted(sizes)
    assert len(set(sizes)) == len(sizes)


def test_small_heads_are_kept_and_large_ones_are_not(checkpoint, monkeypatch) -> None:
    heads = Heads(str(checkpoint), device="cpu")
    first = heads.load(8)
    heads.load(4)
    assert heads.load(8) is first
    monkeypatch.setattr("laim_ros.quantization.heads.KEPT_BYTES", 2 * first.weight_bytes)
    heads.load(2)
    assert heads.load(8) is not first, "the oldest goes first"
    monkeypatch.setattr("laim_ros.quantization.heads.KEPT_BYTES", first.weight_bytes - 1)
    heads = Heads(str(checkpoint), device="cpu")
    assert heads.load(8) is not heads.load(8)


def test_a_dropped_block_passes_its_input_on(checkpoint, picture) -> None:
    pruned = Heads(str(checkpoint), device="cpu", prune="blocks:1").load(32)
    whole = load(str(checkpoint), last="qformer")
    identities = [stage.name for stage in pruned.stages if isinstance(stage.function, torch.nn.Identity)]
    first = pruned.stages[0].name if not identities else None
    dropped = identities[0] if identities else first
    stages = {stage.name: stage.function for stage in whole.stages}
    with torch.inference_mode():
        x = picture
        for name in ("vit.1", "vit.2", "vit.3", "vision", "qformer"):
            if name == dropped == "vit.1":
                x = stages[name].embeddings(whole._pictures.pixel_values(x))
            elif name != dropped:
                x = stages[name](x)
    assert relative_error(features(pruned, picture), x) < 1e-4
    assert pruned.split_points == whole.split_points
    assert pruned.head_bytes < whole.head_bytes


def test_pruned_floats_at_16_bits_take_half(checkpoint, picture) -> None:
    heads = Heads(str(checkpoint), device="cpu", prune="heads:0.5,neurons:0.5")
    wide, narrow = heads.load(32), heads.load(16)
    assert relative_error(features(narrow, picture), features(wide, picture)) < 0.05
    assert narrow.head_bytes < 0.7 * wide.head_bytes
    assert wide.head_bytes < load(str(checkpoint), last="qformer").head_bytes


@pytest.fixture(scope="module")
def packed(checkpoint, tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[int, str], Path]:
    folders = {}
    for bits, quantizer in ((8, "uniform"), (3, "uniform"), (4, "exponential")):
        folder = tmp_path_factory.mktemp("packed") / f"{quantizer}{bits}"
        Packing(find_source(str(checkpoint)), bits, quantizer).write(folder)
        folders[bits, quantizer] = folder
    return folders


@pytest.mark.parametrize(("bits", "quantizer"), [(8, "uniform"), (3, "uniform"), (4, "exponential")])
def test_a_packed_head_is_that_of_its_checkpoint(checkpoint, packed, picture, bits, quantizer) -> None:
    from_folder = Heads(str(packed[bits, quantizer]), device="cpu").load(bits)
    direct = Heads(str(checkpoint), device="cpu", quantizer=quantizer).load(bits)
    assert torch.equal(features(from_folder, picture), features(direct, picture))
    assert from_folder.model_id == load(str(checkpoint), last="vit.1").model_id


def test_a_packed_8_bit_head_has_every_lower_width(packed, picture, checkpoint) -> None:
    heads, reference = Heads(str(packed[8, "uniform"]), device="cpu", engine="float"), load(str(checkpoint))
    expected = features(reference, picture)
    errors = [relative_error(features(heads.load(bits), picture), expected) for bits in range(8, 1, -1)]
    assert errors[0] < 0.03
    assert errors == sorted(errors)


def test_what_cannot_be_had_is_refused_before_anything_is_loaded(checkpoint, packed) -> None:
    with pytest.raises(QuantizationError, match="weight_bits 9 is none of 1, 2"):
        Heads(str(checkpoint), device="cpu").check(9)
    for bits in (3, 5, 16):
        with pytest.raises(QuantizationError, match=f"has weights of 4 bits, not {bits};"):
            Heads(str(packed[4, "exponential"]), device="cpu").check(bits)
    with pytest.raises(QuantizationError, match="quantizer 'cubic' is none of auto, uniform"):
        Heads(str(checkpoint), device="cpu", quantizer="cubic")
    with pytest.raises(QuantizationError, match="engine 'warp' is none of"):
        Heads(str(checkpoint), device="cpu", engine="warp")
    with pytest.raises(QuantizationError, match="prune 'limbs:1'"):
        Heads(str(checkpoint), device="cpu", prune="limbs:1")
    with pytest.raises(QuantizationError, match="uniform"):
        Heads(str(packed[4, "exponential"]), device="cpu", quantizer="uniform").check(4)


def test_32_bits_of_a_packed_head_are_its_own(packed, picture) -> None:
    heads = Heads(str(packed[4, "exponential"]), device="cpu")
    assert heads.bits_for(32) == 4
    assert heads.load(32) is heads.load(4)


def test_a_packed_head_has_no_language_model(packed) -> None:
    with pytest.raises(QuantizationError, match="use last_split qformer, or the model that it was made of"):
        Heads(str(packed[8, "uniform"]), device="cpu", last="output")


def test_loading_leaves_the_default_dtype_of_other_threads_alone(tmp_path, monkeypatch) -> None:
    folder = make_random_blip2(tmp_path / "model", dtype=torch.bfloat16)
    seen = set()
    monkeypatch.setattr(torch, "set_default_dtype", lambda dtype: seen.add(dtype))
    Heads(str(folder), device="cpu").load(4)
    assert seen <= {torch.float32}


def test_an_edge_refuses_a_packed_head_and_names_the_model(packed, checkpoint) -> None:
    with pytest.raises(ModelError, match=str(checkpoint)):
        load(str(packed[8, "uniform"]))


def test_weights_that_are_not_finite_are_named(checkpoint, tmp_path) -> None:
    model = Blip2ForConditionalGeneration.from_pretrained(checkpoint)
    model.vision_model.encoder.layers[1].mlp.fc1.weight.data[3, 4] = np.nan
    model.save_pretrained(tmp_path)
    for name in ("processor_config.json", "tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((checkpoint / name).read_bytes())
    with pytest.raises(QuantizationError, match=r"layers\.1\.mlp\.fc1\.weight.*NaN"):
        Heads(str(tmp_path), device="cpu").load(4)
