"""The unsplit transformers model of a checkpoint, as the oracle."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from transformers import AutoTokenizer, Blip2ForConditionalGeneration, Blip2Processor, BlipImageProcessorPil


class Unsplit:
    """The whole model, as a user of transformers runs it."""

    def __init__(self, folder: str) -> None:
        self.model = Blip2ForConditionalGeneration.from_pretrained(folder).eval()
        tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
        pictures = BlipImageProcessorPil.from_pretrained(folder)
        self.processor = Blip2Processor(pictures, tokenizer, num_query_tokens=self.model.config.num_query_tokens)

    def texts(self, image: np.ndarray, prompts: Sequence[str], **generation: int) -> list[str]:
        """One text per prompt for one picture, uint8 (height, width, 3) RGB; `max_new_tokens` is 8 unless given."""
        return [self.batch([image], prompt, **generation)[0] for prompt in prompts]

    def batch(self, images: Sequence[np.ndarray], prompt: str, **generation: int) -> list[str]:
        """One text per picture, for the same prompt."""
        inputs = self.processor(images=list(images), text=[prompt] * len(images), return_tensors="pt")
        with torch.inference_mode():
            out = self.model.generate(
                **inputs, **{"num_beams": 1, "max_new_tokens": 8, "do_sample": False} | generation
            )
        new = out[:, inputs["input_ids"].shape[1] :]
        return [text.strip() for text in self.processor.tokenizer.batch_decode(new, skip_special_tokens=True)]
