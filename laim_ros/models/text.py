"""The tail's text: prompts to tokens behind the image's places, generation, and tokens back to words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from laim_ros.models.base import Generation
from laim_ros.models.errors import ModelError


class LanguageTail:
    """From the Q-Former's features to text, with transformers' own language model.

    Args:
        projection: from the features' width to the language model's.
        language_model: a causal language model of transformers, which generates.
        tokenizer: the checkpoint's.
        image_token: id that stands for an image place in the token sequence.
        queries: image places per frame.
    """

    def __init__(
        self, projection: nn.Module, language_model: Any, tokenizer: Any, image_token: int | None, queries: int
    ) -> None:
        config = language_model.config
        self._projection = projection
        self._dtype = next(projection.parameters()).dtype
        self._language_model = language_model
        self._tokenizer = tokenizer
        self._queries = queries
        self._vocabulary = config.vocab_size
        self._positions = config.max_position_embeddings
        self._end = _ids(language_model.generation_config.eos_token_id)
        self._start = next(token for token in (config.bos_token_id, *self._end, 0) if token is not None)
        self._pad = next(
            token for token in (config.pad_token_id, tokenizer.pad_token_id, *self._end, 0) if token is not None
        )
        # The image's places are overwritten by the features: the id only has to be in the vocabulary.
        self._image_token = image_token if image_token in range(self._vocabulary) else self._pad

    def generate_ids(self, features: torch.Tensor, prompts: Sequence[str], generation: Generation) -> list[list[int]]:
        """New token ids per row; `SplitModel.generate_ids` checks the arguments."""
        inputs = self._inputs(features, prompts, generation.max_new_tokens)
        sequences = self._language_model.generate(
            **inputs,
            num_beams=generation.num_beams,
            max_new_tokens=generation.max_new_tokens,
            do_sample=False,
            pad_token_id=self._pad,
        )
        # Where ids are given beside the embeddings, what comes back begins with them.
        new = sequences[:, inputs["input_ids"].shape[1] :]
        return [self._until_end(row) for row in new.tolist()]

    def logits(self, features: torch.Tensor, prompts: Sequence[str]) -> torch.Tensor:
        """(B, Q + T, vocabulary); see `SplitModel.logits`."""
        inputs = self._inputs(features, prompts, 0)
        return self._language_model(
            inputs_embeds=inputs["inputs_embeds"], attention_mask=inputs["attention_mask"], use_cache=False
        ).logits

    def decode(self, ids: Sequence[int]) -> str:
        """Words of new tokens, without special tokens and surrounding white space."""
        return self._tokenizer.decode(ids, skip_special_tokens=True).strip()

    def _inputs(self, features: torch.Tensor, prompts: Sequence[str], new_tokens: int) -> dict[str, torch.Tensor]:
        """Token ids, embeddings and mask: image places, padding, prompt; every row ends with its prompt."""
        rows = [self._prompt_ids(prompt, new_tokens) for prompt in prompts]
        longest = max(map(len, rows))
        image = [self._image_token] * self._queries
        padding = [longest - len(row) for row in rows]
        device = features.device
        ids = torch.tensor(
            [image + [self._pad] * gap + row for gap, row in zip(padding, rows, strict=True)], device=device
        )
        mask = torch.ones_like(ids)
        for row, gap in enumerate(padding):
            mask[row, self._queries : self._queries + gap] = 0
        embedded = self._language_model.get_input_embeddings()(ids)
        embedded[:, : self._queries] = self._projection(features.to(self._dtype)).to(embedded.dtype)
        return {"input_ids": ids, "inputs_embeds": embedded, "attention_mask": mask}

    def _prompt_ids(self, prompt: str, new_tokens: int) -> list[int]:
        ids = self._tokenizer(prompt)["input_ids"] if prompt else [self._start]
        room = self._positions - self._queries - new_tokens
        if len(ids) > room:
            raise ModelError(
                f"the prompt has {len(ids)} tokens; beside {self._queries} image places and {new_tokens} new tokens "
                f"the model has room for {max(room, 0)}: shorten the prompt or lower max_new_tokens"
            )
        if max(ids, default=0) >= self._vocabulary:
            raise ModelError(f"prompt '{prompt}' holds a token that the language model's vocabulary does not have")
        return ids

    def _until_end(self, ids: list[int]) -> list[int]:
        """Without the padding after the first end-of-text token."""
        for position, token in enumerate(ids):
            if token in self._end:
                return ids[: position + 1]
        return ids


def _ids(value: int | Sequence[int] | None) -> tuple[int, ...]:
    if value is None:
        return ()
    return (value,) if isinstance(value, int) else tuple(value)
