"""laim-mini-blip2 with a pruned and quantized vision tower, and what it still says; for `bench/pruning.py`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from laim_ros.models import Generation, load
from laim_ros.quantization.pruning import Pruning, prune_linear, prune_tower, run_block
from laim_ros.quantization.quantize import quantize
from laim_ros.quantization.weights import BlockWeights, LinearWeights, NormWeights
from laim_ros.scenes import render, sample_scene
from training.evaluate_mini_blip2 import Candidate, cider_d, score_captions

_LINEARS = ("qkv", "projection", "fc1", "fc2")
_BATCH = 100


class PrunedModel:
    """The model whose head can be pruned again and again, each time from the original.

    Args:
        folder: of the checkpoint.
        scenes: how many held-out scenes are captioned.
        pictures: how many training scenes calibrate.
        pixels: .npy file that keeps the held-out pictures between runs, as training.evaluate_mini_blip2 does.
    """

    def __init__(self, folder: Path, scenes: int, pictures: int, pixels: Path | None) -> None:
        candidate = Candidate(folder)
        self._model = candidate.model.requires_grad_(False)
        self._tail = load(str(folder), first="qformer")
        self._scenes = [sample_scene(seed, "held_out") for seed in range(scenes)]
        self._pixels = self._drawn(candidate, pixels)
        calibration = [render(sample_scene(seed, "train"), 480, 640).image for seed in range(pictures)]
        self._tokens = self._model.vision_model.embeddings(candidate.pixels(calibration))
        self._blocks = [weights_of(layer) for layer in self._model.vision_model.encoder.layers]
        self._qformer = {
            module: LinearWeights(module.weight, module.bias)
            for module in self._model.qformer.modules()
            if isinstance(module, torch.nn.Linear)
        }
        self._weights = sum(linear.weight.numel() for block in self._blocks for linear in linears_of(block))
        self._reference = self._features()

    def measure(self, pruning: Pruning, *, with_pictures: bool, bits: int) -> dict:
        """Prunes, quantizes (uniform, per channel) and captions.

        Returns:
            one row: the share of the tower's weights that are left and not zero, the relative L1 error of the
            Q-Former's output, and the scores of the captions.
        """
        tokens = self._tokens if with_pictures else None
        blocks = list(prune_tower(self._blocks.__getitem__, len(self._blocks), pruning, tokens))
        left = [linear.weight for block in blocks if block for linear in linears_of(block)]
        layers = [_Block(None if block is None else _quantized_block(block, bits)) for block in blocks]
        self._model.vision_model.encoder.layers = torch.nn.ModuleList(layers)
        for module, linear in self._qformer.items():
            weight = _quantized(prune_linear(linear, pruning), bits).weight
            module.weight = torch.nn.Parameter(weight, requires_grad=False)
        features = self._features()
        said = []
        for part in features.split(_BATCH):
            said += self._tail.generate(part, [""] * len(part), Generation(max_new_tokens=24))
        scores = score_captions(self._scenes, said)
        return {
            "prune": str(pruning),
            "with_pictures": with_pictures,
            "bits": bits,
            "tower_weights_left": sum(int(weight.count_nonzero()) for weight in left) / self._weights,
            "relative_l1": float((features - self._reference).abs().sum() / self._reference.abs().sum()),
            "true": scores["true"],
            "true_and_complete": scores["true_and_complete"],
            "cider_d": cider_d(self._scenes, said),
        }

    def _drawn(self, candidate: Candidate, path: Path | None) -> torch.Tensor:
        if path and path.exists():
            kept = torch.from_numpy(np.load(path))
            if len(kept) < len(self._scenes):
                raise SystemExit(
                    f"{path} holds {len(kept)} pictures, not {len(self._scenes)}; remove it or ask for fewer"
                )
            return kept[: len(self._scenes)]
        pixels = candidate.pixels(render(scene, 480, 640).image for scene in self._scenes)
        if path:
            np.save(path, pixels.numpy())
        return pixels

    @torch.inference_mode()
    def _features(self) -> torch.Tensor:
        """The Q-Former's output for all scenes."""
        model, found = self._model, []
        for pixels in self._pixels.split(_BATCH):
            image = model.vision_model(pixels).last_hidden_state
            queries = model.query_tokens.expand(len(pixels), -1, -1)
            found.append(model.qformer(query_embeds=queries, encoder_hidden_states=image).last_hidden_state)
        return torch.cat(found)


class _Block(torch.nn.Module):
    """In the place of transformers' own; the identity for None."""

    def __init__(self, block: BlockWeights | None) -> None:
        super().__init__()
        self._block = block

    def forward(self, hidden_states: torch.Tensor, **_: object) -> torch.Tensor:
        return hidden_states if self._block is None else run_block(self._block, hidden_states)


def weights_of(layer: torch.nn.Module) -> BlockWeights:
    """The weights of transformers' `Blip2EncoderLayer`."""

    def linear(module: torch.nn.Linear) -> LinearWeights:
        return LinearWeights(module.weight, module.bias)

    def norm(module: torch.nn.LayerNorm) -> NormWeights:
        return NormWeights(module.weight, module.bias, module.eps)

    attention, mlp = layer.self_attn, layer.mlp
    return BlockWeights(
        norm(layer.layer_norm1),
        linear(attention.qkv),
        linear(attention.projection),
        norm(layer.layer_norm2),
        linear(mlp.fc1),
        linear(mlp.fc2),
        heads=attention.num_heads,
        head_width=attention.head_dim,
    )


def linears_of(block: BlockWeights) -> list[LinearWeights]:
    """The four linear layers."""
    return [getattr(block, name) for name in _LINEARS]


def _quantized_block(block: BlockWeights, bits: int) -> BlockWeights:
    return replace(block, **{name: _quantized(getattr(block, name), bits) for name in _LINEARS})


def _quantized(linear: LinearWeights, bits: int) -> LinearWeights:
    """What the weights become, as floats."""
    if bits == 32:
        return linear
    return LinearWeights(quantize(linear.weight, bits, "uniform", "channel").dequantize(), linear.bias)
