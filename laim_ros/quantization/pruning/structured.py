"""Structured pruning: a block of the vision tower without some of its heads and neurons, smaller and faster.

What goes is chosen by the weights alone, so that a checkpoint is prepared without pictures; with pictures much less is
lost, see `calibrated`. A layer normalisation gives γ ⊙ z + β; take the elements of z as independent and standard
normal, and an attention head as attending to one token. Then

- a head adds P (V (γ ⊙ z + β) + v), of mean square ‖P V diag(γ)‖_F² + ‖P (V β + v)‖²: its value-output circuit
  [Elhage et al. 2021, "A Mathematical Framework for Transformer Circuits"], which no change of basis within the head
  alters, as it alters the norms of P and V;
- a neuron's input is normal with mean w·β + b and variance Σ (w γ)²; its output GELU(input), of mean square E[g²], is
  added along the column c of the second layer: E[g²] ‖c‖².

These mean squares are the scores: "the least output lost", as Wanda [Sun et al. 2023, arXiv 2306.11695] measures it
with data. On laim-mini-blip2 they lose a little less than products of norms; putting the lost means into the biases
(as FLAP does, arXiv 2312.11983) made its captions worse in spite of smaller errors within the block, measured or
modelled, so it is not done here.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch

from laim_ros.quantization.errors import QuantizationError
from laim_ros.quantization.pruning.magnitude import prune_linear
from laim_ros.quantization.pruning.spec import Pruning
from laim_ros.quantization.weights import BlockWeights, LinearWeights

_NODES, _NODE_WEIGHTS = (torch.from_numpy(x) for x in np.polynomial.hermite_e.hermegauss(32))


def prune_block(block: BlockWeights, pruning: Pruning) -> BlockWeights:
    """All of a pruning that happens inside one block: heads, then neurons, then the smallest of the weights left.

    Args:
        block: of floats; left as it is.
        pruning: `blocks` is not looked at, see `tower.prune_tower`.

    Returns:
        A block with the same input and output width; `block` itself where nothing is to be pruned.

    Raises:
        QuantizationError: quantized, NaN or infinite weights.
    """
    if pruning.heads:
        block = cut_heads(block, _best(head_scores(block), kept_heads(block.heads, pruning.heads)))
    if pruning.neurons:
        scores = neuron_scores(block)
        block = cut_neurons(block, _best(scores, kept_neurons(len(scores), pruning.neurons)))
    return prune_weights(block, pruning)


def prune_weights(block: BlockWeights, pruning: Pruning) -> BlockWeights:
    """The magnitude part of a pruning, for the four linear layers of a block.

    Raises:
        QuantizationError: as `prune_block`.
    """
    if not pruning.magnitude:
        return block
    names = ("qkv", "projection", "fc1", "fc2")
    return replace(block, **{name: prune_linear(getattr(block, name), pruning) for name in names})


def kept_heads(heads: int, ratio: float) -> int:
    """How many heads stay: the nearest to (1 - ratio) · heads, at least one."""
    return max(1, heads - math.floor(ratio * heads + 0.5))


def kept_neurons(neurons: int, ratio: float) -> int:
    """How many neurons stay: the nearest to (1 - ratio) · neurons in steps of a power of two, at least one step.

    A step is at most 128 (so that groups of 128 weights still divide the second layer at real size) and about 1/32 to
    1/64 of all: 6144 neurons go in steps of 128, 512 in steps of 16.
    """
    step = 1 << min(7, max(0, (neurons // 32).bit_length() - 1))
    return min(neurons, step * max(1, math.floor((1 - ratio) * neurons / step + 0.5)))


def head_scores(block: BlockWeights) -> torch.Tensor:
    """Mean square, summed over the width, of what each head adds; float64 (heads,).

    Raises:
        QuantizationError: quantized, NaN or infinite weights.
    """
    heads, size = block.heads, block.head_width
    qkv, projection = _floats(block.qkv, "qkv"), _floats(block.projection, "projection")
    values = qkv.view(3, heads, size, -1)[2]
    outputs = projection.view(-1, heads, size).transpose(0, 1)
    scaled = values * block.norm1.weight.double()
    # ‖AB‖² = tr(AᵀA · BBᵀ): products of (head_width, head_width) in place of (width, width).
    varying = ((outputs.transpose(1, 2) @ outputs) * (scaled @ scaled.transpose(1, 2))).sum(dim=(1, 2))
    shift = values @ block.norm1.bias.double()
    if block.qkv.bias is not None:
        shift = shift + block.qkv.bias.double().view(3, heads, size)[2]
    return varying + (outputs @ shift[:, :, None]).square().sum(dim=(1, 2))


def neuron_scores(block: BlockWeights) -> torch.Tensor:
    """Mean square, summed over the width, of what each neuron adds; float64 (neurons,).

    Raises:
        QuantizationError: quantized, NaN or infinite weights.
    """
    fc1, fc2 = _floats(block.fc1, "fc1"), _floats(block.fc2, "fc2")
    mean = fc1 @ block.norm2.bias.double()
    if block.fc1.bias is not None:
        mean = mean + block.fc1.bias.double()
    deviation = (fc1 * block.norm2.weight.double()).norm(dim=1)
    # Gauss-Hermite quadrature of E[GELU(mean + deviation · n)²], n standard normal.
    nodes, shares = _NODES.to(fc1.device), (_NODE_WEIGHTS / _NODE_WEIGHTS.sum()).to(fc1.device)
    gelu = torch.nn.functional.gelu(mean[:, None] + deviation[:, None] * nodes)
    return (gelu.square() @ shares) * fc2.square().sum(dim=0)


def cut_heads(block: BlockWeights, kept: torch.Tensor) -> BlockWeights:
    """The block with only these heads, as if the others added nothing; `kept` is int64, rising."""
    heads, size, width = block.heads, block.head_width, block.projection.weight.shape[0]
    rows = block.qkv.weight.view(3, heads, size, -1)[:, kept]
    bias = block.qkv.bias
    if bias is not None:
        bias = bias.view(3, heads, size)[:, kept].reshape(-1)
    columns = block.projection.weight.view(width, heads, size)[:, kept].reshape(width, -1)
    return replace(
        block,
        heads=len(kept),
        qkv=LinearWeights(rows.reshape(3 * len(kept) * size, -1), bias),
        projection=LinearWeights(columns, block.projection.bias),
    )


def cut_neurons(block: BlockWeights, kept: torch.Tensor) -> BlockWeights:
    """The block with only these neurons, as if the others added nothing; `kept` is int64, rising."""
    bias = block.fc1.bias
    return replace(
        block,
        fc1=LinearWeights(block.fc1.weight[kept], None if bias is None else bias[kept]),
        fc2=LinearWeights(block.fc2.weight[:, kept].contiguous(), block.fc2.bias),
    )


def _best(scores: torch.Tensor, count: int) -> torch.Tensor:
    """Positions of the best, in rising order; of equals the first ones stay."""
    return torch.argsort(scores, descending=True, stable=True)[:count].sort().values


def _floats(linear: LinearWeights, name: str) -> torch.Tensor:
    """The weight, float64: these sums are small next to reading the checkpoint."""
    if not isinstance(linear.weight, torch.Tensor):
        raise QuantizationError(f"{name} is quantized already: prune first, then quantize")
    if not torch.isfinite(linear.weight).all():
        raise QuantizationError(f"{name}: NaN or infinite weights; fetch or export the checkpoint again")
    return linear.weight.double()
