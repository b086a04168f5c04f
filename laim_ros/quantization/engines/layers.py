"""Layers that engines share: floating-point linears, normalisation, and the vision block made of any linears."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from laim_ros.quantization.weights import BlockWeights, NormWeights


class EngineLayer(nn.Module):
    """A layer whose tensors are the engine's business: not parameters, not in any state_dict.

    Attributes:
        nbytes: bytes of the weights that it holds.
    """

    nbytes: int = 0


class FloatLinear(EngineLayer):
    """y = activation(x Wᵀ + b) in floating point.

    Args:
        weight: (N, K), in the dtype to compute in.
        bias: float32 (N,) or None.
        activation: `gelu` or empty.
        dtype: of y.
    """

    def __init__(
        self,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        activation: str = "",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self._weight, self._activation, self._dtype = weight, activation, dtype
        self._bias = None if bias is None else bias.to(weight.dtype)
        self.nbytes = weight.nbytes + (0 if bias is None else self._bias.nbytes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(…, K) to (…, N)."""
        y = F.linear(x.to(self._weight.dtype), self._weight, self._bias)
        return (F.gelu(y) if self._activation else y).to(self._dtype)


class Norm(EngineLayer):
    """Layer normalisation in float32 over the last dimension."""

    def __init__(self, weights: NormWeights, device: torch.device) -> None:
        super().__init__()
        self._weight, self._bias, self._eps = weights.weight.to(device), weights.bias.to(device), weights.eps
        self.nbytes = self._weight.nbytes + self._bias.nbytes

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """float32 (…, K) to the same."""
        return F.layer_norm(x, self._weight.shape, self._weight, self._bias, self._eps)


class VisionBlock(EngineLayer):
    """x + attention(norm1(x)), then x + mlp(norm2(x)); the residual stream stays float32.

    Args:
        weights: norms and sizes; the linears' own weights are not looked at.
        qkv, projection, fc1, fc2: the engine's linears, fc1 with its GELU.
        attention_dtype: in which queries, keys and values are multiplied.
        device: where it runs.
    """

    def __init__(
        self,
        weights: BlockWeights,
        *,
        qkv: EngineLayer,
        projection: EngineLayer,
        fc1: EngineLayer,
        fc2: EngineLayer,
        attention_dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        super().__init__()
        self.norm1, self.norm2 = Norm(weights.norm1, device), Norm(weights.norm2, device)
        self.qkv, self.projection, self.fc1, self.fc2 = qkv, projection, fc1, fc2
        self._heads, self._head_width, self._dtype = weights.heads, weights.head_width, attention_dtype
        self.nbytes = sum(layer.nbytes for layer in self.children())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """float32 (B, tokens, width) to the same."""
        x = x + self.projection(self._attend(self.qkv(self.norm1(x))))
        return x + self.fc2(self.fc1(self.norm2(x)))

    def _attend(self, qkv: torch.Tensor) -> torch.Tensor:
        """(B, T, 3 · heads · head_width) to (B, T, heads · head_width)."""
        if len(qkv) > 1:
            return torch.cat([self._attend(frame[None]) for frame in qkv])
        qkv, tokens = qkv[0].to(self._dtype), qkv.shape[1]
        parts = qkv.view(tokens, 3, self._heads, self._head_width).permute(1, 2, 0, 3)
        if self._dtype != torch.bfloat16:
            mixed = F.scaled_dot_product_attention(*parts.unsqueeze(1))
            return mixed[0].transpose(0, 1).reshape(1, tokens, -1)
        # Two plain products are more than twice as fast here as the fused kernel in float32 or bfloat16, which is made
        # for longer sequences.
        queries, keys, values = parts.contiguous()
        zero, scale = queries.new_zeros(()), self._head_width**-0.5
        scores = torch.baddbmm(zero, queries, keys.transpose(1, 2), beta=0, alpha=scale)
        mixed = torch.empty((tokens, self._heads, self._head_width), dtype=qkv.dtype, device=qkv.device)
        torch.bmm(scores.softmax(dim=-1), values, out=mixed.transpose(0, 1))
        return mixed.view(1, tokens, -1)
