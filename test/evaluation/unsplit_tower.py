"""The unsplit transformers model, into which something else can be put at a split point."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from transformers import Blip2ForConditionalGeneration, Blip2Processor

from laim_ros.quantization.quantize import quantize


class UnsplitTower:
    """A checkpoint as a user of transformers runs it."""

    def __init__(self, folder: Path) -> None:
        self.model = Blip2ForConditionalGeneration.from_pretrained(folder).eval()
        self.processor = Blip2Processor.from_pretrained(folder)
        self._features: list[torch.Tensor] = []
        self.model.qformer.register_forward_hook(lambda *given: self._features.append(given[-1].last_hidden_state))

    def quantize_head(self, bits: int) -> None:
        """Gives every linear layer of vision blocks and Q-Former the weights that codes of so many bits stand for."""
        for part in (self.model.vision_model.encoder, self.model.qformer):
            for module in part.modules():
                if isinstance(module, torch.nn.Linear):
                    module.weight.data = quantize(module.weight.data, bits, "uniform", "channel").dequantize()

    def outcome(
        self, pictures: Sequence[np.ndarray], at: str = "", received: np.ndarray | None = None
    ) -> tuple[np.ndarray, list[str]]:
        """The Q-Former's features and the captions.

        Args:
            pictures: uint8 RGB.
            at: a submodule's name, such as `vision_model.encoder.layers.1`.
            received: what comes out there in the place of its own output, float32 (B, …).
        """
        removed = [self.model.get_submodule(at).register_forward_hook(_replacing(received))] if at else []
        inputs = self.processor(images=list(pictures), return_tensors="pt")
        self._features.clear()
        with torch.inference_mode():
            said = self.model.generate(pixel_values=inputs["pixel_values"], max_new_tokens=30, do_sample=False)
        for hook in removed:
            hook.remove()
        # Without a prompt what comes back holds the image places.
        texts = self.processor.batch_decode(said, skip_special_tokens=True)
        return self._features[0].numpy(), [text.strip() for text in texts]


def _replacing(received: np.ndarray):
    def hook(module: torch.nn.Module, given: tuple, made: object) -> object:
        if hasattr(made, "last_hidden_state"):
            made.last_hidden_state = torch.from_numpy(received)
            return made
        # The norm after the tower runs a second time, for the pooled output.
        return torch.from_numpy(received) if made.ndim == received.ndim else made

    return hook
