"""BLIP-2 with an OPT language model as named stages, made of transformers' own modules."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import AutoTokenizer, Blip2Config, Blip2ForConditionalGeneration

from laim_ros.models.base import HeadBuilder, SplitModel, Stage, split_points, stage_names
from laim_ros.models.errors import ModelError
from laim_ros.models.identity import model_id
from laim_ros.models.pictures import PicturePreparation
from laim_ros.models.source import ModelSource, shipped_listing
from laim_ros.models.text import LanguageTail
from laim_ros.models.weights import fill, read_tensors, require_complete, warn_unused, weight_bytes

_TAIL = ("language_projection.", "language_model.")
"""Beginnings of the keys that belong to the text part."""


def load_blip2(
    source: ModelSource,
    *,
    first: str,
    last: str,
    dtype: torch.dtype,
    device: torch.device,
    builder: HeadBuilder | None = None,
) -> SplitModel:
    """Loads the stages after `first` up to `last` of a BLIP-2 checkpoint, and no weight of any other.

    With a builder, vision blocks and the Q-Former's linears are made by it, and their weights are not read here.

    Raises:
        ModelError: not a BLIP-2 that can be split, files missing or not fitting together, or no such split points.
    """
    config = _config(source)
    blocks = config.vision_config.num_hidden_layers
    points = split_points(blocks)
    names = stage_names(points, first, last)
    where, settings = source.image_processor
    pictures = PicturePreparation.from_config(settings, f"model '{source.name}': {where}")
    _require_picture_size(source, where, pictures, config)

    skeleton = _skeleton(config)
    known = skeleton.state_dict().keys()
    keys = {key for key in known if key.startswith(tuple(_key_prefixes(names)))}
    if builder is not None:
        built = _build(skeleton, names, builder)
        keys = {key for key in keys if not key.startswith(built)}
    tensors = read_tensors(source, keys, _dtype_rule(skeleton, dtype), device)
    fill(skeleton, tensors, source)
    missing = keys - tensors.keys()
    if last == "output":
        # What is tied is stored once or twice; transformers' own rule decides what that means.
        skeleton.tie_weights(missing_keys=missing, recompute_mapping=False)
    require_complete(source, missing)
    if builder is None:
        warn_unused(source, known)

    stages = [_stage(skeleton, name, pictures) for name in names if name != "output"]
    head_bytes, tail_bytes = (
        weight_bytes(skeleton.get_parameter(key) for key in keys if key.startswith(_TAIL) is of_tail)
        for of_tail in (False, True)
    )
    return SplitModel(
        name=source.name,
        model_id=model_id(source),
        shapes=_shapes(config, points),
        pictures=pictures,
        stages=stages,
        tail=_tail(source, skeleton) if last == "output" else None,
        first=first,
        last=last,
        dtype=dtype,
        device=device,
        head_bytes=head_bytes + (0 if builder is None else builder.nbytes),
        tail_bytes=tail_bytes,
        weight_bits=builder.weight_bits if builder is not None else 8 * dtype.itemsize,
        engine=builder.engine if builder is not None else "transformers",
    )


def _config(source: ModelSource) -> Blip2Config:
    """The checked configuration.

    Raises:
        ModelError: a language model or a kind of checkpoint that cannot be split here.
    """
    content = source.config
    text = content.get("text_config") or {}
    if text.get("is_encoder_decoder") or text.get("model_type", "opt") != "opt":
        raise ModelError(
            f"model '{source.name}' has a '{text.get('model_type')}' language model; only OPT is supported: "
            f"use Salesforce/blip2-opt-2.7b or a shipped model ({shipped_listing()})"
        )
    if "quantization_config" in content:
        raise ModelError(f"model '{source.name}' is stored quantized; give the unquantized checkpoint")
    try:
        config = Blip2Config.from_dict(content)
    except Exception as error:  # transformers raises many kinds for a broken configuration
        raise ModelError(f"model '{source.name}': config.json is not a usable BLIP-2 configuration: {error}") from error
    vision = config.vision_config
    if not (isinstance(vision.image_size, int) and isinstance(vision.patch_size, int)):
        raise ModelError(f"model '{source.name}': only square pictures and patches are supported")
    if vision.num_hidden_layers < 1:
        raise ModelError(f"model '{source.name}': the vision tower has no block to split at")
    return config


def _require_picture_size(source: ModelSource, where: str, pictures: PicturePreparation, config: Blip2Config) -> None:
    side = config.vision_config.image_size
    if pictures.size != (side, side):
        raise ModelError(
            f"model '{source.name}': {where} resizes to {pictures.size[0]} × {pictures.size[1]}, but the vision tower "
            f"in config.json takes {side} × {side}; make them equal"
        )


def _skeleton(config: Blip2Config) -> Blip2ForConditionalGeneration:
    """The unsplit model without memory: the names of the weights, and modules to be filled."""
    # With a dtype of its own, because transformers sets PyTorch's default for all threads to the configuration's.
    with torch.device("meta"):
        return Blip2ForConditionalGeneration._from_config(config, dtype=torch.float32).eval()


def _build(skeleton: Blip2ForConditionalGeneration, names: Sequence[str], builder: HeadBuilder) -> tuple[str, ...]:
    """Puts the builder's layers in their places; returns what the names of their weights begin with."""
    built = []
    blocks = skeleton.vision_model.encoder.layers
    for name in names:
        if name.startswith("vit."):
            built.append(_block_prefix(name))
            blocks[_block(name)] = builder.block(built[-1])
    if "qformer" in names:
        for path, module in list(skeleton.qformer.named_modules()):
            if isinstance(module, nn.Linear):
                built.append(f"qformer.{path}.")
                parent, _, child = path.rpartition(".")
                setattr(skeleton.qformer.get_submodule(parent), child, builder.linear(built[-1].removesuffix(".")))
    return tuple(built)


def _shapes(config: Blip2Config, points: Sequence[str]) -> dict[str, tuple[int, ...]]:
    vision = config.vision_config
    patches = (vision.image_size // vision.patch_size) ** 2 + 1
    shapes: dict[str, tuple[int, ...]] = dict.fromkeys(points[:-1], (patches, vision.hidden_size))
    shapes["input"] = (vision.image_size, vision.image_size, 3)
    shapes["qformer"] = (config.num_query_tokens, config.qformer_config.hidden_size)
    return shapes


def _key_prefixes(names: Sequence[str]) -> list[str]:
    """Beginnings of the keys that these stages need."""
    fixed = {
        "vision": ["vision_model.post_layernorm."],
        "qformer": ["query_tokens", "qformer."],
        "output": list(_TAIL),
    }
    prefixes = []
    for name in names:
        if name in fixed:
            prefixes += fixed[name]
        else:
            prefixes.append(_block_prefix(name))
            if name == "vit.1":
                prefixes.append("vision_model.embeddings.")
    return prefixes


def _block_prefix(name: str) -> str:
    return f"vision_model.encoder.layers.{_block(name)}."


def _block(name: str) -> int:
    """`vit.1` is the block with index 0."""
    return int(name.removeprefix("vit.")) - 1


def _dtype_rule(skeleton: Blip2ForConditionalGeneration, dtype: torch.dtype) -> Callable[[str], torch.dtype]:
    """Which dtype a key gets: transformers keeps modules that overflow in half precision in float32."""
    plan = skeleton._get_dtype_plan(dtype)

    def rule(key: str) -> torch.dtype:
        for kept, kept_dtype in plan.items():
            if re.search(rf"(^|\.){re.escape(kept)}(\.|$)", key):
                return kept_dtype
        return dtype

    return rule


def _stage(skeleton: Blip2ForConditionalGeneration, name: str, pictures: PicturePreparation) -> Stage:
    if name == "vision":
        return Stage(name, skeleton.vision_model.post_layernorm)
    if name == "qformer":
        return Stage(name, _Queries(skeleton.query_tokens, skeleton.qformer))
    block = skeleton.vision_model.encoder.layers[_block(name)]
    if name == "vit.1":
        return Stage(name, _FirstBlock(pictures, skeleton.vision_model.embeddings, block))
    return Stage(name, block)


@dataclass(frozen=True, slots=True)
class _FirstBlock:
    """Pictures (B, H, W, 3) uint8 to the tokens after the first block (B, patches + 1, width)."""

    pictures: PicturePreparation
    embeddings: nn.Module
    block: nn.Module

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return self.block(self.embeddings(self.pictures.pixel_values(x)))


@dataclass(frozen=True, slots=True)
class _Queries:
    """Image tokens (B, patches + 1, width) to the queries' features (B, queries, Q-Former width)."""

    query_tokens: nn.Parameter
    qformer: nn.Module

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        output = self.qformer(
            query_embeds=self.query_tokens.expand(x.shape[0], -1, -1),
            encoder_hidden_states=x,
            encoder_attention_mask=torch.ones(x.shape[:-1], dtype=torch.long, device=x.device),
        )
        # The Q-Former may be kept in float32 while the rest is in half precision.
        return output.last_hidden_state.to(x.dtype)


def _tail(source: ModelSource, skeleton: Blip2ForConditionalGeneration) -> LanguageTail:
    return LanguageTail(
        projection=skeleton.language_projection,
        language_model=skeleton.language_model,
        tokenizer=_tokenizer(source),
        image_token=skeleton.config.image_token_index,
        queries=skeleton.config.num_query_tokens,
    )


def _tokenizer(source: ModelSource) -> Any:
    try:
        return AutoTokenizer.from_pretrained(source.folder, local_files_only=True)
    except Exception as error:  # transformers raises many kinds for missing and broken files
        raise ModelError(
            f"model '{source.name}': its tokenizer cannot be read from {source.folder} ({error}); "
            "it needs tokenizer.json and tokenizer_config.json"
        ) from error
