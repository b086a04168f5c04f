"""Random BLIP-2 checkpoints of any size, for tests and benchmarks. They say nothing true about a picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    Blip2Config,
    Blip2ForConditionalGeneration,
    Blip2Processor,
    BlipImageProcessorPil,
    PreTrainedTokenizerFast,
)

_WORDS = "a the is are there how many what colour kind of on to left right red blue mug book ball question answer two"
_SPECIAL = ("<s>", "<pad>", "</s>", "<unk>", "<image>")


@dataclass(frozen=True, slots=True)
class Blip2Sizes:
    """Sizes of a BLIP-2; the defaults make a model of about 0.1 M parameters.

    Attributes:
        image_size, patch_size: side of the picture and of a patch, in pixels.
        vision_width, vision_blocks, vision_heads, vision_mlp: of the vision tower.
        queries, qformer_width, qformer_layers, qformer_heads, qformer_mlp: of the Q-Former.
        cross_attention_frequency: every how many Q-Former layers look at the image.
        text_width, text_layers, text_heads, text_mlp: of the OPT language model.
        vocabulary: tokens of the language model; the tokenizer here uses the first few hundred.
        positions: the longest text with image places, in tokens.
        tied: whether the language model's head shares the embedding's weights.
    """

    image_size: int = 28
    patch_size: int = 7
    vision_width: int = 32
    vision_blocks: int = 3
    vision_heads: int = 4
    vision_mlp: int = 64
    queries: int = 4
    qformer_width: int = 24
    qformer_layers: int = 2
    qformer_heads: int = 3
    qformer_mlp: int = 48
    cross_attention_frequency: int = 2
    text_width: int = 32
    text_layers: int = 2
    text_heads: int = 4
    text_mlp: int = 64
    vocabulary: int = 400
    positions: int = 128
    tied: bool = True


BLIP2_OPT_2_7B = Blip2Sizes(
    image_size=224,
    patch_size=14,
    vision_width=1408,
    vision_blocks=39,
    vision_heads=16,
    vision_mlp=6144,
    queries=32,
    qformer_width=768,
    qformer_layers=12,
    qformer_heads=12,
    qformer_mlp=3072,
    text_width=2560,
    text_layers=32,
    text_heads=32,
    text_mlp=10240,
    vocabulary=50304,
    positions=2048,
)
"""The sizes of Salesforce/blip2-opt-2.7b: 3.7 billion parameters, 15 GB in float32."""


def make_random_blip2(
    folder: Path | str,
    sizes: Blip2Sizes | None = None,
    *,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    max_shard_size: str = "50GB",
    initializer_range: float | None = None,
) -> Path:
    """Writes a random checkpoint: weights, configuration, tokenizer and image processor, as transformers saves them.

    transformers' own initialisation of BLIP-2 is next to zero in the vision tower and zero in the query tokens, which
    would hide every difference between pictures; here the outputs depend on the picture.

    Args:
        folder: where to; created.
        sizes: of the model; None for a very small one.
        seed: of the weights.
        dtype: that the weights are stored in.
        max_shard_size: cuts the weights into several files, such as "1MB".
        initializer_range: standard deviation of every matrix, the same for all as transformers would do it; None for
            one that keeps the signal's size.

    Returns:
        The folder.
    """
    sizes = sizes or Blip2Sizes()
    folder = Path(folder)
    tokenizer = word_tokenizer(_WORDS.split())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        with torch.device("meta"):
            model = Blip2ForConditionalGeneration._from_config(random_config(sizes, tokenizer))
        model.to(dtype).to_empty(device="cpu")
        _initialise(model, initializer_range)
    model.tie_weights()
    model.save_pretrained(folder, max_shard_size=max_shard_size)
    size = {"height": sizes.image_size, "width": sizes.image_size}
    Blip2Processor(BlipImageProcessorPil(size=size), tokenizer, num_query_tokens=sizes.queries).save_pretrained(folder)
    return folder


def random_config(sizes: Blip2Sizes, tokenizer: PreTrainedTokenizerFast) -> Blip2Config:
    """The configuration for these sizes and this tokenizer."""
    return Blip2Config(
        vision_config={
            "image_size": sizes.image_size,
            "patch_size": sizes.patch_size,
            "hidden_size": sizes.vision_width,
            "num_hidden_layers": sizes.vision_blocks,
            "num_attention_heads": sizes.vision_heads,
            "intermediate_size": sizes.vision_mlp,
            "initializer_range": 0.02,
        },
        qformer_config={
            "hidden_size": sizes.qformer_width,
            "num_hidden_layers": sizes.qformer_layers,
            "num_attention_heads": sizes.qformer_heads,
            "intermediate_size": sizes.qformer_mlp,
            "cross_attention_frequency": sizes.cross_attention_frequency,
        },
        text_config={
            "model_type": "opt",
            "hidden_size": sizes.text_width,
            "word_embed_proj_dim": sizes.text_width,
            "num_hidden_layers": sizes.text_layers,
            "num_attention_heads": sizes.text_heads,
            "ffn_dim": sizes.text_mlp,
            "vocab_size": sizes.vocabulary,
            "max_position_embeddings": sizes.positions,
            "tie_word_embeddings": sizes.tied,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        },
        num_query_tokens=sizes.queries,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        tie_word_embeddings=sizes.tied,
    )


def word_tokenizer(words: Sequence[str]) -> PreTrainedTokenizerFast:
    """A tokenizer of words, and bytes for the rest, as OPT's: `</s>` (id 2) begins and ends a text, `<pad>` is 1."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = dict.fromkeys([*_SPECIAL, *alphabet])
    merges = []
    for word in dict.fromkeys([*words, *(f"Ġ{word}" for word in words)]):
        for end in range(2, len(word) + 1):
            merge = (word[: end - 1], word[end - 1])
            if merge not in merges:
                merges.append(merge)
                tokens[word[:end]] = None
    vocabulary = {token: index for index, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(single="</s> $A", special_tokens=[("</s>", 2)])
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in _SPECIAL])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="</s>",
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        padding_side="left",
    )


def _initialise(model: torch.nn.Module, initializer_range: float | None) -> None:
    """Weights under which pictures, queries and prompts all matter."""
    for name, parameter in model.named_parameters():
        if "norm" in name.lower() and name.endswith("weight"):
            torch.nn.init.ones_(parameter)
        elif name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.02)
        elif "tokens" in name or "embedding" in name or "embed_" in name:
            torch.nn.init.normal_(parameter, std=0.5 if "patch" not in name else 1 / math.sqrt(parameter[0].numel()))
        else:
            torch.nn.init.normal_(parameter, std=initializer_range or 1 / math.sqrt(parameter.shape[-1]))
