"""Structured pruning: a block of the vision tower without some of its heads and neurons, smaller and faster.

What goes is chosen by the weights alone, so that a checkpoint is prepared without pictures. A layer normalisation
gives γ ⊙ z + β; take the elements of z as independent and standard normal. Then

- an attention head gives Σ_t a_t · P (V (γ ⊙ z_t + β) + v) for weights a_t that sum to one: a constant P (V β + v), and
  a rest that varies with the picture, of a size in proportion to ‖P V diag(γ)‖_F;
- a neuron's input is normal with mean μ = w·β + b and variance Σ (w γ)²; its output g = GELU has a mean and a variance
  of their own, and reaches the block's output through the column c of the second layer.

The constants go into the bias of the layer that follows, the varying part is what is lost, so that is the score: the
idea (variance of the feature times the norm of the weights that it meets, its mean into the bias) is that of FLAP
[An et al. 2024, arXiv 2312.11983], with moments of the model above where FLAP measures them on calibration data.
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
        pruning: `blocks` is not looked at, see `blocks.choose_blocks`.

    Returns:
        A block with the same input and output width; `block` itself where nothing is to be pruned.

    Raises:
        QuantizationError: quantized, NaN or infinite weights.
    """
    if pruning.heads:
        scores, constants = head_scores(block)
        block = _with_heads(block, _best(scores, kept_heads(block.heads, pruning.heads)), constants)
    if pruning.neurons:
        scores, means = neuron_scores(block)
        block = _with_neurons(block, _best(scores, kept_neurons(len(scores), pruning.neurons)), means)
    if pruning.magnitude:
        names = ("qkv", "projection", "fc1", "fc2")
        block = replace(block, **{name: prune_linear(getattr(block, name), pruning) for name in names})
    return block


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


def head_scores(block: BlockWeights) -> tuple[torch.Tensor, torch.Tensor]:
    """What each head adds that varies, and what it adds always.

    Returns:
        float64 (heads,): ‖P_h V_h diag(γ)‖_F; and float64 (heads, width): P_h (V_h β + v_h).

    Raises:
        QuantizationError: quantized, NaN or infinite weights.
    """
    heads, size = block.heads, block.head_width
    qkv, projection = _floats(block.qkv, "qkv"), _floats(block.projection, "projection")
    values = qkv.view(3, heads, size, -1)[2]
    outputs = projection.view(-1, heads, size).transpose(0, 1)
    scaled = values * block.norm1.weight.double()
    # ‖AB‖² = tr(AᵀA · BBᵀ): products of (head_width, head_width) in place of (width, width).
    grams = (outputs.transpose(1, 2) @ outputs) * (scaled @ scaled.transpose(1, 2))
    shift = values @ block.norm1.bias.double()
    if block.qkv.bias is not None:
        shift = shift + block.qkv.bias.double().view(3, heads, size)[2]
    return grams.sum(dim=(1, 2)).clamp(min=0).sqrt(), (outputs @ shift[:, :, None])[:, :, 0]


def neuron_scores(block: BlockWeights) -> tuple[torch.Tensor, torch.Tensor]:
    """What each neuron adds that varies, and its mean.

    Returns:
        float64 (neurons,): √Var[g_j] · ‖c_j‖₂; and float64 (neurons,): E[g_j].

    Raises:
        QuantizationError: quantized, NaN or infinite weights.
    """
    fc1, fc2 = _floats(block.fc1, "fc1"), _floats(block.fc2, "fc2")
    mean = fc1 @ block.norm2.bias.double()
    if block.fc1.bias is not None:
        mean = mean + block.fc1.bias.double()
    deviation = (fc1 * block.norm2.weight.double()).norm(dim=1)
    # Gauss-Hermite quadrature of the moments of GELU(mean + deviation · n), n standard normal.
    nodes, shares = _NODES.to(fc1.device), (_NODE_WEIGHTS / _NODE_WEIGHTS.sum()).to(fc1.device)
    gelu = torch.nn.functional.gelu(mean[:, None] + deviation[:, None] * nodes)
    means = gelu @ shares
    variances = ((gelu - means[:, None]) ** 2) @ shares
    return variances.sqrt() * fc2.norm(dim=0), means


def _best(scores: torch.Tensor, count: int) -> torch.Tensor:
    """Positions of the best, in rising order; of equals the first ones stay."""
    return torch.argsort(scores, descending=True, stable=True)[:count].sort().values


def _with_heads(block: BlockWeights, kept: torch.Tensor, constants: torch.Tensor) -> BlockWeights:
    heads, size, width = block.heads, block.head_width, block.projection.weight.shape[0]
    rows = block.qkv.weight.view(3, heads, size, -1)[:, kept]
    bias = block.qkv.bias
    if bias is not None:
        bias = bias.view(3, heads, size)[:, kept].reshape(-1)
    columns = block.projection.weight.view(width, heads, size)[:, kept].reshape(width, -1)
    lost = constants.sum(dim=0) - constants[kept].sum(dim=0)
    return replace(
        block,
        heads=len(kept),
        qkv=LinearWeights(rows.reshape(3 * len(kept) * size, -1), bias),
        projection=LinearWeights(columns, _shifted(block.projection.bias, lost)),
    )


def _with_neurons(block: BlockWeights, kept: torch.Tensor, means: torch.Tensor) -> BlockWeights:
    gone = torch.ones(len(means), dtype=torch.bool, device=means.device)
    gone[kept] = False
    lost = block.fc2.weight[:, gone].double() @ means[gone]
    bias = block.fc1.bias
    return replace(
        block,
        fc1=LinearWeights(block.fc1.weight[kept], None if bias is None else bias[kept]),
        fc2=LinearWeights(block.fc2.weight[:, kept].contiguous(), _shifted(block.fc2.bias, lost)),
    )


def _shifted(bias: torch.Tensor | None, by: torch.Tensor) -> torch.Tensor:
    return (by if bias is None else bias.double() + by).float()


def _floats(linear: LinearWeights, name: str) -> torch.Tensor:
    """The weight, float64: these sums are small next to reading the checkpoint."""
    if not isinstance(linear.weight, torch.Tensor):
        raise QuantizationError(f"{name} is quantized already: prune first, then quantize")
    if not torch.isfinite(linear.weight).all():
        raise QuantizationError(f"{name}: NaN or infinite weights; fetch or export the checkpoint again")
    return linear.weight.double()
