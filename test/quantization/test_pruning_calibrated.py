"""Pruning with pictures: what stays is the ridge regression onto what was, and the cheapest go."""

from dataclasses import replace

import pytest
import torch
from block_samples import HEADS, NEURONS, WIDTH, tokens, transformers_block, weights_of
from torch.nn import functional as F

from laim_ros.quantization.errors import QuantizationError
from laim_ros.quantization.pruning import Pruning, prune_block, prune_block_with, run_block
from laim_ros.quantization.pruning.calibrated import _RIDGE, attention_features, mlp_features
from laim_ros.quantization.weights import LinearWeights


def regression(linear, features, kept):
    """Weights and bias of the kept columns, by normal equations: least output error plus λ‖change‖²."""
    x = features.flatten(0, -2).double()
    mean = x.mean(dim=0)
    covariance = torch.cov(x.T, correction=0)
    weight = linear.weight.double()
    gone = [column for column in range(x.shape[1]) if column not in set(kept)]
    damped = covariance[kept][:, kept] + _RIDGE * covariance.diagonal().mean() * torch.eye(len(kept))
    moved = torch.linalg.solve(damped, covariance[kept][:, gone] @ weight[:, gone].T).T
    fitted = weight[:, kept] + moved
    bias = linear.bias.double() + weight @ mean - fitted @ mean[kept]
    error = weight @ covariance @ weight.T - 2 * fitted @ covariance[kept] @ weight.T
    error = (error + fitted @ covariance[kept][:, kept] @ fitted.T).trace()
    return fitted, bias, float(error + (damped - covariance[kept][:, kept])[0, 0] * _change(weight, fitted, kept, gone))


def _change(weight, fitted, kept, gone):
    return (fitted - weight[:, kept]).square().sum() + weight[:, gone].square().sum()


def kept_of(pruned, block):
    """Which neurons stayed, by their first layer."""
    return [int((block.fc1.weight == row).all(dim=1).nonzero()[0, 0]) for row in pruned.fc1.weight]


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_neurons_left_are_the_regression(share):
    block, given = weights_of(transformers_block(1)), tokens(count=80)
    pruned = prune_block_with(block, Pruning(neurons=share), given)
    kept = kept_of(pruned, block)
    middle = given + F.linear(attention_features(block, given), block.projection.weight, block.projection.bias)
    fitted, bias, _ = regression(block.fc2, mlp_features(block, middle), kept)
    assert torch.allclose(pruned.fc2.weight.double(), fitted, atol=1e-5)
    assert torch.allclose(pruned.fc2.bias.double(), bias, atol=1e-5)


def test_the_cheapest_head_goes_and_the_rest_take_over():
    block, given = weights_of(transformers_block(2)), tokens(count=80)
    size = block.head_width
    features = attention_features(block, given)
    ways = {}
    for gone in range(HEADS):
        kept = [c for c in range(WIDTH) if c // size != gone]
        ways[gone] = regression(block.projection, features, kept)
    gone = min(ways, key=lambda head: ways[head][2])
    pruned = prune_block_with(block, Pruning(heads=0.25), given)
    assert pruned.heads == HEADS - 1
    assert torch.allclose(pruned.projection.weight.double(), ways[gone][0], atol=1e-5)
    assert torch.allclose(pruned.projection.bias.double(), ways[gone][1], atol=1e-5)
    values = block.qkv.weight.view(3, HEADS, size, WIDTH)
    expected = values[:, [head for head in range(HEADS) if head != gone]].reshape(-1, WIDTH)
    assert torch.equal(pruned.qkv.weight, expected)


def test_neurons_that_say_the_same_go_at_next_to_no_cost():
    block = weights_of(transformers_block(3))
    half = NEURONS // 2
    fc1 = LinearWeights(block.fc1.weight[:half].repeat(2, 1), block.fc1.bias[:half].repeat(2))
    twins = replace(block, fc1=fc1)
    given = tokens(count=200)
    pruned = prune_block_with(twins, Pruning(neurons=0.5), given)
    before, after = run_block(twins, given), run_block(pruned, given)
    blind = run_block(prune_block(twins, Pruning(neurons=0.5)), given)
    assert float((after - before).norm() / (blind - before).norm()) < 0.1


@pytest.mark.parametrize("pruning", [Pruning(heads=0.5), Pruning(neurons=0.5), Pruning(heads=0.25, neurons=0.25)])
def test_less_is_lost_than_without_pictures_also_on_others(pruning):
    block = weights_of(transformers_block(4))
    mixing = torch.randn((8, WIDTH), generator=torch.Generator().manual_seed(9))

    def like_pictures(seed):
        """Tokens that lie near a few directions, as those of pictures do."""
        return tokens(seed, count=100)[..., :8] @ mixing + 0.1 * tokens(seed + 1, count=100)

    given, others = like_pictures(0), like_pictures(50)
    wanted = run_block(block, others)
    loss = (run_block(prune_block_with(block, pruning, given), others) - wanted).norm()
    blind_loss = (run_block(prune_block(block, pruning), others) - wanted).norm()
    assert float(loss) < 0.7 * float(blind_loss)


def test_tokens_that_never_vary_give_finite_weights():
    block = weights_of(transformers_block(5))
    given = torch.ones(2, 5, WIDTH)
    pruned = prune_block_with(block, Pruning(heads=0.5, neurons=0.5), given)
    assert torch.allclose(run_block(pruned, given), run_block(block, given), atol=1e-4)


def test_nothing_to_prune_is_the_same_block():
    block = weights_of(transformers_block(6))
    assert prune_block_with(block, Pruning(), tokens()) is block


def test_refuses_tokens_that_are_not_finite():
    given = tokens()
    given[0, 0, 0] = float("nan")
    with pytest.raises(QuantizationError, match="NaN or infinite"):
        prune_block_with(weights_of(transformers_block()), Pruning(neurons=0.5), given)
