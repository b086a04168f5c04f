"""The architecture and the first weights of laim-mini-blip2."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn
from transformers import (
    Blip2Config,
    Blip2ForConditionalGeneration,
    Blip2Processor,
    GenerationConfig,
    PreTrainedTokenizerFast,
)
from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil

from training.render_cache import IMAGE_SIZE, PATCH_SIZE
from training.tokenizer import IMAGE_TOKEN

WIDTH = 128
HEADS = 4
QUERIES = 8


def build_config(tokenizer: PreTrainedTokenizerFast) -> Blip2Config:
    """4 vision + 3 Q-Former + 3 OPT layers of width 128."""
    return Blip2Config(
        vision_config={
            "hidden_size": WIDTH,
            "intermediate_size": 4 * WIDTH,
            "num_hidden_layers": 4,
            "num_attention_heads": HEADS,
            "image_size": IMAGE_SIZE,
            "patch_size": PATCH_SIZE,
            "initializer_range": 0.02,
        },
        qformer_config={
            "vocab_size": len(tokenizer),
            "hidden_size": WIDTH,
            "intermediate_size": 4 * WIDTH,
            "num_hidden_layers": 3,
            "num_attention_heads": HEADS,
            "cross_attention_frequency": 1,
            "encoder_hidden_size": WIDTH,
            "max_position_embeddings": 64,
            "hidden_dropout_prob": 0.0,
            "attention_probs_dropout_prob": 0.0,
        },
        text_config={
            "model_type": "opt",
            "vocab_size": len(tokenizer),
            "hidden_size": WIDTH,
            "word_embed_proj_dim": WIDTH,
            "ffn_dim": 4 * WIDTH,
            "num_hidden_layers": 3,
            "num_attention_heads": HEADS,
            "max_position_embeddings": 96,
            "dropout": 0.0,
            "attention_dropout": 0.0,
            "layerdrop": 0.0,
            "pad_token_id": 1,
            "bos_token_id": 2,
            "eos_token_id": 2,
        },
        num_query_tokens=QUERIES,
        image_token_index=tokenizer.convert_tokens_to_ids(IMAGE_TOKEN),
        initializer_range=0.02,
    )


def build_model(tokenizer: PreTrainedTokenizerFast, seed: int) -> Blip2ForConditionalGeneration:
    """An untrained model with Xavier weights, sine-cosine positions and distinct queries.

    transformers' own start (deviation 1e-10 in the vision tower, queries all zero) stalls at naming colours.
    """
    torch.manual_seed(seed)
    model = Blip2ForConditionalGeneration(build_config(tokenizer))
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        patches = model.vision_model.embeddings.patch_embedding
        nn.init.xavier_uniform_(patches.weight.view(WIDTH, -1))
        nn.init.zeros_(patches.bias)
        side = IMAGE_SIZE // PATCH_SIZE
        model.vision_model.embeddings.position_embedding[0, 1:] = grid_positions(side, WIDTH)
        nn.init.normal_(model.vision_model.embeddings.class_embedding, std=0.02)
        nn.init.normal_(model.query_tokens, std=0.5)
        decoder = model.language_model.model.decoder
        nn.init.normal_(decoder.embed_tokens.weight, std=WIDTH**-0.5)  # also the output layer: they are tied
        places = torch.arange(decoder.embed_positions.weight.shape[0])
        decoder.embed_positions.weight.copy_(0.3 * waves(places, WIDTH))
    model.generation_config = GenerationConfig(bos_token_id=2, eos_token_id=2, pad_token_id=1, max_new_tokens=30)
    model.language_model.generation_config = model.generation_config
    return model


def waves(places: torch.Tensor, width: int) -> torch.Tensor:
    """Sines and cosines of places (N,) at geometric wavelengths: (N, width)."""
    rates = 100 ** (-torch.arange(width // 2) / (width // 2))
    angles = places[:, None].float() * rates[None]
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def grid_positions(side: int, width: int) -> torch.Tensor:
    """Positions of side x side patches, row by row: half of the width tells the row, half the column."""
    row, column = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    return torch.cat([waves(row.flatten(), width // 2), waves(column.flatten(), width // 2)], dim=1)


def build_processor(tokenizer: PreTrainedTokenizerFast) -> Blip2Processor:
    """The processor that ships with the model; PIL's bicubic resize, no torchvision."""
    images = BlipImageProcessorPil(
        size={"height": IMAGE_SIZE, "width": IMAGE_SIZE}, resample=3, image_mean=[0.5] * 3, image_std=[0.25] * 3
    )
    return Blip2Processor(images, tokenizer, num_query_tokens=QUERIES)


def save(model: Blip2ForConditionalGeneration, processor: Blip2Processor, folder: Path) -> None:
    """Writes model and processor so that `from_pretrained(folder)` finds everything."""
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    processor.image_processor.save_pretrained(folder)  # preprocessor_config.json, for older versions of transformers
    (folder / "model.safetensors").chmod(0o644)
