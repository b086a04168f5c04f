"""The weights of one layer on their way from a store to an engine, as floats or quantized."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from laim_ros.quantization.quantized_weight import QuantizedWeight

Weight = torch.Tensor | QuantizedWeight
"""(N, K): N outputs, K inputs; float32 where it is a tensor."""


@dataclass(frozen=True, slots=True)
class LinearWeights:
    """A linear layer.

    Attributes:
        weight: (N, K).
        bias: float32 (N,), or None.
    """

    weight: Weight
    bias: torch.Tensor | None


@dataclass(frozen=True, slots=True)
class NormWeights:
    """A layer normalisation: weight and bias, float32 (K,), and the ε under the root."""

    weight: torch.Tensor
    bias: torch.Tensor
    eps: float


@dataclass(frozen=True, slots=True)
class BlockWeights:
    """A block of a vision transformer: x + attention(norm1(x)), then x + mlp(norm2(x)).

    Structured pruning makes it narrower inside: fewer heads, fewer neurons; its input and output stay as wide.

    Attributes:
        qkv: (3 · heads · head_width, width): queries, keys, values; within each the heads one after the other.
        projection: (width, heads · head_width).
        fc1, fc2: (neurons, width) and (width, neurons), with GELU between.
        heads, head_width: of the attention; its scale is head_width^-½.
    """

    norm1: NormWeights
    qkv: LinearWeights
    projection: LinearWeights
    norm2: NormWeights
    fc1: LinearWeights
    fc2: LinearWeights
    heads: int
    head_width: int
