"""Structured pruning with pictures: what stays takes over, as well as it can, the work of what goes.

The features that a linear layer W receives (heads' outputs before the projection, neurons before the second layer)
depend on one another, so that most of what some of them say can be had from the others. With the features' covariance
C over calibration tokens and A = (C + λI)⁻¹, taking out a group g of columns and giving the others the weights that
change the layer's output least in the mean square costs

    Σ over outputs of  w_g (A_gg)⁻¹ w_gᵀ,   and the new weights are   W - W_g (A_gg)⁻¹ A_g:,

with A then downdated by A_:g (A_gg)⁻¹ A_g: [optimal brain surgeon, Hassibi & Stork 1993, in groups as in ZipLM,
Kurtić et al. 2023, arXiv 2302.04089]. The cheapest groups go first. λ keeps the weights near the old ones where few
tokens say little. Means go into the bias, exactly.

On laim-mini-blip2 this makes neurons much cheaper: half of them cost a third of the distortion that they cost
without pictures. It does less for heads, of which there are few and which other heads cannot well stand in for.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch.nn import functional as F

from laim_ros.quantization.errors import QuantizationError
from laim_ros.quantization.pruning.spec import Pruning
from laim_ros.quantization.pruning.structured import cut_heads, cut_neurons, kept_heads, kept_neurons, prune_weights
from laim_ros.quantization.weights import BlockWeights, LinearWeights

_RIDGE = 1e-2
"""λ as a share of the features' mean variance: best of 1e-4 … 1e-2 with 16 pictures, indifferent with 100."""
_ROUNDS = 8
"""Neurons go in so many rounds, each with new scores."""


def prune_block_with(block: BlockWeights, pruning: Pruning, tokens: torch.Tensor) -> BlockWeights:
    """As `structured.prune_block`, with the block's input for calibration pictures.

    Args:
        block: of floats; left as it is.
        pruning: `blocks` is not looked at.
        tokens: float32 (B, T, width): what the block will be given, which is what the pruned blocks before it make of
            the pictures. 16 pictures do for neurons; choosing heads takes 64.

    Returns:
        A block with the same input and output width. The neurons of a ViT-g block take about half a minute of one core
        and 2.2 GB for a while, for the inverse of a matrix of 6144 × 6144.

    Raises:
        QuantizationError: NaN or infinite weights or tokens.
    """
    if pruning.heads:
        size = block.head_width
        gone = block.heads - kept_heads(block.heads, pruning.heads)
        features = attention_features(block, tokens)
        kept, projection = _without(block.projection, features, size, gone, rounds=gone)
        block = replace(cut_heads(block, kept), projection=projection)
    if pruning.neurons:
        features = mlp_features(block, tokens + F.linear(attention_features(block, tokens), *_of(block.projection)))
        neurons = features.shape[-1]
        gone = neurons - kept_neurons(neurons, pruning.neurons)
        kept, fc2 = _without(block.fc2, features, 1, gone, rounds=_ROUNDS)
        block = replace(cut_neurons(block, kept), fc2=fc2)
    return prune_weights(block, pruning)


def run_block(block: BlockWeights, tokens: torch.Tensor) -> torch.Tensor:
    """The block in floating point, plainly: float32 (B, T, width) to the same."""
    tokens = tokens + F.linear(attention_features(block, tokens), *_of(block.projection))
    return tokens + F.linear(mlp_features(block, tokens), *_of(block.fc2))


def attention_features(block: BlockWeights, tokens: torch.Tensor) -> torch.Tensor:
    """What the heads found, before the projection: (B, T, width) to (B, T, heads · head_width)."""
    norm = block.norm1
    normed = F.layer_norm(tokens, norm.weight.shape, norm.weight, norm.bias, norm.eps)
    batch, count, _ = tokens.shape
    qkv = F.linear(normed, *_of(block.qkv)).view(batch, count, 3, block.heads, block.head_width)
    queries, keys, values = qkv.permute(2, 0, 3, 1, 4)
    mixed = F.scaled_dot_product_attention(queries, keys, values)
    return mixed.transpose(1, 2).reshape(batch, count, block.heads * block.head_width)


def mlp_features(block: BlockWeights, tokens: torch.Tensor) -> torch.Tensor:
    """What the neurons found, before the second layer: (B, T, width) to (B, T, neurons)."""
    norm = block.norm2
    normed = F.layer_norm(tokens, norm.weight.shape, norm.weight, norm.bias, norm.eps)
    return F.gelu(F.linear(normed, *_of(block.fc1)))


def _without(
    linear: LinearWeights, features: torch.Tensor, size: int, gone: int, rounds: int
) -> tuple[torch.Tensor, LinearWeights]:
    """Takes `gone` groups of `size` columns out of a layer; the groups that stay, and the layer fitted to them."""
    if not torch.isfinite(features).all():
        raise QuantizationError("pruning with pictures: NaN or infinite features; check the checkpoint's weights")
    features = features.reshape(-1, features.shape[-1]).double()
    mean = features.mean(dim=0)
    features = features - mean
    covariance = features.T @ features / len(features)
    weight = linear.weight.double()
    kept, fitted = _surgery(weight, covariance, size, gone, rounds)
    shift = weight @ mean - fitted @ mean[_columns(kept, size)]
    bias = shift if linear.bias is None else linear.bias.double() + shift
    return kept, LinearWeights(fitted.float(), bias.float())


def _surgery(
    weight: torch.Tensor, covariance: torch.Tensor, size: int, gone: int, rounds: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The groups kept, int64, rising; and the weights of their columns. float64 throughout."""
    ridge = _RIDGE * float(covariance.diagonal().mean())
    # Features that never vary can be taken out at no cost; any ridge says so.
    covariance = covariance.clone()
    covariance.diagonal().add_(ridge if ridge > 0 else 1.0)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(covariance))
    kept = torch.arange(len(inverse) // size, device=weight.device)
    per_round = math.ceil(gone / max(1, rounds))
    while gone > 0:
        count = min(per_round, gone)
        out = _cheapest(weight, inverse, size, count)
        stays = torch.ones(len(kept), dtype=torch.bool, device=weight.device)
        stays[out] = False
        stay = stays.nonzero()[:, 0]
        out_columns, columns = _columns(out, size), _columns(stay, size)
        moves = torch.linalg.solve(inverse[out_columns][:, out_columns], inverse[out_columns][:, columns])
        weight = weight[:, columns] - weight[:, out_columns] @ moves
        inverse = inverse[columns][:, columns] - inverse[columns][:, out_columns] @ moves
        kept, gone = kept[stay], gone - count
    return kept, weight


def _cheapest(weight: torch.Tensor, inverse: torch.Tensor, size: int, count: int) -> torch.Tensor:
    """The groups to take out next, rising.

    Single columns are taken one after the other out of the cheapest 2 · count, each loss making its like dearer: of two
    that say the same, both look cheap, but only one is. Only the products among the candidates need to follow.
    """
    order = torch.argsort(_costs(weight, inverse, size), stable=True)
    if count == 1 or size > 1:
        return order[:count].sort().values
    pool = order[: 2 * count]
    among, gram = inverse[pool][:, pool], weight[:, pool].T @ weight[:, pool]
    gone = torch.zeros(len(pool), dtype=torch.bool, device=weight.device)
    for _ in range(count):
        costs = torch.where(gone, torch.inf, gram.diagonal() / among.diagonal())
        place = int(costs.argmin())
        gone[place] = True
        # The others' weights become w_j - w_p m_j; what is gone is never looked at again.
        moves, row = among[place] / among[place, place], gram[place].clone()
        gram += torch.outer(moves, moves * row[place] - row)
        gram -= torch.outer(row, moves)
        among -= torch.outer(among[place].clone(), moves)
    return pool[gone].sort().values


def _costs(weight: torch.Tensor, inverse: torch.Tensor, size: int) -> torch.Tensor:
    """What the loss of each group alone would cost, (groups,)."""
    groups = len(inverse) // size
    numbers = torch.arange(groups, device=inverse.device)
    blocks = inverse.view(groups, size, groups, size)[numbers, :, numbers, :]
    own = weight.view(-1, groups, size).permute(1, 2, 0)
    return (own * torch.linalg.solve(blocks, own)).sum(dim=(1, 2))


def _columns(groups: torch.Tensor, size: int) -> torch.Tensor:
    """Positions of all columns of these groups."""
    return (groups[:, None] * size + torch.arange(size, device=groups.device)).reshape(-1)


def _of(linear: LinearWeights) -> tuple[torch.Tensor, torch.Tensor | None]:
    if not isinstance(linear.weight, torch.Tensor):
        raise QuantizationError("pruning takes floating-point weights: prune first, then quantize")
    return linear.weight, linear.bias
