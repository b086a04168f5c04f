"""Unstructured pruning: the smallest weights become zero.

The storage and the engines treat a zero as any other weight, so this saves neither bytes nor time; it shows what the
weights alone can lose, and composes with quantizers that have a zero (`Pruning.require_kept_by`).
"""

from __future__ import annotations

import torch

from laim_ros.quantization.errors import QuantizationError
from laim_ros.quantization.pruning.spec import Pruning
from laim_ros.quantization.weights import LinearWeights


def prune_magnitude(weight: torch.Tensor, ratio: float) -> torch.Tensor:
    """Sets the weights of the least magnitude to zero [Han et al. 2015, arXiv 1506.02626].

    For a given number of zeros this has the least L1 and the least L2 distance to the weights.

    Args:
        weight: floating point (N, K).
        ratio: share that becomes zero, 0 ≤ ratio < 1: exactly round(ratio · size) weights, or more where there were
            more zeros; of equal magnitudes the first ones go first.

    Returns:
        A new tensor like `weight`.

    Raises:
        QuantizationError: NaN or infinite weights, or a ratio out of range.
    """
    Pruning(magnitude=ratio)  # checks the ratio
    if not torch.isfinite(weight).all():
        raise QuantizationError("weights to prune: NaN or infinite; fetch or export the checkpoint again")
    pruned = weight.clone(memory_format=torch.contiguous_format)
    flat = pruned.view(-1)
    zeros = round(ratio * len(flat))
    if not zeros:
        return pruned
    magnitudes = flat.abs()
    limit = magnitudes.kthvalue(zeros).values
    below = magnitudes < limit
    # At the limit itself only as many as are still wanted: a constant tensor must not vanish altogether.
    at_limit = magnitudes == limit
    wanted = zeros - below.sum()
    flat[below | (at_limit & (at_limit.cumsum(dim=0) <= wanted))] = 0
    return pruned


def prune_linear(linear: LinearWeights, pruning: Pruning) -> LinearWeights:
    """The magnitude part of a pruning, for a linear layer outside the blocks (the Q-Former's).

    Raises:
        QuantizationError: as `prune_magnitude`, or the layer is quantized already.
    """
    if not isinstance(linear.weight, torch.Tensor):
        raise QuantizationError("pruning takes floating-point weights: prune first, then quantize")
    if not pruning.magnitude:
        return linear
    return LinearWeights(prune_magnitude(linear.weight, pruning.magnitude), linear.bias)
