"""Packed folders: what is written, how large it is, and that it reads back as it was quantized."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from storage_oracle import file_bytes_by_hand, relative_l1, weight_by_hand

from laim_ros.models import ModelError, load
from laim_ros.models.identity import model_id
from laim_ros.models.random_checkpoint import Blip2Sizes, make_random_blip2
from laim_ros.models.source import ModelSource
from laim_ros.quantization.errors import QuantizationError
from laim_ros.quantization.pruning import Pruning
from laim_ros.quantization.quantized_weight import QuantizedWeight
from laim_ros.quantization.storage.read import PackedStore
from laim_ros.quantization.storage.write import Packing
from laim_ros.quantization.stores import CheckpointStore, open_store

SIZES = Blip2Sizes(vision_width=64, vision_mlp=160, vision_blocks=3, qformer_width=48, qformer_mlp=96)
BLOCK = "vision_model.encoder.layers.{}."
QUERY = "qformer.encoder.layer.0.attention.attention.query"
NAMES = ("qkv", "projection", "fc1", "fc2")
CHOICES = [(1, "uniform"), (2, "uniform_l1"), (3, "exponential"), (4, "power_of_two"), (5, "exponential")]
CHOICES += [(6, "uniform_absmax"), (7, "exponential"), (8, "uniform_l1")]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint whose linear layers have more than a few columns; not to be changed."""
    return make_random_blip2(tmp_path_factory.mktemp("checkpoint"), SIZES)


@pytest.fixture
def packed(checkpoint: Path, tmp_path: Path) -> Callable[..., ModelSource]:
    """Packs the checkpoint."""

    def pack(
        bits: int, quantizer: str = "uniform_absmax", granularity: str = "channel", prune: str = ""
    ) -> ModelSource:
        folder = tmp_path / f"packed{len(list(tmp_path.iterdir()))}"
        source = ModelSource("checkpoint", checkpoint)
        Packing(source, bits, quantizer, granularity, Pruning.parse(prune)).write(folder)
        return ModelSource(str(folder), folder)

    return pack


@pytest.fixture(scope="module")
def nested(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> ModelSource:
    """Packed with 8 uniform bits and all fewer ones."""
    folder = tmp_path_factory.mktemp("nested") / "packed"
    Packing(ModelSource("checkpoint", checkpoint), 8, "uniform").write(folder)
    return ModelSource(str(folder), folder)


def head_tensors(folder: Path) -> dict[str, torch.Tensor]:
    head = ("vision_model.", "qformer.", "query_tokens")
    return {key: tensor for key, tensor in load_file(folder / "model.safetensors").items() if key.startswith(head)}


def dense(weight: torch.Tensor | QuantizedWeight) -> torch.Tensor:
    return weight if isinstance(weight, torch.Tensor) else weight.dequantize()


def require_same(store: PackedStore | CheckpointStore, other: CheckpointStore, blocks: int) -> None:
    for index in range(blocks):
        block, expected = store.block(BLOCK.format(index)), other.block(BLOCK.format(index))
        if expected is None:
            assert block is None
            continue
        assert (block.heads, block.head_width) == (expected.heads, expected.head_width)
        for name in NAMES:
            mine, theirs = getattr(block, name), getattr(expected, name)
            assert torch.equal(dense(mine.weight), dense(theirs.weight))
            assert torch.equal(mine.bias, theirs.bias)
        for name in ("norm1", "norm2"):
            mine, theirs = getattr(block, name), getattr(expected, name)
            assert mine.eps == theirs.eps
            assert torch.equal(mine.weight, theirs.weight)
            assert torch.equal(mine.bias, theirs.bias)
    assert torch.equal(dense(store.linear(QUERY).weight), dense(other.linear(QUERY).weight))


def test_a_checkpoint_as_floats_is_the_checkpoint(checkpoint: Path) -> None:
    store = CheckpointStore(ModelSource("checkpoint", checkpoint), 32)
    tensors = head_tensors(checkpoint)
    block = store.block(BLOCK.format(1))
    places = {"qkv": "self_attn.qkv", "projection": "self_attn.projection", "fc1": "mlp.fc1", "fc2": "mlp.fc2"}
    for name, place in {**places, "norm1": "layer_norm1", "norm2": "layer_norm2"}.items():
        assert torch.equal(getattr(block, name).weight, tensors[f"{BLOCK.format(1)}{place}.weight"])
        assert torch.equal(getattr(block, name).bias, tensors[f"{BLOCK.format(1)}{place}.bias"])
    assert (block.heads, block.head_width, block.norm1.eps) == (4, 16, 1e-6)
    assert torch.equal(store.linear(QUERY).weight, tensors[f"{QUERY}.weight"])
    assert torch.equal(store.tensor("query_tokens"), tensors["query_tokens"])


@pytest.mark.parametrize(("bits", "quantizer"), CHOICES)
def test_a_packed_head_is_what_was_quantized(
    packed: Callable[..., ModelSource], checkpoint: Path, bits: int, quantizer: str
) -> None:
    source = packed(bits, quantizer)
    require_same(PackedStore(source, bits), CheckpointStore(ModelSource("checkpoint", checkpoint), bits, quantizer), 3)
    assert torch.equal(PackedStore(source, bits).tensor("query_tokens"), head_tensors(checkpoint)["query_tokens"])


@pytest.mark.parametrize("granularity", ["tensor", "group:16"])
@pytest.mark.parametrize("prune", ["", "heads:0.5,neurons:0.4,blocks:1"])
def test_other_scales_and_pruned_heads_read_back_too(
    packed: Callable[..., ModelSource], checkpoint: Path, granularity: str, prune: str
) -> None:
    store = PackedStore(packed(4, "exponential", granularity, prune), 4)
    pruning = Pruning.parse(prune)
    original = CheckpointStore(ModelSource("checkpoint", checkpoint), 4, "exponential", granularity, pruning)
    require_same(store, original, 3)
    assert sum(store.block(BLOCK.format(index)) is None for index in range(3)) == pruning.blocks


@pytest.mark.parametrize(("bits", "quantizer"), CHOICES)
def test_the_documented_format_is_all_that_is_needed(
    packed: Callable[..., ModelSource], checkpoint: Path, bits: int, quantizer: str
) -> None:
    folder = packed(bits, quantizer).folder
    store = CheckpointStore(ModelSource("checkpoint", checkpoint), bits, quantizer)
    expected = store.linear(QUERY).weight.dequantize().numpy()
    assert relative_l1(weight_by_hand(folder, QUERY), expected) < 1e-6
    expected = store.block(BLOCK.format(2)).fc1.weight.dequantize().numpy()
    assert relative_l1(weight_by_hand(folder, BLOCK.format(2) + "mlp.fc1"), expected) < 1e-6


@pytest.fixture(scope="module", params=[torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def wider(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of which the linear layers are most."""
    sizes = Blip2Sizes(vision_width=256, vision_mlp=1024, vision_blocks=2, qformer_width=192, qformer_mlp=768)
    return make_random_blip2(tmp_path_factory.mktemp("wider"), sizes, dtype=request.param)


@pytest.mark.parametrize("bits", range(1, 9))
def test_the_file_has_the_size_that_its_bits_promise(wider: Path, tmp_path: Path, bits: int) -> None:
    packing = Packing(ModelSource("wider", wider), bits, "uniform_absmax")
    packing.write(tmp_path / "packed")
    size = (tmp_path / "packed" / "model.safetensors").stat().st_size
    assert size == packing.manifest.file_bytes
    assert size == pytest.approx(packing.promise.total_bytes, rel=1e-4)
    by_hand = file_bytes_by_hand(head_tensors(wider), bits)
    assert size - packing.promise.header_bytes == pytest.approx(by_hand, rel=1e-4)
    assert size == pytest.approx(by_hand, rel=0.05)  # with the names, which hardly matter at real size


def test_eight_uniform_bits_hold_all_fewer_bits(nested: ModelSource, checkpoint: Path) -> None:
    original = ModelSource("checkpoint", checkpoint)
    require_same(PackedStore(nested, 8), CheckpointStore(original, 8), 3)
    float_weight = CheckpointStore(original, 32).linear(QUERY).weight
    for bits in range(1, 8):
        weight = PackedStore(nested, bits).linear(QUERY).weight
        direct = CheckpointStore(original, bits).linear(QUERY).weight
        assert weight.bits == bits
        if 3 <= bits <= 6:
            error = float((weight.dequantize() - float_weight).abs().sum())
            assert error <= 1.10 * float((direct.dequantize() - float_weight).abs().sum())


def test_without_the_lower_scales_fewer_bits_work_too(packed: Callable[..., ModelSource]) -> None:
    store = PackedStore(packed(8, "uniform_absmax"), 3)
    assert store.linear(QUERY).weight.bits == 3


@pytest.mark.parametrize(
    ("bits", "quantizer", "asked", "told"),
    [
        (4, "uniform_l1", 8, "has weights of 4 bits, not 8; pack 'checkpoint' again with `laim quantize --bits 8`"),
        (4, "uniform_l1", 3, "has weights of 4 bits, not 3"),
        (8, "exponential", 4, "has weights of 8 bits, not 4"),
        (8, "uniform_l1", 16, "has weights of 1 to 8 bits, not 16; use the model that it was made of, 'checkpoint'"),
        (8, "uniform_absmax", 32, "not 32"),
    ],
)
def test_other_bits_than_the_folder_has_are_refused(
    packed: Callable[..., ModelSource], bits: int, quantizer: str, asked: int, told: str
) -> None:
    with pytest.raises(QuantizationError, match=told):
        PackedStore(packed(bits, quantizer), asked)


def test_a_packed_head_is_opened_as_it_was_made_or_not_at_all(packed: Callable[..., ModelSource]) -> None:
    source = packed(4, "exponential", "group:16", "heads:0.25")
    assert isinstance(open_store(source, 4), PackedStore)
    open_store(source, 4, "exponential", "group:16", Pruning.parse("heads:0.25"))
    for asked in ({"quantizer": "uniform"}, {"granularity": "channel"}, {"pruning": Pruning(heads=0.5)}):
        with pytest.raises(QuantizationError, match="was made with"):
            open_store(source, 4, **asked)


def test_a_packed_head_has_the_id_of_its_model(packed: Callable[..., ModelSource], checkpoint: Path) -> None:
    source = packed(2, prune="neurons:0.5")
    assert model_id(source) == model_id(ModelSource("checkpoint", checkpoint))
    assert json.loads((source.folder / "quantization.json").read_text())["model"] == "checkpoint"


def test_a_packed_head_is_no_whole_model(packed: Callable[..., ModelSource]) -> None:
    with pytest.raises(ModelError, match="only a robot can run; give the model that it was made of: 'checkpoint'"):
        load(str(packed(4).folder), first="qformer")


def test_codes_are_windows_on_the_file_and_the_rest_is_not(nested: ModelSource) -> None:
    """What an engine keeps for long, biases and scales, must not keep the whole file mapped."""
    linear = PackedStore(nested, 8).linear(QUERY)
    nbytes = linear.weight.planes[0].nbytes
    assert linear.weight.planes[0].untyped_storage().nbytes() >= nbytes
    for tensor in (linear.bias, linear.weight.scale, linear.weight.lower_scales):
        assert tensor.untyped_storage().nbytes() == tensor.nbytes


def test_what_is_not_quantized_keeps_its_narrow_dtype(tmp_path: Path) -> None:
    checkpoint = make_random_blip2(tmp_path / "checkpoint", SIZES, dtype=torch.bfloat16)
    Packing(ModelSource("checkpoint", checkpoint), 4, "uniform").write(tmp_path / "packed")
    stored = load_file(tmp_path / "packed" / "model.safetensors")
    assert stored["query_tokens"].dtype == torch.bfloat16
    assert torch.equal(stored["query_tokens"], head_tensors(checkpoint)["query_tokens"])
    assert PackedStore(ModelSource("x", tmp_path / "packed"), 4).tensor("query_tokens").dtype == torch.float32
