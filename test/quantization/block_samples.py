"""Random vision blocks, as transformers builds them and as `BlockWeights`, for tests of pruning."""

from __future__ import annotations

import torch
from transformers import Blip2VisionConfig
from transformers.models.blip_2.modeling_blip_2 import Blip2EncoderLayer

from laim_ros.quantization.weights import BlockWeights, LinearWeights, NormWeights

WIDTH, HEADS, NEURONS = 48, 4, 96


def transformers_block(seed: int = 0, *, qkv_bias: bool = True, heads: int = HEADS) -> Blip2EncoderLayer:
    """transformers' own block with weights of a lively size, norms and biases included."""
    config = Blip2VisionConfig(
        hidden_size=WIDTH, num_attention_heads=heads, intermediate_size=NEURONS, qkv_bias=qkv_bias, hidden_act="gelu"
    )
    config._attn_implementation = "sdpa"
    random = torch.Generator().manual_seed(seed)
    layer = Blip2EncoderLayer(config).eval().requires_grad_(False)
    for name, parameter in layer.named_parameters():
        spread = parameter.shape[-1] ** -0.5 if parameter.ndim == 2 else 0.3
        parameter.copy_(torch.randn(parameter.shape, generator=random) * spread)
        if "norm" in name and name.endswith("weight"):
            parameter += 1
    return layer


def weights_of(layer: Blip2EncoderLayer) -> BlockWeights:
    """The same weights as a store hands them out."""

    def linear(module: torch.nn.Linear) -> LinearWeights:
        return LinearWeights(module.weight.clone(), None if module.bias is None else module.bias.clone())

    def norm(module: torch.nn.LayerNorm) -> NormWeights:
        return NormWeights(module.weight.clone(), module.bias.clone(), module.eps)

    attention, mlp = layer.self_attn, layer.mlp
    return BlockWeights(
        norm(layer.layer_norm1),
        linear(attention.qkv),
        linear(attention.projection),
        norm(layer.layer_norm2),
        linear(mlp.fc1),
        linear(mlp.fc2),
        heads=attention.num_heads,
        head_width=attention.head_dim,
    )


def tokens(seed: int = 0, batch: int = 3, count: int = 20) -> torch.Tensor:
    """float32 (batch, count, WIDTH)."""
    return torch.randn((batch, count, WIDTH), generator=torch.Generator().manual_seed(1000 + seed))
