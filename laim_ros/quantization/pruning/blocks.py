"""Which whole blocks of the vision tower may go: those that change their input least.

A dropped block is None where its weights would be; its stage becomes the identity, and the names of the split points
stay.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from laim_ros.quantization.errors import QuantizationError
from laim_ros.quantization.pruning.structured import head_scores, neuron_scores
from laim_ros.quantization.weights import BlockWeights


def choose_blocks(influences: Sequence[float], count: int) -> frozenset[int]:
    """The blocks to drop: the `count` least influential; of equals the later ones.

    Args:
        influences: of every block in order: `weight_influences(...)`, or the mean of `block_influence` over
            calibration pictures. Only their order matters.
        count: how many to drop.

    Returns:
        Positions, from 0.

    Raises:
        QuantizationError: a NaN, or no block would be left.
    """
    if any(math.isnan(influence) for influence in influences):
        raise QuantizationError("choosing blocks to drop: the influence of one is NaN; check the checkpoint's weights")
    if not 0 <= count < max(1, len(influences)):
        raise QuantizationError(
            f"prune 'blocks:{count}': the vision tower has {len(influences)} blocks, of which one must stay"
        )
    order = sorted(range(len(influences)), key=lambda block: (influences[block], -block))
    return frozenset(order[:count])


def weight_influences(changes: Sequence[float]) -> list[float]:
    """Influence of every block by its weights alone: the share of its own change in all that has been added so far.

    Args:
        changes: `block_change` of every block, in order.

    Returns:
        change_l / Σ_{i ≤ l} change_i, so that the first is 1: a block matters less the more its input holds already.
    """
    influences, total = [], 0.0
    for change in changes:
        total += change
        influences.append(change / total if total > 0 else 1.0)
    return influences


def block_change(block: BlockWeights) -> float:
    """Mean square, summed over the width, of what a block adds to its input, by the model in `structured`.

    Heads, neurons and biases count as independent of one another.
    """
    biases = [
        linear.bias.double().square().sum() for linear in (block.projection, block.fc2) if linear.bias is not None
    ]
    return float(head_scores(block).sum() + neuron_scores(block).sum() + sum(biases))


def block_influence(before: torch.Tensor, after: torch.Tensor) -> float:
    """How much a block changed its input: 1 - the mean cosine between tokens before and after it.

    The block influence of ShortGPT [Men et al. 2024, arXiv 2403.03853].

    Args:
        before, after: floating point (…, width), the block's input and output for calibration pictures.
    """
    return 1.0 - float(torch.nn.functional.cosine_similarity(before.double(), after.double(), dim=-1).mean())
