"""The whole tower: which blocks go, in what order blocks are asked for, and what each is given."""

from dataclasses import replace

import pytest
import torch
from block_samples import tokens, transformers_block, weights_of

from laim_ros.quantization.errors import QuantizationError
from laim_ros.quantization.pruning import (
    Pruning,
    block_change,
    block_influence,
    choose_blocks,
    influences,
    prune_block,
    prune_block_with,
    prune_tower,
    run_block,
    weight_influences,
)
from laim_ros.quantization.weights import LinearWeights


def tower(blocks=4):
    return [weights_of(transformers_block(seed)) for seed in range(blocks)]


def idle(block):
    """A block that adds next to nothing."""

    def small(linear):
        return LinearWeights(linear.weight * 1e-3, linear.bias * 1e-3)

    return replace(block, projection=small(block.projection), fc2=small(block.fc2))


@pytest.mark.parametrize(
    ("found", "count", "expected"),
    [([3, 1, 2], 0, set()), ([3, 1, 2], 1, {1}), ([3, 1, 2], 2, {1, 2}), ([1, 1, 1, 1], 2, {2, 3})],
)
def test_the_least_influential_go_and_of_equals_the_later(found, count, expected):
    assert choose_blocks(found, count) == expected


@pytest.mark.parametrize("count", [3, 4])
def test_one_block_must_stay(count):
    with pytest.raises(QuantizationError, match="has 3 blocks, of which one must stay"):
        choose_blocks([1, 2, 3], count)


def test_refuses_an_influence_that_is_nan():
    with pytest.raises(QuantizationError, match="NaN"):
        choose_blocks([1, float("nan")], 1)


@pytest.mark.parametrize("place", range(4))
@pytest.mark.parametrize("given", [None, tokens()])
def test_a_block_that_does_nothing_is_dropped(place, given):
    blocks = tower()
    blocks[place] = idle(blocks[place])
    pruned = list(prune_tower(blocks.__getitem__, 4, Pruning(blocks=1), given))
    if given is None and place == 0:
        # Nothing tells by weights alone how large the embeddings are that the first block adds to.
        assert pruned[0] is not None
        return
    assert [block is None for block in pruned] == [position == place for position in range(4)]


def test_what_a_block_adds_grows_with_its_square():
    block = weights_of(transformers_block())
    double = replace(
        block,
        projection=LinearWeights(2 * block.projection.weight, 2 * block.projection.bias),
        fc2=LinearWeights(2 * block.fc2.weight, 2 * block.fc2.bias),
    )
    assert block_change(double) == pytest.approx(4 * block_change(block), rel=1e-6)
    assert weight_influences([2.0, 2.0, 4.0]) == [1.0, 0.5, 0.5]
    assert weight_influences([0.0, 0.0]) == [1.0, 1.0]


def test_influence_is_one_less_the_cosine():
    before = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    assert block_influence(before, 3 * before) == pytest.approx(0)
    assert block_influence(before, torch.tensor([[0.0, 1.0], [0.0, 1.0]])) == pytest.approx(0.5)


def test_measured_influences_follow_the_tokens():
    blocks, x = tower(), tokens()
    expected = []
    for block in blocks:
        y = run_block(block, x)
        expected.append(1 - float((x * y).sum(-1).div(x.norm(dim=-1) * y.norm(dim=-1)).mean()))
        x = y
    assert influences(blocks.__getitem__, 4, tokens()) == pytest.approx(expected, abs=1e-5)


def test_without_pictures_each_block_is_pruned_alone():
    blocks, pruning = tower(), Pruning(heads=0.5, neurons=0.5)
    asked = []

    def read(position):
        asked.append(position)
        return blocks[position]

    pruned = prune_tower(read, 4, pruning)
    assert torch.equal(next(pruned).fc2.weight, prune_block(blocks[0], pruning).fc2.weight)
    assert asked == [0], "blocks are read when they are wanted, not before"
    assert len(list(pruned)) == 3
    assert asked == [0, 1, 2, 3]


def test_with_pictures_each_block_is_given_what_the_pruned_ones_before_make():
    blocks, pruning, x = tower(), Pruning(heads=0.25, neurons=0.5, blocks=1), tokens()
    pruned = list(prune_tower(blocks.__getitem__, 4, pruning, x))
    assert pruned.count(None) == 1
    for block, after in zip(blocks, pruned, strict=True):
        if after is not None:
            assert torch.equal(after.fc2.weight, prune_block_with(block, pruning, x).fc2.weight)
            x = run_block(after, x)
