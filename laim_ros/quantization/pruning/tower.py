"""Pruning of the whole vision tower, one block in memory at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch

from laim_ros.quantization.pruning.blocks import block_change, block_influence, choose_blocks, weight_influences
from laim_ros.quantization.pruning.calibrated import prune_block_with, run_block
from laim_ros.quantization.pruning.spec import Pruning
from laim_ros.quantization.pruning.structured import prune_block
from laim_ros.quantization.weights import BlockWeights


def prune_tower(
    read: Callable[[int], BlockWeights],
    count: int,
    pruning: Pruning,
    tokens: torch.Tensor | None = None,
    dropped: frozenset[int] | None = None,
) -> Iterator[BlockWeights | None]:
    """Prunes the blocks in order.

    Args:
        read: gives a block of floats by its position; called once for each that stays, and once more for each
            where whole blocks are dropped.
        count: of blocks.
        pruning: what goes.
        tokens: float32 (B, T, width), what the embeddings make of calibration pictures; None chooses by the weights
            alone.
        dropped: positions of the blocks that go, where that is known already; else `pruning.blocks` says how many.

    Yields:
        Each block pruned, or None where it is dropped.

    Raises:
        QuantizationError: more blocks to drop than there are, or weights that cannot be pruned.
    """
    if dropped is None:
        dropped = choose_blocks(influences(read, count, tokens), pruning.blocks) if pruning.blocks else frozenset()
    for position in range(count):
        if position in dropped:
            yield None
        elif tokens is None:
            yield prune_block(read(position), pruning)
        else:
            block = prune_block_with(read(position), pruning, tokens)
            tokens = run_block(block, tokens)
            yield block


def influences(read: Callable[[int], BlockWeights], count: int, tokens: torch.Tensor | None) -> list[float]:
    """How much each block matters, measured with pictures where there are any; see `blocks`."""
    if tokens is None:
        return weight_influences([block_change(read(position)) for position in range(count)])
    found = []
    for position in range(count):
        after = run_block(read(position), tokens)
        found.append(block_influence(tokens, after))
        tokens = after
    return found
