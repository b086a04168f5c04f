"""A random checkpoint, and the unsplit transformers model of it as the oracle."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, Blip2ForConditionalGeneration, Blip2Processor, BlipImageProcessorPil

from laim_ros.models.random_checkpoint import make_random_blip2


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Folder of a small random model."""
    return str(make_random_blip2(tmp_path_factory.mktemp("model")))


@pytest.fixture(scope="session")
def other_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Folder of a model of the same sizes with other weights."""
    return str(make_random_blip2(tmp_path_factory.mktemp("other_model"), seed=1))


class Unsplit:
    """The whole model, as a user of transformers runs it."""

    def __init__(self, folder: str) -> None:
        self.model = Blip2ForConditionalGeneration.from_pretrained(folder).eval()
        tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
        pictures = BlipImageProcessorPil.from_pretrained(folder)
        self.processor = Blip2Processor(pictures, tokenizer, num_query_tokens=self.model.config.num_query_tokens)

    def texts(self, image: np.ndarray, prompts: tuple[str, ...], num_beams: int = 1, max_new_tokens: int = 8) -> list:
        """One text per prompt for one picture, uint8 (height, width, 3)."""
        return [self._text(image, prompt, num_beams, max_new_tokens) for prompt in prompts]

    def _text(self, image: np.ndarray, prompt: str, num_beams: int, max_new_tokens: int) -> str:
        inputs = self.processor(images=image, text=prompt, return_tensors="pt")
        with torch.inference_mode():
            out = self.model.generate(**inputs, num_beams=num_beams, max_new_tokens=max_new_tokens, do_sample=False)
        new = out[0, inputs["input_ids"].shape[1] :]
        return self.processor.tokenizer.decode(new, skip_special_tokens=True).strip()


@pytest.fixture(scope="session")
def unsplit(checkpoint: str) -> Unsplit:
    """The oracle of `checkpoint`."""
    return Unsplit(checkpoint)
