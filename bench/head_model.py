"""The real-size head that `bench/head.py` measures: its checkpoint, its pictures, and transformers' way to run it."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

INITIALIZER_RANGE = 0.02
"""Standard deviation of the random weights; transformers' own default would leave the vision tower next to zero."""

PICTURE_SIZE = (480, 640)
CALIBRATION_PICTURES = 32


class HeadFiles:
    """What is made once and kept: one folder per depth of the vision tower.

    Args:
        cache: folder for everything; created.
        blocks: of the vision tower; BLIP-2 has 39.

    Attributes:
        folder: where contenders keep what they prepare.
        checkpoint: the transformers checkpoint, float32.
        picture: .npy of the picture that is timed, uint8 (480, 640, 3).
        input: .npy of the same as pixel values, float32 (1, 3, 224, 224).
        calibration_inputs: .npy of other pictures' pixel values, float32 (32, 3, 224, 224).
    """

    def __init__(self, cache: Path, blocks: int) -> None:
        self.blocks = blocks
        self.folder = cache.resolve() / f"blocks{blocks}"
        self.checkpoint = self.folder / "checkpoint"
        self.picture = self.folder / "picture.npy"
        self.input = self.folder / "input.npy"
        self.calibration_inputs = self.folder / "calibration.npy"

    @property
    def float_bytes(self) -> int:
        """Size of the checkpoint's weights."""
        return (self.checkpoint / "model.safetensors").stat().st_size

    def make(self) -> None:
        """Writes the checkpoint and the pictures, unless they are there.

        The language model behind the head is a tiny one: nothing here runs it, and it would take 10.6 GB.
        """
        from laim_ros.models.random_checkpoint import BLIP2_OPT_2_7B, Blip2Sizes, make_random_blip2

        self.folder.mkdir(parents=True, exist_ok=True)
        if not self.checkpoint.is_dir():
            tiny = Blip2Sizes()
            names = ("text_width", "text_layers", "text_heads", "text_mlp", "vocabulary", "positions")
            sizes = replace(BLIP2_OPT_2_7B, vision_blocks=self.blocks, **{name: getattr(tiny, name) for name in names})
            with whole(self.checkpoint) as part:
                make_random_blip2(part, sizes, initializer_range=INITIALIZER_RANGE)
        if not self.picture.is_file():
            from laim_ros.scenes import render, sample_scene

            images = [
                render(sample_scene(seed, "held_out"), *PICTURE_SIZE).image for seed in range(CALIBRATION_PICTURES + 1)
            ]
            np.save(self.calibration_inputs, self._pixel_values(images[1:]))
            np.save(self.input, self._pixel_values(images[:1]))
            np.save(self.picture, images[0])

    def _pixel_values(self, images: list[np.ndarray]) -> np.ndarray:
        """What transformers' own image processor makes of pictures: float32 (B, 3, 224, 224)."""
        from transformers import BlipImageProcessorPil

        processor = BlipImageProcessorPil.from_pretrained(self.checkpoint)
        return processor(images=images, return_tensors="np")["pixel_values"]


class whole:
    """A folder that exists only when it was filled without an error: `with whole(path) as part` writes to `part`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._part = path.with_name(path.name + ".part")

    def __enter__(self) -> Path:
        shutil.rmtree(self._part, ignore_errors=True)
        self._part.mkdir(parents=True)
        return self._part

    def __exit__(self, kind: type | None, *_: object) -> None:
        if kind is None:
            self._part.rename(self._path)
        else:
            shutil.rmtree(self._part, ignore_errors=True)


def transformers_head(checkpoint: Path, dtype: str = "float32", attention: str = "sdpa") -> torch.nn.Module:
    """Vision tower and Q-Former of transformers' own BLIP-2 as one module.

    Args:
        checkpoint: folder.
        dtype: of all weights.
        attention: transformers' `attn_implementation`.

    Returns:
        a module from pixel values float32 (B, 3, 224, 224) to the Q-Former's output (B, 32, 768).
    """
    import torch
    from transformers import Blip2ForConditionalGeneration

    class Head(torch.nn.Module):
        def __init__(self, model: Blip2ForConditionalGeneration) -> None:
            super().__init__()
            self.vision_model = model.vision_model
            self.qformer = model.qformer
            self.query_tokens = model.query_tokens

        def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
            image = self.vision_model(pixel_values.to(self.query_tokens.dtype)).last_hidden_state
            queries = self.query_tokens.expand(image.shape[0], -1, -1)
            return self.qformer(query_embeds=queries, encoder_hidden_states=image).last_hidden_state

    model = Blip2ForConditionalGeneration.from_pretrained(
        checkpoint, dtype=getattr(torch, dtype), attn_implementation=attention
    )
    # bfloat16 throughout: transformers keeps the Q-Former in float32 for float16 only, where it could overflow.
    return Head(model).to(getattr(torch, dtype)).eval().requires_grad_(False)
