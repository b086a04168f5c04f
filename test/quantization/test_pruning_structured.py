"""Heads and neurons: removed is the same as zeroed, and what goes is what adds least."""

from dataclasses import replace

import pytest
import torch
from block_samples import HEADS, NEURONS, WIDTH, tokens, transformers_block, weights_of
from torch.nn import functional as F

from laim_ros.quantization.errors import QuantizationError
from laim_ros.quantization.pruning import Pruning, prune_block, prune_magnitude, run_block
from laim_ros.quantization.pruning.structured import head_scores, kept_heads, kept_neurons, neuron_scores
from laim_ros.quantization.quantized_weight import QuantizedWeight
from laim_ros.quantization.weights import LinearWeights


def positions(part, whole, dim):
    """Where the slices of `part` along a dimension lie in `whole`."""
    parts, wholes = part.movedim(dim, 0).flatten(1), whole.movedim(dim, 0).flatten(1)
    return [next(i for i, each in enumerate(wholes) if torch.equal(each, one)) for one in parts]


@pytest.mark.parametrize("qkv_bias", [True, False])
def test_unpruned_is_transformers_own_block(qkv_bias):
    layer = transformers_block(qkv_bias=qkv_bias)
    block = weights_of(layer)
    assert prune_block(block, Pruning()) is block
    assert torch.equal(run_block(block, tokens()), layer(tokens()))


@pytest.mark.parametrize("share", [0.25, 0.5, 0.75, 0.99])
@pytest.mark.parametrize("qkv_bias", [True, False])
def test_a_removed_head_is_a_zeroed_head(share, qkv_bias):
    layer = transformers_block(1, qkv_bias=qkv_bias)
    block = weights_of(layer)
    pruned = prune_block(block, Pruning(heads=share))
    size, kept = block.head_width, max(1, HEADS - round(share * HEADS))
    assert pruned.heads == kept
    assert pruned.head_width == size
    assert pruned.qkv.weight.shape == (3 * kept * size, WIDTH)
    assert pruned.projection.weight.shape == (WIDTH, kept * size)
    heads = positions(
        pruned.projection.weight.view(WIDTH, kept, size), block.projection.weight.view(WIDTH, HEADS, size), 1
    )
    assert heads == sorted(heads)
    for head in set(range(HEADS)) - set(heads):
        layer.self_attn.projection.weight[:, head * size : (head + 1) * size] = 0
    assert torch.allclose(run_block(pruned, tokens()), layer(tokens()), atol=1e-5)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.999])
def test_a_removed_neuron_is_a_zeroed_neuron(share):
    layer = transformers_block(2)
    block = weights_of(layer)
    pruned = prune_block(block, Pruning(neurons=share))
    kept = positions(pruned.fc2.weight, block.fc2.weight, 1)
    assert kept == sorted(kept)
    assert positions(pruned.fc1.weight, block.fc1.weight, 0) == kept
    assert len(kept) == kept_neurons(NEURONS, share)
    gone = sorted(set(range(NEURONS)) - set(kept))
    layer.mlp.fc2.weight[:, gone] = 0
    assert torch.allclose(run_block(pruned, tokens()), layer(tokens()), atol=1e-5)


def test_heads_that_add_least_go():
    """Against draws of the model that the scores assume, and against heads scaled by hand."""
    block = weights_of(transformers_block(3))
    scores = head_scores(block)
    size, random = block.head_width, torch.Generator().manual_seed(0)
    z = torch.randn((200_000, WIDTH), generator=random)
    values = (z * block.norm1.weight + block.norm1.bias) @ block.qkv.weight[2 * WIDTH :].T + block.qkv.bias[2 * WIDTH :]
    for head in range(HEADS):
        own = slice(head * size, (head + 1) * size)
        added = values[:, own] @ block.projection.weight[:, own].T
        assert float(scores[head]) == pytest.approx(float(added.square().sum(dim=1).mean()), rel=0.02)
    scaled = block.projection.weight.clone()
    scaled[:, size : 2 * size] *= 0.01
    small = replace(block, projection=LinearWeights(scaled, block.projection.bias))
    pruned = prune_block(small, Pruning(heads=0.25))
    assert torch.equal(pruned.projection.weight[:, :size], scaled[:, :size])
    assert torch.equal(pruned.projection.weight[:, size:], scaled[:, 2 * size :])


def test_head_scores_do_not_change_with_the_basis_within_a_head():
    block = weights_of(transformers_block(4))
    size = block.head_width
    change = torch.randn((size, size), generator=torch.Generator().manual_seed(1)) + 2 * torch.eye(size)
    qkv, bias, projection = block.qkv.weight.clone(), block.qkv.bias.clone(), block.projection.weight.clone()
    own = slice(2 * WIDTH, 2 * WIDTH + size)
    qkv[own], bias[own] = change @ qkv[own], change @ bias[own]
    projection[:, :size] = projection[:, :size] @ torch.linalg.inv(change)
    turned = replace(block, qkv=LinearWeights(qkv, bias), projection=LinearWeights(projection, block.projection.bias))
    assert torch.allclose(run_block(turned, tokens()), run_block(block, tokens()), atol=1e-3)
    assert torch.allclose(head_scores(turned), head_scores(block), rtol=1e-3)


def test_neuron_scores_are_the_mean_squares_of_the_model():
    block = weights_of(transformers_block(5))
    z = torch.randn((200_000, WIDTH), generator=torch.Generator().manual_seed(0))
    activations = F.gelu((z * block.norm2.weight + block.norm2.bias) @ block.fc1.weight.T + block.fc1.bias)
    drawn = activations.square().mean(dim=0) * block.fc2.weight.square().sum(dim=0)
    assert torch.allclose(neuron_scores(block).float(), drawn, rtol=0.03)


@pytest.mark.parametrize(
    ("heads", "share", "expected"), [(16, 0.25, 12), (16, 0.03, 16), (16, 0.99, 1), (4, 0.5, 2), (1, 0.9, 1)]
)
def test_how_many_heads_stay(heads, share, expected):
    assert kept_heads(heads, share) == expected


@pytest.mark.parametrize(
    ("neurons", "share", "expected"),
    [(6144, 0.25, 4608), (6144, 0.3, 4352), (6144, 0.999, 128), (512, 0.3, 352), (512, 0.01, 512), (20, 0.5, 10)],
)
def test_how_many_neurons_stay(neurons, share, expected):
    assert kept_neurons(neurons, share) == expected


def test_heads_neurons_and_magnitude_together():
    block = weights_of(transformers_block(6))
    both = prune_block(block, Pruning(heads=0.5, neurons=0.5))
    all_three = prune_block(block, Pruning(heads=0.5, neurons=0.5, magnitude=0.4))
    for name in ("qkv", "projection", "fc1", "fc2"):
        assert torch.equal(getattr(all_three, name).weight, prune_magnitude(getattr(both, name).weight, 0.4))
        assert torch.equal(getattr(all_three, name).bias, getattr(both, name).bias)


def test_the_block_given_stays_as_it_is():
    layer = transformers_block(7)
    block = weights_of(layer)
    prune_block(block, Pruning(heads=0.5, neurons=0.5, magnitude=0.5))
    assert torch.equal(run_block(block, tokens()), layer(tokens()))


@pytest.mark.parametrize(
    ("kind", "name"),
    [("heads", "qkv"), ("heads", "projection"), ("neurons", "fc1"), ("neurons", "fc2"), ("magnitude", "qkv")],
)
def test_refuses_weights_that_are_not_finite_or_quantized(kind, name):
    block, pruning = weights_of(transformers_block()), Pruning(**{kind: 0.5})
    linear = getattr(block, name)
    bad = linear.weight.clone()
    bad[0, 0] = float("nan")
    with pytest.raises(QuantizationError, match="NaN or infinite"):
        prune_block(replace(block, **{name: LinearWeights(bad, linear.bias)}), pruning)
    codes = torch.ones(linear.weight.shape, dtype=torch.int8)
    quantized = LinearWeights(QuantizedWeight.from_codes(codes, torch.ones(1, 1), 8, "uniform"), linear.bias)
    with pytest.raises(QuantizationError, match="prune first, then quantize"):
        prune_block(replace(block, **{name: quantized}), pruning)
