"""What the head of a BLIP-2 consists of: the linear layers that are quantized, and the tensors that are not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import nn
from transformers import Blip2Config, Blip2QFormerModel, Blip2VisionModel

from laim_ros.models.source import ModelSource
from laim_ros.quantization.errors import QuantizationError

BLOCK_LINEARS = ("self_attn.qkv", "self_attn.projection", "mlp.fc1", "mlp.fc2")
BLOCK_NORMS = ("layer_norm1", "layer_norm2")
"""Names within a block of the vision tower, in the order of execution."""


@dataclass(frozen=True, slots=True)
class HeadParts:
    """The head, `input` to `qformer`, as `config.json` describes it: unpruned.

    Attributes:
        blocks: of the vision tower.
        heads, head_width: of the attention in each block.
        neurons: between the two layers of each block's MLP.
        eps: under the root of each block's layer normalisations.
        linears: (N, K) of each linear layer, by prefix, such as `vision_model.encoder.layers.0.mlp.fc1`.
        biased: the prefixes of linear layers that have a bias.
        others: shape of every other tensor, by key: normalisations, embeddings, query tokens.
    """

    blocks: int
    heads: int
    head_width: int
    neurons: int
    eps: float
    linears: Mapping[str, tuple[int, int]]
    biased: frozenset[str]
    others: Mapping[str, tuple[int, ...]]

    @classmethod
    @lru_cache(maxsize=4)  # a store for each width, and checks before there is one, ask for the same
    def of(cls, source: ModelSource) -> HeadParts:
        """Reads `config.json` and no weights.

        Raises:
            QuantizationError: not a BLIP-2, or one that the quantized head cannot run.
            ModelError: no readable `config.json`.
        """
        config = _config(source)
        vision = config.vision_config
        # Modules without memory know best which tensors there are and which of them belong to linear layers.
        with torch.device("meta"):
            modules = {
                "vision_model": Blip2VisionModel._from_config(vision, dtype=torch.float32),
                "qformer": Blip2QFormerModel._from_config(config.qformer_config, dtype=torch.float32),
            }
        linears, biased = {}, set()
        others: dict[str, tuple[int, ...]] = {"query_tokens": (1, config.num_query_tokens, _qformer_width(config))}
        for top, module in modules.items():
            for name, part in module.named_modules():
                if isinstance(part, nn.Linear):
                    prefix = f"{top}.{name}"
                    linears[prefix] = (part.out_features, part.in_features)
                    if part.bias is not None:
                        biased.add(prefix)
            for name, tensor in module.state_dict().items():
                prefix, _, kind = f"{top}.{name}".rpartition(".")
                if prefix not in linears or kind not in ("weight", "bias"):
                    others[f"{top}.{name}"] = tuple(tensor.shape)
        return cls(
            blocks=vision.num_hidden_layers,
            heads=vision.num_attention_heads,
            head_width=vision.hidden_size // vision.num_attention_heads,
            neurons=vision.intermediate_size,
            eps=vision.layer_norm_eps,
            linears=linears,
            biased=frozenset(biased),
            others=others,
        )


def block_prefix(index: int) -> str:
    """Beginning of the keys of a block of the vision tower; index 0 makes split point `vit.1`."""
    return f"vision_model.encoder.layers.{index}."


def block_index(key: str) -> int | None:
    """Which block of the vision tower a key or prefix belongs to; None where it is another part's."""
    start = block_prefix(0).removesuffix("0.")
    return int(key.removeprefix(start).partition(".")[0]) if key.startswith(start) else None


def _config(source: ModelSource) -> Blip2Config:
    if source.config.get("model_type") != "blip-2":
        raise QuantizationError(
            f"model '{source.name}' is of type '{source.config.get('model_type')}'; only blip-2 can be quantized"
        )
    try:
        config = Blip2Config.from_dict(source.config)
    except Exception as error:  # transformers raises many kinds for a broken configuration
        raise QuantizationError(
            f"model '{source.name}': config.json is not a usable BLIP-2 configuration: {error}"
        ) from error
    act = config.vision_config.hidden_act
    if act != "gelu":
        raise QuantizationError(
            f"model '{source.name}': the quantized vision tower computes 'gelu', but config.json asks for "
            f"'{act}'; use a model with 'gelu'"
        )
    return config


def _qformer_width(config: Blip2Config) -> int:
    return config.qformer_config.hidden_size
