"""Random checkpoints, and the unsplit transformers model of each as the oracle."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, Blip2ForConditionalGeneration, Blip2Processor, BlipImageProcessorPil

from laim_ros.models import shipped_models
from laim_ros.models.random_checkpoint import Blip2Sizes, make_random_blip2
from laim_ros.paths import checkpoints_directory

SHIPPED = "laim-mini-blip2"
CONFIGURATIONS = {
    "tied": Blip2Sizes(),
    "untied_odd_sizes": Blip2Sizes(
        image_size=30,
        patch_size=8,
        vision_width=40,
        vision_blocks=1,
        vision_heads=5,
        queries=3,
        qformer_layers=3,
        cross_attention_frequency=1,
        tied=False,
    ),
    "deep_and_sharded": Blip2Sizes(
        vision_blocks=5, qformer_layers=4, cross_attention_frequency=3, text_width=40, text_layers=3
    ),
}


@dataclass
class Oracle:
    """The unsplit model of one checkpoint, as a user of transformers would run it."""

    folder: Path
    dtype: torch.dtype = torch.float32

    @cached_property
    def model(self) -> Blip2ForConditionalGeneration:
        return Blip2ForConditionalGeneration.from_pretrained(self.folder, dtype=self.dtype).eval()

    @cached_property
    def processor(self) -> Blip2Processor:
        tokenizer = AutoTokenizer.from_pretrained(self.folder, padding_side="left")
        queries = self.model.config.num_query_tokens
        return Blip2Processor(BlipImageProcessorPil.from_pretrained(self.folder), tokenizer, num_query_tokens=queries)

    def inputs(self, images: Sequence[np.ndarray], prompts: Sequence[str]) -> dict[str, torch.Tensor]:
        return self.processor(images=list(images), text=list(prompts), padding=True, return_tensors="pt")

    def ids(self, images: Sequence[np.ndarray], prompts: Sequence[str], num_beams: int, max_new_tokens: int) -> list:
        """New tokens per row up to the end of the text."""
        inputs = self.inputs(images, prompts)
        out = self.model.generate(**inputs, num_beams=num_beams, max_new_tokens=max_new_tokens, do_sample=False)
        ends = self.model.language_model.generation_config.eos_token_id
        ends = [ends] if isinstance(ends, int) else ends
        rows = out[:, inputs["input_ids"].shape[1] :].tolist()
        return [row[: next((i + 1 for i, token in enumerate(row) if token in ends), len(row))] for row in rows]

    def logits(self, images: Sequence[np.ndarray], prompts: Sequence[str]) -> torch.Tensor:
        with torch.inference_mode():
            return self.model(**self.inputs(images, prompts)).logits


@pytest.fixture(scope="session")
def _oracles(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Oracle]:
    @cache
    def make(name: str) -> Oracle:
        if name == SHIPPED:
            if SHIPPED not in shipped_models():
                pytest.skip(f"{SHIPPED} is not in this tree")
            return Oracle(checkpoints_directory() / SHIPPED)
        shards = "60KB" if "sharded" in name else "50GB"
        sizes = CONFIGURATIONS[name]
        folder = tmp_path_factory.mktemp(name)
        return Oracle(make_random_blip2(folder, sizes, seed=len(name), max_shard_size=shards))

    return make


@pytest.fixture(scope="session", params=CONFIGURATIONS)
def random_oracle(request: pytest.FixtureRequest, _oracles: Callable[[str], Oracle]) -> Oracle:
    """One of several random models; a random one is as hard to split as a trained one."""
    return _oracles(request.param)


@pytest.fixture(scope="session", params=[*CONFIGURATIONS, SHIPPED])
def oracle(request: pytest.FixtureRequest, _oracles: Callable[[str], Oracle]) -> Oracle:
    """One of several random models, or the trained one that ships."""
    return _oracles(request.param)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small checkpoint in one file; not to be changed."""
    return make_random_blip2(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture
def make_checkpoint(tmp_path: Path) -> Callable[..., Path]:
    """Writes a small checkpoint that the test may spoil."""

    def make(**arguments: object) -> Path:
        return make_random_blip2(tmp_path / f"checkpoint{len(list(tmp_path.iterdir()))}", **arguments)

    return make
